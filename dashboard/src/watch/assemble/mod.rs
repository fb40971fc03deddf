//! From answers to a view: no I/O, no clock.
//!
//! - `moves`: what came where, and from where
//! - `decisions`: what oracles say
//! - `causes`: who asked for a move
//! - `views`: what is known, as it is shown

mod causes;
mod decisions;
mod moves;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use funicular::peers::messages::NodeStatus;
use funicular::session::{FunctionName, NodeName};
use funicular::topology::Topology;

use super::EVENTS;
use super::answers::{FunctionAnswer, NodeAnswer};
use super::view::{DecisionView, Event, MoveView, OracleView, Reach, SessionView, What};
use views::rate;

/// What is known of a tree.
pub struct Memory {
    topology: Arc<Topology>,
    watched: BTreeSet<NodeName>,
    nodes: BTreeMap<NodeName, Known>,
    /// By replica.
    arrivals: BTreeMap<(NodeName, FunctionName), BTreeMap<String, Arrivals>>,
    moves: VecDeque<MoveView>,
    moves_seen: u64,
    moves_missed: u64,
    decisions: VecDeque<DecisionView>,
    /// Number, time and outcome of the decisions that an oracle told the last time.
    decided: BTreeMap<NodeName, BTreeMap<(u64, u64), u64>>,
    decisions_seen: u64,
    events: VecDeque<Event>,
    events_seen: u64,
    views: u64,
}

#[derive(Default)]
struct Known {
    reach: Reach,
    asked_ms: Option<u64>,
    functions: BTreeMap<FunctionName, KnownFunction>,
    oracle: OracleView,
    /// What its oracle decided before this may not all have been told.
    untold_ms: Option<u64>,
}

#[derive(Default)]
struct KnownFunction {
    reach: Reach,
    status: Option<NodeStatus>,
    listing: Option<Listing>,
    /// When it first answered: what was before that is no news.
    heard_ms: Option<u64>,
}

/// What a replica has told of the sessions that came to it.
struct Arrivals {
    /// The number of the next one.
    next: u64,
    /// When the replica last answered.
    told_ms: u64,
}

struct Listing {
    at_ms: u64,
    all: bool,
    sessions: Vec<SessionView>,
}

impl Memory {
    /// Of a tree, nodes of which are asked.
    pub fn new(topology: Arc<Topology>, watched: BTreeSet<NodeName>) -> Self {
        let nodes = watched.iter().map(|name| (name.clone(), Known::default())).collect();
        Self {
            topology,
            watched,
            nodes,
            arrivals: BTreeMap::new(),
            moves: VecDeque::new(),
            moves_seen: 0,
            moves_missed: 0,
            decisions: VecDeque::new(),
            decided: BTreeMap::new(),
            decisions_seen: 0,
            events: VecDeque::new(),
            events_seen: 0,
            views: 0,
        }
    }

    /// Takes what a node said.
    pub fn take(&mut self, answer: NodeAnswer) {
        let NodeAnswer { node, asked_ms, at_ms, functions, oracle } = answer;
        if !self.watched.contains(&node) {
            return;
        }
        self.take_oracle(&node, at_ms, oracle);
        let reach = match functions {
            Ok(answers) => self.take_functions(&node, at_ms, answers),
            Err(why) => {
                self.all_silent(&node, at_ms, &why);
                Err(why)
            }
        };
        let Some(known) = self.nodes.get_mut(&node) else { return };
        known.asked_ms = Some(asked_ms);
        let before = known.reach.clone();
        known.reach = turned(&before, at_ms, reach.as_ref().err());
        match (&before, reach) {
            (Reach::Answers, Err(why)) => self.happened(at_ms, What::Silent { node, why }),
            (Reach::Silent { .. }, Ok(())) => self.happened(at_ms, What::Back { node }),
            _ => {}
        }
        self.explain_moves(at_ms);
    }

    /// A node without functions answers; one of which no function does is silent.
    fn take_functions(
        &mut self,
        node: &NodeName,
        at_ms: u64,
        answers: Vec<FunctionAnswer>,
    ) -> Result<(), String> {
        let names: BTreeSet<_> = answers.iter().map(|answer| answer.function.clone()).collect();
        if let Some(known) = self.nodes.get_mut(node) {
            known.functions.retain(|name, _| names.contains(name));
        }
        let (mut one_answers, mut last) = (answers.is_empty(), String::new());
        for answer in answers {
            match &answer.status {
                Ok(_) => one_answers = true,
                Err(why) => last.clone_from(why),
            }
            self.take_function(node, at_ms, answer);
        }
        if one_answers { Ok(()) } else { Err(last) }
    }

    fn take_function(&mut self, node: &NodeName, at_ms: u64, answer: FunctionAnswer) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        let name = answer.function;
        let known = known.functions.entry(name.clone()).or_default();
        known.reach = turned(&known.reach, at_ms, answer.status.as_ref().err());
        let Ok(status) = answer.status else {
            (known.status, known.listing) = (None, None);
            return;
        };
        if !is_counted(&status) {
            // It lists none then, and knows of none.
            known.listing = None;
        } else if answer.sessions > 0 {
            let rate = |requests| status.activity.and_then(|all| rate(requests, all));
            let sessions = status.listed.iter().map(|session| SessionView {
                id: session.session.clone(),
                hash: session.session.log_hash(),
                home: session.home.clone(),
                bytes: session.bytes,
                rate: session.requests.and_then(rate),
                idle_ms: session.idle_ms,
                arrived_ms: session.arrived_ms,
                moving: None,
            });
            let sessions: Vec<_> = sessions.collect();
            // The count may lag behind the list.
            let all = sessions.len() < answer.sessions && sessions.len() as u64 >= status.sessions;
            known.listing = Some(Listing { at_ms, all, sessions });
        }
        let moved = status.moved.clone();
        let replica = status.replica.clone();
        known.status = Some(*status);
        let heard_ms = *known.heard_ms.get_or_insert(at_ms);
        // The earliest first.
        for moved in moved.into_iter().flatten().rev() {
            self.take_move(node, &name, &replica, at_ms, &moved, heard_ms);
        }
        self.forget_replicas(node, name, &replica, at_ms);
    }

    #[cfg(test)]
    pub(super) fn replicas(&self) -> usize {
        self.arrivals.values().map(BTreeMap::len).sum()
    }

    fn all_silent(&mut self, node: &NodeName, at_ms: u64, why: &String) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        for function in known.functions.values_mut() {
            function.reach = turned(&function.reach, at_ms, Some(why));
            (function.status, function.listing) = (None, None);
        }
    }

    fn happened(&mut self, at_ms: u64, what: What) {
        self.events_seen += 1;
        self.events.push_front(Event { number: self.events_seen, at_ms, what });
        self.events.truncate(EVENTS);
    }
}

/// Who did not answer before is silent since then.
fn turned(before: &Reach, at_ms: u64, failure: Option<&String>) -> Reach {
    match (before, failure) {
        (_, None) => Reach::Answers,
        (Reach::Silent { since_ms, .. }, Some(why)) => {
            Reach::Silent { since_ms: *since_ms, why: why.clone() }
        }
        (_, Some(why)) => Reach::Silent { since_ms: at_ms, why: why.clone() },
    }
}

/// While its store does not answer, its counts are none, and its settings those of a new one:
/// both are unknown.
fn is_counted(status: &NodeStatus) -> bool {
    status.store == "ok"
}
