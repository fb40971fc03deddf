//! Three nodes and what is between them.
//!
//! A crash may take any suffix of what a store was told since its last sync. What was
//! ever sent stays on its way: it may arrive late, twice, in any order, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use crate::clients::Running;
use crate::messages::{Envelope, Message, Sent};
use crate::protocol::{Event, Payload, Refusal, Reply, step};
use crate::session::{Epoch, Incarnation, Life, Millis, NodeName, Slot};
use crate::store::{Data, Known, Moment, Store};

/// How many nodes there are; all of them create sessions but the last.
pub const NODES: usize = 3;
/// The moment it always is: what passes is said by what ran out (see [`Slot::lease`]).
pub const NOW: Millis = 10;
/// A moment to come; until it is made to pass.
pub const SOON: Millis = 20;
/// A moment that is over.
pub const PAST: Millis = 0;

static NAMES: LazyLock<[NodeName; NODES]> = LazyLock::new(|| {
    ["edge", "middle", "root"].map(|name| NodeName::new(name).unwrap_or_else(|e| panic!("{e}")))
});

/// A node's name.
pub fn name(node: usize) -> &'static NodeName {
    &NAMES[node]
}

/// A name's node.
pub fn index(name: &NodeName) -> usize {
    NAMES.iter().position(|known| known == name).unwrap_or_else(|| panic!("{name} is no node"))
}

/// What rule 3 wants on disk before it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Said {
    /// The source agreed.
    Intent,
    /// The target did not install and never will.
    No,
    /// The target installed.
    Yes,
    /// The source knows that the target installed.
    Acknowledgement,
    /// The session ended.
    Expiry,
    /// Home knows where the session is, or that it ended.
    HomeKnows,
}

/// What the shell around the core leaves out, to see that it is missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Omission {
    /// This is said before it is on disk.
    pub sync: Option<Said>,
    /// The window is not looked at.
    pub window: bool,
}

/// What nobody in the world knows: what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Which node owned a life under an epoch.
    pub owners: BTreeMap<(usize, Life, Epoch), usize>,
    /// Writes that clients were told of, and that no store was allowed to forget.
    pub acknowledged: BTreeMap<(usize, Life), Data>,
    /// Lives that ended at a node, perhaps not on disk yet.
    pub expiring: BTreeMap<(usize, Life), usize>,
    /// Lives that ended for good.
    pub ended: BTreeSet<(usize, Life)>,
    /// Nodes that a person gave up somewhere.
    pub given_up: BTreeSet<usize>,
    /// What was broken in a step rather than in a state.
    pub broken: Option<&'static str>,
}

/// How often what is bounded has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Used {
    /// Pulls begun.
    pub moves: u8,
    /// Writing requests let in.
    pub writes: u8,
    /// Sessions created.
    pub lives: u8,
    /// Stores that crashed.
    pub crashes: u8,
    /// Processes that ended between a step and its sync.
    pub stumbles: u8,
    /// Leases that ran out.
    pub lapses: u8,
    /// Nodes that were given up.
    pub given_up: u8,
}

/// A state of everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// One a node.
    pub stores: [Store; NODES],
    /// Whom each node has given up.
    pub barred: [BTreeSet<usize>; NODES],
    /// What was ever sent, in an order that is always the same.
    pub sent: Arc<Vec<Sent>>,
    /// Writing requests at work.
    pub running: Vec<Running>,
    /// What happened.
    pub ghost: Arc<Ghost>,
    /// How often.
    pub used: Used,
    /// What the shell leaves out.
    pub omits: Omission,
    /// Stores are synced with every write (`appendfsync always`).
    pub always: bool,
    /// The step at hand is not synced, and nobody is told of it.
    pub stumbles: bool,
}

impl World {
    /// Nodes that know nothing, of so many session keys.
    pub fn new(keys: usize, always: bool, omits: Omission) -> Self {
        let store = || Store::new(keys);
        Self {
            stores: [store(), store(), store()],
            barred: Default::default(),
            sent: Arc::default(),
            running: Vec::new(),
            ghost: Arc::default(),
            used: Used::default(),
            omits,
            always,
            stumbles: false,
        }
    }

    /// How many session keys there are.
    pub fn keys(&self) -> usize {
        self.stores[0].keys()
    }

    /// What a node knows of a key.
    pub fn known(&self, node: usize, key: usize) -> &Known {
        self.stores[node].known(key)
    }

    /// The protocol's part of it.
    pub fn slot(&self, node: usize, key: usize) -> &Slot {
        &self.known(node, key).slot
    }

    /// What becomes known, not on disk yet.
    pub fn write(&mut self, node: usize, key: usize, known: Known) {
        self.stores[node].write(key, known);
        if self.always {
            self.sync(node);
        }
    }

    /// What happened, to add to it.
    pub fn happened(&mut self) -> &mut Ghost {
        Arc::make_mut(&mut self.ghost)
    }

