//! The embedded store: sessions in this process's memory.
//!
//! Durable by definition of the process: it never forgets while it runs, and
//! when it ends everything in it ends. It is also the reference for what the
//! Redis store has to do; the conformance suite runs on both.

mod data;
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use data::Data;
use pages::{Copy, Source, Stage};

use super::{
    BeginRequest, Begun, Commit, Committed, Counts, Durability, Promise, Read, ReadGuard, Resident,
    Session, SessionStore, Snapshot, Staged, StoreError, StoreResult, StoreScope, Walked,
};
use crate::protocol::{self, Access, Begin, BeginAsk, Event, Payload, Refusal, Reply};
use crate::session::fields::FieldMap;
use crate::session::{
    LeaseId, Millis, NodeName, Nonce, OutboxEntry, Page, Record, RequestId, SessionId, Slot,
    WindowEntry,
};

#[derive(Debug, Clone, Default)]
struct Entry {
    slot: Slot,
    data: Data,
    stages: BTreeMap<Nonce, Stage>,
    /// What a copy has to carry again.
    copy: Option<Copy>,
}

impl Entry {
    /// The move that the record is in, and whether it is frozen for it.
    fn moving(&self) -> Option<(Nonce, bool)> {
        match &self.slot.record {
            Some(Record::Owned { intent: Some(transfer), .. }) => Some((transfer.nonce, false)),
            Some(Record::Migrating { transfer, .. }) => Some((transfer.nonce, true)),
            _ => None,
        }
    }

    /// The session with all of its data, if it is owned here and small.
    fn small(&self) -> Option<Session> {
        let Some(Record::Owned { life, epoch, .. }) = &self.slot.record else { return None };
        Some(Session {
            life: life.clone(),
            epoch: *epoch,
            version: self.data.version,
            bytes: self.data.bytes,
            data: Some(data::inline(&self.data, MOST_RECALLED)?),
            last: self.data.last_commit,
            created: false,
        })
    }

    /// Whether it is owned here in this state.
    fn is_in(&self, state: &Session) -> bool {
        let owned = matches!(&self.slot.record, Some(Record::Owned { life, epoch, .. })
            if *life == state.life && *epoch == state.epoch);
        owned && self.data.version == state.version && self.data.last_commit == state.last
    }

    /// A page of this session for the move `nonce`, frozen or not.
    fn page(
        &self,
        nonce: Nonce,
        frozen: bool,
        cursor: Option<&str>,
        now: Millis,
    ) -> Result<Page, Refusal> {
        match self.moving() {
            Some((moving, state)) if moving == nonce && state == frozen => {}
            // Frozen by a restart: what changed since the copy is not known.
            Some((moving, true)) if moving == nonce => return Err(Refusal::NoSuchCopy),
            _ => return Err(Refusal::NoSuchMove),
        }
        let copy = self.copy.as_ref().filter(|copy| copy.nonce == nonce);
        Source { data: &self.data, copy, frozen, used: self.slot.used, now }.page(cursor)
    }
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Entry>,
    pending: BTreeSet<SessionId>,
    settings: BTreeMap<String, String>,
    lost_and_found: Vec<(SessionId, FieldMap)>,
    /// Nobody is let in who does not work inside.
    closed: bool,
}

/// What a store knew of a session at one moment.
#[derive(Debug, Clone, Default)]
pub struct Moment(Option<Entry>);

impl Moment {
    /// Everything except the data; nothing if the session was absent.
    pub fn slot(&self) -> Slot {
        self.0.as_ref().map(|entry| entry.slot.clone()).unwrap_or_default()
    }

    /// The data, if it was there.
    pub fn fields(&self) -> Option<&FieldMap> {
        self.0.as_ref().map(|entry| &entry.data.fields)
    }
}

/// A session with more bytes is not worth a copy before it is known to be needed.
const MOST_RECALLED: u64 = 64 * 1024;

/// What the clock says when the store is made: no idle time that a session brings
/// along reaches back before zero, where everything is unused for ever.
const START: Millis = 1 << 40;

/// The embedded store of one function at one node.
#[derive(Debug)]
pub struct MemoryStore {
    scope: StoreScope,
    started: Instant,
    state: Arc<Mutex<State>>,
    /// For whoever works in it while it is closed.
    inside: bool,
}

/// Sessions that one page of a walk names.
const A_PAGE: usize = 1000;

impl MemoryStore {
    /// An empty store.
    pub fn new(scope: StoreScope) -> Self {
        Self { scope, started: Instant::now(), state: Arc::default(), inside: false }
    }

