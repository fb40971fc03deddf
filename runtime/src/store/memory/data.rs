//! One session's data, and what requests and moves read of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::session::fields::{self, FieldMap};
use crate::session::{Change, LeaseId, Millis, OutboxEntry, RequestId, WindowEntry};
use crate::store::{Commit, Read};

/// The window of one session: entries and the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    pub(super) entries: BTreeMap<RequestId, WindowEntry>,
    pub(super) order: VecDeque<RequestId>,
}

impl Window {
    /// Adds an entry as the newest; says how many left their place for it.
    pub(super) fn push(&mut self, id: RequestId, entry: WindowEntry) -> usize {
        let again = self.entries.insert(id.clone(), entry).is_some();
        if again {
            self.order.retain(|known| *known != id);
        }
        self.order.push_back(id);
        usize::from(again)
    }

    /// Forgets what is too much or too old; says how many entries went.
    pub(super) fn trim(&mut self, entries: usize, oldest: Millis) -> usize {
        let before = self.order.len();
        while let Some(first) = self.order.front() {
            let old = self.entries.get(first).is_none_or(|entry| entry.at < oldest);
            if self.order.len() <= entries && !old {
                break;
            }
            self.entries.remove(first);
            self.order.pop_front();
        }
        before - self.order.len()
    }

    /// Forgets what is older than an entry, if that is there.
    pub(super) fn forget_before(&mut self, id: &RequestId) {
        if !self.entries.contains_key(id) {
            return;
        }
        while let Some(first) = self.order.front().filter(|first| *first != id) {
            self.entries.remove(first);
            self.order.pop_front();
        }
    }
}

/// A session's data with everything that travels along.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    pub(super) fields: FieldMap,
    pub(super) bytes: u64,
    pub(super) version: u64,
    pub(super) window: Window,
    pub(super) outbox: VecDeque<OutboxEntry>,
    pub(super) last_commit: Option<LeaseId>,
}

impl Data {
    /// Whether this very commit was applied before.
    pub(super) fn has_seen(&self, commit: &Commit) -> bool {
        let in_window = |id: &RequestId| {
            self.window.entries.get(id).is_some_and(|entry| entry.lease == commit.lease)
        };
        self.last_commit == Some(commit.lease)
            || commit.remember.as_ref().is_some_and(|(id, ..)| in_window(id))
    }
}

impl Data {
    /// Takes everything but the last commit: a commit whose reply was lost is
    /// known even after the session has left.
    pub(super) fn take(&mut self) -> Self {
        let kept = Self { last_commit: self.last_commit, ..Self::default() };
        std::mem::replace(self, kept)
    }
}

/// Applies changes and says which fields they touched, unless the data would grow
/// beyond `max` bytes; then says to how many.
pub(super) fn write(
    data: &mut Data,
    changes: &[Change],
    max: u64,
) -> Result<BTreeSet<String>, u64> {
    let before = data.bytes;
    // Only a commit that could be too large is tried on a copy first.
    let copy = (before + fields::most(changes) > max).then(|| data.fields.clone());
    let applied = fields::apply(&mut data.fields, changes);
    let bytes = before + applied.added - applied.removed;
    if let Some(copy) = copy
        && bytes > max
        && bytes > before
    {
        data.fields = copy;
        return Err(bytes);
    }
    data.bytes = bytes;
    Ok(applied.touched)
}

pub(super) fn inline(data: &Data, max: u64) -> Option<Arc<FieldMap>> {
    (data.bytes <= max).then(|| Arc::new(data.fields.clone()))
}

/// The fields that `read` asks for.
pub(super) fn select(map: &FieldMap, read: &Read) -> FieldMap {
    let mut found = FieldMap::new();
    let mut take = |field: String| {
        if let Some(value) = map.get(&field) {
            found.insert(field, value.clone());
        }
    };
    let with_chunks = |field: String, take: &mut dyn FnMut(String)| {
        let count = map.get(&fields::chunks_field(&field)).and_then(|bytes| {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<u64>().ok())
        });
        for index in 0..count.unwrap_or(0) {
            take(fields::chunk_field(&field, index));
        }
        take(fields::chunks_field(&field));
        take(field);
    };
    match read {
        Read::Value(key) => with_chunks(fields::value_field(key), &mut take),
        Read::ListLen(list) => take(fields::count_field(list)),
        Read::List(list) => {
            for index in 0..fields::list_len(map, list) {
                with_chunks(fields::item_field(list, index), &mut take);
            }
            take(fields::count_field(list));
        }
        Read::Keys => {
            for field in map.keys().filter(|field| fields::key_of(field).is_some()) {
                found.insert(field.clone(), Bytes::new());
            }
        }
    }
    found
}
