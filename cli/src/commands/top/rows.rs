//! What of a view is shown, and in which order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use funicular::session::{FunctionName, NodeName};
use funicular_dashboard::watch::view::{
    DecisionView, Event, FunctionView, Load, MoveView, NodeView, SessionView, Takes, View, What,
};

use super::state::{NodesBy, SessionKey, SessionsBy, State};

/// A node that is shown.
pub(super) struct NodeRow<'a> {
    pub(super) node: &'a NodeView,
    /// What stands before its name.
    pub(super) branch: String,
}

/// A session that is shown.
pub(super) struct SessionRow<'a> {
    pub(super) function: &'a FunctionName,
    pub(super) session: &'a SessionView,
}

impl SessionRow<'_> {
    /// Its name for later.
    pub(super) fn key(&self) -> SessionKey {
        SessionKey { function: self.function.clone(), hash: self.session.hash.clone() }
    }
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub(super) enum News<'a> {
    Move(&'a MoveView),
    Decision(&'a DecisionView),
    /// A node went silent, or came back.
    Reach(&'a Event),
}

impl News<'_> {
    /// When, in milliseconds since 1970.
    pub(super) fn at_ms(&self) -> u64 {
        match self {
            Self::Move(moved) => moved.at_ms,
            Self::Decision(decision) => decision.at_ms,
            Self::Reach(event) => event.at_ms,
        }
    }
}

/// Children by their parent.
type Below<'a> = BTreeMap<Option<&'a NodeName>, Vec<&'a NodeView>>;

/// The nodes, as they are filtered and sorted.
pub(super) fn nodes<'a>(view: &'a View, state: &State) -> Vec<NodeRow<'a>> {
    let mut drawn = Vec::new();
    let mut below: Below<'_> = BTreeMap::new();
    for node in &view.nodes {
        below.entry(node.parent.as_ref()).or_default().push(node);
    }
    for root in below.get(&None).into_iter().flatten() {
        drawn.push(NodeRow { node: root, branch: String::new() });
        branches(&below, root, "", &mut drawn);
    }
    let whole = state.filter.is_empty() && state.nodes_by == NodesBy::Tree;
    if whole {
        return drawn;
    }
    drawn.retain(|row| matches(row.node, state));
    for row in &mut drawn {
        row.branch = match state.nodes_by {
            NodesBy::Tree => "  ".repeat(row.node.depth),
            _ => String::new(),
        };
    }
    let figure = |row: &NodeRow<'_>| figure(row.node, state);
    // The sort keeps the tree's order among equals; what nobody knows comes last.
    drawn.sort_by(|one, other| figure(other).total_cmp(&figure(one)));
    drawn
}

fn branches<'a>(below: &Below<'a>, node: &NodeView, before: &str, rows: &mut Vec<NodeRow<'a>>) {
    let children = below.get(&Some(&node.name)).map(Vec::as_slice).unwrap_or_default();
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (first, rest) = if last { ("└ ", "  ") } else { ("├ ", "│ ") };
        rows.push(NodeRow { node: child, branch: format!("{before}{first}") });
        branches(below, child, &format!("{before}{rest}"), rows);
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures to sort by")]
fn figure(node: &NodeView, state: &State) -> f64 {
    let load = load(node, state.function.as_ref());
    let known = match state.nodes_by {
        NodesBy::Tree => Some(0.0),
        NodesBy::Requests => load.requests_per_s,
        NodesBy::Latency => load.latency_p99_us.map(|us| us as f64),
        NodesBy::Sessions => load.sessions.map(|number| number as f64),
        NodesBy::Memory => load.memory,
        NodesBy::InFlight => load.in_flight.map(|number| number as f64),
    };
    known.unwrap_or(-1.0)
}

/// Whether a node or one of its sessions has what the filter says.
fn matches(node: &NodeView, state: &State) -> bool {
    named(node, &state.filter) || listed(node, state).any(|row| row.has(&state.filter))
}

fn named(node: &NodeView, filter: &str) -> bool {
    node.name.as_str().contains(filter) || node.level.contains(filter)
}

impl SessionRow<'_> {
    fn has(&self, filter: &str) -> bool {
        self.session.id.as_str().contains(filter) || self.session.hash.contains(filter)
    }
}

