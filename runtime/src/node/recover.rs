//! Whoever is in doubt asks, until nobody is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::doubts::Matter;
use super::{Failure, Node, Outcome};
use crate::metrics::Stands;
use crate::peers::messages::{MigrateCall, Phase};
use crate::protocol::Event;
use crate::session::{Life, NodeName, Pull, Record, SessionId, Transfer};
use crate::store::{Durability, StoreError};

/// Sessions in doubt that are looked after at once; beside them, as many send messages.
pub(super) const WORKERS: usize = 64;
/// A turn looks after no more, to leave the store to requests.
const AT_MOST: usize = 8 * WORKERS;
/// Sessions in doubt that most turns list: those that are longest in doubt.
const A_TURN: usize = 4096;
/// Every so many turns list all of them, should the first ones all be stuck.
const WHOLE_TURN: u64 = 16;
/// Between two passes over the index.
const MEND_EVERY: Duration = Duration::from_secs(300);

/// Sessions that somebody works on, so that nobody else begins.
pub(super) type Sessions = Mutex<BTreeSet<SessionId>>;

/// A session that is worked on, until this is dropped.
pub(super) struct Working<'a>(&'a Sessions, &'a SessionId);

impl<'a> Working<'a> {
    /// `None` if somebody is at it already.
    pub(super) fn begin(all: &'a Sessions, session: &'a SessionId) -> Option<Self> {
        let new = all.lock().insert(session.clone());
        new.then(|| Self(all, session))
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(self.1);
    }
}

/// The key under which a barred node is kept in the store's settings.
fn barred_key(node: &NodeName) -> String {
    format!("barred/{node}")
}

impl Node {
    pub(super) async fn recover_forever(self) {
        let mut failing_since: Option<Instant> = None;
        for turn in 1_u64.. {
            let most = if turn % WHOLE_TURN == 0 { usize::MAX } else { A_TURN };
            match self.recover_once(most).await {
                Ok(()) => failing_since = None,
                Err(failure) => {
                    // Nobody knows.
                    self.meters.in_doubt(Duration::ZERO);
                    let since = failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < Duration::from_secs(1) {
                        tracing::warn!(
                            node = %self.here(), function = %self.config.function, %failure,
                            "recovery waits for the store"
                        );
                    }
                }
            }
            let tick = self.config.recovery_tick();
            let _ = tokio::time::timeout(tick, self.wake.notified()).await;
            // A wake-up is no reason to spin.
            tokio::time::sleep(tick / 4).await;
        }
    }

    /// One turn: recovers a restarted store, then looks after every session about
    /// which somebody has to be asked or told something.
    async fn recover_once(&self, most: usize) -> Outcome<()> {
        // Nothing that is in the store may be acted on; `restore` does what there is to do.
        if self.refresh_restore().await? {
            self.unrecovered.store(true, Ordering::Relaxed);
            self.meters.in_doubt(Duration::ZERO);
            return Ok(());
        }
        if self.unrecovered.load(Ordering::Relaxed) {
            self.recover_store().await?;
            self.unrecovered.store(false, Ordering::Relaxed);
        }
        // A restart is noticed here even if nobody asks this node for anything.
        let notice = |error: &StoreError| {
            if matches!(error, StoreError::Restarted) {
                self.store_restarted();
            }
        };
        let counts = self.store.counts().await.inspect_err(notice)?;
        let pending = self.store.pending(most).await.inspect_err(notice)?;
        self.refresh_barred().await?;
        self.refresh_closed().await?;
        self.resident.store(counts.resident, Ordering::Relaxed);
        self.meters.stands(&Stands {
            counts,
            arriving: self.local.pulls(),
            leaving: self.moves.leaving(),
            waiting: self.moves.waiting(),
            draining: self.is_draining(),
        });
        let long = self.config.recovery_interval;
        let hears = |session: &SessionId, nonce| self.local.hears(session, nonce, long);
        self.moves.forget_silent(long, hears);
        self.local.keep_only(&pending, self.config.recovery_interval * 10);
        self.predecessors.forget(self.config.session_wait.max(self.config.pointer_fresh));
        let next = {
            let mut doubts = self.doubts.lock();
            let whole = pending.len() < most;
            let next = doubts.queue(pending, whole);
            self.meters.in_doubt(doubts.oldest(&next));
            next
        };
        self.look_after_all(next).await;
        Ok(())
    }

