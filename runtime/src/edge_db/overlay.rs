//! What a request has changed so far, laid over what the store holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::session::Change;

/// Changes, by name.
#[derive(Default)]
pub(super) struct Overlay {
    values: BTreeMap<String, Option<Bytes>>,
    lists: BTreeMap<String, ListEdit>,
}

/// What was done to one list.
#[derive(Default)]
pub(super) struct ListEdit {
    /// Whether the stored items are gone.
    pub cleared: bool,
    /// New items, after those that stay.
    pub appended: Vec<Bytes>,
}

/// A name that the store holds: of a value, a list, or both.
#[derive(Default)]
pub(super) struct Names {
    pub values: BTreeSet<String>,
    pub lists: BTreeSet<String>,
}

impl Overlay {
    /// Lays one more change over.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Set { key, value } => {
                self.values.insert(key.clone(), Some(value.clone()));
            }
            Change::Delete { key } => {
                self.values.insert(key.clone(), None);
                self.clear(key);
            }
            Change::Append { list, value } => {
                self.lists.entry(list.clone()).or_default().appended.push(value.clone());
            }
            Change::ClearList { list } => self.clear(list),
        }
    }

    fn clear(&mut self, list: &str) {
        self.lists.insert(list.to_owned(), ListEdit { cleared: true, appended: Vec::new() });
    }

    /// A value, if it was set (`Some`) or deleted (`None`) here.
    pub(super) fn value(&self, key: &str) -> Option<&Option<Bytes>> {
        self.values.get(key)
    }

    /// What was done to a list, if anything.
    pub(super) fn list(&self, list: &str) -> Option<&ListEdit> {
        self.lists.get(list)
    }

    /// All names, given those that the store holds.
    pub(super) fn names(&self, stored: Names) -> BTreeSet<String> {
        let Names { mut values, mut lists } = stored;
        for (key, value) in &self.values {
            if value.is_some() {
                values.insert(key.clone());
            } else {
                values.remove(key);
            }
        }
        for (list, edit) in &self.lists {
            if !edit.appended.is_empty() {
                lists.insert(list.clone());
            } else if edit.cleared {
                lists.remove(list);
            }
        }
        values.append(&mut lists);
        values
    }
}
