//! This node is the source of a move: it agrees, freezes, hands out pages, and
//! lets go when the target says that it owns the session.

use std::time::Duration;

use tokio::time::Instant;

use super::{Failure, Node, Outcome};
use crate::failpoint::reach;
use crate::peers::messages::{MigrateCall, MoveAnswer, OpenAnswer};
use crate::protocol::{self, Event, Refusal, Reply};
use crate::session::{NodeName, Page, Record, SessionId};
use crate::store::Durability;

/// Pages of a copy are put together until they have so many bytes.
const WORTH_A_CALL: usize = 512 * 1024;

/// A copy takes no more than every other moment of a node that serves requests: after a
/// page it rests as long as the page has taken, but no longer than this.
const MOST_PAUSE: Duration = Duration::from_millis(4);

/// What a copy carries with one call, in little pages of the store.
async fn step_of_copy<F: Future<Output = Outcome<Page>>>(
    serves: bool,
    cursor: Option<String>,
    pages: impl Fn(Option<String>) -> F,
) -> Outcome<Page> {
    let began = Instant::now();
    let mut page = pages(cursor).await?;
    if serves {
        tokio::time::sleep(began.elapsed().min(MOST_PAUSE)).await;
        return Ok(page);
    }
    // While nobody else wants anything of this node, larger pages are quicker.
    while page.size() < WORTH_A_CALL
        && page.copied.as_ref().is_some_and(|copied| !copied.walked)
        && let Some(cursor) = page.next.take()
    {
        page.append(pages(Some(cursor)).await?);
    }
    Ok(page)
}

impl Node {
    fn meant_for_target(&self, from: &NodeName, call: &MigrateCall) -> Outcome<()> {
        self.admit(from)?;
        if call.target != *from {
            return Err(Failure::BadCall(format!("{from} cannot pull for {}", call.target)));
        }
        Ok(())
    }

    /// `migrate-session`, phase `open`: the intent. This node goes on serving.
    pub(crate) async fn agree(&self, from: &NodeName, call: &MigrateCall) -> Outcome<OpenAnswer> {
        self.meant_for_target(from, call)?;
        reach("source.agree").await;
        let event = Event::Agree { life: call.life(), transfer: call.transfer() };
        // Rule 3: the intent is durable before it is said, which may take longer than
        // a target may be silent.
        let answering = self.local.answering(call.nonce);
        let places = self.may_leave(from, &call.session, call.nonce).await?;
        // How large it is need not be known to the byte: it is looked up meanwhile.
        let agreed = self.step(&call.session, &event, Durability::Synced);
        let (agreed, snapshot) = tokio::join!(agreed, self.snapshot(&call.session));
        agreed?;
        self.local.heard(&call.session, call.nonce);
        self.moves.leaves(&call.session, call.nonce, places);
        drop(answering);
        reach("source.agreed").await;
        let snapshot = snapshot?;
        Ok(OpenAnswer {
            bytes: snapshot.bytes,
            fields: snapshot.fields,
            schema: self.function.schema(),
            window: snapshot.window,
            copies: true,
        })
    }

    /// `migrate-session`, phase `copy`: a page of the session, while this node goes on
    /// serving it. From the first page on the store keeps what changes.
    pub(crate) async fn copy(&self, from: &NodeName, call: &MigrateCall) -> Outcome<Page> {
        self.meant_for_target(from, call)?;
        self.local.heard(&call.session, call.nonce);
        reach(if call.cursor.is_none() { "source.copy" } else { "source.copying" }).await;
        let pages = |cursor| self.copied(call, cursor);
        let page = step_of_copy(self.has_requests(), call.cursor.clone(), pages).await?;
        self.local.heard(&call.session, call.nonce);
        Ok(page)
    }

    async fn copied(&self, call: &MigrateCall, cursor: Option<String>) -> Outcome<Page> {
        let cursor = cursor.as_deref();
        let copy = self.recovered(|| self.store.copy(&call.session, call.nonce, cursor));
        Ok(self.page(copy).await??)
    }

    /// `migrate-session`, phase `freeze`: stops writes at the first page, then
    /// hands out one page after the other.
    pub(crate) async fn freeze(&self, from: &NodeName, call: &MigrateCall) -> Outcome<Page> {
        self.meant_for_target(from, call)?;
        self.local.heard(&call.session, call.nonce);
        self.moves.heard(&call.session);
        if call.cursor.is_none() {
            reach("source.freeze").await;
            self.freeze_in_turn(&call.session, call).await?;
            reach("source.frozen").await;
        }
        let cursor = call.cursor.as_deref().or(call.since.as_deref());
        let export = self.recovered(|| self.store.export(&call.session, call.nonce, cursor));
        // Writes wait for the first page, which is small after a copy: it goes at once.
        let page = match call.cursor {
            None => export.await?,
            Some(_) => self.page(export).await?,
        };
        self.local.heard(&call.session, call.nonce);
        Ok(page?)
    }

