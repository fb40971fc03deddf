//! May this request run here?

use crate::session::{Epoch, Incarnation, Lease, LeaseId, Life, Millis, NodeName, Record, Slot};

/// What a request's handler does with the session; its signature decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Holds no lease; any number run at once.
    Read,
    /// Holds the lease; one at a time.
    Write,
}

/// What a request asks of the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BeginAsk {
    /// Read or write.
    pub access: Access,
    /// The incarnation of the session that may be created, if it may.
    pub create: Option<Incarnation>,
    /// The lease to take.
    pub lease: LeaseId,
    /// How long the lease holds unless renewed.
    pub lease_ttl: Millis,
    /// The caller knows that a freeze is younger than `leaving_reads`.
    pub frozen_reads: bool,
    /// The caller knows that the source of the session's arrival under this epoch
    /// stopped its reads (or had the time to).
    pub unsettled_writes: Option<Epoch>,
}

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Busy {
    /// Another writing request runs.
    Leased,
    /// A freeze waits for its turn.
    FreezeWaits,
    /// The session is frozen: its move ends soon, one way or the other.
    Migrating,
    /// The session has just arrived; reads may still go on at its source.
    Unsettled,
    /// The session is arriving.
    Arriving,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Begin {
    /// Run it. For a write, the slot holds the lease now.
    Run {
        /// Whether the session is new.
        created: bool,
    },
    /// Wait and ask again.
    Busy(Busy),
    /// The session is elsewhere, as far as this node knows.
    Redirect {
        /// Whose life.
        life: Life,
        /// The pointer's epoch.
        epoch: Epoch,
        /// Where to.
        to: NodeName,
        /// When the pointer was last confirmed (store clock).
        since: Millis,
    },
    /// Nothing is known, and nothing may be created here.
    Unknown,
    /// The session ended here and home has not acknowledged yet.
    Expired {
        /// Whose life.
        life: Life,
        /// Its last epoch.
        epoch: Epoch,
    },
}

/// Decides a request; returns the slot as it is afterwards.
pub fn begin(slot: &Slot, here: &NodeName, now: Millis, ask: &BeginAsk) -> (Slot, Begin) {
    let mut next = slot.clone();
    let outcome = match &slot.record {
        // Rule 5: a node with an open pull does not create.
        None if slot.pull.is_some() => Begin::Busy(Busy::Arriving),
        None => match ask.create {
            Some(incarnation) => {
                let life = Life { home: here.clone(), incarnation };
                next.record = Some(Record::Owned {
                    life,
                    epoch: 1,
                    intent: None,
                    unsettled: None,
                    untold: false,
                });
                run(&mut next, now, ask, true)
            }
            None => Begin::Unknown,
        },
        Some(Record::Owned { unsettled, epoch, .. }) => match ask.access {
            Access::Read => run(&mut next, now, ask, false),
            Access::Write if slot.live_lease(now).is_some() => Begin::Busy(Busy::Leased),
            Access::Write if slot.freeze_waits(now) => Begin::Busy(Busy::FreezeWaits),
            Access::Write if unsettled.is_some() && ask.unsettled_writes != Some(*epoch) => {
                Begin::Busy(Busy::Unsettled)
            }
            Access::Write => run(&mut next, now, ask, false),
        },
        Some(Record::Migrating { .. }) => match ask.access {
            Access::Read if ask.frozen_reads => Begin::Run { created: false },
            _ => Begin::Busy(Busy::Migrating),
        },
        Some(Record::Moved { life, epoch, to, since }) => {
            Begin::Redirect { life: life.clone(), epoch: *epoch, to: to.clone(), since: *since }
        }
        Some(Record::Expired { life, epoch }) => {
            Begin::Expired { life: life.clone(), epoch: *epoch }
        }
    };
    (next, outcome)
}

fn run(next: &mut Slot, now: Millis, ask: &BeginAsk, created: bool) -> Begin {
    next.used = now;
    if ask.access == Access::Write {
        next.lease = Some(Lease { id: ask.lease, until: now + ask.lease_ttl });
        next.freeze_until = None;
    }
    Begin::Run { created }
}
