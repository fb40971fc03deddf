//! `funicular retire NODE`
//!
//! The node creates no sessions any more, hands those that it has to the nodes above, and
//! these become the home of all that had theirs there. Then the tree goes on without it.
//! Every step can be done again: what was broken off is begun anew.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use funicular::peers::messages::{
    DrainAction, DrainCall, DrainState, NodeStatus, RetireAnswer, RetireCall, RetireStep,
};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};
use serde_json::json;
use tokio::time::Instant;

use super::deploy::TOPOLOGY_SECRET;
use super::survey::everywhere;
use crate::client::Client;
use crate::exit::Failure;
use crate::faas::{self, Call, Job, named_gateway};
use crate::options::{Access, node};
use crate::output::{count, show};

/// Between two looks at the nodes.
const EVERY: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node to take out of the tree: one without nodes below it
    node: NodeName,

    /// This function only: the node stays in the tree for the others [default: all that
    /// its gateway lists]
    #[arg(long, value_name = "F")]
    function: Vec<FunctionName>,

    /// Keep the node after all: it creates sessions again, and keeps those that it has
    #[arg(long)]
    stop: bool,

    /// How many seconds each part may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,

    /// The nodes read the topology's file themselves: write it anew, and leave faas-cli
    /// alone
    #[arg(long)]
    in_place: bool,

    /// Where the topology without the node is written [default: `without-NODE.yaml`; with
    /// --in-place the topology's file]
    #[arg(long, short, value_name = "F")]
    output: Option<PathBuf>,

    #[command(flatten)]
    access: Access,

    #[command(flatten)]
    faas: faas::Way,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let gone = node(&topology, &args.node)?;
    let smaller = leaves(&topology, gone)?;
    let file = match (&args.output, args.in_place) {
        (Some(file), _) => file.clone(),
        (None, true) => args.access.topology_file()?,
        (None, false) => PathBuf::from(format!("without-{}.yaml", gone.name)),
    };
    let functions = match &args.function[..] {
        [] => client.functions(gone).await?,
        named => named.to_vec(),
    };
    let say = |what: String| {
        if !json {
            println!("{what}");
        }
    };
    let wait = Duration::from_secs(args.wait);
    let retire = Retire { topology: &topology, client: &client, gone, wait };
    if args.stop {
        for function in &functions {
            retire.keep(function).await?;
        }
        let value = json!({ "retired": null, "rehomed": 0, "topology": null });
        show(json, &value, || format!("`{}` is at work again", gone.name));
        return Ok(());
    }
    let mut rehomed = 0;
    for function in &functions {
        rehomed += retire.empty(function).await?;
        say(format!("`{}` has no session of {function} and is the home of none", gone.name));
    }
    std::fs::write(&file, smaller.to_yaml())
        .with_context(|| format!("{} cannot be written", file.display()))?;
    let file = file.display().to_string();
    if !args.in_place {
        let give = |node: &Node| Job {
            node: node.name.clone(),
            calls: vec![Call::secret(TOPOLOGY_SECRET, &file, &node.gateway, true)],
            mark: String::new(),
        };
        faas::push(&args.faas, smaller.nodes().map(give).collect()).await?;
    }
    for function in &functions {
        retire.taken(function, &smaller).await?;
    }
    say(format!("all other nodes go by {file}"));
    if !args.in_place {
        let remove = |function: &FunctionName| {
            let words = ["remove", function.as_str(), "--gateway"].map(str::to_owned);
            Call::deploy([&words[..], &[named_gateway(&gone.gateway)]].concat())
        };
        let calls = functions.iter().map(remove).collect();
        let job = Job { node: gone.name.clone(), calls, mark: String::new() };
        faas::push(&args.faas, vec![job]).await?;
    }
    let value = json!({ "retired": gone.name.as_str(), "rehomed": rehomed, "topology": file });
    show(json, &value, || {
        let sessions = count(usize::try_from(rehomed).unwrap_or(usize::MAX), "session");
        format!("`{}` is retired; {sessions} got another home", gone.name)
    });
    Ok(())
}

/// The tree without a node, if it can go.
fn leaves(topology: &Topology, gone: &Node) -> Result<Topology, Failure> {
    let name = &gone.name;
    let refuse = |why: String| Err(Failure::Usage(why));
    if topology.parent(name).is_none() {
        return refuse(format!("`{name}` is the root: no node above it could take its sessions"));
    }
    let below: Vec<_> = topology.children(name).iter().map(|node| node.name.as_str()).collect();
    if !below.is_empty() {
        let below = below.join(", ");
        return refuse(format!(
            "there are nodes below `{name}` ({below}): retire them first, or give them another \
             parent"
        ));
    }
    topology.without(name).map_or_else(
        || {
            refuse(format!(
                "`{name}` is the only node where sessions begin: set `entry: true` on another first"
            ))
        },
        Ok,
    )
}

struct Retire<'a> {
    topology: &'a Topology,
    client: &'a Client,
    gone: &'a Node,
    wait: Duration,
}

