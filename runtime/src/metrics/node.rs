//! A node's sessions, moves and messages, and how it finds the other nodes.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{By, Labels, labels};
use crate::node::NodeConfig;
use crate::peers::messages::MoveReport;
use crate::session::{FunctionName, NodeName};
use crate::store::{Counts, Promise};

/// Counts for one function at one node.
pub(crate) struct Meters {
    labels: Labels,
    sessions: Gauge,
    pending: Gauge,
    oldest: Gauge,
    arriving: Gauge,
    leaving: Gauge,
    waiting: Gauge,
    draining: Gauge,
    restoring: Gauge,
    refused: Gauge,
    waited: Histogram,
    peers: By<NodeName, Counter>,
}

/// Which part a node has in a move.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moving {
    /// The session was to come here.
    Here,
    /// It was to leave.
    Away,
}

/// How a node stands, as it looks itself.
pub(crate) struct Stands {
    pub(crate) counts: Counts,
    pub(crate) arriving: usize,
    pub(crate) leaving: usize,
    pub(crate) waiting: usize,
    pub(crate) draining: bool,
}

impl Meters {
    pub(crate) fn new(config: &NodeConfig, promise: Promise) -> Self {
        let labels = labels(&config.here, &config.function);
        let and = |name, value: &str| {
            let mut labels = labels.clone();
            labels.push((name, value.to_owned()));
            labels
        };
        let mut info = and("version", env!("CARGO_PKG_VERSION"));
        info.push(("wire_version", config.wire_version.to_string()));
        info.push(("promise", format!("{promise:?}").to_lowercase()));
        gauge!("funicular_info", &info).set(1.0);
        let meters = Self {
            sessions: gauge!("funicular_sessions", &labels),
            pending: gauge!("funicular_sessions_pending", &labels),
            oldest: gauge!("funicular_pending_oldest_seconds", &labels),
            arriving: gauge!("funicular_moves_in_progress", &and("direction", "in")),
            leaving: gauge!("funicular_moves_in_progress", &and("direction", "out")),
            waiting: gauge!("funicular_moves_waiting", &labels),
            draining: gauge!("funicular_draining", &labels),
            restoring: gauge!("funicular_restoring", &labels),
            refused: gauge!("funicular_topology_refused", &labels),
            waited: histogram!("funicular_wait_seconds", &labels),
            peers: By::default(),
            labels,
        };
        meters.topology_refused(false);
        meters
    }

    fn and(&self, more: impl IntoIterator<Item = (&'static str, String)>) -> Labels {
        self.labels.iter().cloned().chain(more).collect()
    }

    /// A request stood in line for its session's turn and for a place to run.
    pub(crate) fn waited(&self, long: Duration) {
        self.waited.record(long.as_secs_f64());
    }

    /// How it stands.
    pub(crate) fn stands(&self, stands: &Stands) {
        // Gauges are floating point; counts stay far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let set = |gauge: &Gauge, count: u64| gauge.set(count as f64);
        set(&self.sessions, stands.counts.resident);
        set(&self.pending, stands.counts.pending);
        set(&self.arriving, stands.arriving as u64);
        set(&self.leaving, stands.leaving as u64);
        set(&self.waiting, stands.waiting as u64);
        set(&self.draining, u64::from(stands.draining));
    }

    /// For how long the session has been in doubt that has been so for longest.
    pub(crate) fn in_doubt(&self, oldest: Duration) {
        self.oldest.set(oldest.as_secs_f64());
    }

    /// Whether it serves nobody before its store is judged.
    pub(crate) fn restoring(&self, restoring: bool) {
        self.restoring.set(f64::from(u8::from(restoring)));
    }

    /// Whether a newer topology is refused.
    pub(crate) fn topology_refused(&self, refused: bool) {
        self.refused.set(f64::from(u8::from(refused)));
    }

    /// A session arrived.
    pub(crate) fn moved(&self, from: &NodeName, report: &MoveReport) {
        let labels = self.and([("from", from.to_string())]);
        counter!("funicular_moves_total", &labels).increment(1);
        counter!("funicular_moved_bytes_total", &labels).increment(report.bytes);
        histogram!("funicular_move_duration_seconds", &labels).record(report.took_ms / 1000.0);
        histogram!("funicular_move_downtime_seconds", &labels).record(report.downtime_ms / 1000.0);
    }

    /// A move came to nothing.
    pub(crate) fn move_failed(&self, moving: Moving, reason: &str) {
        let direction = match moving {
            Moving::Here => "in",
            Moving::Away => "out",
        };
        let labels = self.and([("direction", direction.into()), ("reason", reason.to_owned())]);
        counter!("funicular_move_failures_total", &labels).increment(1);
    }

    /// Another node gave no answer to a call.
    pub(crate) fn no_answer(&self, from: &NodeName) {
        let labels = || self.and([("to", from.to_string())]);
        let make = || counter!("funicular_peer_failures_total", &labels());
        self.peers.with(from, make, |count| count.increment(1));
    }

    /// A propagated value was taken by its receiver.
    pub(crate) fn delivered(&self, to: &NodeName) {
        let labels = self.and([("to", to.to_string())]);
        counter!("funicular_delivered_total", &labels).increment(1);
    }

    /// A propagated value was not taken yet, and is sent again.
    pub(crate) fn delivery_failed(&self, to: &NodeName) {
        let labels = self.and([("to", to.to_string())]);
        counter!("funicular_delivery_failures_total", &labels).increment(1);
    }

    /// A propagated value was dropped because its receiver cannot take it.
    pub(crate) fn undeliverable(&self, to: &FunctionName) {
        let labels = self.and([("to", to.to_string())]);
        counter!("funicular_undeliverable_total", &labels).increment(1);
    }
}
