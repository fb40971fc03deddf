//! Writing a session.

use std::ops::Deref;

use serde::Serialize;

use super::read::check_name;
use super::value::IntoValue;
use super::{Place, ReadDb, Reader};
use crate::function::Result;
use crate::session::{Change, Changes, FunctionName, OutboxEntry};

/// A session's data, to read (see [`ReadDb`]) and to write.
///
/// Writes are gathered, and take effect together with the handler's answer: all
/// of them, or, after an error or a status of 400 or more, none. Until then
/// only this request sees them. Values are text or bytes, kept as they are.
pub struct EdgeDb {
    db: ReadDb,
    changes: Changes,
}

impl EdgeDb {
    /// For one request.
    pub(crate) fn new(reader: Reader, place: Place) -> Self {
        Self { db: ReadDb::new(reader, place), changes: Changes::default() }
    }

    /// What the request changes. The ids of the outbox's entries are empty: who
    /// knows the commit gives them.
    pub(crate) fn into_changes(self) -> Changes {
        self.changes
    }

    /// Sets a value.
    pub fn set(&mut self, key: &str, value: impl IntoValue) -> Result<()> {
        check_name(key)?;
        self.change(Change::Set { key: key.to_owned(), value: value.into_value() });
        Ok(())
    }

    /// Sets a value to JSON; 500 if it has no JSON form.
    pub fn set_json(&mut self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.set(key, serde_json::to_vec(value)?)
    }

    /// Removes a value, and the list of the same name.
    pub fn delete(&mut self, key: &str) -> Result<()> {
        check_name(key)?;
        self.change(Change::Delete { key: key.to_owned() });
        Ok(())
    }

    /// Adds an item at the end of a list, creating it.
    pub fn add_to_list(&mut self, list: &str, value: impl IntoValue) -> Result<()> {
        check_name(list)?;
        self.change(Change::Append { list: list.to_owned(), value: value.into_value() });
        Ok(())
    }

    /// Adds an item at the end of a list, as JSON; 500 if it has no JSON form.
    pub fn add_to_list_json(
        &mut self,
        list: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        self.add_to_list(list, serde_json::to_vec(value)?)
    }

    /// Replaces a list; without items, removes it.
    pub fn set_list<V: IntoValue>(
        &mut self,
        list: &str,
        items: impl IntoIterator<Item = V>,
    ) -> Result<()> {
        check_name(list)?;
        self.change(Change::ClearList { list: list.to_owned() });
        for item in items {
            self.change(Change::Append { list: list.to_owned(), value: item.into_value() });
        }
        Ok(())
    }

    /// Replaces a list by items as JSON; 500, and no change, if one has no JSON
    /// form.
    pub fn set_list_json<T: Serialize>(
        &mut self,
        list: &str,
        items: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let items: Result<Vec<_>, _> =
            items.into_iter().map(|item| serde_json::to_vec(&item)).collect();
        self.set_list(list, items?)
    }

    /// Sends a value to the sessions of this id in `function` at other nodes,
    /// where its handler of propagated values takes it, once. It leaves after
    /// the commit and arrives in its own time.
    ///
    /// `levels` says to which nodes: names of levels with commas between
    /// (`"region,city"`), or `*` for every node above this one. A level above
    /// means the one node there that this node is below of; a level below, all
    /// nodes there that are below this one. Returns how many nodes that are;
    /// 500 if the topology has no such level, or for a name that no function
    /// can have.
    pub fn propagate(
        &mut self,
        value: impl IntoValue,
        levels: &str,
        function: &str,
    ) -> Result<usize> {
        let function = FunctionName::new(function)?;
        let targets = self.db.hierarchy().targets(levels)?;
        let value = value.into_value();
        let from = &self.db.place.here;
        let entries = targets.iter().map(|to| OutboxEntry {
            id: String::new(),
            function: function.clone(),
            to: to.clone(),
            from: from.clone(),
            value: value.clone(),
        });
        self.changes.outbox.extend(entries);
        Ok(targets.len())
    }

    fn change(&mut self, change: Change) {
        self.db.overlay.apply(&change);
        self.changes.data.push(change);
    }
}

impl Deref for EdgeDb {
    type Target = ReadDb;
    fn deref(&self) -> &ReadDb {
        &self.db
    }
}

impl std::fmt::Debug for EdgeDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgeDb")
            .field("db", &self.db)
            .field("changes", &self.changes.data.len())
            .field("outbox", &self.changes.outbox.len())
            .finish()
    }
}
