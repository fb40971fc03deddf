//! A store as a node of a real tree has it: it takes time, answers get lost, it is
//! restarted, and then it has forgotten what was not on disk.
//!
//! [`Disk`] is the server: a memory store and a log of what its last writes replaced.
//! [`Handle`] is one process's connection to it. Both behave as `store/redis` does:
//! after a restart everything but a walk over the sessions is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use funicular::protocol::{Event, Refusal, Reply};
use funicular::session::fields::FieldMap;
use funicular::session::{
    Change, LeaseId, Millis, NodeName, Nonce, OutboxEntry, Page, Record, RequestId, SessionId,
    Slot, WindowEntry,
};
use funicular::store::memory::{MemoryStore, Moment};
use funicular::store::{
    BeginRequest, Begun, Commit, Committed, Counts, Durability, Promise, Read, ReadGuard, Resident,
    Session, SessionStore, Snapshot, Staged, StoreError, StoreResult, StoreScope, Walked,
};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::function::{CALLED, GOT, LOG, Tokens, tokens};
use crate::plan::Plan;
use crate::shadow::{Entry, Shadow};
use crate::trace::Trace;

/// How long a call of a store may take (as `RedisOptions` has it).
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a sync may take.
const SYNC_TIMEOUT: Duration = Duration::from_secs(2);
/// By then the server has written to disk by itself.
const BY_ITSELF: Duration = Duration::from_secs(2);

/// What a write replaced.
struct Undo {
    number: u64,
    at: Instant,
    session: SessionId,
    before: Moment,
}

struct State {
    up: bool,
    /// Counts restarts.
    run: u64,
    /// The walk after a restart has ended, and requests are let in.
    serves: bool,
    written: u64,
    /// What may be forgotten, oldest first.
    log: VecDeque<Undo>,
    known: BTreeSet<SessionId>,
    slow_until: Instant,
}

/// A store's server: it outlives processes.
pub struct Disk {
    site: usize,
    function: usize,
    memory: MemoryStore,
    forgets: bool,
    sync: u64,
    always: bool,
    astray: Mutex<u32>,
    chance: Chance,
    shadow: Arc<Shadow>,
    trace: Arc<Trace>,
    /// Notes that something went wrong, as a reason for errors.
    reasons: Arc<crate::reasons::Reasons>,
    state: Mutex<State>,
}

impl Disk {
    /// A server with nothing in it, which no walk has passed.
    pub fn new(
        plan: &Plan,
        (site, function): (usize, usize),
        chance: Chance,
        (shadow, trace): (&Arc<Shadow>, &Arc<Trace>),
        reasons: &Arc<crate::reasons::Reasons>,
    ) -> Arc<Self> {
        let scope = StoreScope {
            function: plan.functions[function].clone(),
            here: plan.sites[site].clone(),
            window: funicular::store::WindowLimits::default(),
        };
        Arc::new(Self {
            site,
            function,
            memory: MemoryStore::new(scope),
            forgets: plan.forgets(),
            sync: plan.sync,
            always: plan.always_synced,
            astray: Mutex::new(plan.store_astray),
            chance,
            shadow: Arc::clone(shadow),
            trace: Arc::clone(trace),
            reasons: Arc::clone(reasons),
            state: Mutex::new(State {
                up: true,
                run: 1,
                serves: false,
                written: 0,
                log: VecDeque::new(),
                known: BTreeSet::new(),
                slow_until: Instant::now(),
            }),
        })
    }

