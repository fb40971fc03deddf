//! What the store holds: all of a small session at once, of a large one what
//! was asked for, once each.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Reader;
use super::overlay::Names;
use crate::function::{Error, Failure, Result};
use crate::session::fields::{self, FieldMap};
use crate::store::Read;

/// A request's view of the stored data.
pub(super) struct Source {
    reader: Reader,
    seen: Mutex<Seen>,
    failure: OnceLock<Failure>,
}

/// What was read already.
#[derive(Default)]
struct Seen {
    values: BTreeMap<String, Option<Bytes>>,
    lists: BTreeMap<String, Vec<Bytes>>,
    lengths: BTreeMap<String, u64>,
    names: Option<FieldMap>,
}

impl Source {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, seen: Mutex::default(), failure: OnceLock::new() }
    }

    /// The first failure of a read, whatever the handler made of it.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    pub(super) async fn value(&self, key: &str) -> Result<Option<Bytes>> {
        if let Some(map) = &self.reader.inline {
            return Ok(fields::get(map, &fields::value_field(key)));
        }
        if let Some(value) = self.seen.lock().values.get(key) {
            return Ok(value.clone());
        }
        let map = self.ask(Read::Value(key.to_owned())).await?;
        let value = fields::get(&map, &fields::value_field(key));
        self.seen.lock().values.insert(key.to_owned(), value.clone());
        Ok(value)
    }

    pub(super) async fn list(&self, list: &str) -> Result<Vec<Bytes>> {
        if let Some(map) = &self.reader.inline {
            return Ok(fields::list(map, list));
        }
        if let Some(items) = self.seen.lock().lists.get(list) {
            return Ok(items.clone());
        }
        let items = fields::list(&self.ask(Read::List(list.to_owned())).await?, list);
        self.seen.lock().lists.insert(list.to_owned(), items.clone());
        Ok(items)
    }

    pub(super) async fn list_len(&self, list: &str) -> Result<u64> {
        if let Some(map) = &self.reader.inline {
            return Ok(fields::list_len(map, list));
        }
        {
            let seen = self.seen.lock();
            if let Some(items) = seen.lists.get(list) {
                return Ok(items.len() as u64);
            }
            if let Some(length) = seen.lengths.get(list) {
                return Ok(*length);
            }
        }
        let length = fields::list_len(&self.ask(Read::ListLen(list.to_owned())).await?, list);
        self.seen.lock().lengths.insert(list.to_owned(), length);
        Ok(length)
    }

    pub(super) async fn names(&self) -> Result<Names> {
        if let Some(map) = &self.reader.inline {
            return Ok(names(map));
        }
        if let Some(map) = &self.seen.lock().names {
            return Ok(names(map));
        }
        let map = self.ask(Read::Keys).await?;
        let names = names(&map);
        self.seen.lock().names = Some(map);
        Ok(names)
    }

    async fn ask(&self, read: Read) -> Result<FieldMap> {
        let Reader { store, session, guard, .. } = &self.reader;
        match store.read(session, guard, &read).await {
            Ok(Some(map)) => Ok(map),
            Ok(None) => Err(self.fail(Failure::Stale)),
            Err(error) => Err(self.fail(Failure::Store(error))),
        }
    }

    fn fail(&self, failure: Failure) -> Error {
        self.failure.get_or_init(|| failure.clone());
        failure.into_error()
    }
}

fn names(map: &FieldMap) -> Names {
    let mut names = Names::default();
    for field in map.keys() {
        if let Some(key) = fields::key_of(field) {
            let of_list = field.starts_with('n');
            let set = if of_list { &mut names.lists } else { &mut names.values };
            set.insert(key.to_owned());
        }
    }
    names
}
