//! What the policy sees of functions and sessions.

use std::collections::BTreeMap;

use funicular::peers::messages::OffloadStatus;
use funicular::session::{FunctionName, Millis, NodeName, SessionId};
use serde::{Deserialize, Serialize};

/// A session that may move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Which one.
    pub session: SessionId,
    /// The node that has it, if it is not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<NodeName>,
    /// Bytes of its data.
    pub bytes: u64,
    /// Requests a second of late; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// For how long nobody used it, in milliseconds.
    pub idle: Millis,
    /// How long ago it came to where it is, in milliseconds, if it did so of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Millis>,
    /// It never moves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// A function at the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionView {
    /// Whether it takes sessions from below.
    pub status: OffloadStatus,
    /// Whether there is a node above this one.
    pub above: bool,
    /// Why none of its sessions may move, if that is so: it is pinned, or drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Lower gives its sessions away first.
    #[serde(default)]
    pub priority: i32,
    /// Its sessions at this node, all of them.
    pub sessions: u64,
    /// Its requests a second at this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Some of its sessions at this node.
    #[serde(default)]
    pub here: Vec<SessionView>,
    /// Some of its sessions that are above and have their home at or below this node.
    #[serde(default)]
    pub away: Vec<SessionView>,
}

/// Functions by name.
pub type Functions = BTreeMap<FunctionName, FunctionView>;

impl FunctionView {
    /// Bytes of all its sessions, as far as those that are known tell.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn bytes(&self) -> f64 {
        if self.here.is_empty() {
            return 0.0;
        }
        let known: u64 = self.here.iter().map(|session| session.bytes).sum();
        let more = (self.sessions as f64 / self.here.len() as f64).max(1.0);
        known as f64 * more
    }

    /// Requests a second of all its sessions.
    pub(super) fn requests(&self) -> f64 {
        let known = self.here.iter().filter_map(|session| session.rate).sum();
        self.rate.unwrap_or(0.0).max(known)
    }
}
