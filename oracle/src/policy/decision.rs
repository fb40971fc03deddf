//! What the policy says: what to do and why, and why nothing else.

use std::fmt::{Display, Formatter};

use funicular::peers::messages::OffloadStatus;
use funicular::session::{FunctionName, Millis, NodeName, SessionId};
use serde::{Deserialize, Serialize};

use super::Direction;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// `set-offload-status`.
    SetStatus {
        /// The new status.
        status: OffloadStatus,
    },
    /// `force-offload`.
    Offload {
        /// Which session.
        session: SessionId,
        /// Its size.
        bytes: u64,
    },
    /// `force-onload`.
    Onload {
        /// Which session.
        session: SessionId,
        /// Where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<NodeName>,
        /// Its size.
        bytes: u64,
    },
}

impl Action {
    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SetStatus { status: OffloadStatus::Accept } => "accept",
            Self::SetStatus { status: OffloadStatus::Reject } => "reject",
            Self::Offload { .. } => "offload",
            Self::Onload { .. } => "onload",
        }
    }

    /// Which way a session moves, if one does.
    pub fn direction(&self) -> Option<Direction> {
        match self {
            Self::SetStatus { .. } => None,
            Self::Offload { .. } => Some(Direction::Up),
            Self::Onload { .. } => Some(Direction::Down),
        }
    }

    /// The session that moves, and its bytes.
    pub fn moves(&self) -> Option<(&SessionId, u64)> {
        match self {
            Self::SetStatus { .. } => None,
            Self::Offload { session, bytes } | Self::Onload { session, bytes, .. } => {
                Some((session, *bytes))
            }
        }
    }
}

/// What a rule sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The rule.
    pub rule: String,
    /// Its value; `None`: unknown.
    pub value: Option<f64>,
    /// What the value will be once the last moves show, as far as that is known.
    pub expected: Option<f64>,
    /// Its watermarks.
    pub high: f64,
    /// As above.
    pub low: f64,
    /// As above.
    pub onload: f64,
    /// The signals behind it, smoothed; `None`: unknown.
    pub signals: Vec<(String, Option<f64>)>,
}

impl Display for Reading {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.value {
            Some(value) => write!(f, "{} is {}", self.rule, number(value)),
            None => write!(f, "{} is unknown", self.rule),
        }
    }
}

/// A number as people read it.
pub(super) fn number(value: f64) -> String {
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Something that could have been done, and why it was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// What.
    pub what: String,
    /// Why not.
    pub why_not: String,
}

/// Something to do, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When, on the caller's clock.
    pub at: Millis,
    /// Of which function.
    pub function: FunctionName,
    /// What to do.
    pub action: Action,
    /// The rule that asks for it.
    pub rule: String,
    /// One sentence.
    pub why: String,
    /// Everything that was seen.
    pub readings: Vec<Reading>,
    /// What else there was.
    pub alternatives: Vec<Alternative>,
}

/// What a function's node is doing about its load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// There is room: sessions come home.
    #[default]
    Calm,
    /// A high watermark was reached: sessions go up.
    Relieving,
    /// A low watermark was reached: none go up, none come.
    Holding,
}

impl Display for Phase {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm",
            Self::Relieving => "relieving",
            Self::Holding => "holding",
        })
    }
}

/// How a function stands, whether or not anything is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which function.
    pub function: FunctionName,
    /// What its node is doing.
    pub phase: Phase,
    /// Since when, on the caller's clock.
    pub since: Millis,
    /// Everything that was seen.
    pub readings: Vec<Reading>,
    /// Why not more is done, one sentence.
    pub why: String,
    /// What would have to change for something to happen, a sentence each.
    pub would_change: Vec<String>,
    /// To say which sessions go up, the policy has to see some of them.
    pub wants_here: bool,
    /// To say which sessions come home, the policy has to see those that are away.
    pub wants_away: bool,
}
