//! How long a command waits for a node that does the work by itself.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

/// Why a wait ended before what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Ctrl-C.
    Interrupted,
    /// The time that was given is over.
    Late,
}

/// What ends a wait: Ctrl-C, or the end of the time that was given for it.
pub(super) struct Limit {
    interrupted: Pin<Box<dyn Future<Output = ()>>>,
    until: Option<Instant>,
}

impl Limit {
    /// Hears Ctrl-C from the first wait on; the time runs from now.
    pub(super) fn new(at_most: Option<Duration>) -> Self {
        let interrupted = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        Self::ended_by(interrupted, at_most)
    }

    fn ended_by(
        interrupted: impl Future<Output = ()> + 'static,
        at_most: Option<Duration>,
    ) -> Self {
        let until = at_most.map(|at_most| Instant::now() + at_most);
        Self { interrupted: Box::pin(interrupted), until }
    }

    /// Does this, unless the wait ends first: a node that hangs holds nobody up.
    pub(super) async fn within<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Cut> {
        let until = self.until;
        let over = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut self.interrupted => Err(Cut::Interrupted),
            () = over => Err(Cut::Late),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_left_when_the_time_is_over_or_nobody_wants_more() {
        let mut limit = Limit::ended_by(pending(), None);
        assert_eq!(limit.within(ready(7)).await, Ok(7));
        let mut limit = Limit::ended_by(pending(), Some(Duration::from_millis(10)));
        assert_eq!(limit.within(pending::<u8>()).await, Err(Cut::Late));
        assert_eq!(limit.within(ready(7)).await, Err(Cut::Late));
        let mut limit = Limit::ended_by(tokio::time::sleep(Duration::from_millis(10)), None);
        assert_eq!(limit.within(pending::<u8>()).await, Err(Cut::Interrupted));
    }
}
