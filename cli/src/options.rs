//! What several commands take: which tree, which secrets, which function.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use funicular::http::signature::{Keys, OPERATOR_KEY};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};

use crate::client::{self, Client};
use crate::exit::Failure;

/// Where a tree of one's own is kept, beside its secrets.
const OWN: &str = ".funicular/topology.yaml";
/// What there is without one.
const EXAMPLE: &str = "topology/examples/italy.yaml";

/// Which tree.
#[derive(Args)]
pub(crate) struct Tree {
    // As help, not as a comment: the help is plain text.
    #[doc = "The topology: a file or the text itself [default: $FUNICULAR_TOPOLOGY, else \
             .funicular/topology.yaml, else topology/examples/italy.yaml]"]
    #[arg(long, value_name = "F")]
    topology: Option<String>,
}

impl Tree {
    /// Reads it.
    pub(crate) fn load(&self) -> Result<Topology> {
        load(&source(self.topology.as_deref()))
    }

    /// Reads it, and gives its text too.
    pub(crate) fn text(&self) -> Result<(Topology, String)> {
        let source = source(self.topology.as_deref());
        let topology = load(&source)?;
        let text = match Topology::as_path(&source) {
            Some(path) => std::fs::read_to_string(path)?,
            None => source,
        };
        Ok((topology, text))
    }
}

/// Reads a topology; the error says which.
pub(crate) fn load(source: &str) -> Result<Topology> {
    Topology::load(source).with_context(|| format!("the topology {} is not right", shown(source)))
}

/// Which topology is meant: the one named, else the environment's, else the first
/// of the usual files.
pub(crate) fn source(named: Option<&str>) -> String {
    let environment = std::env::var("FUNICULAR_TOPOLOGY").ok();
    choose(named, environment.as_deref(), Path::new(OWN).exists()).to_owned()
}

fn choose<'a>(named: Option<&'a str>, environment: Option<&'a str>, own: bool) -> &'a str {
    named.or(environment.filter(|text| !text.trim().is_empty())).unwrap_or(if own {
        OWN
    } else {
        EXAMPLE
    })
}

/// A topology's name in messages.
pub(crate) fn shown(source: &str) -> &str {
    if source.contains('\n') { "in $FUNICULAR_TOPOLOGY" } else { source }
}

/// A tree and the right to call it.
#[derive(Args)]
pub(crate) struct Access {
    #[command(flatten)]
    tree: Tree,

    /// The directory with the secret `session-operator-key`
    #[arg(long, value_name = "DIR", default_value = ".funicular")]
    secrets: PathBuf,
}

impl Access {
    /// The topology's file.
    pub(crate) fn topology_file(&self) -> Result<PathBuf, Failure> {
        let source = source(self.tree.topology.as_deref());
        let path = Topology::as_path(&source).map(PathBuf::from);
        path.ok_or_else(|| Failure::Usage("name the topology's file with --topology".to_owned()))
    }

    /// The tree alone, for what calls nobody.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The directory of the secrets.
    pub(crate) fn secrets(&self) -> &Path {
        &self.secrets
    }

    /// Reads both.
    pub(crate) fn open(&self) -> Result<(Topology, Client)> {
        let topology = self.tree.load()?;
        Ok((topology, client::open(self.keys()?)?))
    }

    /// The keys that an operator calls with.
    pub(crate) fn keys(&self) -> Result<Keys> {
        let keys = Keys::from_dir(&self.secrets)?;
        if keys.operator.is_none() {
            let why = format!(
                "{} holds no `{OPERATOR_KEY}`; calls are signed with it, so put it there or \
                 name another directory with --secrets",
                self.secrets.display()
            );
            return Err(Failure::Data(why).into());
        }
        Ok(keys)
    }
}

/// Which function.
#[derive(Args)]
pub(crate) struct OneFunction {
    /// The function whose sessions are meant
    #[arg(long, value_name = "F")]
    pub(crate) function: FunctionName,
}

/// A node that is in the tree.
pub(crate) fn node<'a>(topology: &'a Topology, name: &NodeName) -> Result<&'a Node, Failure> {
    topology.node(name).ok_or_else(|| {
        let known: Vec<&str> = topology.nodes().take(20).map(|node| node.name.as_str()).collect();
        Failure::Usage(format!("`{name}` is not in the tree; it has {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_goes_before_the_environment_and_the_usual_files() {
        assert_eq!(choose(Some("a"), Some("b"), true), "a");
        assert_eq!(choose(None, Some("b"), true), "b");
        assert_eq!(choose(None, Some(" "), true), OWN);
        assert_eq!(choose(None, None, false), EXAMPLE);
    }
}
