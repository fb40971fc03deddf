//! `funicular secret rotate`
//!
//! Three steps, each at every node before the next begins: all accept the new key; all
//! sign with it; none accepts the old one. What is done is read from the keys' files and
//! from what the nodes say, so it can be broken off and run again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use funicular::http::signature::{Keys, PEER_KEY, PREVIOUS_PEER_KEY, PeerKeys, Role, Secret};
use funicular::peers::messages::NodeStatus;
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};
use serde_json::json;
use tokio::time::Instant;

use super::super::survey::{Survey, everywhere, say_left_out};
use super::job;
use crate::client::{CallError, Client};
use crate::exit::Failure;
use crate::faas;
use crate::options::Access;
use crate::output::{count, say, show};
use crate::secrets;

/// Holds the new key while a rotation is under way.
const NEXT: &str = "session-peer-key-next";
/// So often for each replica is a function asked, until all have answered.
const TRIES: usize = 8;
/// Between two looks at the nodes.
const EVERY: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    access: Access,

    /// The functions to look at [default: all of Funicular's that the nodes' gateways
    /// list]
    #[arg(long, value_name = "F")]
    function: Option<FunctionName>,

    /// The nodes read the directory of --secrets themselves: give them nothing
    #[arg(long)]
    in_place: bool,

    /// How many seconds the nodes may take to read a new secret; Kubernetes takes up to
    /// two minutes to mount it
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait: u64,

    #[command(flatten)]
    faas: faas::Way,
}

/// What the nodes have to show before the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The new key is accepted.
    Accept,
    /// It signs.
    Sign,
    /// No other is accepted.
    Forget,
}

impl Step {
    /// Which file the step changes.
    fn file(self) -> &'static str {
        match self {
            Self::Accept | Self::Forget => PREVIOUS_PEER_KEY,
            Self::Sign => PEER_KEY,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Accept => "every node accepts the new key",
            Self::Sign => "every node signs with the new key",
            Self::Forget => "no node accepts the old key",
        }
    }

    /// Whether a node shows it: its keys, the one that signs first.
    fn is_done(self, keys: &[String], new: &str) -> bool {
        match self {
            Self::Accept => keys.iter().any(|key| key == new),
            Self::Sign => keys.first().is_some_and(|key| key == new),
            Self::Forget => !keys.is_empty() && keys.iter().all(|key| key == new),
        }
    }
}

/// The files as they are.
struct Files<'a> {
    dir: &'a Path,
}

impl Files<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("{} cannot be read", self.path(name).display()))
            }
        }
    }

    fn current(&self) -> Result<String> {
        self.read(PEER_KEY)?.ok_or_else(|| {
            let why = format!(
                "{} holds no `{PEER_KEY}`; name the directory with the tree's keys with --secrets",
                self.dir.display()
            );
            Failure::Data(why).into()
        })
    }

    /// The new key: that of a rotation that was broken off, or one that is made now.
    fn next(&self) -> Result<String> {
        if let Some(next) = self.read(NEXT)? {
            return Ok(next);
        }
        let next = secrets::make();
        secrets::replace(&self.path(NEXT), &next)?;
        Ok(next)
    }

    /// Writes what a step needs, unless it is there.
    fn prepare(&self, step: Step, new: &str) -> Result<()> {
        let content = match step {
            // Beside the key that signs, so that nodes know both whatever they sign with.
            Step::Accept => format!("{}\n{new}", self.current()?),
            Step::Sign | Step::Forget => new.to_owned(),
        };
        if self.read(step.file())?.as_ref() == Some(&content) {
            return Ok(());
        }
        secrets::replace(&self.path(step.file()), &content)
    }

    /// The steps that are left, as the files have it.
    fn left(&self, new: &str) -> Result<Vec<Step>> {
        Ok(match self.current()? == new {
            false => vec![Step::Accept, Step::Sign, Step::Forget],
            // Every node accepted it before the key that signs was changed here.
            true => vec![Step::Sign, Step::Forget],
        })
    }
}

/// The replicas of a function at a node that have answered.
struct Replicas {
    /// One status each.
    seen: Vec<NodeStatus>,
    /// How many answer there, as the gateway has it.
    ready: usize,
}

impl Replicas {
    /// Asks until all have answered, or so often that one more would hardly be another: the
    /// gateway takes any of them.
    async fn ask(client: &Client, node: &Node, function: &FunctionName) -> Result<Self, CallError> {
        let ready = client.replicas(node, function).await.unwrap_or(1).max(1);
        let mut seen: BTreeMap<String, NodeStatus> = BTreeMap::new();
        for _ in 0..ready * TRIES {
            let status: NodeStatus = client.get(node, function, "status", &[]).await?.read()?;
            seen.insert(status.replica.clone(), status);
            if seen.len() >= ready {
                break;
            }
        }
        Ok(Self { seen: seen.into_values().collect(), ready })
    }

