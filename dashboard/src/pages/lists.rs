//! Moves and decisions.

use maud::{Markup, html};

use super::{Page, Shown, node_link, session_link, short, time, words};
use crate::watch::view::{Cause, DecisionView, MoveView};

/// So many of each are shown beside the tree, and elsewhere.
const FEW: usize = 8;
const MOST: usize = 32;

fn most(page: &Page) -> usize {
    if *page == Page::Tree { FEW } else { MOST }
}

/// Moves, the latest first.
pub(super) fn moves<'a>(
    shown: Shown<'_>,
    moves: impl Iterator<Item = &'a MoveView>,
    id: &str,
) -> Markup {
    let mut moves = moves.peekable();
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { "Moves" }
            @if moves.peek().is_none() {
                p.hint { "None was seen yet." }
            } @else {
                div.scrolls tabindex="0" role="region" aria-label="Moves, a table" { table {
                    thead { tr {
                        th scope="col" { "When" } th scope="col" { "Session" }
                        th scope="col" { "From" } th scope="col" { "To" }
                        th scope="col" { "Size" } th scope="col" { "Took" }
                        th scope="col" { "Writes waited" } th scope="col" { "Asked for by" }
                    } }
                    tbody { @for moved in moves.take(most(shown.page)) {
                        tr data-key={ "move-" (moved.number) } {
                            td { (time(moved.at_ms)) }
                            td {
                                (moved.function) " "
                                (session_link(shown.viewer, &moved.function, &moved.id, &moved.hash))
                            }
                            td.whole { (node_link(&moved.from)) }
                            td.whole { (if moved.up { "↑ " } else { "↓ " }) (node_link(&moved.to)) }
                            td.number { (words::size(moved.bytes)) }
                            td.number { (words::millis(moved.took_ms)) }
                            td.number { (words::millis(moved.downtime_ms)) }
                            td { (cause(&moved.cause)) }
                        }
                    } }
                } }
                @if shown.view.moves_missed > 0 {
                    p.hint { (words::count(shown.view.moves_missed, "move")) " came too quickly to be shown." }
                }
            }
        }
    }
}

fn cause(cause: &Cause) -> Markup {
    html! {
        @match cause {
            Cause::Unknown => (words::UNKNOWN),
            Cause::Oracle { node, rule, why } => {
                "the oracle of " (node_link(node)) ", rule " b { (rule) } ": " (why)
            }
            Cause::Drain => "a drain",
            Cause::Operator => "an operator",
        }
    }
}

/// Decisions, the latest first.
pub(super) fn decisions<'a>(
    page: &Page,
    decisions: impl Iterator<Item = &'a DecisionView>,
    id: &str,
) -> Markup {
    let mut decisions = decisions.peekable();
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { "Decisions" }
            @if decisions.peek().is_none() {
                p.hint { "No oracle has decided anything yet." }
            } @else {
                div.scrolls tabindex="0" role="region" aria-label="Decisions, a table" { table {
                    thead { tr {
                        th scope="col" { "When" } th scope="col" { "Oracle of" }
                        th scope="col" { "What" } th scope="col" { "Rule" }
                        th scope="col" { "Why" } th scope="col" { "What became of it" }
                    } }
                    tbody { @for decision in decisions.take(most(page)) {
                        tr data-key={ "decision-" (decision.number) } {
                            td { (time(decision.at_ms)) }
                            td { (node_link(&decision.node)) }
                            td {
                                (decision.action) " " (decision.function)
                                @if let Some(hash) = &decision.session {
                                    " "
                                    a href={ "/session/" (decision.function) "/" (hash) } { (short(hash)) }
                                }
                            }
                            td { (decision.rule) }
                            td { (decision.why) }
                            td {
                                (decision.outcome)
                                @if !decision.detail.is_empty() { ": " (decision.detail) }
                            }
                        }
                    } }
                } }
            }
        }
    }
}