    /// All that the store knows of a session right now.
    ///
    /// With [`MemoryStore::put_back`] a test makes a store forget its last writes, as
    /// one that keeps a log does when the power fails.
    pub fn moment(&self, session: &SessionId) -> Moment {
        Moment(self.state.lock().sessions.get(session).cloned())
    }

    /// Makes a session what it was at an earlier moment.
    pub fn put_back(&self, session: &SessionId, Moment(entry): Moment) {
        let mut state = self.state.lock();
        match entry {
            Some(entry) => drop(state.sessions.insert(session.clone(), entry)),
            None => drop(state.sessions.remove(session)),
        }
        state.pending.remove(session);
        state.settle(session);
    }

    /// What is in it, for whoever is let in.
    fn open(&self) -> StoreResult<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.closed && !self.inside { Err(StoreError::Restarted) } else { Ok(state) }
    }

    fn clock(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX) + START
    }

    fn apply(
        &self,
        state: &mut State,
        session: &SessionId,
        event: &Event,
    ) -> Result<Reply, Refusal> {
        let now = self.clock();
        let empty = Slot::default();
        let slot = state.sessions.get(session).map_or(&empty, |entry| &entry.slot);
        let mut step = protocol::step(slot, &self.scope.here, now, event)?;
        let entry = state.sessions.entry(session.clone()).or_default();
        match step.payload {
            Payload::Keep => {}
            Payload::Drop => drop(entry.data.take()),
            Payload::Adopt(nonce) => {
                let stage = entry.stages.remove(&nonce).unwrap_or_default();
                entry.data = Data { last_commit: entry.data.last_commit, ..stage.data };
                let idle = stage.totals.map_or(0, |totals| totals.idle);
                step.slot.used = now.saturating_sub(idle);
                step.slot.outbox = entry.data.outbox.len() as u64;
            }
            Payload::DropStage(nonce) => {
                entry.stages.remove(&nonce);
            }
            Payload::SetAside => {
                let data = entry.data.take();
                state.lost_and_found.push((session.clone(), data.fields));
            }
        }
        entry.slot = step.slot;
        if *event == Event::StoreRestarted && step.reply == Reply::Changed {
            // A target may hold what this store has forgotten.
            entry.copy = None;
        }
        state.settle(session);
        Ok(step.reply)
    }

    fn write(&self, state: &mut State, session: &SessionId, commit: &Commit) -> Committed {
        let now = self.clock();
        let Some(entry) = state.sessions.get_mut(session) else {
            return Committed::LeaseLost;
        };
        let turn = protocol::Turn { lease: commit.lease, life: &commit.life, epoch: commit.epoch };
        let outbox = (entry.data.outbox.len() + commit.outbox.len()) as u64;
        let Some(after) = protocol::commit(&entry.slot, &turn, now, outbox) else {
            return match entry.data.has_seen(commit) {
                true => Committed::AlreadyCommitted,
                false => Committed::LeaseLost,
            };
        };
        let touched = match data::write(&mut entry.data, &commit.data, commit.max_bytes) {
            Ok(touched) => touched,
            Err(bytes) => {
                entry.slot.lease = None;
                return Committed::TooLarge { bytes };
            }
        };
        let data = &mut entry.data;
        data.version += u64::from(!commit.data.is_empty());
        data.last_commit = Some(commit.lease);
        data.outbox.extend(commit.outbox.iter().cloned());
        let mut left = 0;
        if let Some((id, digest, response)) = &commit.remember {
            let entry = WindowEntry {
                digest: *digest,
                lease: commit.lease,
                at: now,
                response: response.clone(),
            };
            left = data.window.push(id.clone(), entry);
            let window = &self.scope.window;
            let age = u64::try_from(window.age.as_millis()).unwrap_or(u64::MAX);
            left += data.window.trim(window.entries, now.saturating_sub(age));
        }
        if let Some(copy) = &mut entry.copy {
            copy.note(touched, left);
            if copy.is_too_long(entry.data.fields.len()) {
                entry.copy = None;
            }
        }
        entry.slot = after;
        state.settle(session);
        Committed::Applied
    }
}

