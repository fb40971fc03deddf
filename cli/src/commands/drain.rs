//! `funicular drain NODE`
//!
//! The node does the work and remembers that it has to: this command says so, shows
//! how far it is, and may go away in the meantime.

mod progress;

use std::time::Duration;

use anyhow::Result;
use funicular::peers::messages::{DrainAction, DrainCall, DrainState, DrainStatus, NodeStatus};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::limit::{Cut, Limit};
use super::survey::functions;
use crate::client::{CallError, Client};
use crate::exit::Failure;
use crate::options::{Access, node};
use crate::output::{count, show};
use progress::Progress;

/// How often the node is asked how far it is.
const EVERY: Duration = Duration::from_millis(250);
/// A node that does not answer for so long is given up; it may be starting again.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node to take out of work
    node: NodeName,

    /// This function only [default: all of Funicular's that the node's gateway lists]
    #[arg(long, value_name = "F")]
    function: Option<FunctionName>,

    /// Take the node back into work: no more sessions move away
    #[arg(long, conflicts_with_all = ["status", "wait"])]
    stop: bool,

    /// Only say how far it is; ends with 0 when no session is left
    #[arg(long, conflicts_with = "wait")]
    status: bool,

    /// Wait this many seconds at most [default: until no session is left]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,

    #[command(flatten)]
    access: Access,
}

/// How far one function is.
#[derive(Debug, Clone)]
struct Far {
    function: FunctionName,
    status: DrainStatus,
}

/// How the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// No session is left.
    Empty,
    /// Somebody took the node back into work.
    Stopped,
    /// Ctrl-C.
    Interrupted,
    /// `--wait` is over.
    Late,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let node = drainable(&topology, &args.node)?;
    let functions = functions(&client, node, args.function.as_slice()).await?;
    if functions.is_empty() {
        return Err(Failure::Refused(format!("`{}` has no function", node.name)).into());
    }
    let drain = Drain { client: &client, node, functions };
    if args.status {
        let far = drain.ask().await?;
        show(json, &plain(node, &far), || text(node, &far));
        return match far.iter().all(|far| far.status.state == DrainState::Empty) {
            true => Ok(()),
            false => Err(Failure::Refused(unfinished(node, &far)).into()),
        };
    }
    if args.stop {
        let far = drain.tell(DrainAction::Stop).await?;
        show(json, &plain(node, &far), || text(node, &far));
        return Ok(());
    }
    let far = drain.tell(DrainAction::Start).await?;
    let at_most = args.wait.map(Duration::from_secs);
    let (far, end) = drain.watch(far, at_most, Progress::new(node, json)).await?;
    show(json, &plain(node, &far), || text(node, &far));
    let name = &node.name;
    match end {
        End::Empty => Ok(()),
        End::Stopped => {
            let why = format!("somebody took `{name}` back into work; {}", left(&far));
            Err(Failure::Refused(why).into())
        }
        End::Interrupted => {
            let why = format!(
                "interrupted, but `{name}` goes on; see `funicular drain {name} --status`, or end \
                 it with --stop"
            );
            Err(Failure::Interrupted(why).into())
        }
        End::Late => Err(Failure::Refused(unfinished(node, &far)).into()),
    }
}

/// A node of the tree that is not its root.
fn drainable<'a>(topology: &'a Topology, name: &NodeName) -> Result<&'a Node, Failure> {
    let node = node(topology, name)?;
    if topology.root().name == node.name {
        let why = format!(
            "`{name}` is the root and cannot be drained: there is no node above it to take its \
             sessions"
        );
        return Err(Failure::Usage(why));
    }
    Ok(node)
}

/// A node that is drained, and by whom.
struct Drain<'a> {
    client: &'a Client,
    node: &'a Node,
    functions: Vec<FunctionName>,
}

