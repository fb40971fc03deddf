//! One suite, every store: the same checks, the same results.

use funicular::store::WindowLimits;
use funicular_tests::bench::{Bench, Kind};
use funicular_tests::cluster::RedisCluster;
use funicular_tests::conformance::{
    at_once, copies, data, index, moves, recovery, requests, window,
};
use funicular_tests::redis::Setup;
use std::sync::Arc;
use std::time::Duration;

/// Each check on one store of each kind. A cluster takes two seconds to start, so the
/// checks of a module share one, each with keys of its own.
macro_rules! on_each {
    ($($module:ident: $($check:ident)*;)*) => {
        mod memory { $($(
            #[tokio::test]
            async fn $check() {
                super::$module::$check(&super::Bench::new(super::Kind::Memory, "edge").await).await;
            }
        )*)* }
        mod redis { $($(
            #[tokio::test]
            async fn $check() {
                super::$module::$check(&super::Bench::new(super::Kind::Redis, "edge").await).await;
            }
        )*)* }
        mod cluster { $(
            #[tokio::test]
            async fn $module() {
                let cluster = super::cluster().await;
                $(
                    eprintln!("{}", stringify!($check));
                    super::$module::$check(&super::shared(&cluster, "edge").await).await;
                )*
            }
        )* }
    };
}

/// Each check on every pair of kinds: from one store to another.
macro_rules! on_each_pair {
    (@pair $name:ident $from:ident $to:ident; $($module:ident: $($check:ident)*;)*) => {
        mod $name { $($(
            #[tokio::test]
            async fn $check() {
                let from = super::Bench::new(super::Kind::$from, "edge").await;
                let to = super::Bench::new(super::Kind::$to, "middle").await;
                super::$module::$check(&from, &to).await;
            }
        )*)* }
    };
    (@clusters $($module:ident: $($check:ident)*;)*) => {
        /// To and from a cluster.
        mod clusters { $(
            #[tokio::test]
            async fn $module() {
                let cluster = super::cluster().await;
                $(
                    eprintln!("{}: from memory", stringify!($check));
                    let from = super::Bench::new(super::Kind::Memory, "edge").await;
                    super::$module::$check(&from, &super::shared(&cluster, "middle").await).await;
                    eprintln!("{}: to Redis", stringify!($check));
                    let to = super::Bench::new(super::Kind::Redis, "middle").await;
                    super::$module::$check(&super::shared(&cluster, "edge").await, &to).await;
                    eprintln!("{}: from cluster to cluster", stringify!($check));
                    let from = super::shared(&cluster, "edge").await;
                    super::$module::$check(&from, &super::shared(&cluster, "middle").await).await;
                )*
            }
        )* }
    };
    ($($checks:tt)*) => {
        on_each_pair!(@pair memory_to_memory Memory Memory; $($checks)*);
        on_each_pair!(@pair memory_to_redis Memory Redis; $($checks)*);
        on_each_pair!(@pair redis_to_memory Redis Memory; $($checks)*);
        on_each_pair!(@pair redis_to_redis Redis Redis; $($checks)*);
        on_each_pair!(@clusters $($checks)*);
    };
}

async fn cluster() -> Arc<RedisCluster> {
    Arc::new(RedisCluster::start(Setup::default()).await)
}

async fn shared(cluster: &Arc<RedisCluster>, name: &str) -> Bench {
    Bench::sharing(cluster, name, WindowLimits::default()).await
}

