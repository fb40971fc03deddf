//! From one tree to the next, as one node has to judge it.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::Xxh3;

use super::{Node, Place, Topology};
use crate::session::NodeName;

/// What a new tree takes away. Everything else may change: gateways, tags, new
/// nodes, the order of children, levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Nodes that are in it no more, in the old tree's order.
    pub removed: Vec<NodeName>,
    /// Nodes that stood below this one and are elsewhere now: sessions of theirs that
    /// are here could not come back down.
    pub severed: Vec<NodeName>,
}

impl Topology {
    /// What is taken away on the way from this tree to `new`, for node `here`; `None`
    /// if that would be `here` itself.
    pub fn change(&self, new: &Self, here: &NodeName) -> Option<Change> {
        new.node(here)?;
        let names = |nodes: Vec<&Node>| -> BTreeSet<NodeName> {
            nodes.into_iter().map(|node| node.name.clone()).collect()
        };
        let below = names(new.subtree(here));
        let removed: Vec<_> = self
            .nodes()
            .map(|node| &node.name)
            .filter(|name| new.node(name).is_none())
            .cloned()
            .collect();
        let severed = self
            .subtree(here)
            .into_iter()
            .map(|node| &node.name)
            .filter(|name| new.node(name).is_some() && !below.contains(*name))
            .cloned()
            .collect();
        Some(Change { removed, severed })
    }

    /// A short name for this very tree: two nodes that show the same have the same.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }
}

pub(super) fn digest(levels: &[String], places: &[Place]) -> String {
    let mut hash = Xxh3::new();
    for level in levels {
        hash.update(format!("{level:?}\n").as_bytes());
    }
    for place in places {
        hash.update(format!("{:?} {:?}\n", place.parent, place.node).as_bytes());
    }
    format!("{:016x}", hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &str) -> Topology {
        Topology::parse(&format!("levels: [a, b, c]\nroot: {nodes}\n")).unwrap()
    }

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    const OLD: &str = "{name: r, gateway: 'http://r', children: [\
        {name: m, gateway: 'http://m', children: [{name: e, gateway: 'http://e'}]},\
        {name: n, gateway: 'http://n'}]}";

    #[test]
    fn what_is_taken_away_depends_on_who_looks() {
        // `e` moves from `m` to `n`; `x` is new.
        let moved = "{name: r, gateway: 'http://r', children: [{name: m, gateway: 'http://m'},\
            {name: n, gateway: 'http://n', children: [{name: e, gateway: 'http://e'},\
            {name: x, gateway: 'http://x'}]}]}";
        let (old, new) = (tree(OLD), tree(moved));
        let none = Change::default();
        assert_eq!(old.change(&new, &name("r")), Some(none.clone()));
        assert_eq!(old.change(&new, &name("n")), Some(none.clone()));
        let severed = Change { severed: vec![name("e")], ..none.clone() };
        assert_eq!(old.change(&new, &name("m")), Some(severed));
        assert_eq!(old.change(&old, &name("m")), Some(none));
    }

    #[test]
    fn a_node_that_goes_is_removed_for_all_and_has_nothing_to_say_itself() {
        let new = tree(
            "{name: r, gateway: 'http://r', children: [\
            {name: m, gateway: 'http://m', children: [{name: e, gateway: 'http://e'}]}]}",
        );
        let old = tree(OLD);
        for here in ["r", "m", "e"] {
            let change = old.change(&new, &name(here)).unwrap();
            assert_eq!((change.removed, change.severed), (vec![name("n")], vec![]));
        }
        assert_eq!(old.change(&new, &name("n")), None);
    }

    #[test]
    fn a_digest_names_the_tree_and_not_its_text() {
        let old = tree(OLD);
        assert_eq!(old.digest(), tree(&OLD.replace("http://e'", "HTTP://E/'")).digest());
        for other in [
            OLD.replace("http://e", "http://f"),
            OLD.replace("name: e", "name: f"),
            OLD.replace("{name: e,", "{name: e, entry: false,"),
        ] {
            assert_ne!(old.digest(), tree(&other).digest(), "{other}");
        }
        let up = "{name: r, gateway: 'http://r', children: [{name: m, gateway: 'http://m'},\
            {name: e, gateway: 'http://e'}, {name: n, gateway: 'http://n'}]}";
        assert_ne!(old.digest(), tree(up).digest());
    }
}
