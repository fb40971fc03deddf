//! The protocol holds what it promises, in every state within these bounds.

use funicular_model::actions::Scope;
use funicular_model::explore::explore;
use funicular_model::scopes;
use funicular_model::world::Omission;

fn holds(scope: Scope) {
    let report = explore(scope, Omission::default(), None);
    println!("{report}");
    assert!(report.is_well(), "{report}");
}

#[test]
fn g3_repeats_take_effect_once_while_the_session_moves() {
    holds(scopes::REPEATS);
}

#[test]
fn g1_g2_g7_a_store_comes_back_without_its_last_writes() {
    holds(scopes::CRASHES);
}

#[test]
fn g1_g2_g7_a_process_ends_between_a_step_and_its_sync() {
    holds(scopes::STUMBLES);
}

#[test]
fn g1_g4_g7_a_session_ends_and_begins_anew() {
    holds(scopes::ENDINGS);
}

#[test]
fn g1_g4_g7_two_sessions_of_one_id_have_two_homes() {
    holds(scopes::HOMES);
}

#[test]
fn g1_g2_g7_two_sessions_share_stores_that_crash() {
    holds(scopes::SESSIONS);
}

#[test]
fn g1_g7_a_node_that_was_given_up_returns() {
    holds(scopes::GIVEN_UP);
}

#[test]
fn g1_g2_g3_a_session_is_written_to_between_its_moves() {
    holds(scopes::WRITES);
}

#[test]
fn g1_g4_g7_a_session_away_from_home_moves_on_and_ends() {
    holds(scopes::AWAY);
}

#[test]
fn g1_g4_g7_a_session_away_from_home_moves_on_and_on() {
    holds(scopes::TOUR);
}
