//! Whoever is in doubt asks; the answer is final.

use super::event::{Payload, Refusal, Reply, Step};
use super::moves::{close_pull, point};
use crate::session::{Epoch, Life, Millis, NodeName, Record, Slot, Transfer};

pub(super) fn ask(slot: &Slot, life: &Life, transfer: &Transfer) -> Step {
    if let Some(record) = &slot.record
        && record.life() == life
        && record.epoch() >= transfer.next_epoch
    {
        let reply = Reply::Installed { epoch: record.epoch() };
        return Step { reply, ..Step::unchanged(slot) };
    }
    // Rule 2: a "no" closes the pull, and creates no record. Rule 5: another
    // life's record is not touched.
    let reply = Reply::NotInstalled;
    match &slot.pull {
        Some(pull) if pull.nonce == transfer.nonce && pull.life == *life => Step {
            slot: Slot { pull: None, ..slot.clone() },
            payload: Payload::DropStage(pull.nonce),
            reply,
        },
        _ => Step { reply, ..Step::unchanged(slot) },
    }
}

/// The session stays: under an epoch that no late message of the move reaches.
fn resume(slot: &Slot, here: &NodeName, life: &Life, transfer: &Transfer) -> Step {
    let record = Record::Owned {
        life: life.clone(),
        epoch: transfer.next_epoch + 1,
        intent: None,
        unsettled: None,
        untold: life.home != *here,
    };
    Step::changed(Slot { record: Some(record), ..slot.clone() }, Payload::Keep)
}

pub(super) fn answer(
    slot: &Slot,
    here: &NodeName,
    now: Millis,
    asked: &Transfer,
    installed: bool,
) -> Step {
    match &slot.record {
        Some(Record::Migrating { life, transfer, .. }) if transfer == asked => {
            if installed {
                point(slot, now, life, transfer.next_epoch, &transfer.to, Payload::Drop)
            } else {
                resume(slot, here, life, transfer)
            }
        }
        Some(Record::Owned { life, epoch, intent: Some(transfer), unsettled, untold })
            if transfer == asked =>
        {
            if installed {
                // As in `done`: only a store that forgot gets here.
                return point(slot, now, life, asked.next_epoch, &asked.to, Payload::SetAside);
            }
            let record = Record::Owned {
                life: life.clone(),
                epoch: *epoch,
                intent: None,
                unsettled: unsettled.clone(),
                untold: *untold,
            };
            let next = Slot { record: Some(record), freeze_until: None, ..slot.clone() };
            Step::changed(next, Payload::Keep)
        }
        _ => Step::unchanged(slot),
    }
}

/// The freeze may have been forgotten: an intent counts as one. So may pages of a
/// pull, and others may stand in for them when it is added up: it is closed.
pub(super) fn store_restarted(slot: &Slot) -> Step {
    if let Some(pull) = &slot.pull {
        return close_pull(slot, pull.nonce);
    }
    match &slot.record {
        Some(Record::Owned { life, epoch, intent: Some(transfer), .. }) => {
            let record =
                Record::Migrating { life: life.clone(), epoch: *epoch, transfer: transfer.clone() };
            let next =
                Slot { record: Some(record), lease: None, freeze_until: None, ..slot.clone() };
            Step::changed(next, Payload::Keep)
        }
        _ => Step::unchanged(slot),
    }
}

pub(super) fn abandon(slot: &Slot, here: &NodeName, lost: &NodeName) -> Result<Step, Refusal> {
    match &slot.record {
        Some(
            Record::Migrating { life, transfer, .. }
            | Record::Owned { life, intent: Some(transfer), .. },
        ) if transfer.to == *lost => {
            let mut step = resume(slot, here, life, transfer);
            step.slot.lease.clone_from(&slot.lease);
            step.slot.freeze_until = None;
            Ok(step)
        }
        // A source that will not come back never acknowledges.
        Some(Record::Owned { life, epoch, intent, unsettled: Some(from), untold })
            if from == lost =>
        {
            let record = Record::Owned {
                life: life.clone(),
                epoch: *epoch,
                intent: intent.clone(),
                unsettled: None,
                untold: *untold,
            };
            Ok(Step::changed(Slot { record: Some(record), ..slot.clone() }, Payload::Keep))
        }
        _ => Err(Refusal::NoSuchMove),
    }
}

pub(super) fn superseded(
    slot: &Slot,
    now: Millis,
    held: Epoch,
    by_epoch: Epoch,
    to: &NodeName,
) -> Step {
    match &slot.record {
        // A move of our own may have made the newer epoch: its target answers that.
        Some(Record::Migrating { transfer, .. }) if by_epoch <= transfer.next_epoch => {
            Step::unchanged(slot)
        }
        // The source went on under the next epoch. The newest may be another node's by now,
        // and a pointer that has it would not learn whose.
        Some(Record::Owned { life, epoch, unsettled: Some(from), .. })
            if *epoch == held && by_epoch > held && from == to =>
        {
            point(slot, now, life, held + 1, to, Payload::SetAside)
        }
        Some(Record::Owned { life, epoch, .. } | Record::Migrating { life, epoch, .. })
            if *epoch == held && by_epoch > held =>
        {
            point(slot, now, life, by_epoch, to, Payload::SetAside)
        }
        _ => Step::unchanged(slot),
    }
}
