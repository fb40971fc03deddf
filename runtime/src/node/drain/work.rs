//! The moves of a drain: least recently used sessions first, a bounded number at
//! once, until a full look at the store finds none.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::pace::{FullLook, Pace};
use crate::node::machine::seed;
use crate::node::moves::COME_AGAIN;
use crate::node::offload::Offload;
use crate::node::{Failure, Node, Outcome};
use crate::peers::PeerError;
use crate::protocol::Refusal;
use crate::session::SessionId;

/// Sessions that one look at the index brings.
const A_LOOK: usize = 256;
/// How often the wish is read and the count written.
const EVERY: Duration = Duration::from_secs(1);
/// How often a node that has nothing to send away looks for something.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

type Offered = (SessionId, Outcome<Offload>);

/// What one process does for a drain.
#[derive(Default)]
struct Work {
    queue: VecDeque<SessionId>,
    offers: JoinSet<Offered>,
    under_way: BTreeSet<SessionId>,
    pace: Pace,
    /// Not before then is the index looked at again.
    look_at: Option<Instant>,
    /// Another replica is at it too: take others than it does.
    crowded: bool,
    /// When the index was compared with all records.
    full_look: FullLook,
}

/// What an outcome says.
enum Verdict {
    /// It is not here any more.
    Gone,
    /// It is on its way; nobody knows how far.
    Going,
    /// It cannot go now.
    Stays,
    /// None can go now, as far as this one tells.
    NoneGoes,
    /// As many go as can, for so long.
    Later(Duration),
}

impl Node {
    /// Waits for a drain, does it, and waits for the next one.
    pub(in crate::node) async fn drain_forever(self) {
        loop {
            let recovered = !self.unrecovered.load(Ordering::Relaxed);
            if recovered && matches!(self.refresh_drain().await, Ok(true)) {
                self.drain_away().await;
            }
            // A start through this process is heard at once, through another one soon.
            let _ = tokio::time::timeout(EVERY, self.drain.wake.notified()).await;
        }
    }

    /// Sends sessions away until the drain ends.
    async fn drain_away(&self) {
        let mut work = Work::default();
        let mut refresh = tokio::time::interval(EVERY);
        while self.is_draining() {
            self.fill(&mut work).await;
            self.say_how_it_goes(&work);
            let now = Instant::now();
            let next = work.pace.paused().or(work.look_at).filter(|next| *next > now);
            let pause = next.unwrap_or(now + LOOK_AGAIN);
            tokio::select! {
                // In this order: a simulation takes the same turns again.
                biased;
                _ = refresh.tick() => {
                    // The store does not answer: what was wished for still is.
                    if let Err(failure) = self.refresh_drain().await {
                        tracing::debug!(
                            node = %self.here(), function = %self.config.function, %failure,
                            "the drain goes on"
                        );
                    }
                }
                Some(offered) = work.offers.join_next() => {
                    if let Ok((session, outcome)) = offered {
                        self.hear(&mut work, &session, outcome);
                    }
                }
                () = self.drain.wake.notified() => {}
                () = tokio::time::sleep_until(pause) => {}
            }
        }
        // What was offered ends as it may; it is not counted any more.
        work.offers.detach_all();
    }

    /// Offers as many sessions as may be under way.
    async fn fill(&self, work: &mut Work) {
        loop {
            let most = work.pace.at_once(self.offers_at_once());
            if work.offers.len() >= most {
                return;
            }
            let looks = work.look_at.is_none_or(|at| at <= Instant::now());
            if work.queue.is_empty()
                && looks
                && let Err(failure) = self.look_for_more(work).await
            {
                tracing::debug!(
                    node = %self.here(), function = %self.config.function, %failure,
                    "the drain waits for the store"
                );
                work.pace.strike();
                work.look_at = Some(Instant::now() + LOOK_AGAIN);
                self.drain.progress.lock().waits_for = Some(failure.to_string());
                return;
            }
            let Some(session) = work.queue.pop_front() else { return };
            if work.under_way.insert(session.clone()) {
                let node = self.clone();
                work.offers.spawn(async move {
                    let outcome = node.offload_one(&session).await;
                    (session, outcome)
                });
            }
        }
    }

