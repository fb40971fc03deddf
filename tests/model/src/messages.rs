//! What the nodes say to each other.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::session::{Epoch, Life, Pull, Transfer};
use crate::store::Data;
use crate::world::name;

/// What the nodes say to each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// Target to source: agree to this pull.
    Open(Pull),
    /// Source to target: agreed.
    Opened(Pull),
    /// Target to source: stop writes, give me the session.
    Freeze(Pull),
    /// Source to target: here it is.
    Page(Pull, Data),
    /// Of the target to itself: all is staged.
    Install(Pull),
    /// Source to target: no such move.
    Refused(Pull),
    /// Target to source: I own it.
    Done {
        /// Whose life.
        life: Life,
        /// Since which epoch.
        epoch: Epoch,
    },
    /// Source to target: I know.
    Settled {
        /// The target's epoch.
        epoch: Epoch,
    },
    /// To a node that was given up: the session went on without you.
    Superseded {
        /// The epoch it holds.
        epoch: Epoch,
        /// The session's.
        by: Epoch,
    },
    /// Source to target: did you install this?
    Ask {
        /// Whose life.
        life: Life,
        /// The move in doubt.
        transfer: Transfer,
    },
    /// Target to source: yes, or no and never.
    Answer {
        /// The move asked about.
        transfer: Transfer,
        /// Yes.
        installed: bool,
    },
    /// To home: the session is at that node.
    Update {
        /// Whose life.
        life: Life,
        /// Since which epoch.
        epoch: Epoch,
        /// Where.
        at: usize,
    },
    /// From home: I know an epoch at least as new.
    Updated {
        /// Whose life.
        life: Life,
        /// The epoch it was told.
        epoch: Epoch,
    },
    /// To home: the session ended.
    Expired {
        /// Whose life.
        life: Life,
        /// Its last epoch.
        epoch: Epoch,
    },
    /// From home: I know.
    ExpiryTaken {
        /// The last epoch.
        epoch: Epoch,
    },
    /// Of home's pointer to where it leads: do you know anything?
    Confirm {
        /// Whose life.
        life: Life,
        /// What home knows.
        epoch: Epoch,
    },
    /// To home: no.
    Gone {
        /// Whose life.
        life: Life,
        /// What home asked about.
        epoch: Epoch,
    },
    /// A pointer to home: where is it?
    Whereabouts {
        /// Whose life.
        life: Life,
        /// What the pointer knows.
        epoch: Epoch,
    },
    /// Home's answer.
    Place {
        /// Whose life.
        life: Life,
        /// What home knows.
        epoch: Epoch,
        /// Where.
        at: usize,
    },
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Envelope {
    /// About which session key.
    pub key: usize,
    /// From which node.
    pub from: usize,
    /// To which node.
    pub to: usize,
    /// What it says.
    pub message: Message,
}

/// A message that was sent: shared by all worlds in which it was, and told from
/// others by a number before it is looked at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    mark: u64,
    envelope: Arc<Envelope>,
}

impl Sent {
    pub(crate) fn new(envelope: Envelope) -> Self {
        let mut hasher = DefaultHasher::new();
        envelope.hash(&mut hasher);
        Self { mark: hasher.finish(), envelope: Arc::new(envelope) }
    }

    /// The message and its way.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Envelope { key, from, to, message } = &*self.envelope;
        write!(f, "{} to {}, of {key}: {message:?}", name(*from), name(*to))
    }
}

impl Hash for Sent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.mark.hash(state);
    }
}
