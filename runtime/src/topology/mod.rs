//! The tree of nodes: its file format and what can be asked of it.
//!
//! Pure, but for [`Topology::load`] reading a file.
//!
//! ```
//! let tree = funicular::topology::Topology::parse("
//! levels: [country, city]
//! root:
//!   name: italy
//!   gateway: http://127.0.0.1:8081
//!   children:
//!     - name: milan
//!       gateway: http://127.0.0.1:8082
//! ")?;
//! let names: Vec<_> = tree.nodes().map(|node| node.name.as_str()).collect();
//! assert_eq!(names, ["italy", "milan"]);
//! # Ok::<_, funicular::topology::TopologyError>(())
//! ```

mod address;
mod change;
mod import;
mod parse;
#[cfg(test)]
mod tests;
mod write;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use change::Change;
pub use import::import;

use crate::session::NodeName;

/// The whole tree. Cheap to clone; never changes.
#[derive(Clone, PartialEq)]
pub struct Topology {
    inner: Arc<Inner>,
}

#[derive(PartialEq)]
struct Inner {
    levels: Vec<String>,
    /// In tree order, so that a subtree is one slice.
    places: Vec<Place>,
    by_name: BTreeMap<NodeName, usize>,
    digest: String,
}

/// A node and where it stands in tree order.
#[derive(PartialEq)]
struct Place {
    node: Node,
    parent: Option<usize>,
    /// One past the last node of its subtree.
    end: usize,
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name, as `LOCATION_ID` says it.
    pub name: NodeName,
    /// The public URL of its gateway, the one redirects use; no slash at the end.
    pub gateway: String,
    /// The URL other nodes use, if it differs; no slash at the end.
    pub internal: Option<String>,
    /// Whether sessions may be created here. Leaves by default.
    pub entry: bool,
    /// Latitude and longitude in degrees.
    pub coordinates: Option<(f64, f64)>,
    /// Free words, in the order of the file.
    pub tags: Vec<String>,
    /// The name of its level, as `levels` says it.
    pub level: String,
    /// How far from the root, which has 0.
    pub depth: usize,
}

impl Node {
    /// The URL under which other nodes call it: `internal`, else `gateway`.
    pub fn peer_url(&self) -> &str {
        self.internal.as_deref().unwrap_or(&self.gateway)
    }
}

