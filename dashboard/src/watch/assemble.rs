//! From answers to a view: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use funicular::peers::messages::{
    ActivityStatus, DrainState, DrainStatus, MovedStatus, NodeStatus, OffloadStatus,
};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};

use super::answers::{DecisionSaid, FunctionAnswer, NodeAnswer, OracleSaid};
use super::ask::DECISIONS as TOLD;
use super::view::{
    Cause, DecisionView, DrainView, Event, FunctionView, Load, MoveView, Moving, NodeView,
    OracleView, Reach, SessionView, SignalView, StandView, Takes, View, What,
};
use super::{DECISIONS, EVENTS, MOVES};

/// A listing and the news of a move may be under way at the same time: within this the move
/// counts as the newer one, in milliseconds.
const RACE: u64 = 200;
/// A decision is carried out within this time, in milliseconds, or differs by that much from
/// this machine's clock.
const BETWEEN: u64 = 60_000;
/// A replica that has not answered for so long, while others of its function did, has ended,
/// in milliseconds.
const REPLICA: u64 = 3_600_000;
/// Shorter times say little about a rate, in milliseconds.
const SHORT: u64 = 500;

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

impl Known {
    /// Whether its oracle has told everything that it had decided by then, as far as that may
    /// have led to a move of then.
    fn had_decided(&self, at_ms: u64) -> bool {
        self.oracle.reach.answers()
            && self.asked_ms.is_some_and(|asked| asked >= at_ms)
            && self.untold_ms.is_none_or(|untold| untold + BETWEEN <= at_ms)
    }
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

    /// A replica that ended never answers again.
    fn forget_replicas(&mut self, node: &NodeName, name: FunctionName, told: &str, at_ms: u64) {
        let Some(replicas) = self.arrivals.get_mut(&(node.clone(), name)) else { return };
        if let Some(arrivals) = replicas.get_mut(told) {
            arrivals.told_ms = at_ms;
        }
        replicas.retain(|_, arrivals| arrivals.told_ms + REPLICA > at_ms);
    }

    fn take_move(
        &mut self,
        to: &NodeName,
        function: &FunctionName,
        replica: &str,
        at_ms: u64,
        moved: &MovedStatus,
        heard_ms: u64,
    ) {
        let replicas = self.arrivals.entry((to.clone(), function.clone())).or_default();
        let next = replicas.get(replica).map(|arrivals| arrivals.next);
        if next.is_some_and(|next| moved.number < next) {
            return;
        }
        // What was before we looked is no loss.
        self.moves_missed += next.map_or(0, |next| moved.number - next);
        replicas.insert(replica.to_owned(), Arrivals { next: moved.number + 1, told_ms: at_ms });
        let hash = moved.session.log_hash();
        let seen = MoveView {
            number: self.moves_seen,
            at_ms: at_ms.saturating_sub(moved.ago_ms),
            function: function.clone(),
            id: moved.session.clone(),
            hash: hash.clone(),
            home: moved.home.clone(),
            from: moved.from.clone(),
            to: to.clone(),
            up: self.topology.in_subtree(to, &moved.from),
            epoch: moved.epoch,
            bytes: moved.bytes,
            took_ms: moved.took_ms,
            downtime_ms: moved.downtime_ms,
            cause: Cause::Unknown,
        };
        self.moves_seen += 1;
        self.relocate(&seen);
        if seen.at_ms >= heard_ms {
            let (function, from, to) = (function.clone(), moved.from.clone(), to.clone());
            self.happened(at_ms, What::Moved { function, session: hash, from, to });
        }
        let later = |other: &MoveView| other.at_ms > seen.at_ms;
        let place = self.moves.iter().position(|other| !later(other)).unwrap_or(self.moves.len());
        self.moves.insert(place, seen);
        self.moves.truncate(MOVES);
    }

