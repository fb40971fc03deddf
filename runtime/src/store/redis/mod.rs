//! The node's Redis as a store.
//!
//! - `requests`: begin, commit and reads, one script each, one round trip
//! - `recent`, `pointers`: what this process has seen, so that the store need not say it again
//! - `steps`: protocol steps: load, decide in Rust, write if nothing changed
//! - `pages`: export and stage
//! - `index`: residents, pointers, pending
//! - `recover`, `mend`: the walks over all sessions: after a restart, and to keep the
//!   index true
//! - `sync`: waiting for the disk
//! - `keys`, `encode`, `reply`, `scripts` and `lua/`: the form of it all
//! - `link`, `options`: the connection
//!
//! All keys of a session share a hash tag; no key has a TTL; `KEYS` is never used
//! and `SCAN` only on the two walks. See `lua/prelude.lua` for the meta hash.

mod encode;
mod index;
mod keys;
mod link;
mod mend;
mod options;
mod pages;
mod pointers;
mod recent;
mod recover;
mod reply;
mod requests;
mod scripts;
mod steps;
mod sync;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion, Value};

pub use self::options::{ConnectError, RedisOptions};

use self::index::Touches;
use self::keys::Keys;
use self::link::Link;
use self::options::{Server, Sync};
use self::pointers::Pointers;
use self::recent::{Recent, Seen};
use self::reply::Parts;
use self::scripts::{Script, Scripts};
use self::sync::{Run, Syncer};
use super::{
    BeginRequest, Begun, Commit, Committed, Counts, Durability, Promise, Read, ReadGuard, Resident,
    SessionStore, Snapshot, Staged, StoreResult, StoreScope,
};
use crate::protocol::{Event, Refusal, Reply};
use crate::session::fields::FieldMap;
use crate::session::{
    LeaseId, Millis, NodeName, Nonce, OutboxEntry, Page, RequestId, SessionId, WindowEntry,
};

/// One function's sessions at one node, in Redis 7.0 or newer.
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
    client: Client,
    link: Link,
    options: RedisOptions,
    scope: StoreScope,
    keys: Keys,
    scripts: Scripts,
    server: Server,
    syncer: Syncer,
    touches: Touches,
    pointers: Pointers,
    recent: Recent<Seen>,
}

impl RedisStore {
    /// Connects and finds out what the server is and promises.
    ///
    /// The store answers [`StoreError::Restarted`](super::StoreError::Restarted)
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
        let prefix = &options.prefix;
        if !(1..=32).contains(&prefix.len()) || !prefix.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(ConnectError::Prefix(prefix.clone()));
        }
        let address = address(url, &options)?;
        let whose = format!(
            "function {} at {}, keys {prefix}, database {}",
            scope.function,
            scope.here,
            address.redis_settings().db()
        );
        let unreachable = |error: redis::RedisError| ConnectError::Unreachable(error.to_string());
        let client = Client::open(address).map_err(unreachable)?;
        let link = Link::open(client.clone(), &options).await.map_err(unreachable)?;
        let mut server = examine(&link).await?;
        let (keys, scripts) = (Keys::new(&options.prefix, &scope.function), Scripts::new(&whose));
        let mut waits = link.clone();
        if server.promise == Promise::WaitAof {
            waits = Link::open(client.clone(), &options).await.map_err(unreachable)?;
            let kept = sync::keeps_its_word(&waits, &keys, &scripts).await;
            if !kept.map_err(|error| ConnectError::Unreachable(error.to_string()))? {
                server.promise = Promise::Everysec;
            }
        }
        let core = Arc::new_cyclic(|this| Core {
            this: this.clone(),
            client,
            link,
            keys,
            scripts,
            server,
            syncer: Syncer::new(&waits, &options),
            touches: Touches::default(),
            pointers: Pointers::default(),
            recent: Recent::new(RECENT_BYTES),
            options,
            scope,
        });
        Ok(Self { core })
    }
}

fn address(url: &str, options: &RedisOptions) -> Result<ConnectionInfo, ConnectError> {
    let read = url.into_connection_info().map_err(|error| ConnectError::Url(error.to_string()))?;
    let tcp = TcpSettings::default().set_nodelay(true);
    // A peer that is gone without a word is noticed, not waited for.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(options.response_timeout * 2);
    // With RESP3 a connection that breaks is noticed at once, not by the next
    // request, which would not know whether it had been sent.
    let settings = read.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(read.set_tcp_settings(tcp).set_redis_settings(settings))
}

async fn examine(link: &Link) -> Result<Server, ConnectError> {
    let mut pipe = Pipeline::new();
    for section in ["server", "memory", "persistence"] {
        pipe.cmd("INFO").arg(section);
    }
    let config = ["appendfsync", "no-appendfsync-on-rewrite"];
    pipe.cmd("CONFIG").arg("GET").arg(&config);
    pipe.cmd("COMMAND").arg("INFO").arg("WAITAOF");
    let unreachable = |error: super::StoreError| ConnectError::Unreachable(error.to_string());
    let answers = link.pipe(&pipe).await.map_err(unreachable)?;
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
    let mut text = String::new();
    for _ in 0..3 {
        text += &next().and_then(reply::text).map_err(unreachable)?;
    }
    // A hosted Redis may forbid CONFIG; then the weaker promise is assumed.
    let mut sync = Sync::default();
    for (name, value) in next().and_then(reply::pairs).unwrap_or_default() {
        match name.as_str() {
            "appendfsync" => sync.appendfsync = String::from_utf8(value.into()).ok(),
            _ => sync.pauses = value == "yes",
        }
    }
    let waitaof = next().and_then(Parts::new).is_ok_and(
        |mut found| matches!(found.next(), Some(Value::Array(about)) if !about.is_empty()),
    );
    Server::judge(&text, &sync, waitaof)
}

impl Core {
    async fn now(&self) -> StoreResult<Millis> {
        recover::time(self.link.call(&redis::cmd("TIME")).await?)
    }

    async fn setting(&self, name: &str) -> StoreResult<Option<String>> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(self.keys.settings()).arg(name);
        optional(self.link.call(&cmd).await?)
    }

    async fn set_setting(&self, name: &str, value: Option<&str>) -> StoreResult<Option<String>> {
        let mut cmd = self.scripts.start(Script::Setting, 1, 128);
        cmd.arg(self.keys.settings()).arg(name).arg(value);
        if self.server.promise != Promise::WaitAof {
            return optional(self.link.call(&cmd).await?);
        }
        let mut pipe = Pipeline::with_capacity(2);
        pipe.add_command(cmd);
        Run::ask(&mut pipe);
        let mut answers = self.link.pipe(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let old = optional(next()?)?;
        self.syncer.wait(&self.keys, &self.scripts, &Run::read(next()?)?).await?;
        Ok(old)
    }

    async fn settings(&self, prefix: &str) -> StoreResult<BTreeMap<String, String>> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.keys.settings());
        let mut parts = Parts::new(self.link.call(&cmd).await?)?;
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

    async fn export(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Option<Page>> {
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

    async fn mend_index(&self, cursor: Option<String>) -> StoreResult<Option<String>> {
        self.core.mend_index(cursor).await
    }

    async fn recover_restart(&self) -> StoreResult<()> {
        self.core.recover_restart().await
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
        self.core.server.promise
    }
}
