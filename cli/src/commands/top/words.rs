//! Figures and sentences.

use funicular::peers::messages::DrainState;
use funicular::session::SessionId;
use funicular_dashboard::watch::view::{
    Cause, DecisionView, DrainView, Load, MoveView, Moving, NodeView, Reach, View, What,
};

use super::rows::News;
use crate::output::{NONE, size};

/// What stands where nobody knows.
pub(super) const UNKNOWN: &str = "?";

/// A figure that may be unknown.
pub(super) fn known<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or(UNKNOWN.to_owned(), text)
}

/// A count that may be unknown.
pub(super) fn number(value: Option<u64>) -> String {
    known(value, |value| value.to_string())
}

/// A sum of figures, some of which may be unknown.
pub(super) fn sum<T: std::iter::Sum<T> + Copy>(
    figures: impl Iterator<Item = Option<T>> + Clone,
    text: impl FnOnce(T) -> String,
) -> String {
    let known: Vec<T> = figures.clone().flatten().collect();
    let missing = figures.count() - known.len();
    match (known.is_empty(), missing) {
        (true, _) => UNKNOWN.to_owned(),
        (false, 0) => text(known.into_iter().sum()),
        (false, _) => format!("≥{}", text(known.into_iter().sum())),
    }
}

/// Requests a second.
pub(super) fn rate(value: Option<f64>) -> String {
    known(value, |value| match value {
        0.0 => "0".to_owned(),
        value if value < 9.95 => format!("{value:.1}"),
        value if value < 99_500.0 => format!("{value:.0}"),
        value => format!("{:.0}k", value / 1000.0),
    })
}

