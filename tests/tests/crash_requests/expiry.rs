//! A session that moved to milan expires there while somebody is killed; then its
//! id begins a new life at home, navigli, and never has two.

use std::time::Duration;

use funicular_tests::tree::{Tree, until};

use crate::{PATIENCE, SESSION, client, line, log_at, write_in_background};

/// A tree whose session is at milan, where nothing lives long.
async fn short_lived() -> Tree {
    let mut tree = line().start().await;
    client(&tree).write_once("/log", "old", "1", PATIENCE).await.expect(200);
    tree.operator().offload("navigli", SESSION).await;
    tree.operator().settled(SESSION, PATIENCE).await;
    let milan = tree.site("milan");
    milan.set("session_ttl", "300ms");
    milan.set("window_age", "300ms");
    tree
}

async fn lives(tree: &Tree) -> Vec<&'static str> {
    tree.operator().nodes_where(SESSION, "owned").await
}

/// The session expires; at `step` of node `at`, `victim` is struck.
async fn crash(at: &str, step: &str, victim: &str, redis: bool) {
    let mut tree = short_lived().await;
    let before = tree.operator().whereabouts("milan", SESSION).await.unwrap().token;
    let held = tree.hold(at, step);
    tree.site("milan").restart().await;
    held.reached().await;
    let writing = write_in_background(&tree, "/log", "new", "2");
    if redis {
        tree.site(victim).redis().restart();
        held.release();
    } else {
        tree.site(victim).kill9();
        held.release();
        tree.site(victim).launch();
    }
    tree.site(victim).ready().await;
    let answer = writing.await.unwrap().expect(200);
    if answer.text() == "1" {
        // It came in time to keep the old life; that ends later.
        assert_eq!(step, "owner.expire");
        until("the old life ends", async || lives(&tree).await.is_empty()).await;
        client(&tree).write_once("/log", "new", "3", PATIENCE).await.expect(200);
    }
    assert_eq!(tree.operator().settled(SESSION, PATIENCE).await, "navigli");
    assert_eq!(log_at(&tree, "navigli").await, ["new"]);
    let token = tree.operator().whereabouts("navigli", SESSION).await.unwrap().token;
    assert_ne!(token.incarnation, before.incarnation);
    assert_eq!(token.epoch, 1);
    // Nothing of the old life comes back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(lives(&tree).await, ["navigli"]);
    assert_eq!(log_at(&tree, "navigli").await, ["new"]);
}

#[tokio::test]
async fn g7_the_owner_is_killed_before_expiring() {
    crash("milan", "owner.expire", "milan", false).await;
}

#[tokio::test]
async fn g7_the_owner_is_killed_between_expiring_and_telling_home() {
    crash("milan", "owner.expired", "milan", false).await;
}

#[tokio::test]
async fn g7_the_owners_redis_is_killed_between_expiring_and_telling_home() {
    crash("milan", "owner.expired", "milan", true).await;
}

#[tokio::test]
async fn g7_home_is_killed_before_taking_the_expiry() {
    crash("navigli", "home.update", "navigli", false).await;
}

#[tokio::test]
async fn g7_home_is_killed_between_taking_the_expiry_and_answering() {
    crash("navigli", "home.updated", "navigli", false).await;
}

#[tokio::test]
async fn g7_homes_redis_is_killed_between_taking_the_expiry_and_answering() {
    crash("navigli", "home.updated", "navigli", true).await;
}

#[tokio::test]
async fn g7_the_owner_is_killed_while_home_takes_the_expiry() {
    crash("navigli", "home.updated", "milan", false).await;
}
