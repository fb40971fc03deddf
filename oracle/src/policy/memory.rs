//! What the policy remembers from one time to the next.

use std::collections::{BTreeMap, BTreeSet};

use funicular::session::{FunctionName, Millis, SessionId};

use super::decision::Phase;
use super::settings::PolicySettings;

/// Memory of the policy: passed in and returned, never shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    pub(super) watches: BTreeMap<FunctionName, Watch>,
    /// When which session moved last. Those that may move again are forgotten.
    pub(super) moved: BTreeMap<(FunctionName, SessionId), Millis>,
    /// What was spent of the budget: when, how many bytes.
    pub(super) spent: Vec<(Millis, u64)>,
    /// Effects of moves that do not show in the signals yet.
    pub(super) effects: Vec<Effect>,
    /// The policy began to look: nothing moves in the first cooldown.
    pub(super) began: Millis,
}

/// One function under watch.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Watch {
    pub(super) phase: Phase,
    /// Since when.
    pub(super) since: Millis,
    /// The last move up, and the last one down.
    pub(super) last_up: Option<Millis>,
    pub(super) last_down: Option<Millis>,
    /// Sessions came home since it was last relieved.
    pub(super) came_home: bool,
    /// How often that was too early, in a row.
    pub(super) bounces: u32,
    /// Nobody comes home before this time.
    pub(super) not_home_before: Millis,
    /// A move failed: nothing is tried in that direction before this time.
    pub(super) not_up_before: Millis,
    pub(super) not_down_before: Millis,
    /// When the status was last asked for, heard or not.
    pub(super) asked: Option<Millis>,
    /// By rule: what a request a second (or a byte) costs, as seen under load.
    pub(super) costs: BTreeMap<String, f64>,
    /// The rules of which that was noted since relief began.
    pub(super) learned: BTreeSet<String>,
}

/// A move whose effect is still to come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Effect {
    pub(super) at: Millis,
    pub(super) function: FunctionName,
    pub(super) rule: String,
    /// Whether the rule looks at the node as a whole.
    pub(super) of_node: bool,
    /// What it adds to the rule's value.
    pub(super) adds: f64,
}

/// In which direction a session moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To a node above.
    Up,
    /// Home.
    Down,
}

impl Memory {
    /// Of a policy that begins to look now.
    pub fn new(now: Millis) -> Self {
        Self {
            watches: BTreeMap::new(),
            moved: BTreeMap::new(),
            spent: Vec::new(),
            effects: Vec::new(),
            began: now,
        }
    }

    /// A move did not happen: for a cooldown nothing else is tried that way. What it was
    /// to spend stays spent.
    pub fn failed(
        &mut self,
        now: Millis,
        function: &FunctionName,
        direction: Direction,
        settings: &PolicySettings,
    ) {
        let until = now.saturating_add(settings.cooldown.as_millis());
        if let Some(watch) = self.watches.get_mut(function) {
            match direction {
                Direction::Up => watch.not_up_before = until,
                Direction::Down => watch.not_down_before = until,
            }
        }
        // It will not show in the signals either.
        self.effects.retain(|effect| effect.function != *function);
    }

    /// Forgets what has no say any more.
    pub(super) fn forget(&mut self, now: Millis, settings: &PolicySettings) {
        let dwell = settings.dwell.as_millis();
        let interval = settings.interval.as_millis();
        self.moved.retain(|_, at| now.saturating_sub(*at) < dwell);
        self.spent.retain(|(at, _)| now.saturating_sub(*at) < interval);
        let long = settings.interval.as_millis().max(60_000).saturating_mul(10);
        self.effects.retain(|effect| now.saturating_sub(effect.at) < long);
    }

    /// What is left of the budget: moves, and bytes. With nothing spent a session of any
    /// size may go.
    pub(super) fn budget(&self, settings: &PolicySettings) -> Budget {
        let bytes: u64 = self.spent.iter().map(|(_, bytes)| bytes).sum();
        Budget {
            moves: settings.moves.saturating_sub(self.spent.len()),
            bytes: settings.bytes.saturating_sub(bytes),
            untouched: self.spent.is_empty(),
        }
    }

    pub(super) fn spend(&mut self, now: Millis, bytes: u64) {
        self.spent.push((now, bytes));
    }
}

/// What may still be moved in this interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) moves: usize,
    pub(super) bytes: u64,
    pub(super) untouched: bool,
}

impl Budget {
    /// Takes a session's bytes off, if they are there.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), &'static str> {
        if self.moves == 0 {
            return Err("the moves of this interval are used up");
        }
        if bytes > self.bytes && !self.untouched {
            return Err("it has more bytes than are left in this interval");
        }
        self.moves -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.untouched = false;
        Ok(())
    }
}
