//! A node's oracle: [`funicular_oracle::policy`] with the smoothing of
//! [`funicular_oracle::signals`].
//!
//! Thousands of nodes are watched, and at most of them nothing can change: then the policy is
//! not asked. When nothing can change is known exactly. A smoothed value is followed here by
//! the same formula, and the policy does nothing while its function is calm with nobody away
//! or with a rule above its onload watermark, or is holding, unless a rule is at its high
//! watermark or all of them are at their onload ones. When it is asked again, its board begins
//! with what was followed.

use std::collections::BTreeMap;

use funicular::session::{FunctionName, Millis};
use funicular_oracle::policy::decision::{Decision, Phase};
use funicular_oracle::policy::view::Functions;
use funicular_oracle::policy::{Direction, Input, Memory, decide};
use funicular_oracle::settings::FileSettings;
use funicular_oracle::signals::{Board, Combine, Sample, SignalName, Smoothing};

/// How many signals a node gives.
pub const SIGNALS: usize = 6;
const NAMES: [&str; SIGNALS] =
    ["cpu", "redis-memory", "queue-wait", "latency-p50", "latency-p99", "requests"];
/// The first ones are the node's, the others each function's.
const OF_NODE: usize = 2;
const REQUESTS: usize = 5;

/// What a node gives at one time, in the order of the signals; of a function the busiest.
pub type Values = [f64; SIGNALS];

/// What every watch goes by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The oracle's settings.
    pub file: FileSettings,
    smoothing: Smoothing,
    names: Vec<SignalName>,
    compiled: Vec<Compiled>,
    seed: u64,
    /// The policy is asked at every look.
    always: bool,
}

#[derive(Debug, Clone)]
struct Compiled {
    signals: Vec<Option<usize>>,
    combine: Combine,
    high: f64,
    onload: f64,
}

impl Rules {
    /// Rules of these settings; the error says which of them never knows anything here.
    pub fn new(file: FileSettings, seed: u64, functions: usize) -> Result<Self, String> {
        file.policy.check().map_err(|wrong| wrong.0)?;
        let number = |signal: &SignalName| NAMES.iter().position(|name| *name == signal.as_str());
        let mut compiled = Vec::new();
        for rule in &file.policy.rules {
            let signals: Vec<_> = rule.signals.iter().map(number).collect();
            let known = signals.iter().flatten().count();
            if known == 0 || (rule.combine == Combine::WorstOfAll && known < signals.len()) {
                return Err(format!(
                    "rule {} looks at signals that the simulation has not; it has {}",
                    rule.name,
                    NAMES.join(", ")
                ));
            }
            let (combine, high, onload) = (rule.combine, rule.high, rule.onload);
            if signals.len() > SIGNALS {
                return Err(format!("rule {} names a signal twice", rule.name));
            }
            compiled.push(Compiled { signals, combine, high, onload });
        }
        let names = NAMES.iter().filter_map(|name| SignalName::new(*name).ok()).collect();
        // Functions of one node differ in this one.
        let apart = compiled.iter().any(|rule| rule.signals.contains(&Some(REQUESTS)));
        let always = functions > 1 && apart;
        Ok(Self { smoothing: file.signals.into(), file, names, compiled, seed, always })
    }

    /// Asks the policy at every look, whether or not something can change.
    #[must_use]
    pub fn always(self) -> Self {
        Self { always: true, ..self }
    }

    fn values<'a>(&'a self, of: &'a Values) -> impl Iterator<Item = (&'a Compiled, f64)> {
        self.compiled.iter().filter_map(|rule| {
            let mut values = [None; SIGNALS];
            for (value, at) in values.iter_mut().zip(&rule.signals) {
                *value = at.map(|at| of[at]);
            }
            Some((rule, rule.combine.of(&values[..rule.signals.len()])?))
        })
    }

    /// Whether a rule would be at `share` of its high watermark.
    pub fn nears(&self, values: &Values, share: f64) -> bool {
        self.values(values).any(|(rule, value)| value >= rule.high * share)
    }

    fn all_at_onload(&self, values: &Values) -> bool {
        self.values(values).all(|(rule, value)| value <= rule.onload)
    }

    fn samples(&self, values: &Values, functions: &[(FunctionName, f64)]) -> Vec<Sample> {
        let (of_node, of_function) = self.names.split_at(OF_NODE);
        let mut samples: Vec<Sample> =
            of_node.iter().zip(values).map(|(name, value)| Sample::of_node(name, *value)).collect();
        for (function, rate) in functions {
            for (name, value) in of_function.iter().zip(&values[OF_NODE..]) {
                // A function that nobody calls keeps nobody waiting.
                let value = match name.as_str() {
                    "requests" => *rate,
                    _ if *rate > 0.0 => *value,
                    _ => 0.0,
                };
                samples.push(Sample::of(function, name, value));
            }
        }
        samples
    }

    fn weight(&self, passed: Millis) -> f64 {
        match self.smoothing.time_constant {
            0 => 1.0,
            constant => 1.0 - (-(passed as f64) / constant as f64).exp(),
        }
    }
}

