//! What is known of a node and its functions: smoothed, and forgotten when it gets old.
//!
//! A source gives [`Sample`]s; the [`Board`] keeps what they say. A source that is silent
//! for too long is *unknown*, which is not zero: nothing moves because of it.

mod board;
mod combine;

pub use board::{Board, Known};
pub use combine::Combine;

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use funicular::session::{FunctionName, Millis};
use serde::{Deserialize, Serialize};

/// What is measured: `cpu`, `memory`, `queue-wait`. Letters, digits, hyphens and
/// underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignalName(String);

impl SignalName {
    /// Checks and wraps a name.
    pub fn new(name: impl Into<String>) -> Result<Self, String> {
        let name = name.into();
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
            return Err(format!(
                "{name:?} is no name of a signal: 1 to 64 letters, digits, hyphens, underscores"
            ));
        }
        Ok(Self(name))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For how long it may go on telling of what is over, in milliseconds: what `status` says
    /// of waiting, latency and requests is of the last 5 to 10 seconds.
    pub fn lag(&self) -> Millis {
        match self.as_str() {
            "queue-wait" | "latency-p50" | "latency-p99" | "requests" => 10_000,
            _ => 0,
        }
    }
}

impl Display for SignalName {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SignalName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

impl TryFrom<String> for SignalName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(text)
    }
}

impl From<SignalName> for String {
    fn from(name: SignalName) -> Self {
        name.0
    }
}

/// One value of one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was measured.
    pub signal: SignalName,
    /// Of which function; of the node as a whole without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// The value, in the signal's own unit.
    pub value: f64,
}

impl Sample {
    /// A value of the node.
    pub fn of_node(signal: &SignalName, value: f64) -> Self {
        Self { signal: signal.clone(), function: None, value }
    }

    /// A value of a function.
    pub fn of(function: &FunctionName, signal: &SignalName, value: f64) -> Self {
        Self { signal: signal.clone(), function: Some(function.clone()), value }
    }
}

/// How samples become signals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Smoothing {
    /// After this time, in milliseconds, a new value counts for two thirds (63 %).
    pub time_constant: Millis,
    /// A signal without a new value for so long, in milliseconds, is unknown.
    pub stale_after: Millis,
}

impl Default for Smoothing {
    fn default() -> Self {
        Self { time_constant: 5_000, stale_after: 15_000 }
    }
}
