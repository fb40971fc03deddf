//! What one node's store knows of a session.

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, Incarnation, LeaseId, Millis, NodeName, Nonce};

/// One life of a session key: equality is all that counts, never order.
/// (The function and the session id are the key it is stored under.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Where the session was created.
    pub home: NodeName,
    /// The random id given at creation.
    pub incarnation: Incarnation,
}

/// A move as its source knows it: to whom, and under which epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Transfer {
    /// The target.
    pub to: NodeName,
    /// The epoch the target will own it under.
    pub next_epoch: Epoch,
    /// The target's name for this attempt.
    pub nonce: Nonce,
}

/// A move as its target knows it: an open pull. Without one, nothing installs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pull {
    /// The life that is pulled.
    pub life: Life,
    /// The epoch this node will own it under.
    pub next_epoch: Epoch,
    /// The source.
    pub from: NodeName,
    /// This attempt's name.
    pub nonce: Nonce,
}

/// What a node knows of a session, apart from its data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Record {
    /// This node owns the session and serves it.
    Owned {
        /// Whose life.
        life: Life,
        /// Under which epoch.
        epoch: Epoch,
        /// A move that was agreed on and not frozen yet.
        intent: Option<Transfer>,
        /// The source that has not yet acknowledged that we own it.
        unsettled: Option<NodeName>,
        /// Home has not yet acknowledged that we own it.
        untold: bool,
    },
    /// Still the owner, but frozen: writes wait for the move's outcome.
    Migrating {
        /// Whose life.
        life: Life,
        /// Under which epoch we owned it.
        epoch: Epoch,
        /// The move.
        transfer: Transfer,
    },
    /// A pointer: ask `to`.
    Moved {
        /// Whose life.
        life: Life,
        /// The epoch under which `to` owned it.
        epoch: Epoch,
        /// Where it went.
        to: NodeName,
        /// When this node last learned of it, on the store's clock.
        since: Millis,
    },
    /// Ended here; serves nothing, tells home, then goes.
    Expired {
        /// Whose life.
        life: Life,
        /// The last epoch.
        epoch: Epoch,
    },
}

impl Record {
    /// The life this record speaks of.
    pub fn life(&self) -> &Life {
        match self {
            Self::Owned { life, .. }
            | Self::Migrating { life, .. }
            | Self::Moved { life, .. }
            | Self::Expired { life, .. } => life,
        }
    }

    /// The epoch this record speaks of.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Owned { epoch, .. }
            | Self::Migrating { epoch, .. }
            | Self::Moved { epoch, .. }
            | Self::Expired { epoch, .. } => *epoch,
        }
    }

    /// The state's name, as logs, `status` and errors say it.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Owned { .. } => "owned",
            Self::Migrating { .. } => "migrating",
            Self::Moved { .. } => "moved",
            Self::Expired { .. } => "expired",
        }
    }

    /// Whether the session's data is here (owned or frozen).
    pub fn holds_data(&self) -> bool {
        matches!(self, Self::Owned { .. } | Self::Migrating { .. })
    }
}

/// The exclusive right to run one writing request in a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Whose turn.
    pub id: LeaseId,
    /// Until when, on the store's clock, unless renewed.
    pub until: Millis,
}

/// Everything a store knows of one session key, apart from its data.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The record; `None` is "absent".
    pub record: Option<Record>,
    /// The open pull, at a target.
    pub pull: Option<Pull>,
    /// The running writer's lease. Only an owner has one.
    pub lease: Option<Lease>,
    /// A freeze waits for its turn: no new lease before this moment (store clock).
    pub freeze_until: Option<Millis>,
    /// When the session was last used, on the store's clock; exact to about a
    /// second for reads. Zero without data.
    pub used: Millis,
    /// How many outbox entries wait for delivery.
    pub outbox: u64,
}

impl Slot {
    /// The lease, if it has not run out by `now` (store clock).
    pub fn live_lease(&self, now: Millis) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.until > now)
    }

    /// Whether a freeze is waiting for its turn at `now` (store clock).
    pub fn freeze_waits(&self, now: Millis) -> bool {
        self.freeze_until.is_some_and(|until| until > now)
    }

    /// Whether somebody still has to be asked or told something.
    pub fn pending(&self) -> bool {
        self.pull.is_some()
            || self.outbox > 0
            || match &self.record {
                Some(Record::Owned { intent, unsettled, untold, .. }) => {
                    intent.is_some() || unsettled.is_some() || *untold
                }
                Some(Record::Migrating { .. } | Record::Expired { .. }) => true,
                Some(Record::Moved { .. }) | None => false,
            }
    }
}
