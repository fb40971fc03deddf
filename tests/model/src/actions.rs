//! Everything that can happen, within bounds.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::clients::{Met, Running};
use crate::messages::Sent;
use crate::protocol::Begin;
use crate::rest::Rests;
use crate::session::{Epoch, Life, Record};
use crate::world::{NODES, Omission, World};

/// How often what is bounded may happen, and what may happen at all.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "bounds that have no number")]
pub struct Scope {
    /// What it explores, in a word or two.
    pub name: &'static str,
    /// Session keys.
    pub keys: usize,
    /// Stores are synced with every write; else they forget what was not synced.
    pub always: bool,
    /// At the beginning a session has moved from the first node to the second already;
    /// what that took counts.
    pub moved: bool,
    /// Pulls that may be begun.
    pub moves: u8,
    /// Writing requests that may be let in.
    pub writes: u8,
    /// Different request ids among them.
    pub ids: u8,
    /// Lives that may be created.
    pub lives: u8,
    /// Stores that may crash.
    pub crashes: u8,
    /// Processes that may end between a step and its sync.
    pub stumbles: u8,
    /// Leases that may run out.
    pub lapses: u8,
    /// Nodes that a person may give up.
    pub given_up: u8,
    /// Idle sessions expire.
    pub expiry: bool,
    /// Pointers age, and are followed.
    pub pointers: bool,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A client writes.
    Write {
        /// Where.
        node: usize,
        /// In which session.
        key: usize,
        /// Under which id.
        request: u8,
    },
    /// A running write ends.
    Commit(Running),
    /// A target begins to pull.
    Pull {
        /// Which session.
        key: usize,
        /// From where to where.
        way: (usize, usize),
        /// Which life of it.
        life: Life,
        /// The epoch that was offered.
        epoch: Epoch,
    },
    /// A message arrives, perhaps not for the first time.
    Deliver(Sent),
    /// The same, and the process ends before the step is on disk.
    Stumble(Sent),
    /// A node asks and tells what it has to.
    LookAfter(usize, usize),
    /// A target gives its pull up.
    GiveUpPull(usize, usize),
    /// An idle session ends.
    Expire(usize, usize),
    /// A pointer is old.
    Age(usize, usize),
    /// A pointer is followed.
    Follow(usize, usize),
    /// A store crashes and comes back with one of its moments.
    Crash(usize, usize),
    /// Leases run out.
    Lapse(usize, usize),
    /// A person gives up the node that this one waits for.
    Abandon(usize, usize),
}

/// The protocol within a scope.
#[derive(Debug, Default)]
pub struct Protocol {
    /// The bounds.
    pub scope: Scope,
    /// What the shell leaves out.
    pub omits: Omission,
    /// States that come to rest.
    pub rests: Rests,
}

impl Protocol {
    fn pulls(&self, world: &World, actions: &mut Vec<Action>) {
        if world.used.moves >= self.scope.moves {
            return;
        }
        // Whoever owned a life may have offered it: the offer arrives now.
        for ((key, life, epoch), from) in &world.ghost.owners {
            for to in (0..NODES).filter(|to| to != from) {
                let way = (*from, to);
                actions.push(Action::Pull { key: *key, way, life: life.clone(), epoch: *epoch });
            }
        }
    }

    fn writes(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(world.running.iter().cloned().map(Action::Commit));
        if world.used.writes >= self.scope.writes {
            return;
        }
        for node in 0..NODES {
            for key in 0..world.keys() {
                let write = |request| Action::Write { node, key, request };
                actions.extend((1..=self.scope.ids).map(write));
            }
        }
    }

    fn faults(&self, world: &World, actions: &mut Vec<Action>) {
        let (scope, used) = (&self.scope, &world.used);
        for node in 0..NODES {
            if used.crashes < scope.crashes {
                let moments = world.stores[node].moments();
                actions.extend((0..moments).map(|with| Action::Crash(node, with)));
            }
            for key in 0..world.keys() {
                if used.lapses < scope.lapses {
                    actions.push(Action::Lapse(node, key));
                }
                if used.given_up < scope.given_up {
                    actions.push(Action::Abandon(node, key));
                }
            }
        }
    }

    fn upkeep(&self, world: &World, actions: &mut Vec<Action>) {
        for node in 0..NODES {
            for key in 0..world.keys() {
                let slot = world.slot(node, key);
                let moved = matches!(slot.record, Some(Record::Moved { .. }));
                if slot.pull.is_some() {
                    actions.push(Action::GiveUpPull(node, key));
                }
                if slot.pending() || !world.always {
                    actions.push(Action::LookAfter(node, key));
                }
                if self.scope.expiry && matches!(slot.record, Some(Record::Owned { .. })) {
                    actions.push(Action::Expire(node, key));
                }
                if self.scope.pointers && moved {
                    actions.extend([Action::Age(node, key), Action::Follow(node, key)]);
                }
            }
        }
    }

