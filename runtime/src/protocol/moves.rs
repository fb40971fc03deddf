//! A move, step by step: open, agree, freeze, install, settle.

use super::event::{Payload, Refusal, Reply, Step};
use crate::session::{Epoch, Life, Millis, NodeName, Nonce, Pull, Record, Slot, Transfer};

/// Whether a pull of `life` at `next_epoch` may begin or end over what is here.
fn may_arrive(slot: &Slot, here: &NodeName, pull: &Pull) -> Result<(), Refusal> {
    match &slot.record {
        None => Ok(()),
        Some(record) if *record.life() == pull.life => match record {
            // Rule 1: only a higher epoch changes a record.
            Record::Moved { epoch, .. } if *epoch < pull.next_epoch => Ok(()),
            _ => Err(Refusal::StaleEpoch { epoch: record.epoch() }),
        },
        // Another life's pointer may go, unless it is a home pointer of ours.
        Some(Record::Moved { life, .. }) if life.home != *here => Ok(()),
        Some(_) => Err(Refusal::OtherLife),
    }
}

/// Whether a pointer here is still needed: a request that was sent here for its
/// session may be under way, and would find the one that is `coming` in its place.
/// One of the same home may come at once: it is what that home has now.
pub fn pointer_is_needed(slot: &Slot, now: Millis, coming: &Life, fresh: Millis) -> bool {
    matches!(
        &slot.record,
        Some(Record::Moved { life, since, .. })
            if life.home != coming.home && now.saturating_sub(*since) < fresh
    )
}

pub(super) fn open_pull(slot: &Slot, here: &NodeName, pull: &Pull) -> Result<Step, Refusal> {
    match &slot.pull {
        Some(open) if open == pull => return Ok(Step::unchanged(slot)),
        Some(_) => return Err(Refusal::MoveOpen),
        None => {}
    }
    may_arrive(slot, here, pull)?;
    let next = Slot { pull: Some(pull.clone()), ..slot.clone() };
    Ok(Step::changed(next, Payload::Keep))
}

pub(super) fn close_pull(slot: &Slot, nonce: Nonce) -> Step {
    if slot.pull.as_ref().is_some_and(|pull| pull.nonce == nonce) {
        let next = Slot { pull: None, ..slot.clone() };
        Step::changed(next, Payload::DropStage(nonce))
    } else {
        Step::unchanged(slot)
    }
}

pub(super) fn agree(
    slot: &Slot,
    here: &NodeName,
    life: &Life,
    transfer: &Transfer,
) -> Result<Step, Refusal> {
    let (epoch, intent, unsettled, untold) = match &slot.record {
        Some(record) if record.life() != life => return Err(Refusal::OtherLife),
        Some(Record::Owned { epoch, intent, unsettled, untold, .. }) => {
            (*epoch, intent, unsettled, *untold)
        }
        Some(Record::Moved { to, .. }) => {
            return Err(Refusal::NotOwner { to: Some(to.clone()) });
        }
        Some(Record::Migrating { .. }) => return Err(Refusal::MoveOpen),
        Some(Record::Expired { .. }) | None => return Err(Refusal::NotOwner { to: None }),
    };
    if transfer.next_epoch != epoch + 1 || transfer.to == *here {
        return Err(Refusal::StaleEpoch { epoch });
    }
    // Rule 4: until our own source acknowledged, the session stays.
    if unsettled.is_some() {
        return Err(Refusal::Unsettled);
    }
    match intent {
        Some(agreed) if agreed == transfer => return Ok(Step::unchanged(slot)),
        // The same target may begin anew: it has closed its earlier pull.
        Some(agreed) if agreed.to != transfer.to => return Err(Refusal::MoveOpen),
        _ => {}
    }
    let record = Record::Owned {
        life: life.clone(),
        epoch,
        intent: Some(transfer.clone()),
        unsettled: None,
        untold,
    };
    Ok(Step::changed(Slot { record: Some(record), ..slot.clone() }, Payload::Keep))
}

pub(super) fn freeze(
    slot: &Slot,
    now: Millis,
    nonce: Nonce,
    wait_until: Millis,
) -> Result<Step, Refusal> {
    match &slot.record {
        Some(Record::Owned { life, epoch, intent: Some(transfer), .. })
            if transfer.nonce == nonce =>
        {
            if slot.live_lease(now).is_some() {
                let next = Slot { freeze_until: Some(wait_until), ..slot.clone() };
                return Ok(Step { slot: next, payload: Payload::Keep, reply: Reply::FreezeWaits });
            }
            let record =
                Record::Migrating { life: life.clone(), epoch: *epoch, transfer: transfer.clone() };
            let next =
                Slot { record: Some(record), lease: None, freeze_until: None, ..slot.clone() };
            Ok(Step::changed(next, Payload::Keep))
        }
        Some(Record::Migrating { transfer, .. }) if transfer.nonce == nonce => {
            Ok(Step::unchanged(slot))
        }
        _ => Err(Refusal::NoSuchMove),
    }
}

