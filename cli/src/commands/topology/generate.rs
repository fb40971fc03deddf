//! `funicular topology generate`: trees of any size.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Failure;

/// More levels than any tree needs.
const MOST_LEVELS: usize = 20;
/// More nodes than the ports of `--gateway` could tell apart by hosts and names.
const MOST_NODES: u64 = 1_000_000;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How many children a node has, level by level from the root down: `100,99` are
    /// 1 + 100 + 9900 nodes
    #[arg(value_name = "N,N,…", value_delimiter = ',', required = true)]
    children: Vec<u64>,

    /// What gateways look like: `{name}` and `{number}` (from 0, in the order of the
    /// file) are filled in
    #[arg(long, value_name = "URL", default_value = "http://{name}.example.org:8080")]
    gateway: String,

    /// Where to write it [default: standard output]
    #[arg(long, short, value_name = "F")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let text = text(&args.children, &args.gateway)?;
    super::write(args.output.as_deref(), &text)
}

fn text(children: &[u64], gateway: &str) -> Result<String, Failure> {
    if children.contains(&0) || children.len() >= MOST_LEVELS {
        let why = format!("give 1 to {} numbers, none of them 0", MOST_LEVELS - 1);
        return Err(Failure::Usage(why));
    }
    if !["{name}", "{number}"].iter().any(|place| gateway.contains(place)) {
        let why = "every node needs a URL of its own: put {name} or {number} into --gateway";
        return Err(Failure::Usage(why.to_owned()));
    }
    let nodes = children.iter().try_fold((1_u64, 1_u64), |(all, level), number| {
        let level = level.checked_mul(*number)?;
        Some((all.checked_add(level)?, level)).filter(|(all, _)| *all <= MOST_NODES)
    });
    let Some((nodes, _)) = nodes else {
        return Err(Failure::Usage(format!("that are more than {MOST_NODES} nodes")));
    };
    let levels: Vec<String> = (0..=children.len()).map(|depth| format!("level{depth}")).collect();
    let mut out = format!(
        "# {nodes} nodes, made with: funicular topology generate {}\nlevels: [{}]\n\nroot:\n",
        children.iter().map(u64::to_string).collect::<Vec<_>>().join(","),
        levels.join(", ")
    );
    let mut number = 0;
    branch(&mut out, children, gateway, &mut number, &mut vec!["n".to_owned()]);
    Ok(out)
}

/// Writes a node and those below it. A name says where its node stands: `n-3-14`.
fn branch(
    out: &mut String,
    children: &[u64],
    gateway: &str,
    number: &mut u64,
    name: &mut Vec<String>,
) {
    let depth = name.len();
    let pad = "  ".repeat(depth * 2 - 1);
    let first = if depth == 1 { pad.clone() } else { format!("{}- ", &pad[2..]) };
    let joined = name.join("-");
    let gateway_here = gateway.replace("{name}", &joined).replace("{number}", &number.to_string());
    *number += 1;
    let _ = write!(out, "{first}name: {joined}\n{pad}gateway: {gateway_here}\n");
    let Some((own, below)) = children.split_first() else { return };
    let _ = writeln!(out, "{pad}children:");
    for child in 0..*own {
        name.push(child.to_string());
        branch(out, below, gateway, number, name);
        name.pop();
    }
}

#[cfg(test)]
mod tests {
    use funicular::topology::Topology;

    use super::*;

    #[test]
    fn every_node_has_its_own_name_and_gateway() {
        let text = text(&[2, 3], "http://127.0.0.1:{number}1").unwrap();
        let tree = Topology::parse(&text).unwrap();
        let gateways: Vec<_> = tree.nodes().map(|node| node.gateway.as_str()).collect();
        assert_eq!(gateways.len(), 9);
        assert_eq!(gateways[8], "http://127.0.0.1:81");
        assert_eq!(tree.on_level("level2").last().unwrap().name.as_str(), "n-1-2");
    }

    #[test]
    fn ten_thousand_nodes_read() {
        let text = text(&[100, 99], "http://{name}.example.org").unwrap();
        assert_eq!(Topology::parse(&text).unwrap().nodes().count(), 10_001);
    }

    #[test]
    fn what_makes_no_tree_is_refused() {
        for (children, gateway) in [
            (vec![0], "http://{name}"),
            (vec![1; 20], "http://{name}"),
            (vec![1_000_000], "http://{name}"),
            (vec![u64::MAX, 2], "http://{name}"),
            (vec![2], "http://same"),
        ] {
            assert!(text(&children, gateway).is_err(), "{children:?} {gateway}");
        }
    }
}