impl State {
    /// Keeps the index true and forgets what is absent.
    fn settle(&mut self, session: &SessionId) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        if entry.slot.pull.is_none() {
            entry.stages.clear();
        }
        // A copy ends with the move that it is for.
        let moving = entry.moving().map(|(nonce, _)| nonce);
        if entry.copy.as_ref().is_some_and(|copy| Some(copy.nonce) != moving) {
            entry.copy = None;
        }
        if entry.slot.pending() {
            self.pending.insert(session.clone());
        } else {
            self.pending.remove(session);
        }
        if entry.slot.record.is_none() && entry.slot.pull.is_none() {
            self.sessions.remove(session);
        }
    }

    fn owned(&mut self, session: &SessionId, lease: LeaseId) -> Option<&mut Entry> {
        let entry = self.sessions.get_mut(session)?;
        let held = entry.slot.lease.as_ref().is_some_and(|held| held.id == lease);
        held.then_some(entry)
    }
}

fn guarded<'a>(entry: &'a Entry, guard: &ReadGuard) -> Option<&'a FieldMap> {
    let holds = match (guard, &entry.slot.record) {
        (ReadGuard::Lease(lease), _) => {
            entry.slot.lease.as_ref().is_some_and(|held| held.id == *lease)
        }
        (ReadGuard::Version { life, epoch, version, frozen }, Some(record)) => {
            let here = match record {
                Record::Owned { .. } => true,
                Record::Migrating { .. } => *frozen,
                _ => false,
            };
            here && record.life() == life
                && record.epoch() == *epoch
                && entry.data.version == *version
        }
        _ => false,
    };
    holds.then_some(&entry.data.fields)
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn begin(&self, session: &SessionId, request: &BeginRequest) -> StoreResult<Begun> {
        let mut state = self.open()?;
        let now = self.clock();
        let empty = Entry::default();
        let entry = state.sessions.get(session).unwrap_or(&empty);
        if let (Some(id), Some(Record::Owned { life, epoch, .. })) =
            (&request.request, &entry.slot.record)
            && let Some(found) = entry.data.window.entries.get(id)
        {
            return Ok(Begun::Replay { entry: found.clone(), life: life.clone(), epoch: *epoch });
        }
        let (slot, outcome) = protocol::begin(&entry.slot, &self.scope.here, now, &request.ask);
        let Begin::Run { created } = outcome else {
            return Ok(Begun::Other { slot: entry.slot.clone(), now });
        };
        let Some(record) = &slot.record else {
            return Ok(Begun::Other { slot: entry.slot.clone(), now });
        };
        let run = Session {
            life: record.life().clone(),
            epoch: record.epoch(),
            version: entry.data.version,
            bytes: entry.data.bytes,
            data: data::inline(&entry.data, request.inline_max),
            last: entry.data.last_commit,
            created,
        };
        state.sessions.entry(session.clone()).or_default().slot = slot;
        Ok(Begun::Run(run))
    }

    async fn commit(&self, session: &SessionId, commit: &Commit) -> StoreResult<Committed> {
        let mut state = self.open()?;
        Ok(self.write(&mut state, session, commit))
    }

    fn recall(&self, session: &SessionId) -> Option<Session> {
        self.open().ok()?.sessions.get(session)?.small()
    }

    async fn is_current(&self, session: &SessionId, recalled: &Session) -> StoreResult<bool> {
        let state = self.open()?;
        Ok(state.sessions.get(session).is_some_and(|entry| entry.is_in(recalled)))
    }

    async fn commit_at_once(
        &self,
        session: &SessionId,
        recalled: &Session,
        commit: &Commit,
    ) -> StoreResult<Option<Committed>> {
        let mut state = self.open()?;
        let Some(entry) = state.sessions.get_mut(session) else { return Ok(None) };
        if entry.data.last_commit == Some(commit.lease) {
            return Ok(Some(Committed::AlreadyCommitted));
        }
        let known = commit.remember.as_ref().map(|(id, ..)| id);
        let repeated = known.is_some_and(|id| entry.data.window.entries.contains_key(id));
        if repeated || !entry.is_in(recalled) {
            return Ok(None);
        }
        let ask = BeginAsk {
            access: Access::Write,
            create: None,
            lease: commit.lease,
            lease_ttl: 0,
            frozen_reads: false,
            unsettled_writes: None,
        };
        let (slot, outcome) = protocol::begin(&entry.slot, &self.scope.here, self.clock(), &ask);
        if !matches!(outcome, Begin::Run { .. }) {
            return Ok(None);
        }
        entry.slot = slot;
        let committed = self.write(&mut state, session, commit);
        Ok((committed == Committed::Applied).then_some(committed))
    }

    async fn release(&self, session: &SessionId, lease: LeaseId) -> StoreResult<()> {
        let mut state = self.open()?;
        if let Some(entry) = state.sessions.get_mut(session)
            && let Some(after) = protocol::release(&entry.slot, lease)
        {
            entry.slot = after;
        }
        Ok(())
    }

    async fn renew(&self, session: &SessionId, lease: LeaseId, ttl: Duration) -> StoreResult<bool> {
        let until = self.clock() + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut state = self.open()?;
        let Some(entry) = state.owned(session, lease) else { return Ok(false) };
        if let Some(held) = &mut entry.slot.lease {
            held.until = until;
        }
        Ok(true)
    }

    async fn remembered(
        &self,
        session: &SessionId,
        request: &RequestId,
    ) -> StoreResult<Option<WindowEntry>> {
        let state = self.open()?;
        let entry = state.sessions.get(session);
        Ok(entry.and_then(|entry| entry.data.window.entries.get(request)).cloned())
    }

    async fn read(
        &self,
        session: &SessionId,
        guard: &ReadGuard,
        read: &Read,
    ) -> StoreResult<Option<FieldMap>> {
        let state = self.open()?;
        let entry = state.sessions.get(session);
        Ok(entry.and_then(|entry| guarded(entry, guard)).map(|map| data::select(map, read)))
    }

    async fn snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        let state = self.open()?;
        let now = self.clock();
        Ok(state.sessions.get(session).map_or_else(
            || Snapshot { now, ..Snapshot::default() },
            |entry| Snapshot {
                slot: entry.slot.clone(),
                now,
                version: entry.data.version,
                bytes: entry.data.bytes,
                fields: entry.data.fields.len() as u64,
                window: entry.data.window.order.len() as u64,
            },
        ))
    }

    async fn step(
        &self,
        session: &SessionId,
        event: &Event,
        _durability: Durability,
    ) -> StoreResult<Result<Reply, Refusal>> {
        let mut state = self.open()?;
        if let Event::Install { pull } = event
            && let Some(entry) = state.sessions.get(session)
            && entry.slot.pull.as_ref() == Some(pull)
            && entry.stages.get(&pull.nonce).is_none_or(|stage| stage.totals.is_none())
        {
            return Ok(Err(Refusal::NoSuchMove));
        }
        Ok(self.apply(&mut state, session, event))
    }

    async fn copy(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        let mut state = self.open()?;
        let now = self.clock();
        let Some(entry) = state.sessions.get_mut(session) else {
            return Ok(Err(Refusal::NoSuchMove));
        };
        let begins = cursor.is_none() && entry.moving() == Some((nonce, false));
        if begins && entry.copy.as_ref().is_none_or(|copy| copy.nonce != nonce) {
            entry.copy = Some(Copy::new(nonce));
        }
        Ok(entry.page(nonce, false, cursor, now))
    }

    async fn export(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        let state = self.open()?;
        let Some(entry) = state.sessions.get(session) else {
            return Ok(Err(Refusal::NoSuchMove));
        };
        match entry.moving() {
            Some((_, true)) => Ok(entry.page(nonce, true, cursor, self.clock())),
            _ => Ok(Err(Refusal::NoSuchMove)),
        }
    }

    async fn stage(&self, session: &SessionId, nonce: Nonce, page: &Page) -> StoreResult<Staged> {
        let mut state = self.open()?;
        let now = self.clock();
        let Some(entry) = state.sessions.get_mut(session) else { return Ok(Staged::Closed) };
        if entry.slot.pull.as_ref().is_none_or(|pull| pull.nonce != nonce) {
            return Ok(Staged::Closed);
        }
        Ok(entry.stages.entry(nonce).or_default().keep(page, now))
    }

    async fn dump(&self, session: &SessionId) -> StoreResult<Option<FieldMap>> {
        let state = self.open()?;
        let entry = state.sessions.get(session);
        let here = entry.filter(|e| e.slot.record.as_ref().is_some_and(Record::holds_data));
        Ok(here.map(|entry| entry.data.fields.clone()))
    }

    async fn outbox(&self, session: &SessionId, limit: usize) -> StoreResult<Vec<OutboxEntry>> {
        let state = self.open()?;
        let entry = state.sessions.get(session);
        let owned = entry.filter(|e| matches!(e.slot.record, Some(Record::Owned { .. })));
        Ok(owned.map_or_else(Vec::new, |e| e.data.outbox.iter().take(limit).cloned().collect()))
    }

    async fn delivered(&self, session: &SessionId, id: &str) -> StoreResult<()> {
        let mut state = self.open()?;
        if let Some(entry) = state.sessions.get_mut(session)
            && matches!(entry.slot.record, Some(Record::Owned { .. }))
        {
            entry.data.outbox.retain(|waiting| waiting.id != id);
            entry.slot.outbox = entry.data.outbox.len() as u64;
            state.settle(session);
        }
        Ok(())
    }

    async fn residents(
        &self,
        homes: Option<&[NodeName]>,
        limit: usize,
    ) -> StoreResult<Vec<Resident>> {
        let state = self.state.lock();
        let mut found: Vec<Resident> = state
            .sessions
            .iter()
            .filter_map(|(session, entry)| {
                let record = entry.slot.record.as_ref().filter(|record| record.holds_data())?;
                let home = &record.life().home;
                homes.is_none_or(|homes| homes.contains(home)).then(|| Resident {
                    session: session.clone(),
                    home: home.clone(),
                    used: entry.slot.used,
                    bytes: entry.data.bytes,
                })
            })
            .collect();
        found.sort_by(|a, b| (a.used, &a.session).cmp(&(b.used, &b.session)));
        found.truncate(limit);
        Ok(found)
    }

    async fn pending(&self, limit: usize) -> StoreResult<Vec<SessionId>> {
        Ok(self.state.lock().pending.iter().take(limit).cloned().collect())
    }

    async fn old_pointers(&self, before: Millis, limit: usize) -> StoreResult<Vec<SessionId>> {
        let state = self.state.lock();
        let old = state.sessions.iter().filter(|(_, entry)| {
            matches!(&entry.slot.record, Some(Record::Moved { since, .. }) if *since < before)
        });
        Ok(old.take(limit).map(|(session, _)| session.clone()).collect())
    }

    async fn counts(&self) -> StoreResult<Counts> {
        let state = self.open()?;
        let resident = state
            .sessions
            .values()
            .filter(|entry| entry.slot.record.as_ref().is_some_and(Record::holds_data))
            .count();
        Ok(Counts { resident: resident as u64, pending: state.pending.len() as u64 })
    }

    async fn now(&self) -> StoreResult<Millis> {
        Ok(self.clock())
    }

    async fn mend_index(&self, _cursor: Option<String>) -> StoreResult<Option<String>> {
        // The index is derived under the same lock: it is never wrong.
        Ok(None)
    }

    async fn recover_restart(&self) -> StoreResult<()> {
        let mut state = self.state.lock();
        let sessions: Vec<SessionId> = state.pending.iter().cloned().collect();
        for session in sessions {
            // `StoreRestarted` is never refused.
            let _ = self.apply(&mut state, &session, &Event::StoreRestarted);
        }
        state.closed &= self.inside;
        Ok(())
    }

    async fn slots(&self, sessions: &[SessionId]) -> StoreResult<Vec<Slot>> {
        let state = self.state.lock();
        let slot = |session| state.sessions.get(session).map(|entry| entry.slot.clone());
        Ok(sessions.iter().map(|session| slot(session).unwrap_or_default()).collect())
    }

    async fn walk(&self, cursor: Option<String>) -> StoreResult<Walked> {
        let after = match cursor {
            Some(last) => {
                let last = SessionId::new(last);
                Bound::Excluded(last.map_err(|error| StoreError::Corrupt(error.to_string()))?)
            }
            None => Bound::Unbounded,
        };
        let state = self.state.lock();
        let rest = state.sessions.range((after, Bound::Unbounded)).take(A_PAGE);
        let found: Vec<_> =
            rest.map(|(session, entry)| (session.clone(), entry.slot.clone())).collect();
        let full = found.len() == A_PAGE;
        let last = found.last().filter(|_| full).map(|(session, _)| session.to_string());
        Ok(Walked { found, next: last })
    }

    async fn on_disk(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn close(&self) -> StoreResult<()> {
        self.state.lock().closed = true;
        Ok(())
    }

    async fn inside(&self) -> StoreResult<Arc<dyn SessionStore>> {
        let (scope, state) = (self.scope.clone(), Arc::clone(&self.state));
        Ok(Arc::new(Self { scope, started: self.started, state, inside: true }))
    }

    async fn setting(&self, name: &str) -> StoreResult<Option<String>> {
        Ok(self.state.lock().settings.get(name).cloned())
    }

    async fn set_setting(&self, name: &str, value: Option<&str>) -> StoreResult<Option<String>> {
        let mut state = self.state.lock();
        Ok(match value {
            Some(value) => state.settings.insert(name.to_owned(), value.to_owned()),
            None => state.settings.remove(name),
        })
    }

    async fn settings(&self, prefix: &str) -> StoreResult<BTreeMap<String, String>> {
        let state = self.state.lock();
        let found = state.settings.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn promise(&self) -> Promise {
        Promise::Process
    }
}
