//! The node asks the others and decides on every record of its restored store.
//!
//! First its own records, page by page: what do the others have of these sessions? Then
//! theirs: which name this node, and are unknown here? Nothing is kept in memory but a
//! page and the counts. Broken off, it begins anew: what was decided is decided the same.

mod ask;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::name::A_CALL;
use super::{DECIDED, LABEL, MARK, PROGRESS, REPORT, TURN, WISH};
use crate::node::{Failure, Node, Outcome};
use crate::peers::messages::{NameCall, RestoreState, RestoreStatus};
use crate::protocol::{Event, Fate, Reply};
use crate::session::{Incarnation, Life, NodeName, Record, SessionId, Slot};
use crate::store::{Durability, SessionStore};

/// How often the wish is read while there is nothing to do, and between two attempts.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is written down how far it is.
const SAY: Duration = Duration::from_secs(3);
/// A process that has said nothing for so long is gone, in milliseconds of the store.
const GONE: u64 = 10_000;
/// Nodes that are asked, and records that are decided on, at once.
const AT_ONCE: usize = 32;
/// So many ids of a kind are kept for the report, and written into the store.
const LISTED: usize = 1000;
const WRITTEN: usize = 20;

/// Fates that are told by id. They come about once: what a run that was broken off has
/// counted counts.
const TOLD: [Fate; 4] = [Fate::Behind, Fate::Given, Fate::Ended, Fate::Lost];

type FoundSlots = Vec<(SessionId, Slot)>;

/// One run.
struct Work<'a> {
    node: &'a Node,
    inside: Arc<dyn SessionStore>,
    without: Vec<NodeName>,
    /// Those above and below: all that may have a session of this node.
    line: BTreeSet<NodeName>,
    said: Mutex<Instant>,
    /// Sessions of this home that are gone without a record.
    lost: Mutex<BTreeSet<SessionId>>,
}

impl Node {
    /// Waits until an operator begins, and does it.
    pub(in crate::node) async fn restore_forever(self) {
        loop {
            if self.is_restoring()
                && let Err(failure) = self.restore_if_told().await
            {
                tracing::warn!(
                    node = %self.here(), function = %self.config.function, %failure,
                    "the restore waits"
                );
                let mut status = self.restore.status.lock();
                status.state = RestoreState::Waiting;
                status.waits_for = Some(failure.to_string());
            }
            let _ = tokio::time::timeout(EVERY, self.restore.wake.notified()).await;
        }
    }

    async fn restore_if_told(&self) -> Outcome<()> {
        let Some(without) = self.restore_wish().await? else { return Ok(()) };
        // Whoever had the turn may have ended it all by now.
        if !self.takes_turn().await? || !self.refresh_restore().await? {
            return Ok(());
        }
        let inside = self.store.inside().await?;
        // Open pulls are closed, and what had agreed to a move is frozen.
        inside.recover_restart().await?;
        let topology = self.topology();
        let above = topology.ancestors(self.here()).into_iter();
        let line = above.chain(topology.subtree(self.here())).map(|node| node.name.clone());
        let work = Work {
            node: self,
            inside,
            line: line.filter(|name| name != self.here() && !without.contains(name)).collect(),
            without,
            said: Mutex::new(Instant::now()),
            lost: Mutex::default(),
        };
        // Who does not say so any more is not at work any more.
        tokio::select! {
            judged = work.judge() => judged?,
            lost = work.keep_turn() => return lost,
        }
        work.end().await
    }

    /// Whether this process is to do it, and no other replica.
    async fn takes_turn(&self) -> Outcome<bool> {
        let now = self.store.now().await?;
        let before = self.store.setting(TURN).await?;
        if !self.is_own(before.as_deref())
            && let Some((_, at)) = before.as_deref().and_then(|turn| turn.split_once(' '))
            && at.parse().is_ok_and(|at: u64| now.saturating_sub(at) < GONE)
        {
            return Ok(false);
        }
        let own = format!("{} {now}", self.restore.replica());
        let replaced = self.store.set_setting(TURN, Some(&own)).await?;
        if replaced == before {
            return Ok(true);
        }
        // Another replica was faster, and gets it back.
        self.store.set_setting(TURN, replaced.as_deref()).await?;
        Ok(false)
    }

