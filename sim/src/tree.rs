//! The tree: where nodes stand, how far they are from each other, how much they can do.

use funicular::session::{InvalidId, NodeName};
use funicular::topology::{Node, Topology};

use crate::settings::Settings;

/// A node's number: its place in tree order, from 0, the root.
pub type Index = u32;

/// Kilometres that light in a fibre goes in a millisecond, with the detours that cables take.
const KILOMETRES_A_MS: f64 = 200.0 / 1.5;
/// A way between two nodes takes no less, in milliseconds, there and back.
const LEAST_MS: f64 = 0.5;

/// One node.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub name: NodeName,
    /// The node above; the root has none.
    pub parent: Option<Index>,
    /// How far from the root.
    pub depth: u32,
    /// One past the last node of its subtree.
    pub end: Index,
    /// Sessions may be created here.
    pub entry: bool,
    /// To the node above and back, in microseconds.
    pub rtt_up: u64,
    /// To the root and back, in microseconds.
    pub rtt_root: u64,
    /// Requests that it can run at once; infinite: as many as come.
    pub servers: f64,
    /// Bytes that its store holds; infinite: any.
    pub memory: f64,
}

/// All nodes, in tree order.
#[derive(Debug, Clone)]
pub struct Tree {
    places: Vec<Place>,
    entries: Vec<Index>,
}

/// No such tree can be made; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongTree(pub String);

impl From<InvalidId> for WrongTree {
    fn from(error: InvalidId) -> Self {
        Self(error.to_string())
    }
}

/// A node before it is known what hangs below it.
struct Sketch {
    name: NodeName,
    parent: Option<Index>,
    entry: Option<bool>,
    coordinates: Option<(f64, f64)>,
}

impl Tree {
    /// A tree of exactly so many nodes on so many levels, each as much wider than the one
    /// above.
    pub fn generated(nodes: u32, levels: u32, settings: &Settings) -> Result<Self, WrongTree> {
        if !(2..=8).contains(&levels) {
            return Err(WrongTree("a tree has 2 to 8 levels".to_owned()));
        }
        if nodes < 1 << (levels - 1) || nodes > 1_000_000 {
            let least = 1 << (levels - 1);
            let why = format!("a tree of {levels} levels has {least} to 1000000 nodes");
            return Err(WrongTree(why));
        }
        let wider = f64::from(nodes).powf(1.0 / f64::from(levels - 1));
        let mut widths: Vec<u32> =
            (0..levels - 1).map(|level| wider.powi(level as i32).round() as u32).collect();
        let above: u32 = widths.iter().sum();
        if above >= nodes {
            return Err(WrongTree(format!("{nodes} nodes are too few for {levels} levels")));
        }
        widths.push(nodes - above);
        let mut sketches = Vec::new();
        branch(&mut sketches, &widths, 0, 0, None)?;
        Ok(Self::assemble(&sketches, settings))
    }

    /// A tree as it is. Where nodes have coordinates, they tell how far apart they are.
    pub fn of(topology: &Topology, settings: &Settings) -> Result<Self, WrongTree> {
        let numbers: std::collections::BTreeMap<&NodeName, Index> =
            topology.nodes().zip(0..).map(|(node, number)| (&node.name, number)).collect();
        let sketch = |node: &Node| Sketch {
            name: node.name.clone(),
            parent: topology.parent(&node.name).and_then(|node| numbers.get(&node.name)).copied(),
            entry: Some(node.entry),
            coordinates: node.coordinates,
        };
        let tree = Self::assemble(&topology.nodes().map(sketch).collect::<Vec<_>>(), settings);
        if tree.len() < 2 {
            return Err(WrongTree("a tree of one node has nothing to decide".to_owned()));
        }
        Ok(tree)
    }

