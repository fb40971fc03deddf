//! One round of moves.

use std::collections::{BTreeMap, BTreeSet};

use funicular::session::{FunctionName, Millis};

use super::decision::{Action, Alternative, Decision, Phase, Verdict, number};
use super::judge::{self, Seen};
use super::memory::{Effect, Memory, Watch};
use super::settings::PolicySettings;
use super::view::{FunctionView, SessionView};
use super::{Input, Outcome, readings, victims};
use crate::duration::Span;

/// So many alternatives are told with a decision.
const TOLD: usize = 8;

type AllSeen<'a, 'b> = BTreeMap<&'b FunctionName, Vec<Seen<'a>>>;

/// Sends sessions up until what is expected is at the low watermarks.
pub(super) fn up(
    input: &Input<'_>,
    memory: &mut Memory,
    all_seen: &AllSeen<'_, '_>,
    outcome: &mut Outcome,
) {
    let going = input.functions.iter().filter(|(function, view)| {
        memory
            .watches
            .get(*function)
            .is_some_and(|watch| why_not_up(watch, view, input.settings, input.now).is_none())
    });
    let going: Vec<_> = going
        .map(|(function, view)| {
            let by = all_seen.get(function).and_then(|seen| judge::worst(seen));
            (function, view, by.map(|seen| seen.rule.relieved_by))
        })
        .collect();
    let candidates = victims::going_up(input, going.into_iter());
    let mut passed_over = Vec::new();
    // What is expected only falls as sessions go: who needs no more needs none later.
    let mut relieved = BTreeSet::new();
    for candidate in &candidates {
        let (function, session) = (candidate.function, candidate.session);
        if relieved.contains(function) {
            continue;
        }
        let Some(view) = input.functions.get(function) else { continue };
        // Read again: every move that was decided counts.
        let seen = judge::read(input, memory, function);
        let Some(needed) = still_needed(&seen) else {
            relieved.insert(function);
            continue;
        };
        if let Err(why_not) = may_move(input, memory, function, session) {
            passed_over.push(Alternative { what: describe(session), why_not });
            continue;
        }
        let mut budget = memory.budget(input.settings);
        if let Err(why_not) = budget.take(session.bytes) {
            passed_over.push(Alternative { what: describe(session), why_not: why_not.to_owned() });
            if budget.moves == 0 {
                break;
            }
            continue;
        }
        let order = input.settings.victims.name();
        let relief = victims::relief(input, needed, view, session);
        let why = format!(
            "{}, and at the low watermark {} offload stops; this session is the first by \
             `{order}`: about {} goes with it, for {} bytes",
            needed.reading,
            number(needed.rule.low),
            number(relief),
            session.bytes
        );
        let mut alternatives = passed_over.clone();
        alternatives.extend(next_best(&candidates, session));
        alternatives.extend(quiet_rules(&seen));
        alternatives.truncate(TOLD);
        outcome.decisions.push(Decision {
            at: input.now,
            function: function.clone(),
            action: Action::Offload { session: session.session.clone(), bytes: session.bytes },
            rule: needed.rule.name.clone(),
            why,
            readings: readings(&seen),
            alternatives,
        });
        let effects = seen.iter().map(|seen| (seen, -victims::relief(input, seen, view, session)));
        note(input, memory, function, session, effects.collect());
        if let Some(watch) = memory.watches.get_mut(function) {
            watch.last_up = Some(input.now);
        }
    }
}

/// Brings sessions home while what is expected stays below the low watermarks.
pub(super) fn down(
    input: &Input<'_>,
    memory: &mut Memory,
    all_seen: &AllSeen<'_, '_>,
    outcome: &mut Outcome,
) {
    for (function, view) in input.functions {
        let Some(watch) = memory.watches.get(function) else { continue };
        let Some(seen) = all_seen.get(function) else { continue };
        if why_not_down(watch, view, seen, input.settings, memory.began, input.now).is_some() {
            continue;
        }
        let mut passed_over = Vec::new();
        let candidates = victims::coming_home(input, function, view);
        for candidate in &candidates {
            let session = candidate.session;
            let seen = judge::read(input, memory, function);
            let Some(watch) = memory.watches.get(function) else { break };
            let verdict = may_move(input, memory, function, session)
                .and_then(|()| fits(&seen, watch, session))
                .and_then(|()| {
                    let mut budget = memory.budget(input.settings);
                    budget.take(session.bytes).map_err(str::to_owned)
                });
            if let Err(why_not) = verdict {
                passed_over.push(Alternative { what: describe(session), why_not });
                if memory.budget(input.settings).moves == 0 {
                    break;
                }
                continue;
            }
            let Some(rule) = judge::worst(&seen).map(|seen| seen.rule.name.clone()) else { break };
            let from = session.at.as_ref().map_or_else(String::new, |at| format!(" at {at}"));
            let why = format!(
                "every rule is at its onload watermark, and this session{from} gains most for \
                 its {} bytes",
                session.bytes
            );
            let mut alternatives = passed_over.clone();
            alternatives.extend(next_best(&candidates, session));
            alternatives.truncate(TOLD);
            outcome.decisions.push(Decision {
                at: input.now,
                function: function.clone(),
                action: Action::Onload {
                    session: session.session.clone(),
                    from: session.at.clone(),
                    bytes: session.bytes,
                },
                rule,
                why,
                readings: readings(&seen),
                alternatives,
            });
            let effects: Vec<_> =
                seen.iter().map(|seen| (seen, victims::burden(seen, watch, session))).collect();
            note(input, memory, function, session, effects);
            if let Some(watch) = memory.watches.get_mut(function) {
                watch.last_down = Some(input.now);
                watch.came_home = true;
            }
        }
    }
}

