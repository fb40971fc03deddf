//! A store was put back to what it was before: what of it still holds.
//!
//! The node asks the others, and what they say wins: their stores have forgotten
//! nothing. What is here is kept only where nobody else has the session, and under an
//! epoch that nothing said before the restore reaches.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::event::{Payload, Reply, Step};
use super::moves::point;
use crate::session::{Epoch, Life, Millis, NodeName, Record, Slot};

/// Further than a node gets between a backup and its restore: what it said in that time,
/// and has forgotten, is older than what it says from now on. Some two million restores
/// fit into the numbers that a JSON reader keeps exactly.
pub const BEYOND: Epoch = 1 << 32;

/// What another node's record says of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    /// That node.
    pub by: NodeName,
    /// Its record.
    pub record: Record,
}

/// What became of a session at a node whose store was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It stays, as the backup has it; nobody knows of anything newer.
    Kept,
    /// It stays, as the backup has it; it was elsewhere in between, and what was written
    /// since is lost.
    Behind,
    /// Another node has it; what the backup had is in lost+found.
    Given,
    /// It has ended in between; what the backup had is in lost+found.
    Ended,
    /// Others say that it is here, and the backup does not have it.
    Lost,
    /// Another node has it, and this one has a pointer there.
    Elsewhere,
    /// A pointer that nobody needs went.
    Forgotten,
    /// There is nothing to do.
    Nothing,
}

/// Where a life is, as the others have it.
struct Place<'a> {
    by: &'a NodeName,
    life: &'a Life,
    epoch: Epoch,
    has_ended: bool,
}

/// All that is known of one session key when its fate is decided.
struct Known<'a> {
    slot: &'a Slot,
    here: &'a NodeName,
    now: Millis,
    named: &'a [Named],
    asked: &'a BTreeSet<NodeName>,
}

/// Decides what of a slot holds, given what the others name. `asked` are those that
/// answered: what only another one knows is not known.
pub(super) fn restore(
    slot: &Slot,
    here: &NodeName,
    now: Millis,
    named: &[Named],
    asked: &BTreeSet<NodeName>,
) -> Step {
    let known = Known { slot, here, now, named, asked };
    let (next, payload, fate) = match &slot.record {
        Some(Record::Owned { life, epoch, .. } | Record::Migrating { life, epoch, .. }) => {
            known.of_owner(life, *epoch)
        }
        Some(Record::Moved { life, epoch, to, .. }) => known.of_pointer(life, *epoch, to),
        Some(Record::Expired { life, epoch }) => known.of_ended(life, *epoch),
        None => known.of_nothing(),
    };
    Step { slot: next, payload, reply: Reply::Restored { fate } }
}

/// Who has to be asked again about a session, and from which epoch on it should have it:
/// where the newest pointer of a life leads, if that node names nothing as new. The
/// session may have come there after the node was asked. One that was asked again for that
/// epoch and still has nothing has ended the session.
pub fn unconfirmed(
    slot: &Slot,
    here: &NodeName,
    named: &[Named],
    asked: &BTreeSet<NodeName>,
) -> Vec<(NodeName, Epoch)> {
    let known = Known { slot, here, now: 0, named, asked };
    let mut lives: Vec<&Life> = named.iter().map(|named| named.record.life()).collect();
    lives.sort_unstable_by_key(|life| (&life.home, life.incarnation.0));
    lives.dedup();
    let ahead = lives.into_iter().filter_map(|life| known.ahead(life));
    ahead.map(|(epoch, to)| (to.clone(), epoch)).collect()
}

type Outcome = (Slot, Payload, Fate);

