//! What is played, and with which policies.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::report::{Outcome, Report};
use crate::run::{Done, run};
use crate::settings::Settings;
use crate::tree::Tree;
use crate::watch::Rules;
use crate::workload::{Second, Workload};

/// What decides where sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The oracle's policy.
    Oracle,
    /// Sessions stay where they are created.
    Never,
    /// Sessions are created and served at the root.
    Root,
    /// As many sessions as the oracles move, but any.
    Random,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Oracle, Self::Never, Self::Root, Self::Random];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Never => "never",
            Self::Root => "root",
            Self::Random => "random",
        }
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == text);
        found.ok_or_else(|| format!("there is no policy {text:?}: oracle, never, root or random"))
    }
}

/// Everything that the policies have in common.
#[derive(Debug)]
pub struct Scenario {
    /// The tree.
    pub tree: Tree,
    /// What clients do.
    pub workload: Workload,
    /// Machines, networks and requests.
    pub settings: Settings,
    /// What oracles go by.
    pub rules: Rules,
    /// Decides what is left to chance.
    pub seed: u64,
}

/// Is told how far each policy has come: the policy, and how many seconds were played.
pub type Progress<'a> = &'a (dyn Fn(Policy, Second) + Sync);

impl Scenario {
    /// Plays it with each of the policies, two at a time. The report does not depend on that.
    pub fn play(&self, policies: &[Policy], progress: Progress<'_>) -> Report {
        let play = |policy, schedule: &[_]| {
            let told = |second| progress(policy, second);
            run(self, policy, schedule, &told)
        };
        let has = |policy: Policy| policies.contains(&policy);
        let mut outcomes = std::thread::scope(|scope| {
            // How many moves `random` makes is what the oracles have made.
            let watched = scope.spawn(|| {
                let mut outcomes = Vec::new();
                if has(Policy::Oracle) || has(Policy::Random) {
                    let done = play(Policy::Oracle, &[]);
                    if has(Policy::Random) {
                        let random = play(Policy::Random, &done.schedule);
                        outcomes.push(outcome(Policy::Random, &random));
                    }
                    if has(Policy::Oracle) {
                        outcomes.push(outcome(Policy::Oracle, &done));
                    }
                }
                outcomes
            });
            let fixed = [Policy::Never, Policy::Root].into_iter().filter(|policy| has(*policy));
            let mut outcomes: Vec<Outcome> =
                fixed.map(|policy| outcome(policy, &play(policy, &[]))).collect();
            match watched.join() {
                Ok(more) => outcomes.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
            outcomes
        });
        outcomes.sort_by_key(|outcome| outcome.policy);
        Report::new(self, outcomes)
    }
}

fn outcome(policy: Policy, done: &Done) -> Outcome {
    Outcome::new(policy, &done.tally, done.sessions, done.faults.clone())
}
