//! What must hold of the whole world after each step, and at rest.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{NODES, World};
use crate::protocol::violations;
use crate::session::{Epoch, Life, Record};

/// What nobody in the world knows: everything that ever happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Ghost {
    /// Writes that a client was told of, in order.
    pub acknowledged: BTreeMap<Life, Vec<u32>>,
    /// Those of them that a store forgot before they were on disk.
    pub may_be_lost: BTreeSet<u32>,
    /// Lives that ended, and where; perhaps not on disk yet.
    pub expiring: BTreeMap<Life, usize>,
    /// Lives that ended for good.
    pub expired: BTreeSet<Life>,
    /// Which node owned a life under an epoch.
    pub owners: BTreeMap<(Life, Epoch), usize>,
    /// Nodes that a person gave up somewhere.
    pub given_up: BTreeSet<usize>,
}

impl Ghost {
    pub(super) fn expiry_is_durable(&mut self, node: usize) {
        let here = self.expiring.extract_if(.., |_, at| *at == node);
        self.expired.extend(here.map(|(life, _)| life));
    }
}

impl World {
    fn lives(&self) -> BTreeSet<Life> {
        let known = (0..NODES).filter_map(|node| self.record(node));
        let acknowledged = self.ghost.acknowledged.keys().cloned();
        known.map(|record| record.life().clone()).chain(acknowledged).collect()
    }

    /// The nodes whose record of a life is as said.
    fn nodes_where(&self, life: &Life, holds: impl Fn(&Record) -> bool) -> Vec<usize> {
        let fits = |node: &usize| {
            self.record(*node).is_some_and(|record| record.life() == life && holds(record))
        };
        (0..NODES).filter(fits).collect()
    }

    /// Who may let writes in. A node that was given up may believe in an older
    /// epoch until it is told.
    fn owners(&self, life: &Life) -> Vec<usize> {
        let owners = self.nodes_where(life, |record| matches!(record, Record::Owned { .. }));
        let epoch = |node: usize| self.record(node).map_or(0, Record::epoch);
        let newest = owners.iter().map(|node| epoch(*node)).max().unwrap_or(0);
        let excused = |node: usize| self.ghost.given_up.contains(&node) && epoch(node) < newest;
        owners.into_iter().filter(|node| !excused(*node)).collect()
    }

    /// What is broken, in words; nothing is well.
    pub(super) fn broken(&mut self) -> Vec<String> {
        let mut broken = Vec::new();
        for node in 0..NODES {
            let found = violations(self.slot(node), &self.names[node]);
            broken.extend(found.into_iter().map(|rule| format!("{rule}, at {}", self.names[node])));
            if let Some(Record::Owned { life, epoch, .. }) = self.record(node).cloned() {
                let owner = *self.ghost.owners.entry((life, epoch)).or_insert(node);
                if owner != node {
                    broken.push(format!("epoch {epoch} names two owners: {owner} and {node}"));
                }
            }
        }
        let mut homes = BTreeSet::new();
        for life in self.lives() {
            let owners = self.owners(&life);
            if owners.len() > 1 {
                broken.push(format!("{life:?} is owned by {owners:?}"));
            }
            let mut holders = self.nodes_where(&life, Record::holds_data);
            if self.ghost.expired.contains(&life) {
                holders.retain(|node| !self.ghost.given_up.contains(node));
                if !holders.is_empty() {
                    broken.push(format!("{life:?} ended and is at {holders:?}"));
                }
                continue;
            }
            if self.ghost.expiring.contains_key(&life) {
                continue;
            }
            if !holders.is_empty() && !homes.insert(life.home.clone()) {
                broken.push(format!("two sessions live that were created at {}", life.home));
            }
            let newest = owners.first().or(holders.first());
            broken.extend(self.lost(&life, newest.copied()));
        }
        broken
    }

    /// Whether acknowledged writes are missing, or out of order, at `holder`.
    fn lost(&self, life: &Life, holder: Option<usize>) -> Option<String> {
        let ghost = &self.ghost;
        let acknowledged = ghost.acknowledged.get(life)?;
        let data = holder.map(|node| self.stores[node].known().data.clone()).unwrap_or_default();
        let mut places = acknowledged
            .iter()
            .map(|write| data.iter().position(|kept| kept == write))
            .zip(acknowledged)
            .filter(|(place, write)| place.is_some() || !ghost.may_be_lost.contains(write));
        let whole = places.clone().all(|(place, _)| place.is_some());
        let ordered = places.by_ref().map(|(place, _)| place).is_sorted();
        let well = whole && ordered && data.iter().all(|write| acknowledged.contains(write));
        (!well && ghost.given_up.is_empty()).then(|| {
            format!("{life:?} at {holder:?}: {acknowledged:?} acknowledged, {data:?} kept")
        })
    }

    /// Nothing happens any more, all are back: lets everybody say what they have to
    /// until nobody has, and says what is broken then.
    pub(super) fn at_rest(&mut self) -> Vec<String> {
        self.stumbles = false;
        (0..NODES).for_each(|node| self.sync(node));
        for _ in 0..16 {
            if self.bag.is_empty() && !(0..NODES).any(|node| self.slot(node).pending()) {
                break;
            }
            self.wait();
            for node in 0..NODES {
                while let Some(envelope) = (!self.bag.is_empty()).then(|| self.bag.remove(0)) {
                    self.deliver(envelope);
                }
                // A pull that nobody works on any more.
                if let Some(pull) = self.slot(node).pull.clone() {
                    self.close(node, pull.nonce);
                }
                self.look_after(node);
            }
        }
        let mut broken = self.broken();
        for node in 0..NODES {
            // Nobody answers a node that was given up.
            if self.slot(node).pending() && !self.ghost.given_up.contains(&node) {
                broken.push(format!("{} is still in doubt: {:?}", node, self.slot(node)));
            }
        }
        for life in self.lives() {
            let owners = self.nodes_where(&life, |record| matches!(record, Record::Owned { .. }));
            let ended = self.ghost.expired.contains(&life);
            let pointed = self.nodes_where(&life, |_| true);
            // A life that was never on disk leaves nothing behind.
            let someone = !ended && !pointed.is_empty() && self.ghost.given_up.is_empty();
            if owners.len() > 1 || (someone && owners.is_empty()) {
                broken.push(format!("{life:?} is owned by {owners:?} at rest"));
            }
            if let [owner] = owners[..] {
                broken.extend(self.home_knows(&life, owner));
            }
        }
        broken
    }

    /// From home it is one hop at most (G4): from anywhere else, one to home more.
    fn home_knows(&self, life: &Life, owner: usize) -> Option<String> {
        let home = self.index(&life.home);
        match self.record(home) {
            _ if home == owner => None,
            Some(Record::Moved { life: known, to, .. })
                if known == life && *to == self.names[owner] =>
            {
                None
            }
            _ if !self.ghost.given_up.is_empty() => None,
            other => Some(format!("home does not know that {owner} has {life:?}: {other:?}")),
        }
    }
}
