//! What an oracle saw, one JSON value a line: recorded by the daemon, written by hand or
//! made by a program, and played back through the policy.
//!
//! The first line says with which settings; each other one is a tick. Sessions are named by
//! their hash. `docs/oracle.md` has the format.

use std::io::BufRead;

use funicular::session::{Millis, NodeName, SessionId};
use serde::{Deserialize, Serialize};

use crate::policy::decision::{Action, Decision};
use crate::policy::settings::PolicySettings;
use crate::policy::view::Functions;
use crate::policy::{Input, Memory, Outcome, decide};
use crate::signals::{Board, Sample, Smoothing};

/// The version of the format.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the format.
    pub trace: u32,
    /// The node.
    pub node: NodeName,
    /// How samples become signals.
    #[serde(default)]
    pub smoothing: Smoothing,
    /// The policy's settings.
    #[serde(default)]
    pub policy: PolicySettings,
    /// Decides what is left to chance.
    #[serde(default)]
    pub seed: u64,
}

/// A tick: what came in since the last one, and the functions as they were.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// When, in milliseconds since the oracle began; never less than in the line before.
    pub at: Millis,
    /// What sources said.
    #[serde(default)]
    pub samples: Vec<Sample>,
    /// The functions that answered; absent: as in the line before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<Functions>,
}

/// A trace that does not read; the text says where and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TraceError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// The policy, played a trace.
pub struct Replay {
    /// What the trace begins with.
    pub head: Head,
    board: Board,
    memory: Memory,
    functions: Functions,
    now: Millis,
}

impl Replay {
    /// Plays a trace with these settings instead of its own, if any.
    pub fn new(head: Head, policy: Option<PolicySettings>) -> Self {
        let head = Head { policy: policy.unwrap_or(head.policy), ..head };
        Self {
            board: Board::new(head.smoothing),
            memory: Memory::new(0),
            functions: Functions::new(),
            now: 0,
            head,
        }
    }

    /// One tick; the error is that it is out of order.
    pub fn tick(&mut self, tick: Tick) -> Result<Outcome, String> {
        if tick.at < self.now {
            return Err(format!("{} is before {} of the line above", tick.at, self.now));
        }
        self.now = tick.at;
        self.board.take(self.now, &tick.samples);
        if let Some(functions) = tick.functions {
            self.functions = functions;
        }
        let input = Input {
            now: self.now,
            board: &self.board,
            functions: &self.functions,
            settings: &self.head.policy,
            seed: self.head.seed,
        };
        let memory = std::mem::replace(&mut self.memory, Memory::new(0));
        let (outcome, memory) = decide(&input, memory);
        self.memory = memory;
        Ok(outcome)
    }
}

/// Plays a whole trace and hands every outcome over.
pub fn replay(
    trace: impl BufRead,
    policy: Option<&PolicySettings>,
    mut told: impl FnMut(&Head, Millis, &Outcome),
) -> Result<(), TraceError> {
    let mut playing: Option<Replay> = None;
    for (index, line) in trace.lines().enumerate() {
        let wrong = |why: String| TraceError { line: index + 1, why };
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let Some(replay) = &mut playing else {
            let head: Head = serde_json::from_str(&line)
                .map_err(|error| wrong(format!("this is no beginning of a trace: {error}")))?;
            if head.trace != VERSION {
                return Err(wrong(format!("version {}; this reads {VERSION}", head.trace)));
            }
            let replay = Replay::new(head, policy.cloned());
            replay.head.policy.check().map_err(|error| wrong(error.0))?;
            playing = Some(replay);
            continue;
        };
        let tick: Tick = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        let at = tick.at;
        let outcome = replay.tick(tick).map_err(wrong)?;
        told(&replay.head, at, &outcome);
    }
    match playing {
        Some(_) => Ok(()),
        None => Err(TraceError { line: 1, why: "the trace is empty".to_owned() }),
    }
}

/// The functions with their sessions named by their hash.
pub fn hashed(functions: &Functions) -> Functions {
    let mut functions = functions.clone();
    for view in functions.values_mut() {
        for session in view.here.iter_mut().chain(&mut view.away) {
            session.session = hash(&session.session);
        }
    }
    functions
}

/// A decision with its session named by its hash.
pub fn hashed_decision(decision: &Decision) -> Decision {
    let mut decision = decision.clone();
    match &mut decision.action {
        Action::SetStatus { .. } => {}
        Action::Offload { session, .. } | Action::Onload { session, .. } => {
            *session = hash(session);
        }
    }
    decision
}

fn hash(session: &SessionId) -> SessionId {
    // Sixteen hexadecimal digits are an id.
    SessionId::new(session.log_hash()).unwrap_or_else(|_| session.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"trace": 1, "node": "milan", "policy": {"cooldown": "5s", "dwell": "10s",
        "rules": [{"name": "cpu", "signals": ["cpu"], "high": 0.8, "low": 0.6, "onload": 0.4}]}}"#;
    const FUNCTIONS: &str = r#"{"cart": {"status": "accept", "above": true, "sessions": 1,
        "here": [{"session": "a", "bytes": 100, "idle": 5}]}}"#;

    fn lines(lines: &[String]) -> String {
        lines.iter().map(|line| line.replace('\n', " ") + "\n").collect()
    }

    fn played(text: &str) -> Result<Vec<(Millis, &'static str)>, TraceError> {
        let mut told = Vec::new();
        replay(text.as_bytes(), None, |_, at, outcome| {
            told.extend(outcome.decisions.iter().map(|it| (at, it.action.name())));
        })?;
        Ok(told)
    }

    #[test]
    fn a_trace_written_by_hand_is_played() {
        let sample = r#"[{"signal": "cpu", "value": 0.9}]"#;
        let text = lines(&[
            HEAD.to_owned(),
            format!(r#"{{"at": 1000, "samples": {sample}, "functions": {FUNCTIONS}}}"#),
            format!(r#"{{"at": 7000, "samples": {sample}}}"#),
        ]);
        assert_eq!(played(&text).unwrap(), [(7000, "reject"), (7000, "offload")]);
    }

    #[test]
    fn what_does_not_read_is_named_with_its_line() {
        let head = lines(&[HEAD.to_owned()]);
        for (text, line, says) in [
            (String::new(), 1, "empty"),
            ("{}\n".to_owned(), 1, "no beginning"),
            (r#"{"trace": 2, "node": "milan"}"#.to_owned(), 1, "version 2"),
            (format!("{head}\nnonsense"), 3, "expected"),
            (format!("{head}{{\"at\": 5}}\n{{\"at\": 4}}"), 3, "before"),
        ] {
            let error = played(&text).unwrap_err();
            assert!(error.line == line && error.why.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn sessions_are_named_by_their_hash() {
        let functions: Functions = serde_json::from_str(FUNCTIONS).unwrap();
        let hashed = hashed(&functions);
        let name = hashed.values().next().unwrap().here[0].session.as_str().to_owned();
        assert_eq!(name, SessionId::new("a").unwrap().log_hash());
    }
}
