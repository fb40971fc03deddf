//! The node's Redis as a store.
//!
//! - `requests`: begin, commit and reads, one script each, one round trip
//! - `at_once`: requests in sessions that this process has seen
//! - `together`: requests that arrive at the same time ask in one call, as `gather` lets
//!   them
//! - `watched`: reads that ask whether anything has changed
//! - `recent`, `pointers`: what this process has seen, so that the store need not say it again
//! - `steps`: protocol steps: load, decide in Rust, write if nothing changed
//! - `pages`: copy, export and stage
//! - `index`: residents, pointers, pending
//! - `recover`, `mend`, `walk`: the walks over all sessions: after a restart, to keep the
//!   index true, and for whoever has to know them all
//! - `sync`: waiting for the disk
//! - `keys`, `encode`, `reply`, `scripts` and `lua/`: the form of it all
//! - `marks`: pending sessions are marked first
//! - `servers`: where commands go: to one server (`shard`), or to the masters of a
//!   `cluster` by their `slots`
//! - `address`, `link`, `options`: the connection to a server, and what it has to be
//!
//! All keys of a session share a hash tag; no key has a TTL; `KEYS` is never used
//! and `SCAN` only on the walks. See `lua/prelude.lua` for the meta hash.

mod address;
mod at_once;
mod cluster;
mod encode;
mod gather;
mod index;
mod keys;
mod link;
mod marks;
mod mend;
mod options;
mod pages;
mod pointers;
mod recent;
mod recover;
mod reply;
mod requests;
mod scripts;
mod servers;
mod shard;
mod slots;
mod steps;
mod sync;
mod together;
mod walk;
mod watched;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

pub use self::options::{ConnectError, RedisOptions};

use self::address::Target;
use self::cluster::Cluster;
use self::index::Appeared;
use self::keys::Keys;
use self::pointers::Pointers;
use self::recent::{Recent, Seen};
use self::reply::Parts;
use self::scripts::{Script, Scripts};
use self::servers::{Door, Servers};
use self::shard::Shard;
use self::together::Together;
use self::watched::Watcher;
use super::{
    BeginRequest, Begun, Commit, Committed, Counts, Durability, Promise, Read, ReadGuard, Resident,
    Session, SessionStore, Snapshot, Staged, StoreError, StoreResult, StoreScope, Walked,
};
use crate::metrics::StoreMeter;
use crate::protocol::{Event, Refusal, Reply};
use crate::session::fields::FieldMap;
use crate::session::{
    LeaseId, Millis, NodeName, Nonce, OutboxEntry, Page, RequestId, SessionId, Slot, WindowEntry,
};

/// Whether this is how the URL of a Redis begins.
pub(crate) fn is_url(url: &str) -> bool {
    Target::begins(url)
}

/// One function's sessions at one node, in Redis 7.0 or newer, one server or a
/// cluster.
///
/// Several of these may share a Redis; replicas of a function at a node share
/// their sessions through it.
#[derive(Debug, Clone)]
pub struct RedisStore {
    core: Arc<Core>,
}

/// How many bytes of sessions' data a process keeps in memory, about.
const RECENT_BYTES: usize = 32 << 20;

/// What all parts of the store use.
#[derive(Debug)]
struct Core {
    this: Weak<Core>,
    url: String,
    servers: Servers,
    options: RedisOptions,
    scope: StoreScope,
    keys: Keys,
    scripts: Arc<Scripts>,
    appeared: Appeared,
    pointers: Pointers,
    together: Together,
    watcher: Watcher,
    recent: Recent<Arc<Seen>>,
}

impl RedisStore {
    /// Connects and finds out what the server is and promises.
    ///
    /// The store answers [`StoreError::Restarted`]
    /// until [`SessionStore::recover_restart`] has run against this process of
    /// Redis: a node calls it when it starts.
    ///
    /// # Errors
    ///
    /// The URL does not read, Redis cannot be reached, is too old, or may evict
    /// sessions; each says what to do.
    pub async fn connect(
        url: &str,
        options: RedisOptions,
        scope: StoreScope,
    ) -> Result<Self, ConnectError> {
        Self::open(url, options, scope, false).await
    }

