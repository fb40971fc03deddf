//! Writing requests, repeated by their id.

use crate::protocol::{Access, Begin, BeginAsk, Turn, begin, commit};
use crate::session::{Epoch, LeaseId, Life, Record};
use crate::store::Known;
use crate::world::{NODES, NOW, SOON, World, name};

/// A writing request that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Running {
    /// Where.
    pub node: usize,
    /// In which session.
    pub key: usize,
    /// Its id.
    pub request: u8,
    lease: LeaseId,
    life: Life,
    epoch: Epoch,
    /// How many writes it saw.
    seen: usize,
}

/// What a request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// The first answer, again.
    Replay,
    /// The protocol's decision, and what the store knows then.
    Begin(Begin, Box<Known>),
}

impl World {
    /// A client's write comes to a node.
    pub fn meet(&self, node: usize, key: usize, request: u8, may_create: bool) -> Met {
        let known = self.known(node, key);
        let record = known.slot.record.as_ref();
        let serves = record.is_some_and(Record::holds_data);
        if serves && !self.omits.window && known.data.contains(&request) {
            return Met::Replay;
        }
        let ask = BeginAsk {
            access: Access::Write,
            create: (may_create && node + 1 < NODES).then(|| self.incarnation()),
            lease: LeaseId(u128::from(self.used.writes) + 1),
            lease_ttl: SOON - NOW,
            frozen_reads: false,
            // The time that reads may go on for at the source is always over.
            unsettled_writes: record.map(Record::epoch),
        };
        let (slot, outcome) = begin(&known.slot, name(node), NOW, &ask);
        Met::Begin(outcome, Box::new(Known { slot, ..known.clone() }))
    }

    /// It is let in, or nothing happens.
    pub fn begin(&mut self, node: usize, key: usize, request: u8, may_create: bool) {
        let Met::Begin(Begin::Run { created }, next) = self.meet(node, key, request, may_create)
        else {
            return;
        };
        let (Some(record), Some(lease)) = (&next.slot.record, &next.slot.lease) else {
            self.happened().broken = Some("a write runs without a record or a lease");
            return;
        };
        let running = Running {
            node,
            key,
            request,
            lease: lease.id,
            life: record.life().clone(),
            epoch: record.epoch(),
            seen: next.data.len(),
        };
        self.used.writes += 1;
        self.used.lives += u8::from(created);
        self.write(node, key, *next);
        self.running.push(running);
        self.running.sort();
    }

    /// A running write ends: acknowledged, or lost.
    pub fn commit(&mut self, running: &Running) {
        self.running.retain(|other| other != running);
        let Running { node, key, request, lease, life, epoch, seen } = running;
        let known = self.known(*node, *key).clone();
        let turn = Turn { lease: *lease, life, epoch: *epoch };
        let Some(slot) = commit(&known.slot, &turn, NOW, 0) else { return };
        if known.data.len() != *seen {
            self.happened().broken = Some("a write did not see the one before it");
        }
        if self.owner_since(*key, life).is_some_and(|newest| newest > *epoch)
            && !self.ghost.given_up.contains(node)
        {
            self.happened().broken = Some("a stale owner's commit was taken");
        }
        let mut next = Known { slot, ..known };
        next.data.push(*request);
        self.write(*node, *key, next);
        self.happened().acknowledged.entry((*key, life.clone())).or_default().push(*request);
    }

    /// The newest epoch under which a life is owned.
    fn owner_since(&self, key: usize, life: &Life) -> Option<Epoch> {
        let owned = |node| match &self.slot(node, key).record {
            Some(Record::Owned { life: own, epoch, .. }) if own == life => Some(*epoch),
            _ => None,
        };
        (0..NODES).filter_map(owned).max()
    }
}
