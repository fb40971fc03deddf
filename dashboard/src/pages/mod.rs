//! Pages, made on the server from a view. Markup only: no I/O, no clock.
//!
//! A page is a frame and a few fragments; while somebody looks, fragments that changed are
//! sent again. What comes from elsewhere is escaped by `maud`.
//!
//! - `frame`: what is around every page
//! - `tree`, `node`, `session`: one page each
//! - `actions`: forms for operators
//! - `lists`: moves and decisions
//! - `words`: numbers and times

mod actions;
mod frame;
mod lists;
mod node;
mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod words;

use funicular::peers::messages::Whereabouts;
use funicular::session::{FunctionName, NodeName, SessionId};
use maud::{Markup, html};

use crate::watch::view::View;
pub(crate) use actions::ALL;
pub use frame::document;
pub use words::size;

/// What somebody looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// The whole tree.
    Tree,
    /// One node.
    Node(NodeName),
    /// One session, by its hash.
    Session(FunctionName, String),
}

impl Page {
    /// Which page a path is; none for other paths.
    pub fn at(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            [""] => Some(Self::Tree),
            ["node", name] => Some(Self::Node(name.parse().ok()?)),
            ["session", function, hash] if is_hash(hash) => {
                Some(Self::Session(function.parse().ok()?, hash.to_owned()))
            }
            _ => None,
        }
    }

    /// Its path.
    pub fn path(&self) -> String {
        match self {
            Self::Tree => "/".to_owned(),
            Self::Node(name) => format!("/node/{name}"),
            Self::Session(function, hash) => format!("/session/{function}/{hash}"),
        }
    }
}

/// As [`SessionId::log_hash`] writes them.
fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Who looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Viewer {
    /// Somebody who has shown the operators' key: sees sessions' ids, and may act.
    pub operator: bool,
    /// Whether there is a key that could be shown.
    pub may_sign_in: bool,
}

impl Viewer {
    /// A session as this one may know it.
    fn name(self, id: &SessionId, hash: &str) -> String {
        if self.operator { id.to_string() } else { short(hash) }
    }
}

/// Enough of a hash to tell a session from others.
fn short(hash: &str) -> String {
    format!("#{}", hash.get(..8).unwrap_or(hash))
}

/// What became of something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether it was done.
    pub good: bool,
    /// A sentence.
    pub text: String,
}

/// What one node knows of a session: nothing, something, or it does not say.
pub type Word = Result<Option<Whereabouts>, String>;

/// What is shown.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// Which page.
    pub page: &'a Page,
    /// Of which view.
    pub view: &'a View,
    /// To whom.
    pub viewer: Viewer,
    /// Of a session's page: what nodes know of it, if they were asked.
    pub words: Option<&'a [(NodeName, Word)]>,
}

/// A part of a page that changes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The id of its element.
    pub id: &'static str,
    /// Its element.
    pub html: String,
}

/// All parts of a page that change.
pub fn fragments(shown: Shown<'_>) -> Vec<Fragment> {
    let markup = |id: &'static str, markup: Markup| Fragment { id, html: markup.into_string() };
    let Shown { page, view, .. } = shown;
    let mut all = vec![markup("summary", frame::summary(shown))];
    match page {
        Page::Tree => {
            all.push(markup("tree", tree::tree(shown)));
            all.push(markup("moves", lists::moves(shown, view.moves.iter(), "moves")));
            let decisions = view.decisions.iter();
            all.push(markup("decisions", lists::decisions(page, decisions, "decisions")));
        }
        Page::Node(name) => {
            let moves = view.moves.iter().filter(|it| it.from == *name || it.to == *name);
            let decisions = view.decisions.iter().filter(|decision| decision.node == *name);
            all.push(markup("node", node::node(shown, name)));
            all.push(markup("moves", lists::moves(shown, moves, "moves")));
            all.push(markup("decisions", lists::decisions(page, decisions, "decisions")));
        }
        Page::Session(function, hash) => {
            let decisions = view.decisions.iter();
            let decisions = decisions
                .filter(|it| it.function == *function && it.session.as_ref() == Some(hash));
            all.push(markup("session", session::session(shown, function, hash)));
            all.push(markup("moves", lists::moves(shown, view.moves_of(function, hash), "moves")));
            all.push(markup("decisions", lists::decisions(page, decisions, "decisions")));
        }
    }
    all
}

/// A link to a node's page.
fn node_link(name: &NodeName) -> Markup {
    html! { a href={ "/node/" (name) } { (name) } }
}

/// A link to a session's page.
fn session_link(viewer: Viewer, function: &FunctionName, id: &SessionId, hash: &str) -> Markup {
    html! { a href={ "/session/" (function) "/" (hash) } { (viewer.name(id, hash)) } }
}

/// A moment, as a time of day.
fn time(at_ms: u64) -> Markup {
    html! { time datetime=(words::moment(at_ms)) { (words::clock(at_ms)) } }
}
