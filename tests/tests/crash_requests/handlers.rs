//! A writing request is cut off; the client repeats it under the same id.

use std::time::{Duration, Instant};

use funicular_tests::client::Answer;
use funicular_tests::tree::Tree;

use crate::{client, line, log_at, write_in_background};

/// A write is at `step` when `strike` falls; returns its answer and how long that
/// took from the blow on.
async fn crash(
    step: &str,
    strike: impl AsyncFnOnce(&mut Tree, Box<dyn FnOnce()>),
) -> (Answer, Duration) {
    let mut tree = line().start().await;
    client(&tree).write_once("/log", "before", "0", crate::PATIENCE).await.expect(200);
    let held = tree.hold("navigli", step);
    let writing = write_in_background(&tree, "/log", "x", "1");
    held.reached().await;
    let struck = Instant::now();
    strike(&mut tree, Box::new(move || held.release())).await;
    let answer = writing.await.unwrap().expect(200);
    let took = struck.elapsed();
    assert_eq!(answer.text(), "1");
    assert_eq!(log_at(&tree, "navigli").await, ["before", "x"]);
    let after = client(&tree).write_once("/log", "after", "2", crate::PATIENCE).await.expect(200);
    assert_eq!(after.text(), "2");
    (answer, took)
}

async fn kill(tree: &mut Tree, release: Box<dyn FnOnce()>) {
    tree.site("navigli").kill9();
    release();
    tree.site("navigli").launch();
    tree.site("navigli").ready().await;
}

async fn kill_redis(tree: &mut Tree, release: Box<dyn FnOnce()>) {
    tree.site("navigli").redis().restart();
    release();
}

/// Longer than the lease holds unless it is renewed (1.5 s).
async fn pause(tree: &mut Tree, release: Box<dyn FnOnce()>) {
    tree.site("navigli").pause();
    tokio::time::sleep(Duration::from_secs(2)).await;
    release();
    tree.site("navigli").resume();
}

/// `lease_ttl` (1.5 s), and as much again as a loaded machine needs for a restart.
const LEASE_FREES: Duration = Duration::from_secs(5);

#[tokio::test]
async fn g3_killed_when_the_handler_begins() {
    let (answer, took) = crash("handler.begin", kill).await;
    assert_eq!(answer.header("x-session-replayed"), "");
    assert!(took < LEASE_FREES, "the killed handler's lease kept the session for {took:?}");
}

#[tokio::test]
async fn g3_killed_when_the_handler_ends() {
    let (answer, took) = crash("handler.end", kill).await;
    assert_eq!(answer.header("x-session-replayed"), "");
    assert!(took < LEASE_FREES, "the killed handler's lease kept the session for {took:?}");
}

#[tokio::test]
async fn g3_killed_when_the_write_is_committed() {
    let (answer, _) = crash("handler.committed", kill).await;
    assert_eq!(answer.header("x-session-replayed"), "true");
}

#[tokio::test]
async fn g3_redis_killed_when_the_handler_begins() {
    crash("handler.begin", kill_redis).await;
}

#[tokio::test]
async fn g3_redis_killed_when_the_handler_ends() {
    crash("handler.end", kill_redis).await;
}

#[tokio::test]
async fn g3_redis_killed_when_the_write_is_committed() {
    crash("handler.committed", kill_redis).await;
}

#[tokio::test]
async fn g3_paused_when_the_handler_ends() {
    crash("handler.end", pause).await;
}

#[tokio::test]
async fn g3_paused_when_the_write_is_committed() {
    crash("handler.committed", pause).await;
}