    /// Why a step is not done here yet, if it is not.
    fn behind(&self, step: Step, key: &str, function: &FunctionName) -> Option<String> {
        let late = self.seen.iter().filter(|one| !step.is_done(&one.peer_keys, key)).count();
        match (late, self.ready) {
            (0, _) => None,
            (_, 1) => Some(format!("`{function}` has not read it yet")),
            (late, ready) => {
                Some(format!("{late} of {ready} replicas of `{function}` have not read it yet"))
            }
        }
    }
}

/// What the nodes show of a step.
#[derive(Debug, Default)]
struct Shown {
    /// Nodes that do not show it, and why.
    behind: BTreeMap<NodeName, String>,
    /// Nodes that nobody can be asked at: they have no function.
    without: BTreeSet<NodeName>,
    /// Replicas that never answered: the gateway chose others each time.
    unseen: BTreeMap<NodeName, usize>,
    /// Functions that are none of Funicular's: they read no key.
    others: BTreeSet<FunctionName>,
}

impl Shown {
    /// What is not known in the end.
    fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if !self.without.is_empty() {
            let names: Vec<&str> = self.without.iter().map(NodeName::as_str).collect();
            caveats.push(format!(
                "{} without the function: the old key is still there; `funicular secret create \
                 --replace` gives it the new one",
                names.join(", ")
            ));
        }
        for (node, unseen) in &self.unseen {
            caveats.push(format!(
                "{node}: its gateway let {} of those that run there go unasked; they read \
                 the same files within `reload_interval`",
                count(*unseen, "replica")
            ));
        }
        caveats
    }
}

