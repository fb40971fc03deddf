//! What came of a run, as it goes on.

use crate::histogram::Histogram;
use crate::workload::Second;

/// So many points in time, at most.
const SLOTS: u32 = 144;

/// What came of one stretch of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slot {
    /// How long requests took, in seconds.
    pub latency: Histogram,
    /// Requests that were served at an edge.
    pub at_edge: f64,
    /// Requests that were served at the very edge where their client was.
    pub at_own_edge: f64,
    /// Requests that were served.
    pub served: f64,
    /// Requests that were refused.
    pub refused: f64,
    /// Requests that were redirected.
    pub redirected: f64,
    /// Requests that waited for a move.
    pub held_up: f64,
    /// Sessions that moved up.
    pub up: u64,
    /// Sessions that moved down.
    pub down: u64,
    /// Moves that were refused, or whose session had gone.
    pub failed: u64,
    /// Bytes of requests and responses times the links that they went over.
    pub request_byte_hops: f64,
    /// Bytes of sessions that moved times the links that they went over.
    pub move_byte_hops: f64,
}

impl Slot {
    /// Takes all of another one in.
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.at_edge += other.at_edge;
        self.at_own_edge += other.at_own_edge;
        self.served += other.served;
        self.refused += other.refused;
        self.redirected += other.redirected;
        self.held_up += other.held_up;
        self.up += other.up;
        self.down += other.down;
        self.failed += other.failed;
        self.request_byte_hops += other.request_byte_hops;
        self.move_byte_hops += other.move_byte_hops;
    }
}

/// What came of a run, by time.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// How long a slot is, in seconds.
    pub every: Second,
    /// The slots.
    pub slots: Vec<Slot>,
}

impl Tally {
    /// Of a run of so many seconds.
    pub fn new(seconds: Second) -> Self {
        let every = seconds.div_ceil(SLOTS).max(10);
        let count = seconds.div_ceil(every).max(1);
        Self { every, slots: vec![Slot::default(); count as usize] }
    }

    /// The slot that ends at `until`, or into which it falls.
    pub fn at(&mut self, until: Second) -> &mut Slot {
        let last = self.slots.len() - 1;
        let index = until.saturating_sub(1) / self.every;
        &mut self.slots[(index as usize).min(last)]
    }

    /// All of it.
    pub fn total(&self) -> Slot {
        let mut total = Slot::default();
        for slot in &self.slots {
            total.merge(slot);
        }
        total
    }
}
