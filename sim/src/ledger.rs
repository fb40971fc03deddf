//! Records of sessions that have moved, as the protocol has them.
//!
//! Every move goes through [`funicular::protocol`]: open, agree, freeze, install, settle, and
//! home is told. Where a session is, under which epoch, and how a client is led to it, is what
//! the records say. A session that never moved has one record, its home's, which is made when
//! it is needed.

use std::collections::BTreeMap;

use funicular::protocol::{Access, Begin, BeginAsk, Event, Refusal, begin, step};
use funicular::session::{
    Epoch, Incarnation, LeaseId, Life, Millis, NodeName, Nonce, Pull, Record, Slot, Transfer,
};

use crate::tree::{Index, Tree};
use crate::workload::Session;

/// A client is led no further; the protocol ends after two hops in a quiet system.
const MOST_HOPS: u32 = 8;

/// All records, by session.
#[derive(Debug, Default)]
pub struct Ledger {
    slots: BTreeMap<Session, Vec<(Index, Slot)>>,
    /// Names the next attempt.
    nonce: u128,
}

/// A move that both ends have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Which session.
    pub session: Session,
    /// The source.
    pub from: Index,
    /// The target.
    pub to: Index,
    pull: Pull,
}

impl Ledger {
    /// Opens a move of a session that was created at `home`.
    pub fn open(
        &mut self,
        tree: &Tree,
        session: Session,
        home: Index,
        (from, to): (Index, Index),
        now: Millis,
    ) -> Result<Open, Refusal> {
        let name = |index| tree.at(index).name.clone();
        self.slots
            .entry(session)
            .or_insert_with(|| vec![(home, created(&name(home), session, now))]);
        let (life, epoch) = match &self.slot(session, from).record {
            Some(Record::Owned { life, epoch, .. }) => (life.clone(), *epoch),
            _ => return Err(Refusal::NotOwner { to: None }),
        };
        self.nonce += 1;
        let nonce = Nonce(self.nonce);
        let next_epoch: Epoch = epoch + 1;
        let pull = Pull { life: life.clone(), next_epoch, from: name(from), nonce };
        let transfer = Transfer { to: name(to), next_epoch, nonce };
        self.apply(tree, session, to, now, &Event::OpenPull(pull.clone()))?;
        let agreed = self.apply(tree, session, from, now, &Event::Agree { life, transfer });
        if let Err(refusal) = agreed {
            // What was opened a moment ago closes whatever the reason.
            let _ = self.apply(tree, session, to, now, &Event::ClosePull { nonce });
            return Err(refusal);
        }
        Ok(Open { session, from, to, pull })
    }

    /// The rest of a move: the target owns the session afterwards, the source and home point
    /// to it.
    pub fn finish(
        &mut self,
        tree: &Tree,
        open: &Open,
        home: Index,
        now: Millis,
    ) -> Result<(), Refusal> {
        let Open { session, from, to, pull } = open;
        let name = |index| tree.at(index).name.clone();
        let (life, epoch) = (pull.life.clone(), pull.next_epoch);
        let freeze = Event::Freeze { nonce: pull.nonce, wait_until: now };
        self.apply(tree, *session, *from, now, &freeze)?;
        self.apply(tree, *session, *to, now, &Event::Install { pull: pull.clone() })?;
        let done = Event::Done { life: life.clone(), epoch, to: name(*to) };
        self.apply(tree, *session, *from, now, &done)?;
        self.apply(tree, *session, *to, now, &Event::Settled { epoch })?;
        if home != *from && home != *to {
            let told = Event::HomeUpdate { life, epoch, to: name(*to) };
            self.apply(tree, *session, home, now, &told)?;
            self.apply(tree, *session, *to, now, &Event::Told { epoch })?;
        }
        Ok(())
    }

    /// A session ends where it is, and home forgets it.
    pub fn expire(&mut self, tree: &Tree, session: Session, home: Index, now: Millis) {
        let Some(owner) = self.owner(session) else { return };
        let told = self.slot(session, owner);
        let Some((life, epoch)) = told.record.map(|record| (record.life().clone(), record.epoch()))
        else {
            return;
        };
        let expired = self.apply(tree, session, owner, now, &Event::Expire { unused_since: now });
        if expired.is_ok() && owner != home {
            let _ = self.apply(tree, session, home, now, &Event::HomeExpired { life, epoch });
            let _ = self.apply(tree, session, owner, now, &Event::ExpiryTold { epoch });
        }
        self.slots.remove(&session);
    }

    /// How many redirects lead a client from a node to its session; `None`: it is not led
    /// there.
    pub fn follow(&self, tree: &Tree, session: Session, from: Index, now: Millis) -> Option<u32> {
        let ask = BeginAsk {
            access: Access::Read,
            create: None,
            lease: LeaseId(0),
            lease_ttl: 0,
            frozen_reads: true,
            unsettled_writes: None,
        };
        let mut at = from;
        for hops in 0..MOST_HOPS {
            let slot = self.slot(session, at);
            match begin(&slot, &tree.at(at).name, now, &ask).1 {
                Begin::Run { .. } => return Some(hops),
                Begin::Redirect { to, .. } => at = self.named(tree, session, &to)?,
                _ => return None,
            }
        }
        None
    }

