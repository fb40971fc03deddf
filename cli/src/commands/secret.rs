//! `funicular secret …`: the keys in a directory here, and at the nodes.

mod rotate;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use funicular::http::signature::{OPERATOR_KEY, PEER_KEY, PREVIOUS_PEER_KEY};
use funicular::topology::Node;

use crate::faas::{self, Call, Done, Job, Select};
use crate::options::Tree;
use crate::secrets;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make the keys if there are none, and give them to the nodes
    Create(Create),
    /// Replace the key that the nodes share, without a refused call
    Rotate(rotate::Args),
}

#[derive(clap::Args)]
struct Create {
    #[command(flatten)]
    select: Select,

    #[command(flatten)]
    tree: Tree,

    /// The directory that the keys are kept in; created if missing
    #[arg(long, value_name = "DIR", default_value = ".funicular")]
    secrets: PathBuf,

    /// Replace what the nodes have: calls between nodes are refused until all have the
    /// same
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    faas: faas::Options,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    match &args.what {
        What::Create(args) => create(args, json).await,
        What::Rotate(args) => rotate::run(args, json).await,
    }
}

async fn create(args: &Create, json: bool) -> Result<()> {
    let topology = args.tree.load()?;
    let nodes = args.select.of(&topology)?;
    secrets::open(&args.secrets)?;
    let previous = args.secrets.join(PREVIOUS_PEER_KEY);
    if !previous.exists() {
        // A function is given all three from the start: one that is named and is not
        // there keeps it from starting.
        let current = args.secrets.join(PEER_KEY);
        let key = std::fs::read_to_string(&current)
            .with_context(|| format!("{} cannot be read", current.display()))?;
        secrets::replace(&previous, &key)?;
    }
    let jobs = nodes.into_iter().map(|node| {
        let names = [PEER_KEY, PREVIOUS_PEER_KEY, OPERATOR_KEY];
        job(node, &args.secrets, &names, args.replace)
    });
    faas::run(&args.faas, jobs.collect(), &mut Done::nothing(), json).await
}

/// Gives a node these secrets from the directory.
fn job(node: &Node, dir: &Path, names: &[&str], replace: bool) -> Job {
    let call = |name: &&str| {
        let file = dir.join(name).display().to_string();
        Call::secret(name, &file, &node.gateway, replace)
    };
    Job { node: node.name.clone(), calls: names.iter().map(call).collect(), mark: String::new() }
}
