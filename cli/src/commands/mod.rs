//! One file a command.

mod check;
mod deploy;
mod drain;
mod generate;
mod limit;
mod load;
mod offload;
mod onload;
mod oracle;
mod recover;
mod restore;
mod retire;
mod secret;
mod sim;
mod status;
mod survey;
mod top;
mod topology;
mod tree;
mod up;
mod whereabouts;

use anyhow::{Context, Result};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run every node of a tree on this machine, with the example functions
    Up(up::Up),
    /// Say what is wrong with a topology, line by line
    Check(check::Args),
    /// Draw a topology
    Tree(tree::Args),
    /// Ask about a topology, import one, make one
    Topology(topology::Args),
    /// Say how the nodes of a tree are
    Status(status::Args),
    /// Watch a tree in the terminal, and move its sessions by key
    Top(top::Args),
    /// Put a function on the nodes of a tree, with faas-cli
    Deploy(deploy::Args),
    /// Write Kubernetes manifests for a function at a node, without faas-cli
    Generate(generate::Args),
    /// Give the nodes their secrets, and rotate the key they share
    Secret(secret::Args),
    /// Say where a session is, as every node knows it
    Where(whereabouts::Args),
    /// Move a session up, from a node to the next above that takes it
    Offload(offload::Args),
    /// Bring sessions back down to a node from those above
    Onload(onload::Args),
    /// Ask an oracle why, or play what one saw through the policy
    #[command(subcommand)]
    Oracle(oracle::Oracle),
    /// Call a function as many clients do, and say how long it takes, second by second
    Load(load::Args),
    /// Play a day of load on a tree of thousands of nodes, with the oracles' policy and others
    Sim(sim::Args),
    /// Take a node out of work: move every session to the nodes above, and wait
    Drain(drain::Args),
    /// Take a node out of the tree: its sessions get another home
    Retire(retire::Args),
    /// After a node's store was put back to a backup: find out what of it still holds
    Restore(restore::Args),
    /// Go on without a node that will not come back, or let one in again
    Recover(recover::Args),
}

pub(crate) fn run(command: Command, json: bool) -> Result<()> {
    let command = match command {
        Command::Up(up) => return up.run(),
        Command::Load(args) => return load::run(args, json),
        other => other,
    };
    let work = async {
        match command {
            // They have runtimes of their own.
            Command::Up(_) | Command::Load(_) => Ok(()),
            Command::Check(args) => check::run(&args, json),
            Command::Tree(args) => tree::run(&args, json),
            Command::Topology(args) => topology::run(&args, json),
            Command::Deploy(args) => deploy::run(&args, json).await,
            Command::Secret(args) => secret::run(&args, json).await,
            Command::Generate(args) => generate::run(&args),
            Command::Status(args) => status::run(&args, json).await,
            Command::Top(args) => top::run(&args, json).await,
            Command::Where(args) => whereabouts::run(&args, json).await,
            Command::Offload(args) => offload::run(&args, json).await,
            Command::Onload(args) => onload::run(&args, json).await,
            Command::Oracle(command) => oracle::run(&command, json).await,
            Command::Sim(args) => sim::run(&args, json),
            Command::Drain(args) => drain::run(&args, json).await,
            Command::Retire(args) => retire::run(&args, json).await,
            Command::Restore(args) => restore::run(&args, json).await,
            Command::Recover(args) => recover::run(&args, json).await,
        }
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the command cannot start")?
        .block_on(work)
}