impl Topology {
    /// Reads a tree from its YAML text; reports all faults it finds, with lines.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        parse::parse(text)
    }

    /// Reads a tree from a file, or from the text itself: what holds a line break
    /// or starts with `{` is the text.
    pub fn load(path_or_text: &str) -> Result<Self, TopologyError> {
        let Some(path) = Self::as_path(path_or_text) else { return Self::parse(path_or_text) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            TopologyError::one(Fault::new(
                0,
                format!("the topology {path:?} cannot be read: {error}; name an existing file"),
            ))
        })?;
        Self::parse(&text)
    }

    /// The path, if it is one: what [`Topology::load`] reads is a path or the text.
    pub fn as_path(path_or_text: &str) -> Option<&str> {
        let text = path_or_text.contains('\n') || path_or_text.trim_start().starts_with('{');
        (!text).then(|| path_or_text.trim())
    }

    /// The node of this name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.place(name).map(|place| &place.node)
    }

    /// All nodes in tree order: the root first, then depth first, children in
    /// the order of the file.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.inner.places.iter().map(|place| &place.node)
    }

    /// The node everything hangs from.
    pub fn root(&self) -> &Node {
        // A tree without a root is not a `Topology`: see `parse`.
        &self.inner.places[0].node
    }

    /// The node above; the root has none.
    pub fn parent(&self, name: &NodeName) -> Option<&Node> {
        let parent = self.place(name)?.parent?;
        Some(&self.inner.places[parent].node)
    }

    /// The nodes right below, in the order of the file.
    pub fn children(&self, name: &NodeName) -> Vec<&Node> {
        let Some(&index) = self.inner.by_name.get(name) else { return Vec::new() };
        let mut children = Vec::new();
        let mut next = index + 1;
        while next < self.inner.places[index].end {
            children.push(&self.inner.places[next].node);
            next = self.inner.places[next].end;
        }
        children
    }

    /// The nodes above, the parent first, up to the root.
    pub fn ancestors(&self, name: &NodeName) -> Vec<&Node> {
        let mut above = self.place(name).and_then(|place| place.parent);
        let mut ancestors = Vec::new();
        while let Some(index) = above {
            ancestors.push(&self.inner.places[index].node);
            above = self.inner.places[index].parent;
        }
        ancestors
    }

    /// The node and all below it, in tree order; empty for an unknown name.
    pub fn subtree(&self, name: &NodeName) -> Vec<&Node> {
        let Some(&index) = self.inner.by_name.get(name) else { return Vec::new() };
        let end = self.inner.places[index].end;
        self.inner.places[index..end].iter().map(|place| &place.node).collect()
    }

    /// Whether `node` is `of` or stands below it. An unknown name is in no subtree.
    pub fn in_subtree(&self, of: &NodeName, node: &NodeName) -> bool {
        let by_name = &self.inner.by_name;
        let (Some(&of), Some(&node)) = (by_name.get(of), by_name.get(node)) else { return false };
        of <= node && node < self.inner.places[of].end
    }

    /// The lowest node that has both in its subtree (it may be one of them);
    /// `None` for an unknown name.
    pub fn common_ancestor(&self, a: &NodeName, b: &NodeName) -> Option<&Node> {
        let mut index = *self.inner.by_name.get(a)?;
        let other = *self.inner.by_name.get(b)?;
        while !(index <= other && other < self.inner.places[index].end) {
            index = self.inner.places[index].parent?;
        }
        Some(&self.inner.places[index].node)
    }

    /// The way along the tree from one node to another, both included; `None` for an
    /// unknown name.
    pub fn path(&self, from: &NodeName, to: &NodeName) -> Option<Vec<&Node>> {
        let meet = self.common_ancestor(from, to)?;
        let up_to = |end: &NodeName| {
            let above = self.ancestors(end).into_iter();
            let way = self.node(end).into_iter().chain(above);
            way.take_while(|node| node.name != meet.name).collect::<Vec<_>>()
        };
        let mut path = up_to(from);
        path.push(meet);
        path.extend(up_to(to).into_iter().rev());
        Some(path)
    }

    /// The nodes of a level, in tree order; empty for an unknown level.
    pub fn on_level(&self, level: &str) -> Vec<&Node> {
        self.nodes().filter(|node| node.level == level).collect()
    }

    /// The names of the levels, from the root down.
    pub fn levels(&self) -> &[String] {
        &self.inner.levels
    }

    /// The nodes that may create sessions, in tree order; at least one.
    pub fn entry_nodes(&self) -> Vec<&Node> {
        self.nodes().filter(|node| node.entry).collect()
    }

    fn place(&self, name: &NodeName) -> Option<&Place> {
        self.inner.by_name.get(name).map(|&index| &self.inner.places[index])
    }

    /// Puts a checked tree together. `places` are in tree order, with parents
    /// set, and not empty.
    fn assemble(levels: Vec<String>, mut places: Vec<Place>) -> Self {
        // Children stand after their parents: from the back, every subtree's
        // end is known before its parent needs it.
        for index in (1..places.len()).rev() {
            let end = places[index].end;
            if let Some(parent) = places[index].parent {
                places[parent].end = places[parent].end.max(end);
            }
        }
        let by_name = places
            .iter()
            .enumerate()
            .map(|(index, place)| (place.node.name.clone(), index))
            .collect();
        let digest = change::digest(&levels, &places);
        Self { inner: Arc::new(Inner { levels, places, by_name, digest }) }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topology of {} nodes below {}", self.inner.places.len(), self.root().name)
    }
}

/// One thing wrong with a topology.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line, from 1; 0 if no line is to blame (a file that cannot be read).
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl Fault {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

/// Everything wrong with a topology; shown one line a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyError {
    /// The faults, by line; at least one.
    pub faults: Vec<Fault>,
}

impl TopologyError {
    fn one(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TopologyError {}
