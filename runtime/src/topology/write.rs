//! From a tree back to its text.

use std::fmt::Write;

use super::{Node, Topology};
use crate::session::NodeName;

impl Topology {
    /// The tree without a node and all below it; `None` if it is the root, is not in it, or
    /// if no node were left that may create sessions.
    pub fn without(&self, name: &NodeName) -> Option<Self> {
        self.parent(name)?;
        let mut nodes: Vec<&Node> = self.nodes().collect();
        nodes.retain(|node| !self.in_subtree(name, &node.name));
        let text = write(self, &nodes);
        Self::parse(&text).ok()
    }

    /// The tree as YAML, in the form of `topology/examples/`; it reads as the same tree.
    pub fn to_yaml(&self) -> String {
        write(self, &self.nodes().collect::<Vec<_>>())
    }
}

/// Writes nodes in tree order; a node whose parent is left out has to be, too.
fn write(tree: &Topology, nodes: &[&Node]) -> String {
    let levels: Vec<String> = tree.levels().iter().map(|level| quoted(level)).collect();
    let mut text = format!("levels: [{}]\n\nroot:\n", levels.join(", "));
    for (index, node) in nodes.iter().enumerate() {
        let pad = "  ".repeat(node.depth * 2 + 1);
        let first = if node.depth == 0 { pad.clone() } else { format!("{}- ", &pad[2..]) };
        let _ = writeln!(text, "{first}name: {}\n{pad}gateway: {}", node.name, node.gateway);
        if let Some(internal) = &node.internal {
            let _ = writeln!(text, "{pad}internal: {internal}");
        }
        // Said, not left to the default: that changes when the last child goes.
        let _ = writeln!(text, "{pad}entry: {}", node.entry);
        if let Some((latitude, longitude)) = node.coordinates {
            let _ = writeln!(text, "{pad}coordinates: [{latitude}, {longitude}]");
        }
        if !node.tags.is_empty() {
            let tags: Vec<String> = node.tags.iter().map(|tag| quoted(tag)).collect();
            let _ = writeln!(text, "{pad}tags: [{}]", tags.join(", "));
        }
        if nodes.get(index + 1).is_some_and(|next| next.depth > node.depth) {
            let _ = writeln!(text, "{pad}children:");
        }
    }
    text
}

/// A scalar that reads as just this text: JSON's strings are YAML's.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off"]
            .contains(&text.to_ascii_lowercase().as_str());
    if word { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: &str = include_str!("../../../topology/examples/world.yaml");
    const ITALY: &str = include_str!("../../../topology/examples/italy.yaml");

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[test]
    fn what_is_written_reads_as_the_same_tree() {
        let odd = "levels: ['true', '5g']\nroot: {name: a, gateway: 'http://a', tags: \
            ['a: b', '', 'null', '#x', \"l\\nm\"], children: [{name: b, gateway: 'http://b'}]}\n";
        for text in [WORLD, ITALY, &odd.replace(" '',", "")] {
            let tree = Topology::parse(text).unwrap();
            assert_eq!(Topology::parse(&tree.to_yaml()), Ok(tree));
        }
    }

    #[test]
    fn a_node_goes_with_all_below_it() {
        let tree = Topology::parse(ITALY).unwrap();
        let smaller = tree.without(&name("navigli")).unwrap();
        let names: Vec<_> = smaller.nodes().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["italy", "milan", "brera", "rome", "trastevere"]);
        let smaller = tree.without(&name("rome")).unwrap();
        assert_eq!(smaller.nodes().count(), 4);
        // A node does not begin to create sessions because its last child goes.
        let childless = tree.without(&name("trastevere")).unwrap();
        assert!(!childless.node(&name("rome")).unwrap().entry);
        assert!(tree.without(&name("italy")).is_none());
        assert!(tree.without(&name("atlantis")).is_none());
        let line = Topology::parse(include_str!("../../../topology/examples/three-nodes.yaml"));
        assert!(line.unwrap().without(&name("edge")).is_none(), "the only entry node");
    }
}
