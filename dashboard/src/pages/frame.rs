//! What is around every page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Notice, Page, Shown, fragments, words};

/// A whole page, with what became of the last thing that was asked for.
pub fn document(shown: Shown<'_>, notice: Option<&Notice>) -> String {
    let title = match shown.page {
        Page::Tree => "The tree".to_owned(),
        Page::Node(name) => name.to_string(),
        Page::Session(function, _) => format!("A session of {function}"),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Funicular" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/dashboard.css";
                script src="/assets/dashboard.js" defer {}
            }
            body data-page=(shown.page.path()) {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    p.brand { a href="/" { "Funicular" } }
                    p #connection role="status" data-state="off" { "not live: reload to see what has changed" }
                    (sign_in(shown))
                }
                p #notice role="status" data-good=[notice.map(|it| it.good.to_string())] {
                    (notice.map(|it| it.text.as_str()).unwrap_or_default())
                }
                p #said.unseen aria-live="polite" {}
                main #main tabindex="-1" {
                    h1 { (title) }
                    @for fragment in fragments(shown) { (PreEscaped(fragment.html)) }
                }
                footer {
                    p { "Times are UTC. What is unknown says so, and is never shown as zero." }
                }
            }
        }
    };
    page.into_string()
}

/// One line about all nodes.
pub(super) fn summary(shown: Shown<'_>) -> Markup {
    let view = shown.view;
    let watched = view.nodes.iter().filter(|node| node.watched);
    let (all, answering) =
        watched.fold((0, 0), |(all, up), node| (all + 1, up + u64::from(node.reach.answers())));
    let watched = view.nodes.iter().filter(|node| node.watched);
    let sessions: Option<u64> = watched.clone().map(|node| node.load.sessions).sum();
    let requests: Option<f64> = watched.map(|node| node.load.requests_per_s).sum();
    html! {
        p #summary {
            (answering) " of " (words::count(all, "node")) " " (if answering == 1 { "answers" } else { "answer" }) " · "
            @match sessions {
                Some(sessions) => (words::count(sessions, "session")),
                None => "sessions unknown",
            }
            " · requests " (words::known(requests, words::rate))
        }
    }
}

fn sign_in(shown: Shown<'_>) -> Markup {
    let back = shown.page.path();
    html! {
        @if shown.viewer.operator {
            form.sign method="post" action="/logout" {
                input type="hidden" name="back" value=(back);
                span { "You are an operator." }
                button type="submit" { "Sign out" }
            }
        } @else if shown.viewer.may_sign_in {
            form.sign method="post" action="/login" {
                input type="hidden" name="back" value=(back);
                label for="key" { "Operators' key" }
                input #key type="password" name="key" required autocomplete="off"
                    maxlength="512" spellcheck="false";
                button type="submit" { "Sign in" }
            }
        }
    }
}
