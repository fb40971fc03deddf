//! G1: two hundred writers to one session, while it moves up and down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use funicular_tests::client::Client;
use funicular_tests::judge::{History, Outcome, Write};
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

/// How long a tree may take to come to rest when the load is gone.
const REST: Duration = Duration::from_secs(60);

async fn many_writers_to_one_session(store: Store) {
    let tree = Tree::line(store).set("session_wait", "60s").set("lease_ttl", "15s").start().await;
    let base = Client::new(tree.gateway("navigli"), "one");
    base.clone().send(Method::POST, "/log", "first").await.expect(200);
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for writer in 0..200 {
        let (mut client, stop) = (base.clone(), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut writes = Vec::new();
            while writes.len() < 5 || !stop.load(Ordering::Relaxed) {
                let text = format!("{writer}/{}", writes.len());
                let began = Instant::now();
                let answer = client.send(Method::POST, "/log", text.clone()).await.expect(200);
                let outcome = Outcome::Acked(answer.text().parse().expect("a position"));
                writes.push(Write { text, began, ended: Instant::now(), outcome });
            }
            writes
        });
    }
    // Up to the root and back to the edge, twice, while they write.
    let mut refused = BTreeMap::<String, usize>::new();
    let operator = tree.operator();
    for (node, endpoint) in [
        ("navigli", "force-offload"),
        ("milan", "force-offload"),
        ("milan", "force-onload"),
        ("navigli", "force-onload"),
    ]
    .repeat(2)
    {
        // A freeze may not get its turn, and then says so: that is no move.
        loop {
            let answer = operator.post(node, endpoint, &json!({"session": "one"})).await;
            if answer.status == 200 {
                break;
            }
            assert!([409, 503].contains(&answer.status), "{node} {endpoint}: {answer:?}");
            *refused.entry(format!("{endpoint} {}", answer.body["code"])).or_default() += 1;
            assert!(began.elapsed() < REST * 2, "the session does not move: {refused:?}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut history = History::default();
    let ended = Instant::now();
    let outcome = Outcome::Acked(0);
    history.writes.push(Write { text: "first".into(), began, ended, outcome });
    while let Some(writes) = tasks.join_next().await {
        history.writes.extend(writes.expect("every write is answered 200"));
    }
    assert_eq!(operator.settled("one", REST).await, "navigli");
    let log: Vec<String> = base.clone().send(Method::GET, "/log", "").await.expect(200).json();
    println!("{store:?}: {} writes during 8 moves; refused: {refused:?}", history.writes.len());
    assert_eq!(history.judge(&log), []);
    assert_eq!(log.len(), history.writes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_200_concurrent_writers_to_one_session_in_memory() {
    many_writers_to_one_session(Store::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_200_concurrent_writers_to_one_session_in_redis() {
    many_writers_to_one_session(Store::Redis("always")).await;
}
