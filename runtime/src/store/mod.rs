//! Where a node keeps its sessions: one trait, two stores.
//!
//! - [`memory`]: embedded, for `funicular up`, tests and demos
//! - `redis`: the node's Redis, one server or a cluster, for everything else
//!
//! A store applies the pure transitions of [`crate::protocol`] atomically: it
//! loads what it knows, lets the protocol decide, and writes the outcome only if
//! nothing changed in between. `begin` and `commit` have a short way of one round
//! trip each for the common case; all else goes through [`SessionStore::step`].

mod cursor;
pub mod memory;
pub mod redis;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::protocol::{BeginAsk, Event, Refusal, Reply};
use crate::session::fields::FieldMap;
use crate::session::{
    Change, Digest, Epoch, FunctionName, LeaseId, Life, Millis, NodeName, Nonce, OutboxEntry, Page,
    RequestId, SessionId, SessionKey, Slot, StoredResponse, WindowEntry,
};

/// What went wrong between the node and its store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time. What was asked
    /// of it may or may not have happened.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The store was restarted and may have forgotten its last writes. Nothing
    /// happened; recover ([`SessionStore::recover_restart`]) and ask again.
    #[error("the store was restarted: sessions are being recovered")]
    Restarted,
    /// The store has no memory left for new data. Nothing was written.
    #[error("the store is full: raise its maxmemory or move sessions away")]
    Full,
    /// What the store holds does not read.
    #[error("the store holds something this release does not read: {0}")]
    Corrupt(String),
}

/// A copy is begun again when more changes of fields that are no more wait than this,
/// besides twice as many as there are fields: they cost memory while a target is away.
const MOST_CHANGES: usize = 65_536;

/// A store's result.
pub type StoreResult<T> = Result<T, StoreError>;

/// Whether a step must survive power loss before its outcome is said (rule 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As durable as the store's own setting makes it, later.
    Eventual,
    /// Wait until it is on disk, as far as the store can promise it.
    Synced,
}

/// What the store promises when a step asks for [`Durability::Synced`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The store lives as long as the process does: durable by definition.
    Process,
    /// `appendfsync always`: every write is on disk before its reply.
    Always,
    /// `WAITAOF`: what asks for it is on disk before its reply.
    WaitAof,
    /// An append-only file without a way to wait for it, or none that can be
    /// relied on: power loss may cost the last second, protocol steps included.
    Everysec,
    /// No append-only file: a restart of the store loses its sessions.
    None,
}

impl Promise {
    /// What the store does not promise, and what to do about it: for the log.
    pub fn caveat(self) -> Option<&'static str> {
        match self {
            Self::Process | Self::Always | Self::WaitAof => None,
            Self::Everysec => Some(
                "power loss may cost the last second of what this Redis wrote, steps of moves \
                 included, and with them the single owner of a session that was moving: set \
                 `appendfsync always`, or take a Redis that can be waited for, 8.0 or newer \
                 (Redis 7.4 and Valkey 8 answer WAITAOF before the disk has it)",
            ),
            Self::None => Some(
                "this Redis keeps no append-only file, so its restart loses all its sessions: \
                 set `appendonly yes`",
            ),
        }
    }
}

/// How the deduplication window is kept.
#[derive(Debug, Clone, Copy)]
pub struct WindowLimits {
    /// At most this many request ids a session.
    pub entries: usize,
    /// None older than this.
    pub age: Duration,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { entries: 1024, age: Duration::from_secs(3600) }
    }
}

/// A request asks to run.
#[derive(Debug, Clone)]
pub struct BeginRequest {
    /// What it asks of the record.
    pub ask: BeginAsk,
    /// Its request id, for writes.
    pub request: Option<RequestId>,
    /// Return the data with the answer if the session has at most this many bytes.
    pub inline_max: u64,
}

