//! What earlier runs did, in a file, so that the next one does only what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use funicular::session::NodeName;

use super::Job;
use crate::exit::Failure;

/// For each node, a mark of what was done there last.
pub(crate) struct Done {
    path: Option<PathBuf>,
    marks: BTreeMap<NodeName, String>,
}

impl Done {
    /// Nothing was done, and nothing is kept.
    pub(crate) fn nothing() -> Self {
        Self { path: None, marks: BTreeMap::new() }
    }

    /// Reads the file, if there is one; with `again` it counts for nothing.
    pub(crate) fn open(path: PathBuf, again: bool) -> Result<Self> {
        let marks = match fs::read(&path) {
            Ok(_) if again => BTreeMap::new(),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let path = path.display();
                Failure::Data(format!("{path} does not read ({error}); remove it"))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        Ok(Self { path: Some(path), marks })
    }

    /// Whether just this was done at the node.
    pub(super) fn has(&self, job: &Job) -> bool {
        self.marks.get(&job.node) == Some(&job.mark)
    }

    /// It is done now. Written as a whole or not at all.
    pub(super) fn add(&mut self, job: &Job) -> Result<()> {
        self.marks.insert(job.node.clone(), job.mark.clone());
        let Some(path) = &self.path else { return Ok(()) };
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec_pretty(&self.marks)?)?;
            fs::rename(&new, path)
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_known_to_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deploy/cart.json");
        let job = |mark: &str| Job {
            node: NodeName::new("milan").unwrap(),
            calls: Vec::new(),
            mark: mark.to_owned(),
        };
        let mut done = Done::open(path.clone(), false).unwrap();
        assert!(!done.has(&job("one")));
        done.add(&job("one")).unwrap();
        let next = Done::open(path.clone(), false).unwrap();
        assert!(next.has(&job("one")) && !next.has(&job("two")));
        assert!(!Done::open(path.clone(), true).unwrap().has(&job("one")));
        fs::write(&path, "{").unwrap();
        assert!(Done::open(path, false).is_err());
    }
}
