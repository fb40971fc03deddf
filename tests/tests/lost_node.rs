//! A target dies in the middle of a move and is given up: the session goes on at
//! its source, and what the target had is kept for people when it comes back.

use std::time::Duration;

use funicular::http::signature::Role;
use funicular::session::Epoch;
use funicular_tests::client::Client;
use funicular_tests::operator::Answer;
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;
use serde_json::json;

const SESSION: &str = "s";
/// Text that no runtime writes by itself.
const DATA: &str = "quattro-formaggi-senza-cipolla";
/// The recovery interval (2 s), and what a loaded machine may take on top.
const RECOVERY: Duration = Duration::from_secs(6);

async fn write(tree: &Tree, line: &str, id: &str) -> Vec<String> {
    let mut client = Client::new(tree.gateway("navigli"), SESSION);
    client.write_once("/log", line, id, RECOVERY).await.expect(200).hops
}

async fn log(tree: &Tree) -> Vec<String> {
    let mut client = Client::new(tree.gateway("navigli"), SESSION);
    client.send(Method::GET, "/log", "").await.expect(200).json()
}

async fn epoch(tree: &Tree, node: &str) -> (String, Epoch) {
    let known = tree.operator().whereabouts(node, SESSION).await.expect("it is known");
    (known.state, known.token.epoch)
}

async fn recover(tree: &Tree, how: &str, node: &str) -> Answer {
    tree.operator().post("navigli", "recover", &json!({how: node})).await.expect(200)
}

/// navigli's move to milan gets to `step` there, milan dies, and navigli gives it up.
async fn lose_milan_at(step: &str) -> Tree {
    let mut tree = Tree::line(Store::Redis("always")).start().await;
    write(&tree, DATA, "1").await;
    let held = tree.hold("milan", step);
    let moved = tree.operator().begin("navigli", "force-offload", &json!({"session": SESSION}));
    held.reached().await;
    tree.site("milan").kill9();
    held.release();
    let _ = moved.await;

    // Frozen under epoch 1, perhaps at milan under 2: nobody can know. It waits.
    assert_eq!(epoch(&tree, "navigli").await, ("migrating".to_owned(), 1));
    assert_eq!(recover(&tree, "lost", "milan").await.body["resumed"], 1);
    assert_eq!(epoch(&tree, "navigli").await, ("owned".to_owned(), 3));
    assert_eq!(write(&tree, "after", "2").await, Vec::<String>::new());
    tree
}

/// milan's calls to navigli are refused, and navigli asks it for nothing.
async fn milan_is_barred(tree: &Tree) {
    let operator = tree.operator();
    let call = json!({"location": "milan", "max_sessions": 1});
    let refused = operator.post_as((Role::Peer, "milan"), "navigli", "onload-session", &call).await;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("barred")));
    assert_eq!(operator.status("navigli").await.barred[0].as_str(), "milan");
}

/// milan comes back: within the recovery interval it has nothing of the session
/// to serve.
async fn milan_comes_back(tree: &mut Tree, owner: &str) {
    tree.site("milan").launch();
    tree.site("milan").ready().await;
    assert_eq!(tree.operator().settled(SESSION, RECOVERY).await, owner);
    assert_eq!(tree.operator().dump("milan", SESSION).await, None);
    let mut astray = Client::new(tree.gateway("milan"), SESSION);
    let answer = astray.send(Method::GET, "/log", "").await;
    match answer.status {
        // It never had it.
        421 => {}
        _ => assert_eq!(answer.json::<Vec<String>>(), log(tree).await),
    }
    milan_is_barred(tree).await;
}

#[tokio::test]
async fn g7_a_target_is_lost_before_it_installed() {
    let mut tree = lose_milan_at("target.frozen").await;
    milan_is_barred(&tree).await;
    milan_comes_back(&mut tree, "navigli").await;
    assert_eq!(log(&tree).await, [DATA, "after"]);
    assert_eq!(tree.operator().whereabouts("milan", SESSION).await, None);
}

#[tokio::test]
async fn g7_a_target_is_lost_after_it_installed() {
    let mut tree = lose_milan_at("target.installed").await;
    milan_is_barred(&tree).await;
    milan_comes_back(&mut tree, "navigli").await;
    assert_eq!(epoch(&tree, "milan").await, ("moved".to_owned(), 3));
    assert_eq!(tree.redis_holds("milan", DATA), Some(true), "lost+found");
    assert_eq!(log(&tree).await, [DATA, "after"]);
    assert!(tree.site("milan").log().contains("lost+found"));

    // A person lets it take part again: the session may go there.
    recover(&tree, "back", "milan").await;
    let moved = tree.operator().offload("navigli", SESSION).await;
    assert_eq!((moved.accepted_by.as_str(), moved.token.epoch), ("milan", 4));
    assert_eq!(write(&tree, "there", "3").await.len(), 1);
    assert_eq!(log(&tree).await, [DATA, "after", "there"]);
}

#[tokio::test]
async fn g1_a_target_is_lost_and_the_session_moves_on_before_it_comes_back() {
    for step in ["target.frozen", "target.installed"] {
        let mut tree = lose_milan_at(step).await;
        let moved = tree.operator().offload("navigli", SESSION).await;
        assert_eq!((moved.accepted_by.as_str(), moved.token.epoch), ("italy", 4));
        let hops = write(&tree, "there", "3").await;
        assert_eq!(hops.iter().map(|hop| tree.node_at(hop)).collect::<Vec<_>>(), [Some("italy")]);
        milan_comes_back(&mut tree, "italy").await;
        assert_eq!(log(&tree).await, [DATA, "after", "there"]);
    }
}

#[tokio::test]
async fn g8_only_an_operator_gives_a_node_up() {
    let tree = Tree::line(Store::Redis("always")).start().await;
    let operator = tree.operator();
    let lost = json!({"lost": "milan"});
    let refused = operator.post_as((Role::Peer, "italy"), "navigli", "recover", &lost).await;
    assert_eq!(refused.status, 403);
    for wrong in [json!({"lost": "navigli"}), json!({"lost": "atlantis"}), json!({})] {
        let refused = operator.post("navigli", "recover", &wrong).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    assert!(operator.status("navigli").await.barred.is_empty());
}
