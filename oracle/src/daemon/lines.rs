//! Decisions that wait to be done: a line for each function, so that one whose parent hangs
//! holds up nobody else. Pure: time comes in, and what is to be done comes out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use funicular::session::FunctionName;
use tokio::time::Instant;

use crate::policy::decision::Decision;

/// What lines go by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// So many of a function are under way at once.
    pub(super) at_once: usize,
    /// So many of a function may wait.
    pub(super) waiting: usize,
    /// What has waited for so long is not begun: what it rests on is not known any more.
    pub(super) patience: Duration,
}

/// A decision in its line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) decision: Decision,
    /// When it was decided.
    pub(super) since: Instant,
}

/// Who leaves a line next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// It has a place now.
    Begins(Waiting),
    /// It has grown too old.
    TooOld(Waiting),
}

/// All lines of a node.
#[derive(Debug)]
pub(super) struct Lines {
    limits: Limits,
    of: BTreeMap<FunctionName, Line>,
}

#[derive(Debug, Default)]
struct Line {
    under_way: usize,
    waiting: VecDeque<Waiting>,
}

impl Lines {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, of: BTreeMap::new() }
    }

    /// Takes a decision in, behind those before it; gives it back where there is no room.
    pub(super) fn join(&mut self, waiting: Waiting) -> Option<Waiting> {
        let line = self.of.entry(waiting.decision.function.clone()).or_default();
        if line.waiting.len() >= self.limits.waiting {
            return Some(waiting);
        }
        line.waiting.push_back(waiting);
        None
    }

    /// The next one that leaves its line.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        let Limits { at_once, patience, .. } = self.limits;
        let mut lines = self.of.values_mut().filter(|line| line.under_way < at_once);
        let (line, first) =
            lines.find_map(|line| line.waiting.pop_front().map(|first| (line, first)))?;
        if now.saturating_duration_since(first.since) >= patience {
            return Some(Next::TooOld(first));
        }
        line.under_way += 1;
        Some(Next::Begins(first))
    }

    /// Frees the place of a decision. If it failed, those that wait to move sessions of that
    /// function the same way come back: they are not begun.
    pub(super) fn ended(&mut self, decision: &Decision, failed: bool) -> VecDeque<Waiting> {
        let Some(line) = self.of.get_mut(&decision.function) else { return VecDeque::new() };
        line.under_way = line.under_way.saturating_sub(1);
        let direction = decision.action.direction();
        if !failed || direction.is_none() {
            return VecDeque::new();
        }
        let same = |waiting: &Waiting| waiting.decision.action.direction() == direction;
        let (dropped, left) = std::mem::take(&mut line.waiting).into_iter().partition(same);
        line.waiting = left;
        dropped
    }

    /// How many decisions of each function are not done yet.
    pub(super) fn not_done(&self) -> Vec<(FunctionName, usize)> {
        let counts = self.of.iter().map(|(name, line)| (name, line.under_way + line.waiting.len()));
        let some = counts.filter(|(_, count)| *count > 0);
        some.map(|(name, count)| (name.clone(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use funicular::peers::messages::OffloadStatus;

    use super::*;
    use crate::policy::decision::Action;
    use crate::testing::{decision, offload, onload};

    const PATIENCE: Duration = Duration::from_secs(15);

    fn lines(at_once: usize) -> Lines {
        Lines::new(Limits { at_once, waiting: 64, patience: PATIENCE })
    }

    /// Takes in what was decided at one time, numbered from 0.
    fn join(lines: &mut Lines, since: Instant, decisions: Vec<Decision>) {
        for (id, decision) in (0..).zip(decisions) {
            assert_eq!(lines.join(Waiting { id, decision, since }), None);
        }
    }

    /// The numbers of all that begin now.
    fn begin(lines: &mut Lines, now: Instant) -> Vec<u64> {
        let mut begun = Vec::new();
        while let Some(Next::Begins(waiting)) = lines.next(now) {
            begun.push(waiting.id);
        }
        begun
    }

    #[test]
    fn a_function_that_hangs_holds_up_no_other() {
        let (mut lines, now) = (lines(2), Instant::now());
        let mut decisions = vec![offload("cart"); 5];
        decisions.push(decision("cdn", Action::SetStatus { status: OffloadStatus::Reject }));
        decisions.push(offload("cdn"));
        join(&mut lines, now, decisions);
        assert_eq!(begin(&mut lines, now), [0, 1, 5, 6]);
        let not_done = lines.not_done();
        assert_eq!(not_done, [("cart".parse().unwrap(), 5), ("cdn".parse().unwrap(), 2)]);
        // The place of one that is done is the next one's.
        assert_eq!(lines.ended(&offload("cart"), false), []);
        assert_eq!(begin(&mut lines, now), [2]);
    }

    #[test]
    fn after_a_failure_nothing_that_waits_goes_the_same_way() {
        let (mut lines, now) = (lines(1), Instant::now());
        let status = decision("cart", Action::SetStatus { status: OffloadStatus::Accept });
        let decisions =
            vec![offload("cart"), offload("cart"), onload("cart"), status.clone(), offload("cdn")];
        join(&mut lines, now, decisions);
        assert_eq!(begin(&mut lines, now), [0, 4]);
        let dropped = lines.ended(&offload("cart"), true);
        assert_eq!(dropped.iter().map(|waiting| waiting.id).collect::<Vec<_>>(), [1]);
        assert_eq!(begin(&mut lines, now), [2]);
        // A status that was not heard stops no move.
        lines.ended(&onload("cart"), false);
        join(&mut lines, now, vec![offload("cart")]);
        assert_eq!(begin(&mut lines, now), [3]);
        assert_eq!(lines.ended(&status, true), []);
    }

    #[test]
    fn what_waited_too_long_does_not_begin() {
        let (mut lines, then) = (lines(1), Instant::now());
        join(&mut lines, then, vec![offload("cart"); 3]);
        assert_eq!(begin(&mut lines, then), [0]);
        lines.ended(&offload("cart"), false);
        assert_eq!(begin(&mut lines, then + PATIENCE - Duration::from_millis(1)), [1]);
        lines.ended(&offload("cart"), false);
        let late = lines.next(then + PATIENCE);
        assert!(matches!(late, Some(Next::TooOld(Waiting { id: 2, .. }))), "{late:?}");
        assert_eq!(lines.not_done(), []);
    }
}
