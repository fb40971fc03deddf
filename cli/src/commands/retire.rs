//! `funicular retire NODE`
//!
//! The node creates no sessions any more, hands those that it has to the nodes above, and
//! these become the home of all that had theirs there. Then the tree goes on without it.
//! Every step can be done again: what was broken off is begun anew.

use std::path::{Path, PathBuf};
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
use super::survey::{self, Listed, Place, everywhere};
use crate::client::{CallError, Client};
use crate::exit::Failure;
use crate::faas::{self, Call, Job, named_gateway};
use crate::options::{Access, load, node};
use crate::output::{count, say, show};

/// Between two looks at the nodes.
const EVERY: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node to take out of the tree: one without nodes below it
    node: NodeName,

    /// The functions that the node has; it goes for all of them [default: those of
    /// Funicular's that its gateway lists]
    #[arg(long, value_name = "F")]
    function: Vec<FunctionName>,

    /// Keep the node after all: it creates sessions again, and keeps those that it has
    #[arg(long)]
    stop: bool,

    /// How many seconds each part may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,

    /// The nodes read the topology's file themselves: write it anew, keep the tree that it
    /// had beside it (`FILE.with-NODE`), and leave faas-cli alone
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
    let (mut topology, client) = args.access.open()?;
    let file = match (&args.output, args.in_place) {
        (Some(file), _) => file.clone(),
        (None, true) => args.access.topology_file()?,
        (None, false) => PathBuf::from(format!("without-{}.yaml", args.node)),
    };
    let before = before(&file, &args.node);
    let written = topology.node(&args.node).is_none();
    if args.in_place && written && before.exists() {
        // It was broken off, or is done again: this is the tree that it began with.
        topology = load(&before.display().to_string())?;
    }
    let gone = node(&topology, &args.node)?;
    let smaller = leaves(&topology, gone)?;
    let functions = functions(&client, gone, &args.function).await?;
    let tell = |what: String| {
        if !json {
            say(what);
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
        tell(format!("`{}` has no session of {function} and is the home of none", gone.name));
    }
    if args.in_place && !written {
        let (_, text) = args.access.tree().text()?;
        replace(&before, &text)?;
    }
    replace(&file, &smaller.to_yaml())?;
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
    tell(format!("all other nodes go by {file}"));
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

/// Where the tree with a node is kept when its file is written anew without it.
fn before(file: &Path, gone: &NodeName) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".with-{gone}"));
    name.into()
}

/// Writes a file in one step: whoever reads it meanwhile has the old one or the new one.
fn replace(file: &Path, text: &str) -> Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let unwritten = || format!("{} cannot be written", file.display());
    std::fs::write(&name, text).with_context(unwritten)?;
    std::fs::rename(&name, file).with_context(unwritten)
}