/// Remembers a move and what it is expected to do.
fn note(
    input: &Input<'_>,
    memory: &mut Memory,
    function: &FunctionName,
    session: &SessionView,
    effects: Vec<(&Seen<'_>, f64)>,
) {
    for (seen, adds) in effects {
        if seen.reading.value.is_some() && adds != 0.0 {
            memory.effects.push(Effect {
                at: input.now,
                function: function.clone(),
                rule: seen.rule.name.clone(),
                of_node: seen.of_node,
                adds,
            });
        }
    }
    memory.moved.insert((function.clone(), session.session.clone()), input.now);
    memory.spend(input.now, session.bytes);
}

/// The rule that still wants sessions to go, the worst first.
fn still_needed<'a, 'b>(seen: &'b [Seen<'a>]) -> Option<&'b Seen<'a>> {
    let strain = |seen: &Seen<'_>| {
        let expected = seen.expected()?;
        let value = seen.reading.value?;
        // Both: what is seen, and what is expected once the last moves show.
        (expected > seen.rule.low && value > seen.rule.low)
            .then(|| (expected - seen.rule.low) / (seen.rule.high - seen.rule.low))
    };
    seen.iter()
        .filter_map(|seen| Some((strain(seen)?, seen)))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, seen)| seen)
}

/// Why a session may not move, whichever way.
fn may_move(
    input: &Input<'_>,
    memory: &Memory,
    function: &FunctionName,
    session: &SessionView,
) -> Result<(), String> {
    if session.pinned {
        return Err("it is pinned".to_owned());
    }
    let dwell = input.settings.dwell.as_millis();
    let by_memory = memory
        .moved
        .get(&(function.clone(), session.session.clone()))
        .map(|at| input.now.saturating_sub(*at));
    let ago = by_memory.into_iter().chain(session.arrived).min();
    match ago {
        Some(ago) if ago < dwell => {
            Err(format!("it moved {} ago and stays for {}", rounded(ago), input.settings.dwell))
        }
        _ => Ok(()),
    }
}

