//! What is seen of a tree, as plain data. `None` is "unknown", which is never shown as zero.

use std::fmt::{Display, Formatter};

use funicular::peers::messages::{CopyStatus, DrainReason, DrainState, OffloadStatus};
use funicular::session::{Epoch, FunctionName, Millis, NodeName, SessionId};
use serde::{Deserialize, Serialize};

/// A tree at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Counts the views of this process; 0: nobody has answered yet.
    pub number: u64,
    /// When it was made, in milliseconds since 1970, on this machine's clock.
    pub at_ms: u64,
    /// All nodes of the tree, parents before their children.
    pub nodes: Vec<NodeView>,
    /// The last moves that were seen, the latest first, at most [`super::MOVES`].
    pub moves: Vec<MoveView>,
    /// Moves that were not told, since too many came at once.
    pub moves_missed: u64,
    /// The last decisions of all oracles, the latest first, at most [`super::DECISIONS`].
    pub decisions: Vec<DecisionView>,
    /// What happened since this process began to watch, the latest first, at most
    /// [`super::EVENTS`].
    pub events: Vec<Event>,
}

/// Whether somebody answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Reach {
    /// Nobody asked yet, or nobody knows where to ask.
    #[default]
    NotAsked,
    /// It answers.
    Answers,
    /// It does not.
    Silent {
        /// Since when, in milliseconds since 1970, on this machine's clock.
        since_ms: u64,
        /// What was said instead.
        why: String,
    },
}

impl Reach {
    /// Whether it answers.
    pub fn answers(&self) -> bool {
        *self == Self::Answers
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// The node above it; none: it is the root.
    pub parent: Option<NodeName>,
    /// Its level's name.
    pub level: String,
    /// How far below the root it is.
    pub depth: usize,
    /// Where clients reach it.
    pub gateway: String,
    /// Whether it may create sessions.
    pub entry: bool,
    /// Whether it is asked at all: the dashboard of one node asks that one.
    pub watched: bool,
    /// Whether it answers: its gateway, and at least one function.
    pub reach: Reach,
    /// When it was last asked; what it says is at least as new. In milliseconds since 1970.
    pub asked_ms: Option<u64>,
    /// Its oracle.
    pub oracle: OracleView,
    /// Its functions, by name.
    pub functions: Vec<FunctionView>,
    /// All its functions together.
    pub load: Load,
    /// Whether it takes sessions from below.
    pub takes: Takes,
}

/// Whether a node takes sessions from below, all its functions together; unknown if that of
/// one of them is, unless others differ already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// Nobody knows.
    #[default]
    Unknown,
    /// All functions take them.
    Accept,
    /// No function takes any.
    Reject,
    /// Some do.
    Mixed,
}

impl Display for Takes {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Mixed => "mixed",
        })
    }
}

/// How much there is to do. Of a node: the sum of its functions, unknown if one of them
/// is; times are those of the slowest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Requests that run or wait.
    pub in_flight: Option<u64>,
    /// Requests answered a second, over the last seconds.
    pub requests_per_s: Option<f64>,
    /// Half of the requests took no longer, in microseconds; absent too if there was none.
    pub latency_p50_us: Option<u64>,
    /// Of a hundred, 99 took no longer.
    pub latency_p99_us: Option<u64>,
    /// Of a hundred, 99 waited no longer for their turn.
    pub queue_wait_p99_us: Option<u64>,
    /// Sessions that are here.
    pub sessions: Option<u64>,
    /// Their bytes; known if all of them are listed.
    pub bytes: Option<u64>,
    /// Moves that come here right now.
    pub coming: Option<u64>,
    /// Moves that lead away right now.
    pub leaving: Option<u64>,
    /// Moves that wait for their turn.
    pub waiting: Option<u64>,
    /// Share of its memory that is in use, as the oracle sees it (`memory`, else
    /// `redis-memory`): 0 to 1. Of a node only.
    pub memory: Option<f64>,
}

