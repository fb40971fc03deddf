//! What must hold in every state (G1–G4).

use std::collections::BTreeSet;

use crate::protocol::violations;
use crate::session::{Epoch, Life, Record};
use crate::world::{NODES, World, index, name};

impl World {
    /// The lives of a key that anybody knows or was told of.
    pub fn lives(&self, key: usize) -> BTreeSet<Life> {
        let known = (0..NODES).filter_map(|node| self.slot(node, key).record.as_ref());
        let told = self.ghost.acknowledged.keys().filter(|(of, _)| *of == key);
        known
            .map(|record| record.life().clone())
            .chain(told.map(|(_, life)| life.clone()))
            .collect()
    }

    /// The nodes whose record of a life is as said.
    pub fn nodes_where(&self, key: usize, life: &Life, is: impl Fn(&Record) -> bool) -> Vec<usize> {
        let fits = |node: &usize| {
            let record = self.slot(*node, key).record.as_ref();
            record.is_some_and(|record| record.life() == life && is(record))
        };
        (0..NODES).filter(fits).collect()
    }

    fn epoch(&self, node: usize, key: usize) -> Epoch {
        self.slot(node, key).record.as_ref().map_or(0, Record::epoch)
    }

    /// Who may let writes in. A node that was given up may believe in an older
    /// epoch until it is told.
    fn owners(&self, key: usize, life: &Life) -> Vec<usize> {
        let owners = self.nodes_where(key, life, |record| matches!(record, Record::Owned { .. }));
        let newest = owners.iter().map(|node| self.epoch(*node, key)).max().unwrap_or(0);
        let excused =
            |node: usize| self.ghost.given_up.contains(&node) && self.epoch(node, key) < newest;
        owners.into_iter().filter(|node| !excused(*node)).collect()
    }

    /// Notes who owns what; an epoch that names two owners is broken for good.
    pub fn note_owners(&mut self) {
        for node in 0..NODES {
            for key in 0..self.keys() {
                let Some(Record::Owned { life, epoch, .. }) = &self.slot(node, key).record else {
                    continue;
                };
                let owner = (key, life.clone(), *epoch);
                match self.ghost.owners.get(&owner) {
                    Some(known) if *known == node => {}
                    Some(_) => self.happened().broken = Some("an epoch names two owners"),
                    None => drop(self.happened().owners.insert(owner, node)),
                }
            }
        }
    }

    /// What is wrong with the owners (G1).
    pub fn second_writer(&self) -> Option<String> {
        if let Some(broken) = self.ghost.broken {
            return Some(broken.to_owned());
        }
        (0..self.keys()).find_map(|key| {
            let mut homes = BTreeSet::new();
            self.lives(key).into_iter().find_map(|life| {
                let owners = self.owners(key, &life);
                if owners.len() > 1 {
                    return Some(format!("{life:?} is owned by {owners:?}"));
                }
                let mut holders = self.nodes_where(key, &life, Record::holds_data);
                let of = (key, life.clone());
                if self.ghost.ended.contains(&of) {
                    holders.retain(|node| !self.ghost.given_up.contains(node));
                    let alive = !holders.is_empty();
                    return alive.then(|| format!("{life:?} ended and is at {holders:?}"));
                }
                let ending = self.ghost.expiring.contains_key(&of);
                let second = !ending && !holders.is_empty() && !homes.insert(life.home.clone());
                second.then(|| format!("a second life of {} beside {life:?}", life.home))
            })
        })
    }

    /// Which acknowledged writes are not where their session is (G2).
    pub fn lost_write(&self) -> Option<String> {
        if !self.ghost.given_up.is_empty() {
            return None;
        }
        self.ghost.acknowledged.iter().find_map(|((key, life), acknowledged)| {
            let of = (*key, life.clone());
            if self.ghost.ended.contains(&of) || self.ghost.expiring.contains_key(&of) {
                return None;
            }
            let holders = self.nodes_where(*key, life, Record::holds_data);
            let holder = holders.into_iter().max_by_key(|node| self.epoch(*node, *key));
            let data = holder.map(|node| &self.known(node, *key).data[..]).unwrap_or_default();
            let mut kept = data.iter();
            // In the order in which they were acknowledged.
            let whole = acknowledged.iter().all(|write| kept.any(|known| known == write));
            (!whole).then(|| format!("{acknowledged:?} of {life:?}, at {holder:?} only {data:?}"))
        })
    }

    /// Which request took effect twice (G3).
    pub fn repeated_write(&self) -> Option<String> {
        let twice = |data: &[u8]| data.iter().collect::<BTreeSet<_>>().len() != data.len();
        (0..NODES).find_map(|node| {
            let mut known = (0..self.keys()).map(|key| &self.known(node, key).data);
            known.find(|data| twice(data)).map(|data| format!("{data:?} at {}", name(node)))
        })
    }

    /// Whether following pointers from somewhere does not end (G4).
    pub fn endless_redirects(&self) -> Option<String> {
        (0..self.keys()).find_map(|key| (0..NODES).find_map(|from| self.way_from(from, key)))
    }

    fn way_from(&self, from: usize, key: usize) -> Option<String> {
        let mut at = from;
        for _ in 0..NODES {
            let Some(Record::Moved { life, epoch, to, .. }) = &self.slot(at, key).record else {
                return None;
            };
            let next = index(to);
            // Whoever tells home of that epoch would be told that it is known. A pointer
            // that leads home learns there.
            let owner = self.ghost.owners.get(&(key, life.clone(), *epoch));
            if life.home != *to && owner.is_some_and(|owner| *owner != next) {
                return Some(format!("{} looks at {to} for what {owner:?} owns", name(at)));
            }
            // Epochs grow along the way: what a pointer names was so already.
            if let Some(record) = &self.slot(next, key).record
                && record.life() == life
                && record.epoch() < *epoch
                && self.ghost.given_up.is_empty()
            {
                return Some(format!("{} points at an older epoch at {to}", name(at)));
            }
            at = next;
        }
        Some(format!("no way from {} ends", name(from)))
    }

    /// Which invariant of the core itself is broken.
    pub fn violation(&self) -> Option<String> {
        (0..NODES).find_map(|node| {
            (0..self.keys()).find_map(|key| {
                let broken = violations(self.slot(node, key), name(node));
                broken.first().map(|rule| format!("{rule}, at {}", name(node)))
            })
        })
    }
}
