//! What was answered, before anything is made of it.

use funicular::peers::messages::NodeStatus;
use funicular::session::{FunctionName, NodeName};
use serde::Deserialize;

/// What one node said when it was asked.
#[derive(Debug, Clone)]
pub struct NodeAnswer {
    /// Which node.
    pub node: NodeName,
    /// When it was asked, in milliseconds since 1970.
    pub asked_ms: u64,
    /// When it had answered.
    pub at_ms: u64,
    /// Its functions, or why it does not say which there are.
    pub functions: Result<Vec<FunctionAnswer>, String>,
    /// Its oracle; `None`: nobody knows where it is.
    pub oracle: Option<Result<OracleSaid, String>>,
}

/// What one function said.
#[derive(Debug, Clone)]
pub struct FunctionAnswer {
    /// Which function.
    pub function: FunctionName,
    /// How many sessions it was asked for; 0: none.
    pub sessions: usize,
    /// Its status, or why there is none.
    pub status: Result<Box<NodeStatus>, String>,
}

/// What an oracle says at `/explain`, as far as it is shown.
#[derive(Debug, Clone, Deserialize)]
pub struct OracleSaid {
    /// The part it plays.
    pub mode: String,
    /// Where signals come from.
    #[serde(default)]
    pub sources: Vec<SourceSaid>,
    /// The signals.
    #[serde(default)]
    pub signals: Vec<SignalSaid>,
    /// How each function stands.
    #[serde(default)]
    pub functions: Vec<StandSaid>,
    /// The last decisions, the latest first.
    #[serde(default)]
    pub decisions: Vec<DecisionSaid>,
}

/// A source.
#[derive(Debug, Clone, Deserialize)]
pub struct SourceSaid {
    /// Its name.
    pub source: String,
    /// What went wrong, if something did.
    #[serde(default)]
    pub error: Option<String>,
}

/// A signal.
#[derive(Debug, Clone, Deserialize)]
pub struct SignalSaid {
    /// Of which function; of the node without one.
    #[serde(default)]
    pub function: Option<FunctionName>,
    /// Its name.
    pub signal: String,
    /// Its value; absent while it is unknown.
    #[serde(default)]
    pub value: Option<f64>,
}

/// How a function stands.
#[derive(Debug, Clone, Deserialize)]
pub struct StandSaid {
    /// Which function.
    pub function: FunctionName,
    /// What its node is doing.
    pub phase: String,
    /// Why not more is done.
    #[serde(default)]
    pub why: String,
    /// What would have to change.
    #[serde(default)]
    pub would_change: Vec<String>,
}

/// A decision and what became of it.
#[derive(Debug, Clone, Deserialize)]
pub struct DecisionSaid {
    /// Counts the decisions of that oracle's process.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The decision.
    pub decision: WhatSaid,
    /// What became of it.
    pub outcome: String,
    /// A sentence about that.
    #[serde(default)]
    pub detail: String,
}

/// What was decided.
#[derive(Debug, Clone, Deserialize)]
pub struct WhatSaid {
    /// Of which function.
    pub function: FunctionName,
    /// What to do.
    pub action: ActionSaid,
    /// The rule that asked for it.
    pub rule: String,
    /// One sentence.
    pub why: String,
}

/// What to do.
#[derive(Debug, Clone, Deserialize)]
pub struct ActionSaid {
    /// `set-status`, `offload` or `onload`.
    #[serde(rename = "do")]
    pub verb: String,
    /// The new status of `set-status`.
    #[serde(default)]
    pub status: Option<String>,
    /// The hash of the session that moves.
    #[serde(default)]
    pub session: Option<String>,
}

impl ActionSaid {
    /// One word, as logs and metrics have it.
    pub fn word(&self) -> &str {
        self.status.as_deref().unwrap_or(&self.verb)
    }
}
