//! What the rules say of a function, and what follows for its phase.

use funicular::peers::messages::OffloadStatus;
use funicular::session::{FunctionName, Millis};

use super::Input;
use super::decision::{Phase, Reading, number};
use super::memory::{Memory, Watch};
use super::settings::{PolicySettings, RelievedBy, Rule};
use super::view::FunctionView;
use crate::signals::SignalName;

/// A rule's reading, and how far the rule looks.
pub(super) struct Seen<'a> {
    pub(super) rule: &'a Rule,
    pub(super) reading: Reading,
    /// It looks at the node as a whole, not at the function alone.
    pub(super) of_node: bool,
}

impl Seen<'_> {
    fn at_least(&self, watermark: f64) -> bool {
        self.reading.value.is_some_and(|value| value >= watermark)
    }

    /// The value as it will be, once the last moves show.
    pub(super) fn expected(&self) -> Option<f64> {
        self.reading.expected
    }
}

/// Reads all rules for a function.
pub(super) fn read<'a>(
    input: &Input<'a>,
    memory: &Memory,
    function: &FunctionName,
) -> Vec<Seen<'a>> {
    input.settings.rules.iter().map(|rule| read_one(input, memory, function, rule)).collect()
}

fn read_one<'a>(
    input: &Input<'a>,
    memory: &Memory,
    function: &FunctionName,
    rule: &'a Rule,
) -> Seen<'a> {
    let found: Vec<_> = rule
        .signals
        .iter()
        .map(|signal| (signal, input.board.get(function, signal, input.now)))
        .collect();
    let values: Vec<_> = found.iter().map(|(_, known)| known.map(|known| known.value)).collect();
    let value = rule.combine.of(&values);
    let of_node =
        !rule.signals.iter().any(|signal| input.board.is_own(function, signal, input.now));
    // As long as a signal may still tell of before, an effect is all to come.
    let lag = rule.signals.iter().map(SignalName::lag).max().unwrap_or(0);
    let since = |at: Millis| input.now.saturating_sub(at).saturating_sub(lag);
    let to_come: f64 = memory
        .effects
        .iter()
        .filter(|effect| effect.rule == rule.name)
        .filter(|effect| effect.function == *function || (of_node && effect.of_node))
        .map(|effect| effect.adds * input.board.to_come(since(effect.at)))
        .sum();
    let reading = Reading {
        rule: rule.name.clone(),
        value,
        expected: value.map(|value| (value + to_come).max(0.0)),
        high: rule.high,
        low: rule.low,
        onload: rule.onload,
        signals: found
            .iter()
            .map(|(signal, known)| (signal.to_string(), known.map(|known| known.value)))
            .collect(),
    };
    Seen { rule, reading, of_node }
}

/// The rule above its high watermark that is furthest above its low one, in the
/// rule's own measure.
pub(super) fn worst<'a, 'b>(seen: &'b [Seen<'a>]) -> Option<&'b Seen<'a>> {
    let strain = |seen: &&Seen<'a>| {
        let Seen { rule, reading, .. } = seen;
        reading.value.map(|value| (value - rule.low) / (rule.high - rule.low))
    };
    seen.iter()
        .filter(|seen| seen.reading.value.is_some())
        .max_by(|a, b| strain(a).unwrap_or(0.0).total_cmp(&strain(b).unwrap_or(0.0)))
}

/// A change of phase: what it became, by which rule, in a sentence.
pub(super) struct Change {
    pub(super) rule: String,
    pub(super) why: String,
}

/// Moves a function's phase on.
pub(super) fn step(
    watch: &mut Watch,
    seen: &[Seen<'_>],
    settings: &PolicySettings,
    began: Millis,
    now: Millis,
) -> Option<Change> {
    let cooldown = settings.cooldown.as_millis();
    let rested = now.saturating_sub(watch.since.max(began)) >= cooldown;
    match watch.phase {
        Phase::Calm | Phase::Holding => {
            let above = worst_at(seen, |seen| seen.at_least(seen.rule.high));
            if let Some(above) = above
                && (watch.phase == Phase::Holding || rested)
            {
                let why =
                    format!("{}, at its high watermark {}", above.reading, number(above.rule.high));
                relieve(watch, settings, now);
                return Some(Change { rule: above.rule.name.clone(), why });
            }
            if watch.phase == Phase::Holding && rested && low_enough_to_onload(seen).is_ok() {
                watch.phase = Phase::Calm;
                watch.since = now;
                let why = "every rule is at its onload watermark".to_owned();
                return Some(Change { rule: name_of_worst(seen), why });
            }
        }
        Phase::Relieving => {
            let still = seen
                .iter()
                .any(|seen| seen.reading.value.is_some_and(|value| value > seen.rule.low));
            if !still {
                watch.phase = Phase::Holding;
                watch.since = now;
            }
        }
    }
    None
}

fn worst_at<'a, 'b>(
    seen: &'b [Seen<'a>],
    holds: impl Fn(&Seen<'a>) -> bool,
) -> Option<&'b Seen<'a>> {
    worst(seen).filter(|seen| holds(seen)).or_else(|| seen.iter().find(|seen| holds(seen)))
}

fn name_of_worst(seen: &[Seen<'_>]) -> String {
    worst(seen).map(|seen| seen.rule.name.clone()).unwrap_or_default()
}

fn relieve(watch: &mut Watch, settings: &PolicySettings, now: Millis) {
    let calm_for = now.saturating_sub(watch.since);
    if watch.phase == Phase::Calm {
        let too_early = watch.came_home;
        watch.bounces = match too_early {
            true => watch.bounces.saturating_add(1),
            false if calm_for >= settings.backoff_max.as_millis() => 0,
            false => watch.bounces,
        };
        watch.came_home = false;
    }
    watch.phase = Phase::Relieving;
    watch.since = now;
    watch.learned.clear();
    watch.not_home_before = now.saturating_add(backoff(watch.bounces, settings));
}

/// After so many returns that were too early: how long until the next.
fn backoff(bounces: u32, settings: &PolicySettings) -> Millis {
    let times = 1_u64.checked_shl(bounces).unwrap_or(u64::MAX);
    settings.cooldown.as_millis().saturating_mul(times).min(settings.backoff_max.as_millis())
}

/// Whether every rule is known and at its onload watermark; else the reason.
pub(super) fn low_enough_to_onload(seen: &[Seen<'_>]) -> Result<(), String> {
    for Seen { rule, reading, .. } in seen {
        match reading.value {
            None => return Err(format!("{} is unknown, and nothing moves on that", rule.name)),
            Some(value) if value > rule.onload => {
                return Err(format!(
                    "{reading}, above its onload watermark {}",
                    number(rule.onload)
                ));
            }
            Some(_) => {}
        }
    }
    if seen.is_empty() { Err("there is no rule".to_owned()) } else { Ok(()) }
}

/// The status that goes with a phase.
pub(super) fn status_of(phase: Phase) -> OffloadStatus {
    match phase {
        Phase::Calm => OffloadStatus::Accept,
        Phase::Relieving | Phase::Holding => OffloadStatus::Reject,
    }
}

/// What a rule's value is shared out by: requests a second, or bytes; of this function
/// or of all of them.
pub(super) fn whole(input: &Input<'_>, seen: &Seen<'_>, function: &FunctionView) -> f64 {
    let of = |view: &FunctionView| match seen.rule.relieved_by {
        RelievedBy::Requests => view.requests(),
        RelievedBy::Bytes => view.bytes(),
    };
    match seen.of_node {
        true => input.functions.values().map(of).sum(),
        false => of(function),
    }
}
