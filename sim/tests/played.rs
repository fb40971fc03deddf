//! Small trees, played to their end.

#![allow(clippy::unwrap_used)] // A fault is a panic here.

use std::fmt::Write;
use std::sync::LazyLock;

use funicular_oracle::duration::Span;
use funicular_oracle::settings::FileSettings;
use funicular_sim::draw::draw;
use funicular_sim::report::Report;
use funicular_sim::scenario::{Policy, Scenario};
use funicular_sim::settings::Settings;
use funicular_sim::tree::Tree;
use funicular_sim::watch::Rules;
use funicular_sim::workload::csv;
use funicular_sim::workload::generated::{Amount, Kind, generate};
use proptest::prelude::*;

/// A made-up workload on a tree of so many nodes.
struct Small {
    kind: Kind,
    nodes: u32,
    sessions: u32,
    seconds: u32,
    seed: u64,
    file: FileSettings,
    settings: Settings,
}

impl Small {
    fn new(kind: Kind, nodes: u32) -> Self {
        Self {
            kind,
            nodes,
            sessions: nodes * 200,
            seconds: kind.usual_seconds(),
            seed: 1,
            file: FileSettings::default(),
            settings: Settings::default(),
        }
    }

    fn scenario(&self) -> Scenario {
        let tree = Tree::generated(self.nodes, 4, &self.settings).unwrap();
        let amount = Amount {
            sessions: self.sessions,
            seconds: self.seconds,
            load: self.kind.usual_load(),
            crowd: 3.0,
        };
        let workload = generate(self.kind, amount, &tree, &self.settings, self.seed);
        let rules = Rules::new(self.file.clone(), self.seed, 1).unwrap();
        Scenario { tree, workload, settings: self.settings, rules, seed: self.seed }
    }
}

fn played(scenario: &Scenario, policies: &[Policy]) -> Report {
    let report = scenario.play(policies, &|_, _| {});
    for outcome in &report.outcomes {
        assert_eq!(outcome.faults, Vec::<String>::new(), "{}", outcome.policy);
    }
    report
}

fn p99(report: &Report, policy: Policy) -> f64 {
    report.of(policy).unwrap().total.p99_ms.unwrap()
}

fn is_ahead(report: &Report) {
    let (heads, rows) = report.table();
    let table = format!("{heads:?} {rows:#?}");
    for other in [Policy::Never, Policy::Root, Policy::Random] {
        let (mine, theirs) = (p99(report, Policy::Oracle), p99(report, other));
        assert!(mine < theirs, "{other} is at {theirs}: {table}");
    }
    let [mine, root, never] = [Policy::Oracle, Policy::Root, Policy::Never]
        .map(|policy| report.of(policy).unwrap().total);
    assert!(mine.at_edge > root.at_edge && root.at_edge == 0.0, "{table}");
    assert!(mine.gb_hops() < root.gb_hops() && mine.refused < never.refused, "{table}");
    assert!(mine.up > 0 && mine.down > 0, "{table}");
}

static FLASH: LazyLock<Report> =
    LazyLock::new(|| played(&Small::new(Kind::Flash, 200).scenario(), &Policy::ALL));

#[test]
fn the_default_policy_is_ahead_in_a_crowd() {
    is_ahead(&FLASH);
}

#[test]
fn the_default_policy_is_ahead_on_a_day() {
    is_ahead(&played(&Small::new(Kind::Diurnal, 80).scenario(), &Policy::ALL));
}

#[test]
fn the_same_seed_gives_the_same_report_to_the_byte() {
    let text = |report: &Report| serde_json::to_string(report).unwrap();
    let again = played(&Small::new(Kind::Flash, 200).scenario(), &Policy::ALL);
    assert_eq!(text(&FLASH), text(&again));
    // One policy by itself comes to the same as beside others.
    let alone = played(&Small::new(Kind::Flash, 200).scenario(), &[Policy::Random]);
    assert_eq!(alone.of(Policy::Random), FLASH.of(Policy::Random));
    let other = Small { seed: 2, ..Small::new(Kind::Flash, 200) };
    assert_ne!(text(&FLASH), text(&played(&other.scenario(), &Policy::ALL)));
}

