//! The shadow of all stores together: which node owns which life, what a store was
//! allowed to forget, and what clients saw. It looks at every change as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use funicular::protocol::violations;
use funicular::session::{Life, NodeName, Record, SessionId, Slot};
use parking_lot::Mutex;

use crate::function::{Token, Tokens};
use crate::trace::Trace;

/// One life of a session of a function (by its number).
pub type LifeKey = (usize, SessionId, Life);
/// A token in one of a session's lists.
pub type Entry = (&'static str, Token);

/// What a client saw of a life's list, and when.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it asked first.
    pub began: Duration,
    /// When it was answered.
    pub ended: Duration,
    /// The list; after a write, its own token is in it.
    pub list: Vec<Token>,
    /// What it wrote.
    pub wrote: Option<Token>,
}

/// What is known of a life.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Nodes that serve it as its owner.
    owners: BTreeSet<usize>,
    /// Nodes that have its data, frozen or not.
    holders: BTreeSet<usize>,
    /// It was at another node than home.
    travelled: bool,
    /// A store forgot that it was ever created.
    pub vanished: bool,
    /// It expired, with these tokens.
    pub ended: Option<Tokens>,
    /// A person gave a node up that had gone on with it.
    pub forked: bool,
    /// What a store was allowed to forget, and nobody has.
    pub forgotten: BTreeSet<Entry>,
    /// What was forgotten once, and perhaps written again.
    pub shaken: BTreeSet<Entry>,
    /// What clients saw.
    pub seen: Vec<Seen>,
}

/// A request whose answer says that nothing was written.
pub type Refused = (usize, SessionId, Token);

#[derive(Default)]
struct State {
    lives: BTreeMap<LifeKey, Story>,
    refused: BTreeSet<Refused>,
    sent: BTreeMap<Token, u64>,
}

/// The shadow of all stores.
pub struct Shadow {
    trace: Arc<Trace>,
    sites: Vec<NodeName>,
    state: Mutex<State>,
}

fn owned(slot: &Slot) -> Option<&Life> {
    match &slot.record {
        Some(Record::Owned { life, .. }) => Some(life),
        _ => None,
    }
}

fn held(slot: &Slot) -> Option<&Life> {
    slot.record.as_ref().filter(|record| record.holds_data()).map(Record::life)
}

impl Shadow {
    /// Nothing is known yet.
    pub fn new(trace: Arc<Trace>, sites: Vec<NodeName>) -> Self {
        Self { trace, sites, state: Mutex::default() }
    }

    /// A store that serves changed what it knows of a session.
    pub fn changed(
        &self,
        (site, f): (usize, usize),
        what: &str,
        id: &SessionId,
        before: &Slot,
        after: &Slot,
    ) {
        if before.record == after.record {
            return;
        }
        // Whom a person gave up may have gone on with the session.
        if what == "abandon"
            && let Some(record) = &before.record
        {
            self.forked(f, id, record.life());
        }
        for broken in violations(after, &self.sites[site]) {
            self.trace.fault(format!("at {}: {broken}: {after:?}", self.sites[site]));
        }
        if before.record.is_none()
            && let Some(life) = owned(after)
            && after.pull.is_none()
            && life.home == self.sites[site]
        {
            self.created(f, id, life);
        }
        self.moved(site, f, id, before, after);
    }

    /// A life begins: earlier ones of the same home must have ended.
    fn created(&self, f: usize, id: &SessionId, new: &Life) {
        let state = self.state.lock();
        let alive = state.lives.iter().find(|((function, session, life), story)| {
            *function == f
                && session == id
                && life.home == new.home
                && life.incarnation != new.incarnation
                && story.ended.is_none()
                && !story.vanished
        });
        let alive = alive.map(|((_, _, life), _)| life.clone());
        drop(state);
        if let Some(alive) = alive {
            self.trace.fault(format!("G2: {id} begins anew as {new:?} while {alive:?} lives"));
        }
    }

    fn moved(&self, site: usize, f: usize, id: &SessionId, before: &Slot, after: &Slot) {
        let mut state = self.state.lock();
        let mut dropped = false;
        for (life, was) in [(held(before), true), (held(after), false)] {
            let Some(life) = life else { continue };
            let story = state.lives.entry((f, id.clone(), life.clone())).or_default();
            match was {
                true => {
                    story.holders.remove(&site);
                    story.owners.remove(&site);
                    let stays = held(after) == Some(life);
                    dropped |= !stays
                        && story.holders.is_empty()
                        && story.ended.is_none()
                        && !story.forked;
                }
                false => {
                    story.holders.insert(site);
                    story.travelled |= life.home != self.sites[site];
                }
            }
        }
        if dropped {
            drop(state);
            let name = &self.sites[site];
            self.trace.fault(format!("G2: {name} dropped the last copy of {id}: {before:?}"));
            return;
        }
        let Some(life) = owned(after) else { return };
        let story = state.lives.entry((f, id.clone(), life.clone())).or_default();
        story.owners.insert(site);
        let two = story.owners.len() > 1 && !story.forked;
        let owners = story.owners.clone();
        drop(state);
        if two {
            let names: Vec<_> = owners.iter().map(|owner| &self.sites[*owner]).collect();
            self.trace.fault(format!("G1: {id} of {life:?} has the owners {names:?}"));
        }
    }

