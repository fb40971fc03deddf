//! Read-only requests hold nothing, and go on while the session leaves.

use std::time::{Duration, Instant};

use funicular_tests::tree::Tree;
use reqwest::Method;
use serde_json::json;

use crate::{SESSION, client, line};

#[tokio::test]
async fn g1_a_read_that_is_killed_leaves_no_lease() {
    // A lease that was left behind would keep the write below for a minute.
    let mut tree = line().set("lease_ttl", "60s").start().await;
    client(&tree).write_once("/log", "a", "1", crate::PATIENCE).await.expect(200);
    let mut reader = client(&tree);
    let reading = tokio::spawn(async move {
        reader.try_send(Method::GET, "/slow?ms=10000", Vec::new().into(), &[]).await.is_err()
    });
    while tree.operator().status("navigli").await.in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tree.site("navigli").restart().await;
    assert!(reading.await.unwrap(), "the node was killed");
    let answer = client(&tree).write_once("/log", "b", "2", crate::PATIENCE).await.expect(200);
    assert_eq!(answer.text(), "1");
}

/// A tree whose session's move to milan is held at a step, and its reads until then.
async fn leaving(at: &str, step: &str) -> (Tree, funicular_tests::tree::Held) {
    // The source does not ask while the test looks.
    let tree = line().set("recovery_interval", "20s").start().await;
    client(&tree).write_once("/log", "a", "1", crate::PATIENCE).await.expect(200);
    let held = tree.hold(at, step);
    drop(tree.operator().begin("navigli", "force-offload", &json!({"session": SESSION})));
    held.reached().await;
    (tree, held)
}

async fn reads_go_on(tree: &Tree, until: Instant) -> usize {
    let mut reads = 0;
    while Instant::now() < until {
        let read = client(tree).send(Method::GET, "/slow?ms=1", "").await.expect(200);
        assert_eq!((read.text(), read.hops.len()), ("1 1", 0));
        reads += 1;
    }
    reads
}

#[tokio::test]
async fn g5_reads_and_writes_go_on_until_the_freeze() {
    for (at, step) in
        [("navigli", "source.agreed"), ("milan", "target.agreed"), ("navigli", "source.freeze")]
    {
        let (tree, held) = leaving(at, step).await;
        let began = Instant::now();
        assert!(reads_go_on(&tree, began + Duration::from_millis(500)).await > 0);
        client(&tree).write_once("/log", "b", "2", crate::PATIENCE).await.expect(200);
        held.release();
        assert_eq!(tree.operator().settled(SESSION, crate::PATIENCE).await, "milan");
    }
}

#[tokio::test]
async fn g5_reads_go_on_for_leaving_reads_after_the_freeze_and_then_wait() {
    let (tree, held) = leaving("milan", "target.frozen").await;
    // The freeze was a moment ago; the limit is 1 s from then.
    assert!(reads_go_on(&tree, Instant::now() + Duration::from_millis(300)).await > 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut late = client(&tree);
    let late = tokio::spawn(async move { late.send(Method::GET, "/log", "").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!late.is_finished(), "a frozen session was read after leaving_reads");
    held.release();
    let read = late.await.unwrap().expect(200);
    assert_eq!((read.json::<Vec<String>>(), read.hops.len()), (vec!["a".to_owned()], 1));
}

#[tokio::test]
async fn g5_a_source_that_was_restarted_serves_no_reads_of_a_frozen_session() {
    let (mut tree, held) = leaving("milan", "target.frozen").await;
    tree.site("navigli").restart().await;
    let mut read = client(&tree);
    let read = tokio::spawn(async move { read.send(Method::GET, "/log", "").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!read.is_finished(), "it cannot know how long ago the freeze was");
    held.release();
    read.await.unwrap().expect(200);
}