    /// The server is away.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.up = false;
        state.serves = false;
        drop(state);
        self.shadow.silenced(self.site, self.function);
    }

    /// The server comes back without a part of what was not on disk. Returns what
    /// was forgotten: the session, what it was and what it is.
    pub fn start(&self) -> Vec<(SessionId, Moment, Moment)> {
        let mut state = self.state.lock();
        state.up = true;
        state.run += 1;
        self.to_disk(&mut state, 0);
        let most = state.log.len();
        let forgotten = if self.chance.hits(300) { most } else { self.chance.index(most + 1) };
        let mut before: BTreeMap<SessionId, Moment> = BTreeMap::new();
        for _ in 0..forgotten {
            let Some(undo) = state.log.pop_back() else { break };
            before.entry(undo.session.clone()).or_insert_with(|| self.memory.moment(&undo.session));
            self.memory.put_back(&undo.session, undo.before);
        }
        // What it has now is on disk.
        state.log.clear();
        drop(state);
        self.trace.step((self.site, self.function, forgotten), || {
            format!("store {}/{} starts and forgot {forgotten} writes", self.site, self.function)
        });
        before
            .into_iter()
            .map(|(session, was)| {
                let is = self.memory.moment(&session);
                (session, was, is)
            })
            .collect()
    }

    /// What of a session is on disk.
    pub fn durable(&self, session: &SessionId) -> Moment {
        let state = self.state.lock();
        let oldest = state.log.iter().find(|undo| undo.session == *session);
        oldest.map_or_else(|| self.memory.moment(session), |undo| undo.before.clone())
    }

    /// Everything takes long until `until`.
    pub fn slow(&self, until: Instant) {
        self.state.lock().slow_until = until;
    }

    /// From now on no answer gets lost.
    pub fn heal(&self) {
        *self.astray.lock() = 0;
        self.state.lock().slow_until = Instant::now();
    }

    /// A session, as it is.
    pub fn moment(&self, session: &SessionId) -> Moment {
        self.memory.moment(session)
    }

    /// All sessions it knows, without their data.
    pub fn slots(&self) -> Vec<(SessionId, Slot)> {
        let known = self.state.lock().known.clone();
        known.into_iter().map(|id| (id.clone(), self.slot(&id))).collect()
    }

    /// All sessions it knows, as they are.
    pub fn moments(&self) -> Vec<(SessionId, Moment)> {
        let known = self.state.lock().known.clone();
        known.into_iter().map(|id| (id.clone(), self.memory.moment(&id))).collect()
    }

    /// The clock of the store.
    pub fn now(&self) -> Millis {
        self.memory.now().now_or_never().and_then(Result::ok).unwrap_or_default()
    }

    /// Whether a walk passed, and nothing is pending.
    pub fn quiet(&self) -> bool {
        let serves = self.state.lock().serves;
        let pending = self.memory.pending(1).now_or_never().and_then(Result::ok);
        serves && pending.is_some_and(|pending| pending.is_empty())
    }

    fn slot(&self, session: &SessionId) -> Slot {
        let snapshot = self.memory.snapshot(session).now_or_never();
        snapshot.and_then(Result::ok).unwrap_or_default().slot
    }

    /// Everything up to the write `number`, and what is old, is on disk.
    fn to_disk(&self, state: &mut State, number: u64) {
        let mut written = BTreeSet::new();
        while let Some(first) = state.log.front()
            && (first.number <= number || first.at.elapsed() >= BY_ITSELF)
        {
            written.extend(state.log.pop_front().map(|undo| undo.session));
        }
        for session in written {
            if state.log.iter().any(|undo| undo.session == session) {
                continue;
            }
            let moment = self.memory.moment(&session);
            if let Some(record) = &moment.slot().record
                && record.holds_data()
                && let Some(fields) = moment.fields()
            {
                self.shadow.durable(self.function, &session, record.life(), &tokens(fields));
            }
        }
    }

    /// One call takes effect.
    fn apply<T>(&self, call: &Doing<T>) -> StoreResult<T> {
        let mut state = self.state.lock();
        if !state.up {
            return Err(StoreError::Unavailable("connection refused".to_owned()));
        }
        if call.scripted && !state.serves {
            return Err(StoreError::Restarted);
        }
        let Some(session) = &call.writes else { return (call.act)(&self.memory) };
        let before = self.slot(session);
        let moment =
            if self.forgets || call.ends { Some(self.memory.moment(session)) } else { None };
        let outcome = (call.act)(&self.memory);
        let after = self.slot(session);
        if state.known.insert(session.clone()) || before.record != after.record {
            self.trace.step((self.site, self.function, session, &after.record), || {
                let what = call.what;
                format!(
                    "store {}/{} {what} {session}: {:?}",
                    self.site, self.function, after.record
                )
            });
        }
        if let Some(moment) = moment {
            if call.ends && before.record != after.record {
                self.ended(session, &before, &moment);
            }
            if self.forgets {
                state.written += 1;
                let number = state.written;
                state.log.push_back(Undo {
                    number,
                    at: Instant::now(),
                    session: session.clone(),
                    before: moment,
                });
                self.to_disk(&mut state, 0);
            }
        }
        drop(state);
        self.shadow.changed((self.site, self.function), call.what, session, &before, &after);
        outcome
    }

    fn ended(&self, session: &SessionId, before: &Slot, moment: &Moment) {
        if let (Some(record), Some(fields)) = (&before.record, moment.fields())
            && record.holds_data()
        {
            self.shadow.expired(self.function, session, record.life(), tokens(fields));
        }
    }

    /// Waits until what was written is on disk, as `WAITAOF` does.
    async fn synced(&self, run: u64) -> StoreResult<()> {
        let restarted =
            || StoreError::Unavailable("restarted before the write was on disk".to_owned());
        let takes = self.chance.millis(0, self.sync);
        let number = self.state.lock().written;
        if !takes.is_zero() {
            tokio::time::sleep(takes.min(SYNC_TIMEOUT)).await;
        }
        let mut state = self.state.lock();
        if state.run != run || !state.up {
            return Err(restarted());
        }
        self.to_disk(&mut state, number);
        Ok(())
    }

    /// The walk after a restart: every session with an intent is frozen.
    async fn walk(&self) -> StoreResult<()> {
        let run = {
            let mut state = self.state.lock();
            if !state.up {
                return Err(StoreError::Unavailable("connection refused".to_owned()));
            }
            if state.serves {
                return Ok(());
            }
            let pending = self.memory.pending(usize::MAX).now_or_never();
            for session in pending.and_then(Result::ok).unwrap_or_default() {
                let before = self.memory.moment(&session);
                let act = self.memory.step(&session, &Event::StoreRestarted, Durability::Synced);
                let _ = act.now_or_never();
                if self.forgets {
                    state.written += 1;
                    let number = state.written;
                    state.log.push_back(Undo { number, at: Instant::now(), session, before });
                }
            }
            state.run
        };
        self.synced(run).await?;
        let mut state = self.state.lock();
        if !state.up || state.run != run {
            return Err(StoreError::Unavailable("restarted again".to_owned()));
        }
        let first = !std::mem::replace(&mut state.serves, true);
        drop(state);
        if first {
            self.shadow.serves(self.site, self.function, &self.slots());
        }
        Ok(())
    }
}

