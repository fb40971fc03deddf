//! `funicular restore NODE`
//!
//! The node's store was put back to a backup. The node asks the others what they have,
//! and decides what of the backup still holds; this command tells it to begin, shows how
//! far it is, and prints what came of it.

use std::time::Duration;

use anyhow::{Context, Result};
use funicular::node::RESTORING;
use funicular::peers::messages::{RestoreAction, RestoreCall, RestoreState, RestoreStatus};
use funicular::protocol::Fate;
use funicular::session::{FunctionName, NodeName};
use funicular::store::redis::{RedisOptions, RedisStore};
use funicular::store::{SessionStore, StoreScope, WindowLimits};
use funicular::topology::Node;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::limit::{Cut, Limit};
use super::survey::functions;
use crate::client::{CallError, Client};
use crate::exit::Failure;
use crate::options::{Access, Tree, node};
use crate::output::{count, say, show};

/// How often the node is asked how far it is.
const EVERY: Duration = Duration::from_millis(250);
/// Between two lines that say so.
const A_LINE: Duration = Duration::from_secs(2);
/// A node that does not answer for so long is given up; it may be starting again.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many ids of a kind are printed.
const PRINTED: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node whose store was put back to a backup
    node: NodeName,

    /// This function only [default: all of Funicular's that the node's gateway lists]
    #[arg(long, value_name = "F")]
    function: Vec<FunctionName>,

    /// Go on without a node that is gone: what only it knows is given up
    #[arg(long, value_name = "NODE", conflicts_with_all = ["status", "mark"])]
    without: Vec<NodeName>,

    /// Begin also if nothing says that the store was put back: what it serves ends at once
    #[arg(long, conflicts_with_all = ["status", "mark"])]
    begin: bool,

    /// Only say how far it is, or how the last one ended; ends with 0 when the node serves
    #[arg(long, conflicts_with_all = ["wait", "mark"])]
    status: bool,

    /// Wait this many seconds at most [default: until it is done]
    #[arg(long, value_name = "SECONDS", conflicts_with = "mark")]
    wait: Option<u64>,

    /// Only mark a store as put back, before anything reads it: no process serves it then
    #[arg(long, requires = "store", requires = "function")]
    mark: bool,

    /// With --mark: the store, as the node has it in `FUNICULAR_STORE`
    #[arg(long, value_name = "URL", requires = "mark")]
    store: Option<String>,

    /// With --mark: what its keys begin with, as in `FUNICULAR_STORE_PREFIX`
    #[arg(long, value_name = "P", default_value = "f", requires = "mark")]
    prefix: String,

    #[command(flatten)]
    access: Access,
}

/// How far one function is.
struct Far {
    function: FunctionName,
    status: RestoreStatus,
}

/// How the waiting ended.
enum End {
    Done,
    Interrupted,
    Late,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    if args.mark {
        return mark(args, args.access.tree(), json).await;
    }
    let (topology, client) = args.access.open()?;
    let node = node(&topology, &args.node)?;
    for name in &args.without {
        self::node(&topology, name)?;
    }
    let functions = functions(&client, node, &args.function).await?;
    if functions.is_empty() {
        return Err(Failure::Refused(format!("`{}` has no function", node.name)).into());
    }
    let restore = Restore { client: &client, node, functions };
    if args.status {
        let ask = RestoreCall { action: RestoreAction::Show, ..RestoreCall::default() };
        let far = restore.tell(&ask).await?;
        show(json, &plain(node, &far), || text(node, &far));
        return match far.iter().all(|far| is_over(&far.status)) {
            true => Ok(()),
            false => Err(Failure::Refused(format!("`{}` does not serve yet", node.name)).into()),
        };
    }
    let without = args.without.clone();
    let call = RestoreCall { action: RestoreAction::Start, without, begin: args.begin };
    let far = restore.tell(&call).await?;
    let at_most = args.wait.map(Duration::from_secs);
    let (far, end) = restore.watch(far, at_most, json).await?;
    show(json, &plain(node, &far), || text(node, &far));
    let name = &node.name;
    match end {
        End::Done => Ok(()),
        End::Interrupted => {
            let why = format!(
                "interrupted, but `{name}` goes on; see `funicular restore {name} --status`"
            );
            Err(Failure::Interrupted(why).into())
        }
        End::Late => {
            let waits = far.iter().find_map(|far| far.status.waits_for.as_deref());
            Err(Failure::Refused(late(name, waits)).into())
        }
    }
}

/// The time is up, and the node is not done.
fn late(name: &NodeName, waits: Option<&str>) -> String {
    format!(
        "`{name}` goes on and serves nothing meanwhile{}; `funicular restore {name} --status` says \
         how far it is, `--without NODE` gives up a node that is gone",
        waits.map(|why| format!(": {why}")).unwrap_or_default()
    )
}