/// A function at a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionView {
    /// Its name.
    pub name: FunctionName,
    /// Whether it answers.
    pub reach: Reach,
    /// Its runtime's version.
    pub version: Option<String>,
    /// Whether it takes sessions from below.
    pub status: Option<OffloadStatus>,
    /// How much it has to do.
    pub load: Load,
    /// How its store is: `ok`, or what is wrong.
    pub store: Option<String>,
    /// How far it is drained, if it is.
    pub drain: Option<DrainView>,
    /// Whether it is being restored, and serves nothing.
    pub restoring: bool,
    /// Sessions about which somebody has to be asked or told something.
    pub pending: Option<u64>,
    /// Sessions that are being copied to here.
    pub copies: Vec<CopyStatus>,
    /// Some of the sessions that are here, at most [`super::SESSIONS`]; `None`: unknown.
    pub listed: Option<Vec<SessionView>>,
    /// Whether those are all.
    pub listed_all: bool,
}

/// How far a function is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainView {
    /// What it is at; `None`: unknown, since nobody can say whether it is empty.
    pub state: Option<DrainState>,
    /// Sessions that were moved away since it began.
    pub moved: u64,
    /// Sessions that are here.
    pub left: Option<u64>,
    /// Sessions that could not go when they were last tried.
    pub failing: u64,
    /// Why they could not, the most frequent reasons first.
    pub reasons: Vec<DrainReason>,
    /// Why none is offered for a while.
    pub waits_for: Option<String>,
}

/// A session at a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id: for operators alone.
    pub id: SessionId,
    /// What it is called in logs, and for everybody who is not an operator.
    pub hash: String,
    /// Its home.
    pub home: NodeName,
    /// Its bytes; may lag.
    pub bytes: u64,
    /// Its requests a second of late.
    pub rate: Option<f64>,
    /// For how long it was not used; may lag.
    pub idle_ms: Millis,
    /// How long ago it came here by a move, if that was of late.
    pub arrived_ms: Option<Millis>,
    /// The move that it is in, as far as that is seen.
    pub moving: Option<Moving>,
}

/// A move that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Where to.
    pub to: NodeName,
    /// Bytes that were carried so far, all rounds together.
    pub copied: u64,
    /// Bytes of the session.
    pub bytes: u64,
}

/// A move that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveView {
    /// Counts the moves that this process saw.
    pub number: u64,
    /// When it was settled, in milliseconds since 1970, on this machine's clock.
    pub at_ms: u64,
    /// Of which function.
    pub function: FunctionName,
    /// The session's id: for operators alone.
    pub id: SessionId,
    /// What it is called in logs.
    pub hash: String,
    /// Its home.
    pub home: NodeName,
    /// Where it was.
    pub from: NodeName,
    /// Where it is since.
    pub to: NodeName,
    /// Whether it went towards the root.
    pub up: bool,
    /// The epoch it is owned under since.
    pub epoch: Epoch,
    /// Bytes that were carried.
    pub bytes: u64,
    /// From open to settled, in milliseconds.
    pub took_ms: f64,
    /// How long a write may have had to wait, in milliseconds.
    pub downtime_ms: f64,
    /// Who asked for it.
    pub cause: Cause,
}

/// Who asked for a move, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Cause {
    /// The oracle that would know is not known.
    #[default]
    Unknown,
    /// An oracle decided it.
    Oracle {
        /// Of which node.
        node: NodeName,
        /// The rule that asked for it.
        rule: String,
        /// Its sentence.
        why: String,
    },
    /// The node that it left is being drained.
    Drain,
    /// No oracle did: a person, or a tool.
    Operator,
}

/// An oracle.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OracleView {
    /// Whether it answers; [`Reach::NotAsked`] too where it is not known where it is.
    pub reach: Reach,
    /// What it does: `acting`, `observing`, `standing-by`.
    pub mode: Option<String>,
    /// How each function stands.
    pub functions: Vec<StandView>,
    /// What it sees.
    pub signals: Vec<SignalView>,
    /// Sources that say nothing, and why.
    pub silent: Vec<(String, String)>,
}