/// The sessions of a node that are listed, as they are filtered and sorted. A filter that none
/// of them has is the node's.
pub(super) fn sessions<'a>(node: &'a NodeView, state: &State) -> Vec<SessionRow<'a>> {
    let mut rows: Vec<_> = listed(node, state).collect();
    if !state.filter.is_empty() && rows.iter().any(|row| row.has(&state.filter)) {
        rows.retain(|row| row.has(&state.filter));
    }
    let rate = |row: &SessionRow<'_>| row.session.rate.unwrap_or(-1.0);
    rows.sort_by(|one, other| one.session.id.as_str().cmp(other.session.id.as_str()));
    match state.sessions_by {
        SessionsBy::Requests => rows.sort_by(|one, other| rate(other).total_cmp(&rate(one))),
        SessionsBy::Bytes => rows.sort_by_key(|row| Reverse(row.session.bytes)),
        SessionsBy::Used => rows.sort_by_key(|row| row.session.idle_ms),
        SessionsBy::Name => {}
    }
    rows
}

fn listed<'a>(node: &'a NodeView, state: &State) -> impl Iterator<Item = SessionRow<'a>> {
    functions(node, state.function.as_ref()).flat_map(|function| {
        let listed = function.listed.iter().flatten();
        listed.map(|session| SessionRow { function: &function.name, session })
    })
}

/// The functions of a node, or the one that is looked at.
pub(super) fn functions<'a>(
    node: &'a NodeView,
    only: Option<&FunctionName>,
) -> impl Iterator<Item = &'a FunctionView> {
    node.functions.iter().filter(move |function| only.is_none_or(|only| function.name == *only))
}

/// The load of a node, or of the function that is looked at.
pub(super) fn load(node: &NodeView, only: Option<&FunctionName>) -> Load {
    match only {
        None => node.load,
        Some(only) => Load {
            memory: node.load.memory,
            ..node.function(only).map(|function| function.load).unwrap_or_default()
        },
    }
}

/// Whether a node takes sessions, or the function that is looked at.
pub(super) fn takes(node: &NodeView, only: Option<&FunctionName>) -> Takes {
    use funicular::peers::messages::OffloadStatus::{Accept, Reject};
    let Some(only) = only else { return node.takes };
    match node.function(only).and_then(|function| function.status) {
        None => Takes::Unknown,
        Some(Accept) => Takes::Accept,
        Some(Reject) => Takes::Reject,
    }
}

/// All functions of the tree, by name.
pub(super) fn all_functions(view: &View) -> Vec<&FunctionName> {
    let mut names: Vec<_> = view.nodes.iter().flat_map(|node| &node.functions).collect();
    names.sort_by(|one, other| one.name.cmp(&other.name));
    names.dedup_by(|one, other| one.name == other.name);
    names.into_iter().map(|function| &function.name).collect()
}

/// The nodes above a node, the nearest first.
pub(super) fn above<'a>(view: &'a View, node: &'a NodeView) -> impl Iterator<Item = &'a NodeView> {
    let up = |node: &&'a NodeView| node.parent.as_ref().and_then(|parent| view.node(parent));
    std::iter::successors(up(&node), up)
}

/// What happened, the latest first.
pub(super) fn news<'a>(view: &'a View, only: Option<&FunctionName>) -> Vec<News<'a>> {
    let of = |function: &FunctionName| only.is_none_or(|only| only == function);
    let moves = view.moves.iter().filter(|moved| of(&moved.function)).map(News::Move);
    let decisions = view.decisions.iter().filter(|it| of(&it.function)).map(News::Decision);
    let reach = view
        .events
        .iter()
        .filter(|event| matches!(event.what, What::Silent { .. } | What::Back { .. }))
        .map(News::Reach);
    latest_first(moves.chain(decisions).chain(reach))
}

/// What happened to a session, the latest first.
pub(super) fn history<'a>(view: &'a View, session: &SessionKey) -> Vec<News<'a>> {
    let moves = view.moves_of(&session.function, &session.hash).map(News::Move);
    let decisions = view.decisions.iter().filter(|decision| {
        decision.function == session.function && decision.session.as_ref() == Some(&session.hash)
    });
    latest_first(moves.chain(decisions.map(News::Decision)))
}

fn latest_first<'a>(news: impl Iterator<Item = News<'a>>) -> Vec<News<'a>> {
    let mut news: Vec<_> = news.collect();
    news.sort_by_key(|one| Reverse(one.at_ms()));
    news
}

/// Sessions that are on their way, and where from.
pub(super) fn moving<'a>(
    view: &'a View,
    only: Option<&FunctionName>,
) -> Vec<(&'a NodeName, SessionRow<'a>)> {
    let at = |node: &'a NodeView| {
        let functions = functions(node, only);
        functions.flat_map(move |function| {
            let listed = function.listed.iter().flatten();
            let moving = listed.filter(|session| session.moving.is_some());
            moving
                .map(move |session| (&node.name, SessionRow { function: &function.name, session }))
        })
    };
    view.nodes.iter().flat_map(at).collect()
}