    /// The node that holds a session that has moved; `None`: it never did.
    pub fn owner(&self, session: Session) -> Option<Index> {
        let slots = self.slots.get(&session)?;
        let holds = |slot: &Slot| slot.record.as_ref().is_some_and(Record::holds_data);
        slots.iter().find(|(_, slot)| holds(slot)).map(|(at, _)| *at)
    }

    /// Every record of a session that has moved, by node.
    pub fn records(&self, session: Session) -> &[(Index, Slot)] {
        self.slots.get(&session).map_or(&[], Vec::as_slice)
    }

    /// Sessions that have records here.
    pub fn sessions(&self) -> impl Iterator<Item = Session> {
        self.slots.keys().copied()
    }

    /// Names are compared with those of the session's own nodes: there are few.
    fn named(&self, tree: &Tree, session: Session, name: &NodeName) -> Option<Index> {
        let slots = self.slots.get(&session)?;
        slots.iter().map(|(at, _)| *at).find(|at| tree.at(*at).name == *name)
    }

    fn slot(&self, session: Session, at: Index) -> Slot {
        let found = self.records(session).iter().find(|(node, _)| *node == at);
        found.map(|(_, slot)| slot.clone()).unwrap_or_default()
    }

    fn apply(
        &mut self,
        tree: &Tree,
        session: Session,
        at: Index,
        now: Millis,
        event: &Event,
    ) -> Result<(), Refusal> {
        let slot = self.slot(session, at);
        let next = step(&slot, &tree.at(at).name, now, event)?.slot;
        let slots = self.slots.entry(session).or_default();
        match slots.iter_mut().find(|(node, _)| *node == at) {
            Some((_, slot)) => *slot = next,
            None => slots.push((at, next)),
        }
        Ok(())
    }
}

/// The record of a session that its home has just created.
fn created(home: &NodeName, session: Session, now: Millis) -> Slot {
    let ask = BeginAsk {
        access: Access::Read,
        create: Some(Incarnation(u128::from(session) + 1)),
        lease: LeaseId(0),
        lease_ttl: 0,
        frozen_reads: false,
        unsettled_writes: None,
    };
    begin(&Slot::default(), home, now, &ask).0
}

/// What is wrong with a session's records: more than one owner, or what the protocol itself
/// checks; nothing is well.
pub fn faults(tree: &Tree, records: &[(Index, Slot)]) -> Vec<String> {
    let holds = |slot: &Slot| slot.record.as_ref().is_some_and(Record::holds_data);
    let owners = records.iter().filter(|(_, slot)| holds(slot)).count();
    let mut faults: Vec<String> = records
        .iter()
        .flat_map(|(at, slot)| funicular::protocol::violations(slot, &tree.at(*at).name))
        .map(str::to_owned)
        .collect();
    if owners != 1 {
        faults.push(format!("{owners} nodes own it"));
    }
    let lives: std::collections::BTreeSet<&Life> =
        records.iter().filter_map(|(_, slot)| slot.record.as_ref().map(Record::life)).collect();
    if lives.len() > 1 {
        faults.push("there are two lives of it".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Settings;

    proptest! {
        /// Up and down a path, in any order: one owner, who is found from home and from
        /// wherever the session has been.
        #[test]
        fn a_session_is_at_one_node_and_is_found(ways in proptest::collection::vec(0usize..4, 1..30)) {
            let tree = Tree::generated(40, 4, &Settings::default()).unwrap();
            let home = tree.entries()[5];
            let path: Vec<Index> = std::iter::once(home).chain(tree.ancestors(home)).collect();
            let mut ledger = Ledger::default();
            let mut at = home;
            for (now, way) in ways.into_iter().enumerate() {
                let to = path[way];
                if to == at {
                    continue;
                }
                let now = now as Millis;
                let open = ledger.open(&tree, 7, home, (at, to), now).unwrap();
                prop_assert_eq!(ledger.owner(7), Some(at));
                // Another move has to wait.
                let other = path.iter().find(|node| **node != at && **node != to).unwrap();
                prop_assert!(ledger.open(&tree, 7, home, (at, *other), now).is_err());
                ledger.finish(&tree, &open, home, now).unwrap();
                let before = at;
                at = to;
                prop_assert_eq!(ledger.owner(7), Some(at));
                prop_assert_eq!(faults(&tree, ledger.records(7)), Vec::<String>::new());
                prop_assert_eq!(ledger.follow(&tree, 7, at, now), Some(0));
                prop_assert_eq!(ledger.follow(&tree, 7, before, now), Some(1));
                prop_assert!(ledger.follow(&tree, 7, home, now).unwrap() <= 1);
            }
            ledger.expire(&tree, 7, home, 1000);
            prop_assert_eq!(ledger.sessions().count(), 0);
        }
    }
}
