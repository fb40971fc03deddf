//! Pointers, home, and how a session ends.

use super::event::{Payload, Refusal, Step};
use super::moves::{owned_by, point};
use crate::session::{Epoch, Life, Millis, NodeName, Record, Slot};

pub(super) fn home_update(
    slot: &Slot,
    here: &NodeName,
    now: Millis,
    life: &Life,
    epoch: Epoch,
    to: &NodeName,
) -> Result<Step, Refusal> {
    if to == here {
        return Err(Refusal::NoSuchMove);
    }
    match &slot.record {
        Some(Record::Moved { life: own, epoch: known, to: place, .. }) if own == life => {
            if epoch < *known || (epoch == *known && to != place) {
                return Err(Refusal::StaleEpoch { epoch: *known });
            }
            owned_by(slot, now, life, epoch, to)
        }
        Some(Record::Owned { life: own, epoch: known, .. }) if own == life && epoch <= *known => {
            Err(Refusal::StaleEpoch { epoch: *known })
        }
        // A home update never creates a record.
        _ => owned_by(slot, now, life, epoch, to),
    }
}

pub(super) fn home_expired(slot: &Slot, life: &Life, epoch: Epoch) -> Result<Step, Refusal> {
    match &slot.record {
        Some(record) if record.life() == life => {
            let newest = match record {
                Record::Migrating { transfer, .. } => transfer.next_epoch,
                other => other.epoch(),
            };
            let ours = matches!(record, Record::Owned { .. }) && newest == epoch;
            if newest > epoch || ours {
                return Err(Refusal::StaleEpoch { epoch: newest });
            }
            let next = Slot { pull: slot.pull.clone(), ..Slot::default() };
            Ok(Step::changed(next, Payload::Drop))
        }
        _ => Ok(Step::unchanged(slot)),
    }
}

pub(super) fn told(slot: &Slot, known: Epoch) -> Step {
    match &slot.record {
        Some(Record::Owned { life, epoch, intent, unsettled, untold: true }) if *epoch <= known => {
            let record = Record::Owned {
                life: life.clone(),
                epoch: *epoch,
                intent: intent.clone(),
                unsettled: unsettled.clone(),
                untold: false,
            };
            Step::changed(Slot { record: Some(record), ..slot.clone() }, Payload::Keep)
        }
        _ => Step::unchanged(slot),
    }
}

pub(super) fn expire(
    slot: &Slot,
    here: &NodeName,
    now: Millis,
    unused_since: Millis,
) -> Result<Step, Refusal> {
    match &slot.record {
        Some(Record::Owned { life, epoch, .. }) => {
            // Rule 4: nothing that may be asked about is forgotten.
            let busy = slot.pending() || slot.live_lease(now).is_some() || slot.freeze_waits(now);
            if busy || slot.used > unused_since {
                return Err(Refusal::InUse);
            }
            let record =
                (life.home != *here).then(|| Record::Expired { life: life.clone(), epoch: *epoch });
            Ok(Step::changed(Slot { record, ..Slot::default() }, Payload::Drop))
        }
        Some(Record::Moved { to, .. }) => Err(Refusal::NotOwner { to: Some(to.clone()) }),
        Some(Record::Migrating { .. }) => Err(Refusal::InUse),
        Some(Record::Expired { .. }) | None => Ok(Step::unchanged(slot)),
    }
}

/// The old life ends here as if it had expired, and the new one has its data. So it has
/// to be as quiet as for expiry (rule 4); messages that wait may wait on. The epoch goes
/// up: what was seen of the old life is not taken for the new one's.
pub(super) fn rehome(
    slot: &Slot,
    here: &NodeName,
    now: Millis,
    life: &Life,
    new: &Life,
) -> Result<Step, Refusal> {
    if new.home != *here || new == life {
        return Err(Refusal::OtherLife);
    }
    match &slot.record {
        Some(Record::Owned { life: own, epoch, intent, unsettled, untold: _ }) if own == life => {
            let moves = intent.is_some() || unsettled.is_some() || slot.pull.is_some();
            if moves || slot.live_lease(now).is_some() || slot.freeze_waits(now) {
                return Err(Refusal::InUse);
            }
            let record = Record::Owned {
                life: new.clone(),
                epoch: epoch + 1,
                intent: None,
                unsettled: None,
                untold: false,
            };
            let next =
                Slot { record: Some(record), lease: None, freeze_until: None, ..slot.clone() };
            Ok(Step::changed(next, Payload::Keep))
        }
        Some(record) if record.life() == new => Ok(Step::unchanged(slot)),
        Some(Record::Moved { to, .. }) => Err(Refusal::NotOwner { to: Some(to.clone()) }),
        Some(Record::Migrating { .. }) => Err(Refusal::InUse),
        Some(_) => Err(Refusal::OtherLife),
        None => Ok(Step::unchanged(slot)),
    }
}

pub(super) fn expiry_told(slot: &Slot, told: Epoch) -> Step {
    match &slot.record {
        Some(Record::Expired { epoch, .. }) if *epoch == told => {
            let next = Slot { pull: slot.pull.clone(), ..Slot::default() };
            Step::changed(next, Payload::Drop)
        }
        _ => Step::unchanged(slot),
    }
}

pub(super) fn age(
    slot: &Slot,
    here: &NodeName,
    judged: Epoch,
    judged_since: Millis,
) -> Result<Step, Refusal> {
    match &slot.record {
        Some(Record::Moved { life, epoch, since, .. })
            if life.home != *here && *epoch == judged && *since == judged_since =>
        {
            Ok(Step::changed(Slot { record: None, ..slot.clone() }, Payload::Keep))
        }
        _ => Err(Refusal::InUse),
    }
}

pub(super) fn refresh(
    slot: &Slot,
    here: &NodeName,
    now: Millis,
    life: &Life,
    known: Epoch,
    to: &NodeName,
) -> Step {
    match &slot.record {
        Some(Record::Moved { life: own, epoch, to: place, .. })
            if own == life
                && to != here
                && (known > *epoch || (known == *epoch && to == place)) =>
        {
            point(slot, now, life, known, to, Payload::Keep)
        }
        _ => Step::unchanged(slot),
    }
}