    /// A store is away, or does not let requests in yet.
    pub fn silenced(&self, site: usize, f: usize) {
        for ((function, ..), story) in &mut self.state.lock().lives {
            if *function == f {
                story.owners.remove(&site);
            }
        }
    }

    /// A store forgot: `lost` is what nobody else has on disk.
    pub fn forgot(
        &self,
        site: usize,
        f: usize,
        id: &SessionId,
        (before, after): (&Slot, &Slot),
        lost: BTreeSet<Entry>,
    ) {
        let mut state = self.state.lock();
        let mut faults = Vec::new();
        let (was, is) = (held(before), held(after));
        if let Some(life) = is {
            let story = state.lives.entry((f, id.clone(), life.clone())).or_default();
            story.holders.insert(site);
            story.ended = None;
        }
        if let Some(life) = was {
            let story = state.lives.entry((f, id.clone(), life.clone())).or_default();
            story.forgotten.extend(lost.iter().copied());
            story.shaken.extend(lost);
            if is != Some(life) {
                story.holders.remove(&site);
                if story.holders.is_empty() && !story.forked {
                    story.vanished = !story.travelled;
                    if story.travelled {
                        faults.push(format!("G2: nobody has {id} of {life:?} any more"));
                    }
                }
            }
        }
        drop(state);
        for fault in faults {
            self.trace.fault(fault);
        }
    }

    /// A store lets requests in: it owns these again.
    pub fn serves(&self, site: usize, f: usize, slots: &[(SessionId, Slot)]) {
        for (id, slot) in slots {
            self.moved(site, f, id, &Slot::default(), slot);
        }
    }

    /// What an owner has on disk is not forgotten any more.
    pub fn durable(&self, f: usize, id: &SessionId, life: &Life, tokens: &Tokens) {
        let mut state = self.state.lock();
        let Some(story) = state.lives.get_mut(&(f, id.clone(), life.clone())) else { return };
        if story.forgotten.is_empty() {
            return;
        }
        for (list, tokens) in tokens {
            for token in tokens {
                story.forgotten.remove(&(*list, *token));
            }
        }
    }

    /// A commit was applied.
    pub fn committed(&self, f: usize, id: &SessionId, life: &Life, entries: &[Entry]) {
        let mut state = self.state.lock();
        let story = state.lives.entry((f, id.clone(), life.clone())).or_default();
        for entry in entries {
            story.forgotten.remove(entry);
        }
    }

    /// An idle session ended.
    pub fn expired(&self, f: usize, id: &SessionId, life: &Life, tokens: Tokens) {
        let mut state = self.state.lock();
        let story = state.lives.entry((f, id.clone(), life.clone())).or_default();
        story.ended = Some(tokens);
    }

    /// A person gave a node up, and its copy of the session with it.
    fn forked(&self, f: usize, id: &SessionId, life: &Life) {
        let mut state = self.state.lock();
        state.lives.entry((f, id.clone(), life.clone())).or_default().forked = true;
    }

    /// A client was answered.
    pub fn saw(&self, key: LifeKey, seen: Seen) {
        let unique: BTreeSet<_> = seen.list.iter().collect();
        if unique.len() != seen.list.len() {
            self.trace.fault(format!("G3: {} holds a token twice: {:?}", key.1, seen.list));
        }
        if seen.wrote.is_some_and(|token| seen.list.last() != Some(&token)) {
            self.trace.fault(format!("G3: a write of {} was answered with another's", key.1));
        }
        self.state.lock().lives.entry(key).or_default().seen.push(seen);
    }

    /// A client was told that nothing was written.
    pub fn refused(&self, refused: Refused) {
        self.state.lock().refused.insert(refused);
    }

    /// A value was sent to so many nodes, and the client was told.
    pub fn sent(&self, token: Token, targets: u64) {
        self.state.lock().sent.insert(token, targets);
    }

    /// Everything, for the judge.
    pub fn told(&self) -> (BTreeMap<LifeKey, Story>, BTreeSet<Refused>, BTreeMap<Token, u64>) {
        let state = self.state.lock();
        (state.lives.clone(), state.refused.clone(), state.sent.clone())
    }
}