/// Whether what a session brings leaves every rule below its low watermark.
fn fits(seen: &[Seen<'_>], watch: &Watch, session: &SessionView) -> Result<(), String> {
    for seen in seen {
        let brings = victims::burden(seen, watch, session);
        if let Some(expected) = seen.expected()
            && brings > 0.0
            && expected + brings >= seen.rule.low
        {
            return Err(format!(
                "it would bring {} to about {}, and {} is its low watermark",
                seen.rule.name,
                number(expected + brings),
                number(seen.rule.low)
            ));
        }
    }
    Ok(())
}

/// Why none of a function's sessions go up now.
fn why_not_up(
    watch: &Watch,
    view: &FunctionView,
    settings: &PolicySettings,
    now: Millis,
) -> Option<String> {
    if let Some(held) = &view.held {
        return Some(held.clone());
    }
    if !view.above {
        return Some("this is the root: there is no node above".to_owned());
    }
    if watch.phase != Phase::Relieving {
        return Some("no rule is at its high watermark".to_owned());
    }
    if now < watch.not_up_before {
        let left = rounded(watch.not_up_before - now);
        return Some(format!("a move up failed; the next is tried in {left}"));
    }
    let cooldown = settings.cooldown.as_millis();
    watch.last_down.map(|at| now.saturating_sub(at)).filter(|ago| *ago < cooldown).map(|ago| {
        let left = rounded(cooldown - ago);
        format!("sessions came home just now: {left} of the cooldown are left")
    })
}

/// Why none of a function's sessions come home now.
fn why_not_down(
    watch: &Watch,
    view: &FunctionView,
    seen: &[Seen<'_>],
    settings: &PolicySettings,
    began: Millis,
    now: Millis,
) -> Option<String> {
    if let Some(held) = &view.held {
        return Some(held.clone());
    }
    if !view.above {
        return Some("this is the root: there is no node above".to_owned());
    }
    if watch.phase != Phase::Calm {
        return Some(format!("it is {}", watch.phase));
    }
    if let Err(why) = judge::low_enough_to_onload(seen) {
        return Some(why);
    }
    let cooldown = settings.cooldown.as_millis();
    let since = [Some(began), watch.last_up].into_iter().flatten().max();
    if let Some(ago) = since.map(|at| now.saturating_sub(at)).filter(|ago| *ago < cooldown) {
        let left = rounded(cooldown - ago);
        return Some(format!("{left} of the cooldown are left"));
    }
    let until = watch.not_home_before.max(watch.not_down_before);
    (now < until).then(|| {
        let left = rounded(until - now);
        format!("the last return was too early, or failed; the next is tried in {left}")
    })
}

/// For people: whole seconds, none too few.
fn rounded(millis: Millis) -> Span {
    Span::secs(millis.div_ceil(1000))
}

/// The candidate that would have been next.
fn next_best(candidates: &[victims::Candidate<'_>], chosen: &SessionView) -> Option<Alternative> {
    let at = candidates.iter().position(|it| it.session.session == chosen.session)?;
    let next = candidates.get(at + 1)?;
    let why_not = "it comes after this one in the order".to_owned();
    Some(Alternative { what: describe(next.session), why_not })
}

/// The rules that ask for nothing.
pub(super) fn quiet_rules(seen: &[Seen<'_>]) -> Vec<Alternative> {
    let quiet = seen.iter().filter_map(|seen| {
        let why_not = match seen.reading.value {
            None => "what is unknown triggers nothing".to_owned(),
            Some(value) if value < seen.rule.high => {
                format!("{}, below its high watermark {}", seen.reading, number(seen.rule.high))
            }
            Some(_) => return None,
        };
        Some(Alternative { what: format!("rule {}", seen.rule.name), why_not })
    });
    quiet.collect()
}

fn describe(session: &SessionView) -> String {
    let rate = session.rate.map_or_else(String::new, |rate| format!(", {}/s", number(rate)));
    format!("session {} ({} bytes{rate})", session.session.log_hash(), session.bytes)
}

/// How a function stands.
pub(super) fn verdict(
    input: &Input<'_>,
    memory: &Memory,
    function: &FunctionName,
    view: &FunctionView,
    seen: &[Seen<'_>],
) -> Verdict {
    let default = Watch::default();
    let watch = memory.watches.get(function).unwrap_or(&default);
    let not_up = why_not_up(watch, view, input.settings, input.now);
    let not_down = why_not_down(watch, view, seen, input.settings, memory.began, input.now);
    let budget = memory.budget(input.settings);
    let relieving = watch.phase == Phase::Relieving;
    let why = match if relieving { &not_up } else { &not_down } {
        Some(why) => why.clone(),
        None if budget.moves == 0 => "the moves of this interval are used up".to_owned(),
        None if relieving && still_needed(seen).is_none() => {
            "enough sessions have gone; their effect is still to show".to_owned()
        }
        None if relieving => "sessions go up as the budget allows".to_owned(),
        None if view.away.is_empty() => "no session is known to be away".to_owned(),
        None => "sessions come home as the budget allows".to_owned(),
    };
    Verdict {
        function: function.clone(),
        phase: watch.phase,
        since: watch.since,
        readings: readings(seen),
        why,
        would_change: would_change(watch, view, seen),
        wants_here: not_up.is_none(),
        wants_away: not_down.is_none(),
    }
}

fn would_change(watch: &Watch, view: &FunctionView, seen: &[Seen<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    if view.held.is_some() || !view.above {
        return all;
    }
    for Seen { rule, reading, .. } in seen {
        let Some(value) = reading.value else {
            all.push(format!("{}: its signals become known ({})", rule.name, names(rule)));
            continue;
        };
        match watch.phase {
            Phase::Calm | Phase::Holding => {
                all.push(format!(
                    "sessions go up when {} reaches {}",
                    rule.name,
                    number(rule.high)
                ));
                if value > rule.onload {
                    all.push(format!(
                        "sessions come home when {} falls to {}",
                        rule.name,
                        number(rule.onload)
                    ));
                }
            }
            Phase::Relieving if value > rule.low => {
                all.push(format!("offload stops when {} falls to {}", rule.name, number(rule.low)));
            }
            Phase::Relieving => {}
        }
    }
    all
}

fn names(rule: &super::settings::Rule) -> String {
    rule.signals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