/// The session that a request runs in.
#[derive(Debug, Clone)]
pub struct Session {
    /// Whose life.
    pub life: Life,
    /// Under which epoch it is owned here.
    pub epoch: Epoch,
    /// The data's version.
    pub version: u64,
    /// Bytes of fields and contents.
    pub bytes: u64,
    /// All fields, if the session is small.
    pub data: Option<Arc<FieldMap>>,
    /// Who committed last, or which attempt installed it, if either happened. With life
    /// and epoch it names one state of the data, ever: no store, restarted or not, has
    /// another under them.
    pub last: Option<LeaseId>,
    /// Whether this request created it.
    pub created: bool,
}

impl Session {
    /// Whether another look at the session found the same data.
    pub fn is_same_state(&self, other: &Self) -> bool {
        self.life == other.life
            && self.epoch == other.epoch
            && self.version == other.version
            && self.last == other.last
    }
}

/// What a store says to a request.
#[derive(Debug, Clone)]
pub enum Begun {
    /// Run it. A write holds the lease now.
    Run(Session),
    /// Its id is in the window: this is what was answered.
    Replay {
        /// The entry.
        entry: WindowEntry,
        /// The owner's life and epoch, for the token.
        life: Life,
        /// As above.
        epoch: Epoch,
    },
    /// Not now, or not here: the protocol says why, given this.
    Other {
        /// What the store knows.
        slot: Slot,
        /// When, on the store's clock.
        now: Millis,
    },
}

/// A writing request ends.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its lease.
    pub lease: LeaseId,
    /// The life and epoch it ran in.
    pub life: Life,
    /// As above.
    pub epoch: Epoch,
    /// What it changes in the data.
    pub data: Vec<Change>,
    /// What it sends to other nodes.
    pub outbox: Vec<OutboxEntry>,
    /// What to remember of it, if it has a request id.
    pub remember: Option<(RequestId, Digest, StoredResponse)>,
    /// Refuse if the session would hold more bytes than this afterwards.
    pub max_bytes: u64,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Everything is written and the lease is free.
    Applied,
    /// This very commit was applied before: the earlier reply was lost.
    AlreadyCommitted,
    /// The lease is not ours any more, and nothing was written by this call.
    LeaseLost,
    /// The session would be too large; nothing was written and the lease is free.
    TooLarge {
        /// The bytes it would have held.
        bytes: u64,
    },
}

/// Under which condition a read is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadGuard {
    /// The reader holds this lease.
    Lease(LeaseId),
    /// The session is here under this life and epoch, at this version.
    Version {
        /// Whose life.
        life: Life,
        /// Under which epoch.
        epoch: Epoch,
        /// The data's version.
        version: u64,
        /// Whether a frozen session may still be read.
        frozen: bool,
    },
}

/// What to read of a session that is too large to come inline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The fields of one value, chunks included.
    Value(String),
    /// The fields of one list, all items and their chunks included.
    List(String),
    /// The count field of one list.
    ListLen(String),
    /// All fields that name a value or a list; contents may be empty.
    Keys,
}

/// One session in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Its id.
    pub session: SessionId,
    /// Its home.
    pub home: NodeName,
    /// When it was last used, on the store's clock; may lag.
    pub used: Millis,
    /// Bytes of fields and contents; may lag.
    pub bytes: u64,
}

/// What a store says to a page it was given to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// The pull is not open (any more); nothing was kept.
    Closed,
    /// Kept; more pages are needed.
    More,
    /// All pages are there and add up to the totals.
    Complete,
    /// The totals came and the pages do not add up to them.
    Mismatch,
}

/// Everything a store knows of a session except its data.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Record, pull, lease.
    pub slot: Slot,
    /// The store's clock.
    pub now: Millis,
    /// The data's version.
    pub version: u64,
    /// Bytes of fields and contents.
    pub bytes: u64,
    /// Number of fields.
    pub fields: u64,
    /// Number of entries in the deduplication window.
    pub window: u64,
}

/// How many sessions a function has at a node; may lag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that are here.
    pub resident: u64,
    /// Sessions about which somebody has to be asked or told something.
    pub pending: u64,
}

/// A page of a walk over all that a store knows.
#[derive(Debug, Clone, Default)]
pub struct Walked {
    /// Sessions, and what is known of each.
    pub found: Vec<(SessionId, Slot)>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// A node's store. One value serves one function at one node; several may
/// share one Redis.
///
/// Every call either happened as a whole or not at all; after
/// [`StoreError::Unavailable`] the caller does not know which.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// A request asks to run. One round trip.
    async fn begin(&self, session: &SessionId, request: &BeginRequest) -> StoreResult<Begun>;