    /// What a world is after an action.
    fn after(&self, before: &World, action: Action) -> World {
        let mut world = before.clone();
        match action {
            Action::Write { node, key, request } => {
                let may_create = world.used.lives < self.scope.lives;
                world.begin(node, key, request, may_create);
            }
            Action::Commit(running) => world.commit(&running),
            Action::Pull { key, way, life, epoch } => world.pull(key, way, &life, epoch),
            Action::Deliver(sent) => world.deliver(sent.envelope()),
            Action::Stumble(sent) => {
                world.stumbles = true;
                world.deliver(sent.envelope());
                world.stumbles = false;
                if world.stores != before.stores {
                    world.used.stumbles += 1;
                }
            }
            Action::LookAfter(node, key) => world.look_after(node, key),
            Action::GiveUpPull(node, key) => {
                if let Some(pull) = world.slot(node, key).pull.clone() {
                    world.close(node, key, pull.nonce);
                }
            }
            Action::Expire(node, key) => world.expire(node, key),
            Action::Age(node, key) => world.age(node, key),
            Action::Follow(node, key) => world.follow(node, key),
            Action::Crash(node, with) => {
                world.crash(node, with);
                world.used.crashes += 1;
            }
            Action::Lapse(node, key) => {
                world.lapse(node, key);
                if world != *before {
                    world.used.lapses += 1;
                }
            }
            Action::Abandon(node, key) => world.abandon(node, key),
        }
        world
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self.scope.keys, self.scope.always, self.omits);
        if self.scope.moved {
            world.move_one();
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.writes(world, actions);
        self.pulls(world, actions);
        actions.extend(world.sent.iter().cloned().map(Action::Deliver));
        if world.used.stumbles < self.scope.stumbles {
            actions.extend(world.sent.iter().cloned().map(Action::Stumble));
        }
        self.upkeep(world, actions);
        self.faults(world, actions);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = self.after(before, action);
        world.note_owners();
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("G1 single writer", |_, world: &World| {
                world.second_writer().is_none()
            }),
            Property::always("G2 no loss", |_, world: &World| world.lost_write().is_none()),
            Property::always("G3 exactly once", |_, world: &World| {
                world.repeated_write().is_none()
            }),
            Property::always("G4 redirects end", |_, world: &World| {
                world.endless_redirects().is_none()
            }),
            Property::always("G7 recovery", |model: &Self, world: &World| {
                world.unrest(&model.rests).is_none()
            }),
            Property::always("invariants", |_, world: &World| world.violation().is_none()),
        ];
        let scope = self.scope;
        let resumes = Property::sometimes("a move ends with no", |_, world: &World| resumed(world));
        if scope.moves > 0 {
            properties.extend([
                Property::sometimes("a move completes", |model: &Self, w| {
                    completed(w, model.scope.moved)
                }),
                resumes,
            ]);
        }
        if scope.expiry {
            let ended = |_: &Self, world: &World| !world.ghost.ended.is_empty();
            properties.push(Property::sometimes("a session expires", ended));
        }
        if scope.lives > 1 {
            let anew = |_: &Self, world: &World| world.used.lives > 1;
            properties.push(Property::sometimes("a session is created anew", anew));
        }
        if scope.moves > 0 && scope.writes > 0 {
            properties
                .push(Property::sometimes("a repeat is replayed after a move", |_, w| replays(w)));
        }
        if scope.crashes > 0 && scope.moves > 0 {
            properties
                .push(Property::sometimes("a session goes on after a restart", |_, w: &World| {
                    w.used.crashes > 0 && resumed(w)
                }));
        }
        if scope.given_up > 0 {
            let gone = |_: &Self, world: &World| !world.ghost.given_up.is_empty() && resumed(world);
            properties.push(Property::sometimes("a session goes on without a lost node", gone));
        }
        properties
    }
}

impl World {
    /// A session is created, written to and moved, and nothing goes wrong.
    fn move_one(&mut self) {
        self.begin(0, 0, 1, true);
        if let Some(running) = self.running.first().cloned() {
            self.commit(&running);
        }
        self.note_owners();
        if let Some(life) = self.lives(0).first().cloned() {
            self.pull(0, (0, 1), &life, 1);
        }
        let mut arrived = BTreeSet::new();
        while let Some(sent) = self.sent.iter().find(|sent| !arrived.contains(*sent)).cloned() {
            self.deliver(sent.envelope());
            self.note_owners();
            arrived.insert(sent);
        }
    }
}

/// Some session is where it was moved to, and all who have to know it do.
fn completed(world: &World, moved: bool) -> bool {
    let after = if moved { 3 } else { 2 };
    world.ghost.owners.iter().any(|((key, life, epoch), node)| {
        let slot = world.slot(*node, *key);
        let owned = matches!(&slot.record, Some(Record::Owned { life: own, epoch: now, .. })
            if own == life && now == epoch);
        *epoch == after && owned && !slot.pending()
    })
}

/// Some session went on where it was: its next epoch was never anybody's.
fn resumed(world: &World) -> bool {
    world.ghost.owners.iter().any(|((key, life, epoch), node)| {
        let before = |epoch| world.ghost.owners.get(&(*key, life.clone(), epoch));
        *epoch > 2 && before(epoch - 1).is_none() && before(epoch - 2) == Some(node)
    })
}

/// Some request that took effect at one node is known at another.
fn replays(world: &World) -> bool {
    world.ghost.owners.iter().any(|((key, life, epoch), node)| {
        let record = world.slot(*node, *key).record.as_ref();
        *epoch == 2
            && record.is_some_and(|record| record.life() == life && record.epoch() == 2)
            && world.known(*node, *key).data.iter().any(|request| {
                let met = world.meet(*node, *key, *request, false);
                met == Met::Replay && !matches!(met, Met::Begin(Begin::Run { .. }, _))
            })
    })
}
