//! What the policy is told: rules with their watermarks, and how much may move.

use std::collections::BTreeMap;

use funicular::session::FunctionName;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::signals::{Combine, SignalName};

/// Which sessions go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victims {
    /// Those that relieve the node most for what their move costs: time to carry their
    /// bytes, and the longer way of their requests while they are away.
    #[default]
    Benefit,
    /// Those with the most bytes.
    Largest,
    /// Those that were not used for the longest time.
    LeastRecentlyUsed,
    /// Those with the most requests.
    Hottest,
    /// Any, by the seed.
    Random,
}

impl Victims {
    /// As settings write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Benefit => "benefit",
            Self::Largest => "largest",
            Self::LeastRecentlyUsed => "least-recently-used",
            Self::Hottest => "hottest",
            Self::Random => "random",
        }
    }
}

/// What a session takes away with it when it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelievedBy {
    /// Its share of the requests: CPU, waiting.
    #[default]
    Requests,
    /// Its share of the bytes: memory.
    Bytes,
}

/// One reason to move sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What decisions call it.
    pub name: String,
    /// The signals it looks at.
    pub signals: Vec<SignalName>,
    /// How it sees several of them.
    #[serde(default)]
    pub combine: Combine,
    /// At this value offload starts, and the node takes no sessions from below.
    pub high: f64,
    /// At this value offload stops.
    pub low: f64,
    /// At this value the node takes sessions from below again, and brings its own home.
    pub onload: f64,
    /// What a session takes away with it.
    #[serde(default)]
    pub relieved_by: RelievedBy,
}

/// Everything the policy is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// Reasons to move sessions.
    pub rules: Vec<Rule>,
    /// Which sessions go first.
    pub victims: Victims,
    /// After a change of direction nothing goes the other way for so long.
    pub cooldown: Span,
    /// A session that moved stays where it is for so long.
    pub dwell: Span,
    /// The time that `moves` and `bytes` are meant for.
    pub interval: Span,
    /// Most sessions that are moved in any `interval`, up and down together.
    pub moves: usize,
    /// Most bytes that are moved in any `interval`. A single session may have more if
    /// nothing else moves in that time.
    pub bytes: u64,
    /// After sessions came home too early, the next try waits for `cooldown`, then twice
    /// as long each time, at most this long.
    pub backoff_max: Span,
    /// What a move is expected to carry, in bytes a second.
    pub bandwidth: u64,
    /// What the way to the next node and back is expected to add to a request.
    pub hop: Span,
    /// Sessions that never move, by function: ids, or beginnings of ids with `*` behind.
    pub pinned: BTreeMap<FunctionName, Vec<String>>,
    /// Functions that keep their sessions longer (higher) or give them away first
    /// (lower); 0 unless said. Goes before the function's own label.
    pub priority: BTreeMap<FunctionName, i32>,
}

/// The policy's settings make no sense; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongPolicy(pub String);

impl std::fmt::Display for WrongPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongPolicy {}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            rules: Rule::defaults(),
            victims: Victims::default(),
            cooldown: Span::secs(30),
            dwell: Span::secs(120),
            interval: Span::secs(10),
            moves: 64,
            bytes: 64 << 20,
            backoff_max: Span::secs(3600),
            bandwidth: 10_000_000,
            hop: Span::millis(10),
            pinned: BTreeMap::new(),
            priority: BTreeMap::new(),
        }
    }
}

impl Rule {
    /// The rules of a node that nobody has told anything.
    pub fn defaults() -> Vec<Self> {
        let rule =
            |name: &str, signals: &[&str], [high, low, onload]: [f64; 3], relieved_by| Self {
                name: name.to_owned(),
                signals: signals.iter().filter_map(|name| SignalName::new(*name).ok()).collect(),
                combine: Combine::Worst,
                high,
                low,
                onload,
                relieved_by,
            };
        vec![
            rule("cpu", &["cpu"], [0.85, 0.70, 0.60], RelievedBy::Requests),
            rule("memory", &["memory", "redis-memory"], [0.85, 0.70, 0.55], RelievedBy::Bytes),
            rule("queue-wait", &["queue-wait"], [0.25, 0.10, 0.05], RelievedBy::Requests),
            rule("latency", &["latency-p99"], [5.0, 2.5, 1.5], RelievedBy::Requests),
        ]
    }

    fn check(&self) -> Result<(), WrongPolicy> {
        let Self { name, high, low, onload, .. } = self;
        if self.signals.is_empty() {
            return Err(WrongPolicy(format!("rule {name}: name at least one signal")));
        }
        let numbers = [high, low, onload];
        if numbers.iter().any(|value| !value.is_finite() || **value < 0.0) {
            return Err(WrongPolicy(format!(
                "rule {name}: high, low and onload are numbers, none of them below zero"
            )));
        }
        if !(onload < low && low < high) {
            return Err(WrongPolicy(format!(
                "rule {name}: its watermarks are in the wrong order (onload {onload}, low {low}, \
                 high {high}); make them onload < low < high, or what is moved away comes back \
                 at once"
            )));
        }
        Ok(())
    }
}

impl PolicySettings {
    /// Whether this makes sense; the first thing that does not is the error.
    pub fn check(&self) -> Result<(), WrongPolicy> {
        let mut names = std::collections::BTreeSet::new();
        for rule in &self.rules {
            rule.check()?;
            if !names.insert(&rule.name) {
                return Err(WrongPolicy(format!(
                    "there are two rules `{}`; give each a name of its own",
                    rule.name
                )));
            }
        }
        let wrong = |what: &str| Err(WrongPolicy(what.to_owned()));
        if self.rules.is_empty() {
            return wrong("there is no rule, so nothing would ever move: name one under `rules`");
        }
        if self.interval.as_millis() == 0 || self.moves == 0 || self.bytes == 0 {
            return wrong("interval, moves and bytes are above zero (--observe moves nothing)");
        }
        if self.bandwidth == 0 {
            return wrong("bandwidth is above zero, in bytes a second");
        }
        if self.dwell < self.cooldown {
            return wrong(
                "dwell is not shorter than cooldown: a session would turn round before its node \
                 may",
            );
        }
        if self.backoff_max < self.cooldown {
            return wrong("backoff_max is not shorter than cooldown");
        }
        Ok(())
    }

    /// Whether the settings pin a session.
    pub fn pins(&self, function: &FunctionName, session: &str) -> bool {
        self.pinned.get(function).is_some_and(|patterns| matches_any(patterns, session))
    }
}

/// Whether an id is one of these, or begins as one of them that ends with `*`.
pub fn matches_any(patterns: &[String], session: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => session.starts_with(beginning),
        None => pattern == session,
    })
}