    /// Sends a message, unless it was sent before.
    pub fn send(&mut self, key: usize, from: usize, to: usize, message: Message) {
        if self.stumbles {
            return;
        }
        let sent = Sent::new(Envelope { key, from, to, message });
        if let Err(place) = self.sent.binary_search(&sent) {
            Arc::make_mut(&mut self.sent).insert(place, sent);
        }
    }

    /// A step that need not be on disk.
    pub fn eventual(&mut self, node: usize, key: usize, event: &Event) -> Result<Reply, Refusal> {
        let known = self.known(node, key);
        if let Event::Install { pull } = event
            && known.slot.pull.as_ref() == Some(pull)
            && !known.stages.contains_key(&pull.nonce)
        {
            return Err(Refusal::NoSuchMove);
        }
        let applied = step(&known.slot, name(node), NOW, event)?;
        let mut next = Known { slot: applied.slot, ..known.clone() };
        match applied.payload {
            Payload::Keep => {}
            Payload::Drop | Payload::SetAside => next.data.clear(),
            Payload::Adopt(nonce) => next.data = next.stages.remove(&nonce).unwrap_or_default(),
            Payload::DropStage(nonce) => drop(next.stages.remove(&nonce)),
        }
        if matches!(event, Event::Expire { .. })
            && applied.reply == Reply::Changed
            && let Some(record) = &known.slot.record
        {
            let life = record.life().clone();
            self.happened().expiring.insert((key, life), node);
        }
        self.write(node, key, next);
        Ok(applied.reply)
    }

    /// A step that is on disk before anybody is told.
    pub fn synced(&mut self, node: usize, key: usize, event: &Event) -> Result<Reply, Refusal> {
        let outcome = self.eventual(node, key, event);
        if !self.stumbles && !self.leaves_out(event, outcome.as_ref().ok()) {
            self.sync(node);
        }
        outcome
    }

    /// Everything that a node's store knows is on disk.
    pub fn sync(&mut self, node: usize) {
        self.stores[node].sync();
        if self.ghost.expiring.values().any(|at| *at == node) {
            let ghost = self.happened();
            let (durable, others) =
                std::mem::take(&mut ghost.expiring).into_iter().partition(|(_, at)| *at == node);
            ghost.expiring = others;
            let durable: BTreeMap<_, _> = durable;
            ghost.ended.extend(durable.into_keys());
        }
    }

    fn leaves_out(&self, event: &Event, reply: Option<&Reply>) -> bool {
        let said = match event {
            Event::Agree { .. } => Said::Intent,
            Event::ClosePull { .. } => Said::No,
            Event::Ask { .. } if reply == Some(&Reply::NotInstalled) => Said::No,
            Event::Ask { .. } | Event::Install { .. } => Said::Yes,
            Event::Done { .. } => Said::Acknowledgement,
            Event::Expire { .. } => Said::Expiry,
            Event::HomeUpdate { .. } | Event::HomeExpired { .. } => Said::HomeKnows,
            _ => return false,
        };
        self.omits.sync == Some(said)
    }

    /// The leases of a node run out, and what waits for a turn has waited enough.
    pub fn lapse(&mut self, node: usize, key: usize) {
        self.stores[node].amend(key, |slot| {
            if let Some(lease) = &mut slot.lease {
                lease.until = PAST;
            }
            slot.freeze_until = None;
        });
    }

    /// The store ends without a word and comes back with one of the moments since its
    /// last sync; the node recovers it before anything else.
    pub fn crash(&mut self, node: usize, with: usize) {
        let before = self.stores[node].come_back(with);
        self.running.retain(|running| running.node != node);
        for key in 0..self.keys() {
            self.forgive(node, key, &before);
            // Never refused: a record without an intent stays as it is.
            let _ = self.eventual(node, key, &Event::StoreRestarted);
            let record = self.slot(node, key).record.as_ref();
            if let Some(record) = record.filter(|record| record.holds_data()) {
                let life = (key, record.life().clone());
                self.happened().expiring.remove(&life);
            }
        }
        self.sync(node);
    }

    /// Writes that a store may forget, and did, are owed to nobody, unless another
    /// node has them.
    fn forgive(&mut self, node: usize, key: usize, before: &BTreeSet<Moment>) {
        let after = self.known(node, key).data.clone();
        let forgotten = |life: &Life, write: &u8| {
            let held = |moment: &Moment| {
                let record = moment[key].slot.record.as_ref();
                record.is_some_and(|record| record.life() == life)
                    && moment[key].data.contains(write)
            };
            before.iter().any(held) && !after.contains(write)
        };
        let elsewhere = |life: &Life, write: &u8| {
            (0..NODES).filter(|other| *other != node).any(|other| {
                let known = self.stores[other].known(key);
                known.slot.record.as_ref().is_some_and(|record| record.life() == life)
                    && known.data.contains(write)
            })
        };
        let mut acknowledged = self.ghost.acknowledged.clone();
        for ((_, life), writes) in acknowledged.iter_mut().filter(|((of, _), _)| *of == key) {
            writes.retain(|write| !forgotten(life, write) || elsewhere(life, write));
        }
        self.happened().acknowledged = acknowledged;
    }

    /// The next life's incarnation.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(u128::from(self.used.lives) + 1)
    }
}
