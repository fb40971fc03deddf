//! By example.

use funicular::peers::messages::OffloadStatus;

use super::world::{World, cart, id, settings};
use crate::policy::decision::{Action, Phase};
use crate::policy::settings::{PolicySettings, RelievedBy, Rule, Victims, matches_any};
use crate::signals::SignalName;

#[test]
fn a_node_is_relieved_to_its_low_watermark_and_gets_its_sessions_back() {
    let mut world = World::new(settings(), &[(0.1, 1000); 10]);
    world.run(25);
    assert_eq!(world.status, OffloadStatus::Reject);
    world.run(60);
    assert_eq!(world.verdict.as_ref().unwrap().phase, Phase::Holding);
    assert!(world.load() <= 0.61 && world.load() >= 0.4, "{}", world.load());
    let away = world.moves.len();
    // The load goes on, and so it stays.
    world.run(300);
    assert_eq!((world.moves.len(), world.status), (away, OffloadStatus::Reject));
    // It stops: they come home.
    world.sessions.values_mut().for_each(|session| session.rate = 0.001);
    world.run(120);
    assert_eq!((world.here(), world.status), (10, OffloadStatus::Accept));
    assert_eq!(world.moves.len(), 2 * away);
}

#[test]
fn no_more_go_than_needed_though_a_signal_tells_of_what_is_over() {
    let mut settings = settings();
    settings.rules[0].signals = vec![SignalName::new("queue-wait").unwrap()];
    let mut world = World::new(settings, &[(0.06, 1000); 20]);
    world.window = 10;
    world.run(300);
    assert_eq!(world.verdict.as_ref().unwrap().phase, Phase::Holding);
    assert!(world.load() <= 0.61 && world.load() >= 0.45, "{}", world.load());
}

#[test]
fn what_a_byte_costs_is_learned_as_soon_as_sessions_are_listed() {
    let mut settings = settings();
    settings.rules[0].relieved_by = RelievedBy::Bytes;
    let mut world = World::new(settings, &[(0.1, 100_000); 7]);
    // They are asked for when they are to go, and not there yet at that moment.
    world.lists_on_demand = true;
    world.base = 0.3;
    world.run(300);
    assert!(world.load() <= 0.61, "{}", world.load());
    let away = 7 - world.here();
    // There is room again, for some of them.
    world.base = 0.05;
    world.run(600);
    assert!(7 - world.here() < away, "none came home");
    assert!(world.load() <= 0.6, "{}: they came home to be sent away again", world.load());
}

#[test]
fn one_session_that_is_too_much_goes_and_does_not_come_back() {
    let mut world = World::new(settings(), &[(0.85, 1000), (0.01, 10)]);
    world.run(4 * 3600);
    assert!(!world.sessions[&id(0)].here);
    assert!(world.moves.len() <= 4, "{:?}", world.moves);
}

#[test]
fn decisions_say_what_was_seen_by_which_rule_and_what_else_there_was() {
    let mut world = World::new(settings(), &[(0.3, 500), (0.3, 900_000), (0.3, 1000)]);
    world.run(25);
    let status = &world.decisions[0];
    assert_eq!(status.action, Action::SetStatus { status: OffloadStatus::Reject });
    assert!(status.why.contains("cpu is 0.9, at its high watermark 0.8"), "{}", status.why);
    let offload = &world.decisions[1];
    assert_eq!(offload.rule, "cpu");
    assert_eq!(offload.action, Action::Offload { session: id(0), bytes: 500 });
    assert!(offload.why.contains("the first by `benefit`"), "{}", offload.why);
    assert_eq!(offload.readings[0].signals[0].0, "cpu");
    assert!(offload.alternatives[0].why_not.contains("after this one"));
    // Ids are not told in words.
    assert!(!format!("{:?} {}", offload.alternatives, offload.why).contains("s000"));
}

#[test]
fn each_order_has_its_first() {
    let sessions = [(0.20, 5_000), (0.40, 900_000), (0.30, 10)];
    for (order, first) in [(Victims::Benefit, 2), (Victims::Largest, 1), (Victims::Hottest, 1)] {
        let mut world = World::new(PolicySettings { victims: order, ..settings() }, &sessions);
        world.run(25);
        assert_eq!(world.moves[0].1, id(first), "{order:?}");
    }
}

#[test]
fn chance_is_the_seeds() {
    let settings = PolicySettings { victims: Victims::Random, moves: 1, ..settings() };
    let first = |ticks: usize| {
        let mut world = World::new(settings.clone(), &[(0.05, 100); 20]);
        world.now = ticks as u64;
        world.run(30);
        world.moves[0].1.clone()
    };
    assert_eq!(first(0), first(0));
    let all: std::collections::BTreeSet<_> = (0..20).map(first).collect();
    assert!(all.len() > 5, "{all:?}");
}

#[test]
fn pinned_sessions_stay() {
    let mut settings = settings();
    settings.pinned.insert(cart(), vec!["s0000".to_owned(), "s001*".to_owned()]);
    let mut world = World::new(settings, &[(0.1, 1000); 12]);
    world.base = 1.0;
    world.run(200);
    let stay: Vec<_> = world.sessions.iter().filter(|(_, session)| session.here).collect();
    let names: Vec<_> = stay.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["s0000", "s0010", "s0011"]);
    assert!(matches_any(&["a*".to_owned()], "abc") && !matches_any(&["a".to_owned()], "abc"));
}

#[test]
fn a_failed_move_makes_the_next_one_wait() {
    use crate::policy::{Direction, Memory};
    let settings = settings();
    let mut memory = Memory::new(0);
    memory.watches.insert(cart(), crate::policy::memory::Watch::default());
    memory.failed(5_000, &cart(), Direction::Up, &settings);
    assert_eq!(memory.watches[&cart()].not_up_before, 25_000);
    assert_eq!(memory.watches[&cart()].not_down_before, 0);
}

#[test]
fn settings_that_make_no_sense_are_refused_in_a_sentence() {
    let good = settings();
    good.check().unwrap();
    PolicySettings::default().check().unwrap();
    let with = |change: fn(&mut Rule)| {
        let mut settings = settings();
        change(&mut settings.rules[0]);
        settings.check().unwrap_err().0
    };
    assert!(with(|rule| rule.low = 0.9).contains("onload < low < high"));
    assert!(with(|rule| rule.onload = 0.7).contains("onload < low < high"));
    assert!(with(|rule| rule.low = rule.high).contains("wrong order"));
    assert!(with(|rule| rule.high = f64::NAN).contains("numbers"));
    assert!(with(|rule| rule.signals.clear()).contains("at least one signal"));
    let twice = PolicySettings { rules: vec![good.rules[0].clone(); 2], ..good.clone() };
    assert!(twice.check().unwrap_err().0.contains("two rules"));
    let short = PolicySettings { dwell: crate::duration::Span::secs(1), ..good.clone() };
    assert!(short.check().unwrap_err().0.contains("dwell"));
    assert!(PolicySettings { rules: Vec::new(), ..good.clone() }.check().is_err());
    assert!(PolicySettings { moves: 0, ..good }.check().is_err());
}
