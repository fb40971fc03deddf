//! Forms for operators. They work without a script.

use funicular::session::{FunctionName, NodeName};
use maud::{Markup, html};

use super::Shown;
use crate::watch::view::{NodeView, SessionView};

/// What stands for all functions of a node.
pub(crate) const ALL: &str = "*";

/// What can be done at a node.
pub(super) fn of_node(shown: Shown<'_>, node: &NodeView) -> Markup {
    let name = &node.name;
    if !shown.viewer.operator || !node.watched || node.functions.is_empty() {
        return html! {};
    }
    if node.parent.is_none() {
        return html! { p.hint { "Nobody is above the root: nothing leaves it upwards." } };
    }
    let sessions = |function: &&_| {
        let function: &crate::watch::view::FunctionView = function;
        function.load.sessions.unwrap_or(0)
    };
    let busiest = node.functions.iter().max_by_key(sessions).map(|function| &function.name);
    let drained = node.functions.iter().any(|function| function.drain.is_some());
    let select = format!("function-of-{name}");
    html! {
        details.actions id={ "act-" (name) } {
            summary { "Act on " (name) }
            form method="post" action="/act" {
                input type="hidden" name="node" value=(name);
                input type="hidden" name="back" value=(shown.page.path());
                label for=(select) { "Function" }
                select id=(select) name="function" {
                    @for function in &node.functions {
                        option data-key=(function.name) value=(function.name)
                            selected[Some(&function.name) == busiest] { (function.name) }
                    }
                    option data-key=(ALL) value=(ALL) { "all functions" }
                }
                div.buttons {
                    (button("offload", "Offload", &format!("Offload a session from {name}")))
                    (button("onload", "Onload", &format!("Bring a session back to {name}")))
                    (button("accept", "Accept", &format!("Let {name} take sessions from below")))
                    (button("reject", "Reject", &format!("Let {name} take no sessions from below")))
                    (button("drain", "Drain", &format!("Drain {name}: move all sessions up")))
                    @if drained {
                        (button("undrain", "End the drain", &format!("End the drain of {name}")))
                    }
                }
            }
        }
    }
}

/// What can be done with a session at a node: up, or back to its home.
pub(super) fn of_session(
    shown: Shown<'_>,
    node: &NodeView,
    function: &FunctionName,
    session: &SessionView,
) -> Markup {
    if !shown.viewer.operator {
        return html! {};
    }
    let (id, name) = (&session.id, &node.name);
    html! {
        div.buttons {
            @if node.parent.is_some() {
                (one(shown, (name, function, session), "offload", "Offload",
                    &format!("Offload session {id} from {name}")))
            }
            @if session.home != *name {
                (one(shown, (&session.home, function, session), "onload", "Bring home",
                    &format!("Bring session {id} home to {}", session.home)))
            }
        }
    }
}

fn one(
    shown: Shown<'_>,
    (at, function, session): (&NodeName, &FunctionName, &SessionView),
    action: &str,
    word: &str,
    label: &str,
) -> Markup {
    html! {
        form method="post" action="/act" {
            input type="hidden" name="node" value=(at);
            input type="hidden" name="function" value=(function);
            input type="hidden" name="session" value=(session.hash);
            input type="hidden" name="back" value=(shown.page.path());
            (button(action, word, label))
        }
    }
}

fn button(action: &str, word: &str, label: &str) -> Markup {
    html! { button type="submit" name="action" value=(action) aria-label=(label) { (word) } }
}
