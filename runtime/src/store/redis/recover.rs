//! The walks over all sessions of a function: after a restart of the store, and
//! to mend the index.

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
use crate::session::{Millis, NodeName, SessionId};
use crate::store::{Promise, StoreError, StoreResult};

/// How many keys one look of a walk passes.
const LOOK: usize = 1000;
/// How often a session is tried again that others are changing meanwhile.
const ATTEMPTS: usize = 64;

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
        let mut cursor = "0".to_owned();
        loop {
            let mut cmd = redis::cmd("ZSCAN");
            cmd.arg(self.keys.pending()).arg(&cursor).arg("COUNT").arg(LOOK);
            let mut parts = Parts::new(tie.call(&cmd).await?)?;
            cursor = parts.text()?;
            let sessions: Vec<_> =
                scored(parts.value()?)?.into_iter().map(|(session, _)| session).collect();
            self.freeze_again(&tie, &sessions).await?;
            if cursor == "0" {
                break;
            }
        }
        loop {
            let mut parts = Parts::new(tie.call(&self.scan(&cursor, LOOK)).await?)?;
            cursor = parts.text()?;
            let sessions = self.sessions(parts.value()?)?;
            self.freeze_again(&tie, &sessions).await?;
            if cursor == "0" {
                break;
            }
            // Another replica may have been faster.
            if self.loaded(&tie).await? {
                return Ok(());
            }
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

    async fn loaded(&self, tie: &Tie) -> StoreResult<bool> {
        Scripts::all_exist(tie.call(&self.scripts.exists()).await?)
    }

    fn scan(&self, cursor: &str, count: usize) -> redis::Cmd {
        let mut cmd = redis::cmd("SCAN");
        cmd.arg(cursor).arg("MATCH").arg(self.keys.pattern()).arg("COUNT").arg(count);
        cmd
    }

    fn sessions(&self, metas: Value) -> StoreResult<Vec<SessionId>> {
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
        pipe.add_command(apply_call(start, &keys, &event, found, &step));
        Ok(true)
    }

    /// One look: sessions first (`k`), then what the index lists of each home
    /// (`r`), then pointers (`p`).
    pub(super) async fn mend_index(&self, cursor: Option<String>) -> StoreResult<Option<String>> {
        let cursor = cursor.unwrap_or_else(|| "k0".to_owned());
        let bad = || corrupt("the cursor of a mending is not one of this store's");
        let (phase, at) = cursor.split_at_checked(1).ok_or_else(bad)?;
        match phase {
            "k" => {
                let mut parts = Parts::new(self.link.call(&self.scan(at, LOOK)).await?)?;
                let next = parts.text()?;
                let sessions = self.sessions(parts.value()?)?;
                self.mend(&sessions, None).await?;
                Ok(Some(if next == "0" { "r0 ".to_owned() } else { format!("k{next}") }))
            }
            "r" => {
                let (at, home) = at.split_once(' ').ok_or_else(bad)?;
                let homes = self.homes().await?;
                // Homes in order; an empty name stands before the first.
                let mut later: Vec<_> = homes.iter().filter(|h| h.as_str() >= home).collect();
                later.sort();
                let Some(current) = later.first() else { return Ok(Some("p0".to_owned())) };
                let at = if current.as_str() == home { at } else { "0" };
                let next =
                    self.mend_listed(&self.keys.residents(current), at, Some(current)).await?;
                Ok(Some(match (next.as_str(), later.get(1)) {
                    ("0", Some(following)) => format!("r0 {following}"),
                    ("0", None) => "p0".to_owned(),
                    (next, _) => format!("r{next} {current}"),
                }))
            }
            "p" => {
                let next = self.mend_listed(&self.keys.pointers(), at, None).await?;
                Ok((next != "0").then(|| format!("p{next}")))
            }
            _ => Err(bad()),
        }
    }

    async fn mend_listed(
        &self,
        key: &str,
        at: &str,
        home: Option<&NodeName>,
    ) -> StoreResult<String> {
        let mut cmd = redis::cmd("ZSCAN");
        cmd.arg(key).arg(at).arg("COUNT").arg(LOOK);
        let mut parts = Parts::new(self.link.call(&cmd).await?)?;
        let next = parts.text()?;
        let listed: Vec<_> =
            scored(parts.value()?)?.into_iter().map(|(session, _)| session).collect();
        self.mend(&listed, home).await?;
        Ok(next)
    }

    async fn mend(&self, sessions: &[SessionId], home: Option<&NodeName>) -> StoreResult<()> {
        let mut pipe = Pipeline::new();
        for (session, snapshot) in sessions.iter().zip(self.look(sessions).await?) {
            self.add_truth(&mut pipe, session, &snapshot.slot, home);
        }
        if !pipe.is_empty() {
            self.link.pipe(&pipe).await?.into_iter().try_for_each(|answer| answer.map(drop))?;
        }
        Ok(())
    }
}

/// The answer of `TIME` in milliseconds.
pub(super) fn time(answer: Value) -> StoreResult<Millis> {
    let mut parts = Parts::new(answer)?;
    Ok(parts.number()? * 1000 + parts.number()? / 1000)
}
