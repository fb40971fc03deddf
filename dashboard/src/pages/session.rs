//! One session: where it is, and what nodes know of it.

use funicular::session::FunctionName;
use maud::{Markup, html};

use super::{Shown, actions, node_link, words};
use crate::watch::view::SessionView;

pub(super) fn session(shown: Shown<'_>, function: &FunctionName, hash: &str) -> Markup {
    let found = shown.view.session(function, hash);
    let last = shown.view.moves_of(function, hash).next();
    let id = shown.view.id_of(function, hash).filter(|_| shown.viewer.operator);
    html! {
        section #session aria-label="Where it is" {
            p {
                @if let Some(id) = id { "Session " code { (id) } ", in logs " code { (hash) } }
                @else { "Session " code { (hash) } }
                " of " (function) "."
            }
            @match (found, last) {
                (Some((node, session)), _) => {
                    p.where { "It is at " (node_link(&node.name)) ". " (about(session)) }
                    (actions::of_session(shown, node, function, session))
                }
                (None, Some(moved)) => {
                    p.where { "It came to " (node_link(&moved.to)) ", and was not seen anywhere since." }
                }
                (None, None) => {
                    p.where { "It is not among the sessions that nodes have listed of late, and no \
                               move of it was seen." }
                }
            }
            @if let Some(words) = shown.words { (said(words)) }
        }
    }
}

fn about(session: &SessionView) -> Markup {
    html! {
        "Its home is " (node_link(&session.home)) "; " (words::size(session.bytes)) ", requests "
        (words::known(session.rate, words::rate)) "."
        @if let Some(moving) = &session.moving {
            " It is moving to " (node_link(&moving.to)) ": " (words::size(moving.copied)) " of "
            (words::size(moving.bytes)) "."
        }
    }
}

fn said(said: &[(funicular::session::NodeName, super::Word)]) -> Markup {
    html! {
        h2 #knows-title { "What nodes know of it" }
        div.scrolls tabindex="0" role="region" aria-labelledby="knows-title" { table {
            thead { tr {
                th scope="col" { "Node" } th scope="col" { "Record" } th scope="col" { "Where" }
                th scope="col" { "Epoch" } th scope="col" { "Keys" } th scope="col" { "Size" }
            } }
            tbody { @for (node, word) in said {
                tr data-key={ "knows-" (node) } {
                    th scope="row" { (node_link(node)) }
                    @match word {
                        Err(why) => td colspan="5" { (why) },
                        Ok(None) => td colspan="5" { "nothing" },
                        Ok(Some(known)) => {
                            td { (known.state) }
                            td { (node_link(&known.location)) }
                            td.number { (known.token.epoch) }
                            td.number { @if let Some(keys) = known.keys { (keys) } }
                            td.number { @if let Some(bytes) = known.bytes { (words::size(bytes)) } }
                        }
                    }
                }
            } }
        } }
    }
}
