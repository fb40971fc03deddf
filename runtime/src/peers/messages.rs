//! The bodies of internal calls and their answers (JSON, except for pages).

mod restore;

use serde::{Deserialize, Serialize};

pub use restore::{
    NameAnswer, NameCall, NamedSession, RestoreAction, RestoreCall, RestoreState, RestoreStatus,
};

use super::WireVersion;
use crate::session::{
    Epoch, FunctionName, Incarnation, Life, Millis, NodeName, Nonce, Pull, SessionId, SessionToken,
    Transfer,
};

/// What nodes send each other.
pub trait Message: Serialize + Sync {
    /// The message in the version that the other node reads.
    fn write(&self, version: WireVersion) -> serde_json::Result<Vec<u8>> {
        let _ = version;
        serde_json::to_vec(self)
    }
}

impl Message for SessionToken {}
impl Message for OnloadCall {}
impl Message for UpdateCall {}
impl Message for PropagateCall {}

impl Message for MigrateCall {
    /// From version 2 on the signature says which one it is, as for every call.
    fn write(&self, version: WireVersion) -> serde_json::Result<Vec<u8>> {
        let v = (version == WireVersion::V1).then(|| version.number());
        serde_json::to_vec(&Self { v, ..self.clone() })
    }
}

/// The step of a move that a `migrate-session` call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Target to source: agree to this move.
    Open,
    /// Target to source: a page of the session, which goes on being served.
    Copy,
    /// Target to source: a page of the session, frozen.
    Freeze,
    /// Target to source: the session is here now.
    Done,
    /// Source to target: did you install it?
    Ask,
    /// Target to source: have you agreed to this move, and are you still in it?
    Agreed,
    /// Target to source: I closed this pull; nothing of it will install.
    Closed,
}

/// `POST /_/migrate-session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateCall {
    /// Version of the internal calls, where the signature does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
    /// The session's id.
    pub session: SessionId,
    /// The step.
    pub phase: Phase,
    /// Home of the life that moves.
    pub home: NodeName,
    /// Incarnation of the life that moves.
    pub incarnation: Incarnation,
    /// The epoch that the target will own, or owns it under.
    pub epoch: Epoch,
    /// The target.
    pub target: NodeName,
    /// The attempt.
    pub nonce: Nonce,
    /// Which page, for `copy` and `freeze`; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// For `freeze`: where a copy has come to. Only what changed since is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Whether the caller reads compressed pages.
    #[serde(default)]
    pub lz4: bool,
}

impl MigrateCall {
    /// A call of the target about its pull.
    pub fn of_pull(session: SessionId, pull: &Pull, target: NodeName, phase: Phase) -> Self {
        Self {
            v: None,
            session,
            phase,
            home: pull.life.home.clone(),
            incarnation: pull.life.incarnation,
            epoch: pull.next_epoch,
            target,
            nonce: pull.nonce,
            cursor: None,
            since: None,
            lz4: true,
        }
    }

    /// A question of the source about its transfer.
    pub fn of_transfer(session: SessionId, life: &Life, transfer: &Transfer) -> Self {
        Self {
            v: None,
            session,
            phase: Phase::Ask,
            home: life.home.clone(),
            incarnation: life.incarnation,
            epoch: transfer.next_epoch,
            target: transfer.to.clone(),
            nonce: transfer.nonce,
            cursor: None,
            since: None,
            lz4: false,
        }
    }

    /// The life that moves.
    pub fn life(&self) -> Life {
        Life { home: self.home.clone(), incarnation: self.incarnation }
    }

    /// The move as its source keeps it.
    pub fn transfer(&self) -> Transfer {
        Transfer { to: self.target.clone(), next_epoch: self.epoch, nonce: self.nonce }
    }
}

/// The source's answer to `open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAnswer {
    /// Bytes of fields and contents.
    pub bytes: u64,
    /// Number of fields.
    pub fields: u64,
    /// The `session_schema` that the source's function states.
    #[serde(default)]
    pub schema: u32,
    /// Number of entries in the deduplication window.
    #[serde(default)]
    pub window: u64,
    /// Whether the source can be copied while it serves.
    #[serde(default)]
    pub copies: bool,
}

/// The answer to `done`, `ask` and `agreed`: names session, epoch and node, and is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveAnswer {
    /// The session asked about.
    pub session: SessionId,
    /// The epoch asked about.
    pub epoch: Epoch,
    /// Who answers.
    pub node: NodeName,
    /// `ask`: whether it was installed. `done`: always true. `agreed`: always false.
    pub installed: bool,
    /// `agreed`: whether the source is in this move.
    #[serde(default)]
    pub agreed: bool,
}

/// `POST /_/onload-session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnloadCall {
    /// The node that wants sessions.
    pub location: NodeName,
    /// At most this many.
    #[serde(default = "one")]
    pub max_sessions: usize,
    /// At most this many bytes together.
    #[serde(default = "unlimited")]
    pub max_bytes: u64,
    /// This session only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
}

fn one() -> usize {
    1
}