/// What a call does to the store.
type Act<T> = Box<dyn Fn(&MemoryStore) -> StoreResult<T> + Send + Sync>;

/// One call of a store, as it travels.
struct Doing<T> {
    what: &'static str,
    /// The session it may change.
    writes: Option<SessionId>,
    /// It may end the session.
    ends: bool,
    /// Refused until a walk has passed.
    scripted: bool,
    synced: bool,
    act: Act<T>,
}

impl<T> Doing<T> {
    fn new(
        what: &'static str,
        act: impl Fn(&MemoryStore) -> Option<StoreResult<T>> + Send + Sync + 'static,
    ) -> Self {
        let act = Box::new(move |store: &MemoryStore| {
            act(store).unwrap_or_else(|| Err(StoreError::Corrupt("it waited".to_owned())))
        });
        Self { what, writes: None, ends: false, scripted: true, synced: false, act }
    }

    fn writes(mut self, session: &SessionId) -> Self {
        self.writes = Some(session.clone());
        self
    }

    fn synced(mut self, synced: bool) -> Self {
        self.synced = synced;
        self
    }

    fn plain(mut self) -> Self {
        self.scripted = false;
        self
    }
}

/// How a call goes astray.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Lost,
    Unanswered,
}

/// One process's connection.
#[derive(Clone)]
pub struct Handle {
    disk: Arc<Disk>,
    /// The process: once it is gone it asks nothing, and hears nothing.
    process: CancellationToken,
    /// What it remembers of sessions, outdated or not.
    seen: Arc<Mutex<BTreeMap<SessionId, Session>>>,
}

impl Handle {
    /// A connection of `process`.
    pub fn new(disk: Arc<Disk>, process: CancellationToken) -> Self {
        Self { disk, process, seen: Arc::default() }
    }