pub(super) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let files = Files { dir: args.access.secrets() };
    // Read before anything is made: a directory without keys is somebody else's.
    files.current()?;
    let new = files.next()?;
    let (mut shown, mut named) = (Shown::default(), BTreeSet::new());
    for step in files.left(&new)? {
        files.prepare(step, &new)?;
        shown = take(args, &topology, &client, &files, (step, &new), &mut named).await?;
        if !json {
            say(step.text());
        }
    }
    fs::remove_file(files.path(NEXT))
        .with_context(|| format!("{} cannot be removed", files.path(NEXT).display()))?;
    let value = json!({
        "rotated": true,
        "without": shown.without.iter().map(NodeName::as_str).collect::<Vec<_>>(),
        "unseen": shown.unseen.iter().map(|(node, n)| (node.to_string(), *n)).collect::<BTreeMap<_, _>>(),
    });
    show(json, &value, || {
        let said = ["the key is rotated".to_owned()].into_iter().chain(shown.caveats());
        said.collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// Gives the step's file to those nodes that do not show it yet, and waits for all; names
/// each function that is left out once.
async fn take(
    args: &Args,
    topology: &Topology,
    client: &Client,
    files: &Files<'_>,
    (step, new): (Step, &str),
    named: &mut BTreeSet<FunctionName>,
) -> Result<Shown> {
    let function = args.function.as_ref();
    let Shown { behind, others, .. } = look(topology, client, function, step, new).await?;
    say_left_out(others.difference(named));
    named.extend(others);
    if !args.in_place && !behind.is_empty() {
        let nodes = behind.keys().filter_map(|name| topology.node(name));
        let jobs = nodes.map(|node: &Node| job(node, files.dir, &[step.file()], true)).collect();
        faas::push(&args.faas, jobs).await?;
    }
    let until = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let shown = look(topology, client, function, step, new).await?;
        let Some((node, why)) = shown.behind.first_key_value() else { return Ok(shown) };
        if Instant::now() >= until {
            let why = format!(
                "not at all nodes after {} seconds: {}; first `{node}`: {why}. Nothing is \
                 refused; run it again to go on",
                args.wait,
                step.text()
            );
            return Err(Failure::Unavailable(why).into());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What the nodes show of a step.
async fn look(
    topology: &Topology,
    client: &Client,
    function: Option<&FunctionName>,
    step: Step,
    new: &str,
) -> Result<Shown> {
    let Survey { places, others } =
        everywhere(client, topology.nodes(), function, |node, function| async move {
            Replicas::ask(client, node, &function).await
        })
        .await;
    let without = topology.nodes().map(|node| node.name.clone()).collect();
    let mut shown = Shown { without, others, ..Shown::default() };
    for place in places {
        let node = place.node.name.clone();
        match (place.said, place.function) {
            (Ok(replicas), Some(function)) => {
                shown.without.remove(&node);
                let key = key_id(&function, new)?;
                if let Some(why) = replicas.behind(step, &key, &function) {
                    shown.behind.insert(node, why);
                } else if replicas.seen.len() < replicas.ready {
                    shown.unseen.insert(node, replicas.ready - replicas.seen.len());
                }
            }
            (Err(CallError::NoFunction { .. }), _) | (Ok(_), None) => {}
            (Err(error), _) => {
                shown.without.remove(&node);
                shown.behind.insert(node, error.to_string());
            }
        }
    }
    Ok(shown)
}

/// The short name of the key that a function derives.
fn key_id(function: &FunctionName, secret: &str) -> Result<String> {
    let current = Secret::new(secret.as_bytes())
        .map_err(|length| Failure::Data(format!("a key of {length} bytes is too short")))?;
    let keys = Keys { peer: Some(PeerKeys { current, previous: Vec::new() }), operator: None };
    Ok(keys.for_function(function).ids(Role::Peer).swap_remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_when_the_keys_show_it() {
        let keys = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (shown, done) in [
            (&["old", "old"][..], [false, false, false]),
            (&["old", "old", "new"], [true, false, false]),
            (&["new", "old", "new"], [true, true, false]),
            (&["new", "new"], [true, true, true]),
            (&[], [false, false, false]),
        ] {
            let steps = [Step::Accept, Step::Sign, Step::Forget];
            assert_eq!(steps.map(|step| step.is_done(&keys(shown), "new")), done, "{shown:?}");
        }
    }

    #[tokio::test]
    async fn every_replica_is_asked_and_what_nobody_can_be_asked_is_said() {
        use crate::client::tests::{Nodes, function};
        let (new, cart) = ("the new key of all the peers", function("cart"));
        let key = key_id(&cart, new).unwrap();
        let status = |node: &str, replica: &str, key: &str| {
            json!({
                "node": node, "function": "cart", "replica": replica, "version": "0.1.0",
                "wire_version": 1, "sessions": 0, "pending": 0, "in_flight": 0, "moves": 0,
                "status": "accept", "promise": "always", "barred": [], "store": "ok",
                "peer_keys": [key],
            })
        };
        let nodes = Nodes::start().await;
        let at_milan = [("a", &*key), ("a", &*key), ("b", &*key), ("c", "old")];
        let at_milan = at_milan.map(|(replica, key)| status("milan", replica, key));
        nodes.replicas("milan", "cart", 3, &at_milan).await;
        // One that the gateway never chooses is said not to be known.
        nodes.replicas("navigli", "cart", 2, &[status("navigli", "d", &key)]).await;
        let (topology, client) = (nodes.topology(), nodes.client());
        let shown = look(&topology, &client, Some(&cart), Step::Forget, new).await.unwrap();
        let name = |name: &str| NodeName::new(name).unwrap();
        let why = "1 of 3 replicas of `cart` have not read it yet".to_owned();
        assert_eq!(shown.behind, BTreeMap::from([(name("milan"), why)]));
        assert_eq!(shown.without, BTreeSet::from([name("italy")]));
        assert_eq!(shown.unseen, BTreeMap::from([(name("navigli"), 1)]));
        assert_eq!(shown.caveats().len(), 2, "{:?}", shown.caveats());
    }

    #[tokio::test]
    async fn a_function_that_is_none_of_funiculars_is_not_behind() {
        use crate::client::tests::{Nodes, function};
        let new = "the new key of all the peers";
        let key = key_id(&function("cart"), new).unwrap();
        let nodes = Nodes::start().await;
        let status = json!({
            "node": "milan", "function": "cart", "version": "0.1.0", "wire_version": 1,
            "sessions": 0, "pending": 0, "in_flight": 0, "moves": 0, "status": "accept",
            "promise": "always", "barred": [], "store": "ok", "peer_keys": [key],
        });
        nodes.answers("milan", "cart", "GET", "/_/status", 200, &status).await;
        nodes.lists_figlet_and("milan", &["cart"]).await;
        nodes.lists_figlet_and("navigli", &[]).await;
        nodes.stops("italy");
        let (topology, client) = (nodes.topology(), nodes.client());
        let shown = look(&topology, &client, None, Step::Sign, new).await.unwrap();
        let name = |name: &str| NodeName::new(name).unwrap();
        assert_eq!(shown.behind.keys().collect::<Vec<_>>(), [&name("italy")]);
        assert_eq!(shown.without, BTreeSet::from([name("navigli")]));
        assert_eq!(shown.others, BTreeSet::from([function("figlet")]));
    }

    #[test]
    fn a_rotation_that_was_broken_off_goes_on_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { dir: dir.path() };
        assert!(files.current().is_err());
        secrets::replace(&files.path(PEER_KEY), "the old key of the peers").unwrap();
        let new = files.next().unwrap();
        assert_eq!(files.next().unwrap(), new);
        assert_eq!(files.left(&new).unwrap().len(), 3);
        files.prepare(Step::Accept, &new).unwrap();
        let both = format!("the old key of the peers\n{new}");
        assert_eq!(files.read(PREVIOUS_PEER_KEY).unwrap().unwrap(), both);
        assert_eq!(files.left(&new).unwrap().len(), 3, "not all nodes may have it");
        files.prepare(Step::Sign, &new).unwrap();
        assert_eq!(files.left(&new).unwrap(), [Step::Sign, Step::Forget]);
        files.prepare(Step::Forget, &new).unwrap();
        assert_eq!(files.read(PREVIOUS_PEER_KEY).unwrap().unwrap(), new);
    }
}