    /// Puts a session where a move has brought it, in listings that do not know that yet.
    fn relocate(&mut self, moved: &MoveView) {
        let outdated = |listing: &Listing| listing.at_ms < moved.at_ms + RACE;
        let arrived = |session: SessionView| SessionView {
            arrived_ms: Some(0),
            bytes: moved.bytes,
            moving: None,
            ..session
        };
        let mut carried = None;
        if let Some(listing) = self.listing(&moved.from, &moved.function)
            && outdated(listing)
            && let Some(at) = listing.sessions.iter().position(|it| it.hash == moved.hash)
        {
            carried = Some(listing.sessions.remove(at));
        }
        let Some(listing) = self.listing(&moved.to, &moved.function) else { return };
        if outdated(listing) && listing.sessions.iter().all(|it| it.hash != moved.hash) {
            let session = carried.unwrap_or_else(|| SessionView {
                id: moved.id.clone(),
                hash: moved.hash.clone(),
                home: moved.home.clone(),
                bytes: moved.bytes,
                rate: None,
                idle_ms: 0,
                arrived_ms: None,
                moving: None,
            });
            listing.sessions.insert(0, arrived(session));
        }
    }

    fn listing(&mut self, node: &NodeName, function: &FunctionName) -> Option<&mut Listing> {
        self.nodes.get_mut(node)?.functions.get_mut(function)?.listing.as_mut()
    }

