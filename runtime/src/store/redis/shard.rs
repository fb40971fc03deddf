//! One server: the way to it, and what it promises.

use std::sync::Arc;

use parking_lot::RwLock;
use redis::{Client, Cmd, ConnectionInfo, Pipeline, RedisResult, Value};

use super::link::Link;
use super::options::{ConnectError, Judged, RedisOptions, Sync};
use super::reply::{self, Parts};
use super::scripts::Scripts;
use super::sync::{self, Run, Syncer};
use crate::store::{Promise, StoreError, StoreResult};

/// The only server of a store, or one master of its cluster.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) client: Client,
    pub(super) link: Link,
    pub(super) judged: Judged,
    scripts: Arc<Scripts>,
    syncer: Syncer,
    /// Written before waiting for the disk: a key of this server's own. A master that
    /// is about to take over its first slots has none yet.
    sync_key: RwLock<Option<String>>,
}

/// Which process of which server has answered.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) shard: Arc<Shard>,
    pub(super) run: Run,
}

impl Witness {
    /// Returns when everything that it had answered before is on disk, as far as it
    /// can be waited for.
    pub(super) async fn on_disk(&self) -> StoreResult<()> {
        let Self { shard, run } = self;
        if shard.promise() != Promise::WaitAof {
            return Ok(());
        }
        let key = shard.sync_key()?;
        shard.syncer.wait(&key, &shard.scripts, run).await
    }
}

impl Shard {
    /// Connects and finds out what the server is and promises.
    pub(super) async fn open(
        address: ConnectionInfo,
        options: &RedisOptions,
        scripts: Arc<Scripts>,
        sync_key: Option<String>,
        clustered: bool,
    ) -> Result<Self, ConnectError> {
        let unreachable = |error: redis::RedisError| ConnectError::Unreachable(error.to_string());
        let client = Client::open(address).map_err(unreachable)?;
        let link = Link::open(client.clone(), options).await.map_err(unreachable)?;
        let mut judged = examine(&link).await?;
        match (judged.clustered, clustered) {
            (true, false) => return Err(ConnectError::IsCluster),
            (false, true) => return Err(ConnectError::NotCluster),
            _ => {}
        }
        let mut waits = link.clone();
        if judged.promise == Promise::WaitAof {
            waits = Link::open(client.clone(), options).await.map_err(unreachable)?;
            let unknown = |error: StoreError| ConnectError::Unreachable(error.to_string());
            let key = sync_key.as_deref().ok_or_else(no_slots).map_err(unknown)?;
            if !sync::keeps_its_word(&waits, key, &scripts).await.map_err(unknown)? {
                judged.promise = Promise::Everysec;
            }
        }
        let syncer = Syncer::new(&waits, options);
        Ok(Self { client, link, judged, scripts, syncer, sync_key: RwLock::new(sync_key) })
    }

    pub(super) fn promise(&self) -> Promise {
        self.judged.promise
    }

    pub(super) fn sync_key(&self) -> StoreResult<String> {
        self.sync_key.read().clone().ok_or_else(no_slots)
    }

    /// It has other slots now.
    pub(super) fn set_sync_key(&self, key: &str) {
        *self.sync_key.write() = Some(key.to_owned());
    }

    /// One command, `asking` for a slot that the server is taking over, and with the
    /// server's run if `run`. The error is Redis's own.
    pub(super) async fn send(
        &self,
        cmd: &Cmd,
        asking: bool,
        run: bool,
    ) -> RedisResult<(Value, Option<Value>)> {
        if !asking && !run {
            return Ok((self.link.send(cmd).await?, None));
        }
        let mut pipe = Pipeline::with_capacity(3);
        if asking {
            pipe.cmd("ASKING");
        }
        pipe.add_command(cmd.clone());
        if run {
            Run::ask(&mut pipe);
        }
        let answers = self.link.send_all(&pipe).await?;
        let mut answers = answers.into_iter().skip(usize::from(asking));
        let value = answers.next().unwrap_or(Value::Nil).extract_error()?;
        Ok((value, answers.next()))
    }
}

fn no_slots() -> StoreError {
    StoreError::Unavailable("a master is about to take over its first slots".to_owned())
}

async fn examine(link: &Link) -> Result<Judged, ConnectError> {
    let mut pipe = Pipeline::new();
    for section in ["server", "memory", "persistence", "cluster"] {
        pipe.cmd("INFO").arg(section);
    }
    // One name a call: only 7.0 takes several, and an older one is to be told apart.
    for name in ["appendfsync", "no-appendfsync-on-rewrite", "cluster-require-full-coverage"] {
        pipe.cmd("CONFIG").arg("GET").arg(name);
    }
    pipe.cmd("COMMAND").arg("INFO").arg("WAITAOF");
    let unreachable = |error: StoreError| ConnectError::Unreachable(error.to_string());
    // Some of it may be forbidden, and is no failure.
    let uncounted = link.with_timeout(link.timeout());
    let answers = uncounted.pipe(&pipe).await.map_err(unreachable)?;
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
    let mut text = String::new();
    for _ in 0..4 {
        text += &next().and_then(reply::text).map_err(unreachable)?;
    }
    // A hosted Redis may forbid CONFIG; then the weaker promise is assumed.
    let mut sync = Sync::default();
    let mut all_or_nothing = false;
    for _ in 0..3 {
        for (name, value) in next().and_then(reply::pairs).unwrap_or_default() {
            match name.as_str() {
                "appendfsync" => sync.appendfsync = String::from_utf8(value.into()).ok(),
                "no-appendfsync-on-rewrite" => sync.pauses = value == "yes",
                _ => all_or_nothing = value == "yes",
            }
        }
    }
    let waitaof = next().and_then(Parts::new).is_ok_and(
        |mut found| matches!(found.next(), Some(Value::Array(about)) if !about.is_empty()),
    );
    let judged = Judged::judge(&text, &sync, waitaof)?;
    Ok(Judged { all_or_nothing: all_or_nothing && judged.clustered, ..judged })
}