    /// `inside`: for whoever works in it while nobody else is let in.
    async fn open(
        url: &str,
        mut options: RedisOptions,
        scope: StoreScope,
        inside: bool,
    ) -> Result<Self, ConnectError> {
        options.meter = StoreMeter::new(&scope);
        let prefix = &options.prefix;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if !(1..=63).contains(&prefix.len()) || !prefix.bytes().all(plain) {
            return Err(ConnectError::Prefix(prefix.clone()));
        }
        let target = Target::read(url, &options)?;
        let database = match &target {
            Target::One(address) => address.redis_settings().db(),
            Target::Cluster(_) => 0,
        };
        let mut whose = format!(
            "function {} at {}, keys {prefix}, database {database}",
            scope.function, scope.here,
        );
        if inside {
            // Scripts of its own: that they are loaded lets nobody else in.
            whose.push_str(", inside");
        }
        let scripts = Arc::new(Scripts::new(&whose));
        let (keys, servers) = match target {
            Target::One(address) => {
                let keys = Keys::new(prefix, &scope.function);
                let key = Some(keys.sync());
                let shard = Shard::open(address, &options, scripts.clone(), key, false).await?;
                tracing::info!(server = %shard.judged.name, "Redis is there");
                (keys, Servers::One(Arc::new(shard)))
            }
            Target::Cluster(reach) => {
                let keys = Keys::clustered(prefix, &scope.function);
                let opening = Cluster::open(reach, &options, keys.clone(), scripts.clone());
                let cluster = opening.await?;
                let masters = cluster.masters().len();
                tracing::info!(masters, reached = cluster.opened().len(), "the cluster is there");
                (keys, Servers::Cluster(cluster))
            }
        };
        let core = Arc::new_cyclic(|this| Core {
            this: this.clone(),
            url: url.to_owned(),
            servers,
            keys,
            scripts,
            appeared: Appeared::default(),
            pointers: Pointers::default(),
            together: Together::default(),
            watcher: Watcher::default(),
            recent: Recent::new(RECENT_BYTES),
            options,
            scope,
        });
        Ok(Self { core })
    }
}

impl Core {
    /// The way to a session's keys.
    fn at(&self, session: &SessionId) -> Door<'_> {
        match &self.servers {
            Servers::One(shard) => Door::One(shard),
            Servers::Cluster(cluster) => {
                Door::Slot(cluster, slots::slot_of(&self.keys.session(session).meta()))
            }
        }
    }

    /// The way to the function's index and settings.
    fn index(&self) -> Door<'_> {
        match &self.servers {
            Servers::One(shard) => Door::One(shard),
            Servers::Cluster(cluster) => Door::Slot(cluster, slots::slot_of(&self.keys.pending())),
        }
    }

    async fn clock_of(&self, session: &SessionId) -> StoreResult<Millis> {
        match &self.servers {
            Servers::One(_) => self.now().await,
            // `TIME` has no key that would lead it to the right master.
            Servers::Cluster(_) => Ok(self.snapshot(session).await?.now),
        }
    }

    /// The clock that is furthest behind: by it nothing is too old too early,
    /// whichever server has stamped it.
    async fn now(&self) -> StoreResult<Millis> {
        let time = redis::cmd("TIME");
        let shards = match &self.servers {
            Servers::One(shard) => return recover::time(shard.link.call(&time).await?),
            Servers::Cluster(_) => self.servers.each().await,
        };
        let ask = async |shard: Arc<Shard>| shard.link.call(&time).await.and_then(recover::time);
        let asked = shards.into_iter().filter_map(|(_, shard)| shard).map(ask);
        let mut earliest = Err(StoreError::Unavailable("no master can be reached".to_owned()));
        for now in futures_util::future::join_all(asked).await {
            earliest = match (earliest, now) {
                (Ok(earliest), Ok(now)) => Ok(now.min(earliest)),
                (Ok(now), Err(_)) | (Err(_), Ok(now)) => Ok(now),
                (Err(_), Err(error)) => Err(error),
            };
        }
        earliest
    }

    async fn setting(&self, name: &str) -> StoreResult<Option<String>> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(self.keys.settings()).arg(name);
        optional(self.index().call(&cmd).await?)
    }

    async fn set_setting(&self, name: &str, value: Option<&str>) -> StoreResult<Option<String>> {
        // Whoever is let in: that a store waits for something is said in its settings.
        let mut cmd = self.scripts.recovering(Script::Setting, 1);
        cmd.arg(self.keys.settings()).arg(name).arg(value);
        if !self.servers.waits() {
            return optional(self.index().call(&cmd).await?);
        }
        let (old, witness) = self.index().witnessed(&cmd).await?;
        if let Some(witness) = witness {
            self.on_disk_with(&witness).await?;
        }
        optional(old)
    }

    async fn settings(&self, prefix: &str) -> StoreResult<BTreeMap<String, String>> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.keys.settings());
        let mut parts = Parts::new(self.index().call(&cmd).await?)?;
        let mut found = BTreeMap::new();
        while let Some(name) = parts.next() {
            let (name, value) = (reply::text(name)?, parts.text()?);
            if name.starts_with(prefix) {
                found.insert(name, value);
            }
        }
        Ok(found)
    }
}