    async fn freeze_in_turn(&self, session: &SessionId, call: &MigrateCall) -> Outcome<()> {
        let until = Instant::now() + self.config.freeze_wait;
        let place = self.lines.stand(session);
        let mut pause = Duration::from_millis(1);
        let mut waits = false;
        loop {
            let changed = place.changed();
            let left = until.saturating_duration_since(Instant::now());
            // Mostly nobody is in the way, and no deadline is needed.
            let wait_until = match waits {
                false => 0,
                true => {
                    let now = self.store.clock_of(session).await?;
                    now + u64::try_from(left.as_millis()).unwrap_or(0)
                }
            };
            let event = Event::Freeze { nonce: call.nonce, wait_until };
            let began = Instant::now();
            // A forgotten freeze is made good by the intent: no need to wait for the disk.
            match self.step(session, &event, Durability::Eventual).await? {
                Reply::FreezeWaits if left.is_zero() => {
                    return Err(Failure::Busy { retry_after: self.config.freeze_wait });
                }
                // It says so at once, with a deadline.
                Reply::FreezeWaits if !waits => {
                    waits = true;
                    continue;
                }
                Reply::FreezeWaits => {}
                Reply::Changed => {
                    self.local.froze(session, call.nonce, began);
                    return Ok(());
                }
                _ => return Ok(()),
            }
            self.local.heard(session, call.nonce);
            let _ = tokio::time::timeout(pause.min(left), changed).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// `migrate-session`, phase `done`: the target owns the session.
    pub(crate) async fn let_go(&self, from: &NodeName, call: &MigrateCall) -> Outcome<MoveAnswer> {
        if call.target != *from {
            return Err(Failure::BadCall(format!("{from} cannot speak for {}", call.target)));
        }
        reach("source.done").await;
        if let Err(refused) = self.admit(from) {
            // A node that was given up gets no other answer than `superseded`.
            let snapshot = self.durable_snapshot(&call.session).await?;
            return Err(match protocol::went_on(&snapshot.slot, &call.life(), call.epoch) {
                Some(epoch) => Refusal::Superseded { epoch }.into(),
                None => refused,
            });
        }
        let event = Event::Done { life: call.life(), epoch: call.epoch, to: from.clone() };
        self.step(&call.session, &event, Durability::Synced).await?;
        reach("source.moved").await;
        self.local.over(&call.session);
        self.moves.over(&call.session);
        self.lines.changed(&call.session);
        Ok(self.answer(call, true))
    }

    /// `migrate-session`, phase `ask`: the source wants to know whether this node
    /// installed the session. A "no" is final and written down before it is said.
    pub(crate) async fn ask(&self, from: &NodeName, call: &MigrateCall) -> Outcome<MoveAnswer> {
        self.admit(from)?;
        if call.target != *self.here() {
            return Err(Failure::BadCall(format!("this is not {}", call.target)));
        }
        if self.local.works_on(&call.session, call.nonce) {
            // It is under way: that is no answer, and there will be one.
            return Err(Refusal::MoveOpen.into());
        }
        let event = Event::Ask { life: call.life(), transfer: call.transfer() };
        let reply = self.step(&call.session, &event, Durability::Synced).await?;
        let installed = matches!(reply, Reply::Installed { .. });
        self.lines.changed(&call.session);
        Ok(self.answer(call, installed))
    }

    /// `migrate-session`, phase `closed`: the target says "no" without being asked.
    pub(crate) async fn closed(&self, from: &NodeName, call: &MigrateCall) -> Outcome<MoveAnswer> {
        self.meant_for_target(from, call)?;
        let event = Event::Answer { transfer: call.transfer(), installed: false };
        self.step(&call.session, &event, Durability::Synced).await?;
        // It may come late, when another attempt has places and reads of its own.
        self.local.attempt_over(&call.session, call.nonce);
        self.moves.attempt_over(&call.session, call.nonce);
        self.lines.changed(&call.session);
        Ok(self.answer(call, false))
    }

    /// `migrate-session`, phase `agreed`: the target has a pull that nobody works
    /// on any more. If this node is in that move it asks in time; else nobody would.
    pub(crate) async fn agreed(&self, from: &NodeName, call: &MigrateCall) -> Outcome<MoveAnswer> {
        self.meant_for_target(from, call)?;
        let snapshot = self.snapshot(&call.session).await?;
        let agreed = match &snapshot.slot.record {
            Some(
                Record::Migrating { life, transfer, .. }
                | Record::Owned { life, intent: Some(transfer), .. },
            ) => *life == call.life() && *transfer == call.transfer(),
            _ => false,
        };
        Ok(MoveAnswer { agreed, ..self.answer(call, false) })
    }

    fn answer(&self, call: &MigrateCall, installed: bool) -> MoveAnswer {
        MoveAnswer {
            session: call.session.clone(),
            epoch: call.epoch,
            node: self.here().clone(),
            installed,
            agreed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::session::packet::Copied;

    const LITTLE: usize = 128 * 1024;
    const TAKES: Duration = Duration::from_millis(3);

    /// A page of a store that takes a while for it, the `number`th of ten.
    async fn page(cursor: Option<String>) -> Outcome<Page> {
        tokio::time::sleep(TAKES).await;
        let number: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        Ok(Page {
            fields: vec![(format!("s{number}"), Bytes::from(vec![0; LITTLE]))],
            next: Some((number + 1).to_string()),
            copied: Some(Copied { walked: number == 9, at: 0, changes: 0 }),
            ..Page::default()
        })
    }

    async fn step(serves: bool, cursor: Option<&str>) -> (usize, Option<String>, Duration) {
        let began = Instant::now();
        let page = step_of_copy(serves, cursor.map(str::to_owned), page).await.unwrap();
        (page.fields.len(), page.next, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_serves_takes_one_little_page_and_rests_as_long() {
        assert_eq!(step(true, None).await, (1, Some("1".to_owned()), TAKES * 2));
        assert_eq!(step(true, Some("9")).await, (1, Some("10".to_owned()), TAKES * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_node_puts_pages_together_and_does_not_rest() {
        assert_eq!(step(false, None).await, (4, Some("4".to_owned()), TAKES * 4));
        // To the end of the session, and no further.
        assert_eq!(step(false, Some("8")).await, (2, Some("10".to_owned()), TAKES * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_bounded() {
        let slow = async |cursor: Option<String>| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            page(cursor).await
        };
        let began = Instant::now();
        step_of_copy(true, None, slow).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(1) + TAKES + MOST_PAUSE);
    }
}
