//! Which session of an id was here before the one that is here now, or none: requests that
//! came then mean that one (ADR 33).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::session::{SessionId, SessionToken};

/// No more ids are remembered than this: it is seconds that count.
const MOST: usize = 16 * 1024;

/// A session of another home that was here, or to which a pointer led from here.
#[derive(Debug)]
struct Predecessor {
    token: SessionToken,
    /// `None`: its record is just being replaced.
    until: Option<Instant>,
}

/// What this process knows of sessions that gave way here a moment ago.
#[derive(Debug, Default)]
pub(super) struct Predecessors {
    /// Mostly there are none, and nobody takes the lock.
    any: AtomicBool,
    /// Of each id, oldest first.
    left: Mutex<HashMap<SessionId, Vec<Predecessor>>>,
}

/// A session gives way; when this is dropped, it has.
#[derive(Debug)]
pub(super) struct Leaving<'a> {
    all: &'a Predecessors,
    session: SessionId,
}

impl Predecessors {
    /// The record of this session is about to go.
    pub(super) fn leaves(&self, token: SessionToken) -> Leaving<'_> {
        let session = token.session.clone();
        let mut left = self.left.lock();
        if left.len() < MOST || left.contains_key(&session) {
            left.entry(session.clone()).or_default().push(Predecessor { token, until: None });
            self.any.store(true, Ordering::Relaxed);
        }
        Leaving { all: self, session }
    }

    /// What was here when a request came at `came`, if that is not what is here now.
    pub(super) fn at(&self, session: &SessionId, came: Instant) -> Option<SessionToken> {
        let before = |was: &&Predecessor| was.until.is_none_or(|until| came < until);
        self.find(session, |all| all.iter().find(before))
    }

    /// What was here last.
    pub(super) fn last(&self, session: &SessionId) -> Option<SessionToken> {
        self.find(session, <[_]>::last)
    }

    fn find(
        &self,
        session: &SessionId,
        which: impl Fn(&[Predecessor]) -> Option<&Predecessor>,
    ) -> Option<SessionToken> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        which(self.left.lock().get(session)?).map(|was| was.token.clone())
    }

    /// Forgets what gave way longer than `long` ago.
    pub(super) fn forget(&self, long: Duration) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut left = self.left.lock();
        left.retain(|_, all| {
            all.retain(|was| was.until.is_none_or(|until| until.elapsed() < long));
            !all.is_empty()
        });
        self.any.store(!left.is_empty(), Ordering::Relaxed);
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut left = self.all.left.lock();
        for was in left.get_mut(&self.session).into_iter().flatten() {
            was.until.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{FunctionName, NodeName};

    fn token(home: &str) -> SessionToken {
        SessionToken {
            session: SessionId::new("s").unwrap(),
            proprietary_location: NodeName::new(home).unwrap(),
            current_location: NodeName::new("italy").unwrap(),
            function: FunctionName::new("cart").unwrap(),
            epoch: 2,
            incarnation: None,
            v: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_5_a_request_means_the_session_that_was_here_when_it_came() {
        let all = Predecessors::default();
        let (session, second) = (SessionId::new("s").unwrap(), Duration::from_secs(1));
        let home = |came| all.at(&session, came).map(|was| was.proprietary_location.to_string());
        let early = Instant::now();
        assert_eq!(home(early), None);
        tokio::time::advance(second).await;
        let leaving = all.leaves(token("navigli"));
        assert_eq!(home(Instant::now()).as_deref(), Some("navigli"));
        drop(leaving);
        let between = Instant::now();
        assert_eq!(home(between), None);
        tokio::time::advance(second).await;
        drop(all.leaves(token("brera")));
        assert_eq!(home(early).as_deref(), Some("navigli"));
        assert_eq!(home(between).as_deref(), Some("brera"));
        assert_eq!(home(Instant::now()), None);
        assert_eq!(all.last(&session), Some(token("brera")));
        tokio::time::advance(second).await;
        all.forget(second * 2);
        assert_eq!(home(early).as_deref(), Some("brera"));
        all.forget(second);
        assert_eq!((home(early), all.last(&session)), (None, None));
        assert!(!all.any.load(Ordering::Relaxed));
    }
}
