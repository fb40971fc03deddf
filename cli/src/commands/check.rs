//! `funicular check F`

use anyhow::Result;
use funicular::topology::{Topology, TopologyError};
use serde_json::json;

use crate::exit::Failure;
use crate::options::{shown, source};
use crate::output::{count, show};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The topology [default: as for the other commands' --topology]
    #[arg(value_name = "F")]
    topology: Option<String>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<()> {
    let source = source(args.topology.as_deref());
    let checked = Topology::load(&source);
    let faults = match &checked {
        Ok(_) => Vec::new(),
        Err(error) => error
            .faults
            .iter()
            .map(|fault| json!({ "line": fault.line, "message": fault.message }))
            .collect(),
    };
    let value = json!({ "ok": faults.is_empty(), "faults": faults });
    show(json, &value, || match &checked {
        Ok(topology) => format!("{}: {}", shown(&source), praise(topology)),
        Err(error) => complaint(shown(&source), error),
    });
    match faults.len() {
        0 => Ok(()),
        number => Err(Failure::Data(format!("{} to mend", count(number, "fault"))).into()),
    }
}

fn praise(topology: &Topology) -> String {
    format!(
        "good: {} on {}, sessions begin at {}",
        count(topology.nodes().count(), "node"),
        count(topology.levels().len(), "level"),
        count(topology.entry_nodes().len(), "entry node"),
    )
}

fn complaint(name: &str, error: &TopologyError) -> String {
    let lines: Vec<String> = error.faults.iter().map(|fault| format!("{name}: {fault}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_tree_is_counted() {
        let text = include_str!("../../../topology/examples/italy.yaml");
        assert_eq!(
            praise(&Topology::parse(text).unwrap()),
            "good: 6 nodes on 3 levels, sessions begin at 3 entry nodes"
        );
    }

    #[test]
    fn every_fault_has_its_line() {
        let error = Topology::parse("levels: []\nroot: {name: a}\n").unwrap_err();
        let text = complaint("t.yaml", &error);
        assert!(text.starts_with("t.yaml: line 1: `levels` is empty"), "{text}");
        assert!(text.contains("\nt.yaml: line 2: `gateway` is missing"), "{text}");
    }
}