impl OracleView {
    /// The phase of its node: of the function that is worst off. `calm`, `holding`, or
    /// `relieving`.
    pub fn phase(&self) -> Option<&str> {
        const ORDER: [&str; 3] = ["calm", "holding", "relieving"];
        let rank = |stand: &&StandView| ORDER.iter().position(|word| *word == stand.phase);
        self.functions.iter().max_by_key(rank).map(|stand| stand.phase.as_str())
    }
}

/// How a function stands with its oracle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandView {
    /// Which function.
    pub function: FunctionName,
    /// `calm`, `holding`, or `relieving`.
    pub phase: String,
    /// Why not more is done.
    pub why: String,
    /// What would have to change for something to happen.
    pub would_change: Vec<String>,
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalView {
    /// Of which function; of the node without one.
    pub function: Option<FunctionName>,
    /// Its name.
    pub name: String,
    /// Its smoothed value.
    pub value: Option<f64>,
}

/// A decision of an oracle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// Counts the decisions that this process saw.
    pub number: u64,
    /// The oracle's node.
    pub node: NodeName,
    /// When, in milliseconds since 1970, on the oracle's clock.
    pub at_ms: u64,
    /// Of which function.
    pub function: FunctionName,
    /// `offload`, `onload`, `accept`, or `reject`.
    pub action: String,
    /// The session that is to move, by its hash.
    pub session: Option<String>,
    /// The rule that asked for it.
    pub rule: String,
    /// One sentence.
    pub why: String,
    /// `waiting`, `done`, `goes-on`, `failed`, `dropped`, or `observed`.
    pub outcome: String,
    /// A sentence about that; may be empty.
    pub detail: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events of this process, from 1.
    pub number: u64,
    /// When it was noticed, in milliseconds since 1970, on this machine's clock.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened; sessions by their hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// A session moved.
    Moved {
        /// Of which function.
        function: FunctionName,
        /// Which.
        session: String,
        /// Where it was.
        from: NodeName,
        /// Where it is.
        to: NodeName,
    },
    /// An oracle decided something.
    Decided {
        /// Of which node.
        node: NodeName,
        /// For which function.
        function: FunctionName,
        /// What.
        action: String,
        /// Why.
        why: String,
    },
    /// A node does not answer any more.
    Silent {
        /// Which.
        node: NodeName,
        /// What was said instead.
        why: String,
    },
    /// A node answers again.
    Back {
        /// Which.
        node: NodeName,
    },
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Moved { function, session, from, to } => {
                write!(f, "session {session} of {function} moved from {from} to {to}")
            }
            Self::Decided { node, function, action, why } => {
                write!(f, "{node} decided {action} for {function}: {why}")
            }
            Self::Silent { node, why } => write!(f, "{node} does not answer: {why}"),
            Self::Back { node } => write!(f, "{node} answers again"),
        }
    }
}

impl View {
    /// A node.
    pub fn node(&self, name: &NodeName) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// Where a session is listed, by its hash.
    pub fn session(
        &self,
        function: &FunctionName,
        hash: &str,
    ) -> Option<(&NodeView, &SessionView)> {
        self.nodes.iter().find_map(|node| {
            let function = node.function(function)?;
            let listed = function.listed.as_deref()?;
            Some((node, listed.iter().find(|session| session.hash == hash)?))
        })
    }

    /// The id behind a session's hash, if it was seen of late.
    pub fn id_of(&self, function: &FunctionName, hash: &str) -> Option<&SessionId> {
        let listed = self.session(function, hash).map(|(_, session)| &session.id);
        listed.or_else(|| self.moves_of(function, hash).map(|moved| &moved.id).next())
    }

    /// The moves of a session that were seen, the latest first.
    pub fn moves_of(&self, function: &FunctionName, hash: &str) -> impl Iterator<Item = &MoveView> {
        self.moves.iter().filter(move |it| it.function == *function && it.hash == hash)
    }
}

impl NodeView {
    /// One of its functions.
    pub fn function(&self, name: &FunctionName) -> Option<&FunctionView> {
        self.functions.iter().find(|function| function.name == *name)
    }
}