/// Marks a store that nothing reads yet.
async fn mark(args: &Args, tree: &Tree, json: bool) -> Result<()> {
    let topology = tree.load()?;
    let here = node(&topology, &args.node)?.name.clone();
    let url = args.store.as_deref().unwrap_or_default();
    for function in &args.function {
        let scope = StoreScope {
            function: function.clone(),
            here: here.clone(),
            window: WindowLimits::default(),
        };
        let options = RedisOptions { prefix: args.prefix.clone(), ..RedisOptions::default() };
        let unmarked = || format!("the store of `{function}` at `{here}` is not marked");
        let store = RedisStore::connect(url, options, scope).await.with_context(unmarked)?;
        store.set_setting(RESTORING, Some("marked")).await.with_context(unmarked)?;
        // Should anything read it already, it ends now.
        store.close().await.with_context(unmarked)?;
    }
    let value = json!({ "node": here.as_str(), "marked": args.function });
    show(json, &value, || {
        format!(
            "the store is marked: `{here}` serves nothing from it before `funicular restore \
             {here}`"
        )
    });
    Ok(())
}

fn is_over(status: &RestoreStatus) -> bool {
    matches!(status.state, RestoreState::Off | RestoreState::Done)
}

/// A node whose store is judged, and by whom.
struct Restore<'a> {
    client: &'a Client,
    node: &'a Node,
    functions: Vec<FunctionName>,
}

impl Restore<'_> {
    async fn tell(&self, call: &RestoreCall) -> Result<Vec<Far>, CallError> {
        let mut far = Vec::new();
        for function in &self.functions {
            let answer = self.client.post(self.node, function, "restore", call).await?;
            far.push(Far { function: function.clone(), status: answer.read()? });
        }
        Ok(far)
    }

    /// Waits until all functions are done.
    async fn watch(
        &self,
        mut far: Vec<Far>,
        at_most: Option<Duration>,
        json: bool,
    ) -> Result<(Vec<Far>, End)> {
        let mut limit = Limit::new(at_most);
        let mut answered = Instant::now();
        let mut said: Option<Instant> = None;
        let ask = RestoreCall { action: RestoreAction::Show, ..RestoreCall::default() };
        loop {
            if far.iter().all(|far| is_over(&far.status)) {
                return Ok((far, End::Done));
            }
            if !json && said.is_none_or(|said| said.elapsed() >= A_LINE) {
                said = Some(Instant::now());
                for far in &far {
                    say(progress(self.node, far));
                }
            }
            let next = async {
                tokio::time::sleep(EVERY).await;
                self.tell(&ask).await
            };
            let asked = match limit.within(next).await {
                Ok(asked) => asked,
                Err(Cut::Interrupted) => return Ok((far, End::Interrupted)),
                Err(Cut::Late) => return Ok((far, End::Late)),
            };
            match asked {
                Ok(now) => {
                    answered = Instant::now();
                    far = now;
                }
                Err(error) if error.says_no() || answered.elapsed() > PATIENCE => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
        }
    }
}

fn progress(node: &Node, far: &Far) -> String {
    let Far { function, status } = far;
    let waits = status.waits_for.as_deref().map(|why| format!("; waits: {why}"));
    format!(
        "{}: {function}: {} of its own, {} of others looked at{}",
        node.name,
        count(usize::try_from(status.own).unwrap_or(usize::MAX), "record"),
        status.others,
        waits.unwrap_or_default()
    )
}

/// What each fate means, in the order in which they are told.
const FATES: [(Fate, &str); 7] = [
    (Fate::Kept, "stay as the backup has them; what was written here since is lost"),
    (
        Fate::Behind,
        "stay as the backup has them, and had been elsewhere since: their latest writes are lost",
    ),
    (Fate::Given, "are at another node by now; what the backup had is in lost+found"),
    (Fate::Ended, "have ended since; what the backup had is in lost+found"),
    (Fate::Lost, "came here after the backup, and are lost"),
    (Fate::Elsewhere, "are elsewhere, and this node leads to them"),
    (Fate::Forgotten, "were elsewhere, and nobody knows them any more"),
];

fn plain(node: &Node, far: &[Far]) -> Value {
    let functions: Vec<Value> = far
        .iter()
        .map(|far| {
            // What it is made of serializes.
            let mut value = serde_json::to_value(&far.status).unwrap_or_default();
            value["function"] = far.function.as_str().into();
            value
        })
        .collect();
    json!({ "node": node.name.as_str(), "functions": functions })
}