    /// Fills the queue: sessions whose time has come again, then those that were
    /// not used for longest.
    async fn look_for_more(&self, work: &mut Work) -> Outcome<()> {
        let (due, marked) = {
            let progress = self.drain.progress.lock();
            (progress.marks.due(), progress.marks.len())
        };
        let limit = marked + work.under_way.len() + A_LOOK;
        let mut found = self.store.residents(None, limit).await?;
        if found.is_empty() && work.full_look.is_due() {
            // The index may lag: it says so once it was compared with all records.
            let mut cursor = None;
            loop {
                cursor = self.store.mend_index(cursor).await?;
                if cursor.is_none() {
                    break;
                }
            }
            found = self.store.residents(None, limit).await?;
            work.full_look.done();
        }
        let mut progress = self.drain.progress.lock();
        let none = found.is_empty();
        if !none {
            work.full_look.void();
        }
        // One that is not here any more is counted first.
        // Nor is any on its way here.
        let still = work.under_way.is_empty() && self.local.pulls() == 0;
        progress.empty = none && still && progress.marks.len() == 0;
        let due = if none { progress.marks.all() } else { due };
        let mut new: Vec<SessionId> = found
            .into_iter()
            .map(|resident| resident.session)
            .filter(|session| !progress.marks.has(session) && !work.under_way.contains(session))
            .collect();
        if std::mem::take(&mut work.crowded) {
            new.shuffle(&mut StdRng::seed_from_u64(seed(self.machine.as_ref())));
        }
        let due = due.into_iter().filter(|session| progress.marks.has(session));
        work.queue.extend(due.filter(|session| !work.under_way.contains(session)));
        work.queue.extend(new);
        // With nothing to do there is nothing to hurry for.
        work.look_at = work.queue.is_empty().then(|| {
            let soon = Instant::now() + LOOK_AGAIN;
            progress.marks.next_due().map_or(soon, |due| due.min(soon))
        });
        Ok(())
    }

    /// What came of an offer.
    fn hear(&self, work: &mut Work, session: &SessionId, outcome: Outcome<Offload>) {
        work.under_way.remove(session);
        let failure = match outcome {
            Ok(Offload::Moved(_)) => {
                self.drained_one(session);
                work.pace.success(&mut self.drain.progress.lock().marks);
                return;
            }
            Ok(Offload::Moving(still)) => Err(still),
            Err(failure) => Ok(failure),
        };
        let verdict = failure.as_ref().map_or(Verdict::Going, judge);
        let why = match &failure {
            Ok(failure) => failure.to_string(),
            Err(still) => format!("{} is taking it and not done yet", still.ask),
        };
        let mut progress = self.drain.progress.lock();
        match verdict {
            // One that was offered before has gone since: nobody else counts it.
            Verdict::Gone => {
                let moved = !matches!(failure, Ok(Failure::NoSuchSession));
                progress.moved += u64::from(progress.marks.forget(session) && moved);
            }
            Verdict::Going => {
                progress.marks.note(session, why, false);
            }
            Verdict::Stays => {
                work.crowded |= matches!(failure, Ok(Failure::Refused(Refusal::MoveOpen)));
                tracing::debug!(
                    node = %self.here(), function = %self.config.function,
                    session = session.log_hash(), why, "it stays"
                );
                if !progress.marks.note(session, why, false) {
                    work.pace.strike();
                }
            }
            Verdict::NoneGoes => {
                tracing::debug!(
                    node = %self.here(), function = %self.config.function,
                    session = session.log_hash(), why, "none goes"
                );
                progress.waits_for = Some(why.clone());
                progress.marks.note(session, why, true);
                work.pace.strike();
            }
            Verdict::Later(wait) => {
                progress.waits_for = Some(why);
                work.queue.push_front(session.clone());
                work.pace.pause(wait);
            }
        }
    }

    fn say_how_it_goes(&self, work: &Work) {
        let mut progress = self.drain.progress.lock();
        if !work.pace.is_slow() {
            progress.waits_for = None;
        }
    }
}

/// What a failure says of the session, and of the others.
fn judge(failure: &Failure) -> Verdict {
    match failure {
        Failure::NoSuchSession | Failure::Refused(Refusal::NotOwner { .. }) => Verdict::Gone,
        Failure::TooManyMoves => Verdict::Later(COME_AGAIN),
        Failure::Refused(_) | Failure::Busy { .. } => Verdict::Stays,
        Failure::Peer(error) => judge_peer(error),
        Failure::Store(_) | Failure::NoRoom => Verdict::NoneGoes,
        _ => Verdict::Stays,
    }
}

fn judge_peer(error: &PeerError) -> Verdict {
    match error {
        PeerError::Unreachable { .. } | PeerError::NoFunction { .. } => Verdict::NoneGoes,
        PeerError::Refused { refusal: Some(_), .. } => Verdict::Stays,
        PeerError::Refused { code, status, .. } => match (code.as_str(), *status) {
            ("too-many-moves", _) => Verdict::Later(error.retry_after().unwrap_or(COME_AGAIN)),
            // A session that is busy there, or a move that broke off.
            ("busy" | "move-failed", _) => Verdict::Stays,
            ("no-room" | "older-schema" | "barred" | "unknown-peer", _) | (_, 500..) => {
                Verdict::NoneGoes
            }
            _ => Verdict::Stays,
        },
    }
}