    /// A writing request ends well. One round trip.
    async fn commit(&self, session: &SessionId, commit: &Commit) -> StoreResult<Committed>;

    /// What this process remembers of a session that it has served here: its state and
    /// all of its data. Asks nobody. It may be outdated at any moment: what rests on it
    /// counts only after [`SessionStore::is_current`] or [`SessionStore::commit_at_once`].
    fn recall(&self, session: &SessionId) -> Option<Session>;

    /// Whether a session is owned here in the state that was recalled, at some moment
    /// after this call. `false` may also mean that it is quicker to ask anew.
    async fn is_current(&self, session: &SessionId, recalled: &Session) -> StoreResult<bool>;

    /// [`SessionStore::begin`] and [`SessionStore::commit`] in one step with nothing in
    /// between, for a write that ran on what was recalled: it takes effect if the session
    /// still is in that state and a writing request could begin now. `None`: it is not,
    /// or something else is in the way, and nothing was written. The commit has no outbox.
    /// Called again, after an answer was lost, with the same lease it says
    /// [`Committed::AlreadyCommitted`].
    async fn commit_at_once(
        &self,
        session: &SessionId,
        recalled: &Session,
        commit: &Commit,
    ) -> StoreResult<Option<Committed>>;

    /// A writing request ends without writing; frees its lease if it is still its own.
    async fn release(&self, session: &SessionId, lease: LeaseId) -> StoreResult<()>;

    /// Keeps a lease for another `ttl`; `false` if it is not ours any more.
    async fn renew(&self, session: &SessionId, lease: LeaseId, ttl: Duration) -> StoreResult<bool>;

    /// What became of a request id, if the window still knows it.
    async fn remembered(
        &self,
        session: &SessionId,
        request: &RequestId,
    ) -> StoreResult<Option<WindowEntry>>;

    /// Reads part of a session; `None` if the guard does not hold any more.
    async fn read(
        &self,
        session: &SessionId,
        guard: &ReadGuard,
        read: &Read,
    ) -> StoreResult<Option<FieldMap>>;

    /// What the store knows of a session.
    async fn snapshot(&self, session: &SessionId) -> StoreResult<Snapshot>;

