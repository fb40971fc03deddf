//! What the oracle tells of itself.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Display, Formatter};
use std::time::{SystemTime, UNIX_EPOCH};

use funicular::session::{FunctionName, Millis, NodeName};
use serde::{Deserialize, Serialize};

use super::gather::Said;
use crate::policy::decision::{Decision, Verdict};
use crate::signals::Board;
use crate::trace::hashed_decision;

/// So many decisions are kept.
const KEPT: usize = 512;

/// What part an oracle plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It decides and acts.
    Acting,
    /// It decides and does nothing.
    Observing,
    /// Another one acts at this node, or nobody knows.
    StandingBy,
}

impl Display for Mode {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Acting => "acting",
            Self::Observing => "observing",
            Self::StandingBy => "standing by",
        })
    }
}

/// A decision and what became of it. Sessions are named by their hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Counts the decisions of this process.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The decision.
    pub decision: Decision,
    /// `waiting`, `done`, `goes-on`, `failed`, `dropped` (it was not begun), or `observed`.
    pub outcome: String,
    /// A sentence about that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A signal as it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalTold {
    /// Of which function; of the node without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Its name.
    pub signal: String,
    /// Its smoothed value; absent while it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The last value its source gave.
    pub last: f64,
    /// How long ago that was, in milliseconds.
    pub age_ms: Millis,
}

/// A source and whether it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTold {
    /// Its name.
    pub source: String,
    /// What went wrong the last time, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Everything at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The node it watches.
    pub node: NodeName,
    /// The part it plays.
    pub mode: Mode,
    /// Where signals come from.
    pub sources: Vec<SourceTold>,
    /// The signals.
    pub signals: Vec<SignalTold>,
    /// How each function stands.
    pub functions: Vec<Verdict>,
    /// The last decisions, the latest first.
    pub decisions: Vec<Recorded>,
}

/// What is kept for whoever asks.
pub(super) struct Told {
    node: NodeName,
    pub(super) mode: Mode,
    pub(super) verdicts: Vec<Verdict>,
    sources: BTreeMap<&'static str, Option<String>>,
    signals: Vec<SignalTold>,
    decisions: VecDeque<Recorded>,
    next: u64,
}

impl Told {
    pub(super) fn new(node: NodeName) -> Self {
        Self {
            node,
            mode: Mode::StandingBy,
            verdicts: Vec::new(),
            sources: BTreeMap::new(),
            signals: Vec::new(),
            decisions: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) fn heard(&mut self, said: &Said) {
        let error = said.what.as_ref().err().map(ToString::to_string);
        self.sources.insert(said.source, error);
    }

    pub(super) fn signals(&mut self, now: Millis, board: &Board) {
        let told = |(function, signal, known, fresh): (Option<&FunctionName>, _, _, bool)| {
            let (signal, known): (&crate::signals::SignalName, crate::signals::Known) =
                (signal, known);
            SignalTold {
                function: function.cloned(),
                signal: signal.to_string(),
                value: fresh.then_some(known.value),
                last: known.last,
                age_ms: now.saturating_sub(known.at),
            }
        };
        self.signals = board.all(now).map(told).collect();
    }

    /// Keeps a decision; returns its number.
    pub(super) fn record(&mut self, decision: &Decision, mode: Mode) -> u64 {
        let id = self.next;
        self.next += 1;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let outcome = if mode == Mode::Acting { "waiting" } else { "observed" };
        self.decisions.push_front(Recorded {
            id,
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            decision: hashed_decision(decision),
            outcome: outcome.to_owned(),
            detail: String::new(),
        });
        self.decisions.truncate(KEPT);
        id
    }

    /// Notes what became of a decision; returns the node.
    pub(super) fn outcome(&mut self, id: u64, outcome: &str, detail: String) -> NodeName {
        if let Some(recorded) = self.decisions.iter_mut().find(|recorded| recorded.id == id) {
            outcome.clone_into(&mut recorded.outcome);
            recorded.detail = detail;
        }
        self.node.clone()
    }

    pub(super) fn explanation(&self) -> Explanation {
        let sources = self.sources.iter();
        Explanation {
            node: self.node.clone(),
            mode: self.mode,
            sources: sources
                .map(|(source, error)| SourceTold {
                    source: (*source).to_owned(),
                    error: error.clone(),
                })
                .collect(),
            signals: self.signals.clone(),
            functions: self.verdicts.clone(),
            decisions: self.decisions.iter().cloned().collect(),
        }
    }
}
