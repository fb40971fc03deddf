//! Which tree, at which addresses, and how it looks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};

use super::options;
use crate::exit::Failure;
use crate::output::{say, table};

/// The tree that is run when none is named.
const EXAMPLE: &str = include_str!("../../../../topology/examples/italy.yaml");
/// The tree that runs, beside the keys: where the other commands look for one.
pub(super) const KEPT: &str = "topology.yaml";
/// Begins that file, unless it was there before.
const WRITTEN: &str = "# Written by `funicular up`, anew with every start.\n";

/// The topology's text and what it says; no other one may be in `dir` that `up` did not write.
pub(super) fn load(named: Option<&str>, dir: &Path) -> Result<(String, Topology)> {
    let environment = std::env::var("FUNICULAR_TOPOLOGY").ok().filter(|text| !text.is_empty());
    let source = named.map(str::to_owned).or(environment).unwrap_or_else(|| EXAMPLE.to_owned());
    let topology = options::load(&source)?;
    let text = if source.contains('\n') { source } else { std::fs::read_to_string(&source)? };
    check_kept(dir, &text)?;
    Ok((text, topology))
}

/// Sees that no tree of somebody else's is kept where this one will be.
fn check_kept(dir: &Path, text: &str) -> Result<(), Failure> {
    let path = dir.join(KEPT);
    match std::fs::read_to_string(&path) {
        Ok(kept) if kept != text && !kept.starts_with(WRITTEN) => Err(Failure::Data(format!(
            "{0} is another tree, and `up` did not write it: run that one with --topology {0}, \
             or give `up` a directory of its own with --dir",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Keeps the topology beside the keys, so that the other commands find the tree
/// that runs.
pub(super) fn remember(dir: &Path, text: &str) -> Result<()> {
    check_kept(dir, text)?;
    let path = dir.join(KEPT);
    if std::fs::read_to_string(&path).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    std::fs::write(&path, format!("{WRITTEN}{text}"))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Where each node listens: its gateway, which has to be on this machine.
pub(super) fn addresses(topology: &Topology) -> Result<BTreeMap<NodeName, SocketAddr>> {
    topology.nodes().map(|node| Ok((node.name.clone(), address(node)?))).collect()
}

fn address(node: &Node) -> Result<SocketAddr, Failure> {
    let wrong = |why: &str| {
        let Node { name, gateway, .. } = node;
        Failure::Data(format!(
            "the gateway of {name} is {gateway}: {why}; `up` runs every node on this machine, \
             so give it one like http://127.0.0.1:8081"
        ))
    };
    let rest = node.gateway.strip_prefix("http://").ok_or_else(|| wrong("it is not plain http"))?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("it names no port"))?;
    let port: u16 = port.parse().map_err(|_| wrong("it names no port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other.parse().map_err(|_| wrong("it is not an address of this machine"))?,
    };
    if !ip.is_loopback() {
        return Err(wrong("it is not a loopback address"));
    }
    Ok(SocketAddr::new(ip, port))
}

/// Prints the nodes as a table, root first.
pub(super) fn print(
    topology: &Topology,
    functions: &BTreeSet<FunctionName>,
    store: &str,
    watched: bool,
) {
    let rows: Vec<Vec<String>> = topology
        .nodes()
        .map(|node| {
            let parent = topology.parent(&node.name).map_or("-", |parent| parent.name.as_str());
            let entry = if node.entry { "creates sessions" } else { "" };
            vec![
                format!("{}{}", "  ".repeat(node.depth), node.name),
                node.level.clone(),
                parent.to_owned(),
                node.gateway.clone(),
                entry.to_owned(),
            ]
        })
        .collect();
    say(table(&["NODE", "LEVEL", "PARENT", "GATEWAY", "ENTRY"], &rows));
    let names: Vec<_> = functions.iter().map(|name| format!("/function/{name}")).collect();
    say(format_args!("\nfunctions {} at every node; store: {store}", names.join(", ")));
    say("`funicular top` shows them in another terminal, and moves sessions by key");
    if watched {
        say("oracles watch: `funicular oracle explain --node NODE` says what one sees and does");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gateway_has_to_be_on_this_machine() {
        assert_eq!(addresses(&Topology::parse(EXAMPLE).unwrap()).unwrap().len(), 6);
        for bad in [
            "https://127.0.0.1:1",
            "http://127.0.0.1",
            "http://example.org:80",
            "http://10.0.0.1:80",
        ] {
            let text = format!("levels: [l]\nroot:\n  name: a\n  gateway: {bad}\n");
            let error = addresses(&Topology::parse(&text).unwrap()).unwrap_err();
            assert!(error.to_string().contains("give it one like"), "{bad}: {error}");
        }
    }

    #[test]
    fn nobody_elses_tree_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEPT);
        remember(dir.path(), "a").unwrap();
        remember(dir.path(), "b").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{WRITTEN}b"));
        std::fs::write(&path, "mine").unwrap();
        let error = remember(dir.path(), "b").unwrap_err().to_string();
        assert!(error.contains(&format!("--topology {}", path.display())), "{error}");
        // It may be run, and stays as it is.
        remember(dir.path(), "mine").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        remember(dir.path(), "b").unwrap_err();
    }
}
