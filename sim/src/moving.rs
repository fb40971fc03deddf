//! Moves, from beginning to end: their records, how long they take, what they cost.

use funicular::session::Millis;

use crate::carry;
use crate::ledger::Open;
use crate::oracles::Oracles;
use crate::run::{Run, State};
use crate::tally::Slot;
use crate::tree::Index;
use crate::workload::Session;

/// A move that is under way.
#[derive(Debug)]
pub(crate) struct Moving {
    open: Open,
    /// The node whose oracle wanted it, if one did, and the function.
    wanted: Option<(Index, u32)>,
}

impl Run<'_> {
    /// Begins a move; when it ends, in milliseconds. `None`: it may not begin.
    pub(crate) fn begin_move(
        &mut self,
        session: Session,
        to: Index,
        starts: Millis,
        wanted: Option<(Index, u32)>,
    ) -> Option<Millis> {
        let State { at: from, arrived, .. } = self.sessions[session as usize];
        let home = self.home(session);
        let tree = &self.scenario.tree;
        let now = self.millis();
        let dwell = self.scenario.rules.file.policy.dwell.0.as_secs();
        if let Some(ago) = arrived.map(|at| self.now - at).filter(|ago| u64::from(*ago) < dwell) {
            self.faults.push(format!("session {session} moves again after {ago} s"));
        }
        let open = self.ledger.open(tree, session, home, (from, to), now).ok()?;
        let rtt = tree.way(from, to).0 as f64 / 1e6;
        let bytes = f64::from(self.of(session).1);
        let takes = carry::seconds(bytes, rtt, self.scenario.settings.bandwidth);
        let ends = starts + (takes * 1000.0).ceil() as Millis;
        self.sessions[session as usize].moving = true;
        self.moves += 1;
        self.moving.insert((ends, self.moves), Moving { open, wanted });
        Some(ends)
    }

    /// Moves that have come to their end.
    pub(crate) fn arrivals(&mut self, mut oracles: Option<&mut Oracles>) {
        let now = self.millis();
        while let Some(first) = self.moving.first_entry() {
            if first.key().0 > now {
                break;
            }
            let moving = first.remove();
            if let (Some(oracles), Some((node, function))) = (&mut oracles, moving.wanted) {
                oracles.ended(node, function);
            }
            self.arrive(&moving.open);
        }
    }

    fn arrive(&mut self, open: &Open) {
        let Open { session, from, to, .. } = *open;
        let home = self.home(session);
        let now = self.millis();
        self.sessions[session as usize].moving = false;
        if self.ledger.finish(&self.scenario.tree, open, home, now).is_err() {
            self.tally.at(self.now + 1).failed += 1;
            return;
        }
        let (rtt, hops) = self.scenario.tree.way(from, to);
        let bytes = f64::from(self.of(session).1);
        for node in [from, to] {
            self.settle(node);
            self.nodes[node as usize].backlog += carry::work(bytes);
        }
        let active = self.sessions[session as usize].active;
        if active {
            self.client(session, false);
        }
        self.unplace(session);
        self.place(session, to);
        self.stray(session, from, to);
        self.sessions[session as usize].arrived = Some(self.now);
        if active {
            self.client(session, true);
        }
        let up = self.scenario.tree.in_subtree(to, from);
        let slot = self.tally.at(self.now + 1);
        slot.move_byte_hops += bytes * f64::from(hops);
        match up {
            true => slot.up += 1,
            false => slot.down += 1,
        }
        self.note(up);
        if active {
            let held_up = carry::downtime(bytes, rtt as f64 / 1e6);
            let weight = self.rate(session) * held_up;
            let took = self.usual(session) + held_up / 2.0;
            let slot = self.tally.at(self.now + 1);
            slot.held_up += weight;
            slot.latency.add(took, weight);
            let followed = self.ledger.follow(&self.scenario.tree, session, from, now);
            self.redirected(session, from, followed.unwrap_or(1));
        }
    }

    fn note(&mut self, up: bool) {
        match self.schedule.last_mut().filter(|(at, ..)| *at == self.now) {
            Some((_, ups, downs)) => {
                *ups += u32::from(up);
                *downs += u32::from(!up);
            }
            None => self.schedule.push((self.now, u32::from(up), u32::from(!up))),
        }
    }

    /// What half of a session's requests take at most.
    fn usual(&self, session: Session) -> f64 {
        let State { at, edge, .. } = self.sessions[session as usize];
        let settings = &self.scenario.settings;
        let way = settings.access_ms / 1000.0 + self.scenario.tree.way(edge, at).0 as f64 / 1e6;
        let behind = self.nodes[at as usize].backlog / self.queue(at).servers();
        way + behind + self.queue(at).sojourn(0.5)[1]
    }

    /// A client asks at a node that sends it on.
    pub(crate) fn redirected(&mut self, session: Session, asked: Index, hops: u32) {
        let State { edge, .. } = self.sessions[session as usize];
        let settings = &self.scenario.settings;
        let there =
            settings.access_ms / 1000.0 + self.scenario.tree.way(edge, asked).0 as f64 / 1e6;
        let took = self.usual(session) + there * f64::from(hops);
        let slot: &mut Slot = self.tally.at(self.now + 1);
        slot.redirected += f64::from(hops);
        slot.latency.add(took, 1.0);
    }
}