fn unlimited() -> u64 {
    u64::MAX
}

/// The answer to `onload-session`: sessions to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnloadAnswer {
    /// One token a session; each names where to pull from.
    pub tokens: Vec<SessionToken>,
}

/// `POST /_/update-session`: the token, and whether the session has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateCall {
    /// Where the session is, under which epoch.
    #[serde(flatten)]
    pub token: SessionToken,
    /// It expired at its owner.
    #[serde(default)]
    pub expired: bool,
}

/// What a move did: the answer to `offload-session` and `force-offload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveReport {
    /// Where the session is now.
    pub token: SessionToken,
    /// Who took it.
    pub accepted_by: NodeName,
    /// Bytes of fields and contents that were carried.
    pub bytes: u64,
    /// From open to settled, in milliseconds.
    pub took_ms: f64,
    /// From the freeze to the moment the target served, in milliseconds.
    pub downtime_ms: f64,
    /// How often the session was gone through before the freeze; 0: it was not copied.
    #[serde(default)]
    pub rounds: u32,
}

/// A move goes on after the answer (202).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillMoving {
    /// Whom to ask with `test-function`.
    pub ask: NodeName,
}

/// `POST /_/force-offload`, `POST /_/force-onload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForceCall {
    /// This session; otherwise the node chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// `force-onload` without a session: at most this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<usize>,
}

/// The answer to `force-onload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OnloadReport {
    /// One report a session that came.
    pub moved: Vec<MoveReport>,
    /// Why others did not come, one sentence each.
    #[serde(default)]
    pub failed: Vec<String>,
}

/// The answer to `test-function`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Whether it is elsewhere.
    pub offloaded: bool,
    /// Where it is, as far as this node knows.
    pub location: NodeName,
    /// The record's state here: `owned`, `migrating`, `moved`, `expired`.
    pub state: String,
    /// The same as a token.
    pub token: SessionToken,
    /// `moved`: for how long this node has known that, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer_age: Option<Millis>,
    /// Number of fields, if it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Bytes of fields and contents, if it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// `POST /_/receive-propagate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropagateCall {
    /// The outbox entry's id: taken once.
    pub id: String,
    /// The receiving function.
    pub function: FunctionName,
    /// The session, at sender and receiver.
    pub session: SessionId,
    /// The node that sends.
    pub from: NodeName,
    /// The value, base64.
    pub value: String,
}

/// The session is elsewhere (307 to an internal call).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The node to ask instead.
    pub location: NodeName,
}

/// `POST /_/set-offload-status` and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// What it was.
    pub old: OffloadStatus,
    /// What it is now.
    pub new: OffloadStatus,
}

/// Whether a node takes sessions from its children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffloadStatus {
    /// It takes them.
    #[default]
    Accept,
    /// It passes them on to its parent.
    Reject,
}

/// The answer to `/_/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// This node.
    pub node: NodeName,
    /// This function.
    pub function: FunctionName,
    /// Tells the replica that answers from the others: another one after each start.
    #[serde(default)]
    pub replica: String,
    /// The runtime's version.
    pub version: String,
    /// The newest version of the internal calls that it speaks.
    pub wire_version: u32,
    /// Sessions that are here.
    pub sessions: u64,
    /// Sessions about which somebody has to be asked or told something.
    pub pending: u64,
    /// Requests that run or wait.
    pub in_flight: u64,
    /// Moves that this node pulls right now.
    pub moves: u64,
    /// Moves that lead away from this node right now.
    #[serde(default)]
    pub leaving: u64,
    /// Moves that wait for their turn at this node.
    #[serde(default)]
    pub waiting: u64,
    /// How far it is drained, if it is being drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// How far it is with a store that was restored; it serves nothing until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreStatus>,
    /// Sessions that it copies right now, while their source serves them.
    #[serde(default)]
    pub copies: Vec<CopyStatus>,
    /// Whether it takes sessions from its children.
    pub status: OffloadStatus,
    /// What the store promises of a synced write.
    pub promise: String,
    /// Nodes that a person gave up.
    pub barred: Vec<NodeName>,
    /// Whether the store answers.
    pub store: String,
    /// The tree that this node goes by.
    #[serde(default)]
    pub topology: TopologyStatus,
    /// How much there was to do of late; absent at nodes of an older release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<ActivityStatus>,
    /// Some of the sessions that are here, if that was asked for (`max_sessions`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<SessionStatus>,
    /// The last sessions that came to this replica by a move, the latest first, if that was
    /// asked for (`max_moves`); absent at nodes of an older release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Vec<MovedStatus>>,
    /// The short names of the peers' keys that it knows: the one it signs with first,
    /// then those that it accepts only.
    #[serde(default)]
    pub peer_keys: Vec<String>,
}

/// `GET /_/status`: what to tell besides how the node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCall {
    /// So many sessions that are here, at most 1024.
    #[serde(default)]
    pub max_sessions: usize,
    /// Only those with their home at this node or below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<NodeName>,
    /// So many of the last sessions that came here by a move, at most 256.
    #[serde(default)]
    pub max_moves: usize,
}