    fn all_silent(&mut self, node: &NodeName, at_ms: u64, why: &String) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        for function in known.functions.values_mut() {
            function.reach = turned(&function.reach, at_ms, Some(why));
            (function.status, function.listing) = (None, None);
        }
    }

    fn take_oracle(
        &mut self,
        node: &NodeName,
        at_ms: u64,
        said: Option<Result<OracleSaid, String>>,
    ) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        let Some(said) = said else { return };
        let reach = turned(&known.oracle.reach, at_ms, said.as_ref().err());
        match said {
            Err(_) => known.oracle = OracleView { reach, ..OracleView::default() },
            Ok(said) => {
                known.oracle = oracle_view(reach, &said);
                // The earliest first; nothing is news that was decided before we looked.
                let first = !self.decided.contains_key(node);
                let before = self.decided.get(node);
                let goes_on = said.decisions.iter().any(|decision| {
                    before.is_some_and(|told| told.contains_key(&(decision.id, decision.time_ms)))
                });
                if !goes_on && said.decisions.len() >= TOLD {
                    known.untold_ms = said.decisions.last().map(|earliest| earliest.time_ms);
                }
                let mut told = BTreeMap::new();
                for decision in said.decisions.iter().rev() {
                    let number = self.take_decision(node, decision, at_ms, first);
                    told.insert((decision.id, decision.time_ms), number);
                }
                self.decided.insert(node.clone(), told);
            }
        }
    }

    /// Keeps a decision, or what became of it since; returns its number here.
    fn take_decision(
        &mut self,
        node: &NodeName,
        said: &DecisionSaid,
        at_ms: u64,
        first: bool,
    ) -> u64 {
        let key = (said.id, said.time_ms);
        if let Some(number) = self.decided.get(node).and_then(|told| told.get(&key)).copied() {
            if let Some(known) = self.decisions.iter_mut().find(|known| known.number == number) {
                known.outcome.clone_from(&said.outcome);
                known.detail.clone_from(&said.detail);
            }
            return number;
        }
        let number = self.decisions_seen;
        self.decisions_seen += 1;
        let decision = DecisionView {
            number,
            node: node.clone(),
            at_ms: said.time_ms,
            function: said.decision.function.clone(),
            action: said.decision.action.word().to_owned(),
            session: said.decision.action.session.clone(),
            rule: said.decision.rule.clone(),
            why: said.decision.why.clone(),
            outcome: said.outcome.clone(),
            detail: said.detail.clone(),
        };
        if !first {
            let DecisionView { node, function, action, why, .. } = decision.clone();
            self.happened(at_ms, What::Decided { node, function, action, why });
        }
        let later = |other: &DecisionView| other.at_ms > decision.at_ms;
        let place = self.decisions.iter().position(|other| !later(other));
        self.decisions.insert(place.unwrap_or(self.decisions.len()), decision);
        self.decisions.truncate(DECISIONS);
        number
    }

    /// Says of moves who asked for them. What an oracle decided may come to be known after the
    /// move itself.
    fn explain_moves(&mut self, now: u64) {
        let Self { moves, decisions, nodes, .. } = self;
        let recent = |moved: &&mut MoveView| moved.at_ms + BETWEEN > now;
        for moved in moves.iter_mut().take_while(recent) {
            if matches!(moved.cause, Cause::Oracle { .. } | Cause::Drain) {
                continue;
            }
            let (decider, action) =
                if moved.up { (&moved.from, "offload") } else { (&moved.to, "onload") };
            let decided = decisions.iter().find(|decision| {
                decision.node == *decider
                    && decision.action == action
                    && decision.function == moved.function
                    && decision.session.as_ref() == Some(&moved.hash)
                    && decision.outcome != "observed"
                    && decision.at_ms.abs_diff(moved.at_ms) < BETWEEN
            });
            let decider = nodes.get(decider);
            let status = decider
                .and_then(|known| known.functions.get(&moved.function))
                .and_then(|function| function.status.as_ref());
            moved.cause = match decided {
                Some(DecisionView { node, rule, why, .. }) => {
                    Cause::Oracle { node: node.clone(), rule: rule.clone(), why: why.clone() }
                }
                None if moved.up && status.is_some_and(|it| it.drain.is_some()) => Cause::Drain,
                // It was asked since, and knew of none.
                None if decider.is_some_and(|known| known.had_decided(moved.at_ms)) => {
                    Cause::Operator
                }
                None => Cause::Unknown,
            };
        }
    }

    fn happened(&mut self, at_ms: u64, what: What) {
        self.events_seen += 1;
        self.events.push_front(Event { number: self.events_seen, at_ms, what });
        self.events.truncate(EVENTS);
    }

    /// Everything, as it is known now.
    pub fn view(&mut self, at_ms: u64) -> View {
        self.views += 1;
        let moving = self.moving();
        View {
            number: self.views,
            at_ms,
            nodes: self.topology.nodes().map(|node| self.node(node, &moving)).collect(),
            moves: self.moves.iter().cloned().collect(),
            moves_missed: self.moves_missed,
            decisions: self.decisions.iter().cloned().collect(),
            events: self.events.iter().cloned().collect(),
        }
    }

    /// What is copied right now, by where it comes from, function, and session.
    fn moving(&self) -> BTreeMap<(NodeName, FunctionName, String), Moving> {
        let mut moving = BTreeMap::new();
        for (to, known) in &self.nodes {
            for (function, known) in &known.functions {
                for copy in known.status.iter().flat_map(|status| &status.copies) {
                    let key = (copy.from.clone(), function.clone(), copy.session.clone());
                    let (copied, bytes) = (copy.copied, copy.bytes);
                    moving.insert(key, Moving { to: to.clone(), copied, bytes });
                }
            }
        }
        moving
    }

    fn node(
        &self,
        node: &Node,
        moving: &BTreeMap<(NodeName, FunctionName, String), Moving>,
    ) -> NodeView {
        let nothing = Known::default();
        let known = self.nodes.get(&node.name).unwrap_or(&nothing);
        let functions: Vec<FunctionView> = known
            .functions
            .iter()
            .map(|(name, known)| {
                let mut function = function_view(name, known);
                for session in function.listed.iter_mut().flatten() {
                    let key = (node.name.clone(), name.clone(), session.hash.clone());
                    session.moving = moving.get(&key).cloned();
                }
                function
            })
            .collect();
        let memory = |wanted: &str| {
            let of_node = known.oracle.signals.iter().filter(|signal| signal.function.is_none());
            of_node.filter(|signal| signal.name == wanted).find_map(|signal| signal.value)
        };
        let known_at_all = known.reach.answers();
        NodeView {
            name: node.name.clone(),
            parent: self.topology.parent(&node.name).map(|parent| parent.name.clone()),
            level: node.level.clone(),
            depth: node.depth,
            gateway: node.gateway.clone(),
            entry: node.entry,
            watched: self.watched.contains(&node.name),
            reach: known.reach.clone(),
            asked_ms: known.asked_ms,
            oracle: known.oracle.clone(),
            load: Load {
                memory: memory("memory").or_else(|| memory("redis-memory")),
                ..if known_at_all { sum(&functions) } else { Load::default() }
            },
            takes: takes(&functions),
            functions,
        }
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

fn oracle_view(reach: Reach, said: &OracleSaid) -> OracleView {
    let silent = said.sources.iter().filter_map(|it| Some((it.source.clone(), it.error.clone()?)));
    OracleView {
        reach,
        mode: Some(said.mode.clone()),
        functions: said
            .functions
            .iter()
            .map(|stand| StandView {
                function: stand.function.clone(),
                phase: stand.phase.clone(),
                why: stand.why.clone(),
                would_change: stand.would_change.clone(),
            })
            .collect(),
        signals: said
            .signals
            .iter()
            .map(|signal| SignalView {
                function: signal.function.clone(),
                name: signal.signal.clone(),
                value: signal.value,
            })
            .collect(),
        silent: silent.collect(),
    }
}

/// While its store does not answer, its counts are none, and its settings those of a new one:
/// both are unknown.
fn is_counted(status: &NodeStatus) -> bool {
    status.store == "ok"
}

fn function_view(name: &FunctionName, known: &KnownFunction) -> FunctionView {
    let status = known.status.as_ref();
    let counted = status.filter(|status| is_counted(status));
    let listing = known.listing.as_ref();
    FunctionView {
        name: name.clone(),
        reach: known.reach.clone(),
        version: status.map(|status| status.version.clone()),
        status: counted.map(|status| status.status),
        load: status.map(|status| load(status, listing)).unwrap_or_default(),
        store: status.map(|status| status.store.clone()),
        drain: status
            .and_then(|status| Some(drain_view(status.drain.as_ref()?, counted.is_some()))),
        restoring: status.is_some_and(|status| status.restore.is_some()),
        pending: counted.map(|status| status.pending),
        copies: status.map(|status| status.copies.clone()).unwrap_or_default(),
        listed: listing.map(|listing| listing.sessions.clone()),
        listed_all: listing.is_some_and(|listing| listing.all),
    }
}

fn drain_view(drain: &DrainStatus, counted: bool) -> DrainView {
    let DrainStatus { state, moved, left, failing, reasons, waits_for } = drain.clone();
    DrainView {
        // It may be empty only as far as nothing is counted.
        state: Some(state).filter(|state| counted || *state != DrainState::Empty),
        moved,
        left: counted.then_some(left),
        failing,
        reasons,
        waits_for,
    }
}

fn load(status: &NodeStatus, listing: Option<&Listing>) -> Load {
    let activity = status.activity.as_ref();
    let counted = is_counted(status);
    let all = listing.filter(|listing| listing.all && counted);
    Load {
        in_flight: Some(status.in_flight),
        requests_per_s: status.activity.and_then(|all| rate(all.requests, all)),
        latency_p50_us: activity.and_then(|all| all.latency_p50_us),
        latency_p99_us: activity.and_then(|all| all.latency_p99_us),
        queue_wait_p99_us: activity.and_then(|all| all.queue_wait_p99_us),
        sessions: counted.then_some(status.sessions),
        bytes: all.map(|listing| listing.sessions.iter().map(|session| session.bytes).sum()),
        coming: Some(status.moves),
        leaving: Some(status.leaving),
        waiting: Some(status.waiting),
        memory: None,
    }
}

/// So many in the time that the activity is about, a second.
#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn rate(count: u64, activity: ActivityStatus) -> Option<f64> {
    (activity.window_ms >= SHORT).then(|| count as f64 * 1000.0 / activity.window_ms as f64)
}

