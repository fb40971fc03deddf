//! The policy that moves anybody: as many sessions as the oracles moved, at the same time, up
//! or down as they did, but drawn at random: up go any that are in use, down any that are away.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::run::{NOWHERE, Run};
use crate::tree::Index;
use crate::workload::{Second, Session};

/// So often a draw may fail before the move is given up.
const DRAWS: usize = 512;

/// What is left to move.
pub(crate) struct Chances {
    chance: StdRng,
    schedule: std::vec::IntoIter<(Second, u32, u32)>,
    next: Option<(Second, u32, u32)>,
}

impl Chances {
    pub(crate) fn new(seed: u64, schedule: Vec<(Second, u32, u32)>) -> Self {
        let mut schedule = schedule.into_iter();
        let next = schedule.next();
        Self { chance: StdRng::seed_from_u64(seed), schedule, next }
    }

    /// Begins the moves of this second.
    pub(crate) fn turn(&mut self, run: &mut Run<'_>) {
        while let Some((_, up, down)) = self.next.filter(|(at, ..)| *at <= run.now) {
            self.next = self.schedule.next();
            for _ in 0..up {
                self.one(run, true);
            }
            for _ in 0..down {
                self.one(run, false);
            }
        }
    }

    fn one(&mut self, run: &mut Run<'_>, up: bool) {
        for _ in 0..DRAWS {
            let session = self.chance.random_range(0..run.started().max(1)) as Session;
            if let Some(to) = target(run, session, up)
                && run.begin_move(session, to, run.millis(), None).is_some()
            {
                return;
            }
        }
        run.tally.at(run.now + 1).failed += 1;
    }
}

/// Where a session goes that may move: one in use to the node above, or home.
fn target(run: &Run<'_>, session: Session, up: bool) -> Option<Index> {
    let state = run.sessions.get(session as usize)?;
    if state.at == NOWHERE || state.moving || (up && !state.active) {
        return None;
    }
    let dwell = run.scenario.rules.file.policy.dwell.0.as_secs();
    if state.arrived.is_some_and(|at| u64::from(run.now - at) < dwell) {
        return None;
    }
    let home = run.home(session);
    match up {
        true => run.scenario.tree.at(state.at).parent,
        false => Some(home).filter(|home| *home != state.at),
    }
}
