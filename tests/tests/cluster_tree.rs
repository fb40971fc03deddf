//! A tree whose nodes keep their sessions in a Redis Cluster, while one of its
//! masters is killed and comes back.

use std::time::{Duration, Instant};

use funicular_tests::client::Client;
use funicular_tests::cluster::RedisCluster;
use funicular_tests::traffic::{Traffic, check};
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use serde_json::json;

/// How long a session may be in doubt once all is back: the recovery interval and a
/// slow machine's share.
const SETTLED: Duration = Duration::from_secs(15);

fn cluster(tree: &mut Tree) -> &mut RedisCluster {
    tree.cluster.as_mut().expect("it has one")
}

async fn log(tree: &Tree, session: &str) -> Vec<String> {
    Client::new(tree.gateway("navigli"), session)
        .send(Method::GET, "/log", "")
        .await
        .expect(200)
        .json()
}

/// Asks for a move again and again: what it meets while a master is away is refused,
/// and it may have happened all the same.
async fn moves_on(tree: &Tree, endpoint: &str, from: &str, session: &str) {
    let began = Instant::now();
    let call = json!({ "session": session });
    while began.elapsed() < Duration::from_millis(500) {
        if tree.operator().post(from, endpoint, &call).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sessions at each master are written, read and moved up and down; in the middle of
/// it one master is killed, stays away for a while, and is started again.
#[tokio::test(flavor = "multi_thread")]
async fn g2_g7_a_master_is_killed_under_moving_sessions_and_nothing_is_lost() {
    let plan = Tree::line(Store::Cluster("always")).set("store_timeout", "1s");
    let mut tree = plan.start().await;
    let masters = cluster(&mut tree);
    let sessions: Vec<_> =
        (0..3).map(|master| masters.session_of("probe", master, "walks")).collect();
    let traffic: Vec<_> =
        sessions.iter().map(|id| Traffic::start(&tree, "navigli", id, 2)).collect();
    for id in &sessions {
        until("it is there", async || !log(&tree, id).await.is_empty()).await;
        tree.operator().offload("navigli", id).await;
    }
    for id in &sessions {
        moves_on(&tree, "force-onload", "navigli", id).await;
    }
    cluster(&mut tree).masters[1].kill9();
    for id in &sessions {
        moves_on(&tree, "force-offload", "navigli", id).await;
    }
    cluster(&mut tree).masters[1].restart();
    for id in &sessions {
        moves_on(&tree, "force-onload", "navigli", id).await;
    }
    let mut seen = Vec::new();
    for clients in traffic {
        seen.push(clients.stop().await);
    }
    for (id, seen) in sessions.iter().zip(&seen) {
        tree.operator().settled(id, SETTLED).await;
        check(&log(&tree, id).await, seen);
        assert!(seen.iter().map(|client| client.good).sum::<usize>() > 20);
    }
    // Once all is well again, all of them move.
    for id in &sessions {
        if tree.operator().settled(id, SETTLED).await == "navigli" {
            tree.operator().offload("navigli", id).await;
        }
        assert_eq!(tree.operator().settled(id, SETTLED).await, "milan");
        tree.operator().onload("navigli", id).await;
        assert_eq!(tree.operator().settled(id, SETTLED).await, "navigli");
    }
}

/// Requests to what one master has are refused with a time to come back, and those to
/// what the others have are served.
#[tokio::test(flavor = "multi_thread")]
async fn g5_one_master_away_is_503_for_its_sessions_alone() {
    let plan = Tree::line(Store::Cluster("always")).set("store_timeout", "1s");
    let mut tree = plan.start().await;
    let masters = cluster(&mut tree);
    let sessions: Vec<_> = (0..3).map(|master| masters.session_of("probe", master, "s")).collect();
    let mut clients: Vec<_> =
        sessions.iter().map(|id| Client::new(tree.gateway("navigli"), id)).collect();
    for client in &mut clients {
        client.send(Method::POST, "/log", "first").await.expect(200);
    }
    cluster(&mut tree).masters[2].kill9();
    for _ in 0..5 {
        for client in &mut clients[..2] {
            client.send(Method::POST, "/log", "meanwhile").await.expect(200);
        }
        let refused = clients[2].send(Method::POST, "/log", "refused").await.expect(503);
        assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    }
    cluster(&mut tree).masters[2].restart();
    let back = clients[2].clone();
    until("it is back", async || {
        back.clone().send(Method::POST, "/log", "back").await.status == 200
    })
    .await;
    for (master, id) in sessions.iter().enumerate() {
        let expected = if master == 2 { 2 } else { 6 };
        assert_eq!(log(&tree, id).await.len(), expected);
    }
}
