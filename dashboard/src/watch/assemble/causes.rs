//! Who asked for a move: found by comparing it with the decisions that are known.

use super::{Known, Memory};
use crate::watch::view::{Cause, DecisionView, MoveView};

/// A decision is carried out within this time, in milliseconds, or differs by that much from
/// this machine's clock.
const BETWEEN: u64 = 60_000;

impl Memory {
    /// Says of moves who asked for them. What an oracle decided may come to be known after the
    /// move itself.
    pub(super) fn explain_moves(&mut self, now: u64) {
        let Self { moves, decisions, nodes, .. } = self;
        let recent = |moved: &&mut MoveView| moved.at_ms + BETWEEN > now;
        for moved in moves.iter_mut().take_while(recent) {
            if matches!(moved.cause, Cause::Oracle { .. } | Cause::Drain) {
                continue;
            }
            let (decider, action) =
                if moved.up { (&moved.from, "offload") } else { (&moved.to, "onload") };
            let decided = decisions.iter().find(|decision| {
                decision.node == *decider
                    && decision.action == action
                    && decision.function == moved.function
                    && decision.session.as_ref() == Some(&moved.hash)
                    && !["observed", "dropped"].contains(&decision.outcome.as_str())
                    && decision.at_ms.abs_diff(moved.at_ms) < BETWEEN
            });
            let decider = nodes.get(decider);
            let status = decider
                .and_then(|known| known.functions.get(&moved.function))
                .and_then(|function| function.status.as_ref());
            moved.cause = match decided {
                Some(DecisionView { node, rule, why, .. }) => {
                    Cause::Oracle { node: node.clone(), rule: rule.clone(), why: why.clone() }
                }
                None if moved.up && status.is_some_and(|it| it.drain.is_some()) => Cause::Drain,
                // It was asked since, and knew of none.
                None if decider.is_some_and(|known| known.had_decided(moved.at_ms)) => {
                    Cause::Operator
                }
                None => Cause::Unknown,
            };
        }
    }
}

impl Known {
    /// Whether its oracle has told everything that it had decided by then, as far as that may
    /// have led to a move of then.
    fn had_decided(&self, at_ms: u64) -> bool {
        self.oracle.reach.answers()
            && self.asked_ms.is_some_and(|asked| asked >= at_ms)
            && self.untold_ms.is_none_or(|untold| untold + BETWEEN <= at_ms)
    }
}