fn optional(value: Value) -> StoreResult<Option<String>> {
    match value {
        Value::Nil => Ok(None),
        value => reply::text(value).map(Some),
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn begin(&self, session: &SessionId, request: &BeginRequest) -> StoreResult<Begun> {
        self.core.begin(session, request).await
    }

    async fn commit(&self, session: &SessionId, commit: &Commit) -> StoreResult<Committed> {
        self.core.commit(session, commit).await
    }

    fn recall(&self, session: &SessionId) -> Option<Session> {
        self.core.recall(session)
    }

    async fn is_current(&self, session: &SessionId, recalled: &Session) -> StoreResult<bool> {
        self.core.is_current(session, recalled).await
    }

    async fn commit_at_once(
        &self,
        session: &SessionId,
        recalled: &Session,
        commit: &Commit,
    ) -> StoreResult<Option<Committed>> {
        self.core.commit_at_once(session, recalled, commit).await
    }

    async fn release(&self, session: &SessionId, lease: LeaseId) -> StoreResult<()> {
        self.core.release(session, lease).await
    }

    async fn renew(&self, session: &SessionId, lease: LeaseId, ttl: Duration) -> StoreResult<bool> {
        self.core.renew(session, lease, ttl).await
    }

    async fn remembered(
        &self,
        session: &SessionId,
        request: &RequestId,
    ) -> StoreResult<Option<WindowEntry>> {
        self.core.remembered(session, request).await
    }

    async fn read(
        &self,
        session: &SessionId,
        guard: &ReadGuard,
        read: &Read,
    ) -> StoreResult<Option<FieldMap>> {
        self.core.read(session, guard, read).await
    }

    async fn snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        self.core.snapshot(session).await
    }

    async fn durable_snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        self.core.durable_snapshot(session).await
    }

    async fn step(
        &self,
        session: &SessionId,
        event: &Event,
        durability: Durability,
    ) -> StoreResult<Result<Reply, Refusal>> {
        self.core.step(session, event, durability).await
    }

    async fn copy(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        self.core.copy(session, nonce, cursor).await
    }

    async fn export(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        self.core.export(session, nonce, cursor).await
    }

    async fn stage(&self, session: &SessionId, nonce: Nonce, page: &Page) -> StoreResult<Staged> {
        self.core.stage(session, nonce, page).await
    }

    async fn dump(&self, session: &SessionId) -> StoreResult<Option<FieldMap>> {
        self.core.dump(session).await
    }

    async fn outbox(&self, session: &SessionId, limit: usize) -> StoreResult<Vec<OutboxEntry>> {
        self.core.outbox(session, limit).await
    }

    async fn delivered(&self, session: &SessionId, entry: &str) -> StoreResult<()> {
        self.core.delivered(session, entry).await
    }

    async fn residents(
        &self,
        homes: Option<&[NodeName]>,
        limit: usize,
    ) -> StoreResult<Vec<Resident>> {
        self.core.residents(homes, limit).await
    }

    async fn pending(&self, limit: usize) -> StoreResult<Vec<SessionId>> {
        self.core.pending(limit).await
    }

    async fn old_pointers(&self, before: Millis, limit: usize) -> StoreResult<Vec<SessionId>> {
        self.core.old_pointers(before, limit).await
    }

    async fn counts(&self) -> StoreResult<Counts> {
        self.core.counts().await
    }

    async fn now(&self) -> StoreResult<Millis> {
        self.core.now().await
    }

    async fn clock_of(&self, session: &SessionId) -> StoreResult<Millis> {
        self.core.clock_of(session).await
    }

    async fn mend_index(&self, cursor: Option<String>) -> StoreResult<Option<String>> {
        self.core.mend_index(cursor).await
    }

    async fn recover_restart(&self) -> StoreResult<()> {
        self.core.recover_restart().await
    }

    async fn slots(&self, sessions: &[SessionId]) -> StoreResult<Vec<Slot>> {
        self.core.slots(sessions).await
    }

    async fn walk(&self, cursor: Option<String>) -> StoreResult<Walked> {
        self.core.walk(cursor).await
    }

    async fn on_disk(&self) -> StoreResult<()> {
        self.core.on_disk().await
    }

    async fn close(&self) -> StoreResult<()> {
        self.core.close().await
    }

    async fn inside(&self) -> StoreResult<Arc<dyn SessionStore>> {
        let Core { url, options, scope, .. } = &*self.core;
        let store = Self::open(url, options.clone(), scope.clone(), true).await;
        Ok(Arc::new(store.map_err(|error| StoreError::Unavailable(error.to_string()))?))
    }

    async fn setting(&self, name: &str) -> StoreResult<Option<String>> {
        self.core.setting(name).await
    }

    async fn set_setting(&self, name: &str, value: Option<&str>) -> StoreResult<Option<String>> {
        self.core.set_setting(name, value).await
    }

    async fn settings(&self, prefix: &str) -> StoreResult<BTreeMap<String, String>> {
        self.core.settings(prefix).await
    }

    fn promise(&self) -> Promise {
        self.core.servers.promise()
    }
}
