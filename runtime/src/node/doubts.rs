//! Sessions about which somebody has to be asked or told something: who is next, and for how
//! long each has been waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::session::{Epoch, Nonce, Record, SessionId, Slot};

/// What a session waits for. As long as that is the same, it is one doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matter {
    epoch: Epoch,
    pull: Option<Nonce>,
    /// Nothing but its messages are under way.
    messages: bool,
}

impl Matter {
    /// `None` if there is nothing to ask or to tell.
    pub(super) fn of(slot: &Slot) -> Option<Self> {
        let messages = !Slot { outbox: 0, ..slot.clone() }.pending();
        slot.pending().then(|| Self {
            epoch: slot.record.as_ref().map_or(0, Record::epoch),
            pull: slot.pull.as_ref().map(|pull| pull.nonce),
            messages,
        })
    }
}

/// One session.
#[derive(Debug)]
struct Doubt {
    /// Its place in the queue: lower ones are looked at first.
    place: u64,
    /// What it was found to wait for, and since when.
    matter: Option<(Matter, Instant)>,
}

/// As far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    all: BTreeMap<SessionId, Doubt>,
    last: u64,
}

impl Doubts {
    /// These, oldest first, in the order of the queue: whoever is new goes to its end, and so
    /// does whoever was looked at. `whole`: there are no others.
    pub(super) fn queue(&mut self, mut pending: Vec<SessionId>, whole: bool) -> Vec<SessionId> {
        if whole {
            let listed: BTreeSet<_> = pending.iter().collect();
            self.all.retain(|session, _| listed.contains(session));
        }
        for session in &pending {
            if !self.all.contains_key(session) {
                self.last += 1;
                self.all.insert(session.clone(), Doubt { place: self.last, matter: None });
            }
        }
        pending.sort_by_cached_key(|session| self.all.get(session).map(|doubt| doubt.place));
        pending
    }

    /// Somebody looks at it now.
    pub(super) fn looks_at(&mut self, session: &SessionId) {
        if let Some(doubt) = self.all.get_mut(session) {
            self.last += 1;
            doubt.place = self.last;
        }
    }

    /// What it was found to wait for.
    pub(super) fn found(&mut self, session: &SessionId, matter: Option<Matter>) {
        let Some(doubt) = self.all.get_mut(session) else { return };
        if doubt.matter.map(|(matter, _)| matter) != matter {
            doubt.matter = matter.map(|matter| (matter, Instant::now()));
        }
    }

    /// A message of it got out: those behind it have not been waiting for as long.
    pub(super) fn delivered(&mut self, session: &SessionId) {
        let doubt = self.all.get_mut(session);
        if let Some((Matter { messages: true, .. }, since)) =
            doubt.and_then(|it| it.matter.as_mut())
        {
            *since = Instant::now();
        }
    }

    /// For how long the one of these has been waiting that has waited longest.
    pub(super) fn oldest(&self, of: &[SessionId]) -> Duration {
        let since = |session| self.all.get(session)?.matter.map(|(_, since)| since.elapsed());
        of.iter().filter_map(since).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(numbers: impl IntoIterator<Item = usize>) -> Vec<SessionId> {
        numbers.into_iter().map(|n| SessionId::new(format!("s-{n}")).unwrap()).collect()
    }

    /// Looks at the first `most` that are next.
    fn turn(
        doubts: &mut Doubts,
        pending: Vec<SessionId>,
        whole: bool,
        most: usize,
    ) -> Vec<SessionId> {
        let mut next = doubts.queue(pending, whole);
        next.truncate(most);
        for session in &next {
            doubts.looks_at(session);
        }
        next
    }

    #[test]
    fn g7_each_has_its_turn_however_many_there_are_and_come() {
        let mut doubts = Doubts::default();
        assert_eq!(turn(&mut doubts, sessions(0..5), true, 2), sessions([0, 1]));
        // New ones go to the end.
        assert_eq!(turn(&mut doubts, sessions(0..7), true, 3), sessions([2, 3, 4]));
        assert_eq!(turn(&mut doubts, sessions(0..7), true, 3), sessions([0, 1, 5]));
        // In most turns' lists the last ones are missing.
        assert_eq!(turn(&mut doubts, sessions(0..4), false, 2), sessions([2, 3]));
        assert_eq!(turn(&mut doubts, sessions(0..7), true, 2), sessions([6, 4]));
        // Those that were resolved are forgotten.
        assert_eq!(turn(&mut doubts, sessions([6]), true, 2), sessions([6]));
        assert_eq!(doubts.all.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_runs_for_one_doubt_and_anew_for_the_next() {
        let mut doubts = Doubts::default();
        let pending = doubts.queue(sessions([0]), true);
        let second = Duration::from_secs(1);
        let matter = |epoch, messages| Some(Matter { epoch, pull: None, messages });
        for (found, oldest) in [
            (matter(1, false), 0),
            (matter(1, false), 1),
            (matter(2, false), 0),
            (None, 0),
            (matter(2, false), 0),
            (matter(2, true), 0),
            (matter(2, true), 1),
        ] {
            doubts.found(&pending[0], found);
            assert_eq!(doubts.oldest(&pending), second * oldest);
            tokio::time::advance(second).await;
        }
        doubts.delivered(&pending[0]);
        assert_eq!(doubts.oldest(&pending), Duration::ZERO);
        // A message that gets out does not hide a move that does not.
        doubts.found(&pending[0], matter(3, false));
        tokio::time::advance(second).await;
        doubts.delivered(&pending[0]);
        assert_eq!(doubts.oldest(&pending), second);
        assert_eq!(doubts.oldest(&[]), Duration::ZERO);
    }
}
