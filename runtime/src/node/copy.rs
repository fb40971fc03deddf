//! This node is the target of a move: it brings a session into its stage while the
//! source serves it, until only little is left for the freeze.

use std::time::Duration;

use backon::{ConstantBuilder, Retryable};

use super::local::Copying;
use super::{Failure, Node, Outcome, calls};
use crate::failpoint::reach;
use crate::peers::PeerError;
use crate::peers::messages::{MigrateCall, OpenAnswer, Phase};
use crate::protocol::Refusal;
use crate::session::{Page, Pull, SessionId};
use crate::store::Staged;
use crate::trace;

/// What an entry of the deduplication window counts when a session's size is judged.
const WINDOW_ENTRY: u64 = 256;
/// A copy goes on where it was when the source is reached again within this time; a
/// session that is being copied waits for nobody.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(250);
/// A copy that the source does not know any more is begun again, this often at most.
const BEGINNINGS: usize = 3;

/// A round that brought no more than this many bytes leaves little for the freeze.
const LITTLE: u64 = 16 * 1024;
/// Rounds that each bring less than the one before, but no end.
const MOST_ROUNDS: u32 = 10;

/// What a page leads to.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// Another page.
    GoOn,
    /// The freeze.
    Freeze,
}

/// Decides when a copy has come far enough: the rest gets smaller with each round,
/// since each takes less time than the one before, until it is as small as the writes
/// that go on allow.
#[derive(Debug, Default)]
struct Rounds {
    /// The first goes through everything, the others through what changed.
    number: u32,
    /// Bytes of this round so far.
    bytes: u64,
    /// Bytes of the round before.
    before: u64,
    /// The changes that there had been when this round began.
    until: u64,
}

impl Rounds {
    fn add(&mut self, page: &Page) -> Then {
        self.bytes += page.size() as u64;
        // A source that does not say how far it is has nothing more to say.
        let Some(copied) = page.copied else { return Then::Freeze };
        let ended = copied.walked && (self.number == 0 || copied.at >= self.until);
        if !ended {
            return Then::GoOn;
        }
        let small = self.number > 0 && self.bytes <= LITTLE;
        let shrinks = self.number == 0 || self.bytes < self.before / 4 * 3;
        if copied.at >= copied.changes || small || !shrinks || self.number == MOST_ROUNDS {
            return Then::Freeze;
        }
        *self =
            Self { number: self.number + 1, bytes: 0, before: self.bytes, until: copied.changes };
        Then::GoOn
    }
}

/// A copy that has come far enough.
pub(super) struct Copy {
    /// Where it has come to.
    pub(super) since: String,
    /// How often the session was gone through.
    pub(super) rounds: u32,
}

