//! From the area files of the Java predecessor (`infrastructure.json`) to a topology.
//!
//! They look like this, with one area at the top:
//!
//! ```json
//! {"areaTypesIdentifiers": ["country", "city"],
//!  "hierarchy": [{"areaName": "italy",
//!                 "mainLocation": {"openfaas_gateway": "http://…", "redis_host": "…"},
//!                 "areas": [{"areaName": "milan", "mainLocation": {…}}]}]}
//! ```

use std::fmt::Write;

use serde::Deserialize;

use super::write::quoted;
use super::{Fault, Topology, TopologyError};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Infrastructure {
    area_types_identifiers: Vec<String>,
    hierarchy: Vec<Area>,
}

#[derive(Deserialize)]
struct Area {
    #[serde(rename = "areaName")]
    name: String,
    #[serde(default, rename = "mainLocation")]
    location: Location,
    #[serde(default)]
    areas: Vec<Area>,
}

/// Passwords and the address of the store are left where they are: a topology holds
/// no secrets, and every node has its own store.
#[derive(Default, Deserialize)]
struct Location {
    #[serde(rename = "openfaas_gateway")]
    gateway: Option<String>,
}

/// Writes the topology that an `infrastructure.json` describes. Names become lower
/// case, with hyphens for what node names do not have. Faults of the JSON have its
/// lines; an area that cannot become a node is named instead.
pub fn import(json: &str) -> Result<String, TopologyError> {
    let read: Infrastructure = serde_json::from_str(json).map_err(|error| {
        let line = error.line();
        TopologyError::one(Fault::new(
            line,
            format!("this is no infrastructure.json: {error}; see docs/operations.md for its form"),
        ))
    })?;
    let [root] = &read.hierarchy[..] else {
        let number = read.hierarchy.len();
        let why = format!("`hierarchy` has {number} areas; a tree has one at the top");
        return Err(TopologyError::one(Fault::new(0, why)));
    };
    let mut faults = Vec::new();
    let mut text =
        String::from("# Imported. Secrets and stores are given to each node by itself.\n");
    let levels: Vec<String> = read.area_types_identifiers.iter().map(|name| quoted(name)).collect();
    let _ = writeln!(text, "levels: [{}]\n\nroot:", levels.join(", "));
    write_area(root, 1, &mut text, &mut faults);
    if !faults.is_empty() {
        return Err(TopologyError { faults });
    }
    match Topology::parse(&text) {
        Ok(_) => Ok(text),
        // The lines are those of a text that nobody sees.
        Err(error) => Err(TopologyError {
            faults: error.faults.into_iter().map(|fault| Fault::new(0, fault.message)).collect(),
        }),
    }
}

fn write_area(area: &Area, depth: usize, text: &mut String, faults: &mut Vec<Fault>) {
    let Area { name, location, areas } = area;
    let pad = "  ".repeat(depth * 2 - 1);
    let first = if depth == 1 { pad.clone() } else { format!("{}- ", &pad[2..]) };
    let _ = writeln!(text, "{first}name: {}", node_name(name));
    match location.gateway.as_deref().map(str::trim) {
        Some(gateway) if !gateway.is_empty() => {
            let _ = writeln!(text, "{pad}gateway: {}", quoted(gateway));
        }
        _ => faults.push(Fault::new(
            0,
            format!("the area {name:?} has no `openfaas_gateway`; give it one"),
        )),
    }
    if !areas.is_empty() {
        let _ = writeln!(text, "{pad}children:");
        for area in areas {
            write_area(area, depth + 1, text, faults);
        }
    }
}

/// A node's name as near to the area's as may be.
fn node_name(area: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    area.trim().chars().map(plain).collect::<String>().trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::NodeName;

    const GIVEN: &str = r#"{
        "areaTypesIdentifiers": ["country", "city"],
        "hierarchy": [{
            "areaName": "Italy North",
            "mainLocation": {
                "openfaas_gateway": "http://10.0.0.1:31112", "openfaas_password": "hunter2",
                "redis_host": "redis", "redis_port": 6379, "redis_password": "hunter3"
            },
            "areas": [
                {"areaName": "milan001", "areas": [],
                 "mainLocation": {"openfaas_gateway": "http://10.0.0.2:31112"}},
                {"areaName": "turin_001", "areas": [],
                 "mainLocation": {"openfaas_gateway": "http://10.0.0.3:31112/"}}
            ]
        }]
    }"#;

    #[test]
    fn g8_areas_become_nodes_and_secrets_stay_behind() {
        let text = import(GIVEN).unwrap();
        let tree = Topology::parse(&text).unwrap();
        let names: Vec<_> = tree.nodes().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["italy-north", "milan001", "turin-001"]);
        assert_eq!(tree.levels(), ["country", "city"]);
        let turin = tree.node(&NodeName::new("turin-001").unwrap()).unwrap();
        assert_eq!((turin.gateway.as_str(), turin.entry), ("http://10.0.0.3:31112", true));
        assert!(!text.contains("hunter"), "{text}");
    }

    #[track_caller]
    fn refuses(json: &str, line: usize, what: &str) {
        let error = import(json).unwrap_err();
        assert_eq!(error.faults[0].line, line, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }

    #[test]
    fn what_cannot_become_a_tree_is_named() {
        refuses("{\n  \"hierarchy\": 3\n}", 2, "no infrastructure.json");
        refuses(r#"{"areaTypesIdentifiers": ["a"], "hierarchy": []}"#, 0, "has 0 areas");
        refuses(&GIVEN.replace("http://10.0.0.2:31112", ""), 0, "\"milan001\" has no");
        refuses(&GIVEN.replace("10.0.0.2", "10.0.0.1"), 0, "another node's URL");
        refuses(&GIVEN.replace("\"milan001\"", "\"Turin 001\""), 0, "`turin-001` was given");
        refuses(&GIVEN.replace(", \"city\"", ""), 0, "only 1 levels");
        refuses(&GIVEN.replace("milan001", "--"), 0, "`name` is missing");
    }
}