/// What the policy wants to see of a function's sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// Those that are here.
    pub here: bool,
    /// Those that are above.
    pub away: bool,
}

/// The oracle of one node.
#[derive(Debug)]
pub struct Watch {
    board: Board,
    memory: Memory,
    /// Signals, smoothed; when that was.
    smooth: Option<(Values, Millis)>,
    /// The board knows what is smoothed.
    armed: bool,
    /// Something could change when somebody looked last.
    restless: bool,
    phases: BTreeMap<FunctionName, Phase>,
}

impl Watch {
    /// One that begins to look.
    pub fn new(rules: &Rules) -> Self {
        Self {
            board: Board::new(rules.smoothing),
            memory: Memory::new(0),
            smooth: None,
            armed: false,
            restless: false,
            phases: BTreeMap::new(),
        }
    }

    /// What the node gives now; whether the policy has to be asked about it. `away`: sessions
    /// could come home.
    pub fn see(
        &mut self,
        rules: &Rules,
        now: Millis,
        values: &Values,
        away: bool,
        functions: &[(FunctionName, f64)],
    ) -> bool {
        let before = self.smooth;
        let smooth = match before {
            None => *values,
            Some((before, at)) => {
                let weight = rules.weight(now.saturating_sub(at));
                std::array::from_fn(|index| {
                    before[index] + (values[index] - before[index]) * weight
                })
            }
        };
        self.smooth = Some((smooth, now));
        self.restless = self.can_change(rules, &smooth, away);
        if !self.restless && !rules.always {
            self.armed = false;
            return false;
        }
        if !self.armed {
            self.armed = true;
            self.board = Board::new(rules.smoothing);
            if let Some((before, at)) = before {
                self.board.take(at, &rules.samples(&before, functions));
            }
        }
        self.board.take(now, &rules.samples(values, functions));
        true
    }

    fn can_change(&self, rules: &Rules, smooth: &Values, away: bool) -> bool {
        // Rounding is not allowed to make a difference.
        const NEARLY: f64 = 1.0 - 1e-9;
        if rules.nears(smooth, NEARLY) {
            return true;
        }
        let at_onload = rules.all_at_onload(&smooth.map(|value| value * NEARLY));
        let one = self.phases.len() <= 1;
        self.phases.values().any(|phase| match phase {
            Phase::Relieving => true,
            Phase::Holding => at_onload || !one,
            Phase::Calm => at_onload && away,
        }) || (self.phases.is_empty() && at_onload && away)
    }

    /// Whether a function is not calm, or something could have changed just now.
    pub fn is_restless(&self) -> bool {
        self.restless || self.phases.values().any(|phase| *phase != Phase::Calm)
    }

    /// What the policy wants to see of a function: as the oracle, it learns that from what was
    /// decided last.
    pub fn wants(&self, rules: &Rules, function: &FunctionName) -> Wants {
        let phase = self.phases.get(function).copied().unwrap_or_default();
        let at_onload = self.smooth.is_some_and(|(smooth, _)| rules.all_at_onload(&smooth));
        Wants { here: phase == Phase::Relieving, away: phase == Phase::Calm && at_onload }
    }

    /// Asks the policy.
    pub fn decide(&mut self, rules: &Rules, now: Millis, functions: &Functions) -> Vec<Decision> {
        // Everybody was there from the beginning, though nobody asked.
        let new: Functions = functions
            .iter()
            .filter(|(name, _)| !self.phases.contains_key(*name))
            .map(|(name, view)| (name.clone(), view.clone()))
            .collect();
        if !new.is_empty() {
            let nothing = Board::new(rules.smoothing);
            self.ask(rules, 0, &new, &nothing);
        }
        let board = std::mem::take(&mut self.board);
        let decisions = self.ask(rules, now, functions, &board);
        self.board = board;
        decisions
    }

    fn ask(
        &mut self,
        rules: &Rules,
        now: Millis,
        functions: &Functions,
        board: &Board,
    ) -> Vec<Decision> {
        let settings = &rules.file.policy;
        let input = Input { now, board, functions, settings, seed: rules.seed };
        let memory = std::mem::replace(&mut self.memory, Memory::new(0));
        let (outcome, memory) = decide(&input, memory);
        self.memory = memory;
        for verdict in outcome.verdicts {
            self.phases.insert(verdict.function, verdict.phase);
        }
        outcome.decisions
    }

    /// A move did not happen.
    pub fn failed(
        &mut self,
        rules: &Rules,
        now: Millis,
        function: &FunctionName,
        direction: Direction,
    ) {
        self.memory.failed(now, function, direction, &rules.file.policy);
    }
}
