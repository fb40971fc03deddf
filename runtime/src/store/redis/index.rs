//! The function's index: which sessions are here, which are pointers, which are
//! pending.
//!
//! Residents and pointers are advice: told along with the step, never waited for,
//! and mended by looking. Of uses the index is not told at all: it lists a resident
//! under the use that it knew last, and who asks for the least recently used looks at
//! the sessions themselves and puts those back that were used since. The pending set never misses a session: it is marked
//! before the step that makes it pending (see `marks`), and a mark goes only when it
//! is older than any step that may still be under way.
//!
//! In a cluster the index of a function is with one of the masters. While another
//! one is away, what the index says of its sessions cannot be looked up: they count
//! as pending where they are marked, and are left out of the residents.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};

use super::Core;
use super::encode::FIELDS;
use super::reply::{self, Parts, corrupt};
use super::requests::millis;
use super::scripts::{Script, Scripts};
use super::shard::Shard;
use super::steps::{pointer, resident};
use crate::session::{Millis, NodeName, SessionId, Slot};
use crate::store::{Counts, Resident, Snapshot, StoreError, StoreResult};

/// New sessions that the index has not been told yet.
pub(super) type Appeared = Mutex<BTreeMap<SessionId, (NodeName, Millis)>>;

/// They are told together, this long after the first of them.
const GATHER: Duration = Duration::from_millis(20);

/// By how many milliseconds the index may misjudge the last use of a resident that it
/// lists first.
const LAG: Millis = 1000;

/// How often residents that were used since are put back, until the first of the list
/// are taken as they are: about the least recently used, as Redis itself has it.
const SECOND_CHANCES: usize = 4;

/// How many sessions are looked at in one round trip.
const BATCH: usize = 256;

impl Core {
    fn index_call(&self, key: &str, what: &str) -> Cmd {
        let mut cmd = self.scripts.start(Script::Index, 1, 512);
        cmd.arg(key).arg(what);
        cmd
    }

    /// Marks a session as pending.
    pub(super) fn mark(&self, session: &SessionId) -> Cmd {
        let mut cmd = self.index_call(&self.keys.pending(), "pend");
        cmd.arg(session.as_str());
        cmd
    }

    fn enter(&self, session: &SessionId, home: &NodeName, used: Millis) -> [Cmd; 2] {
        let mut homes = self.index_call(&self.keys.homes(), "sadd");
        homes.arg(home.as_str());
        let mut enter = self.index_call(&self.keys.residents(home), "zadd");
        enter.arg(used).arg(session.as_str());
        [homes, enter]
    }

    fn leave(&self, key: &str, session: &SessionId) -> Cmd {
        let mut cmd = self.index_call(key, "zrem");
        cmd.arg(session.as_str());
        cmd
    }

    /// What the index has to be told when a slot changes.
    pub(super) fn index_calls(&self, session: &SessionId, old: &Slot, new: &Slot) -> Vec<Cmd> {
        let mut calls = Vec::new();
        let (was, is) = (resident(old), resident(new));
        if let Some(home) = was.filter(|home| is != Some(home)) {
            self.appeared.lock().remove(session);
            calls.push(self.leave(&self.keys.residents(home), session));
        }
        if let Some(home) = is.filter(|home| was != Some(home)) {
            calls.extend(self.enter(session, home, new.used));
        }
        match (pointer(old), pointer(new)) {
            (before, Some(since)) if before != Some(since) => {
                let mut cmd = self.index_call(&self.keys.pointers(), "zadd");
                cmd.arg(since).arg(session.as_str());
                calls.push(cmd);
            }
            (Some(_), None) => calls.push(self.leave(&self.keys.pointers(), session)),
            _ => {}
        }
        calls
    }

