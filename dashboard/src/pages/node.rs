//! One node: its functions, sessions and oracle.

use funicular::peers::messages::OffloadStatus;
use funicular::session::NodeName;
use maud::{Markup, html};

use super::tree::{badges, times};
use super::{Shown, actions, node_link, session_link, words};
use crate::watch::view::{DrainView, FunctionView, NodeView, OracleView, Reach};

pub(super) fn node(shown: Shown<'_>, name: &NodeName) -> Markup {
    html! {
        section #node aria-label={ "Node " (name) } {
            @match shown.view.node(name) {
                None => p { "The tree has no such node." },
                Some(node) => {
                    p {
                        (node.level)
                        @if let Some(parent) = &node.parent { ", below " (node_link(parent)) }
                        ", at " code { (node.gateway) }
                    }
                    (badges(node))
                    @if let Reach::Silent { why, .. } = &node.reach { p.bad { (why) } }
                    (actions::of_node(shown, node))
                    (functions(node))
                    (sessions(shown, node))
                    (oracle(&node.oracle))
                }
            }
        }
    }
}

fn functions(node: &NodeView) -> Markup {
    html! {
        h2 #functions-title { "Functions" }
        div.scrolls tabindex="0" role="region" aria-labelledby="functions-title" { table {
            thead { tr {
                th scope="col" { "Function" } th scope="col" { "Status" }
                th scope="col" { "Requests" } th scope="col" { "In flight" }
                th scope="col" { "p50" } th scope="col" { "p99" }
                th scope="col" { "Sessions" } th scope="col" { "Bytes" }
                th scope="col" { "In doubt" } th scope="col" { "Store" }
                th scope="col" { "Version" }
            } }
            tbody { @for function in &node.functions {
                tr data-key={ "function-" (function.name) } { (function_row(function)) }
            } }
        } }
    }
}

fn function_row(function: &FunctionView) -> Markup {
    let load = &function.load;
    let plain = |number: Option<u64>| words::known(number, |number| number.to_string());
    html! {
        th scope="row" { (function.name) }
        td {
            @match (&function.reach, function.status) {
                (Reach::Silent { why, .. }, _) => span.bad { "silent: " (why) },
                (_, Some(OffloadStatus::Accept)) => "accepts",
                (_, Some(OffloadStatus::Reject)) => "rejects",
                (_, None) => (words::UNKNOWN),
            }
            @if let Some(drain) = &function.drain { ", " (drained(drain)) }
            @if function.restoring { ", being restored" }
        }
        td.number { (words::known(load.requests_per_s, words::rate)) }
        td.number { (plain(load.in_flight)) }
        td.number { (times(load.requests_per_s, load.latency_p50_us)) }
        td.number { (times(load.requests_per_s, load.latency_p99_us)) }
        td.number { (plain(load.sessions)) }
        td.number { (words::known(load.bytes, words::size)) }
        td.number { (plain(function.pending)) }
        td { (function.store.as_deref().unwrap_or(words::UNKNOWN)) }
        td { (function.version.as_deref().unwrap_or(words::UNKNOWN)) }
    }
}

fn drained(drain: &DrainView) -> String {
    let state = words::known(drain.state, |state| format!("{state:?}").to_lowercase());
    let left = match drain.left {
        Some(left) => format!("{left} left"),
        None => format!("left {}", words::UNKNOWN),
    };
    format!("drain {state}: {} moved, {left}", drain.moved)
}

fn sessions(shown: Shown<'_>, node: &NodeView) -> Markup {
    let listed = node.functions.iter().flat_map(|function| {
        let sessions = function.listed.iter().flatten();
        sessions.map(move |session| (&function.name, session))
    });
    let mut listed = listed.peekable();
    let all = node.functions.iter().all(|function| function.listed_all);
    html! {
        h2 #sessions-title { "Sessions" }
        @if listed.peek().is_none() {
            @let none = all && node.reach.answers();
            p.hint { (if none { "None is here." } else { "Which are here is unknown." }) }
        } @else {
            @if !all { p.hint { "Some of them: the longest unused, and the most used." } }
            div.scrolls tabindex="0" role="region" aria-labelledby="sessions-title" { table {
                thead { tr {
                    th scope="col" { "Session" } th scope="col" { "Function" }
                    th scope="col" { "Home" } th scope="col" { "Size" }
                    th scope="col" { "Requests" } th scope="col" { "Unused for" }
                    th scope="col" { "Here since" }
                    @if shown.viewer.operator { th scope="col" { "Act" } }
                } }
                tbody { @for (function, session) in listed {
                    tr data-key={ "row-" (function) "-" (session.hash) } {
                        th scope="row" {
                            (session_link(shown.viewer, function, &session.id, &session.hash))
                        }
                        td { (function) }
                        td { (node_link(&session.home)) }
                        td.number { (words::size(session.bytes)) }
                        td.number { (words::known(session.rate, words::rate)) }
                        td.number { (words::ago(session.idle_ms)) }
                        td {
                            @match (&session.moving, session.arrived_ms) {
                                (Some(moving), _) => { "moving to " (node_link(&moving.to)) },
                                (None, Some(ago)) => (words::ago(ago)),
                                (None, None) => "a while",
                            }
                        }
                        @if shown.viewer.operator {
                            td { (actions::of_session(shown, node, function, session)) }
                        }
                    }
                } }
            } }
        }
    }
}

fn oracle(oracle: &OracleView) -> Markup {
    html! {
        h2 #oracle-title { "Oracle" }
        @match &oracle.reach {
            Reach::NotAsked => p.hint { "Where its oracle is, if it has one, is not known here." },
            Reach::Silent { why, .. } => p.bad { (why) },
            Reach::Answers => {
                p { "It is " (oracle.mode.as_deref().unwrap_or(words::UNKNOWN)) "." }
                @for (source, why) in &oracle.silent { p.bad { (source) " says nothing: " (why) } }
                dl.stands { @for stand in &oracle.functions {
                    div data-key={ "stand-" (stand.function) } {
                        dt { (stand.function) ": " (stand.phase) }
                        dd { (stand.why) @for change in &stand.would_change { p.hint { (change) } } }
                    }
                } }
                @if !oracle.signals.is_empty() {
                    div.scrolls tabindex="0" role="region" aria-label="Signals, a table" { table {
                        thead { tr {
                            th scope="col" { "Signal" } th scope="col" { "Of" } th scope="col" { "Value" }
                        } }
                        tbody { @for signal in &oracle.signals { tr {
                            th scope="row" { (signal.name) }
                            td {
                                @match &signal.function {
                                    Some(function) => (function),
                                    None => "the node",
                                }
                            }
                            td.number { (words::known(signal.value, words::number)) }
                        } } }
                    } }
                }
            }
        }
    }
}
