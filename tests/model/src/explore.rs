//! The checker at work, and what it reports.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::actions::{Protocol, Scope};
use crate::world::{Omission, World};

/// What an exploration found.
#[derive(Debug)]
pub struct Report {
    /// What was explored.
    pub scope: Scope,
    /// Different states.
    pub states: usize,
    /// States that were come by, those known already included.
    pub generated: usize,
    /// Different states with nothing on its way, on ways to rest.
    pub quiet: usize,
    /// The longest of the shortest ways to a state, or about that with several threads.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Always-properties that do not always hold, and a way to where they do not.
    pub faults: Vec<Fault>,
    /// Sometimes-properties, and after how many steps they were first seen to hold.
    pub seen: Vec<(&'static str, usize)>,
    /// Sometimes-properties that never hold.
    pub unseen: Vec<&'static str>,
}

/// A property that does not hold, and how that comes.
#[derive(Debug)]
pub struct Fault {
    /// The property.
    pub property: &'static str,
    /// What happened, step by step.
    pub steps: Vec<String>,
    /// What is wrong then.
    pub why: String,
}

impl Report {
    /// Whether all that must hold holds, and all that must be possible is.
    pub fn is_well(&self) -> bool {
        self.faults.is_empty() && self.unseen.is_empty()
    }
}

fn why(model: &Protocol, world: &World) -> String {
    let all = [
        world.second_writer(),
        world.lost_write(),
        world.repeated_write(),
        world.endless_redirects(),
        world.unrest(&model.rests),
        world.violation(),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Explores a scope to its end, or to the first fault: of one property, if named.
pub fn explore(scope: Scope, omits: Omission, until: Option<&str>) -> Report {
    explore_within(scope, omits, until, Duration::from_secs(24 * 3600))
}

/// The same, and ends after a while at the latest.
pub fn explore_within(
    scope: Scope,
    omits: Omission,
    until: Option<&str>,
    at_most: Duration,
) -> Report {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let model = Protocol { scope, omits, ..Protocol::default() };
    let named = |name: &str| model.properties().into_iter().find(|known| known.name == name);
    let end = match until.and_then(named) {
        Some(property) => HasDiscoveries::AnyOf(BTreeSet::from([property.name])),
        None => HasDiscoveries::AnyFailures,
    };
    let checker =
        model.checker().threads(threads).finish_when(end).timeout(at_most).spawn_bfs().join();
    let mut report = Report {
        scope,
        states: checker.unique_state_count(),
        generated: checker.state_count(),
        quiet: checker.model().rests.len(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        faults: Vec::new(),
        seen: Vec::new(),
        unseen: Vec::new(),
    };
    let found = checker.discoveries();
    for property in checker.model().properties() {
        match (property.expectation, found.get(property.name)) {
            (Expectation::Sometimes, Some(path)) => {
                report.seen.push((property.name, path.clone().into_actions().len()));
            }
            (Expectation::Sometimes, None) => report.unseen.push(property.name),
            (_, None) => {}
            (_, Some(path)) => report.faults.push(Fault {
                property: property.name,
                why: why(checker.model(), path.last_state()),
                steps: path.clone().into_actions().iter().map(|a| format!("{a:?}")).collect(),
            }),
        }
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, states, generated, quiet, depth, took, .. } = self;
        writeln!(
            f,
            "{}: {states} states ({generated} generated, {quiet} quiet), depth {depth}, {:.1} s",
            scope.name,
            took.as_secs_f64()
        )?;
        for (property, steps) in &self.seen {
            writeln!(f, "  sometimes: {property} (first after {steps} steps)")?;
        }
        for property in &self.unseen {
            writeln!(f, "  NEVER: {property}")?;
        }
        for Fault { property, steps, why } in &self.faults {
            writeln!(f, "  FAULT: {property}, after {} steps: {why}", steps.len())?;
            for (number, step) in (1..).zip(steps) {
                writeln!(f, "    {number:2}. {step}")?;
            }
        }
        Ok(())
    }
}