    async fn alive(&self) {
        if self.process.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    async fn call<T: Send + 'static>(&self, doing: Doing<T>) -> StoreResult<T> {
        self.alive().await;
        let disk = &self.disk;
        let (slow, run) = {
            let state = disk.state.lock();
            (Instant::now() < state.slow_until, state.run)
        };
        let fate = match *disk.astray.lock() {
            0 => Fate::Well,
            often if disk.chance.hits(often) => *disk.chance.pick(&[Fate::Lost, Fate::Unanswered]),
            _ => Fate::Well,
        };
        let there = match slow {
            true => disk.chance.millis(0, 800),
            false if disk.chance.hits(600) => Duration::ZERO,
            false => disk.chance.millis(1, 2),
        };
        let outcome = if there.is_zero() && fate == Fate::Well {
            disk.apply(&doing)
        } else {
            self.travels(doing.what, there, fate).await?;
            let synced = doing.synced;
            let what = doing.what;
            let applied = {
                let disk = Arc::clone(disk);
                // Once sent, it takes effect, whether or not anybody waits.
                tokio::spawn(async move {
                    tokio::time::sleep(there).await;
                    disk.apply(&doing)
                })
            };
            let limit = if synced { SYNC_TIMEOUT } else { RESPONSE_TIMEOUT };
            let answered = tokio::time::timeout(limit, applied).await;
            self.alive().await;
            let lost = || {
                disk.reasons.note();
                StoreError::Unavailable(format!("no answer to {what}"))
            };
            let answered = answered.map_err(|_| lost())?.map_err(|_| lost())?;
            if fate == Fate::Unanswered {
                return Err(lost());
            }
            return self.on_disk(synced, run, answered).await;
        };
        self.on_disk(doing.synced, run, outcome).await
    }

    /// Whether a call arrives.
    async fn travels(&self, what: &str, there: Duration, fate: Fate) -> StoreResult<()> {
        if fate != Fate::Lost {
            return Ok(());
        }
        self.disk.reasons.note();
        tokio::time::sleep(there).await;
        self.alive().await;
        Err(StoreError::Unavailable(format!("the connection broke before {what}")))
    }

    /// Waits for the disk, as the caller asked.
    async fn on_disk<T>(&self, synced: bool, run: u64, outcome: StoreResult<T>) -> StoreResult<T> {
        if synced && outcome.is_ok() && !self.disk.always {
            self.disk.synced(run).await?;
            self.alive().await;
        }
        if outcome.is_ok() && self.disk.state.lock().run != run {
            return Err(StoreError::Unavailable("the connection broke".to_owned()));
        }
        outcome
    }
}

/// What a commit appends.
fn appended(commit: &Commit) -> Vec<Entry> {
    let known = |list: &str| [LOG, GOT, CALLED].into_iter().find(|known| *known == list);
    let mut entries = Vec::new();
    for change in &commit.data {
        if let Change::Append { list, value } = change
            && let Some(list) = known(list)
            && let Some(token) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok())
        {
            entries.push((list, token));
        }
    }
    entries
}

/// What is in `was` and not in the durable parts `elsewhere`.
pub fn lost(was: &Moment, is: &Moment, elsewhere: &[Tokens]) -> BTreeSet<Entry> {
    let all = |moment: &Moment| -> BTreeSet<Entry> {
        let lists = moment.fields().map(tokens).unwrap_or_default();
        lists
            .into_iter()
            .flat_map(|(list, all)| all.into_iter().map(move |one| (list, one)))
            .collect()
    };
    let mut lost: BTreeSet<Entry> = all(was).difference(&all(is)).copied().collect();
    for lists in elsewhere {
        lost.retain(|(list, token)| lists.get(list).is_none_or(|kept| !kept.contains(token)));
    }
    lost
}

/// Writes down a method that does nothing but pass the call on.
macro_rules! doing {
    ($name:literal, |$store:ident $(, $arg:ident)*| $call:expr) => {{
        $(let $arg = $arg.clone();)*
        Doing::new($name, move |$store: &MemoryStore| $call.now_or_never())
    }};
}

#[async_trait]
impl SessionStore for Handle {
    async fn begin(&self, session: &SessionId, request: &BeginRequest) -> StoreResult<Begun> {
        let doing = doing!("begin", |s, session, request| s.begin(&session, &request));
        let begun = self.call(doing.writes(session)).await?;
        if let Begun::Run(run) = &begun
            && run.data.is_some()
        {
            self.seen.lock().insert(session.clone(), run.clone());
        }
        Ok(begun)
    }

    fn recall(&self, session: &SessionId) -> Option<Session> {
        self.seen.lock().get(session).cloned()
    }

    async fn is_current(&self, session: &SessionId, recalled: &Session) -> StoreResult<bool> {
        let doing = doing!("is current", |s, session, recalled| s.is_current(&session, &recalled));
        self.call(doing).await
    }

