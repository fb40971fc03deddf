//! A turn ends.

use crate::session::{Epoch, LeaseId, Life, Millis, Record, Slot};

/// A writing request that holds the lease, as it was let in.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Its lease.
    pub lease: LeaseId,
    /// The life it ran in.
    pub life: &'a Life,
    /// The epoch it ran under.
    pub epoch: Epoch,
}

/// Whether a turn may write, and the slot after it did; `None` if the turn is
/// lost (G1). A lease that ran out counts as long as nobody took another one.
/// `outbox` is how many messages wait afterwards.
pub fn commit(slot: &Slot, turn: &Turn<'_>, now: Millis, outbox: u64) -> Option<Slot> {
    let holds = slot.lease.as_ref().is_some_and(|lease| lease.id == turn.lease);
    let owned = matches!(&slot.record, Some(Record::Owned { life, epoch, .. })
        if life == turn.life && *epoch == turn.epoch);
    (holds && owned).then(|| Slot { lease: None, used: now, outbox, ..slot.clone() })
}

/// The slot after a turn that wrote nothing; `None` if its lease was lost before.
pub fn release(slot: &Slot, lease: LeaseId) -> Option<Slot> {
    let holds = slot.lease.as_ref().is_some_and(|held| held.id == lease);
    holds.then(|| Slot { lease: None, ..slot.clone() })
}
