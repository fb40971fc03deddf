//! What this process alone remembers of moves. Lost with the process, by design:
//! everything that must outlive it is in the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peers::messages::CopyStatus;
use crate::session::{Epoch, NodeName, Nonce, SessionId};

#[derive(Debug, Default)]
struct Memory {
    /// Source: when this process froze a session, and for which attempt. Reads go on
    /// for a while.
    frozen: HashMap<SessionId, (Nonce, Instant)>,
    /// Source: when the target of an attempt was last heard of. A silent one is asked,
    /// whatever other targets say meanwhile.
    heard: BTreeMap<(SessionId, Nonce), Instant>,
    /// Source: moves that this process is doing something for, and how often.
    answering: HashMap<Nonce, usize>,
    /// Target: since when this process knows that a session arrived.
    arrived: HashMap<SessionId, (Epoch, Instant)>,
    /// Target: pulls that a task of this process works on.
    pulling: HashMap<SessionId, Nonce>,
    /// Target: sessions that are being copied.
    copies: HashMap<SessionId, CopyStatus>,
    /// Target: since when this process sees a pull that none of its tasks works on.
    orphans: HashMap<SessionId, (Nonce, Instant)>,
}

/// What this process alone remembers of moves.
#[derive(Debug, Default)]
pub(super) struct Local {
    memory: Mutex<Memory>,
}

/// A pull that a task of this process works on, until this is dropped.
#[derive(Debug)]
pub(super) struct Pulling {
    local: Arc<Local>,
    session: SessionId,
}

/// A session that is being copied, until this is dropped.
#[derive(Debug)]
pub(super) struct Copying {
    local: Arc<Local>,
    session: SessionId,
}

/// A step that the target of a move asked for and waits for, until this is dropped.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    local: &'a Local,
    nonce: Nonce,
}

impl Local {
    /// This process froze the session, at `began` or a moment later: the clock of its
    /// last reads runs. A freeze that somebody made before does not set it again: the
    /// target may have installed the session since, and count from then.
    pub(super) fn froze(&self, session: &SessionId, nonce: Nonce, began: Instant) {
        self.memory.lock().frozen.insert(session.clone(), (nonce, began));
    }

    /// All moves of the session are over, for good or not.
    pub(super) fn over(&self, session: &SessionId) {
        let mut memory = self.memory.lock();
        memory.frozen.remove(session);
        let all = (session.clone(), Nonce(0))..=(session.clone(), Nonce(u128::MAX));
        let heard: Vec<_> = memory.heard.range(all).map(|(attempt, _)| attempt.clone()).collect();
        for attempt in heard {
            memory.heard.remove(&attempt);
        }
    }

    /// This attempt is over; another one of the session may go on.
    pub(super) fn attempt_over(&self, session: &SessionId, nonce: Nonce) {
        let mut memory = self.memory.lock();
        if memory.frozen.get(session).is_some_and(|(frozen, _)| *frozen == nonce) {
            memory.frozen.remove(session);
        }
        memory.heard.remove(&(session.clone(), nonce));
    }

    /// No frozen session is read any more.
    pub(super) fn no_frozen_reads(&self) {
        self.memory.lock().frozen.clear();
    }

    /// Whether a frozen session may still be read. A process that does not know
    /// when the freeze was says no.
    pub(super) fn reads_go_on(&self, session: &SessionId, leaving_reads: Duration) -> bool {
        let memory = self.memory.lock();
        memory.frozen.get(session).is_some_and(|(_, began)| began.elapsed() < leaving_reads)
    }

    /// The target of a move was heard of.
    pub(super) fn heard(&self, session: &SessionId, nonce: Nonce) {
        self.memory.lock().heard.insert((session.clone(), nonce), Instant::now());
    }

