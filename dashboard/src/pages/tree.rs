//! The tree: each node with its load, those below it inside.

use funicular::session::NodeName;
use maud::{Markup, html};

use super::{Shown, actions, node_link, session_link, time, words};
use crate::watch::view::{NodeView, Reach, Takes};

/// So many sessions of a node are shown.
const SESSIONS: usize = 12;

/// What bars are measured by: the largest there is.
#[derive(Debug, Clone, Copy)]
struct Scale {
    requests: f64,
    sessions: u64,
}

pub(super) fn tree(shown: Shown<'_>) -> Markup {
    let rates = shown.view.nodes.iter().filter_map(|node| node.load.requests_per_s);
    let sessions = shown.view.nodes.iter().filter_map(|node| node.load.sessions).max();
    let scale =
        Scale { requests: rates.fold(1.0, f64::max), sessions: sessions.unwrap_or(0).max(1) };
    html! {
        section #tree aria-label="Nodes" {
            p.hint { "Bars are relative to the node that has most." }
            (children(shown, None, scale))
        }
    }
}

fn children(shown: Shown<'_>, of: Option<&NodeName>, scale: Scale) -> Markup {
    let below = shown.view.nodes.iter().filter(|node| node.parent.as_ref() == of);
    let below: Vec<&NodeView> = below.collect();
    html! {
        @if !below.is_empty() {
            ul.nodes { @for node in below {
                li data-key={ "node-" (node.name) } {
                    (card(shown, node, scale))
                    (children(shown, Some(&node.name), scale))
                }
            } }
        }
    }
}

fn card(shown: Shown<'_>, node: &NodeView, scale: Scale) -> Markup {
    let load = &node.load;
    let heading = format!("name-of-{}", node.name);
    html! {
        article.node aria-labelledby=(heading) data-phase=(node.oracle.phase().unwrap_or("unknown"))
            data-silent[matches!(node.reach, Reach::Silent { .. })] {
            h2 id=(heading) { (node_link(&node.name)) " " span.level { (node.level) } }
            (badges(node))
            @if node.watched {
                dl.load {
                    div {
                        dt { "Requests" }
                        dd {
                            @if let Some(rate) = load.requests_per_s {
                                (bar(rate / scale.requests, "requests"))
                            }
                            " " (words::known(load.requests_per_s, words::rate))
                        }
                    }
                    div {
                        dt { "Sessions" }
                        dd {
                            @if let Some(count) = load.sessions {
                                (bar(share(count, scale.sessions), "sessions"))
                            }
                            " " (words::known(load.sessions, |count| count.to_string()))
                            @if let Some(bytes) = load.bytes { ", " (words::size(bytes)) }
                        }
                    }
                    @if let Some(memory) = load.memory {
                        div {
                            dt { "Memory" }
                            dd { (bar(memory, "memory")) " " (format!("{:.0} %", memory * 100.0)) }
                        }
                    }
                    div { dt { "In flight" } dd { (words::known(load.in_flight, |it| it.to_string())) } }
                    div { dt { "p50, p99" } dd { (times(load.requests_per_s, load.latency_p50_us)) ", "
                        (times(load.requests_per_s, load.latency_p99_us)) } }
                    @if load.coming.unwrap_or(0) + load.leaving.unwrap_or(0) + load.waiting.unwrap_or(0) > 0 {
                        div {
                            dt { "Moves" }
                            dd {
                                (load.coming.unwrap_or(0)) " coming, " (load.leaving.unwrap_or(0))
                                " leaving, " (load.waiting.unwrap_or(0)) " waiting"
                            }
                        }
                    }
                }
                (sessions(shown, node))
                (actions::of_node(shown, node))
            }
        }
    }
}

/// Times are there only if there was a request.
pub(super) fn times(rate: Option<f64>, micros: Option<u64>) -> String {
    match (rate, micros) {
        (_, Some(micros)) => words::micros(micros),
        (Some(_), None) => "none".to_owned(),
        (None, None) => words::UNKNOWN.to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a bar is a few dozen pixels long")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// A bar; the number beside it says the same in words.
fn bar(share: f64, of: &str) -> Markup {
    let share = share.clamp(0.0, 1.0);
    html! {
        meter min="0" max="1" value=(format!("{share:.3}")) aria-label={ (of) ", share" } {}
    }
}

/// How a node is, in words.
pub(super) fn badges(node: &NodeView) -> Markup {
    let draining = node.functions.iter().any(|function| function.drain.is_some());
    let restoring = node.functions.iter().any(|function| function.restoring);
    html! {
        ul.badges {
            @if node.watched { @match &node.reach {
                Reach::NotAsked => li { "not asked yet" },
                Reach::Answers => li.good { "answers" },
                Reach::Silent { since_ms, why } => {
                    li.bad title=(why) { "silent since " (time(*since_ms)) }
                }
            } } @else {
                li { "not watched from here" }
            }
            @match node.takes {
                Takes::Unknown => {},
                Takes::Accept => li { "accepts sessions" },
                Takes::Reject => li.warn { "rejects sessions" },
                Takes::Mixed => li.warn { "accepts sessions of some functions" },
            }
            @if draining { li.warn { "being drained" } }
            @if restoring { li.bad { "being restored" } }
            @if node.entry { li { "entry" } }
            @match (&node.oracle.mode, node.oracle.phase()) {
                (None, _) => {},
                (Some(mode), None) => li { "oracle " (mode) },
                (Some(mode), Some(phase)) => {
                    li.warn[phase != "calm"] { "oracle " (mode) ", " (phase) }
                }
            }
            @for (source, why) in &node.oracle.silent {
                li.warn title=(why) { "source " (source) " is silent" }
            }
        }
    }
}

fn sessions(shown: Shown<'_>, node: &NodeView) -> Markup {
    let listed = node.functions.iter().flat_map(|function| {
        let sessions = function.listed.iter().flatten();
        sessions.enumerate().map(move |(turn, session)| (turn, &function.name, session))
    });
    let mut listed: Vec<_> = listed.collect();
    let more = node.load.sessions.unwrap_or(0).saturating_sub(listed.len().min(SESSIONS) as u64);
    // Of each function one, then of each another: a busy one leaves room for the others.
    listed.sort_by_key(|(turn, ..)| *turn);
    listed.truncate(SESSIONS);
    // In an order that stays.
    listed.sort_by_key(|(_, function, session)| {
        (*function, shown.viewer.name(&session.id, &session.hash))
    });
    html! {
        @if !listed.is_empty() {
            ul.sessions data-key="sessions" aria-label={ "Sessions at " (node.name) } {
                @for (_, function, session) in &listed {
                    li data-key={ "at-" (function) "-" (session.hash) }
                        data-session={ (function) "/" (session.hash) }
                        data-new[session.arrived_ms.is_some_and(|ago| ago < 10_000)] {
                        (session_link(shown.viewer, function, &session.id, &session.hash))
                        " " span.what { (function) ", " (words::size(session.bytes)) }
                        @if session.home != node.name { span.what { ", home " (session.home) } }
                        @if let Some(moving) = &session.moving { span.what { ", moving to " (moving.to) } }
                    }
                }
                @if more > 0 { li.more data-key="more" { (more) " more" } }
            }
        }
    }
}