impl Drain<'_> {
    async fn tell(&self, action: DrainAction) -> Result<Vec<Far>, CallError> {
        let mut far = Vec::new();
        for function in &self.functions {
            let call = DrainCall { action };
            let answer = self.client.post(self.node, function, "drain", &call).await?;
            far.push(Far { function: function.clone(), status: answer.read()? });
        }
        Ok(far)
    }

    async fn ask(&self) -> Result<Vec<Far>, CallError> {
        let mut far = Vec::new();
        for function in &self.functions {
            let answer = self.client.get(self.node, function, "status", &[]).await?;
            let status: NodeStatus = answer.read()?;
            // Without its store it counts no session, and there may be many.
            if status.store != "ok" {
                let (node, store) = (self.node.name.clone(), status.store);
                let why = format!("its Redis, of `{function}`: {store}");
                return Err(CallError::Unreachable { node, why });
            }
            let off = DrainStatus { left: status.sessions, ..DrainStatus::default() };
            far.push(Far { function: function.clone(), status: status.drain.unwrap_or(off) });
        }
        Ok(far)
    }

    /// Shows how far it is, until it is at its end or somebody wants no more.
    async fn watch(
        &self,
        mut far: Vec<Far>,
        at_most: Option<Duration>,
        mut progress: Progress,
    ) -> Result<(Vec<Far>, End)> {
        let mut limit = Limit::new(at_most);
        let mut silent_since = None;
        let end = loop {
            if far.iter().all(|far| far.status.state == DrainState::Empty) {
                break End::Empty;
            }
            if far.iter().any(|far| far.status.state == DrainState::Off) {
                break End::Stopped;
            }
            let next = async {
                tokio::time::sleep(EVERY).await;
                self.ask().await
            };
            let asked = match limit.within(next).await {
                Ok(asked) => asked,
                Err(Cut::Interrupted) => break End::Interrupted,
                Err(Cut::Late) => break End::Late,
            };
            match asked {
                Ok(now) => {
                    far = now;
                    silent_since = None;
                    progress.show(&far);
                }
                Err(error) if error.says_no() => return Err(error.into()),
                Err(error) => {
                    // What it has to do is in its store: it goes on when it is back.
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(error.into());
                    }
                    progress.silent(&error);
                }
            }
        };
        progress.end();
        Ok((far, end))
    }
}

fn plain(node: &Node, far: &[Far]) -> Value {
    let functions: Vec<Value> = far
        .iter()
        .map(|far| {
            let mut value = serde_json::to_value(&far.status).unwrap_or_default();
            value["function"] = far.function.as_str().into();
            value
        })
        .collect();
    let total = total(far);
    json!({
        "node": node.name.as_str(),
        "moved": total.moved, "left": total.left, "failing": total.failing,
        "functions": functions,
    })
}

/// One line a function, and below it why sessions do not go.
fn text(node: &Node, far: &[Far]) -> String {
    let mut lines = Vec::new();
    for Far { function, status } in far {
        let doing = match status.state {
            DrainState::Off => "at work",
            DrainState::Moving => "moving",
            DrainState::Waiting => "waiting",
            DrainState::Empty => "empty",
        };
        lines.push(format!("{function} at `{}`: {doing}, {}", node.name, counts(status)));
        lines.extend(status.waits_for.iter().map(|why| format!("  waits: {why}")));
        lines.extend(
            status
                .reasons
                .iter()
                .map(|reason| format!("  {} cannot go: {}", sessions(reason.sessions), reason.why)),
        );
    }
    lines.join("\n")
}

fn counts(status: &DrainStatus) -> String {
    let DrainStatus { moved, left, failing, .. } = status;
    format!("{moved} moved, {left} left, {failing} failing")
}

fn sessions(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "session")
}

/// All functions together.
fn total(far: &[Far]) -> DrainStatus {
    let sum = |of: fn(&DrainStatus) -> u64| far.iter().map(|far| of(&far.status)).sum();
    DrainStatus {
        moved: sum(|status| status.moved),
        left: sum(|status| status.left),
        failing: sum(|status| status.failing),
        ..DrainStatus::default()
    }
}

fn left(far: &[Far]) -> String {
    let left = total(far).left;
    format!("{} {} left", sessions(left), if left == 1 { "is" } else { "are" })
}

fn unfinished(node: &Node, far: &[Far]) -> String {
    let name = &node.name;
    match far.iter().any(|far| far.status.state == DrainState::Off) {
        true => format!("`{name}` is not being drained; {}", left(far)),
        false => format!("`{name}` is not empty; {}, and it goes on", left(far)),
    }
}

#[cfg(test)]
mod tests;