pub(super) fn install(
    slot: &Slot,
    here: &NodeName,
    now: Millis,
    pull: &Pull,
) -> Result<Step, Refusal> {
    // Rule 2: an install needs its open pull.
    if slot.pull.as_ref() != Some(pull) {
        return match &slot.record {
            // Ours already: the reply to an earlier install was lost.
            Some(Record::Owned { life, epoch, .. })
                if *life == pull.life && *epoch == pull.next_epoch =>
            {
                Ok(Step::unchanged(slot))
            }
            _ => Err(Refusal::NoSuchMove),
        };
    }
    may_arrive(slot, here, pull)?;
    let home = &pull.life.home;
    let record = Record::Owned {
        life: pull.life.clone(),
        epoch: pull.next_epoch,
        intent: None,
        unsettled: Some(pull.from.clone()),
        // A source that is home learns it from `done`.
        untold: home != here && *home != pull.from,
    };
    let next = Slot {
        record: Some(record),
        pull: None,
        lease: None,
        freeze_until: None,
        used: now,
        // The store sets what it adopts.
        outbox: slot.outbox,
    };
    Ok(Step::changed(next, Payload::Adopt(pull.nonce)))
}

/// The record becomes a pointer to `to`; data goes as `payload` says.
pub(super) fn point(
    slot: &Slot,
    now: Millis,
    life: &Life,
    epoch: Epoch,
    to: &NodeName,
    payload: Payload,
) -> Step {
    let record = Record::Moved { life: life.clone(), epoch, to: to.clone(), since: now };
    let next = match payload {
        Payload::Keep => Slot { record: Some(record), ..slot.clone() },
        _ => Slot { record: Some(record), pull: slot.pull.clone(), ..Slot::default() },
    };
    Step::changed(next, payload)
}

pub(super) fn done(
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
    match went_on(slot, life, epoch) {
        Some(epoch) => Err(Refusal::Superseded { epoch }),
        None => owned_by(slot, now, life, epoch, to),
    }
}

/// The epoch under which a session went on without the node that owned it under
/// `epoch`: from here, and perhaps on to others; `None` if it did not, as far as is
/// known here.
pub fn went_on(slot: &Slot, life: &Life, epoch: Epoch) -> Option<Epoch> {
    let record = slot.record.as_ref().filter(|record| record.life() == life)?;
    let owned = matches!(record, Record::Owned { .. });
    let newer = record.epoch() > epoch || (owned && record.epoch() == epoch);
    newer.then(|| record.epoch())
}

/// `to` owns the session under `epoch`.
pub(super) fn owned_by(
    slot: &Slot,
    now: Millis,
    life: &Life,
    epoch: Epoch,
    to: &NodeName,
) -> Result<Step, Refusal> {
    match &slot.record {
        Some(record) if record.life() == life => match record {
            // Rule 1: the move's own epoch, or a newer one, ends it.
            Record::Migrating { transfer, .. } => {
                let own = epoch == transfer.next_epoch && *to == transfer.to;
                if own || epoch > transfer.next_epoch {
                    Ok(point(slot, now, life, epoch, to, Payload::Drop))
                } else {
                    Err(Refusal::StaleEpoch { epoch: transfer.next_epoch })
                }
            }
            Record::Moved { epoch: known, .. } if epoch > *known => {
                Ok(point(slot, now, life, epoch, to, Payload::Keep))
            }
            Record::Moved { .. } | Record::Expired { .. } => Ok(Step::unchanged(slot)),
            // Only a store that forgot more than it promised gets here; a
            // higher epoch still names the one owner. The data is kept aside.
            Record::Owned { epoch: own, .. } if epoch > *own => {
                Ok(point(slot, now, life, epoch, to, Payload::SetAside))
            }
            Record::Owned { epoch: own, .. } => Err(Refusal::Superseded { epoch: *own }),
        },
        // Nothing of that life is here: nothing holds the target back.
        _ => Ok(Step::unchanged(slot)),
    }
}

pub(super) fn settled(slot: &Slot, acknowledged: Epoch) -> Step {
    match &slot.record {
        Some(Record::Owned { life, epoch, intent, unsettled: Some(_), untold })
            if *epoch == acknowledged =>
        {
            let record = Record::Owned {
                life: life.clone(),
                epoch: *epoch,
                intent: intent.clone(),
                unsettled: None,
                untold: *untold,
            };
            Step::changed(Slot { record: Some(record), ..slot.clone() }, Payload::Keep)
        }
        _ => Step::unchanged(slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Incarnation;

    #[test]
    fn a_pointer_makes_room_for_its_own_home_at_once_and_for_others_when_it_is_old() {
        let name = |name: &str| NodeName::new(name).unwrap();
        let life =
            |home, incarnation| Life { home: name(home), incarnation: Incarnation(incarnation) };
        let pointer =
            |since| Record::Moved { life: life("navigli", 1), epoch: 2, to: name("italy"), since };
        let slot = |record| Slot { record, ..Slot::default() };
        for (record, coming, needed) in [
            (None, life("brera", 2), false),
            (Some(pointer(1000)), life("brera", 2), true),
            (Some(pointer(1000)), life("navigli", 2), false),
            (Some(pointer(900)), life("brera", 2), false),
        ] {
            assert_eq!(pointer_is_needed(&slot(record), 1050, &coming, 100), needed);
        }
    }
}
