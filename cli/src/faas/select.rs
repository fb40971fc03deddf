//! Which nodes a command is for.

use std::collections::BTreeSet;

use funicular::session::NodeName;
use funicular::topology::{Node, Topology};

use crate::exit::Failure;
use crate::options;

/// Nodes by level and area. Several of a kind add up.
#[derive(clap::Args)]
pub(crate) struct Select {
    /// Nodes of this level only
    #[arg(long, value_name = "L")]
    level: Vec<String>,

    /// Nodes of this area only: the node and all below it
    #[arg(long, value_name = "A")]
    area: Vec<NodeName>,

    /// Without this area: the node and all below it
    #[arg(long, value_name = "B")]
    except: Vec<NodeName>,
}

impl Select {
    /// The nodes in tree order; none left is an error.
    pub(crate) fn of<'a>(&self, topology: &'a Topology) -> Result<Vec<&'a Node>, Failure> {
        for level in &self.level {
            if !topology.levels().contains(level) {
                let known = topology.levels().join(", ");
                return Err(Failure::Usage(format!("`{level}` is no level; there are {known}")));
            }
        }
        let below = |areas: &[NodeName]| -> Result<BTreeSet<&'a NodeName>, Failure> {
            let mut names = BTreeSet::new();
            for area in areas {
                let area = options::node(topology, area)?;
                names.extend(topology.subtree(&area.name).into_iter().map(|node| &node.name));
            }
            Ok(names)
        };
        let (areas, except) = (below(&self.area)?, below(&self.except)?);
        let nodes: Vec<_> = topology
            .nodes()
            .filter(|node| self.level.is_empty() || self.level.contains(&node.level))
            .filter(|node| self.area.is_empty() || areas.contains(&node.name))
            .filter(|node| !except.contains(&node.name))
            .collect();
        if nodes.is_empty() {
            let why = "no node is left by --level, --area and --except";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(level: &[&str], area: &[&str], except: &[&str]) -> Result<Vec<String>, String> {
        let text = include_str!("../../../topology/examples/italy.yaml");
        let topology = Topology::parse(text).unwrap();
        let names = |names: &[&str]| names.iter().map(|n| NodeName::new(n).unwrap()).collect();
        let select = Select {
            level: level.iter().map(|level| (*level).to_owned()).collect(),
            area: names(area),
            except: names(except),
        };
        let nodes = select.of(&topology).map_err(|failure| failure.to_string())?;
        Ok(nodes.into_iter().map(|node| node.name.to_string()).collect())
    }

    #[test]
    fn levels_areas_and_exceptions_narrow_down() {
        assert_eq!(selected(&[], &[], &[]).unwrap().len(), 6);
        assert_eq!(selected(&["city"], &[], &[]).unwrap(), ["milan", "rome"]);
        assert_eq!(selected(&["city", "country"], &[], &["rome"]).unwrap(), ["italy", "milan"]);
        assert_eq!(selected(&[], &["milan"], &[]).unwrap(), ["milan", "navigli", "brera"]);
        assert_eq!(
            selected(&["district"], &["milan", "rome"], &["brera"]).unwrap(),
            ["navigli", "trastevere"]
        );
        assert_eq!(selected(&["district"], &["italy"], &["milan"]).unwrap(), ["trastevere"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(selected(&["planet"], &[], &[]).unwrap_err().contains("country, city, district"));
        assert!(selected(&[], &["atlantis"], &[]).unwrap_err().contains("`atlantis`"));
        assert!(selected(&[], &[], &["italy"]).unwrap_err().contains("no node is left"));
    }
}