/// The functions that are meant: all of Funicular's that the node has, since the tree is the
/// same for all.
async fn functions(
    client: &Client,
    gone: &Node,
    named: &[FunctionName],
) -> Result<Vec<FunctionName>> {
    if named.is_empty() {
        return survey::functions(client, gone, named).await;
    }
    match Listed::ask(client, gone).await {
        // A gateway that lists nothing leaves it to whoever names them.
        Err(CallError::NoList { .. }) => Ok(named.to_vec()),
        Err(error) => Err(error.into()),
        // One that is silent may have sessions.
        Ok(listed) => match listed.ours.iter().find(|(listed, _)| !named.contains(listed)) {
            None => Ok(named.to_vec()),
            Some((other, _)) => {
                let why = format!(
                    "`{0}` has `{other}` too, and goes out of the tree for all functions: leave \
                     --function away, or remove `{other}` there first (`funicular drain {0} \
                     --function {other}` empties it)",
                    gone.name
                );
                Err(Failure::Usage(why).into())
            }
        },
    }
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
            // Without its store it counts none.
            let empty = status.store == "ok"
                && status.drain.is_some_and(|drain| drain.state == DrainState::Empty);
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
        // The index may have lost some, or a part of it was away: all records count.
        loop {
            let (done, left) = self.sweep(function).await?;
            if done == 0 && left == 0 {
                return Ok(rehomed);
            }
            if Instant::now() >= until {
                let why = format!(
                    "{} of {function} need `{}` still; run it again to go on",
                    count(usize::try_from(left).unwrap_or(usize::MAX), "session"),
                    self.gone.name
                );
                return Err(Failure::Refused(why).into());
            }
            rehomed += done;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks at every record at every node, page by page: how many were done and are left.
    async fn sweep(&self, function: &FunctionName) -> Result<(u64, u64)> {
        let client = self.client;
        let swept = everywhere(
            client,
            self.topology.nodes(),
            Some(function),
            |node, function| async move {
                let mut all = RetireAnswer::default();
                loop {
                    let call = RetireCall {
                        node: self.gone.name.clone(),
                        step: RetireStep::Sweep,
                        cursor: all.next.take(),
                    };
                    let page: RetireAnswer =
                        client.post(node, &function, "retire", &call).await?.read()?;
                    all.done += page.done;
                    all.left += page.left;
                    all.next = page.next;
                    if all.next.is_none() {
                        return Ok(all);
                    }
                }
            },
        );
        sum(swept.await.places)
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
        Ok(present(asked.await.places)?)
    }

    async fn tell(&self, node: &Node, function: &FunctionName, step: RetireStep) -> Result<()> {
        let call = RetireCall { node: self.gone.name.clone(), step, cursor: None };
        self.client.post(node, function, "retire", &call).await?;
        Ok(())
    }

    /// How many were done and how many are left, at all other nodes together.
    async fn tell_others(&self, function: &FunctionName, step: RetireStep) -> Result<(u64, u64)> {
        let call = RetireCall { node: self.gone.name.clone(), step, cursor: None };
        let (client, call) = (self.client, &call);
        let told = everywhere(client, self.others(), Some(function), |node, function| async move {
            client.post(node, &function, "retire", call).await?.read()
        });
        sum(told.await.places)
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

/// What the nodes say that have the function; one without it holds nothing.
fn present<T>(places: Vec<Place<'_, T>>) -> Result<Vec<T>, CallError> {
    let said = places.into_iter().map(|place| place.said);
    said.filter(|said| !matches!(said, Err(CallError::NoFunction { .. }))).collect()
}

fn sum(places: Vec<Place<'_, RetireAnswer>>) -> Result<(u64, u64)> {
    let answers = present(places)?;
    let done = answers.iter().map(|answer| answer.done).sum();
    Ok((done, answers.iter().map(|answer| answer.left).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{Nodes, function};
    use std::time::Duration;

    #[tokio::test]
    async fn it_is_for_all_functions_that_the_node_has() {
        let nodes = Nodes::start().await;
        nodes.lists_figlet_and("navigli", &["cart", "cdn"]).await;
        for name in ["cart", "cdn"] {
            nodes.answers("navigli", name, "GET", "/_/status", 200, &json!({})).await;
        }
        let topology = nodes.topology();
        let gone = topology.node(&NodeName::new("navigli").unwrap()).unwrap();
        let client = nodes.client();
        let all = [function("cart"), function("cdn")];
        assert_eq!(functions(&client, gone, &[]).await.unwrap(), all);
        assert_eq!(functions(&client, gone, &all).await.unwrap(), all);
        let why = functions(&client, gone, &all[..1]).await.unwrap_err().to_string();
        assert!(why.contains("`navigli` has `cdn` too"), "{why}");
    }

    #[tokio::test]
    async fn one_that_is_silent_keeps_its_node() {
        let nodes = Nodes::start().await;
        nodes.lists("navigli", &["cart", "cdn"]).await;
        nodes.answers("navigli", "cart", "GET", "/_/status", 200, &json!({})).await;
        nodes.is_silent("navigli", "cdn").await;
        let topology = nodes.topology();
        let gone = topology.node(&NodeName::new("navigli").unwrap()).unwrap();
        let client = nodes.client();
        let why = functions(&client, gone, &[]).await.unwrap_err().to_string();
        assert!(why.contains("`cdn` may be a function of Funicular"), "{why}");
        let why = functions(&client, gone, &[function("cart")]).await.unwrap_err().to_string();
        assert!(why.contains("`navigli` has `cdn` too"), "{why}");
    }

    #[tokio::test]
    async fn a_node_without_the_function_holds_nothing() {
        let nodes = Nodes::start().await;
        let answer = json!({ "done": 2, "left": 1 });
        nodes.answers("milan", "cart", "POST", "/_/retire", 200, &answer).await;
        let topology = nodes.topology();
        let gone = topology.node(&NodeName::new("navigli").unwrap()).unwrap();
        let client = nodes.client();
        let wait = Duration::from_secs(1);
        let retire = Retire { topology: &topology, client: &client, gone, wait };
        let told = retire.tell_others(&function("cart"), RetireStep::Rehome).await.unwrap();
        assert_eq!(told, (2, 1));
    }

    #[test]
    fn a_file_is_replaced_and_the_tree_before_kept_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("topology.yaml");
        let navigli = NodeName::new("navigli").unwrap();
        assert_eq!(before(&file, &navigli), dir.path().join("topology.yaml.with-navigli"));
        for text in ["one", "two"] {
            replace(&file, text).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

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