#[test]
fn plots_are_drawn_of_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = draw(&FLASH, dir.path(), "flash-").unwrap();
    assert_eq!(files.len(), 5);
    for file in files {
        let text = std::fs::read_to_string(dir.path().join(&file)).unwrap();
        assert!(text.contains("</svg>") && text.contains("never"), "{file}");
    }
}

#[test]
fn a_policy_that_is_asked_only_when_something_can_change_decides_the_same() {
    for kind in [Kind::Flash, Kind::Roaming] {
        let small = Small { seconds: 7_200, ..Small::new(kind, 30) };
        let some = played(&small.scenario(), &[Policy::Oracle]);
        let mut scenario = small.scenario();
        scenario.rules = scenario.rules.always();
        let all = played(&scenario, &[Policy::Oracle]);
        assert_eq!(some.outcomes, all.outcomes, "{kind:?}");
        assert!(some.outcomes[0].total.moves() > 0);
    }
}

#[test]
fn a_day_of_a_file_is_played_with_several_functions() {
    let settings = Settings::default();
    let tree = Tree::generated(20, 3, &settings).unwrap();
    // One edge has two and a half times what it can do, by and by.
    let mut text = "minute,edge,function,invocations\n".to_owned();
    let mut asked = 0;
    for minute in 0_u32..180 {
        let many = 900 + 14_100 * minute.min(180 - minute).min(60) / 60;
        asked += 2 * many + 300;
        for (edge, function, calls) in [(0, "cart", many), (0, "cdn", many), (3, "cart", 300)] {
            writeln!(text, "{minute},{edge},{function},{calls}").unwrap();
        }
    }
    let workload = csv::read(text.as_bytes(), "a file", 600, None, &tree, 1).unwrap();
    let rules = Rules::new(FileSettings::default(), 1, workload.functions.len()).unwrap();
    let scenario = Scenario { tree, workload, settings, rules, seed: 1 };
    let report = played(&scenario, &Policy::ALL);
    is_ahead(&report);
    for outcome in &report.outcomes {
        let total = outcome.total;
        let all = total.requests / (1.0 - total.refused);
        assert!(
            (all / f64::from(asked) - 1.0).abs() < 0.01,
            "{}: {all} of {asked}",
            outcome.policy
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the tree, the clients and the settings: every session is at one node, where
    /// its records say, and none moves again within its dwell time (`played` looks at both);
    /// none is lost, and no more move than the budgets allow.
    #[test]
    fn no_session_is_lost_or_at_two_nodes(
        seed in any::<u64>(),
        nodes in 12u32..40,
        moves in 1usize..40,
        dwell in 30u64..300,
        ttl in prop_oneof![Just(60u32), Just(1_200), Just(86_400)],
        kind in prop_oneof![Just(Kind::Flash), Just(Kind::Roaming), Just(Kind::Diurnal)],
    ) {
        let mut small = Small { seconds: 3_600, seed, ..Small::new(kind, nodes) };
        small.sessions = nodes * 40;
        small.settings.session_ttl = ttl;
        small.file.policy.moves = moves;
        small.file.policy.dwell = Span::secs(dwell);
        let scenario = small.scenario();
        let there = scenario
            .workload
            .sessions
            .iter()
            .filter(|plan| plan.end.saturating_add(ttl) > 3_599)
            .count();
        let report = played(&scenario, &Policy::ALL);
        for outcome in &report.outcomes {
            // Those whose time is up may still be in a move.
            prop_assert!(outcome.sessions >= there, "{}", outcome.policy);
            prop_assert!(outcome.sessions <= there + 20, "{}", outcome.policy);
            let budget = moves * nodes as usize * (3_600 / 10);
            prop_assert!(outcome.total.moves() <= budget as u64);
        }
    }
}
