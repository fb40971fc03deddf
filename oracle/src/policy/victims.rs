//! Which session is next, and what its move would do.

use std::cmp::Ordering;

use funicular::session::FunctionName;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::judge::{Seen, whole};
use super::settings::{PolicySettings, RelievedBy, Victims};
use super::view::{FunctionView, SessionView};
use super::{Input, memory::Watch};

/// A session that might go.
pub(super) struct Candidate<'a> {
    pub(super) function: &'a FunctionName,
    pub(super) session: &'a SessionView,
    pub(super) priority: i32,
    /// By benefit: what the node is relieved of for a second of what its move costs.
    pub(super) benefit: f64,
    chance: u64,
}

/// All candidates to go up, the first to go first.
pub(super) fn going_up<'a>(
    input: &Input<'a>,
    functions: impl Iterator<Item = (&'a FunctionName, &'a FunctionView, Option<RelievedBy>)>,
) -> Vec<Candidate<'a>> {
    let mut all: Vec<_> = functions
        .flat_map(|(function, view, by)| {
            view.here.iter().map(move |session| Candidate {
                function,
                session,
                priority: view.priority,
                benefit: benefit(session, view, by.unwrap_or_default(), input.settings),
                chance: 0,
            })
        })
        .collect();
    if input.settings.victims == Victims::Random {
        let mut chance = StdRng::seed_from_u64(input.seed ^ input.now);
        all.shuffle(&mut chance);
        for candidate in &mut all {
            candidate.chance = chance.random();
        }
    }
    let order = input.settings.victims;
    all.sort_by(|a, b| {
        a.priority
            .cmp(&b.priority)
            .then_with(|| compare(order, a, b))
            .then_with(|| a.function.cmp(b.function))
            .then_with(|| a.session.session.cmp(&b.session.session))
    });
    all
}

fn compare(order: Victims, a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let rate = |candidate: &Candidate<'_>| candidate.session.rate.unwrap_or(0.0);
    match order {
        Victims::Benefit => b.benefit.total_cmp(&a.benefit),
        Victims::Largest => b.session.bytes.cmp(&a.session.bytes),
        Victims::LeastRecentlyUsed => b.session.idle.cmp(&a.session.idle),
        Victims::Hottest => rate(b).total_cmp(&rate(a)),
        Victims::Random => a.chance.cmp(&b.chance),
    }
}

/// What the node is relieved of, against the seconds that it costs: carrying the bytes,
/// and the longer way of every request for as long as the session has to stay away.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn benefit(
    session: &SessionView,
    view: &FunctionView,
    by: RelievedBy,
    settings: &PolicySettings,
) -> f64 {
    let carrying = seconds_to_carry(session.bytes, settings);
    let rate = session.rate.unwrap_or(0.0);
    let longer_way = rate * settings.hop.as_secs() * settings.dwell.as_secs();
    let relief = match by {
        RelievedBy::Requests => {
            session.rate.unwrap_or_else(|| view.requests() / (view.sessions.max(1) as f64))
        }
        RelievedBy::Bytes => session.bytes as f64,
    };
    relief / (carrying + longer_way)
}

/// How long a move takes, about; none takes less than a few round trips.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn seconds_to_carry(bytes: u64, settings: &PolicySettings) -> f64 {
    const ROUND_TRIPS: f64 = 4.0;
    ROUND_TRIPS * settings.hop.as_secs().max(0.000_1) + bytes as f64 / settings.bandwidth as f64
}

/// All candidates to come home: those first whose requests gain most for their bytes.
pub(super) fn coming_home<'a>(
    input: &Input<'a>,
    function: &'a FunctionName,
    view: &'a FunctionView,
) -> Vec<Candidate<'a>> {
    let gain = |session: &SessionView| {
        let rate = session.rate.unwrap_or(0.0);
        let saved = rate * input.settings.hop.as_secs() * input.settings.dwell.as_secs();
        saved / seconds_to_carry(session.bytes, input.settings)
    };
    let mut all: Vec<_> = view
        .away
        .iter()
        .map(|session| Candidate {
            function,
            session,
            priority: view.priority,
            benefit: gain(session),
            chance: 0,
        })
        .collect();
    all.sort_by(|a, b| {
        b.benefit
            .total_cmp(&a.benefit)
            .then_with(|| a.session.idle.cmp(&b.session.idle))
            .then_with(|| a.session.session.cmp(&b.session.session))
    });
    all
}

/// What a session takes off a rule's value when it goes.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn relief(
    input: &Input<'_>,
    seen: &Seen<'_>,
    view: &FunctionView,
    session: &SessionView,
) -> f64 {
    let Some(value) = seen.reading.value else { return 0.0 };
    let all = whole(input, seen, view);
    let own = match seen.rule.relieved_by {
        RelievedBy::Requests => session.rate,
        RelievedBy::Bytes => Some(session.bytes as f64),
    };
    let share = match own {
        Some(own) if all > 0.0 => own / all,
        // Nothing is known of it: it is like any other.
        _ => 1.0 / (view.sessions.max(1) as f64),
    };
    value * share.min(1.0)
}

/// What a session adds to a rule's value when it comes, as far as that was ever seen.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn burden(seen: &Seen<'_>, watch: &Watch, session: &SessionView) -> f64 {
    let own = match seen.rule.relieved_by {
        RelievedBy::Requests => session.rate.unwrap_or(0.0),
        RelievedBy::Bytes => session.bytes as f64,
    };
    watch.costs.get(&seen.rule.name).copied().unwrap_or(0.0) * own
}
