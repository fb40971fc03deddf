//! What came of it, for people and for machines.

use std::fmt::Write;

use serde::Serialize;

use crate::scenario::{Policy, Scenario};
use crate::settings::Settings;
use crate::tally::{Slot, Tally};
use crate::workload::Second;

/// What was played, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How many nodes there were.
    pub nodes: usize,
    /// How many of them were edges.
    pub edges: usize,
    /// How many sessions.
    pub sessions: usize,
    /// The workload in a line.
    pub workload: String,
    /// How long it was, in seconds.
    pub seconds: Second,
    /// The seed.
    pub seed: u64,
    /// Machines, networks and requests.
    pub settings: Settings,
    /// What came of each policy.
    pub outcomes: Vec<Outcome>,
}

/// What came of a policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The policy.
    pub policy: Policy,
    /// All of it.
    #[serde(flatten)]
    pub total: Figures,
    /// Sessions that existed at the end.
    pub sessions: usize,
    /// What was wrong with sessions at the end: nothing, or there is a fault in the model.
    pub faults: Vec<String>,
    /// By time.
    pub series: Vec<Point>,
}

/// What came of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Half of the requests took no longer, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 95 of 100.
    pub p95_ms: Option<f64>,
    /// 99 of 100.
    pub p99_ms: Option<f64>,
    /// Requests that were served.
    pub requests: f64,
    /// The share of all that was refused.
    pub refused: f64,
    /// The share of those served that was served at an edge.
    pub at_edge: f64,
    /// The share of those served that was served at the edge where its client was.
    pub at_own_edge: f64,
    /// Sessions that moved up.
    pub up: u64,
    /// Sessions that moved down.
    pub down: u64,
    /// Moves that failed.
    pub failed: u64,
    /// Requests that were redirected.
    pub redirected: f64,
    /// Requests that waited for a move.
    pub held_up: f64,
    /// Gigabytes of requests and responses times links.
    pub request_gb_hops: f64,
    /// Gigabytes of sessions that moved times links.
    pub move_gb_hops: f64,
}

/// What came of one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// When it began, in seconds.
    pub at: Second,
    /// How long it was, in seconds.
    pub lasts: Second,
    /// What came of it.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Figures {
    fn of(slot: &Slot) -> Self {
        let ms = |share| slot.latency.quantile(share).map(|seconds| seconds * 1000.0);
        let part = |some: f64, all: f64| if all > 0.0 { some / all } else { 0.0 };
        Self {
            p50_ms: ms(0.5),
            p95_ms: ms(0.95),
            p99_ms: ms(0.99),
            requests: slot.served,
            refused: part(slot.refused, slot.served + slot.refused),
            at_edge: part(slot.at_edge, slot.served),
            at_own_edge: part(slot.at_own_edge, slot.served),
            up: slot.up,
            down: slot.down,
            failed: slot.failed,
            redirected: slot.redirected,
            held_up: slot.held_up,
            request_gb_hops: slot.request_byte_hops / 1e9,
            move_gb_hops: slot.move_byte_hops / 1e9,
        }
    }

    /// Gigabytes times links, of requests and moves.
    pub fn gb_hops(&self) -> f64 {
        self.request_gb_hops + self.move_gb_hops
    }

    /// Moves in both directions.
    pub fn moves(&self) -> u64 {
        self.up + self.down
    }
}

impl Outcome {
    pub(crate) fn new(policy: Policy, tally: &Tally, sessions: usize, faults: Vec<String>) -> Self {
        let point = |(index, slot): (usize, &Slot)| Point {
            at: index as Second * tally.every,
            lasts: tally.every,
            figures: Figures::of(slot),
        };
        let series = tally.slots.iter().enumerate().map(point).collect();
        Self { policy, total: Figures::of(&tally.total()), sessions, faults, series }
    }
}

impl Report {
    pub(crate) fn new(scenario: &Scenario, outcomes: Vec<Outcome>) -> Self {
        Self {
            nodes: scenario.tree.len(),
            edges: scenario.tree.entries().len(),
            sessions: scenario.workload.sessions.len(),
            workload: scenario.workload.name.clone(),
            seconds: scenario.workload.seconds,
            seed: scenario.seed,
            settings: scenario.settings,
            outcomes,
        }
    }

    /// What came of one policy, if it was played.
    pub fn of(&self, policy: Policy) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.policy == policy)
    }

    /// Heads and rows of the table that people read.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let heads = vec![
            "POLICY",
            "P50 ms",
            "P95 ms",
            "P99 ms",
            "REFUSED",
            "AT EDGE",
            "MOVES UP",
            "DOWN",
            "GB x HOPS",
        ];
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        let row = |outcome: &Outcome| {
            let total = &outcome.total;
            vec![
                outcome.policy.to_string(),
                ms(total.p50_ms),
                ms(total.p95_ms),
                ms(total.p99_ms),
                percent(total.refused),
                percent(total.at_edge),
                total.up.to_string(),
                total.down.to_string(),
                format!("{:.0}", total.gb_hops()),
            ]
        };
        (heads, self.outcomes.iter().map(row).collect())
    }

    /// What was played, in two lines.
    pub fn heading(&self) -> String {
        let mut text = String::new();
        let hours = f64::from(self.seconds) / 3600.0;
        let _ = writeln!(
            text,
            "{} nodes ({} edges), {} sessions, {hours:.1} h: {}",
            self.nodes, self.edges, self.sessions, self.workload
        );
        let requests = self.outcomes.iter().map(|it| it.total.requests).fold(0.0, f64::max);
        let _ = writeln!(text, "{:.1} million requests", requests / 1e6);
        text
    }
}