    async fn commit_at_once(
        &self,
        session: &SessionId,
        recalled: &Session,
        commit: &Commit,
    ) -> StoreResult<Option<Committed>> {
        let (disk, entries) = (Arc::clone(&self.disk), appended(commit));
        let (id, recalled, commit) = (session.clone(), recalled.clone(), commit.clone());
        let doing = Doing::new("commit", move |s: &MemoryStore| {
            let outcome = s.commit_at_once(&id, &recalled, &commit).now_or_never();
            if let Some(Ok(Some(Committed::Applied))) = &outcome {
                disk.shadow.committed(disk.function, &id, &commit.life, &entries);
            }
            outcome
        });
        let committed = self.call(doing.writes(session)).await;
        // Else it goes on with what is outdated now.
        if self.disk.chance.hits(600) {
            match self.disk.memory.recall(session) {
                Some(seen) => self.seen.lock().insert(session.clone(), seen),
                None => self.seen.lock().remove(session),
            };
        }
        committed
    }

    async fn commit(&self, session: &SessionId, commit: &Commit) -> StoreResult<Committed> {
        let (disk, entries) = (Arc::clone(&self.disk), appended(commit));
        let (id, commit) = (session.clone(), commit.clone());
        let doing = Doing::new("commit", move |s: &MemoryStore| {
            let outcome = s.commit(&id, &commit).now_or_never();
            if let Some(Ok(Committed::Applied)) = &outcome {
                disk.shadow.committed(disk.function, &id, &commit.life, &entries);
            }
            outcome
        });
        self.call(doing.writes(session)).await
    }

    async fn release(&self, session: &SessionId, lease: LeaseId) -> StoreResult<()> {
        let doing = doing!("release", |s, session| s.release(&session, lease));
        self.call(doing.writes(session)).await
    }

    async fn renew(&self, session: &SessionId, lease: LeaseId, ttl: Duration) -> StoreResult<bool> {
        let doing = doing!("renew", |s, session| s.renew(&session, lease, ttl));
        self.call(doing.writes(session)).await
    }

    async fn remembered(
        &self,
        session: &SessionId,
        request: &RequestId,
    ) -> StoreResult<Option<WindowEntry>> {
        self.call(doing!("remembered", |s, session, request| s.remembered(&session, &request)))
            .await
    }

    async fn read(
        &self,
        session: &SessionId,
        guard: &ReadGuard,
        read: &Read,
    ) -> StoreResult<Option<FieldMap>> {
        self.call(doing!("read", |s, session, guard, read| s.read(&session, &guard, &read))).await
    }

