//! The walk over all sessions of a function after a restart of the store.

use redis::{Pipeline, Value};

use super::Core;
use super::encode::FIELDS;
use super::index::scored;
use super::link::Tie;
use super::reply::{self, Parts, corrupt};
use super::scripts::{Script, Scripts};
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
    /// After a restart of the store: freezes every session that had agreed to a
    /// move, waits until that is on disk, and loads the scripts, which lets
    /// requests in again.
    ///
    /// All of it goes over one connection that ends with the process it speaks
    /// to: so the scripts are never loaded into a process that was started after
    /// the walk. Replicas may do this at the same time: a freeze too many is
    /// asked about and resumed like any other.
    pub(super) async fn recover_restart(&self) -> StoreResult<()> {
        let tie = Tie::open(&self.client, &self.options).await?;
        if self.loaded(&tie).await? {
            return Ok(());
        }
        // Those first that are known to need it; then all, in case the index
        // forgot more than the sessions did.
        self.walk_pending(&tie).await?;
        if self.walk_all(&tie).await? == Walk::Overtaken {
            return Ok(());
        }
        if self.server.promise == Promise::WaitAof {
            let limit = super::requests::millis(self.options.sync_timeout);
            sync::to_disk(&tie, &self.keys, &self.scripts, limit).await?;
        }
        let mut pipe = Pipeline::new();
        for cmd in self.scripts.load() {
            pipe.add_command(cmd);
        }
        tie.pipe(&pipe).await?.into_iter().try_for_each(|answer| answer.map(drop))
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
            pipe.add_command(self.scripts.find(&cursor, &self.keys.pattern(), LOOK));
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

    async fn loaded(&self, tie: &Tie) -> StoreResult<bool> {
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

    /// What the meta hashes say, without the hot scripts.
    async fn raw(&self, tie: &Tie, sessions: &[SessionId]) -> StoreResult<Vec<Loaded>> {
        let mut pipe = Pipeline::with_capacity(sessions.len() + 1);
        pipe.cmd("TIME");
        for session in sessions {
            pipe.cmd("HMGET").arg(self.keys.session(session).meta()).arg(&FIELDS);
        }
        let mut answers = tie.pipe(&pipe).await?.into_iter();
        let now = time(answers.next().unwrap_or(Ok(Value::Nil))?)?;
        answers.map(|answer| Loaded::of(reply::raw(answer?)?, now)).collect()
    }

    async fn freeze_again(&self, tie: &Tie, sessions: &[SessionId]) -> StoreResult<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        let mut todo = sessions.to_vec();
        for _ in 0..ATTEMPTS {
            let mut pipe = Pipeline::new();
            let mut tried = Vec::new();
            for (session, found) in todo.iter().zip(self.raw(tie, &todo).await?) {
                if self.add_freeze(&mut pipe, session, &found)? {
                    tried.push(session.clone());
                }
            }
            let answers = tie.pipe(&pipe).await?;
            todo.clear();
            // Two answers a session: its mark, then whether the step was written.
            let mut answers = answers.into_iter();
            for session in tried {
                let (marked, written) = (answers.next(), answers.next());
                marked.unwrap_or(Ok(Value::Nil))?;
                if reply::number(written.unwrap_or(Ok(Value::Nil))?)? == 0 {
                    todo.push(session);
                }
            }
            if todo.is_empty() {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("others change sessions while they are recovered".to_owned()))
    }

    /// Adds what `StoreRestarted` does to a session; `false` if that is nothing.
    fn add_freeze(
        &self,
        pipe: &mut Pipeline,
        session: &SessionId,
        found: &Loaded,
    ) -> StoreResult<bool> {
        let slot = &found.snapshot.slot;
        let event = Event::StoreRestarted;
        let step =
            protocol::step(slot, &self.scope.here, found.snapshot.now, &event).map_err(corrupt)?;
        if step.payload == Payload::Keep && step.slot == *slot {
            return Ok(false);
        }
        let mut mark = self.scripts.recovering(Script::Index, 1);
        mark.arg(self.keys.pending()).arg("pend").arg(session.as_str());
        pipe.add_command(mark);
        let keys = self.keys.session(session);
        let start = |count| self.scripts.recovering(Script::Apply, count);
        let turn = self.keys.turn();
        pipe.add_command(apply_call(start, &keys, &event, found, &step, Some(&turn)));
        Ok(true)
    }
}

/// The answer of `TIME` in milliseconds.
pub(super) fn time(answer: Value) -> StoreResult<Millis> {
    let mut parts = Parts::new(answer)?;
    Ok(parts.number()? * 1000 + parts.number()? / 1000)
}
