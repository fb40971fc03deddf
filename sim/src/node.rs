//! One node under load: the sessions that are there, what their clients send, the backlog.

use std::collections::BTreeMap;

use crate::queue::Queue;
use crate::workload::{ONE, Plan, Rate, Second, Session, Stream};

/// What clients at one distance send to a node, of one stream, at its level of 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    rate: Rate,
    /// Rate times microseconds, there and back.
    rtt: u128,
    /// Rate times links, one way.
    hops: u128,
}

/// What clients at one distance send to a node, of all streams.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Class {
    /// Requests a second.
    pub rate: f64,
    /// Seconds there and back, in the mean.
    pub rtt: f64,
    /// Requests a second times links.
    pub hops: f64,
}

/// What comes to a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flow {
    /// Requests a second.
    pub rate: f64,
    /// By distance, nearest first: by the depth of the node where the ways meet.
    pub classes: Vec<(u32, Class)>,
    /// Requests a second, by function.
    pub by_function: BTreeMap<u32, f64>,
}

/// Sessions of one function at a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub sessions: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How far a client is from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distance {
    /// The depth of the lowest node above both.
    pub meet: u32,
    /// Microseconds there and back.
    pub rtt: u64,
    /// Links, one way.
    pub hops: u32,
}

/// What a node did in a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Served {
    /// Requests that were served.
    pub requests: f64,
    /// Requests that were refused.
    pub refused: f64,
    /// Seconds that each of them waited for the backlog.
    pub behind: f64,
    /// The load that the line in front of the servers was in balance with.
    pub load: f64,
}

/// How long one of the two times is that a node tells of, in seconds.
const WINDOW: Second = 5;

/// What a node tells of the last 5 to 10 seconds: of two times in a row, of which the second is
/// not over yet, the most of each.
#[derive(Debug, Default)]
pub struct Told {
    window: Second,
    before: [f64; 3],
    so_far: [f64; 3],
}

impl Told {
    /// These are so now; what is told then.
    pub fn tell(&mut self, now: Second, values: [f64; 3]) -> [f64; 3] {
        let window = now / WINDOW;
        if window != self.window {
            let next = window == self.window + 1;
            self.before = if next { self.so_far } else { values };
            (self.window, self.so_far) = (window, values);
        }
        self.so_far = std::array::from_fn(|at| self.so_far[at].max(values[at]));
        std::array::from_fn(|at| self.so_far[at].max(self.before[at]))
    }
}

/// A node.
#[derive(Debug, Default)]
pub struct NodeState {
    /// The sessions that are there.
    pub sessions: Vec<Session>,
    /// The same by function.
    pub held: BTreeMap<u32, Held>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Sessions that were created here and are elsewhere.
    pub strays: Vec<Session>,
    /// How many sessions with their home at or below it are above it.
    pub away: u32,
    /// Work that waits, in seconds.
    pub backlog: f64,
    /// Until when everything is accounted for.
    pub accounted: Second,
    /// Seconds of work done since somebody looked.
    pub busy: f64,
    /// When somebody looked.
    pub looked: Second,
    /// Waiting and latency, as it tells of them.
    pub told: Told,
    /// When somebody looks again.
    pub next_look: Second,
    cells: BTreeMap<(u32, u32), Cell>,
    flow: Flow,
    stale: bool,
}

impl NodeState {
    /// A client sends to this node from now on, or no more.
    pub fn client(&mut self, plan: &Plan, from: Distance, comes: bool) {
        let key = (from.meet, plan.stream);
        let cell = self.cells.entry(key).or_default();
        let rtt = u128::from(plan.rate) * u128::from(from.rtt);
        let hops = u128::from(plan.rate) * u128::from(from.hops);
        if comes {
            cell.rate += plan.rate;
            cell.rtt += rtt;
            cell.hops += hops;
        } else {
            cell.rate -= plan.rate;
            cell.rtt -= rtt;
            cell.hops -= hops;
            if cell.rate == 0 {
                self.cells.remove(&key);
            }
        }
        self.stale = true;
    }

    /// Streams have other levels from now on.
    pub fn levels_change(&mut self) {
        self.stale = !self.cells.is_empty();
    }

    /// What comes to it, with streams at their levels in this minute.
    pub fn flow(&mut self, streams: &[Stream], minute: u32) -> &Flow {
        if self.stale {
            self.stale = false;
            self.flow = Flow::default();
            let mut by_meet: BTreeMap<u32, Class> = BTreeMap::new();
            for ((meet, stream), cell) in &self.cells {
                let stream = &streams[*stream as usize];
                let level = stream.level(minute);
                if level <= 0.0 || cell.rate == 0 {
                    continue;
                }
                let rate = cell.rate as f64 / ONE * level;
                let class = by_meet.entry(*meet).or_default();
                class.rate += rate;
                // For now the sum; the mean below.
                class.rtt += cell.rtt as f64 / ONE * level / 1e6;
                class.hops += cell.hops as f64 / ONE * level;
                self.flow.rate += rate;
                *self.flow.by_function.entry(stream.function).or_default() += rate;
            }
            for class in by_meet.values_mut() {
                class.rtt /= class.rate;
            }
            self.flow.classes = by_meet.into_iter().rev().collect();
        }
        &self.flow
    }

