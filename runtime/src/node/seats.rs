//! So many handlers run at once at a node (`max_running`), and the others' requests stand in
//! one line, first come first served. They stand there without their session's lease: it may
//! move meanwhile, and a request whose session went away goes after it at once.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::invoke::Call;
use super::{Failure, Node, Outcome};
use crate::session::{Record, SessionId};

/// The seats of a node.
#[derive(Debug)]
pub(super) struct Seats(Option<Arc<Semaphore>>);

/// A handler may run, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Seats {
    /// So many; zero means no limit.
    pub(super) fn new(count: usize) -> Self {
        let count = count.min(Semaphore::MAX_PERMITS);
        Self((count > 0).then(|| Arc::new(Semaphore::new(count))))
    }
}

impl Node {
    /// Waits for a seat. `None`: the request needs none, because there is no limit, a handler
    /// that has a seat waits for it, or its session is elsewhere.
    pub(super) async fn seat(&self, call: &Call, until: Instant) -> Outcome<Option<Seat>> {
        let Some(seats) = self.seats.0.as_ref().filter(|_| !call.from_peer) else {
            return Ok(None);
        };
        if let Ok(permit) = Arc::clone(seats).try_acquire_owned() {
            return Ok(Some(Seat(permit)));
        }
        let line = self.lines.stand(&call.session);
        let mut next = pin!(Arc::clone(seats).acquire_owned());
        loop {
            let changed = line.changed();
            if self.has_gone(&call.session).await? {
                return Ok(None);
            }
            let one = async {
                tokio::select! {
                    permit = &mut next => Some(permit),
                    () = changed => None,
                }
            };
            match timeout_at(until, one).await {
                Ok(Some(Ok(permit))) => return Ok(Some(Seat(permit))),
                Ok(None) => {}
                Ok(Some(Err(_))) | Err(_) => return Err(self.still_busy()),
            }
        }
    }

    /// Whether a session is known to be at another node.
    async fn has_gone(&self, session: &SessionId) -> Outcome<bool> {
        let known: Result<_, Failure> = self.snapshot(session).await;
        Ok(matches!(known?.slot.record, Some(Record::Moved { .. })))
    }
}
