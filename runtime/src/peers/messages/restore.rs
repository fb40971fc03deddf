//! A store was put back to a backup: what nodes ask each other then, and what operators
//! ask the node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Message;
use crate::protocol::{Fate, Named};
use crate::session::{
    Epoch, Incarnation, Life, NodeName, Nonce, Record, SessionId, Slot, Transfer,
};

/// `POST /_/name-sessions`: a node whose store was restored asks another one what it has
/// of these sessions, or page by page which of its records name the node that asks.
///
/// The node that is asked closes its open pulls of these sessions from the node that asks:
/// nothing of them installs once it has answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCall {
    /// These sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionId>>,
    /// Without sessions: where to go on; absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Message for NameCall {}

/// The answer to `name-sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameAnswer {
    /// Who answers.
    pub node: NodeName,
    /// What it has.
    pub named: Vec<NamedSession>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Records that were looked at.
    pub looked: u64,
}

/// A record as another node is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSession {
    /// The session's id.
    pub session: SessionId,
    /// The record's state: `owned`, `migrating`, `moved`, `expired`.
    pub state: String,
    /// The life's home.
    pub home: NodeName,
    /// The life's incarnation.
    pub incarnation: Incarnation,
    /// The record's epoch.
    pub epoch: Epoch,
    /// Where it went, or is about to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeName>,
    /// Under which epoch it is about to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_epoch: Option<Epoch>,
}

impl NamedSession {
    /// What a slot says; `None` if it has no record.
    pub fn of(session: SessionId, slot: &Slot) -> Option<Self> {
        let record = slot.record.as_ref()?;
        let transfer = match record {
            Record::Owned { intent, .. } => intent.as_ref(),
            Record::Migrating { transfer, .. } => Some(transfer),
            Record::Moved { .. } | Record::Expired { .. } => None,
        };
        let to = match record {
            Record::Moved { to, .. } => Some(to),
            _ => transfer.map(|transfer| &transfer.to),
        };
        let Life { home, incarnation } = record.life().clone();
        Some(Self {
            session,
            state: record.state().to_owned(),
            home,
            incarnation,
            epoch: record.epoch(),
            to: to.cloned(),
            next_epoch: transfer.map(|transfer| transfer.next_epoch),
        })
    }

    /// The same for the protocol, as `by` has it; `None` if this release does not read it.
    pub fn named(self, by: &NodeName) -> Option<(SessionId, Named)> {
        let Self { session, state, home, incarnation, epoch, to, next_epoch } = self;
        let life = Life { home, incarnation };
        let transfer = |to: Option<NodeName>| {
            Some(Transfer { to: to?, next_epoch: next_epoch?, nonce: Nonce(0) })
        };
        let record = match state.as_str() {
            "owned" => {
                let intent = transfer(to);
                Record::Owned { life, epoch, intent, unsettled: None, untold: false }
            }
            "migrating" => Record::Migrating { life, epoch, transfer: transfer(to)? },
            "moved" => Record::Moved { life, epoch, to: to?, since: 0 },
            "expired" => Record::Expired { life, epoch },
            _ => return None,
        };
        Some((session, Named { by: by.clone(), record }))
    }
}

/// `POST /_/restore`; the answer is a [`RestoreStatus`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreCall {
    /// What to do.
    #[serde(default)]
    pub action: RestoreAction,
    /// Nodes that nobody waits for: what only they know is given up.
    #[serde(default)]
    pub without: Vec<NodeName>,
    /// Begin also if nothing says that the store was put back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begin: bool,
}

/// What to do about a restored store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestoreAction {
    /// Ask the others and decide; what was begun goes on.
    #[default]
    Start,
    /// Say how far it is, or how the last one ended.
    Show,
}

/// What a restore is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestoreState {
    /// There was none.
    #[default]
    Off,
    /// The node serves nothing and waits for `funicular restore`.
    Marked,
    /// It asks the others and decides.
    Asking,
    /// A node that has to be asked, or the store, does not answer.
    Waiting,
    /// The node serves again.
    Done,
}

/// How far a restore is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreStatus {
    /// What it is at.
    pub state: RestoreState,
    /// Records of the restored store that were decided on.
    pub own: u64,
    /// Records of other nodes that were looked at for this node's name.
    pub others: u64,
    /// How many sessions fared how.
    #[serde(default)]
    pub fates: BTreeMap<Fate, u64>,
    /// Those of them that lost something, by id; at most some hundred of a kind.
    #[serde(default)]
    pub sessions: BTreeMap<Fate, Vec<SessionId>>,
    /// Sessions whose home had left the tree, and is this node now.
    #[serde(default)]
    pub rehomed: u64,
    /// Nodes that are given up for this.
    #[serde(default)]
    pub without: Vec<NodeName>,
    /// Nodes that do not have this function.
    #[serde(default)]
    pub absent: Vec<NodeName>,
    /// Nodes neither above nor below this one that did not answer: no session of this
    /// node can be there.
    #[serde(default)]
    pub unasked: Vec<NodeName>,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}