    /// Works for `seconds`, with `rate` requests coming a second. Those that would wait for
    /// longer than `patience` seconds are refused.
    pub fn work(&mut self, queue: &Queue, rate: f64, seconds: f64, patience: f64) -> Served {
        let arriving = rate * seconds;
        if queue.servers().is_infinite() {
            self.backlog = 0.0;
            return Served { requests: arriving, ..Served::default() };
        }
        let load = rate * queue.service() / queue.servers();
        let before = self.backlog;
        let can = queue.servers() * seconds;
        let work = before + arriving * queue.service();
        let done = work.min(can);
        let most = patience * queue.servers();
        let left = work - done;
        self.backlog = left.min(most);
        let refused = ((left - self.backlog) / queue.service()).min(arriving);
        self.busy += done;
        let behind = f64::midpoint(before, self.backlog) / queue.servers();
        Served { requests: arriving - refused, refused, behind, load }
    }

    /// A session comes.
    pub fn take(&mut self, session: Session, function: u32, bytes: u32) -> u32 {
        let place = self.sessions.len() as u32;
        self.sessions.push(session);
        let held = self.held.entry(function).or_default();
        held.sessions += 1;
        held.bytes += u64::from(bytes);
        self.bytes += u64::from(bytes);
        place
    }

    /// The session at a place goes; the one that takes its place, if any.
    pub fn give(&mut self, place: u32, function: u32, bytes: u32) -> Option<Session> {
        self.sessions.swap_remove(place as usize);
        if let Some(held) = self.held.get_mut(&function) {
            held.sessions -= 1;
            held.bytes -= u64::from(bytes);
        }
        self.bytes -= u64::from(bytes);
        self.sessions.get(place as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate: f64) -> Plan {
        Plan { start: 0, end: 10, edge: 1, stream: 0, rate: (rate * ONE) as Rate, bytes: 10 }
    }

    #[test]
    fn what_is_told_lags_by_five_to_ten_seconds() {
        let mut told = Told::default();
        let mut says = |now, value: f64| told.tell(now, [value, 0.0, 0.0])[0];
        assert_eq!((says(21, 0.5), says(22, 0.2), says(25, 0.1)), (0.5, 0.5, 0.5));
        assert_eq!((says(29, 0.1), says(30, 0.1)), (0.5, 0.1));
        // Who looks seldom sees what is.
        assert_eq!((says(60, 0.7), says(70, 0.3)), (0.7, 0.3));
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let streams = [Stream { function: 0, levels: None }];
        let mut node = NodeState::default();
        let near = Distance { meet: 3, rtt: 0, hops: 0 };
        let far = Distance { meet: 1, rtt: 8_000, hops: 2 };
        node.client(&plan(0.1), near, true);
        node.client(&plan(0.3), far, true);
        let flow = node.flow(&streams, 0).clone();
        assert!((flow.rate - 0.4).abs() < 1e-9);
        assert_eq!(flow.classes.iter().map(|(meet, _)| *meet).collect::<Vec<_>>(), [3, 1]);
        assert!((flow.classes[1].1.rtt - 0.008).abs() < 1e-9);
        assert!((flow.classes[1].1.hops - 0.6).abs() < 1e-9);
        node.client(&plan(0.1), near, false);
        node.client(&plan(0.3), far, false);
        assert_eq!(*node.flow(&streams, 0), Flow::default());
    }

    #[test]
    fn what_is_too_much_waits_and_then_is_refused() {
        let queue = Queue::new(2.0, 0.1);
        let mut node = NodeState::default();
        // Twice as much as it can do, for a second: a second of work of two servers is left.
        let served = node.work(&queue, 40.0, 1.0, 10.0);
        assert!((node.backlog - 2.0).abs() < 1e-9 && served.refused == 0.0);
        assert!((served.behind - 0.5).abs() < 1e-9 && (node.busy - 2.0).abs() < 1e-9);
        let served = node.work(&queue, 40.0, 20.0, 10.0);
        assert!((node.backlog - 20.0).abs() < 1e-9);
        assert!((served.refused - 220.0).abs() < 1e-6, "{served:?}");
        node.work(&queue, 0.0, 100.0, 10.0);
        assert!(node.backlog == 0.0);
    }
}
