//! What can happen to a record, and what comes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::restore::{Fate, Named};
use crate::session::{Epoch, Life, Millis, NodeName, Nonce, Pull, Slot, Transfer};

/// Something that happens to one session at one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Target: begin a pull.
    OpenPull(Pull),
    /// Target: give a pull up; nothing of it can install afterwards.
    ClosePull {
        /// The attempt.
        nonce: Nonce,
    },
    /// Source: agree to a move (the intent) and go on serving.
    Agree {
        /// The life the target means.
        life: Life,
        /// The move.
        transfer: Transfer,
    },
    /// Source: stop writes, as soon as no request holds the lease.
    Freeze {
        /// The attempt.
        nonce: Nonce,
        /// How long to keep new leases off while waiting (store clock).
        wait_until: Millis,
    },
    /// Target: everything is staged, own the session. The moment of the move.
    Install {
        /// The pull, as opened.
        pull: Pull,
    },
    /// Source: the target says that it owns the session.
    Done {
        /// Whose life.
        life: Life,
        /// The target's epoch.
        epoch: Epoch,
        /// The target.
        to: NodeName,
    },
    /// Target: the source acknowledged `Done`.
    Settled {
        /// Our epoch.
        epoch: Epoch,
    },
    /// Target: the source asks "did you install `next_epoch`?".
    Ask {
        /// Whose life.
        life: Life,
        /// The move in doubt.
        transfer: Transfer,
    },
    /// Source: the target's answer to our question.
    Answer {
        /// The move asked about.
        transfer: Transfer,
        /// Yes or no.
        installed: bool,
    },
    /// The store came back and may have forgotten its last writes.
    StoreRestarted,
    /// A person says that a node will not come back.
    Abandon {
        /// That node.
        lost: NodeName,
    },
    /// Target: the source, or home, says that it went on without us.
    Superseded {
        /// The epoch we hold.
        epoch: Epoch,
        /// The newest epoch that is known there.
        by_epoch: Epoch,
        /// Who says so, and knows where it is.
        to: NodeName,
    },
    /// Home: the owner says where it is.
    HomeUpdate {
        /// Whose life.
        life: Life,
        /// The owner's epoch.
        epoch: Epoch,
        /// The owner.
        to: NodeName,
    },
    /// Home: the owner says that the session expired.
    HomeExpired {
        /// Whose life.
        life: Life,
        /// Its last epoch.
        epoch: Epoch,
    },
    /// Owner: home acknowledged a `HomeUpdate`.
    Told {
        /// The epoch that home knows now.
        epoch: Epoch,
    },
    /// Owner: end the session if nobody used it since.
    Expire {
        /// A moment on the store's clock.
        unused_since: Millis,
    },
    /// Owner: the session's home is taken out of the tree; this node becomes its home,
    /// and the session begins a new life with all that it has.
    Rehome {
        /// The life that ends.
        life: Life,
        /// The life that begins, whose home is this node.
        new: Life,
    },
    /// Owner: home acknowledged the expiry.
    ExpiryTold {
        /// The last epoch.
        epoch: Epoch,
    },
    /// Forget a pointer; the caller has learned that home knows an epoch at
    /// least as new.
    Age {
        /// The pointer's epoch when it was judged.
        epoch: Epoch,
        /// The pointer's `since` when it was judged.
        since: Millis,
    },
    /// A pointer learns from home where the session is.
    Refresh {
        /// Whose life.
        life: Life,
        /// The epoch that home knows.
        epoch: Epoch,
        /// The place that home knows.
        to: NodeName,
    },
    /// The store was put back to a backup: what of the record still holds.
    Restore {
        /// What the other nodes have of this key.
        named: Vec<Named>,
        /// Those that answered; what only others know is not known.
        asked: Arc<BTreeSet<NodeName>>,
    },
}

/// What the store does with the session's data in the same atomic step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing.
    Keep,
    /// Delete data, window and outbox.
    Drop,
    /// What was staged under the nonce becomes the session's data, window and outbox.
    Adopt(Nonce),
    /// Delete what was staged under the nonce.
    DropStage(Nonce),
    /// Keep data, window and outbox in lost+found: the record goes, a person may want them.
    SetAside,
}

/// The answer to an event that was not refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// The record changed as asked.
    Changed,
    /// It had happened before, or there is nothing here that it concerns.
    Unchanged,
    /// `Freeze`: a request runs; try again when it is done.
    FreezeWaits,
    /// `Ask`: yes, and the record has this epoch now.
    Installed {
        /// The record's epoch: `next_epoch` or newer.
        epoch: Epoch,
    },
    /// `Ask`: no, and never will.
    NotInstalled,
    /// `Restore`: what becomes of the session.
    Restored {
        /// That.
        fate: Fate,
    },
}

/// What comes of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// What the store knows afterwards.
    pub slot: Slot,
    /// What it does with the data.
    pub payload: Payload,
    /// What to tell the caller.
    pub reply: Reply,
}

impl Step {
    pub(super) fn unchanged(slot: &Slot) -> Self {
        Self { slot: slot.clone(), payload: Payload::Keep, reply: Reply::Unchanged }
    }

    pub(super) fn changed(slot: Slot, payload: Payload) -> Self {
        Self { slot, payload, reply: Reply::Changed }
    }
}

/// Why an event does not apply. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "refusal")]
pub enum Refusal {
    /// The key belongs to another life here.
    #[error("another session of the same id lives here or has its home here")]
    OtherLife,
    /// The event speaks of an older epoch than the record.
    #[error("the record is at epoch {epoch}, newer than the message")]
    StaleEpoch {
        /// The record's epoch.
        epoch: Epoch,
    },
    /// The message is from a node that this session went on without.
    #[error("this session went on without you and is at epoch {epoch} now")]
    Superseded {
        /// The record's epoch.
        epoch: Epoch,
    },
    /// Another move of this session is under way.
    #[error("another move of this session is under way")]
    MoveOpen,
    /// The previous move has not been acknowledged by its source yet.
    #[error("the previous move of this session is not settled yet")]
    Unsettled,
    /// The message names a move that this node does not know (any more).
    #[error("this node knows no such move")]
    NoSuchMove,
    /// The store does not know (any more) what changed since a copy of the session.
    #[error("this node does not know that copy: begin it again")]
    NoSuchCopy,
    /// This node does not own the session.
    #[error("this node does not own the session")]
    NotOwner {
        /// Where it is, as far as this node knows.
        to: Option<NodeName>,
    },
    /// The session is in use, or something about it still waits to be told.
    #[error("the session is in use")]
    InUse,
}