    /// The target was heard of and waits for an answer: it is not silent, however
    /// long the answer takes.
    pub(super) fn answering(&self, nonce: Nonce) -> Answering<'_> {
        *self.memory.lock().answering.entry(nonce).or_default() += 1;
        Answering { local: self, nonce }
    }

    /// Whether this process heard of the target of a move within `long`.
    pub(super) fn hears(&self, session: &SessionId, nonce: Nonce, long: Duration) -> bool {
        let memory = self.memory.lock();
        let heard = memory.heard.get(&(session.clone(), nonce));
        memory.answering.contains_key(&nonce) || heard.is_some_and(|heard| heard.elapsed() < long)
    }

    /// Whether the target of a move has been silent for `long`. Another replica may
    /// be talking to it: this process counts from when it first saw the move.
    pub(super) fn silent_for(&self, session: &SessionId, nonce: Nonce, long: Duration) -> bool {
        let mut memory = self.memory.lock();
        if memory.answering.contains_key(&nonce) {
            return false;
        }
        let heard = memory.heard.entry((session.clone(), nonce)).or_insert_with(Instant::now);
        heard.elapsed() >= long
    }

    /// Forgets what is not in doubt any more, perhaps because another replica
    /// resolved it. What is younger than `long` is kept: it may just be beginning.
    pub(super) fn keep_only(&self, in_doubt: &[SessionId], long: Duration) {
        let in_doubt: HashSet<&SessionId> = in_doubt.iter().collect();
        let mut memory = self.memory.lock();
        let keeps = |session: &SessionId, since: &Instant| {
            in_doubt.contains(session) || since.elapsed() < long
        };
        memory.frozen.retain(|session, (_, since)| keeps(session, since));
        memory.heard.retain(|(session, _), since| keeps(session, since));
        memory.arrived.retain(|session, (_, since)| keeps(session, since));
        memory.orphans.retain(|session, (_, since)| keeps(session, since));
    }

    /// The session arrived under `epoch`.
    pub(super) fn arrived(&self, session: &SessionId, epoch: Epoch) {
        let mut memory = self.memory.lock();
        // A request that waits may have seen it before.
        if memory.arrived.get(session).is_none_or(|(seen, _)| *seen != epoch) {
            memory.arrived.insert(session.clone(), (epoch, Instant::now()));
        }
    }

    /// Whether the source had the time to stop its reads, counted from when this
    /// process first saw the session here.
    pub(super) fn source_is_quiet(
        &self,
        session: &SessionId,
        epoch: Epoch,
        leaving_reads: Duration,
    ) -> bool {
        let mut memory = self.memory.lock();
        match memory.arrived.get(session) {
            Some((seen, since)) if *seen == epoch => since.elapsed() >= leaving_reads,
            _ => {
                memory.arrived.insert(session.clone(), (epoch, Instant::now()));
                false
            }
        }
    }

    /// The session is settled: nobody needs to know when it arrived.
    pub(super) fn settled(&self, session: &SessionId) {
        self.memory.lock().arrived.remove(session);
    }

    /// A task begins to work on a pull; `None` if one does already.
    pub(super) fn pull(self: &Arc<Self>, session: &SessionId, nonce: Nonce) -> Option<Pulling> {
        let mut memory = self.memory.lock();
        if memory.pulling.contains_key(session) {
            return None;
        }
        memory.pulling.insert(session.clone(), nonce);
        Some(Pulling { local: Arc::clone(self), session: session.clone() })
    }

    /// Whether a task of this process works on a pull of this session.
    pub(super) fn is_pulling(&self, session: &SessionId) -> bool {
        self.memory.lock().pulling.contains_key(session)
    }

    /// Whether a task of this process works on this very attempt.
    pub(super) fn works_on(&self, session: &SessionId, nonce: Nonce) -> bool {
        self.memory.lock().pulling.get(session) == Some(&nonce)
    }

    /// How many pulls this process works on.
    pub(super) fn pulls(&self) -> usize {
        self.memory.lock().pulling.len()
    }

    /// A copy begins.
    pub(super) fn copying(
        self: &Arc<Self>,
        session: &SessionId,
        from: &NodeName,
        bytes: u64,
    ) -> Copying {
        let (hash, from) = (session.log_hash().clone(), from.clone());
        let status = CopyStatus { session: hash, from, copied: 0, bytes, round: 0 };
        self.memory.lock().copies.insert(session.clone(), status);
        Copying { local: Arc::clone(self), session: session.clone() }
    }

    /// The copies that go on, and how far they have come.
    pub(super) fn copies(&self) -> Vec<CopyStatus> {
        let mut copies: Vec<_> = self.memory.lock().copies.values().cloned().collect();
        copies.sort_by(|a, b| a.session.cmp(&b.session));
        copies
    }

    /// For how long this process has seen a pull that none of its tasks works on.
    pub(super) fn orphaned_for(&self, session: &SessionId, nonce: Nonce) -> Duration {
        let mut memory = self.memory.lock();
        if memory.pulling.contains_key(session) {
            memory.orphans.remove(session);
            return Duration::ZERO;
        }
        match memory.orphans.get(session) {
            Some((seen, since)) if *seen == nonce => since.elapsed(),
            _ => {
                memory.orphans.insert(session.clone(), (nonce, Instant::now()));
                Duration::ZERO
            }
        }
    }
}

impl Copying {
    /// A page came.
    pub(super) fn came(&self, bytes: u64, round: u32) {
        if let Some(status) = self.local.memory.lock().copies.get_mut(&self.session) {
            status.copied += bytes;
            status.round = round;
        }
    }

    /// Nothing of what came counts.
    pub(super) fn begins_again(&self) {
        if let Some(status) = self.local.memory.lock().copies.get_mut(&self.session) {
            (status.copied, status.round) = (0, 0);
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.local.memory.lock().copies.remove(&self.session);
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut memory = self.local.memory.lock();
        if let Some(times) = memory.answering.get_mut(&self.nonce) {
            *times -= 1;
            if *times == 0 {
                memory.answering.remove(&self.nonce);
            }
        }
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.local.memory.lock().pulling.remove(&self.session);
    }
}
