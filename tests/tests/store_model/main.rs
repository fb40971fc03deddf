//! The same random calls on the memory store and on Redis: the answers and what
//! is known afterwards must be the same.
//!
//! `PROPTEST_CASES` sets how many sequences are tried; a failing one is shrunk
//! and printed.

mod answers;
mod calls;
mod events;

use std::sync::Arc;
use std::time::Duration;

use funicular::store::WindowLimits;
use funicular_tests::bench::{Bench, Kind, session};
use funicular_tests::cluster::RedisCluster;
use funicular_tests::redis::Setup;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::answers::{Past, all, run};
use crate::calls::calls;

const WINDOW: WindowLimits = WindowLimits { entries: 2, age: Duration::from_secs(3600) };

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn g1_g2_g3_the_stores_say_the_same() {
    let runtime = runtime();
    let redis = runtime.block_on(Bench::with_window(Kind::Redis, "edge", WINDOW));
    same(&runtime, &redis, |redis| drop(redis.server.as_ref().unwrap().cli(&["FLUSHALL"])));
}

#[test]
fn g1_g2_g3_a_cluster_says_the_same() {
    let runtime = runtime();
    let cluster = runtime.block_on(async {
        let cluster = Arc::new(RedisCluster::start(Setup::default()).await);
        Bench::sharing(&cluster, "edge", WINDOW).await
    });
    same(&runtime, &cluster, |bench| {
        for master in &bench.cluster.as_ref().unwrap().masters {
            master.cli(&["FLUSHALL"]);
        }
    });
}

fn same(runtime: &Runtime, redis: &Bench, flush: impl Fn(&Bench)) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let config = ProptestConfig {
        cases: cases.unwrap_or(128),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    };
    let id = session("the-{one}");
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&prop::collection::vec(calls(), 1..60), |calls| {
        runtime.block_on(async {
            flush(redis);
            let memory = Bench::with_window(Kind::Memory, "edge", WINDOW).await;
            let mut past = Past::default();
            for call in calls {
                past.calls += 1;
                let (expected, turn) = run(&memory, &id, &call, &past).await;
                let (found, _) = run(redis, &id, &call, &past).await;
                prop_assert_eq!(expected, found, "{:?}", call);
                past.turns.extend(turn);
                let (expected, found) = (all(&memory, &id).await, all(redis, &id).await);
                prop_assert_eq!(expected.0, found.0, "after {:?}", call);
                prop_assert_eq!(expected.1, found.1, "after {:?}", call);
            }
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
