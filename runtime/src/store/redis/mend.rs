//! The walk over all sessions of a function that keeps its index true.

use std::collections::BTreeMap;

use redis::{Pipeline, Value};

use super::Core;
use super::index::scored;
use super::reply::{self, Parts, corrupt};
use super::shard::Shard;
use super::steps::{pointer, resident};
use crate::session::{Millis, NodeName, SessionId, Slot};
use crate::store::{Snapshot, StoreResult};

/// How many keys one look passes.
const LOOK: usize = 1000;

/// How far the index may lag behind the last use of a session, in milliseconds.
const LAG: Millis = 60_000;

/// What the index says of one session.
#[derive(Debug, Default)]
struct Listed {
    /// Last used, under the home that the session has.
    resident: Option<Millis>,
    /// Since when it is a pointer.
    pointer: Option<Millis>,
    /// Since when it is marked as pending.
    pending: Option<Millis>,
}

impl Listed {
    fn agrees(&self, slot: &Slot) -> bool {
        let here = match (resident(slot), self.resident) {
            (Some(_), Some(used)) => slot.used.abs_diff(used) <= LAG,
            (here, listed) => here.is_some() == listed.is_some(),
        };
        here && pointer(slot) == self.pointer && (self.pending.is_some() || !slot.pending())
    }
}

impl Core {
    /// One look: sessions first (`k`), then what the index lists of each home
    /// (`r`), then pointers (`p`).
    pub(super) async fn mend_index(&self, cursor: Option<String>) -> StoreResult<Option<String>> {
        let cursor = cursor.unwrap_or_else(|| "k0".to_owned());
        let bad = || corrupt("the cursor of a mending is not one of this store's");
        let (phase, at) = cursor.split_at_checked(1).ok_or_else(bad)?;
        match phase {
            "k" => {
                // A place in a cluster names a master too: the first, at the start.
                let (at, name) = at.split_once(' ').unwrap_or((at, ""));
                let servers = self.servers.each().await;
                let mut later = servers.iter().filter(|(server, _)| server.as_str() >= name);
                let Some((server, shard)) = later.next() else { return Ok(Some("r0 ".to_owned())) };
                let at = if server == name || name.is_empty() { at } else { "0" };
                // One that is away is mended at the next turn.
                let next = match shard {
                    Some(shard) => self.mend_found(shard, at).await?,
                    None => "0".to_owned(),
                };
                Ok(Some(match (next.as_str(), later.next()) {
                    ("0", Some((following, _))) => format!("k0 {following}"),
                    ("0", None) => "r0 ".to_owned(),
                    (next, _) => format!("k{next} {server}"),
                }))
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

    async fn mend_found(&self, shard: &Shard, at: &str) -> StoreResult<String> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(at).arg("MATCH").arg(self.keys.pattern()).arg("COUNT").arg(LOOK);
        let mut parts = Parts::new(shard.link.call(&scan).await?)?;
        let next = parts.text()?;
        let sessions = self.sessions(parts.value()?)?;
        self.mend(&sessions, None).await?;
        Ok(next)
    }

    async fn mend_listed(
        &self,
        key: &str,
        at: &str,
        home: Option<&NodeName>,
    ) -> StoreResult<String> {
        let mut cmd = redis::cmd("ZSCAN");
        cmd.arg(key).arg(at).arg("COUNT").arg(LOOK);
        let mut parts = Parts::new(self.index().call(&cmd).await?)?;
        let next = parts.text()?;
        let listed: Vec<_> =
            scored(parts.value()?)?.into_iter().map(|(session, _)| session).collect();
        self.mend(&listed, home).await?;
        Ok(next)
    }

    /// Compares what the index says of sessions with what they are; `home` is the
    /// one under which they were found, if they were.
    async fn mend(&self, sessions: &[SessionId], home: Option<&NodeName>) -> StoreResult<()> {
        let found = sessions.iter().cloned().zip(self.look(sessions).await?);
        let (sessions, snapshots): (Vec<_>, Vec<_>) =
            found.filter_map(|(session, found)| Some((session, found?))).unzip();
        let listed = self.listed(&sessions, &snapshots).await?;
        let mut pipe = Pipeline::new();
        for ((session, snapshot), listed) in sessions.iter().zip(&snapshots).zip(listed) {
            let astray = home.is_some() && home != resident(&snapshot.slot);
            if astray || !listed.agrees(&snapshot.slot) {
                self.add_truth(&mut pipe, session, &snapshot.slot, home);
            }
        }
        if !pipe.is_empty() {
            self.index().pipe(&pipe).await?.into_iter().try_for_each(|answer| answer.map(drop))?;
        }
        Ok(())
    }

    /// What the index says of sessions, in one round trip.
    async fn listed(
        &self,
        sessions: &[SessionId],
        snapshots: &[Snapshot],
    ) -> StoreResult<Vec<Listed>> {
        let mut found: Vec<Listed> = sessions.iter().map(|_| Listed::default()).collect();
        let mut homes: BTreeMap<&NodeName, Vec<usize>> = BTreeMap::new();
        for (place, snapshot) in snapshots.iter().enumerate() {
            if let Some(record) = &snapshot.slot.record {
                homes.entry(&record.life().home).or_default().push(place);
            }
        }
        if sessions.is_empty() {
            return Ok(found);
        }
        let all: Vec<usize> = (0..sessions.len()).collect();
        let mut asked = vec![(self.keys.pointers(), all.clone()), (self.keys.pending(), all)];
        asked.extend(homes.into_iter().map(|(home, places)| (self.keys.residents(home), places)));
        let mut pipe = Pipeline::with_capacity(asked.len());
        for (key, places) in &asked {
            pipe.cmd("ZMSCORE").arg(key);
            for place in places {
                pipe.arg(sessions[*place].as_str());
            }
        }
        let answers = self.index().pipe(&pipe).await?;
        for (which, ((_, places), answer)) in asked.iter().zip(answers).enumerate() {
            for (place, score) in places.iter().zip(Parts::new(answer?)?) {
                let listed = &mut found[*place];
                let score = match score {
                    Value::Nil => None,
                    score => Some(reply::number(score)?),
                };
                match which {
                    0 => listed.pointer = score,
                    1 => listed.pending = score,
                    _ => listed.resident = score,
                }
            }
        }
        Ok(found)
    }
}
