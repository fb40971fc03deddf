//! On any history.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::{World, settings};
use crate::policy::settings::{PolicySettings, Victims};

/// Sessions that together may load the node up to twice over.
fn sessions() -> impl Strategy<Value = Vec<(f64, u64)>> {
    proptest::collection::vec((0.0f64..0.12, 100u64..400_000), 1..40)
}

/// A few of which each may be too much for the node.
fn heavy_sessions() -> impl Strategy<Value = Vec<(f64, u64)>> {
    proptest::collection::vec((0.0f64..0.95, 100u64..400_000), 1..8)
}

fn any_settings() -> impl Strategy<Value = PolicySettings> {
    let victims = prop_oneof![
        Just(Victims::Benefit),
        Just(Victims::Largest),
        Just(Victims::LeastRecentlyUsed),
        Just(Victims::Hottest),
        Just(Victims::Random),
    ];
    (victims, 1usize..8, 100_000u64..2_000_000).prop_map(|(victims, moves, bytes)| PolicySettings {
        victims,
        moves,
        bytes,
        ..settings()
    })
}

/// What befalls the node: its base load from now on, whether its source speaks, for so
/// many ticks.
fn befalls() -> impl Strategy<Value = Vec<(f64, bool, usize)>> {
    proptest::collection::vec((0.0f64..1.2, prop::bool::weighted(0.8), 5usize..90), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_session_turns_round_within_its_dwell_time_and_no_budget_is_exceeded(
        sessions in sessions(),
        settings in any_settings(),
        befalls in befalls(),
        tells_rates in any::<bool>(),
        noise in 0.0f64..0.3,
    ) {
        let mut world = World::new(settings, &sessions);
        world.tells_rates = tells_rates;
        world.noise = noise;
        for (base, speaks, ticks) in befalls {
            world.base = base;
            world.speaks = speaks;
            world.run(ticks);
        }
        let dwell = world.settings.dwell.as_millis();
        let mut last = BTreeMap::new();
        for (at, session, _, _) in &world.moves {
            if let Some(before) = last.insert(session.clone(), *at) {
                prop_assert!(at - before >= dwell, "{session} moved {} ms after", at - before);
            }
        }
        let interval = world.settings.interval.as_millis();
        for (begin, _, _, _) in &world.moves {
            let within: Vec<_> =
                world.moves.iter().filter(|(at, ..)| at >= begin && at - begin < interval).collect();
            let bytes: u64 = within.iter().map(|(.., bytes)| bytes).sum();
            prop_assert!(within.len() <= world.settings.moves);
            prop_assert!(bytes <= world.settings.bytes || within.len() == 1, "{bytes}");
        }
    }

    #[test]
    fn unknown_in_nothing_out(sessions in sessions(), base in 0.0f64..2.0, heard in 0usize..40) {
        let mut world = World::new(settings(), &sessions);
        world.base = base;
        world.run(heard);
        world.speaks = false;
        // What was heard last is forgotten.
        world.run(16);
        let (moves, decisions) = (world.moves.len(), world.decisions.len());
        world.run(300);
        prop_assert_eq!(world.moves.len(), moves);
        prop_assert_eq!(world.decisions.len(), decisions);
    }

    #[test]
    fn nothing_flaps_near_a_watermark(
        watermark in prop::sample::select(vec![0.4, 0.6, 0.8]),
        noise in 0.0f64..0.15,
        off in -0.02f64..0.02,
    ) {
        // No session brings any load: moving them changes nothing.
        let mut world = World::new(settings(), &[(0.0, 1000); 12]);
        world.base = watermark + off;
        world.noise = noise;
        world.run(600);
        prop_assert!(world.statuses() <= 1, "{} changes of status", world.statuses());
        prop_assert!(world.moves.iter().all(|(_, _, up, _)| *up), "{:?}", world.moves);
    }

    #[test]
    fn what_is_decided_depends_on_nothing_else(sessions in sessions(), settings in any_settings()) {
        let run = || {
            let mut world = World::new(settings.clone(), &sessions);
            world.run(200);
            world.decisions
        };
        prop_assert_eq!(run(), run());
    }
}

proptest! {
    // Hours of each history.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn under_constant_load_decisions_die_out(
        sessions in heavy_sessions(),
        settings in any_settings(),
        base in 0.0f64..0.5,
    ) {
        let mut world = World::new(settings, &sessions);
        world.base = base;
        world.run(2 * 3600);
        let decisions = world.decisions.len();
        world.run(2 * 3600);
        prop_assert_eq!(world.decisions.len(), decisions, "{:?}", world.decisions.last());
    }

    /// Nothing is known of single sessions here: a return may be too early, and then the
    /// next is tried ever later.
    #[test]
    fn without_rates_too_constant_load_is_left_alone(
        sessions in heavy_sessions(),
        settings in any_settings(),
    ) {
        let mut world = World::new(settings, &sessions);
        world.tells_rates = false;
        world.run(4 * 3600);
        let (moves, at) = (world.moves.len(), world.statuses());
        world.run(3600);
        prop_assert!(world.statuses() - at <= 3, "{} changes", world.statuses() - at);
        prop_assert!(world.moves.len() - moves <= 2 * sessions.len());
    }
}
