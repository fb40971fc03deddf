//! Several sessions move at once, no more than may; others wait for their turn, and
//! who finds the line full is told when to come again.

use funicular_tests::client::Client;
use funicular_tests::on_each_store;
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use serde_json::json;

on_each_store! {
    sessions_are_brought_down_at_once_and_no_more_than_may
    a_source_lets_no_more_go_than_may
    a_move_too_many_is_refused_until_there_is_room
}

async fn create(tree: &Tree, number: usize) {
    for session in 0..number {
        let mut client = Client::new(tree.gateway("navigli"), &format!("s-{session}"));
        client.send(Method::POST, "/log", "first").await.expect(200);
    }
}

/// Moves everything from navigli to milan.
async fn all_at_milan(tree: &Tree, number: usize) {
    create(tree, number).await;
    for session in 0..number {
        tree.operator().offload("navigli", &format!("s-{session}")).await;
    }
}

async fn sessions_are_brought_down_at_once_and_no_more_than_may(store: Store) {
    let tree = Tree::line(store).set("max_moves_pair", "4").start().await;
    all_at_milan(&tree, 12).await;
    let held = tree.hold("navigli", "target.opened");
    let operator = tree.operator();
    let onload = operator.begin("navigli", "force-onload", &json!({"max_sessions": 12}));
    until("four are pulled, the others wait", async || {
        let status = operator.status("navigli").await;
        assert!(status.moves <= 4, "{status:?}");
        status.moves == 4 && status.waiting == 8
    })
    .await;
    held.release();
    let report = onload.await.unwrap().expect("an answer").expect(200).body;
    assert_eq!(report["moved"].as_array().map(Vec::len), Some(12), "{report}");
    assert_eq!(report["failed"], json!([]));
    assert_eq!(operator.status("navigli").await.sessions, 12);
}

async fn a_source_lets_no_more_go_than_may(store: Store) {
    let mut tree = Tree::line(store).start().await;
    tree.site("navigli").set("max_moves_out", "1");
    tree.site("navigli").restart().await;
    create(&tree, 3).await;
    let held = tree.hold("navigli", "source.freeze");
    let operator = tree.operator();
    let offload =
        |session| operator.begin("navigli", "force-offload", &json!({"session": session}));
    let moves = [offload("s-0"), offload("s-1"), offload("s-2")];
    held.reached().await;
    until("one leaves, two wait", async || {
        let status = operator.status("navigli").await;
        assert!(status.leaving <= 1, "{status:?}");
        status.leaving == 1 && status.waiting == 2
    })
    .await;
    held.release();
    for moved in moves {
        // In their turn, or told to come again.
        let answer = moved.await.unwrap().expect("an answer");
        let code = answer.body["code"].as_str().unwrap_or_default();
        assert!(answer.status == 200 || code == "too-many-moves", "{answer:?}");
    }
    until("its places are given back", async || operator.status("navigli").await.leaving == 0)
        .await;
}

async fn a_move_too_many_is_refused_until_there_is_room(store: Store) {
    let mut tree = Tree::line(store).start().await;
    for (setting, value) in [("max_moves_pair", "1"), ("max_moves_waiting", "0")] {
        tree.site("milan").set(setting, value);
    }
    tree.site("milan").restart().await;
    create(&tree, 2).await;
    let held = tree.hold("milan", "target.opened");
    let operator = tree.operator();
    let first = operator.begin("navigli", "force-offload", &json!({"session": "s-0"}));
    held.reached().await;
    let refused = operator.post("navigli", "force-offload", &json!({"session": "s-1"})).await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("too-many-moves")));
    let mut client = Client::new(tree.gateway("navigli"), "s-1");
    assert!(client.send(Method::POST, "/log", "here").await.expect(200).hops.is_empty());
    held.release();
    first.await.unwrap().expect("an answer").expect(200);
    assert_eq!(operator.offload("navigli", "s-1").await.accepted_by.as_str(), "milan");
}