    /// The same, once all that it says is on disk, as far as the store can promise
    /// it: what another node is told of a record comes from here (rule 3).
    async fn durable_snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        self.snapshot(session).await
    }

    /// Applies a protocol event atomically; the index of pending sessions never
    /// misses one that this leaves pending.
    async fn step(
        &self,
        session: &SessionId,
        event: &Event,
        durability: Durability,
    ) -> StoreResult<Result<Reply, Refusal>>;

    /// A page of a session that is owned here and has agreed to the move `nonce`, while
    /// it is being served. Without a `cursor` a copy begins: from then on the store
    /// keeps what changes, as long as the session is in that move. With the cursor of
    /// the last page it goes on: all fields once, then what changed since, without an
    /// end. Every page can be asked for again.
    ///
    /// [`Refusal::NoSuchCopy`]: the store does not know what changed since; begin again.
    /// [`Refusal::NoSuchMove`]: the session is not in that move.
    async fn copy(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>>;

    /// A page of a session that is frozen for the move `nonce`. `cursor` is `None` for
    /// the first page of all, or where a copy has come to: then only the rest comes.
    /// After that it is what the last page said.
    ///
    /// [`Refusal::NoSuchCopy`]: these are not pages of one session; begin with the first.
    /// [`Refusal::NoSuchMove`]: the session is not frozen for that move.
    async fn export(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>>;

    /// Keeps a page for the open pull `nonce`; a first page replaces what was kept. The
    /// page with the totals comes last; only after [`Staged::Complete`] may the pull
    /// install.
    async fn stage(&self, session: &SessionId, nonce: Nonce, page: &Page) -> StoreResult<Staged>;

    /// All data of a session that is here, for tools; `None` if it is not.
    async fn dump(&self, session: &SessionId) -> StoreResult<Option<FieldMap>>;

    /// The outbox of a session that is owned here, oldest first.
    async fn outbox(&self, session: &SessionId, limit: usize) -> StoreResult<Vec<OutboxEntry>>;

    /// Removes a delivered outbox entry.
    async fn delivered(&self, session: &SessionId, entry: &str) -> StoreResult<()>;

    /// Sessions that are here, least recently used first; only those with their
    /// home among `homes`, if given. From the index: may lag, and may name one
    /// that has just left.
    async fn residents(
        &self,
        homes: Option<&[NodeName]>,
        limit: usize,
    ) -> StoreResult<Vec<Resident>>;

    /// Sessions about which somebody has to be asked or told something. Never
    /// misses one; may name one that has just settled.
    async fn pending(&self, limit: usize) -> StoreResult<Vec<SessionId>>;

    /// Pointers that lead away, not confirmed since `before` (store clock).
    async fn old_pointers(&self, before: Millis, limit: usize) -> StoreResult<Vec<SessionId>>;

    /// How many there are; notices a restart ([`StoreError::Restarted`]).
    async fn counts(&self) -> StoreResult<Counts>;

    /// The store's clock. Where servers with clocks of their own share the sessions,
    /// the one that is furthest behind.
    async fn now(&self) -> StoreResult<Millis>;

    /// The clock by which what is said of a session is judged.
    async fn clock_of(&self, session: &SessionId) -> StoreResult<Millis> {
        let _ = session;
        self.now().await
    }

    /// Compares part of the index with the records and mends it; returns where
    /// to go on, `None` at the end.
    async fn mend_index(&self, cursor: Option<String>) -> StoreResult<Option<String>>;

    /// After [`StoreError::Restarted`]: applies [`Event::StoreRestarted`] to every
    /// session with an intent, then lets requests in again.
    async fn recover_restart(&self) -> StoreResult<()>;

    /// What is known of several sessions, in their order; all of it, or an error.
    async fn slots(&self, sessions: &[SessionId]) -> StoreResult<Vec<Slot>>;

    /// A page of all sessions of which anything is known, from the records themselves and
    /// not from the index. Misses none that is there from the first page to the last; may
    /// name one twice. An error while part of the store is away, or if that was restarted
    /// in between: begin anew.
    async fn walk(&self, cursor: Option<String>) -> StoreResult<Walked>;

    /// Returns when all that was written before is on disk, as far as the store can
    /// promise it.
    async fn on_disk(&self) -> StoreResult<()>;

    /// Lets nobody in: from now on every replica is answered [`StoreError::Restarted`],
    /// until one of them recovers.
    async fn close(&self) -> StoreResult<()>;

    /// The same store for whoever works in it while nobody else is let in. It has to be
    /// recovered first ([`SessionStore::recover_restart`]), which lets nobody in.
    async fn inside(&self) -> StoreResult<Arc<dyn SessionStore>>;

    /// A setting of this function at this node, the same for all replicas. Settings can be
    /// read and changed also while nobody is let in.
    async fn setting(&self, name: &str) -> StoreResult<Option<String>>;

    /// Changes a setting, durably; returns the old one.
    async fn set_setting(&self, name: &str, value: Option<&str>) -> StoreResult<Option<String>>;

    /// All settings whose name begins with `prefix`.
    async fn settings(&self, prefix: &str) -> StoreResult<BTreeMap<String, String>>;

    /// What [`Durability::Synced`] is worth here.
    fn promise(&self) -> Promise;
}

/// The key under which a store was opened: which function, at which node.
#[derive(Debug, Clone)]
pub struct StoreScope {
    /// The function whose sessions it holds.
    pub function: FunctionName,
    /// The node it belongs to.
    pub here: NodeName,
    /// How the deduplication window is kept.
    pub window: WindowLimits,
}

impl StoreScope {
    /// The full key of a session.
    pub fn key(&self, session: &SessionId) -> SessionKey {
        SessionKey::new(self.function.clone(), session.clone())
    }
}