/// How much a process had to do in the last seconds: requests that it answered itself, not
/// those that it redirected. Times are rounded up by up to a fifth; absent if there was no
/// request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityStatus {
    /// How long the time is that this is about.
    pub window_ms: u64,
    /// Requests that were answered in it.
    pub requests: u64,
    /// Half of them waited no longer for their turn, in microseconds.
    pub queue_wait_p50_us: Option<u64>,
    /// Of a hundred, 99 waited no longer.
    pub queue_wait_p99_us: Option<u64>,
    /// Half of them took no longer, waiting included.
    pub latency_p50_us: Option<u64>,
    /// Of a hundred, 99 took no longer.
    pub latency_p99_us: Option<u64>,
}

/// A session that is at a node, for whoever chooses which of them move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its id.
    pub session: SessionId,
    /// Its home.
    pub home: NodeName,
    /// Bytes of fields and contents; may lag.
    pub bytes: u64,
    /// For how long it was not used; may lag.
    pub idle_ms: Millis,
    /// Its requests in the time that [`ActivityStatus::window_ms`] tells; absent if there
    /// were too many sessions to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// How long ago it came here by a move, if that was in the last quarter of an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived_ms: Option<Millis>,
}

/// A session that came to a node by a move, for whoever watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MovedStatus {
    /// Counts the arrivals of this replica: a gap tells how many are not told.
    pub number: u64,
    /// The session's id.
    pub session: SessionId,
    /// Its home.
    pub home: NodeName,
    /// The node it came from.
    pub from: NodeName,
    /// The epoch under which it is owned since.
    pub epoch: Epoch,
    /// Bytes of fields and contents that were carried.
    pub bytes: u64,
    /// From open to settled, in milliseconds.
    pub took_ms: f64,
    /// From the freeze to the moment this node served, in milliseconds.
    pub downtime_ms: f64,
    /// How often the session was gone through before the freeze.
    #[serde(default)]
    pub rounds: u32,
    /// How long ago it was settled, in milliseconds.
    pub ago_ms: Millis,
}

/// Which tree a node goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyStatus {
    /// Names the tree: nodes that show the same have the same.
    pub digest: String,
    /// How many nodes it has.
    pub nodes: u64,
    /// Why a newer one is not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// How far the copy of a session has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStatus {
    /// The session, by the hash that logs show.
    pub session: String,
    /// The node that serves it.
    pub from: NodeName,
    /// Bytes that were carried so far, all rounds together.
    pub copied: u64,
    /// Bytes of the session when the copy began.
    pub bytes: u64,
    /// 0 while everything is carried once, then the rounds for what changed since.
    pub round: u32,
}

/// `POST /_/drain`; the answer is a [`DrainStatus`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainCall {
    /// Whether it begins (or goes on) or ends.
    #[serde(default)]
    pub action: DrainAction,
}

/// What becomes of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainAction {
    /// Take the node out of work.
    #[default]
    Start,
    /// Take it back into work.
    Stop,
}

/// What a drain is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainState {
    /// The node is at work.
    #[default]
    Off,
    /// Sessions move away.
    Moving,
    /// None can go for a while.
    Waiting,
    /// None is left.
    Empty,
}

/// How far a node is drained.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// What it is at.
    pub state: DrainState,
    /// Sessions that were moved away since it began. What a process had not written
    /// down when it was killed, a second's worth at most, is missing.
    pub moved: u64,
    /// Sessions that are here.
    pub left: u64,
    /// Those of them that could not go when they were last tried.
    pub failing: u64,
    /// Why they could not, the most frequent reasons first.
    #[serde(default)]
    pub reasons: Vec<DrainReason>,
    /// Why none is offered for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Why sessions could not go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReason {
    /// One sentence.
    pub why: String,
    /// How many.
    pub sessions: u64,
}

/// `POST /_/retire`: a node is taken out of the tree, step by step, at all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetireCall {
    /// The node that goes.
    pub node: NodeName,
    /// What to do for that.
    pub step: RetireStep,
    /// `sweep`: where to go on; absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What a node does so that one, itself or another, can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetireStep {
    /// The node itself: create no sessions any more.
    Close,
    /// The node itself: create sessions again.
    Open,
    /// Another: become the home of the sessions here that have theirs there.
    Rehome,
    /// Another: forget pointers that lead there or have their home there.
    Forget,
    /// Another: both, page by page of all records, whatever the index says. The node
    /// itself: count what is left.
    Sweep,
}

/// The answer to `retire`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetireAnswer {
    /// Sessions that have their home here now, or pointers that are forgotten.
    pub done: u64,
    /// Those that could not be done just now; call again.
    pub left: u64,
    /// `sweep`: where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /_/recover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverCall {
    /// The node that will not come back; absent with `back`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<NodeName>,
    /// A node that may take part again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<NodeName>,
}

/// The answer to `recover`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverAnswer {
    /// Sessions that go on here without the lost node.
    pub resumed: u64,
}
