//! What must hold of a slot after each step.

use crate::session::{NodeName, Record, Slot};

/// The broken invariants of a slot at node `here`, in words; none is well.
pub fn violations(slot: &Slot, here: &NodeName) -> Vec<&'static str> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, rule: &'static str| {
        if !holds {
            broken.push(rule);
        }
    };
    let owned = matches!(slot.record, Some(Record::Owned { .. }));
    must(slot.lease.is_none() || owned, "only an owner has a lease");
    must(slot.freeze_until.is_none() || owned, "only an owner waits to freeze");
    if let Some(pull) = &slot.pull {
        must(pull.from != *here, "a pull comes from another node");
        let ours = slot.record.as_ref().filter(|record| *record.life() == pull.life);
        must(!ours.is_some_and(Record::holds_data), "nobody pulls what it holds");
    }
    match &slot.record {
        Some(Record::Owned { life, epoch, intent, unsettled, untold }) => {
            must(*epoch >= 1, "epochs begin at 1");
            must(!untold || life.home != *here, "home need not be told of itself");
            must(unsettled.as_ref() != Some(here), "a session does not arrive from here");
            if let Some(transfer) = intent {
                must(transfer.next_epoch == epoch + 1, "an intent names the next epoch");
                must(transfer.to != *here, "a session does not move to where it is");
                must(unsettled.is_none(), "an unsettled session does not move on");
            }
        }
        Some(Record::Migrating { epoch, transfer, .. }) => {
            must(transfer.next_epoch == epoch + 1, "a move names the next epoch");
            must(transfer.to != *here, "a session does not move to where it is");
        }
        Some(Record::Moved { to, .. }) => must(to != here, "a pointer leads elsewhere"),
        Some(Record::Expired { life, .. }) => {
            must(life.home != *here, "home forgets without being told");
        }
        None => {}
    }
    broken
}
