//! A store that may forget what it was not asked to sync.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::session::{Nonce, Slot};

/// The ids of the requests that took effect, in order: a session's data, and its
/// deduplication window.
pub type Data = Vec<u8>;

/// What a store knows of one session key.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Known {
    /// What the protocol keeps.
    pub slot: Slot,
    /// What the session holds.
    pub data: Data,
    /// What arrived for open pulls.
    pub stages: BTreeMap<Nonce, Data>,
}

/// What a store knows of all keys at one moment.
pub type Moment = Vec<Arc<Known>>;

/// A store: what it answers with, and what a crash may leave of it instead.
///
/// What it was told since its last sync is a history of which a crash takes any
/// suffix; as to what may come of it, the order of the rest does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    now: Moment,
    instead: BTreeSet<Moment>,
}

impl Store {
    /// What the store answers with.
    pub fn known(&self, key: usize) -> &Known {
        &self.now[key]
    }

    /// Of so many session keys, nothing.
    pub fn new(keys: usize) -> Self {
        Self { now: vec![Arc::default(); keys], instead: BTreeSet::new() }
    }

    /// How many session keys there are.
    pub fn keys(&self) -> usize {
        self.now.len()
    }

    /// How many different moments a crash may leave, this one included.
    pub fn moments(&self) -> usize {
        self.instead.len() + 1
    }

    pub(crate) fn write(&mut self, key: usize, known: Known) {
        if *self.now[key] != known {
            self.instead.insert(self.now.clone());
            self.now[key] = Arc::new(known);
            self.instead.remove(&self.now);
        }
    }

    pub(crate) fn sync(&mut self) {
        self.instead.clear();
    }

    /// Changes what it holds without a word to the disk: time passes.
    pub(crate) fn amend(&mut self, key: usize, change: impl Fn(&mut Slot)) {
        change(&mut Arc::make_mut(&mut self.now[key]).slot);
        self.instead.remove(&self.now);
    }

    /// Comes back with one of those moments, and says what it might have known.
    pub(crate) fn come_back(&mut self, with: usize) -> BTreeSet<Moment> {
        let mut before = std::mem::take(&mut self.instead);
        if let Some(moment) = before.iter().nth(with).cloned() {
            before.insert(std::mem::replace(&mut self.now, moment));
        } else {
            before.insert(self.now.clone());
        }
        before
    }
}