    fn assemble(sketches: &[Sketch], settings: &Settings) -> Self {
        let count = sketches.len();
        let mut ends: Vec<Index> = (1..=count as Index).collect();
        let mut heights = vec![0_u32; count];
        for index in (1..count).rev() {
            if let Some(parent) = sketches[index].parent {
                let parent = parent as usize;
                ends[parent] = ends[parent].max(ends[index]);
                heights[parent] = heights[parent].max(heights[index] + 1);
            }
        }
        let mut places: Vec<Place> = Vec::with_capacity(count);
        for (index, sketch) in sketches.iter().enumerate() {
            let height = heights[index];
            let above = sketch.parent.map(|parent| &places[parent as usize]);
            let rtt_up = sketch.parent.map_or(0, |parent| {
                let there = sketches[parent as usize].coordinates;
                let ms = match sketch.coordinates.zip(there) {
                    Some((here, there)) => {
                        LEAST_MS + 2.0 * kilometres(here, there) / KILOMETRES_A_MS
                    }
                    None if parent == 0 => settings.root_ms,
                    None => settings.hop_ms * 2_f64.powi(height as i32),
                };
                (ms * 1000.0).round() as u64
            });
            let times = settings.widening.powi(height as i32);
            let root = sketch.parent.is_none();
            places.push(Place {
                name: sketch.name.clone(),
                parent: sketch.parent,
                depth: above.map_or(0, |above| above.depth + 1),
                end: ends[index],
                entry: sketch.entry.unwrap_or(height == 0),
                rtt_up,
                rtt_root: above.map_or(0, |above| above.rtt_root) + rtt_up,
                servers: if root { f64::INFINITY } else { settings.edge_servers * times },
                memory: if root { f64::INFINITY } else { settings.edge_memory * times },
            });
        }
        let entry = |(index, place): (usize, &Place)| place.entry.then_some(index as Index);
        let entries = places.iter().enumerate().filter_map(entry).collect();
        Self { places, entries }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Never: a tree has a root.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A node.
    pub fn at(&self, index: Index) -> &Place {
        &self.places[index as usize]
    }

    /// The nodes that may create sessions.
    pub fn entries(&self) -> &[Index] {
        &self.entries
    }

    /// The node of this name.
    pub fn named(&self, name: &str) -> Option<Index> {
        let at = self.places.iter().position(|place| place.name.as_str() == name)?;
        Some(at as Index)
    }

    /// Whether `index` is `of` or stands below it.
    pub fn in_subtree(&self, of: Index, index: Index) -> bool {
        of <= index && index < self.at(of).end
    }

    /// The nodes above, the parent first.
    pub fn ancestors(&self, index: Index) -> impl Iterator<Item = Index> {
        std::iter::successors(self.at(index).parent, |above| self.at(*above).parent)
    }

    /// The node below the root that `index` hangs from; the root itself for the root.
    pub fn region(&self, index: Index) -> Index {
        let mut region = index;
        while let Some(above) = self.at(region).parent {
            if above == 0 {
                break;
            }
            region = above;
        }
        region
    }

    /// The lowest node that has both in its subtree.
    pub fn meet(&self, a: Index, b: Index) -> Index {
        let mut meet = a;
        while !self.in_subtree(meet, b) {
            // The root has all below it.
            meet = self.at(meet).parent.unwrap_or(0);
        }
        meet
    }

    /// From one node to another along the tree and back, in microseconds, and how many links
    /// that are one way.
    pub fn way(&self, a: Index, b: Index) -> (u64, u32) {
        let meet = self.at(self.meet(a, b));
        let (a, b) = (self.at(a), self.at(b));
        (a.rtt_root + b.rtt_root - 2 * meet.rtt_root, a.depth + b.depth - 2 * meet.depth)
    }
}

/// The subtree of the `number`th node of a level, in tree order.
fn branch(
    into: &mut Vec<Sketch>,
    widths: &[u32],
    level: usize,
    number: u32,
    parent: Option<Index>,
) -> Result<(), WrongTree> {
    let here = into.len() as Index;
    let name = match (widths.len() - level, level) {
        (_, 0) => "root".to_owned(),
        (1, _) => format!("edge-{number}"),
        (2, _) => format!("city-{number}"),
        (3, _) => format!("region-{number}"),
        _ => format!("level{level}-{number}"),
    };
    let name = NodeName::new(name)?;
    into.push(Sketch { name, parent, entry: None, coordinates: None });
    if let Some(below) = widths.get(level + 1) {
        // Shared out as evenly as it goes.
        let first = |number: u32| {
            let before = u64::from(number) * u64::from(*below);
            before.div_ceil(u64::from(widths[level])) as u32
        };
        for child in first(number)..first(number + 1) {
            branch(into, widths, level + 1, child, Some(here))?;
        }
    }
    Ok(())
}

/// The great circle between two places in degrees.
fn kilometres((a_lat, a_long): (f64, f64), (b_lat, b_long): (f64, f64)) -> f64 {
    const EARTH: f64 = 6371.0;
    let (lat, long) = ((b_lat - a_lat).to_radians(), (b_long - a_long).to_radians());
    let chord = (lat / 2.0).sin().powi(2)
        + a_lat.to_radians().cos() * b_lat.to_radians().cos() * (long / 2.0).sin().powi(2);
    2.0 * EARTH * chord.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_as_many_nodes_and_levels_as_were_asked_for() {
        for (nodes, levels) in [(2, 2), (200, 4), (5000, 4), (777, 3), (40, 2)] {
            let tree = Tree::generated(nodes, levels, &Settings::default()).unwrap();
            assert_eq!(tree.len(), nodes as usize);
            let depth = (0..nodes).map(|index| tree.at(index).depth).max().unwrap();
            assert_eq!(depth + 1, levels);
            assert!(tree.entries().iter().all(|entry| tree.at(*entry).depth + 1 == levels));
            assert_eq!(tree.at(0).end, nodes);
        }
        assert!(Tree::generated(3, 4, &Settings::default()).is_err());
        assert!(Tree::generated(100, 1, &Settings::default()).is_err());
    }

    #[test]
    fn ways_go_along_the_tree() {
        let tree = Tree::generated(200, 4, &Settings::default()).unwrap();
        let [first, .., last] = tree.entries() else { panic!("there are edges") };
        assert_eq!(tree.way(*first, *first), (0, 0));
        assert_eq!(tree.way(*first, 0), (64_000, 3));
        assert_eq!(tree.way(*first, *last), (128_000, 6));
        let city = tree.at(*first).parent.unwrap();
        assert_eq!(tree.way(*first, city), (8_000, 1));
        assert_eq!(tree.ancestors(*first).last(), Some(0));
        assert_eq!(tree.at(tree.region(*last)).depth, 1);
    }

    #[test]
    fn coordinates_tell_how_far_nodes_are_apart() {
        // Milan and Rome, about 477 km.
        let far = kilometres((45.46, 9.19), (41.89, 12.48));
        assert!((far - 477.0).abs() < 5.0, "{far}");
        let text = "
levels: [country, city]
root:
  name: italy
  gateway: http://127.0.0.1:8081
  coordinates: [41.89, 12.48]
  children:
    - {name: milan, gateway: 'http://127.0.0.1:8082', coordinates: [45.46, 9.19]}
    - {name: rome, gateway: 'http://127.0.0.1:8083'}
";
        let tree = Tree::of(&Topology::parse(text).unwrap(), &Settings::default()).unwrap();
        assert!((7_000..9_000).contains(&tree.at(1).rtt_up), "{}", tree.at(1).rtt_up);
        assert_eq!(tree.at(2).rtt_up, 40_000);
        assert_eq!(tree.named("rome"), Some(2));
        assert_eq!(tree.entries(), [1, 2]);
    }
}
