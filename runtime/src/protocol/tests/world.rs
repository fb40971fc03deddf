//! Three nodes, one session key. A store keeps what it was told since its last
//! sync as a history, any suffix of which a crash may take.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::Ghost;
use crate::protocol::{
    Access, Begin, BeginAsk, Event, Payload, Refusal, Reply, Turn, begin, commit, step,
};
use crate::session::{
    Epoch, Incarnation, LeaseId, Life, Millis, NodeName, Nonce, Pull, Record, Slot, Transfer,
};

/// How many nodes there are; all of them create sessions but the last.
pub(super) const NODES: usize = 3;
/// How long a lease holds.
const LEASE: Millis = 100;

/// The writes that a session has taken, in order; also its deduplication window.
pub(super) type Data = Vec<u32>;

/// What a store knows at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub slot: Slot,
    pub data: Data,
    pub stages: BTreeMap<Nonce, Data>,
}

/// A store: what is on disk first, what it knows last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Store {
    history: Vec<Known>,
    /// `appendfsync always`: everything is on disk at once.
    always: bool,
}

impl Store {
    pub(super) fn known(&self) -> &Known {
        self.history.last().expect("a store knows something")
    }

    fn write(&mut self, known: Known) {
        if *self.known() != known {
            self.history.push(known);
        }
        if self.always {
            self.sync();
        }
    }

    fn sync(&mut self) {
        self.history.drain(..self.history.len() - 1);
    }

    /// Loses as many of the last writes that were not synced.
    fn forget(&mut self, lost: usize) {
        let keep = self.history.len().saturating_sub(lost).max(1);
        self.history.truncate(keep);
    }
}

/// A writing request that runs.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub node: usize,
    lease: LeaseId,
    life: Life,
    epoch: Epoch,
}

/// A message, as the nodes send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// To the target: pull this from me.
    Offer {
        life: Life,
        epoch: Epoch,
    },
    Open(Pull),
    Opened(Pull),
    Freeze(Pull),
    Page(Pull, Data),
    /// Of the target to itself: all pages are staged.
    Install(Pull),
    Refused(Pull),
    Done {
        life: Life,
        epoch: Epoch,
    },
    Settled {
        epoch: Epoch,
    },
    Superseded {
        epoch: Epoch,
        by: Epoch,
    },
    Ask {
        life: Life,
        transfer: Transfer,
    },
    Answer {
        transfer: Transfer,
        installed: bool,
    },
    Update {
        life: Life,
        epoch: Epoch,
        at: usize,
    },
    Updated {
        life: Life,
        epoch: Epoch,
    },
    Expired {
        life: Life,
        epoch: Epoch,
    },
    ExpiryTaken {
        epoch: Epoch,
    },
    Whereabouts {
        life: Life,
        epoch: Epoch,
    },
    Place {
        life: Life,
        epoch: Epoch,
        at: NodeName,
    },
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub from: usize,
    pub to: usize,
    pub message: Message,
}

/// Three nodes and what is between them.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub names: [NodeName; NODES],
    pub stores: [Store; NODES],
    pub barred: [BTreeSet<usize>; NODES],
    pub bag: Vec<Envelope>,
    pub running: Vec<Running>,
    pub now: Millis,
    pub ghost: Ghost,
    next: u32,
    /// The next synced step is not synced, and nobody is told of it.
    pub stumbles: bool,
}

impl World {
    pub(super) fn new(always: bool) -> Self {
        let store = || Store { history: vec![Known::default()], always };
        Self {
            names: ["edge", "middle", "root"].map(|name| name.parse().expect("a name")),
            stores: [store(), store(), store()],
            barred: Default::default(),
            bag: Vec::new(),
            running: Vec::new(),
            now: 1,
            ghost: Ghost::default(),
            next: 0,
            stumbles: false,
        }
    }

    pub(super) fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(super) fn index(&self, name: &NodeName) -> usize {
        self.names.iter().position(|known| known == name).expect("a node")
    }

    pub(super) fn slot(&self, node: usize) -> &Slot {
        &self.stores[node].known().slot
    }

    pub(super) fn record(&self, node: usize) -> Option<&Record> {
        self.slot(node).record.as_ref()
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        self.bag.push(Envelope { from, to, message });
    }

