//! A node is taken out of the tree: its sessions get another home.

use futures_util::{StreamExt, stream};

use super::retree::names;
use super::{Failure, Node, Outcome};
use crate::peers::messages::{RetireAnswer, RetireCall, RetireStep};
use crate::protocol::{Event, Refusal, Reply};
use crate::session::{Incarnation, Life, Millis, NodeName, Record, SessionId, Slot};
use crate::store::Durability;

/// The setting that says that this node goes, and creates no sessions any more.
const CLOSED: &str = "closed";
/// So many sessions a call: its caller calls again.
const A_CALL: usize = 2048;
/// Sessions that are worked on at once.
const AT_ONCE: usize = 32;
/// Later than anything a store's clock says.
pub(super) const EVER: Millis = i64::MAX as u64 >> 8;
/// All of them, in a number that every store reads.
pub(super) const ALL: usize = i32::MAX as usize;

impl Node {
    /// `retire`: one step on the way of a node out of the tree.
    pub(crate) async fn retire(&self, call: &RetireCall) -> Outcome<RetireAnswer> {
        let itself = call.node == *self.here();
        match (call.step, itself) {
            (RetireStep::Close | RetireStep::Open, true) => {
                let close = (call.step == RetireStep::Close).then_some("yes");
                self.store.set_setting(CLOSED, close).await?;
                self.refresh_closed().await?;
                Ok(RetireAnswer { done: 1, ..RetireAnswer::default() })
            }
            (RetireStep::Rehome, false) => self.rehome_all(&call.node).await,
            (RetireStep::Forget, false) => self.forget_pointers(&call.node).await,
            (RetireStep::Sweep, _) => self.sweep_for(&call.node, call.cursor.clone()).await,
            _ => Err(Failure::BadCall(format!(
                "{:?} is not for {}: close and open are for the node that goes, rehome and forget \
                 for all others",
                call.step, call.node
            ))),
        }
    }

    /// Whether this node goes, as the store has it: another replica may have been told.
    pub(super) async fn refresh_closed(&self) -> Outcome<()> {
        let closed = self.store.setting(CLOSED).await?.is_some();
        self.closed.store(closed, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Makes this node the home of sessions that are here and have theirs at `home`.
    async fn rehome_all(&self, home: &NodeName) -> Outcome<RetireAnswer> {
        let found = self.store.residents(Some(std::slice::from_ref(home)), A_CALL).await?;
        let sessions = found.into_iter().map(|resident| resident.session);
        let mut answer = count(sessions, |session| self.rehome(session, home)).await;
        if answer.left == 0 {
            // Those that came meanwhile, or did not fit in.
            let more = self.store.residents(Some(std::slice::from_ref(home)), 1).await?;
            answer.left = more.len() as u64;
        }
        tracing::info!(
            node = %self.here(), function = %self.config.function, %home,
            sessions = answer.done, left = answer.left, "sessions have their home here now"
        );
        Ok(answer)
    }

    /// A page of all records: what of `gone` there still is gets another home or goes; at
    /// the node itself it is counted. The index may have lost some.
    async fn sweep_for(&self, gone: &NodeName, cursor: Option<String>) -> Outcome<RetireAnswer> {
        let page = self.store.walk(cursor).await?;
        let answer = if gone == self.here() {
            let left = page.found.iter().filter(|(_, slot)| is_left(slot)).count() as u64;
            RetireAnswer { left, ..RetireAnswer::default() }
        } else {
            let named = page.found.into_iter().filter(|(_, slot)| names(slot).contains(&gone));
            count(named.map(|(session, _)| session), |session| self.part_from(session, gone)).await
        };
        Ok(RetireAnswer { next: page.next, ..answer })
    }

    /// A session does not need `gone` any more, or an error: not yet.
    async fn part_from(&self, session: SessionId, gone: &NodeName) -> Outcome<bool> {
        let done = self.rehome(session.clone(), gone).await?
            || self.forget_pointer(session.clone(), gone).await?;
        let slot = self.snapshot(&session).await?.slot;
        // A move with it, or an end that it has not heard of.
        if names(&slot).contains(&gone) { Err(Refusal::InUse.into()) } else { Ok(done) }
    }

    async fn rehome(&self, session: SessionId, home: &NodeName) -> Outcome<bool> {
        let snapshot = self.snapshot(&session).await?;
        let life = match snapshot.slot.record {
            Some(record) if record.life().home == *home && record.holds_data() => {
                record.life().clone()
            }
            _ => return Ok(false),
        };
        let incarnation = Incarnation(self.machine.random());
        let new = Life { home: self.here().clone(), incarnation };
        // Home is forgotten next: this is on disk before it is said.
        let event = Event::Rehome { life, new };
        let reply = self.step(&session, &event, Durability::Synced).await?;
        self.lines.changed(&session);
        Ok(reply == Reply::Changed)
    }

    /// Forgets pointers that lead to `gone`, or whose home it was.
    async fn forget_pointers(&self, gone: &NodeName) -> Outcome<RetireAnswer> {
        let sessions = self.store.old_pointers(EVER, ALL).await?;
        Ok(count(sessions.into_iter(), |session| self.forget_pointer(session, gone)).await)
    }

    async fn forget_pointer(&self, session: SessionId, gone: &NodeName) -> Outcome<bool> {
        let snapshot = self.snapshot(&session).await?;
        let Some(Record::Moved { life, epoch, to, since }) = &snapshot.slot.record else {
            return Ok(false);
        };
        if life.home == *gone {
            // The life has ended: its session has another home, and another life.
            let event = Event::Age { epoch: *epoch, since: *since };
            self.step(&session, &event, Durability::Eventual).await?;
            return Ok(true);
        }
        if to == gone {
            self.age_pointer(&session, EVER).await?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Whether a node that goes still has something that only it has.
fn is_left(slot: &Slot) -> bool {
    slot.pending() || slot.record.as_ref().is_some_and(Record::holds_data)
}

/// Does something with each session; what is refused or fails is left.
async fn count<F: Future<Output = Outcome<bool>>>(
    sessions: impl Iterator<Item = SessionId>,
    work: impl Fn(SessionId) -> F,
) -> RetireAnswer {
    stream::iter(sessions)
        .map(work)
        .buffer_unordered(AT_ONCE)
        .fold(RetireAnswer::default(), |mut answer, outcome| async move {
            match outcome {
                Ok(true) => answer.done += 1,
                Ok(false) => {}
                Err(failure) => {
                    tracing::debug!(%failure, "a session stays as it is for now");
                    answer.left += 1;
                }
            }
            answer
        })
        .await
}
