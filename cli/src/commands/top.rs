//! `funicular top`: a tree in the terminal, as it is and as it moves.
//!
//! - [`state`]: what a person has chosen, as plain data
//! - [`rows`]: what of a view is shown for that, and in which order
//! - [`update`]: what a key, a view, or an answer makes of it
//! - [`draw`]: the screen, from a view and a state
//! - [`words`]: figures and sentences
//! - [`act`]: the calls that a key leads to
//! - [`screen`]: the terminal, and everything that waits
//! - [`once`]: the same as text, for scripts

mod act;
mod draw;
mod once;
mod rows;
mod screen;
mod state;
#[cfg(test)]
mod tests;
mod update;
mod words;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use funicular::session::{FunctionName, NodeName};
use funicular::topology::Topology;
use funicular_dashboard::watch::view::View;
use funicular_dashboard::watch::{OracleAt, PATIENCE, Settings, Watcher};
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::exit::Failure;
use crate::options::{Access, node};
use crate::output::show;

/// Two calls, one after the other, to the slowest node.
const ONCE: Duration = PATIENCE.saturating_mul(2).saturating_add(Duration::from_millis(500));

/// The keys, for `--help`; the screen itself tells more with `?`.
const KEYS: &str = "\
Keys:
  up, down, j, k   choose a node; with Tab or Enter, one of its sessions
  Enter            the chosen session's history
  o, n             offload, onload: the chosen session, or one that the nodes choose
  a, r             accept, reject sessions from below
  d                drain, or take back into work; asks first
  /                filter by name, level, or session
  f, s             one function only; sort by another column
  ?, q             help, quit

A figure that nobody knows is a `?`. With NO_COLOR there are no colours.";

#[derive(clap::Args)]
#[command(after_help = KEYS)]
pub(crate) struct Args {
    /// This function only, or several [default: all that the nodes' gateways list]
    #[arg(long, value_name = "F")]
    function: Vec<FunctionName>,

    /// Print once what there is, and end: so does --json, and output that is no terminal
    #[arg(long)]
    once: bool,

    /// Where a node's oracle listens [default: where `funicular up` has it]
    #[arg(long, value_name = "NODE=URL")]
    oracle: Vec<Oracle>,

    #[command(flatten)]
    access: Access,
}

/// Where an oracle is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Oracle {
    node: NodeName,
    url: String,
}

impl FromStr for Oracle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not NODE=URL, such as milan=http://10.0.0.7:8082");
        let (node, url) = text.split_once('=').ok_or_else(wrong)?;
        if !url.contains("://") {
            return Err(wrong());
        }
        let node = NodeName::new(node).map_err(|error| error.to_string())?;
        Ok(Self { node, url: url.trim_end_matches('/').to_owned() })
    }
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let topology = Arc::new(topology);
    let watching = client::patient(args.access.keys()?, PATIENCE)?;
    let mut settings = Settings::whole_tree(watching, Arc::clone(&topology));
    settings.functions = (!args.function.is_empty()).then(|| args.function.clone());
    settings.oracles.extend(oracles(&topology, &args.oracle)?);
    let stop = CancellationToken::new();
    let watcher = Watcher::start(&settings, &stop);
    let _stop = stop.drop_guard();
    if args.once || json || !std::io::stdout().is_terminal() {
        let view = watcher.fresh(ONCE).await;
        show(json, &*view, || once::text(&view));
        return all_answer(&view);
    }
    screen::run(&watcher, &topology, client).await
}

fn oracles(topology: &Topology, named: &[Oracle]) -> Result<BTreeMap<NodeName, OracleAt>, Failure> {
    let one = |oracle: &Oracle| {
        node(topology, &oracle.node)?;
        Ok((oracle.node.clone(), OracleAt::Url(oracle.url.clone())))
    };
    named.iter().map(one).collect()
}

fn all_answer(view: &View) -> Result<()> {
    let silent = view.nodes.iter().filter(|node| !node.reach.answers()).count();
    if silent == 0 {
        return Ok(());
    }
    let why = format!("{silent} of {} nodes do not answer as they should", view.nodes.len());
    Err(Failure::Unavailable(why).into())
}
