//! A handler calls another node's function; a repeat of its request repeats nothing.

use crate::{client, line, log_at};

const PATH: &str = "/invoke?node=milan&path=/log";

/// navigli's handler invokes at milan; at `step`, `victim` is killed.
async fn crash(at: &str, step: &str, victim: &str) {
    let mut tree = line().start().await;
    let held = tree.hold(at, step);
    let invoking = crate::write_in_background(&tree, PATH, "x", "1");
    held.reached().await;
    tree.site(victim).kill9();
    held.release();
    tree.site(victim).launch();
    tree.site(victim).ready().await;
    invoking.await.unwrap().expect(200);
    assert_eq!(log_at(&tree, "milan").await, ["x"]);
    assert_eq!(log_at(&tree, "navigli").await, ["200 0"]);
    // Another repeat is answered from the window.
    let again = client(&tree).write_once(PATH, "x", "1", crate::PATIENCE).await.expect(200);
    assert_eq!((again.text(), again.header("x-session-replayed")), ("0", "true"));
    assert_eq!(log_at(&tree, "milan").await, ["x"]);
}

#[tokio::test]
async fn g3_the_caller_is_killed_after_the_invoked_call_took_effect() {
    crash("navigli", "handler.end", "navigli").await;
}

#[tokio::test]
async fn g3_the_caller_is_killed_while_the_invoked_call_takes_effect() {
    crash("milan", "handler.committed", "navigli").await;
}

#[tokio::test]
async fn g3_the_invoked_node_is_killed_after_taking_effect() {
    crash("milan", "handler.committed", "milan").await;
}

#[tokio::test]
async fn g3_the_invoked_node_is_killed_before_taking_effect() {
    crash("milan", "handler.end", "milan").await;
}