fn sum(functions: &[FunctionView]) -> Load {
    let add = |of: fn(&Load) -> Option<u64>| -> Option<u64> {
        functions.iter().map(|function| of(&function.load)).sum()
    };
    let worst = |of: fn(&Load) -> Option<u64>| -> Option<u64> {
        functions.iter().filter_map(|function| of(&function.load)).max()
    };
    let rates = functions.iter().map(|function| function.load.requests_per_s);
    Load {
        in_flight: add(|load| load.in_flight),
        requests_per_s: rates.sum(),
        latency_p50_us: worst(|load| load.latency_p50_us),
        latency_p99_us: worst(|load| load.latency_p99_us),
        queue_wait_p99_us: worst(|load| load.queue_wait_p99_us),
        sessions: add(|load| load.sessions),
        bytes: add(|load| load.bytes),
        coming: add(|load| load.coming),
        leaving: add(|load| load.leaving),
        waiting: add(|load| load.waiting),
        memory: None,
    }
}

fn takes(functions: &[FunctionView]) -> Takes {
    let of = |status| functions.iter().any(|function| function.status == status);
    let (accept, reject) = (of(Some(OffloadStatus::Accept)), of(Some(OffloadStatus::Reject)));
    match (accept, reject, of(None)) {
        (true, true, _) => Takes::Mixed,
        (true, false, false) => Takes::Accept,
        (false, true, false) => Takes::Reject,
        _ => Takes::Unknown,
    }
}
