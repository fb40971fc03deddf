//! A propagated value arrives exactly once, whoever crashes on the way.

use funicular_tests::tree::{Tree, until};

use crate::{client, line, log_at};

/// The values that milan has taken, once navigli's outbox is empty.
async fn arrived(tree: &Tree) -> Vec<String> {
    until("navigli's outbox is empty", async || {
        tree.operator().status("navigli").await.pending == 0
    })
    .await;
    log_at(tree, "milan").await
}

/// navigli propagates to milan; at `step`, `node` is struck.
async fn crash(at: &str, step: &str, victim: &str, redis: bool) {
    let mut tree = line().start().await;
    let held = tree.hold(at, step);
    let mut sender = client(&tree);
    let path = "/propagate?levels=city&function=probe";
    let sending =
        tokio::spawn(async move { sender.write_once(path, "v", "1", crate::PATIENCE).await });
    held.reached().await;
    if redis {
        tree.site(victim).redis().restart();
        held.release();
    } else {
        tree.site(victim).kill9();
        held.release();
        tree.site(victim).launch();
    }
    tree.site(victim).ready().await;
    sending.await.unwrap().expect(200);
    assert_eq!(arrived(&tree).await, ["v"]);
    assert_eq!(log_at(&tree, "navigli").await, ["v"]);
}

#[tokio::test]
async fn g3_the_sender_is_killed_between_commit_and_delivery() {
    crash("navigli", "outbox.deliver", "navigli", false).await;
}

#[tokio::test]
async fn g3_the_sender_is_killed_between_delivery_and_noting_it() {
    crash("navigli", "outbox.delivered", "navigli", false).await;
}

#[tokio::test]
async fn g3_the_senders_redis_is_killed_before_delivery() {
    crash("navigli", "outbox.deliver", "navigli", true).await;
}

#[tokio::test]
async fn g3_the_senders_redis_is_killed_before_delivery_is_noted() {
    crash("navigli", "outbox.delivered", "navigli", true).await;
}

#[tokio::test]
async fn g3_the_receiver_is_killed_before_taking() {
    crash("milan", "handler.begin", "milan", false).await;
}

#[tokio::test]
async fn g3_the_receiver_is_killed_between_taking_and_answering() {
    crash("milan", "handler.committed", "milan", false).await;
}

#[tokio::test]
async fn g3_the_receivers_redis_is_killed_before_taking() {
    crash("milan", "handler.end", "milan", true).await;
}

#[tokio::test]
async fn g3_the_receivers_redis_is_killed_between_taking_and_answering() {
    crash("milan", "handler.committed", "milan", true).await;
}

#[tokio::test]
async fn g3_an_outbox_that_moves_is_delivered_by_the_new_owner() {
    let mut tree = line().start().await;
    let held = tree.hold("navigli", "outbox.deliver");
    // The country: italy, which no part of this test moves to.
    let path = "/propagate?levels=country&function=probe";
    client(&tree).write_once(path, "v", "1", crate::PATIENCE).await.expect(200);
    held.reached().await;
    tree.operator().offload("navigli", crate::SESSION).await;
    tree.site("milan").restart().await;
    tree.site("navigli").kill9();
    held.release();
    tree.site("navigli").launch();
    tree.site("navigli").ready().await;
    until("milan's outbox is empty", async || tree.operator().status("milan").await.pending == 0)
        .await;
    assert_eq!(log_at(&tree, "italy").await, ["v"]);
    assert_eq!(log_at(&tree, "navigli").await, ["v"]);
    assert_eq!(tree.operator().whereabouts("milan", crate::SESSION).await.unwrap().state, "owned");
}
