//! How quickly a drain tries again: sessions that could not go, and ancestors that
//! take none.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::SessionId;

/// A session that could not go is tried again after this, then after twice that.
const FIRST: Duration = Duration::from_millis(250);
/// At most so long after the last try.
const LONGEST: Duration = Duration::from_secs(30);
/// The same for all sessions, when their ancestors take none.
const LONGEST_FOR_ALL: Duration = Duration::from_secs(5);
/// So many sessions are remembered at most; more wait until these are tried again.
const MOST: usize = 65_536;
/// A full look at the store is trusted for so long: another replica may have created or
/// pulled a session since, and ended before the index lists it.
const TRUSTED: Duration = Duration::from_secs(10);
/// Failures one after the other until it is not the sessions' fault.
const STRIKES: u32 = 4;

fn doubled(times: u32, longest: Duration) -> Duration {
    FIRST.saturating_mul(1 << times.min(16)).min(longest)
}

/// A session that could not go.
#[derive(Debug)]
struct Mark {
    why: String,
    tries: u32,
    until: Instant,
    /// Not the session's fault: it is tried again as soon as others go.
    blameless: bool,
}

/// Sessions that could not go, and until when they are passed over.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<SessionId, Mark>);

impl Marks {
    /// A session could not go; says whether it could be noted.
    pub(super) fn note(&mut self, session: &SessionId, why: String, blameless: bool) -> bool {
        if self.0.len() >= MOST && !self.0.contains_key(session) {
            return false;
        }
        let now = Instant::now();
        let new = || Mark { why: String::new(), tries: 0, until: now, blameless };
        let mark = self.0.entry(session.clone()).or_insert_with(new);
        let until = now + doubled(mark.tries, LONGEST);
        *mark = Mark { why, tries: mark.tries.saturating_add(1), until, blameless };
        true
    }

    /// It is gone; says whether it was noted here.
    pub(super) fn forget(&mut self, session: &SessionId) -> bool {
        self.0.remove(session).is_some()
    }

    pub(super) fn all(&self) -> Vec<SessionId> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn has(&self, session: &SessionId) -> bool {
        self.0.contains_key(session)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those whose time has come.
    pub(super) fn due(&self) -> Vec<SessionId> {
        let now = Instant::now();
        let due = self.0.iter().filter(|(_, mark)| mark.until <= now);
        due.map(|(session, _)| session.clone()).collect()
    }

    /// When the next one's time comes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|mark| mark.until).min()
    }

    /// Those who waited for others are due now.
    fn let_blameless_go(&mut self) {
        let now = Instant::now();
        for mark in self.0.values_mut().filter(|mark| mark.blameless) {
            mark.until = now;
        }
    }

    /// Why sessions could not go that were tried more than once.
    pub(super) fn failing(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter(|mark| mark.tries > 1).map(|mark| mark.why.as_str())
    }
}

/// When the index was last compared with all records, and no session was found.
#[derive(Debug, Default)]
pub(super) struct FullLook(Option<Instant>);

impl FullLook {
    /// It was compared just now.
    pub(super) fn done(&mut self) {
        self.0 = Some(Instant::now());
    }

    /// A session was seen here.
    pub(super) fn void(&mut self) {
        self.0 = None;
    }

    /// Whether it has to be compared before the node may be called empty.
    pub(super) fn is_due(&self) -> bool {
        self.0.is_none_or(|at| at.elapsed() >= TRUSTED)
    }
}

/// Whether anything is offered at all.
#[derive(Debug, Default)]
pub(super) struct Pace {
    strikes: u32,
    until: Option<Instant>,
}

impl Pace {
    /// A session went.
    pub(super) fn success(&mut self, marks: &mut Marks) {
        if self.strikes >= STRIKES {
            marks.let_blameless_go();
        }
        *self = Self::default();
    }

    /// One did not, and that was not its own fault.
    pub(super) fn strike(&mut self) {
        self.strikes = self.strikes.saturating_add(1);
        if let Some(more) = self.strikes.checked_sub(STRIKES) {
            self.pause(doubled(more, LONGEST_FOR_ALL));
        }
    }

    /// Nothing is offered for a while.
    pub(super) fn pause(&mut self, long: Duration) {
        let until = Instant::now() + long;
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }

    /// Until when nothing is offered.
    pub(super) fn paused(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }

    /// How many may be under way, of `most`: one that tries after a pause.
    pub(super) fn at_once(&self, most: usize) -> usize {
        match self.paused() {
            Some(_) => 0,
            None if self.strikes >= STRIKES => 1,
            None => most,
        }
    }

    /// Whether there was a pause since the last success.
    pub(super) fn is_slow(&self) -> bool {
        self.strikes >= STRIKES || self.paused().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> SessionId {
        SessionId::new(id).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_look_is_trusted_for_ten_seconds_and_until_a_session_is_seen() {
        let mut look = FullLook::default();
        assert!(look.is_due());
        look.done();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(!look.is_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(look.is_due());
        look.done();
        look.void();
        assert!(look.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_cannot_go_is_tried_less_and_less() {
        let mut marks = Marks::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            marks.note(&id("a"), "no".into(), false);
            assert!(marks.due().is_empty());
            let due = marks.next_due().unwrap();
            waits.push(due - Instant::now());
            tokio::time::advance(due - Instant::now()).await;
            assert_eq!(marks.due(), [id("a")]);
        }
        assert_eq!(waits[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(waits[11], LONGEST);
        assert_eq!(marks.failing().collect::<Vec<_>>(), ["no"]);
        assert!(marks.forget(&id("a")) && !marks.forget(&id("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_one_tries_and_then_all_go_that_waited_for_it() {
        let (mut pace, mut marks) = (Pace::default(), Marks::default());
        for session in ["a", "b", "c", "d"] {
            assert_eq!(pace.at_once(8), 8);
            marks.note(&id(session), "milan does not answer".into(), true);
            pace.strike();
        }
        marks.note(&id("own"), "its own fault".into(), false);
        assert_eq!(pace.at_once(8), 0);
        tokio::time::advance(FIRST).await;
        assert_eq!(pace.at_once(8), 1);
        pace.strike();
        assert_eq!(pace.paused().unwrap() - Instant::now(), FIRST * 2);
        for _ in 0..40 {
            pace.strike();
        }
        assert_eq!(pace.paused().unwrap() - Instant::now(), LONGEST_FOR_ALL);
        marks.note(&id("a"), "milan does not answer".into(), true);
        marks.note(&id("own"), "its own fault".into(), false);
        pace.success(&mut marks);
        assert_eq!(pace.at_once(8), 8);
        assert_eq!(marks.due(), ["a", "b", "c", "d"].map(id));
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let mut marks = Marks::default();
        for number in 0..MOST {
            assert!(marks.note(&id(&number.to_string()), String::new(), false));
        }
        assert!(!marks.note(&id("more"), String::new(), false));
        assert!(marks.note(&id("0"), String::new(), false));
    }
}
