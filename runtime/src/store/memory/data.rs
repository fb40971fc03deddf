//! One session's data, and what requests and moves read of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::session::fields::{self, FieldMap};
use crate::session::packet::{PAGE_BYTES, Totals, WindowItem};
use crate::session::{Change, LeaseId, Millis, OutboxEntry, Page, RequestId, WindowEntry};
use crate::store::{Commit, Read};

/// The window of one session: entries and the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    pub(super) entries: BTreeMap<RequestId, WindowEntry>,
    pub(super) order: VecDeque<RequestId>,
}

impl Window {
    pub(super) fn push(&mut self, id: RequestId, entry: WindowEntry) {
        if self.entries.insert(id.clone(), entry).is_none() {
            self.order.push_back(id);
        }
    }

    pub(super) fn trim(&mut self, entries: usize, oldest: Millis) {
        while let Some(first) = self.order.front() {
            let old = self.entries.get(first).is_none_or(|entry| entry.at < oldest);
            if self.order.len() <= entries && !old {
                break;
            }
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

/// Applies changes, unless the data would grow beyond `max` bytes; then says to
/// how many.
pub(super) fn write(data: &mut Data, changes: &[Change], max: u64) -> Result<(), u64> {
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
    Ok(())
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

/// One page of a frozen session. The cursor is `d<last field>`, `w<index>` or `o<index>`.
pub(super) fn page(data: &Data, used: Millis, now: Millis, cursor: Option<&str>) -> Page {
    let mut page = Page::default();
    let mut size = 0;
    let mut full = |bytes: usize| {
        size += bytes;
        size > PAGE_BYTES / 2
    };
    let (section, at) = match cursor.and_then(|cursor| cursor.split_at_checked(1)) {
        Some((section, at)) => (section, at),
        None => ("d", ""),
    };
    if section == "d" {
        let from = match cursor {
            Some(_) => std::ops::Bound::Excluded(at.to_owned()),
            None => std::ops::Bound::Unbounded,
        };
        for (field, value) in data.fields.range((from, std::ops::Bound::Unbounded)) {
            page.fields.push((field.clone(), value.clone()));
            if full(field.len() + value.len()) {
                page.next = Some(format!("d{field}"));
                return page;
            }
        }
    }
    let first: usize = at.parse().unwrap_or(0);
    if section != "o" {
        let skip = if section == "w" { first } else { 0 };
        for (index, id) in data.window.order.iter().enumerate().skip(skip) {
            let Some(found) = data.window.entries.get(id) else { continue };
            let body = found.response.body.as_ref().map_or(0, Bytes::len);
            let age = now.saturating_sub(found.at);
            page.window.push(WindowItem { id: id.clone(), age, entry: found.clone() });
            if full(body + 200) {
                page.next = Some(format!("w{}", index + 1));
                return page;
            }
        }
    }
    let skip = if section == "o" { first } else { 0 };
    for (index, sent) in data.outbox.iter().enumerate().skip(skip) {
        page.outbox.push(sent.clone());
        if full(sent.value.len() + 200) {
            page.next = Some(format!("o{}", index + 1));
            return page;
        }
    }
    page.totals = Some(Totals {
        fields: data.fields.len() as u64,
        bytes: data.bytes,
        version: data.version,
        window: data.window.order.len() as u64,
        outbox: data.outbox.len() as u64,
        idle: now.saturating_sub(used),
    });
    page
}
