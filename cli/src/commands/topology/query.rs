//! Questions about a tree: one name a line, or JSON.

use anyhow::Result;
use funicular::session::NodeName;
use funicular::topology::Node;

use crate::options::{self, Tree};
use crate::output::show;

#[derive(clap::Args)]
pub(super) struct OfOne {
    node: NodeName,

    #[command(flatten)]
    tree: Tree,
}

#[derive(clap::Args)]
pub(super) struct OfTwo {
    node: NodeName,
    other: NodeName,

    #[command(flatten)]
    tree: Tree,
}

#[derive(clap::Args)]
pub(super) struct Path {
    node: NodeName,

    /// Where it leads [default: the root]
    to: Option<NodeName>,

    #[command(flatten)]
    tree: Tree,
}

pub(super) fn parent(of: &OfOne, json: bool) -> Result<()> {
    let topology = of.tree.load()?;
    let node = options::node(&topology, &of.node)?;
    one(json, topology.parent(&node.name));
    Ok(())
}

pub(super) fn children(of: &OfOne, json: bool) -> Result<()> {
    let topology = of.tree.load()?;
    let node = options::node(&topology, &of.node)?;
    several(json, &topology.children(&node.name));
    Ok(())
}

pub(super) fn subtree(of: &OfOne, json: bool) -> Result<()> {
    let topology = of.tree.load()?;
    let node = options::node(&topology, &of.node)?;
    several(json, &topology.subtree(&node.name));
    Ok(())
}

pub(super) fn path(of: &Path, json: bool) -> Result<()> {
    let topology = of.tree.load()?;
    let from = options::node(&topology, &of.node)?;
    let to = match &of.to {
        Some(to) => options::node(&topology, to)?,
        None => topology.root(),
    };
    several(json, &topology.path(&from.name, &to.name).unwrap_or_default());
    Ok(())
}

pub(super) fn common_ancestor(of: &OfTwo, json: bool) -> Result<()> {
    let topology = of.tree.load()?;
    let node = options::node(&topology, &of.node)?;
    let other = options::node(&topology, &of.other)?;
    one(json, topology.common_ancestor(&node.name, &other.name));
    Ok(())
}

/// Only the root has no parent: then nothing is printed, or `null`.
fn one(json: bool, node: Option<&Node>) {
    let name = node.map(|node| node.name.as_str());
    if json || name.is_some() {
        show(json, &name, || name.unwrap_or_default().to_owned());
    }
}

fn several(json: bool, nodes: &[&Node]) {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    if json || !names.is_empty() {
        show(json, &names, || names.join("\n"));
    }
}