    /// Says that this process is still at work. An error if another replica is.
    async fn renew_turn(&self) -> Outcome<()> {
        if !self.has_turn().await? {
            let why = "another replica restores the store".to_owned();
            return Err(Failure::MoveFailed(why));
        }
        let own = format!("{} {}", self.restore.replica(), self.store.now().await?);
        self.store.set_setting(TURN, Some(&own)).await?;
        Ok(())
    }
}

impl Work<'_> {
    /// Decides on everything, and has it on disk.
    async fn judge(&self) -> Outcome<()> {
        self.begin().await?;
        tracing::warn!(
            node = %self.node.here(), function = %self.node.config.function,
            without = ?self.without, "the restored store is judged"
        );
        self.ask_all(&NameCall { sessions: Some(Vec::new()), ..NameCall::default() }).await?;
        let without = serde_json::to_string(&self.without).unwrap_or_default();
        self.inside.set_setting(DECIDED, Some(&without)).await?;
        self.decide_on_own().await?;
        for node in self.others() {
            self.decide_on_named_by(&node).await?;
        }
        let mut cursor = None;
        loop {
            cursor = self.inside.mend_index(cursor).await?;
            if cursor.is_none() {
                return Ok(self.inside.on_disk().await?);
            }
        }
    }

    /// Says again and again that this process is at work, however long a page takes. Ends
    /// when another replica is.
    async fn keep_turn(&self) -> Outcome<()> {
        loop {
            tokio::time::sleep(SAY).await;
            self.node.renew_turn().await?;
        }
    }

    /// What an earlier run has counted of what comes about once goes on.
    async fn begin(&self) -> Outcome<()> {
        let kept = self.inside.setting(PROGRESS).await?;
        let kept = kept.and_then(|text| serde_json::from_str(&text).ok());
        let mut status = self.node.restore.status.lock();
        let before: RestoreStatus = match status.state {
            // This process knows it best.
            RestoreState::Waiting | RestoreState::Asking if !status.fates.is_empty() => {
                status.clone()
            }
            _ => kept.unwrap_or_default(),
        };
        let told = |fate: &Fate| TOLD.contains(fate);
        *status = RestoreStatus {
            state: RestoreState::Asking,
            fates: before.fates.into_iter().filter(|(fate, _)| told(fate)).collect(),
            sessions: before.sessions,
            rehomed: before.rehomed,
            without: self.without.clone(),
            ..RestoreStatus::default()
        };
        Ok(())
    }

    /// Every record of this store.
    async fn decide_on_own(&self) -> Outcome<()> {
        let mut cursor = None;
        loop {
            let page = self.inside.walk(cursor).await?;
            for part in page.found.chunks(A_CALL) {
                self.decide(part.to_vec(), true).await?;
                self.node.restore.status.lock().own += part.len() as u64;
                self.say().await?;
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// What another node names that is unknown here.
    async fn decide_on_named_by(&self, node: &NodeName) -> Outcome<()> {
        let mut call = NameCall::default();
        loop {
            let Some(answer) = self.ask(node, &call).await? else { return Ok(()) };
            let ids: BTreeSet<_> = answer.named.into_iter().map(|named| named.session).collect();
            let ids: Vec<_> = ids.into_iter().collect();
            for part in ids.chunks(A_CALL) {
                let slots = self.inside.slots(part).await?;
                let found = part.iter().cloned().zip(slots);
                self.decide(found.filter(|(_, slot)| slot.record.is_none()).collect(), false)
                    .await?;
            }
            self.node.restore.status.lock().others += answer.looked;
            self.say().await?;
            call.cursor = answer.next;
            if call.cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Asks all others about sessions and decides on each.
    async fn decide(&self, found: FoundSlots, own: bool) -> Outcome<()> {
        if found.is_empty() {
            return Ok(());
        }
        let mut named = self.name_all(&found).await?;
        let asked = Arc::new(self.others().into_iter().collect::<BTreeSet<_>>());
        let decisions = found.into_iter().map(|(session, slot)| {
            let named = named.remove(&session).unwrap_or_default();
            let event = Event::Restore { named, asked: Arc::clone(&asked) };
            self.decide_one(session, slot, event, own)
        });
        stream::iter(decisions.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn decide_one(
        &self,
        session: SessionId,
        slot: Slot,
        event: Event,
        own: bool,
    ) -> Outcome<()> {
        // On disk before the mark goes, all together.
        let reply = self.inside.step(&session, &event, Durability::Eventual).await??;
        let Reply::Restored { fate } = reply else { return Ok(()) };
        self.node.lines.changed(&session);
        if matches!(fate, Fate::Kept | Fate::Behind) {
            self.rehome(&session, &slot).await?;
        }
        let known = fate == Fate::Lost && !self.lost.lock().insert(session.clone());
        if known || (!own && fate == Fate::Nothing) {
            return Ok(());
        }
        if TOLD.contains(&fate) {
            tracing::warn!(
                node = %self.node.here(), function = %self.node.config.function,
                session = session.log_hash(), ?fate, "a session lost something with the store"
            );
        }
        let mut status = self.node.restore.status.lock();
        let listed = status.sessions.entry(fate).or_default();
        if TOLD.contains(&fate) {
            if listed.contains(&session) {
                return Ok(());
            }
            if listed.len() < LISTED {
                listed.push(session);
            }
        }
        *status.fates.entry(fate).or_default() += 1;
        Ok(())
    }

    /// A session whose home has left the tree since the backup gets its home here, as it
    /// would have then.
    async fn rehome(&self, session: &SessionId, slot: &Slot) -> Outcome<()> {
        let Some(life) = slot.record.as_ref().map(Record::life) else { return Ok(()) };
        if self.node.topology().node(&life.home).is_some() {
            return Ok(());
        }
        let incarnation = Incarnation(self.node.machine.random());
        let new = Life { home: self.node.here().clone(), incarnation };
        let event = Event::Rehome { life: life.clone(), new };
        // What waits to be settled is refused: `retire` finds it.
        if self.inside.step(session, &event, Durability::Eventual).await?.is_ok() {
            self.node.restore.status.lock().rehomed += 1;
        }
        Ok(())
    }

    /// Writes down how far it is, now and then.
    async fn say(&self) -> Outcome<()> {
        {
            let mut said = self.said.lock();
            if said.elapsed() < SAY {
                return Ok(());
            }
            *said = Instant::now();
        }
        let status = self.node.restore.status.lock().clone();
        self.inside.set_setting(PROGRESS, Some(&written(status))).await?;
        Ok(())
    }

    /// All is decided, and on disk: the mark goes, and the node serves. Another replica
    /// that still believes that it is at work can change nothing by then.
    async fn end(&self) -> Outcome<()> {
        self.node.renew_turn().await?;
        self.node.store.close().await?;
        let inside = &self.inside;
        let done = {
            let status = self.node.restore.status.lock();
            RestoreStatus { state: RestoreState::Done, waits_for: None, ..status.clone() }
        };
        let report = written(done.clone());
        let label = self.node.config.restored.as_deref();
        // Together they wait for the disk once.
        let settings =
            [(REPORT, Some(report.as_str())), (PROGRESS, None), (WISH, None), (DECIDED, None)];
        let settings = settings.into_iter().chain(label.map(|label| (LABEL, Some(label))));
        let kept = settings.map(|(name, value)| inside.set_setting(name, value));
        futures_util::future::try_join_all(kept).await?;
        self.node.renew_turn().await?;
        inside.set_setting(MARK, None).await?;
        tracing::warn!(
            node = %self.node.here(), function = %self.node.config.function, fates = ?done.fates,
            "the restored store is judged, and served"
        );
        *self.node.restore.status.lock() = done;
        self.node.refresh_restore().await?;
        self.node.store_restarted();
        // Last, so that nobody takes it who has read the mark before.
        inside.set_setting(TURN, None).await?;
        Ok(())
    }
}

/// A status for the store's settings, which are read often.
fn written(mut status: RestoreStatus) -> String {
    for listed in status.sessions.values_mut() {
        listed.truncate(WRITTEN);
    }
    serde_json::to_string(&status).unwrap_or_default()
}
