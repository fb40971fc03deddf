//! From every state everything comes to rest (G7): faults are over, whatever was on
//! its way is lost, and everybody asks and tells what they have to until nobody has.
//!
//! One fair way there is tried from each state. Ways meet: what is known to come to
//! rest is remembered, so that most of them are short.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dashmap::DashSet;

use crate::messages::Sent;
use crate::session::{Life, Record};
use crate::store::Store;
use crate::world::{Ghost, NODES, World, index, name};

/// After so many rounds of everybody doing what they have to, it goes on for ever.
const ROUNDS: usize = 16;

/// A moment at which nothing is on its way, as far as it matters from there on.
type Quiet = ([Store; NODES], [BTreeSet<usize>; NODES], Ghost);

/// States from which everything comes to rest.
#[derive(Debug, Default)]
pub struct Rests(DashSet<Quiet>);

impl Rests {
    /// How many different quiet states were walked through.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl World {
    fn quiet(&self) -> Quiet {
        let Ghost { acknowledged, ended, given_up, broken, .. } = &*self.ghost;
        let ghost = Ghost {
            owners: BTreeMap::new(),
            // Everything is synced at a quiet moment.
            expiring: BTreeMap::new(),
            acknowledged: acknowledged.clone(),
            ended: ended.clone(),
            given_up: given_up.clone(),
            broken: *broken,
        };
        (self.stores.clone(), self.barred.clone(), ghost)
    }

    /// Says what is wrong when everything should have come to rest; nothing is well.
    pub fn unrest(&self, known: &Rests) -> Option<String> {
        let mut world = self.clone();
        world.stumbles = false;
        world.sent = Arc::default();
        world.running.clear();
        for node in 0..NODES {
            world.sync(node);
            (0..world.keys()).for_each(|key| world.lapse(node, key));
        }
        let mut way = Vec::new();
        for _ in 0..ROUNDS {
            let quiet = world.quiet();
            if known.0.contains(&quiet) {
                break;
            }
            let still = way.last() == Some(&quiet);
            way.push(quiet);
            if !world.in_doubt(still) {
                if let Some(broken) = world.broken_at_rest() {
                    return Some(broken);
                }
                break;
            }
            world.round();
        }
        if way.len() == ROUNDS {
            return Some("somebody is in doubt for ever".to_owned());
        }
        for quiet in way {
            known.0.insert(quiet);
        }
        None
    }

    /// Whether somebody has to ask or tell something. When everybody did and nothing
    /// came of it, a node that was given up does not count: nobody answers it.
    fn in_doubt(&self, still: bool) -> bool {
        let excused = |node: &usize| still && self.ghost.given_up.contains(node);
        let pending = |node| (0..self.keys()).any(|key| self.slot(node, key).pending());
        (0..NODES).filter(|node| !excused(node)).any(pending)
    }

    /// Everybody does once what they have to; all messages arrive, in order.
    fn round(&mut self) {
        for node in 0..NODES {
            for key in 0..self.keys() {
                // A pull that nobody works on any more.
                if let Some(pull) = self.slot(node, key).pull.clone() {
                    self.close(node, key, pull.nonce);
                }
                self.look_after(node, key);
                let mut coming = VecDeque::from_iter(self.leave());
                while let Some(sent) = coming.pop_front() {
                    self.deliver(sent.envelope());
                    coming.extend(self.leave());
                }
            }
        }
        (0..NODES).for_each(|node| self.sync(node));
    }

    /// What was sent is on its way, and nobody sends it again.
    fn leave(&mut self) -> Vec<Sent> {
        Arc::unwrap_or_clone(std::mem::take(&mut self.sent))
    }

    fn broken_at_rest(&self) -> Option<String> {
        let broken = self.second_writer().or_else(|| self.lost_write());
        broken.or_else(|| (0..self.keys()).find_map(|key| self.unowned(key)))
    }

    fn unowned(&self, key: usize) -> Option<String> {
        self.lives(key).into_iter().find_map(|life| {
            let owners =
                self.nodes_where(key, &life, |record| matches!(record, Record::Owned { .. }));
            let ended = self.ghost.ended.contains(&(key, life.clone()));
            // A life that was never on disk leaves nothing behind.
            let known = !self.nodes_where(key, &life, |_| true).is_empty();
            let someone = !ended && known && self.ghost.given_up.is_empty();
            let home = index(&life.home);
            let left = self.slot(home, key).record.as_ref();
            if ended && left.is_some_and(|record| *record.life() == life) {
                return Some(format!("home has {left:?} left of a life that ended"));
            }
            match owners[..] {
                [owner] => self.far_from_home(key, &life, owner),
                [] if !someone => None,
                _ => Some(format!("{life:?} is owned by {owners:?} at rest")),
            }
        })
    }

    /// From home it is one hop at most (G4): from anywhere else, one to home more.
    fn far_from_home(&self, key: usize, life: &Life, owner: usize) -> Option<String> {
        let home = index(&life.home);
        match &self.slot(home, key).record {
            _ if home == owner || !self.ghost.given_up.is_empty() => None,
            Some(Record::Moved { life: known, to, .. }) if known == life && to == name(owner) => {
                None
            }
            other => Some(format!("home does not know who has {life:?}: {other:?}")),
        }
    }
}
