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
/// Of each id so many: whoever waits longest finds the oldest ones forgotten.
const OF_AN_ID: usize = 16;

/// A session of another home that was here, or to which a pointer led from here.
#[derive(Debug)]
struct Predecessor {
    token: SessionToken,
    /// `None`: its record is being replaced for the first time.
    until: Option<Instant>,
    /// So many are just replacing its record.
    leaving: usize,
}

impl Predecessor {
    fn is(&self, token: &SessionToken) -> bool {
        self.token.proprietary_location == token.proprietary_location
            && self.token.incarnation == token.incarnation
    }
}

/// What this process knows of sessions that gave way here a moment ago.
#[derive(Debug, Default)]
pub(super) struct Predecessors {
    /// Mostly there are none, and nobody takes the lock.
    any: AtomicBool,
    /// Of each id, oldest first; never the same session twice in a row.
    left: Mutex<HashMap<SessionId, Vec<Predecessor>>>,
}

/// A session gives way; when this is dropped, it has.
#[derive(Debug)]
pub(super) struct Leaving<'a> {
    all: &'a Predecessors,
    token: SessionToken,
    gave_way: bool,
}

impl Leaving<'_> {
    /// Its record was not there any more: it gave way before, and that is not known here.
    pub(super) fn was_gone(mut self) {
        self.gave_way = false;
    }
}

impl Predecessors {
    /// The record of this session is about to go.
    pub(super) fn leaves(&self, token: SessionToken) -> Leaving<'_> {
        let mut left = self.left.lock();
        if left.len() < MOST || left.contains_key(&token.session) {
            let all = left.entry(token.session.clone()).or_default();
            match all.last_mut().filter(|last| last.is(&token)) {
                Some(last) => last.leaving += 1,
                None => {
                    let oldest = all.iter().position(|was| was.leaving == 0);
                    if let Some(oldest) = oldest.filter(|_| all.len() >= OF_AN_ID) {
                        all.remove(oldest);
                    }
                    all.push(Predecessor { token: token.clone(), until: None, leaving: 1 });
                }
            }
            self.any.store(true, Ordering::Relaxed);
        }
        drop(left);
        Leaving { all: self, token, gave_way: true }
    }

    /// What was here when a request came at `came`, if that is not what is here now.
    pub(super) fn at(&self, session: &SessionId, came: Instant) -> Option<SessionToken> {
        let before =
            |was: &&Predecessor| was.leaving > 0 || was.until.is_some_and(|until| came < until);
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
            all.retain(|was| {
                was.leaving > 0 || was.until.is_some_and(|until| until.elapsed() < long)
            });
            !all.is_empty()
        });
        self.any.store(!left.is_empty(), Ordering::Relaxed);
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut left = self.all.left.lock();
        let Some(all) = left.get_mut(&self.token.session) else { return };
        let ours = |was: &&mut Predecessor| was.leaving > 0 && was.is(&self.token);
        if let Some(was) = all.iter_mut().rev().find(ours) {
            was.leaving -= 1;
            if self.gave_way {
                was.until = Some(Instant::now());
            }
        }
        all.retain(|was| was.leaving > 0 || was.until.is_some());
        if all.is_empty() {
            left.remove(&self.token.session);
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

    #[tokio::test(start_paused = true)]
    async fn rule_5_who_finds_a_session_gone_changes_nothing() {
        let all = Predecessors::default();
        let session = SessionId::new("s").unwrap();
        let (first, second) = (all.leaves(token("navigli")), all.leaves(token("navigli")));
        drop(first);
        assert_eq!(all.at(&session, Instant::now()), Some(token("navigli")));
        let gone = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        second.was_gone();
        assert_eq!(all.at(&session, gone), None);
        assert_eq!(all.last(&session), Some(token("navigli")));
        // Nor is one remembered of which nothing else is known.
        all.leaves(token("brera")).was_gone();
        assert_eq!(all.last(&session), Some(token("navigli")));
    }

    #[tokio::test(start_paused = true)]
    async fn of_each_id_the_last_ones_are_remembered() {
        let all = Predecessors::default();
        let (session, came) = (SessionId::new("s").unwrap(), Instant::now());
        let leaving = all.leaves(token("navigli"));
        tokio::time::advance(Duration::from_secs(1)).await;
        for index in 0..OF_AN_ID * 2 {
            drop(all.leaves(token(&format!("home-{index}"))));
        }
        assert_eq!(all.left.lock()[&session].len(), OF_AN_ID);
        assert_eq!(all.at(&session, came), Some(token("navigli")));
        drop(leaving);
        drop(all.leaves(token("brera")));
        let oldest = format!("home-{}", OF_AN_ID + 1);
        assert_eq!(all.at(&session, came), Some(token(&oldest)));
    }
}