/// A latency of a load; where there was no request, there is none.
pub(super) fn latency(load: &Load, microseconds: Option<u64>) -> String {
    match microseconds {
        None if load.requests_per_s == Some(0.0) => NONE.to_owned(),
        other => known(other, time),
    }
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn time(microseconds: u64) -> String {
    let us = microseconds as f64;
    match microseconds {
        0..1_000 => format!("{us:.0} µs"),
        1_000..9_950 => format!("{:.1} ms", us / 1e3),
        9_950..999_500 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

/// A share of 1.
pub(super) fn percent(share: Option<f64>) -> String {
    known(share, |share| format!("{:.0}%", share * 100.0))
}

/// For how long, in milliseconds.
pub(super) fn age(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Moves at a node: those that come, and those that leave.
pub(super) fn moves(load: &Load) -> String {
    match (load.coming, load.leaving) {
        (Some(0), Some(0)) => NONE.to_owned(),
        (Some(coming), Some(leaving)) => format!("+{coming} -{leaving}"),
        _ => UNKNOWN.to_owned(),
    }
}

/// What an oracle is at.
pub(super) fn oracle(node: &NodeView) -> String {
    match (&node.oracle.reach, node.oracle.phase()) {
        (Reach::Answers, Some(phase)) => phase.to_owned(),
        (Reach::Answers, None) => node.oracle.mode.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        (Reach::NotAsked | Reach::Silent { .. }, _) => UNKNOWN.to_owned(),
    }
}

/// Where a session goes, and how much of it is there.
pub(super) fn moving(moving: &Moving) -> String {
    let percent = (moving.copied * 100).checked_div(moving.bytes).unwrap_or(0).min(100);
    format!("→ {} {percent}%", moving.to)
}

/// How far a drain is.
pub(super) fn drain(drain: &DrainView) -> String {
    let doing = match drain.state {
        None => "drain ?",
        Some(DrainState::Off) => return String::new(),
        Some(DrainState::Moving) => "drain goes on",
        Some(DrainState::Waiting) => "drain waits",
        Some(DrainState::Empty) => return format!("drained, {} moved", drain.moved),
    };
    let why = drain.waits_for.as_ref().or_else(|| drain.reasons.first().map(|first| &first.why));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{doing}, {} moved, {} left{why}", drain.moved, number(drain.left))
}

/// Why a node is not to be counted on, if it is not.
pub(super) fn silent(node: &NodeView, now_ms: u64) -> Option<String> {
    match &node.reach {
        Reach::Answers => None,
        Reach::NotAsked => Some("not heard of yet".to_owned()),
        Reach::Silent { since_ms, why } => {
            Some(format!("silent for {}: {why}", age(now_ms.saturating_sub(*since_ms))))
        }
    }
}

/// What happened, in one line.
pub(super) fn news(view: &View, news: &News<'_>) -> String {
    match news {
        News::Move(moved) => move_line(moved),
        News::Decision(decision) => decision_line(view, decision),
        News::Reach(event) => match &event.what {
            // It mostly names the node.
            What::Silent { node, why } if why.contains(node.as_str()) => why.clone(),
            other => other.to_string(),
        },
    }
}

fn move_line(moved: &MoveView) -> String {
    let MoveView { id, function, from, to, bytes, took_ms, downtime_ms, .. } = moved;
    let cause = match &moved.cause {
        Cause::Unknown => String::new(),
        Cause::Operator => " [by hand]".to_owned(),
        Cause::Drain => " [drain]".to_owned(),
        Cause::Oracle { rule, why, .. } => format!(" [{rule}] {why}"),
    };
    let size = size(*bytes);
    format!(
        "{id} of {function}: {from} → {to}, {size} in {took_ms:.1} ms, waited {downtime_ms:.1} \
         ms{cause}"
    )
}

fn decision_line(view: &View, decision: &DecisionView) -> String {
    let DecisionView { node, function, action, rule, why, outcome, detail, .. } = decision;
    let session = decision.session.as_ref().map(|hash| {
        let id = view.id_of(function, hash).map_or(hash.as_str(), SessionId::as_str);
        format!(" {id}")
    });
    let session = session.unwrap_or_default();
    let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
    format!("{node} decided {action}{session} of {function} [{rule}] {why} ({outcome}{detail})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_what_is_unknown_is_no_zero() {
        assert_eq!((number(None), rate(None), percent(None)), ("?".into(), "?".into(), "?".into()));
        assert_eq!(
            (rate(Some(0.0)), rate(Some(0.26)), rate(Some(12.4))),
            ("0".into(), "0.3".into(), "12".into())
        );
        assert_eq!(rate(Some(123_400.0)), "123k");
        for (us, text) in
            [(999, "999 µs"), (1_240, "1.2 ms"), (45_400, "45 ms"), (2_300_000, "2.3 s")]
        {
            assert_eq!(time(us), text);
        }
        for (ms, text) in [(900, "0s"), (61_000, "1m"), (7_200_000, "2h"), (172_800_000, "2d")] {
            assert_eq!(age(ms), text);
        }
    }

    #[test]
    fn a_sum_says_when_something_is_missing() {
        let told = |figures: &[Option<u64>]| sum(figures.iter().copied(), |sum| sum.to_string());
        assert_eq!(told(&[Some(2), Some(3)]), "5");
        assert_eq!(told(&[Some(2), None]), "≥2");
        assert_eq!(told(&[None, None]), "?");
    }

    #[test]
    fn of_a_drain_that_nobody_can_follow_the_rest_is_unknown() {
        let mut far = DrainView {
            state: Some(DrainState::Moving),
            moved: 3,
            left: None,
            failing: 0,
            reasons: Vec::new(),
            waits_for: None,
        };
        assert_eq!(drain(&far), "drain goes on, 3 moved, ? left");
        far.state = None;
        assert_eq!(drain(&far), "drain ?, 3 moved, ? left");
    }

    #[test]
    fn a_latency_without_requests_is_none_and_one_that_is_unknown_is_unknown() {
        let idle = Load { requests_per_s: Some(0.0), ..Load::default() };
        assert_eq!(latency(&idle, None), "-");
        assert_eq!(latency(&Load::default(), None), "?");
        assert_eq!(latency(&idle, Some(900)), "900 µs");
    }
}