    /// Looks after the first ones, as many as find a worker within a tick: the others are the
    /// first ones of the next turn.
    async fn look_after_all(&self, next: Vec<SessionId>) {
        let until = Instant::now() + self.config.recovery_tick();
        for session in next.into_iter().take(AT_MOST) {
            let free = Arc::clone(&self.workers).acquire_owned();
            let permit = tokio::select! {
                biased;
                Ok(permit) = free => permit,
                () = self.wake.notified() => return self.wake.notify_one(),
                () = tokio::time::sleep_until(until) => return,
            };
            self.doubts.lock().looks_at(&session);
            let node = self.clone();
            self.later(async move {
                node.look_after(&session).await;
                drop(permit);
            });
        }
    }

    /// Does what one session waits for, unless somebody is at it already.
    pub(super) async fn look_after(&self, session: &SessionId) {
        let Some(working) = Working::begin(&self.working, session) else { return };
        if let Err(failure) = self.resolve(session).await {
            tracing::debug!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), %failure, "still in doubt"
            );
        }
        drop(working);
    }

    async fn resolve(&self, session: &SessionId) -> Outcome<()> {
        let snapshot = self.durable_snapshot(session).await?;
        self.doubts.lock().found(session, Matter::of(&snapshot.slot));
        if let Some(pull) = &snapshot.slot.pull {
            self.close_orphan(session, pull).await?;
        }
        match &snapshot.slot.record {
            Some(
                Record::Migrating { life, transfer, .. }
                | Record::Owned { life, intent: Some(transfer), .. },
            ) => self.ask_target(session, life, transfer).await?,
            Some(Record::Owned { life, epoch, unsettled, untold, .. }) => {
                if snapshot.slot.outbox > 0 {
                    self.deliver_beside(session);
                }
                if let Some(from) = unsettled
                    && !self.local.is_pulling(session)
                {
                    self.try_again(from)?;
                    self.settle(session, life, *epoch, from, 0).await;
                }
                if *untold {
                    self.tell_home(session).await?;
                }
            }
            Some(Record::Expired { .. }) => self.tell_home(session).await?,
            Some(Record::Moved { .. }) | None => {}
        }
        Ok(())
    }

    /// Delivers a session's messages, unless somebody does. A receiver may take long: a move
    /// that gets into doubt meanwhile does not wait for it.
    fn deliver_beside(&self, session: &SessionId) {
        // Who finds no place is there at the next turn.
        let Ok(permit) = Arc::clone(&self.couriers).try_acquire_owned() else { return };
        let (node, session) = (self.clone(), session.clone());
        self.later(async move {
            let Some(delivering) = Working::begin(&node.delivering, &session) else { return };
            if let Err(failure) = node.deliver(&session).await {
                tracing::debug!(
                    node = %node.here(), session = session.log_hash(), %failure,
                    "messages are still under way"
                );
            }
            drop((delivering, permit));
        });
    }

    /// The source of a silent move asks its target; the answer is final.
    async fn ask_target(
        &self,
        session: &SessionId,
        life: &Life,
        transfer: &Transfer,
    ) -> Outcome<()> {
        if self.is_barred(&transfer.to) {
            self.step(session, &Event::Abandon { lost: transfer.to.clone() }, Durability::Synced)
                .await?;
        } else {
            let long = self.config.ask_after();
            if !self.local.silent_for(session, transfer.nonce, long) {
                return Ok(());
            }
            self.try_again(&transfer.to)?;
            let call = MigrateCall::of_transfer(session.clone(), life, transfer);
            let answer = self.migrate(&transfer.to, &call).await?;
            let event = Event::Answer { transfer: transfer.clone(), installed: answer.installed };
            self.step(session, &event, Durability::Synced).await?;
            tracing::info!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), epoch = transfer.next_epoch, to = %transfer.to,
                installed = answer.installed, "a move in doubt was resolved"
            );
        }
        self.local.attempt_over(session, transfer.nonce);
        self.moves.attempt_over(session, transfer.nonce);
        self.lines.changed(session);
        Ok(())
    }

    /// A pull whose task is gone (its process was restarted) is closed, so that
    /// the session can be created or pulled anew.
    async fn close_orphan(&self, session: &SessionId, pull: &Pull) -> Outcome<()> {
        let orphaned = self.local.orphaned_for(session, pull.nonce);
        if orphaned < self.config.ask_after() {
            return Ok(());
        }
        // Another replica may be at it. A source that has agreed knows whether it
        // is silent, and asks; only one that has not, or does not answer for long,
        // leaves the pull to this node.
        let (of, here) = (session.clone(), self.here().clone());
        let call = MigrateCall::of_pull(of, pull, here, Phase::Agreed);
        match self.migrate(&pull.from, &call).await {
            Ok(answer) if answer.agreed => return Ok(()),
            Ok(_) => {}
            // It went on without this node.
            Err(error) if error.code() == Some("barred") => {}
            Err(error) if orphaned < self.config.recovery_interval * 5 => return Err(error.into()),
            Err(_) => {}
        }
        let event = Event::ClosePull { nonce: pull.nonce };
        self.step(session, &event, Durability::Synced).await?;
        self.lines.changed(session);
        Ok(())
    }

    async fn refresh_barred(&self) -> Outcome<()> {
        let kept = self.store.settings("barred/").await?;
        let barred = kept.keys().filter_map(|key| key.strip_prefix("barred/")?.parse().ok());
        *self.barred.write() = barred.collect();
        Ok(())
    }

    /// `recover`: a person says that `lost` will not come back. Sessions that wait
    /// for it go on here, and it is barred. What it had that nobody else has is
    /// given up.
    pub async fn give_up_node(&self, lost: &NodeName) -> Outcome<u64> {
        if lost == self.here() || self.topology().node(lost).is_none() {
            return Err(Failure::BadCall(format!("{lost} is not another node of this tree")));
        }
        let mut waiting = BTreeSet::new();
        for session in self.store.pending(usize::MAX).await? {
            if self.waits_for(&session, lost).await? {
                waiting.insert(session);
            }
        }
        self.store.set_setting(&barred_key(lost), Some("lost")).await?;
        self.refresh_barred().await?;
        let mut resumed = 0;
        for session in self.store.pending(usize::MAX).await? {
            let event = Event::Abandon { lost: lost.clone() };
            if self.step(&session, &event, Durability::Synced).await.is_ok() {
                self.local.over(&session);
                self.moves.over(&session);
                self.lines.changed(&session);
                waiting.remove(&session);
                resumed += 1;
            }
        }
        // From the moment that it is barred, whoever asks after moves in doubt does the same.
        for session in waiting {
            resumed += u64::from(!self.waits_for(&session, lost).await?);
        }
        tracing::warn!(
            node = %self.here(), function = %self.config.function, %lost, resumed,
            "a node was given up"
        );
        Ok(resumed)
    }

    /// Whether a session here is frozen for a move to `target`.
    async fn waits_for(&self, session: &SessionId, target: &NodeName) -> Outcome<bool> {
        let record = self.snapshot(session).await?.slot.record;
        Ok(matches!(record, Some(Record::Migrating { transfer, .. }) if transfer.to == *target))
    }

    /// `recover` with `back`: the node takes part again.
    pub async fn readmit_node(&self, back: &NodeName) -> Outcome<()> {
        self.store.set_setting(&barred_key(back), None).await?;
        self.refresh_barred().await
    }

    /// Compares the index with the records, a little at a time.
    pub(super) async fn mend_forever(self) {
        loop {
            let mut cursor = None;
            while !self.is_restoring() {
                match self.store.mend_index(cursor).await {
                    Ok(None) => break,
                    Ok(next) => cursor = next,
                    Err(error) => {
                        tracing::debug!(
                            node = %self.here(), function = %self.config.function, %error,
                            "the index waits to be mended"
                        );
                        cursor = None;
                        tokio::time::sleep(self.config.recovery_interval).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(MEND_EVERY).await;
        }
    }
}
