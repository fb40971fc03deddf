//! What to do about a node's load: a pure function of what is seen, what is remembered,
//! the settings and the time.
//!
//! Every rule has three watermarks. At the *high* one offload starts and the node takes no
//! sessions from below; at the *low* one offload stops; at the *onload* one it takes sessions
//! from below again and brings its own home.
//!
//! Why nothing ping-pongs: a session that moved stays for `dwell`; after a change of
//! direction a function's sessions move in no other way for `cooldown`; a session comes home
//! only if what it is expected to bring keeps every rule below its low watermark; and a
//! return that was too early all the same makes the next one wait twice as long. Moves that
//! do not show in the smoothed signals yet are taken into account, so that no more go than
//! are needed. At most `moves` sessions and `bytes` bytes go in any `interval`.
//!
//! What is unknown triggers nothing.
//!
//! - [`settings`]: rules and limits
//! - [`view`]: functions and sessions as the policy sees them
//! - [`decision`]: what it says
//! - `judge`: rules and phases · `victims`: who is next · `plan`: one round · `memory`

pub mod decision;
mod judge;
mod memory;
mod plan;
pub mod settings;
#[cfg(test)]
mod tests;
mod victims;
pub mod view;

use std::collections::BTreeMap;

use funicular::peers::messages::OffloadStatus;
use funicular::session::{FunctionName, Millis};

use crate::signals::Board;
use decision::{Action, Decision, Phase, Reading, Verdict, number};
use memory::Watch;
pub use memory::{Direction, Memory};
use settings::PolicySettings;
use view::{FunctionView, Functions};

/// What the policy is asked with.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Now, on the caller's clock, in milliseconds; never runs backwards.
    pub now: Millis,
    /// The signals.
    pub board: &'a Board,
    /// The functions that answered.
    pub functions: &'a Functions,
    /// The settings, which were checked.
    pub settings: &'a PolicySettings,
    /// Decides what is left to chance.
    pub seed: u64,
}

/// What the policy says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// What to do, in this order.
    pub decisions: Vec<Decision>,
    /// How each function stands.
    pub verdicts: Vec<Verdict>,
}

/// Decides. The memory comes back as it is to be passed in the next time.
pub fn decide(input: &Input<'_>, mut memory: Memory) -> (Outcome, Memory) {
    let (now, settings) = (input.now, input.settings);
    memory.forget(now, settings);
    let mut outcome = Outcome::default();
    let mut all_seen = BTreeMap::new();
    for (function, view) in input.functions {
        let mut watch = memory.watches.remove(function).unwrap_or_else(|| first_look(view, now));
        let seen = judge::read(input, &memory, function);
        let change = judge::step(&mut watch, &seen, settings, memory.began, now);
        learn(input, &mut watch, &seen, view);
        if let Some(decision) = status(input, function, view, &watch, &seen, change) {
            watch.asked = Some(now);
            outcome.decisions.push(decision);
        }
        memory.watches.insert(function.clone(), watch);
        all_seen.insert(function, seen);
    }
    plan::up(input, &mut memory, &all_seen, &mut outcome);
    plan::down(input, &mut memory, &all_seen, &mut outcome);
    // What was decided counts among what is expected.
    for (function, view) in input.functions {
        let seen = judge::read(input, &memory, function);
        outcome.verdicts.push(plan::verdict(input, &memory, function, view, &seen));
    }
    (outcome, memory)
}

/// A function that was not seen before: its status tells where an oracle before this
/// one had come to.
fn first_look(view: &FunctionView, now: Millis) -> Watch {
    let phase = match view.status {
        OffloadStatus::Accept => Phase::Calm,
        OffloadStatus::Reject => Phase::Holding,
    };
    Watch { phase, since: now, ..Watch::default() }
}

/// Notes what a request (or a byte) costs, now that there are many: once in each time of
/// relief, as soon as it can be told. Sessions are listed only after they were asked for.
fn learn(input: &Input<'_>, watch: &mut Watch, seen: &[judge::Seen<'_>], view: &FunctionView) {
    if watch.phase != Phase::Relieving {
        return;
    }
    for seen in seen {
        let rule = &seen.rule.name;
        if watch.learned.contains(rule) {
            continue;
        }
        let whole = judge::whole(input, seen, view);
        if let Some(value) = seen.reading.value
            && whole > 0.0
        {
            watch.costs.insert(rule.clone(), value / whole);
            watch.learned.insert(rule.clone());
        }
    }
}

/// The decision about the status, if it is not what goes with the phase.
fn status(
    input: &Input<'_>,
    function: &FunctionName,
    view: &FunctionView,
    watch: &Watch,
    seen: &[judge::Seen<'_>],
    change: Option<judge::Change>,
) -> Option<Decision> {
    let status = judge::status_of(watch.phase);
    // The root takes what comes; what is held is somebody else's affair.
    if status == view.status || !view.above || view.held.is_some() {
        return None;
    }
    let change = match change {
        Some(change) => change,
        // It was asked for a moment ago.
        None if watch
            .asked
            .is_some_and(|at| input.now - at < input.settings.cooldown.as_millis()) =>
        {
            return None;
        }
        // A wish that was not heard, or somebody else's: what is known has to speak for it.
        None if status == OffloadStatus::Accept => {
            judge::low_enough_to_onload(seen).ok()?;
            let rule = judge::worst(seen)?.rule.name.clone();
            judge::Change { rule, why: "every rule is at its onload watermark".to_owned() }
        }
        None => {
            let worst = judge::worst(seen).filter(|worst| {
                worst.reading.value.is_some_and(|value| value > worst.rule.onload)
            })?;
            let onload = number(worst.rule.onload);
            let why = format!("{}, above its onload watermark {onload}", worst.reading);
            judge::Change { rule: worst.rule.name.clone(), why }
        }
    };
    Some(Decision {
        at: input.now,
        function: function.clone(),
        action: Action::SetStatus { status },
        rule: change.rule,
        why: change.why,
        readings: readings(seen),
        alternatives: plan::quiet_rules(seen),
    })
}

fn readings(seen: &[judge::Seen<'_>]) -> Vec<Reading> {
    seen.iter().map(|seen| seen.reading.clone()).collect()
}