    async fn snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        self.call(doing!("snapshot", |s, session| s.snapshot(&session))).await
    }

    async fn durable_snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        let doing = doing!("durable snapshot", |s, session| s.snapshot(&session));
        self.call(doing.synced(true)).await
    }

    async fn step(
        &self,
        session: &SessionId,
        event: &Event,
        durability: Durability,
    ) -> StoreResult<Result<Reply, Refusal>> {
        let ends = matches!(event, Event::Expire { .. });
        let doing = doing!("step", |s, session, event| s.step(&session, &event, durability));
        let doing = doing.writes(session).synced(durability == Durability::Synced);
        self.call(Doing { ends, what: name(event), ..doing }).await
    }

    async fn copy(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        let (id, cursor) = (session.clone(), cursor.map(str::to_owned));
        let doing = Doing::new("copy", move |s: &MemoryStore| {
            s.copy(&id, nonce, cursor.as_deref()).now_or_never()
        });
        // The store keeps from now on what changes.
        self.call(doing.writes(session)).await
    }

    async fn export(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        let (id, cursor) = (session.clone(), cursor.map(str::to_owned));
        let doing = Doing::new("export", move |s: &MemoryStore| {
            s.export(&id, nonce, cursor.as_deref()).now_or_never()
        });
        self.call(doing).await
    }

    async fn stage(&self, session: &SessionId, nonce: Nonce, page: &Page) -> StoreResult<Staged> {
        let doing = doing!("stage", |s, session, page| s.stage(&session, nonce, &page));
        self.call(doing.writes(session)).await
    }

    async fn dump(&self, session: &SessionId) -> StoreResult<Option<FieldMap>> {
        self.call(doing!("dump", |s, session| s.dump(&session))).await
    }

    async fn outbox(&self, session: &SessionId, limit: usize) -> StoreResult<Vec<OutboxEntry>> {
        self.call(doing!("outbox", |s, session| s.outbox(&session, limit))).await
    }

    async fn delivered(&self, session: &SessionId, entry: &str) -> StoreResult<()> {
        let (id, entry) = (session.clone(), entry.to_owned());
        let doing =
            Doing::new("delivered", move |s: &MemoryStore| s.delivered(&id, &entry).now_or_never());
        self.call(doing.writes(session)).await
    }

    async fn residents(
        &self,
        homes: Option<&[NodeName]>,
        limit: usize,
    ) -> StoreResult<Vec<Resident>> {
        let homes = homes.map(<[NodeName]>::to_vec);
        let doing = Doing::new("residents", move |s: &MemoryStore| {
            s.residents(homes.as_deref(), limit).now_or_never()
        });
        self.call(doing).await
    }

    async fn pending(&self, limit: usize) -> StoreResult<Vec<SessionId>> {
        self.call(doing!("pending", |s| s.pending(limit))).await
    }

    async fn old_pointers(&self, before: Millis, limit: usize) -> StoreResult<Vec<SessionId>> {
        self.call(doing!("old pointers", |s| s.old_pointers(before, limit))).await
    }

    async fn counts(&self) -> StoreResult<Counts> {
        self.call(doing!("counts", |s| s.counts())).await
    }

    async fn now(&self) -> StoreResult<Millis> {
        self.call(doing!("now", |s| s.now()).plain()).await
    }

    async fn mend_index(&self, cursor: Option<String>) -> StoreResult<Option<String>> {
        self.call(doing!("mend", |s, cursor| s.mend_index(cursor.clone()))).await
    }

    async fn recover_restart(&self) -> StoreResult<()> {
        self.alive().await;
        let takes = self.disk.chance.millis(0, 4);
        tokio::time::sleep(takes).await;
        let outcome = self.disk.walk().await;
        self.alive().await;
        outcome
    }

    async fn slots(&self, sessions: &[SessionId]) -> StoreResult<Vec<Slot>> {
        let sessions = sessions.to_vec();
        self.call(doing!("slots", |s, sessions| s.slots(&sessions))).await
    }

    async fn walk(&self, cursor: Option<String>) -> StoreResult<Walked> {
        self.call(doing!("walk", |s, cursor| s.walk(cursor.clone()))).await
    }

    async fn on_disk(&self) -> StoreResult<()> {
        self.call(doing!("on disk", |s| s.on_disk()).synced(true)).await
    }

    async fn close(&self) -> StoreResult<()> {
        self.call(doing!("close", |s| s.close()).plain()).await
    }

    async fn inside(&self) -> StoreResult<Arc<dyn SessionStore>> {
        self.call(doing!("inside", |s| s.inside()).plain()).await
    }

    async fn setting(&self, name: &str) -> StoreResult<Option<String>> {
        let name = name.to_owned();
        let doing = Doing::new("setting", move |s: &MemoryStore| s.setting(&name).now_or_never());
        self.call(doing.plain()).await
    }

    async fn set_setting(&self, name: &str, value: Option<&str>) -> StoreResult<Option<String>> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        let doing = Doing::new("set setting", move |s: &MemoryStore| {
            s.set_setting(&name, value.as_deref()).now_or_never()
        });
        // Settings are not in the log: one is on disk when it is said.
        self.call(doing.synced(true)).await
    }

    async fn settings(&self, prefix: &str) -> StoreResult<BTreeMap<String, String>> {
        let prefix = prefix.to_owned();
        let doing =
            Doing::new("settings", move |s: &MemoryStore| s.settings(&prefix).now_or_never());
        self.call(doing.plain()).await
    }

    fn promise(&self) -> Promise {
        if self.disk.always { Promise::Always } else { Promise::WaitAof }
    }
}

/// An event's name.
fn name(event: &Event) -> &'static str {
    match event {
        Event::OpenPull(_) => "open pull",
        Event::ClosePull { .. } => "close pull",
        Event::Agree { .. } => "agree",
        Event::Freeze { .. } => "freeze",
        Event::Install { .. } => "install",
        Event::Done { .. } => "done",
        Event::Settled { .. } => "settled",
        Event::Ask { .. } => "ask",
        Event::Answer { .. } => "answer",
        Event::StoreRestarted => "restarted",
        Event::Abandon { .. } => "abandon",
        Event::Superseded { .. } => "superseded",
        Event::HomeUpdate { .. } => "home update",
        Event::HomeExpired { .. } => "home expired",
        Event::Told { .. } => "told",
        Event::Expire { .. } => "expire",
        Event::Rehome { .. } => "rehome",
        Event::ExpiryTold { .. } => "expiry told",
        Event::Age { .. } => "age",
        Event::Refresh { .. } => "refresh",
        Event::Restore { .. } => "restore",
    }
}

/// Whether a record is one of an owner.
pub fn owns(slot: &Slot) -> bool {
    matches!(slot.record, Some(Record::Owned { .. }))
}