fn text(node: &Node, far: &[Far]) -> String {
    let mut lines = Vec::new();
    for Far { function, status } in far {
        let state = match status.state {
            RestoreState::Off => "serves; nothing was restored",
            RestoreState::Marked => "serves nothing: its store is marked as put back to a backup",
            RestoreState::Asking => "serves nothing: its store is being judged",
            RestoreState::Waiting => "serves nothing: its store is being judged, and that waits",
            RestoreState::Done => "serves again from what was restored",
        };
        lines.push(format!("{}: {function} {state}", node.name));
        if let Some(why) = &status.waits_for {
            lines.push(format!("  waits: {why}"));
        }
        for (fate, what) in FATES {
            let Some(number) = status.fates.get(&fate).filter(|number| **number > 0) else {
                continue;
            };
            lines.push(format!("{number:>8} {what}"));
            let listed = status.sessions.get(&fate).map(Vec::as_slice).unwrap_or_default();
            lines
                .extend(listed.iter().take(PRINTED).map(|session| format!("           {session}")));
            let shown = listed.len().min(PRINTED) as u64;
            if !listed.is_empty() && *number > shown {
                let more = number - shown;
                lines.push(format!("           and {more} more, see --json and the node's log"));
            }
        }
        if status.rehomed > 0 {
            lines.push(format!(
                "{:>8} have their home here now: it has left the tree",
                status.rehomed
            ));
        }
        for (what, names) in [
            ("given up, and not asked", &status.without),
            ("do not have the function", &status.absent),
            ("did not answer, and cannot have a session of this node", &status.unasked),
        ] {
            if !names.is_empty() {
                let names: Vec<&str> = names.iter().map(NodeName::as_str).collect();
                lines.push(format!("  {what}: {}", names.join(", ")));
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use funicular::session::SessionId;
    use funicular::topology::Topology;

    use super::*;
    use crate::client::tests::{Nodes, function};

    #[test]
    fn every_fate_that_matters_is_told_with_the_sessions_that_lost_something() {
        let italy = Topology::parse(include_str!("../../../topology/examples/italy.yaml")).unwrap();
        let milan = italy.node(&NodeName::new("milan").unwrap()).unwrap();
        let lost: Vec<_> = (0..30).map(|n| SessionId::new(format!("s{n:02}")).unwrap()).collect();
        let status = RestoreStatus {
            state: RestoreState::Done,
            fates: BTreeMap::from([(Fate::Kept, 7), (Fate::Lost, 31), (Fate::Given, 0)]),
            sessions: BTreeMap::from([(Fate::Lost, lost)]),
            without: vec![NodeName::new("rome").unwrap()],
            ..RestoreStatus::default()
        };
        let said = text(milan, &[Far { function: function("cart"), status }]);
        assert!(said.starts_with("milan: cart serves again from what was restored\n"), "{said}");
        assert!(said.contains("\n       7 stay as the backup has them"), "{said}");
        assert!(said.contains("\n           s19\n           and 11 more"), "{said}");
        assert!(said.ends_with("\n  given up, and not asked: rome"), "{said}");
        assert!(!said.contains("by now"), "{said}");
    }

    #[test]
    fn who_waits_no_longer_is_not_told_to_begin_again() {
        let said = late(&NodeName::new("milan").unwrap(), Some("rome does not answer"));
        assert!(said.contains("meanwhile: rome does not answer; "), "{said}");
        assert!(said.contains("`funicular restore milan --status` says how far"), "{said}");
        assert!(!said.contains("again"), "{said}");
    }

    #[tokio::test]
    async fn a_node_is_told_whom_to_do_without() {
        let nodes = Nodes::start().await;
        let done = json!({ "state": "done", "own": 3, "others": 9, "fates": { "kept": 3 } });
        nodes.answers("milan", "cart", "POST", "/_/restore", 200, &done).await;
        let topology = nodes.topology();
        let milan = topology.node(&NodeName::new("milan").unwrap()).unwrap();
        let client = nodes.client();
        let restore = Restore { client: &client, node: milan, functions: vec![function("cart")] };
        let without = vec![NodeName::new("navigli").unwrap()];
        let call = RestoreCall { without, ..RestoreCall::default() };
        let far = restore.tell(&call).await.unwrap();
        let body = json!({ "action": "start", "without": ["navigli"] });
        assert_eq!(nodes.last_body("milan").await, body);
        let (far, end) = restore.watch(far, None, true).await.unwrap();
        assert!(matches!(end, End::Done));
        assert_eq!(far[0].status.fates[&Fate::Kept], 3);
    }

    #[tokio::test]
    async fn a_node_that_hangs_does_not_outlast_the_wait() {
        let nodes = Nodes::start().await;
        // Heard to its end, it would be done.
        let done = json!({ "state": "done", "own": 3, "others": 9 });
        let late = (&done, Duration::from_secs(15));
        nodes.answers_late("milan", "cart", "POST", "/_/restore", late).await;
        let (topology, client) = (nodes.topology(), nodes.client());
        let node = topology.node(&NodeName::new("milan").unwrap()).unwrap();
        let restore = Restore { client: &client, node, functions: vec![function("cart")] };
        let status = RestoreStatus { state: RestoreState::Asking, ..RestoreStatus::default() };
        let far = vec![Far { function: function("cart"), status }];
        let at_most = Some(Duration::from_millis(600));
        let (_, end) = restore.watch(far, at_most, true).await.unwrap();
        assert!(matches!(end, End::Late));
    }
}
