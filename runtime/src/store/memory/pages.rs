//! Pages: a copied or frozen session's way out, a pulled one's way in.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::data::Data;
use crate::protocol::Refusal;
use crate::session::packet::{Copied, PAGE_BYTES, Totals, WindowItem};
use crate::session::{Millis, Nonce, Page, WindowEntry};
use crate::store::cursor::{Cursor, Section};
use crate::store::{MOST_CHANGES, Staged};

/// Enough for a page.
const ENOUGH: usize = PAGE_BYTES / 4;

/// What a copy of a session has to carry again.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) nonce: Nonce,
    /// Changes of fields so far; each has a number.
    changes: u64,
    /// The last change of each field that changed.
    last: BTreeMap<String, u64>,
    /// The same by number.
    fields: BTreeMap<u64, String>,
    /// Entries that left the window since the copy began.
    left: u64,
}

impl Copy {
    pub(super) fn new(nonce: Nonce) -> Self {
        let (last, fields) = (BTreeMap::new(), BTreeMap::new());
        Self { nonce, changes: 0, last, fields, left: 0 }
    }

    /// Notes what a commit did: which fields it wrote or removed, and how many
    /// entries left the window.
    pub(super) fn note(&mut self, touched: impl IntoIterator<Item = String>, left: usize) {
        for field in touched {
            self.changes += 1;
            if let Some(before) = self.last.insert(field.clone(), self.changes) {
                self.fields.remove(&before);
            }
            self.fields.insert(self.changes, field);
        }
        self.left += left as u64;
    }

    /// Whether so much was noted that a new copy is cheaper. Fields that come and go
    /// must not fill the memory while a target is away.
    pub(super) fn is_too_long(&self, fields: usize) -> bool {
        self.last.len() > fields * 2 + MOST_CHANGES
    }
}

/// A session as its pages are made of it.
pub(super) struct Source<'a> {
    pub(super) data: &'a Data,
    pub(super) copy: Option<&'a Copy>,
    /// Whether it is frozen; else it is being copied.
    pub(super) frozen: bool,
    pub(super) used: Millis,
    pub(super) now: Millis,
}

/// A page that is being filled.
struct Filling {
    page: Page,
    size: usize,
}

impl Filling {
    /// Counts what was added; says whether it is enough.
    fn full(&mut self, bytes: usize) -> bool {
        self.size += bytes;
        self.size > ENOUGH
    }
}