impl Known<'_> {
    fn is_silent(&self, node: &NodeName) -> bool {
        node != self.here && !self.asked.contains(node)
    }

    fn of_owner(&self, life: &Life, epoch: Epoch) -> Outcome {
        // A source that is frozen for a move here is no newer than what came of it; any
        // other holder is, and its data with it.
        if let Some(holder) = self.holder(life).filter(|holder| holder.epoch >= epoch) {
            let fate = if holder.has_ended { Fate::Ended } else { Fate::Given };
            return self.away(&holder, Payload::SetAside, fate);
        }
        if let Some(other) = self.holder_instead(&life.home, Some(life)) {
            // A home begins another life of a key only when the last one has ended.
            return match other.life.home == *self.here {
                true => self.away(&other, Payload::SetAside, Fate::Ended),
                false => self.without(Payload::SetAside, Fate::Ended),
            };
        }
        if life.home != *self.here && !self.is_silent(&life.home) && !self.is_known_at_home(life) {
            // Home forgets a life only when its owner has ended it.
            return self.without(Payload::SetAside, Fate::Ended);
        }
        if self.ahead(life).is_some() {
            // It went on there, and that node has been asked since.
            return self.without(Payload::SetAside, Fate::Ended);
        }
        self.stays(life, epoch)
    }

    /// Nobody else has it: it goes on from what the backup has.
    fn stays(&self, life: &Life, epoch: Epoch) -> Outcome {
        let own = match &self.slot.record {
            Some(Record::Migrating { transfer, .. }) => transfer.next_epoch,
            _ => epoch,
        };
        let newest = self.newest(life);
        // It still has to be told that the session has come.
        let unsettled = self.named.iter().find_map(|named| match &named.record {
            Record::Migrating { life: theirs, transfer, .. }
                if theirs == life && transfer.to == *self.here =>
            {
                Some(named.by.clone())
            }
            _ => None,
        });
        let record = Record::Owned {
            life: life.clone(),
            epoch: own.max(newest) + BEYOND,
            intent: None,
            unsettled,
            untold: life.home != *self.here,
        };
        let next = Slot {
            record: Some(record),
            lease: None,
            freeze_until: None,
            // It was away for longer than it was idle.
            used: self.now,
            ..self.slot.clone()
        };
        let fate = if newest > epoch { Fate::Behind } else { Fate::Kept };
        (next, Payload::Keep, fate)
    }

    fn of_pointer(&self, life: &Life, epoch: Epoch, to: &NodeName) -> Outcome {
        let holder = self.holder(life);
        if let Some(holder) = holder.filter(|at| at.epoch >= epoch || !self.is_silent(to)) {
            return self.away(&holder, Payload::Keep, Fate::Elsewhere);
        }
        if let Some(other) = self.holder_instead(self.here, Some(life)) {
            return self.away(&other, Payload::Keep, Fate::Elsewhere);
        }
        // What leads to a silent node is all that is known of it.
        let last = self.last_pointer(life).filter(|(last, _)| *last > epoch);
        let (epoch, to) = last.unwrap_or((epoch, to));
        if self.is_silent(to) {
            let place = Place { by: to, life, epoch, has_ended: false };
            return self.away(&place, Payload::Keep, Fate::Elsewhere);
        }
        if to == self.here {
            return self.lost(life);
        }
        self.without(Payload::Keep, Fate::Forgotten)
    }

    fn of_ended(&self, life: &Life, epoch: Epoch) -> Outcome {
        if let Some(holder) = self.holder(life).filter(|holder| holder.epoch >= epoch) {
            return self.away(&holder, Payload::Keep, Fate::Elsewhere);
        }
        if let Some(other) = self.holder_instead(self.here, Some(life)) {
            return self.away(&other, Payload::Keep, Fate::Elsewhere);
        }
        let told = !self.is_silent(&life.home) && !self.is_known_at_home(life);
        if told {
            return self.without(Payload::Keep, Fate::Forgotten);
        }
        self.expired(life, epoch.max(self.newest(life)), Fate::Nothing)
    }

    fn of_nothing(&self) -> Outcome {
        if let Some(holder) = self.holder_instead(self.here, None) {
            return self.away(&holder, Payload::Keep, Fate::Elsewhere);
        }
        let lives = self.named.iter().map(|named| named.record.life());
        let mut lost = lives.filter(|life| {
            let leads_here = self.last_pointer(life).is_some_and(|(_, to)| to == self.here);
            // A pointer away from home may be older than the session's end.
            let counts = life.home == *self.here || self.is_known_at_home(life);
            leads_here && counts && self.holder(life).is_none()
        });
        match lost.next() {
            Some(life) => self.lost(life),
            None => (self.slot.clone(), Payload::Keep, Fate::Nothing),
        }
    }

    /// Only this node had it, and does not any more: home is told that it has ended.
    fn lost(&self, life: &Life) -> Outcome {
        if life.home == *self.here || !self.is_known_at_home(life) {
            return self.without(Payload::Keep, Fate::Lost);
        }
        self.expired(life, self.newest(life), Fate::Lost)
    }

    /// The newest of those that have a life, or have ended it.
    fn holder(&self, life: &Life) -> Option<Place<'_>> {
        let have = self.named.iter().filter(|named| match &named.record {
            Record::Moved { .. } => false,
            record => record.life() == life,
        });
        have.map(place).max_by_key(|place| (place.epoch, !place.has_ended))
    }

    /// Who has a life of a home, or of this one, other than `life`: of one home, no two
    /// of a key go on at a time, and a node holds no other beside its own.
    fn holder_instead(&self, home: &NodeName, life: Option<&Life>) -> Option<Place<'_>> {
        let have = self.named.iter().filter(|named| {
            let theirs = named.record.life();
            let counts = theirs.home == *home || theirs.home == *self.here;
            named.record.holds_data() && counts && Some(theirs) != life
        });
        have.map(place).max_by_key(|place| (place.life.home == *self.here, place.epoch))
    }

    /// The newest pointer of a life.
    fn last_pointer(&self, life: &Life) -> Option<(Epoch, &NodeName)> {
        let pointers = self.named.iter().filter_map(|named| match &named.record {
            Record::Moved { life: theirs, epoch, to, .. } if theirs == life => Some((*epoch, to)),
            _ => None,
        });
        pointers.max_by_key(|(epoch, _)| *epoch)
    }

    /// Where a life went by its newest pointer: to a node that was asked, and names nothing
    /// as new. Nobody has anything newer, nor has the restored store.
    fn ahead(&self, life: &Life) -> Option<(Epoch, &NodeName)> {
        let (epoch, to) = self.last_pointer(life)?;
        let own = self.slot.record.as_ref().filter(|own| own.holds_data() && own.life() == life);
        let known = own.map(Record::epoch).max(self.holder(life).map(|holder| holder.epoch));
        let counts = to != self.here && !self.is_silent(to);
        (counts && known.is_none_or(|known| known < epoch)).then_some((epoch, to))
    }

    /// The newest epoch of a life that anybody names; zero if nobody does.
    fn newest(&self, life: &Life) -> Epoch {
        let of = self.named.iter().filter(|named| named.record.life() == life);
        let epochs = of.map(|named| match &named.record {
            Record::Owned { intent: Some(transfer), .. } | Record::Migrating { transfer, .. } => {
                transfer.next_epoch
            }
            record => record.epoch(),
        });
        epochs.max().unwrap_or(0)
    }

    fn is_known_at_home(&self, life: &Life) -> bool {
        self.named.iter().any(|named| named.by == life.home && named.record.life() == life)
    }

    fn away(&self, at: &Place<'_>, payload: Payload, fate: Fate) -> Outcome {
        if let Some(Record::Moved { life, epoch, to, .. }) = &self.slot.record
            && (life, *epoch, to) == (at.life, at.epoch, at.by)
        {
            return (self.slot.clone(), Payload::Keep, fate);
        }
        let step = point(self.slot, self.now, at.life, at.epoch, at.by, payload);
        (step.slot, step.payload, fate)
    }

    fn without(&self, payload: Payload, fate: Fate) -> Outcome {
        (Slot { pull: self.slot.pull.clone(), ..Slot::default() }, payload, fate)
    }

    fn expired(&self, life: &Life, epoch: Epoch, fate: Fate) -> Outcome {
        let record = Some(Record::Expired { life: life.clone(), epoch });
        let pull = self.slot.pull.clone();
        (Slot { record, pull, ..Slot::default() }, Payload::Keep, fate)
    }
}

fn place(named: &Named) -> Place<'_> {
    let record = &named.record;
    let has_ended = matches!(record, Record::Expired { .. });
    Place { by: &named.by, life: record.life(), epoch: record.epoch(), has_ended }
}
