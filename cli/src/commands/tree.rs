//! `funicular tree F`

use anyhow::Result;
use funicular::topology::{Node, Topology};
use serde_json::{Value, json};

use crate::options::{load, source};
use crate::output::{show, table};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The topology [default: as for the other commands' --topology]
    #[arg(value_name = "F")]
    topology: Option<String>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<()> {
    let topology = load(&source(args.topology.as_deref()))?;
    let nodes: Vec<Value> = topology.nodes().map(|node| plain(&topology, node)).collect();
    show(json, &nodes, || draw(&topology));
    Ok(())
}

fn plain(topology: &Topology, node: &Node) -> Value {
    json!({
        "name": node.name.as_str(),
        "level": node.level,
        "depth": node.depth,
        "parent": topology.parent(&node.name).map(|parent| parent.name.as_str()),
        "gateway": node.gateway,
        "internal": node.internal,
        "entry": node.entry,
        "coordinates": node.coordinates.map(|(latitude, longitude)| [latitude, longitude]),
        "tags": node.tags,
    })
}

fn draw(topology: &Topology) -> String {
    let mut rows = Vec::new();
    branch(topology, topology.root(), "", "", &mut rows);
    table(&["NODE", "LEVEL", "GATEWAY", "SESSIONS BEGIN"], &rows)
}

/// Adds a node's row and those below it. `first` stands before the node itself,
/// `rest` before everything below it.
fn branch(topology: &Topology, node: &Node, first: &str, rest: &str, rows: &mut Vec<Vec<String>>) {
    rows.push(vec![
        format!("{first}{}", node.name),
        node.level.clone(),
        node.gateway.clone(),
        if node.entry { "here".to_owned() } else { String::new() },
    ]);
    let children = topology.children(&node.name);
    for (index, child) in children.iter().enumerate() {
        let (first, below) = if index + 1 == children.len() {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        branch(topology, child, &format!("{rest}{first}"), &format!("{rest}{below}"), rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_drawn() {
        let text = include_str!("../../../topology/examples/italy.yaml");
        let drawn = draw(&Topology::parse(text).unwrap());
        let expected = "\
NODE                LEVEL     GATEWAY                SESSIONS BEGIN
italy               country   http://127.0.0.1:8081
├── milan           city      http://127.0.0.1:8082
│   ├── navigli     district  http://127.0.0.1:8083  here
│   └── brera       district  http://127.0.0.1:8084  here
└── rome            city      http://127.0.0.1:8085
    └── trastevere  district  http://127.0.0.1:8086  here";
        assert_eq!(drawn, expected);
    }
}