impl Node {
    /// Copies the session if that shortens its freeze; `None`: all of it is left for
    /// the freeze.
    pub(super) async fn copy_ahead(
        &self,
        session: &SessionId,
        pull: &Pull,
        opened: &OpenAnswer,
    ) -> Outcome<Option<Copy>> {
        let carried = opened.bytes.saturating_add(opened.window.saturating_mul(WINDOW_ENTRY));
        if !opened.copies || carried <= self.config.precopy_min {
            return Ok(None);
        }
        let progress = self.local.copying(session, &pull.from, opened.bytes);
        for _ in 0..BEGINNINGS {
            match trace::step("copy", self.copy_once(session, pull, &progress)).await {
                Ok(copy) => {
                    reach("target.copied").await;
                    return Ok(Some(copy));
                }
                Err(failure) if is_unknown(&failure) => progress.begins_again(),
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    async fn copy_once(
        &self,
        session: &SessionId,
        pull: &Pull,
        progress: &Copying,
    ) -> Outcome<Copy> {
        let mut call =
            MigrateCall::of_pull(session.clone(), pull, self.here().clone(), Phase::Copy);
        let mut rounds = Rounds::default();
        let mut page = self.ask_page(pull, &call).await?;
        loop {
            let then = rounds.add(&page);
            progress.came(page.size() as u64, rounds.number);
            let Some(next) = page.next.clone() else {
                return Err(Failure::MoveFailed("a copy has no end of its own".to_owned()));
            };
            if then == Then::Freeze {
                self.stage_copied(session, pull, &page).await?;
                return Ok(Copy { since: next, rounds: rounds.number + 1 });
            }
            call.cursor = Some(next);
            // The next page is on its way while this one is kept.
            let kept = self.stage_copied(session, pull, &page);
            let ((), following) = tokio::try_join!(kept, self.ask_page(pull, &call))?;
            page = following;
        }
    }

    async fn ask_page(&self, pull: &Pull, call: &MigrateCall) -> Outcome<Page> {
        reach(if call.cursor.is_none() { "target.copy" } else { "target.copying" }).await;
        let backoff = ConstantBuilder::default().with_delay(PAUSE).with_max_times(usize::MAX);
        let ask = || async {
            let answer =
                self.post(&pull.from, "migrate-session", call, self.config.peer_timeout).await?;
            // A page that was damaged on its way is asked for again.
            Page::decode(&answer.body)
                .map_err(|bad| calls::unreachable(&pull.from, bad.to_string()))
        };
        let asking = ask.retry(backoff).when(PeerError::unreachable);
        let page = tokio::time::timeout(PATIENCE, asking).await.map_err(|_| {
            let why = format!("it was not reached for {} s during a copy", PATIENCE.as_secs());
            calls::unreachable(&pull.from, why)
        })?;
        Ok(page?)
    }

    async fn stage_copied(&self, session: &SessionId, pull: &Pull, page: &Page) -> Outcome<()> {
        match self.page(self.store.stage(session, pull.nonce, page)).await? {
            Staged::More => Ok(()),
            Staged::Closed => Err(Failure::Refused(Refusal::NoSuchMove)),
            Staged::Complete | Staged::Mismatch => {
                Err(Failure::MoveFailed("a copy has no end of its own".to_owned()))
            }
        }
    }
}

/// Whether the source says that it does not know what changed since.
pub(super) fn is_unknown(failure: &Failure) -> bool {
    matches!(failure, Failure::Peer(error) if error.refusal() == Some(&Refusal::NoSuchCopy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::packet::Copied;

    /// Pages of so many bytes, each with how far the copy has come.
    fn play(pages: &[(usize, bool, u64, u64)]) -> (usize, u32) {
        let mut rounds = Rounds::default();
        for (count, (bytes, walked, at, changes)) in pages.iter().enumerate() {
            let page = Page {
                fields: vec![(String::new(), vec![0; *bytes].into())],
                copied: Some(Copied { walked: *walked, at: *at, changes: *changes }),
                ..Page::default()
            };
            if rounds.add(&page) == Then::Freeze {
                return (count + 1, rounds.number);
            }
        }
        panic!("it goes on");
    }

    #[test]
    fn g6_rounds_go_on_while_the_rest_shrinks() {
        const MIB: usize = 1024 * 1024;
        // Nobody writes: the walk is enough.
        assert_eq!(play(&[(MIB, false, 0, 0), (MIB, true, 0, 0)]), (2, 0));
        // What changed meanwhile is brought, until it is little.
        let calm = [
            (MIB, false, 0, 100),
            (MIB, true, 100, 400),
            (MIB / 4, true, 300, 450),
            (9000, true, 400, 450),
            (10_000, true, 450, 480),
        ];
        assert_eq!(play(&calm), (5, 2));
        // A round ends with what there was when it began, whatever comes after it.
        let storm = [(MIB, true, 0, 100), (MIB / 2, true, 100, 300), (MIB / 2, true, 300, 900)];
        assert_eq!(play(&storm), (3, 2));
        // It does not go on for ever either.
        let endless: Vec<_> = (0..64)
            .map(|round| {
                (
                    MIB * 8 / 2_usize.pow(round.min(20)).max(1) + 17_000,
                    true,
                    u64::from(round),
                    u64::from(round) + 1,
                )
            })
            .collect();
        assert!(play(&endless).0 <= 12);
    }
}