impl Retire<'_> {
    fn others(&self) -> impl Iterator<Item = &Node> {
        self.topology.nodes().filter(|node| node.name != self.gone.name)
    }

    /// Nothing of the function is left at the node, and it is nobody's home; says how many
    /// sessions got another one.
    async fn empty(&self, function: &FunctionName) -> Result<u64> {
        self.nobody_is_given_up(function).await?;
        self.tell(self.gone, function, RetireStep::Close).await?;
        let drain = DrainCall { action: DrainAction::Start };
        self.client.post(self.gone, function, "drain", &drain).await?;
        let until = Instant::now() + self.wait;
        let mut rehomed = 0;
        loop {
            let status: NodeStatus =
                self.client.get(self.gone, function, "status", &[]).await?.read()?;
            let empty = status.drain.is_some_and(|drain| drain.state == DrainState::Empty);
            let (done, left) = self.tell_others(function, RetireStep::Rehome).await?;
            rehomed += done;
            // What left the node before this look has been found by it.
            if empty && left == 0 && done == 0 {
                break;
            }
            if Instant::now() >= until {
                let why = format!(
                    "not after {} seconds: {} of {function} at `{}`, {left} elsewhere that cannot \
                     get another home yet; run it again to go on",
                    self.wait.as_secs(),
                    count(usize::try_from(status.sessions).unwrap_or(usize::MAX), "session"),
                    self.gone.name
                );
                return Err(Failure::Refused(why).into());
            }
            tokio::time::sleep(EVERY).await;
        }
        while self.tell_others(function, RetireStep::Forget).await?.1 > 0 {
            if Instant::now() >= until {
                let why = "pointers are left; run it again to go on".to_owned();
                return Err(Failure::Refused(why).into());
            }
            tokio::time::sleep(EVERY).await;
        }
        Ok(rehomed)
    }

    /// The node is at work again.
    async fn keep(&self, function: &FunctionName) -> Result<()> {
        let drain = DrainCall { action: DrainAction::Stop };
        self.client.post(self.gone, function, "drain", &drain).await?;
        self.tell(self.gone, function, RetireStep::Open).await
    }

    /// A node that was given up may come back and ask about a life that has ended.
    async fn nobody_is_given_up(&self, function: &FunctionName) -> Result<()> {
        for status in self.statuses(function).await? {
            if let Some(barred) = status.barred.first() {
                let why = format!(
                    "`{barred}` was given up at `{}`: its sessions have to be settled first, with \
                     `funicular recover --back {barred}`",
                    status.node
                );
                return Err(Failure::Refused(why).into());
            }
        }
        Ok(())
    }

    async fn statuses(&self, function: &FunctionName) -> Result<Vec<NodeStatus>> {
        let client = self.client;
        let asked =
            everywhere(client, self.others(), Some(function), |node, function| async move {
                client.get(node, &function, "status", &[]).await?.read()
            });
        Ok(asked.await.into_iter().map(|place| place.said).collect::<Result<_, _>>()?)
    }

    async fn tell(&self, node: &Node, function: &FunctionName, step: RetireStep) -> Result<()> {
        let call = RetireCall { node: self.gone.name.clone(), step };
        self.client.post(node, function, "retire", &call).await?;
        Ok(())
    }

    /// How many were done and how many are left, at all other nodes together.
    async fn tell_others(&self, function: &FunctionName, step: RetireStep) -> Result<(u64, u64)> {
        let call = RetireCall { node: self.gone.name.clone(), step };
        let (client, call) = (self.client, &call);
        let told = everywhere(client, self.others(), Some(function), |node, function| async move {
            client.post(node, &function, "retire", call).await?.read()
        });
        let (mut done, mut left) = (0, 0);
        for place in told.await {
            let answer: RetireAnswer = place.said?;
            done += answer.done;
            left += answer.left;
        }
        Ok((done, left))
    }

    /// All others go by the tree without the node.
    async fn taken(&self, function: &FunctionName, smaller: &Topology) -> Result<()> {
        let until = Instant::now() + self.wait;
        loop {
            let statuses = self.statuses(function).await?;
            let behind = statuses.iter().find(|one| one.topology.digest != smaller.digest());
            let Some(behind) = behind else { return Ok(()) };
            if Instant::now() >= until {
                let refused = behind.topology.refused.as_deref();
                let why = format!(
                    "`{}` does not take the topology without `{}`: {}; it serves on, run this again",
                    behind.node,
                    self.gone.name,
                    refused.unwrap_or("it has not read it yet")
                );
                return Err(Failure::Refused(why).into());
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_cannot_go_is_told_why() {
        let italy = Topology::parse(include_str!("../../../topology/examples/italy.yaml")).unwrap();
        let line =
            Topology::parse(include_str!("../../../topology/examples/three-nodes.yaml")).unwrap();
        for (tree, name, why) in [
            (&italy, "italy", "is the root"),
            (&italy, "milan", "below `milan` (navigli, brera)"),
            (&line, "edge", "the only node where sessions begin"),
        ] {
            let gone = tree.node(&NodeName::new(name).unwrap()).unwrap();
            let error = leaves(tree, gone).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let gone = italy.node(&NodeName::new("brera").unwrap()).unwrap();
        assert_eq!(leaves(&italy, gone).unwrap().nodes().count(), 5);
    }
}