    /// A step that need not be on disk.
    pub(super) fn eventual(&mut self, node: usize, event: &Event) -> Result<Reply, Refusal> {
        let known = self.stores[node].known();
        if let Event::Install { pull } = event
            && known.slot.pull.as_ref() == Some(pull)
            && !known.stages.contains_key(&pull.nonce)
        {
            return Err(Refusal::NoSuchMove);
        }
        let applied = step(&known.slot, &self.names[node], self.now, event)?;
        let mut next = Known { slot: applied.slot, ..known.clone() };
        match applied.payload {
            Payload::Keep => {}
            Payload::Drop | Payload::SetAside => next.data.clear(),
            Payload::Adopt(nonce) => next.data = next.stages.remove(&nonce).expect("a stage"),
            Payload::DropStage(nonce) => drop(next.stages.remove(&nonce)),
        }
        if matches!(event, Event::Expire { .. }) && applied.reply == Reply::Changed {
            let life = known.slot.record.as_ref().expect("it expired").life();
            self.ghost.expiring.insert(life.clone(), node);
        }
        self.stores[node].write(next);
        Ok(applied.reply)
    }

    /// A step that is on disk before anybody is told; `None` if it is not, and
    /// nobody is.
    pub(super) fn synced(&mut self, node: usize, event: &Event) -> Option<Result<Reply, Refusal>> {
        let outcome = self.eventual(node, event);
        if std::mem::take(&mut self.stumbles) {
            return None;
        }
        self.sync(node);
        Some(outcome)
    }

    /// Everything that a node's store knows is on disk.
    pub(super) fn sync(&mut self, node: usize) {
        self.stores[node].sync();
        self.ghost.expiry_is_durable(node);
    }

    pub(super) fn stage(&mut self, node: usize, pull: &Pull, data: Data) -> bool {
        let known = self.stores[node].known();
        let open = known.slot.pull.as_ref() == Some(pull);
        if open {
            let mut next = known.clone();
            next.stages.insert(pull.nonce, data);
            self.stores[node].write(next);
        }
        open
    }

    /// A client's write comes to a node. `quiet`: it may assume that the session's
    /// source has stopped its reads.
    pub(super) fn begin(&mut self, node: usize, quiet: bool) {
        let number = u128::from(self.fresh());
        let known = self.stores[node].known();
        let epoch = known.slot.record.as_ref().map(Record::epoch);
        let ask = BeginAsk {
            access: Access::Write,
            create: (node + 1 < NODES).then_some(Incarnation(number)),
            lease: LeaseId(number),
            lease_ttl: LEASE,
            frozen_reads: false,
            unsettled_writes: epoch.filter(|_| quiet),
        };
        let (slot, outcome) = begin(&known.slot, &self.names[node], self.now, &ask);
        if let Begin::Run { .. } = outcome {
            let record = slot.record.as_ref().expect("it runs in a session");
            let (life, epoch) = (record.life().clone(), record.epoch());
            let next = Known { slot, ..known.clone() };
            self.stores[node].write(next);
            self.running.push(Running { node, lease: ask.lease, life, epoch });
        }
    }

    /// A running write ends: acknowledged, or lost.
    pub(super) fn commit(&mut self, pick: usize) {
        if self.running.is_empty() {
            return;
        }
        let Running { node, lease, life, epoch } =
            self.running.swap_remove(pick % self.running.len());
        let number = self.fresh();
        let known = self.stores[node].known();
        let turn = Turn { lease, life: &life, epoch };
        if let Some(slot) = commit(&known.slot, &turn, self.now, 0) {
            let mut next = Known { slot, ..known.clone() };
            next.data.push(number);
            self.stores[node].write(next);
            self.ghost.acknowledged.entry(life).or_default().push(number);
        }
    }

    /// The store ends without a word and comes back without `lost` of its last
    /// writes; the node recovers it before anything else.
    pub(super) fn crash(&mut self, node: usize, lost: usize) {
        let before: BTreeSet<u32> =
            self.stores[node].history.iter().flat_map(|known| known.data.clone()).collect();
        self.stores[node].forget(lost);
        let after = &self.stores[node].known().data;
        let gone = before.into_iter().filter(|write| !after.contains(write));
        self.ghost.may_be_lost.extend(gone);
        self.eventual(node, &Event::StoreRestarted).expect("it is never refused");
        if let Some(record) = self.record(node).filter(|record| record.holds_data()) {
            // Its own expiry was forgotten, if there was one: not that of another node, which
            // had given this one up.
            let life = record.life().clone();
            self.ghost.expiring.retain(|expiring, at| *expiring != life || *at != node);
        }
        self.sync(node);
    }

    /// The process ends; its store does not. What it had sent is on its way.
    pub(super) fn restart(&mut self, node: usize) {
        self.running.retain(|running| running.node != node);
    }

    /// Long enough for every lease to run out.
    pub(super) fn wait(&mut self) {
        self.now += LEASE + 1;
    }
}
