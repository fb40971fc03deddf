//! The last sessions that came here by a move: what a dashboard shows as movement, and as a
//! session's history. Kept by the process, for people; nothing rests on it.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peers::messages::{MoveReport, MovedStatus};
use crate::session::NodeName;

/// So many are remembered.
const KEPT: usize = 256;

/// The last sessions that came here.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// The number of the next one.
    next: u64,
    /// The latest last.
    last: VecDeque<(Instant, MovedStatus)>,
}

impl Arrivals {
    /// A session came from another node.
    pub(super) fn note(&self, from: &NodeName, report: &MoveReport) {
        let mut ring = self.0.lock();
        let moved = MovedStatus {
            number: ring.next,
            session: report.token.session.clone(),
            home: report.token.proprietary_location.clone(),
            from: from.clone(),
            epoch: report.token.epoch,
            bytes: report.bytes,
            took_ms: report.took_ms,
            downtime_ms: report.downtime_ms,
            rounds: report.rounds,
            ago_ms: 0,
        };
        ring.next += 1;
        if ring.last.len() == KEPT {
            ring.last.pop_front();
        }
        ring.last.push_back((Instant::now(), moved));
    }

    /// The last of them, at most so many, the latest first.
    pub(super) fn last(&self, most: usize) -> Vec<MovedStatus> {
        let ago = |since: Duration| u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let ring = self.0.lock();
        let last = ring.last.iter().rev().take(most);
        last.map(|(at, moved)| MovedStatus { ago_ms: ago(at.elapsed()), ..moved.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{FunctionName, SessionId, SessionToken};

    fn report(session: usize) -> MoveReport {
        let name = |text: &str| NodeName::new(text).unwrap();
        MoveReport {
            token: SessionToken {
                session: SessionId::new(format!("s{session}")).unwrap(),
                proprietary_location: name("navigli"),
                current_location: name("milan"),
                function: FunctionName::new("cart").unwrap(),
                epoch: 2,
                incarnation: None,
                v: 1,
            },
            accepted_by: name("milan"),
            bytes: 10,
            took_ms: 1.5,
            downtime_ms: 0.5,
            rounds: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_are_kept_and_numbers_tell_what_is_missing() {
        let arrivals = Arrivals::default();
        let from = NodeName::new("navigli").unwrap();
        for session in 0..=KEPT {
            arrivals.note(&from, &report(session));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        arrivals.note(&from, &report(KEPT + 1));
        let last = arrivals.last(2);
        let told: Vec<_> = last.iter().map(|moved| (moved.number, moved.ago_ms)).collect();
        assert_eq!(told, [(KEPT as u64 + 1, 0), (KEPT as u64, 2000)]);
        let all = arrivals.last(usize::MAX);
        assert_eq!((all.len(), all.last().unwrap().number), (KEPT, 2));
    }
}
