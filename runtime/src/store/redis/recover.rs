//! The walk over all sessions of a function after a restart of the store.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::Core;
use super::cluster::Member;
use super::encode::FIELDS;
use super::index::scored;
use super::link::Tie;
use super::options::{self, ConnectError};
use super::reply::{self, Parts, corrupt};
use super::scripts::{Script, Scripts};
use super::servers::Servers;
use super::shard::Shard;
use super::slots::slot_of;
use super::steps::{Loaded, apply_call};
use super::sync;
use crate::protocol::{self, Event, Payload};
use crate::session::{Millis, SessionId};
use crate::store::{Promise, StoreError, StoreResult};

/// How many keys one look passes.
const LOOK: usize = 1000;
/// How often a session is tried again that others are changing meanwhile.
const ATTEMPTS: usize = 64;

/// How a walk over all sessions ended.
#[derive(Debug, PartialEq, Eq)]
enum Walk {
    Ended,
    /// Another replica was faster and has let requests in.
    Overtaken,
}

impl Core {
    /// After a restart of the store, or of some of its servers, each for itself:
    /// freezes every session that had agreed to a move, waits until that is on disk,
    /// and loads the scripts, which lets requests in again.
    ///
    /// All of it goes over one connection that ends with the process it speaks
    /// to: so the scripts are never loaded into a process that was started after
    /// the walk. Replicas may do this at the same time: a freeze too many is
    /// asked about and resumed like any other.
    pub(super) async fn recover_restart(&self) -> StoreResult<()> {
        let cluster = match &self.servers {
            Servers::One(shard) => return self.recover(shard, false).await,
            Servers::Cluster(cluster) => cluster,
        };
        // A replica may have taken a master's place.
        let unreachable = |error: ConnectError| StoreError::Unavailable(error.to_string());
        cluster.look(true).await.map_err(unreachable)?;
        let index = slot_of(&self.keys.pending());
        let masters = cluster.masters();
        let recover = async |master: &Arc<Member>| {
            let shard = cluster.open_member(master).await.map_err(unreachable)?;
            self.recover(&shard, cluster.has(master, index)).await
        };
        for newcomer in cluster.newcomers() {
            // One that has gone needs nothing.
            if let Err(error) = recover(&newcomer).await {
                tracing::debug!(%newcomer.address, %error, "it is not recovered");
            }
        }
        let mut recovered = 0;
        let mut failed = None;
        let all = futures_util::future::join_all(masters.iter().map(recover)).await;
        for (master, outcome) in masters.iter().zip(all) {
            match outcome {
                Ok(()) => recovered += 1,
                // What it has waits for it; it is recovered when it is back.
                Err(error @ StoreError::Unavailable(_)) => {
                    tracing::warn!(%master.address, %error, "a master waits to be recovered");
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) if recovered == 0 => Err(error),
            _ => Ok(()),
        }
    }

    /// Recovers one server; `has_index` tells the master of a cluster that has the
    /// function's index.
    async fn recover(&self, shard: &Shard, has_index: bool) -> StoreResult<()> {
        let clustered = shard.judged.clustered;
        let tie = Tie::open(&shard.client, &self.options, clustered).await?;
        if self.loaded(&tie).await? {
            return Ok(());
        }
        if clustered {
            is_master(&tie).await?;
        } else {
            // Those first that are known to need it; then all, in case the index
            // forgot more than the sessions did.
            self.walk_pending(&tie).await?;
        }
        if self.walk_all(&tie).await? == Walk::Overtaken {
            return Ok(());
        }
        if has_index {
            self.mark_again(shard).await;
        }
        if shard.promise() == Promise::WaitAof {
            let limit = super::requests::millis(self.options.sync_timeout);
            sync::to_disk(&tie, &shard.sync_key()?, &self.scripts, limit).await?;
        }
        let mut pipe = Pipeline::new();
        for cmd in self.scripts.load() {
            pipe.add_command(cmd);
        }
        tie.pipe(&pipe).await?.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// The index may have forgotten marks of sessions that other masters have: what
    /// is on one disk says nothing of another.
    async fn mark_again(&self, index: &Shard) {
        for (address, shard) in self.servers.each().await {
            let Some(shard) = shard.filter(|shard| !std::ptr::eq(&raw const **shard, index)) else {
                continue;
            };
            if let Err(error) = self.mark_all(&shard).await {
                // The mending of the index finds them, later.
                tracing::warn!(%address, %error, "sessions in doubt were not marked again");
            }
        }
    }

    async fn mark_all(&self, shard: &Shard) -> StoreResult<()> {
        let tie = Tie::open(&shard.client, &self.options, true).await?;
        let mut cursor = "0".to_owned();
        loop {
            let find = self.scripts.find(&cursor, &self.keys.pattern(), LOOK, true);
            let mut parts = Parts::new(tie.call(&find).await?)?;
            cursor = parts.text()?;
            let sessions = self.sessions(parts.value()?)?;
            self.mark_recovering(&sessions).await?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    fn mark_call(&self, sessions: &[SessionId]) -> Cmd {
        let mut mark = self.scripts.recovering(Script::Index, 1);
        mark.arg(self.keys.pending()).arg("pend");
        for session in sessions {
            mark.arg(session.as_str());
        }
        mark
    }

    async fn mark_recovering(&self, sessions: &[SessionId]) -> StoreResult<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        self.index().call(&self.mark_call(sessions)).await.map(drop)
    }

    async fn walk_pending(&self, tie: &Tie) -> StoreResult<()> {
        let mut cursor = "0".to_owned();
        loop {
            let mut cmd = redis::cmd("ZSCAN");
            cmd.arg(self.keys.pending()).arg(&cursor).arg("COUNT").arg(LOOK);
            let mut parts = Parts::new(tie.call(&cmd).await?)?;
            cursor = parts.text()?;
            let marked = scored(parts.value()?)?;
            let sessions: Vec<_> = marked.into_iter().map(|(session, _)| session).collect();
            self.freeze_again(tie, &sessions).await?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    async fn walk_all(&self, tie: &Tie) -> StoreResult<Walk> {
        let mut cursor = "0".to_owned();
        loop {
            let mut pipe = Pipeline::with_capacity(2);
            pipe.add_command(self.scripts.exists());
            let all = tie.is_clustered();
            pipe.add_command(self.scripts.find(&cursor, &self.keys.pattern(), LOOK, all));
            let mut answers = tie.pipe(&pipe).await?.into_iter();
            let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
            if Scripts::all_exist(next()?)? {
                return Ok(Walk::Overtaken);
            }
            let mut parts = Parts::new(next()?)?;
            cursor = parts.text()?;
            let sessions = self.sessions(parts.value()?)?;
            self.freeze_again(tie, &sessions).await?;
            if cursor == "0" {
                return Ok(Walk::Ended);
            }
        }
    }

    /// Whether the process knows all scripts: it was recovered.
    pub(super) async fn loaded(&self, tie: &Tie) -> StoreResult<bool> {
        Scripts::all_exist(tie.call(&self.scripts.exists()).await?)
    }

    /// The sessions of these meta keys.
    pub(super) fn sessions(&self, metas: Value) -> StoreResult<Vec<SessionId>> {
        let mut found = Vec::new();
        for meta in Parts::new(metas)? {
            let meta = reply::bytes(meta)?.unwrap_or_default();
            found.extend(self.keys.session_of(&meta));
        }
        Ok(found)
    }

    /// What the meta hashes say, without the hot scripts; a session that has left this
    /// server is left out.
    async fn raw(
        &self,
        tie: &Tie,
        sessions: &[SessionId],
    ) -> StoreResult<Vec<(SessionId, Loaded)>> {
        let mut pipe = Pipeline::with_capacity(sessions.len() + 1);
        pipe.cmd("TIME");
        for session in sessions {
            pipe.cmd("HMGET").arg(self.keys.session(session).meta()).arg(&FIELDS);
        }
        let mut answers = tie.pipe(&pipe).await?.into_iter();
        let now = time(answers.next().unwrap_or(Ok(Value::Nil))?)?;
        let mut found = Vec::with_capacity(sessions.len());
        for (session, answer) in sessions.iter().zip(answers) {
            match answer? {
                Value::Nil => {}
                fields => found.push((session.clone(), Loaded::of(reply::raw(fields)?, now)?)),
            }
        }
        Ok(found)
    }

    async fn freeze_again(&self, tie: &Tie, sessions: &[SessionId]) -> StoreResult<()> {
        let mut todo = sessions.to_vec();
        for _ in 0..ATTEMPTS {
            if todo.is_empty() {
                return Ok(());
            }
            let mut marks = Vec::new();
            let mut freezes = Vec::new();
            for (session, found) in self.raw(tie, &todo).await? {
                match self.freeze_call(&session, &found)? {
                    Some(freeze) => freezes.push((session.clone(), freeze)),
                    // In a cluster its mark may be forgotten, whatever it is in doubt of.
                    None if tie.is_clustered() && found.snapshot.slot.pending() => {}
                    None => continue,
                }
                marks.push(session);
            }
            todo.clear();
            let mut pipe = Pipeline::with_capacity(freezes.len() + 1);
            if tie.is_clustered() {
                self.mark_recovering(&marks).await?;
            } else if !marks.is_empty() {
                pipe.add_command(self.mark_call(&marks));
            }
            let first = pipe.len();
            let (tried, calls): (Vec<_>, Vec<_>) = freezes.into_iter().unzip();
            for call in calls {
                pipe.add_command(call);
            }
            let mut answers = tie.pipe(&pipe).await?.into_iter();
            for marked in answers.by_ref().take(first) {
                marked?;
            }
            for (session, written) in tried.into_iter().zip(answers) {
                match written? {
                    // It has just left this server.
                    Value::Nil => {}
                    written => {
                        if reply::number(written)? == 0 {
                            todo.push(session);
                        }
                    }
                }
            }
        }
        Err(StoreError::Unavailable("others change sessions while they are recovered".to_owned()))
    }

    /// What `StoreRestarted` does to a session; `None` if that is nothing.
    fn freeze_call(&self, session: &SessionId, found: &Loaded) -> StoreResult<Option<Cmd>> {
        let slot = &found.snapshot.slot;
        let event = Event::StoreRestarted;
        let step =
            protocol::step(slot, &self.scope.here, found.snapshot.now, &event).map_err(corrupt)?;
        if step.payload == Payload::Keep && step.slot == *slot {
            return Ok(None);
        }
        let keys = self.keys.session(session);
        let start = |count| self.scripts.recovering(Script::Apply, count);
        Ok(Some(apply_call(start, &keys, &event, found, &step, self.turn_key().as_deref())))
    }
}

/// A replica learns no scripts: should it take over, that has to be noticed.
async fn is_master(tie: &Tie) -> StoreResult<()> {
    let mut info = redis::cmd("INFO");
    info.arg("replication");
    let text = reply::text(tie.call(&info).await?)?;
    match options::info(&text, "role") {
        Some("master") => Ok(()),
        _ => Err(StoreError::Unavailable("the server is a replica by now".to_owned())),
    }
}

/// The answer of `TIME` in milliseconds.
pub(super) fn time(answer: Value) -> StoreResult<Millis> {
    let mut parts = Parts::new(answer)?;
    Ok(parts.number()? * 1000 + parts.number()? / 1000)
}
