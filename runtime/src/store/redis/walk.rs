//! All sessions of a function, by their records, and who is let in to them.

use std::sync::Arc;

use redis::{Pipeline, Value};

use super::Core;
use super::link::Tie;
use super::reply::{Parts, corrupt};
use super::shard::{Shard, Witness};
use super::sync::{self, Run};
use crate::session::{SessionId, Slot};
use crate::store::{Promise, StoreError, StoreResult, Walked};

/// How many keys one look passes.
const LOOK: usize = 1000;

/// Where a walk has come to.
struct Place<'a> {
    /// Redis's own cursor.
    at: &'a str,
    /// The process that it is of: another one's keys are in another order.
    run: &'a str,
    /// That server.
    server: &'a str,
}

impl Core {
    pub(super) async fn slots(&self, sessions: &[SessionId]) -> StoreResult<Vec<Slot>> {
        let found = self.look(sessions).await?.into_iter();
        let away = || StoreError::Unavailable("a master of the cluster is away".to_owned());
        found.map(|snapshot| Ok(snapshot.ok_or_else(away)?.slot)).collect()
    }

    /// One look: the keys of each server in turn. A cursor is `<at> <run> <server>`.
    pub(super) async fn walk(&self, cursor: Option<String>) -> StoreResult<Walked> {
        let bad = || corrupt("the cursor of a walk is not one of this store's");
        let place = match cursor.as_deref() {
            None => None,
            Some(text) => {
                let mut parts = text.splitn(3, ' ');
                let (at, run, server) = (parts.next(), parts.next(), parts.next());
                let (Some(at), Some(run), Some(server)) = (at, run, server) else {
                    return Err(bad());
                };
                Some(Place { at, run, server })
            }
        };
        let servers = self.servers.each().await;
        let current = place.as_ref().map_or("", |place| place.server);
        let from = servers.iter().position(|(name, _)| current.is_empty() || name == current);
        let from = from.ok_or_else(|| {
            StoreError::Unavailable("the masters of the cluster have changed".to_owned())
        })?;
        let (name, shard) = &servers[from];
        let shard = shard.as_ref().ok_or_else(|| {
            StoreError::Unavailable(format!("the master {name} of the cluster is away"))
        })?;
        let at = place.as_ref().map_or("0", |place| place.at);
        let (next, run, found) = self.walk_at(shard, at).await?;
        // Between two servers the cursor is of none yet.
        let before = place.as_ref().map(|place| place.run).filter(|before| *before != "-");
        if before.is_some_and(|before| before != run) {
            return Err(StoreError::Unavailable(
                "Redis was restarted in the middle of a walk over its keys".to_owned(),
            ));
        }
        let next = match (next.as_str(), servers.get(from + 1)) {
            ("0", Some((following, _))) => Some(format!("0 - {following}")),
            ("0", None) => None,
            (next, _) => Some(format!("{next} {run} {name}")),
        };
        Ok(Walked { found, next })
    }

    async fn walk_at(
        &self,
        shard: &Shard,
        at: &str,
    ) -> StoreResult<(String, String, Vec<(SessionId, Slot)>)> {
        let mut pipe = Pipeline::with_capacity(2);
        pipe.cmd("SCAN").arg(at).arg("MATCH").arg(self.keys.pattern()).arg("COUNT").arg(LOOK);
        Run::ask(&mut pipe);
        let mut answers = shard.link.pipe(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let mut parts = Parts::new(next()?)?;
        let run = Run::read(next()?)?;
        let cursor = parts.text()?;
        let sessions = self.sessions(parts.value()?)?;
        let slots = self.slots(&sessions).await?;
        let found = sessions.into_iter().zip(slots);
        let known = found.filter(|(_, slot)| slot.record.is_some() || slot.pull.is_some());
        Ok((cursor, run.name().to_owned(), known.collect()))
    }

    /// Waits for every server's disk.
    pub(super) async fn on_disk(&self) -> StoreResult<()> {
        if !self.servers.waits() {
            return Ok(());
        }
        let wait = async |(name, shard): (String, Option<Arc<Shard>>)| {
            let away = || StoreError::Unavailable(format!("the master {name} is away"));
            let shard = shard.ok_or_else(away)?;
            let mut pipe = Pipeline::with_capacity(1);
            Run::ask(&mut pipe);
            let mut answers = shard.link.pipe(&pipe).await?.into_iter();
            let run = Run::read(answers.next().unwrap_or(Ok(Value::Nil))?)?;
            self.on_disk_with(&Witness { shard, run }).await
        };
        let servers = self.servers.each().await;
        let all = futures_util::future::join_all(servers.into_iter().map(wait)).await;
        all.into_iter().collect()
    }

    /// Waits for the disk of whoever has answered; also while nobody is let in.
    pub(super) async fn on_disk_with(&self, witness: &Witness) -> StoreResult<()> {
        match witness.on_disk().await {
            Err(StoreError::Restarted) => {}
            outcome => return outcome,
        }
        let shard = &witness.shard;
        if shard.promise() != Promise::WaitAof {
            return Ok(());
        }
        let tie = Tie::open(&shard.client, &self.options, shard.judged.clustered).await?;
        let limit = super::requests::millis(self.options.sync_timeout);
        let run = sync::to_disk(&tie, &shard.sync_key()?, &self.scripts, limit).await?;
        match run == witness.run {
            true => Ok(()),
            false => Err(StoreError::Unavailable(
                "Redis was restarted before the write was on disk".to_owned(),
            )),
        }
    }

    /// Every server forgets the scripts, which all requests go by. It cannot forget some
    /// of them: other functions that share it recover.
    pub(super) async fn close(&self) -> StoreResult<()> {
        for (name, shard) in self.servers.each().await {
            let away = || StoreError::Unavailable(format!("the master {name} is away"));
            let mut flush = redis::cmd("SCRIPT");
            flush.arg("FLUSH").arg("SYNC");
            shard.ok_or_else(away)?.link.call(&flush).await?;
        }
        Ok(())
    }
}