on_each! {
    at_once:
        g2_a_commit_at_once_does_what_a_turn_does
        g1_what_is_outdated_commits_nothing
        g1_a_running_writer_is_not_overtaken
        g3_a_commit_at_once_takes_effect_once
        g2_what_would_be_too_large_is_left_to_a_turn
        g1_a_lease_that_ran_out_commits_after_nothing_else;
    requests:
        g1_an_absent_session_is_created_only_where_it_may
        g1_a_reader_may_create_and_holds_no_lease
        g1_one_writer_at_a_time
        g1_a_released_lease_is_free
        g1_a_lease_that_ran_out_is_anybodys
        g1_a_renewed_lease_holds
        g1_a_commit_names_life_and_epoch
        g1_many_writers_take_turns;
    data:
        g2_a_commit_writes_what_the_flat_map_says
        g2_everything_at_once_is_the_same
        g2_a_commit_that_is_too_large_writes_nothing
        g2_what_is_small_comes_inline
        g2_parts_are_read_as_they_are_asked_for
        g2_an_outbox_keeps_its_order_until_delivered;
    window:
        g3_a_known_request_id_gets_the_first_response
        g3_a_commit_takes_effect_once
        g3_a_large_body_and_an_odd_id_are_kept;
    recovery:
        g2_an_unused_session_ends
        g1_a_closed_store_lets_in_nobody_but_who_works_inside;
    index:
        settings_are_kept
        the_clock_goes_on;
}

on_each_pair! {
    at_once:
        g1_a_session_in_a_move_is_left_to_turns
        g2_a_copy_misses_no_commit_at_once;
    requests:
        g1_a_waiting_freeze_keeps_new_leases_off
        g1_a_frozen_session_takes_no_writes
        g1_a_session_that_arrived_waits_with_its_first_write
        g1_a_node_with_an_open_pull_creates_nothing
        g1_a_guarded_read_sees_one_version;
    moves:
        g2_an_empty_session_moves
        g2_a_small_session_moves_in_one_page
        g2_five_megabytes_move
        g2_one_value_of_twenty_megabytes_moves
        g2_ten_thousand_small_keys_move
        g2_small_and_large_fields_move_together
        g2_pages_may_come_twice
        g2_a_lost_page_is_noticed
        g2_nothing_installs_without_its_pages
        g2_a_session_comes_back
        g2_an_idle_session_outlives_a_young_clock
        g1_a_closed_pull_takes_no_pages
        g1_only_a_frozen_session_is_exported
        g3_the_window_moves_along
        g3_a_commit_is_known_after_the_session_left;
    copies:
        g2_a_copied_session_is_the_same
        g2_a_copy_goes_on_where_it_was
        g2_a_copy_begins_anew
        g2_a_copy_ends_with_its_move
        g2_a_restarted_store_knows_no_copy
        g2_pages_of_two_versions_are_not_mixed
        g3_the_window_is_copied_too
        g3_an_id_that_is_committed_again_is_copied_again
        g6_the_freeze_carries_what_changed_since
        g2_fields_that_come_and_go_end_a_copy;
    recovery:
        g7_a_source_in_doubt_learns_yes
        g7_a_source_in_doubt_learns_no_and_goes_on
        g1_a_restarted_store_freezes_what_had_agreed
        g7_a_person_ends_a_wait
        g2_a_session_that_ends_away_tells_home
        g4_pointers_follow_and_age
        g1_a_walk_finds_every_record
        g1_what_others_have_is_set_aside;
    index:
        residents_are_listed_by_last_use
        g7_the_pending_are_never_missed
        g4_old_pointers_are_listed;
}

/// A store of each kind that keeps so much.
async fn with_window(entries: usize, age: Duration) -> [Bench; 3] {
    let window = WindowLimits { entries, age };
    [
        Bench::with_window(Kind::Memory, "edge", window).await,
        Bench::with_window(Kind::Redis, "edge", window).await,
        Bench::sharing(&cluster().await, "edge", window).await,
    ]
}

#[tokio::test]
async fn g3_the_window_keeps_the_newest() {
    for bench in with_window(3, Duration::from_secs(60)).await {
        window::g3_the_window_keeps_the_newest(&bench).await;
    }
}

#[tokio::test]
async fn g3_the_window_is_kept_as_turns_keep_it() {
    for bench in with_window(3, Duration::from_secs(60)).await {
        at_once::g3_the_window_is_kept_as_turns_keep_it(&bench).await;
    }
}

#[tokio::test]
async fn g3_the_window_forgets_the_old() {
    for bench in with_window(100, Duration::from_millis(200)).await {
        window::g3_the_window_forgets_the_old(&bench).await;
    }
}
