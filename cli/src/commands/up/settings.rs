//! `--set [NODE:]NAME=VALUE`: settings of the functions under `up`, as a container's
//! environment would have them.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Result;
use funicular::config::{ConfigError, VARIABLES, node_config};
use funicular::node::NodeConfig;
use funicular::session::{FunctionName, NodeName};
use funicular::topology::Topology;

use crate::exit::Failure;
use crate::options;

/// What `up` decides itself, and what it has one of for all.
const UPS_OWN: [&str; 18] = [
    "LOCATION_ID",
    "FUNICULAR_FUNCTION",
    "FUNICULAR_TOPOLOGY",
    "FUNICULAR_STORE",
    "FUNICULAR_STORE_PREFIX",
    "FUNICULAR_SECRETS",
    "FUNICULAR_STANDALONE",
    "FUNICULAR_LOG",
    "FUNICULAR_LOG_FORMAT",
    "port",
    "address",
    "metrics_port",
    "reload_interval",
    "healthcheck_interval",
    "write_timeout",
    "store_timeout",
    "window_entries",
    "window_age",
];

/// One setting, of one node or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    node: Option<NodeName>,
    name: String,
    value: String,
}

impl FromStr for Set {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (left, value) = text
            .split_once('=')
            .ok_or("give NAME=VALUE or NODE:NAME=VALUE, such as navigli:max_running=4")?;
        let (node, name) = match left.split_once(':') {
            Some((node, name)) => {
                (Some(NodeName::new(node).map_err(|bad| format!("{node}: {bad}"))?), name)
            }
            None => (None, left),
        };
        if !VARIABLES.iter().any(|(known, _)| *known == name) {
            return Err(format!("{name:?} is no setting; docs/configuration.md has them all"));
        }
        if UPS_OWN.contains(&name) {
            return Err(format!("{name} is not yours to set here: `up` does"));
        }
        Ok(Self { node, name: name.to_owned(), value: value.to_owned() })
    }
}

/// Whether the tree has all these nodes, and the values read.
pub(super) fn check(set: &[Set], topology: &Topology) -> Result<()> {
    for node in set.iter().filter_map(|one| one.node.as_ref()) {
        options::node(topology, node)?;
    }
    let any = FunctionName::new("any")?;
    for node in topology.nodes() {
        config(set, &node.name, &any)?;
    }
    Ok(())
}

/// What is set at a node; what names it goes before what names none.
pub(super) fn at(set: &[Set], node: &NodeName) -> BTreeMap<String, String> {
    let of_all = set.iter().filter(|one| one.node.is_none());
    let its_own = set.iter().filter(|one| one.node.as_ref() == Some(node));
    of_all.chain(its_own).map(|one| (one.name.clone(), one.value.clone())).collect()
}

/// The settings of a function at a node.
pub(super) fn config(set: &[Set], node: &NodeName, function: &FunctionName) -> Result<NodeConfig> {
    let mut all = at(set, node);
    all.insert("LOCATION_ID".to_owned(), node.to_string());
    all.insert("OPENFAAS_NAME".to_owned(), function.to_string());
    node_config(&all).map_err(|ConfigError(why)| Failure::Usage(format!("--set: {why}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Set {
        text.parse().unwrap()
    }

    #[test]
    fn a_nodes_own_goes_before_what_is_for_all() {
        let all = [set("navigli:max_running=4"), set("max_running=9"), set("session_ttl=1h")];
        let names = ["navigli", "milan"].map(|name| NodeName::new(name).unwrap());
        let cart = FunctionName::new("cart").unwrap();
        let running = names.map(|name| config(&all, &name, &cart).unwrap().max_running);
        assert_eq!(running, [4, 9]);
    }

    #[test]
    fn what_is_no_setting_or_not_ones_own_is_refused_and_says_what_to_do() {
        for (bad, says) in [
            ("max_running", "give NAME=VALUE"),
            ("max_runing=4", "no setting"),
            ("port=80", "`up` does"),
            ("Na vigli:max_running=4", "Na vigli"),
        ] {
            let error = bad.parse::<Set>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
        let text = "levels: [l]\nroot:\n  name: a\n  gateway: http://127.0.0.1:1\n";
        let topology = Topology::parse(text).unwrap();
        let error = check(&[set("b:max_running=4")], &topology).unwrap_err();
        assert!(error.to_string().contains("not in the tree"), "{error}");
        let error = check(&[set("max_running=many")], &topology).unwrap_err();
        assert!(error.to_string().contains("max_running"), "{error}");
    }
}