    /// Notes a new session; the index hears of it in a moment.
    pub(super) fn appeared(&self, session: &SessionId, home: &NodeName, used: Millis) {
        let mut appeared = self.appeared.lock();
        let first = appeared.is_empty();
        appeared.insert(session.clone(), (home.clone(), used));
        drop(appeared);
        if first && let Some(core) = self.this.upgrade() {
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                core.tell_appeared().await;
            });
        }
    }

    async fn tell_appeared(&self) {
        let appeared = std::mem::take(&mut *self.appeared.lock());
        if appeared.is_empty() {
            return;
        }
        let mut by_home: BTreeMap<NodeName, Vec<(Millis, SessionId)>> = BTreeMap::new();
        for (session, (home, used)) in appeared {
            by_home.entry(home).or_default().push((used, session));
        }
        let mut pipe = Pipeline::new();
        for (home, uses) in by_home {
            let mut homes = self.index_call(&self.keys.homes(), "sadd");
            homes.arg(home.as_str());
            pipe.add_command(homes);
            for uses in uses.chunks(BATCH) {
                let mut cmd = self.index_call(&self.keys.residents(&home), "zadd");
                for (used, session) in uses {
                    cmd.arg(*used).arg(session.as_str());
                }
                pipe.add_command(cmd);
            }
        }
        // Advice only: what is lost here is mended by `mend_index`.
        let _ = self.index().pipe(&pipe).await;
    }

    /// Makes the index say of a session what its slot says, without waiting.
    pub(super) fn reindex(&self, session: &SessionId, slot: &Slot) {
        let mut pipe = Pipeline::new();
        self.add_truth(&mut pipe, session, slot, None);
        if let Some(core) = self.this.upgrade() {
            tokio::spawn(async move {
                let _ = core.index().pipe(&pipe).await;
            });
        }
    }

    /// Adds the calls after which the index agrees with the slot. `listed` is the
    /// home under which it was found, if it was.
    pub(super) fn add_truth(
        &self,
        pipe: &mut Pipeline,
        session: &SessionId,
        slot: &Slot,
        listed: Option<&NodeName>,
    ) {
        let home = resident(slot);
        let gone = listed.or_else(|| slot.record.as_ref().map(|record| &record.life().home));
        if let Some(home) = gone.filter(|gone| home != Some(gone)) {
            pipe.add_command(self.leave(&self.keys.residents(home), session));
        }
        if let Some(home) = home {
            self.enter(session, home, slot.used).into_iter().for_each(|cmd| {
                pipe.add_command(cmd);
            });
        }
        match pointer(slot) {
            Some(since) => {
                let mut cmd = self.index_call(&self.keys.pointers(), "zadd");
                cmd.arg(since).arg(session.as_str());
                pipe.add_command(cmd);
            }
            None => {
                pipe.add_command(self.leave(&self.keys.pointers(), session));
            }
        }
        if slot.pending() {
            pipe.add_command(self.mark(session));
        }
    }

    /// What is known of several sessions, in one round trip a batch; the time and
    /// the number of fields are left out. `None` where its server is away.
    pub(super) async fn look(&self, sessions: &[SessionId]) -> StoreResult<Vec<Option<Snapshot>>> {
        let mut found = Vec::with_capacity(sessions.len());
        for batch in sessions.chunks(BATCH) {
            let asked = batch.iter().map(|session| {
                let meta = self.keys.session(session).meta();
                let mut cmd = redis::cmd("HMGET");
                cmd.arg(&meta).arg(&FIELDS).arg("v").arg("b");
                (meta, cmd)
            });
            for answer in self.servers.spread(asked.collect()).await? {
                found.push(match answer {
                    Err(StoreError::Unavailable(_)) => None,
                    answer => Some(seen(answer?)?),
                });
            }
        }
        Ok(found)
    }

    /// The homes of which there are sessions here.
    pub(super) async fn homes(&self) -> StoreResult<Vec<NodeName>> {
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(self.keys.homes());
        let names = Parts::new(self.index().call(&cmd).await?)?;
        names.map(|name| NodeName::new(reply::text(name)?).map_err(corrupt)).collect()
    }

    pub(super) async fn residents(
        &self,
        homes: Option<&[NodeName]>,
        limit: usize,
    ) -> StoreResult<Vec<Resident>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // What this process has created is listed, however new.
        self.tell_appeared().await;
        let all;
        let homes = match homes {
            Some(homes) => homes,
            None => {
                all = self.homes().await?;
                &all
            }
        };
        let mut found = Vec::new();
        for _ in 0..SECOND_CHANCES {
            let listed = self.listed_first(homes, limit).await?;
            let (residents, moved) = self.as_they_are(listed).await?;
            found = residents;
            if !moved {
                break;
            }
        }
        found.sort_by(|a, b| (a.used, &a.session).cmp(&(b.used, &b.session)));
        Ok(found)
    }

    /// The first residents by the use that the index knows.
    async fn listed_first(
        &self,
        homes: &[NodeName],
        limit: usize,
    ) -> StoreResult<Vec<(Millis, SessionId, NodeName)>> {
        let mut pipe = Pipeline::with_capacity(homes.len());
        for home in homes {
            pipe.cmd("ZRANGE").arg(self.keys.residents(home)).arg(0).arg(limit - 1);
            pipe.arg("WITHSCORES");
        }
        let mut listed = Vec::new();
        for (home, answer) in homes.iter().zip(self.index().pipe(&pipe).await?) {
            let of_home = scored(answer?)?.into_iter();
            listed.extend(of_home.map(|(session, used)| (used, session, home.clone())));
        }
        listed.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        listed.truncate(limit);
        Ok(listed)
    }

    /// What listed sessions are; the index is told of those that were used since, or
    /// left. Also says whether that put any back behind others.
    async fn as_they_are(
        &self,
        listed: Vec<(Millis, SessionId, NodeName)>,
    ) -> StoreResult<(Vec<Resident>, bool)> {
        let sessions: Vec<_> = listed.iter().map(|(_, session, _)| session.clone()).collect();
        let mut found = Vec::with_capacity(sessions.len());
        let (mut pipe, mut moved) = (Pipeline::new(), false);
        for ((known, session, home), snapshot) in
            listed.into_iter().zip(self.look(&sessions).await?)
        {
            let Some(snapshot) = snapshot else { continue };
            let here = resident(&snapshot.slot) == Some(&home);
            let used = snapshot.slot.used;
            if !here || used.saturating_sub(known) > LAG {
                moved |= here;
                self.add_truth(&mut pipe, &session, &snapshot.slot, Some(&home));
            }
            if here {
                found.push(Resident { session, home, used, bytes: snapshot.bytes });
            }
        }
        self.index().pipe(&pipe).await?;
        Ok((found, moved))
    }

    pub(super) async fn pending(&self, limit: usize) -> StoreResult<Vec<SessionId>> {
        let mut found = Vec::new();
        let mut start = 0;
        while found.len() < limit {
            let mut cmd = redis::cmd("ZRANGE");
            cmd.arg(self.keys.pending()).arg(start).arg(start + BATCH - 1).arg("WITHSCORES");
            let marked = scored(self.index().call(&cmd).await?)?;
            if marked.is_empty() {
                break;
            }
            start += marked.len();
            let sessions: Vec<_> = marked.iter().map(|(session, _)| session.clone()).collect();
            let mut quiet = Vec::new();
            for ((session, marked), snapshot) in marked.into_iter().zip(self.look(&sessions).await?)
            {
                if snapshot.is_none_or(|snapshot| snapshot.slot.pending()) {
                    found.push(session);
                } else {
                    quiet.push((session, marked));
                }
            }
            start -= self.prune(&quiet).await?;
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Removes marks that are settled and old; says how many went.
    async fn prune(&self, quiet: &[(SessionId, Millis)]) -> StoreResult<usize> {
        if quiet.is_empty() {
            return Ok(0);
        }
        let mut cmd = self.index_call(&self.keys.pending(), "prune");
        // Longer than any call may still be on its way.
        cmd.arg(millis(self.options.response_timeout * 2 + Duration::from_secs(1)));
        for (session, marked) in quiet {
            cmd.arg(session.as_str()).arg(*marked);
        }
        let gone = reply::number(self.index().call(&cmd).await?)?;
        Ok(usize::try_from(gone).unwrap_or(0))
    }

    pub(super) async fn old_pointers(
        &self,
        before: Millis,
        limit: usize,
    ) -> StoreResult<Vec<SessionId>> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.pointers()).arg("-inf").arg(format!("({before}")).arg("BYSCORE");
        cmd.arg("LIMIT").arg(0).arg(limit).arg("WITHSCORES");
        let listed = scored(self.index().call(&cmd).await?)?;
        Ok(listed.into_iter().map(|(session, _)| session).collect())
    }

    /// Asks every server that can be reached whether it knows the scripts.
    async fn notice_restart(&self) -> StoreResult<()> {
        let exists = self.scripts.exists();
        let ask = async |shard: Arc<Shard>| shard.link.call(&exists).await;
        let reached = self.servers.each().await.into_iter().filter_map(|(_, shard)| shard);
        for answer in futures_util::future::join_all(reached.map(ask)).await {
            match answer {
                // It is noticed when it is back, and meanwhile the others are.
                Err(StoreError::Unavailable(_)) => {}
                answer => match Scripts::all_exist(answer?)? {
                    true => {}
                    false => return Err(StoreError::Restarted),
                },
            }
        }
        Ok(())
    }

    pub(super) async fn counts(&self) -> StoreResult<Counts> {
        self.tell_appeared().await;
        let homes = self.homes().await?;
        self.notice_restart().await?;
        let mut pipe = Pipeline::with_capacity(homes.len() + 1);
        pipe.cmd("ZCARD").arg(self.keys.pending());
        for home in &homes {
            pipe.cmd("ZCARD").arg(self.keys.residents(home));
        }
        let mut answers = self.index().pipe(&pipe).await?.into_iter();
        let pending = reply::number(answers.next().unwrap_or(Ok(Value::Int(0)))?)?;
        let mut resident = 0;
        for answer in answers {
            resident += reply::number(answer?)?;
        }
        Ok(Counts { resident, pending })
    }
}

fn seen(answer: Value) -> StoreResult<Snapshot> {
    let mut parts = Parts::new(answer)?;
    let slot = reply::raw_from(&mut parts)?.decode().map_err(corrupt)?;
    let mut number = || match parts.value()? {
        Value::Nil => Ok(0),
        number => reply::number(number),
    };
    let (version, bytes) = (number()?, number()?);
    Ok(Snapshot { slot, version, bytes, ..Snapshot::default() })
}

/// Members with their scores, in turn or in pairs.
pub(super) fn scored(answer: Value) -> StoreResult<Vec<(SessionId, Millis)>> {
    let mut parts = Parts::new(answer)?;
    let mut found = Vec::with_capacity(parts.size_hint().0);
    while let Some(part) = parts.next() {
        let (session, score) = match part {
            pair @ Value::Array(_) => {
                let mut pair = Parts::new(pair)?;
                (pair.value()?, pair.value()?)
            }
            session => (session, parts.value()?),
        };
        let session = SessionId::new(reply::text(session)?).map_err(corrupt)?;
        found.push((session, reply::number(score)?));
    }
    Ok(found)
}
