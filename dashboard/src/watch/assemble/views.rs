//! A view of what is known.

use std::collections::BTreeMap;

use funicular::peers::messages::{
    ActivityStatus, DrainState, DrainStatus, NodeStatus, OffloadStatus,
};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::Node;

use super::{Known, KnownFunction, Listing, Memory, is_counted};
use crate::watch::view::{DrainView, FunctionView, Load, Moving, NodeView, Takes, View};

/// Shorter times say little about a rate, in milliseconds.
const SHORT: u64 = 500;

impl Memory {
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
pub(super) fn rate(count: u64, activity: ActivityStatus) -> Option<f64> {
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