impl Source<'_> {
    /// The page that starts at `cursor`.
    pub(super) fn page(&self, cursor: Option<&str>) -> Result<Page, Refusal> {
        let mut at = match cursor {
            Some(text) => self.known(Cursor::read(text)?)?,
            None => {
                let changes = self.copy.map_or(0, |copy| copy.changes);
                Cursor { changes, ..Cursor::start() }
            }
        };
        at.version = self.frozen.then_some(self.data.version);
        let page = Page { first: cursor.is_none(), ..Page::default() };
        let mut filling = Filling { page, size: 0 };
        let ended = self.fill(&mut at, &mut filling);
        let mut page = filling.page;
        if self.frozen {
            if ended {
                page.oldest = self.data.window.order.front().cloned();
                page.totals = Some(self.totals());
            }
        } else if let Some(copy) = self.copy {
            let walked = at.section > Section::Walk;
            if ended {
                at.section = Section::Changes;
            }
            let changes = copy.changes + copy.left + self.data.window.order.len() as u64;
            page.copied = Some(Copied { walked, at: at.changes + at.window, changes });
        }
        page.next = page.totals.is_none().then(|| at.write());
        Ok(page)
    }

    /// The cursor, if what it rests on is still known.
    fn known(&self, mut at: Cursor) -> Result<Cursor, Refusal> {
        let copied = at.version.is_none() || at.section == Section::Changes;
        let stale = at.version.is_some_and(|version| version != self.data.version);
        let melted = at.version.is_some() && !self.frozen;
        if stale || melted || (copied && self.copy.is_none()) {
            return Err(Refusal::NoSuchCopy);
        }
        if at.version.is_none() && at.section == Section::Window {
            // Fields may have changed since, and go first.
            at.section = Section::Changes;
        }
        Ok(at)
    }

    /// Fills a page from `at` on, and moves `at` to where the next one starts; says
    /// whether that is the end.
    fn fill(&self, at: &mut Cursor, filling: &mut Filling) -> bool {
        if at.section == Section::Walk {
            if self.fill_walk(at, filling) {
                return false;
            }
            at.section = Section::Changes;
        }
        if at.section == Section::Changes {
            if self.fill_changes(at, filling) {
                return false;
            }
            at.section = Section::Window;
        }
        if at.section == Section::Window {
            if self.fill_window(at, filling) {
                return false;
            }
            at.section = Section::Outbox;
            "0".clone_into(&mut at.at);
        }
        !(self.frozen && self.fill_outbox(at, filling))
    }

    fn fill_walk(&self, at: &mut Cursor, filling: &mut Filling) -> bool {
        let from = match at.at.as_str() {
            "" => Bound::Unbounded,
            last => Bound::Excluded(last.to_owned()),
        };
        for (field, value) in self.data.fields.range((from, Bound::Unbounded)) {
            filling.page.fields.push((field.clone(), value.clone()));
            if filling.full(field.len() + value.len()) {
                at.at.clone_from(field);
                return true;
            }
        }
        false
    }

    fn fill_changes(&self, at: &mut Cursor, filling: &mut Filling) -> bool {
        let Some(copy) = self.copy else { return false };
        for (number, field) in copy.fields.range((Bound::Excluded(at.changes), Bound::Unbounded)) {
            at.changes = *number;
            let size = match self.data.fields.get(field) {
                Some(value) => {
                    filling.page.fields.push((field.clone(), value.clone()));
                    field.len() + value.len()
                }
                None => {
                    filling.page.removed.push(field.clone());
                    field.len()
                }
            };
            if filling.full(size) {
                return true;
            }
        }
        at.changes = copy.changes;
        false
    }

    fn fill_window(&self, at: &mut Cursor, filling: &mut Filling) -> bool {
        let left = self.copy.map_or(0, |copy| copy.left);
        let window = &self.data.window;
        let skip = usize::try_from(at.window.saturating_sub(left)).unwrap_or(usize::MAX);
        at.window = at.window.max(left);
        for id in window.order.iter().skip(skip) {
            at.window += 1;
            let Some(found) = window.entries.get(id) else { continue };
            let body = found.response.body.as_ref().map_or(0, bytes::Bytes::len);
            let age = self.now.saturating_sub(found.at);
            filling.page.window.push(WindowItem { id: id.clone(), age, entry: found.clone() });
            if filling.full(body + 200) {
                return true;
            }
        }
        false
    }

    fn fill_outbox(&self, at: &mut Cursor, filling: &mut Filling) -> bool {
        let skip: usize = at.at.parse().unwrap_or(0);
        for (index, sent) in self.data.outbox.iter().enumerate().skip(skip) {
            filling.page.outbox.push(sent.clone());
            if filling.full(sent.value.len() + 200) {
                at.at = (index + 1).to_string();
                return true;
            }
        }
        false
    }

    fn totals(&self) -> Totals {
        Totals {
            fields: self.data.fields.len() as u64,
            bytes: self.data.bytes,
            version: self.data.version,
            window: self.data.window.order.len() as u64,
            outbox: self.data.outbox.len() as u64,
            idle: self.now.saturating_sub(self.used),
        }
    }
}

/// What was brought of a session that is being pulled.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage {
    pub(super) data: Data,
    pub(super) totals: Option<Totals>,
}

impl Stage {
    /// Keeps a page.
    pub(super) fn keep(&mut self, page: &Page, now: Millis) -> Staged {
        if page.first {
            *self = Self::default();
        }
        let data = &mut self.data;
        for field in &page.removed {
            let old = data.fields.remove(field);
            data.bytes -= old.map_or(0, |old| (field.len() + old.len()) as u64);
        }
        for (field, content) in &page.fields {
            let old = data.fields.insert(field.clone(), content.clone());
            data.bytes += (field.len() + content.len()) as u64;
            data.bytes -= old.map_or(0, |old| (field.len() + old.len()) as u64);
        }
        for item in &page.window {
            let entry = WindowEntry { at: now.saturating_sub(item.age), ..item.entry.clone() };
            data.window.push(item.id.clone(), entry);
        }
        for sent in &page.outbox {
            if !data.outbox.iter().any(|known| known.id == sent.id) {
                data.outbox.push_back(sent.clone());
            }
        }
        let Some(totals) = page.totals else { return Staged::More };
        if totals.window == 0 {
            data.window = super::data::Window::default();
        } else if let Some(oldest) = &page.oldest {
            data.window.forget_before(oldest);
        }
        data.version = totals.version;
        let complete = data.fields.len() as u64 == totals.fields
            && data.bytes == totals.bytes
            && data.window.order.len() as u64 == totals.window
            && data.outbox.len() as u64 == totals.outbox;
        self.totals = complete.then_some(totals);
        if complete { Staged::Complete } else { Staged::Mismatch }
    }
}
