//! A node is taken out of the tree for good.

use std::collections::BTreeMap;
use std::fs;

use funicular_tests::client::Client;
use funicular_tests::command_line::{Ended, Terminal};
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use serde_json::json;

/// `funicular retire` for a tree whose nodes read their topology's file.
fn retire(tree: &Tree, node: &str, more: &str) -> tokio::task::JoinHandle<Ended> {
    let dir = tree.dir().display().to_string();
    let topology = tree.dir().join("topology.yaml").display().to_string();
    let args = ["retire", node, more, "--function", tree.function(), "--wait", "20"];
    let args = [&args[..], &["--topology", &topology, "--secrets", &dir]].concat();
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Terminal::open().run(&args)
    })
}

fn log(session: &str, written: usize) -> Vec<String> {
    (0..written).map(|number| format!("{session}-{number}")).collect()
}

async fn retired(store: Store) {
    let tree = Tree::italy(store).set("reload_interval", "50ms").start().await;
    let operator = tree.operator();
    let sessions = ["ada", "bob", "eve", "up", "top"];
    let mut clients = BTreeMap::new();
    for session in sessions {
        let mut client = Client::new(tree.gateway("navigli"), session);
        client.send(Method::POST, "/log", format!("{session}-0")).await.expect(200);
        clients.insert(session, (client, 1));
    }
    // One is above, one further above, with pointers on the way; one came back.
    for session in ["up", "top", "eve"] {
        operator.offload("navigli", session).await;
    }
    operator.offload("milan", "top").await;
    operator.onload("navigli", "eve").await;
    let mut other = Client::new(tree.gateway("brera"), "ada");
    other.send(Method::POST, "/log", "of brera").await.expect(200);

    // Clients go on meanwhile.
    let retiring = retire(&tree, "navigli", "--in-place");
    while !retiring.is_finished() {
        for (session, (client, written)) in &mut clients {
            let text = format!("{session}-{written}");
            client.send(Method::POST, "/log", text).await.expect(200);
            *written += 1;
        }
    }
    let said = retiring.await.expect("its end").good();
    assert!(said.contains("`navigli` is retired; "), "{said}");
    let topology = fs::read_to_string(tree.dir().join("topology.yaml")).expect("the topology");
    assert!(!topology.contains("navigli"), "{topology}");

    // Nothing is lost, all have a home above, and their tokens lead there from anywhere.
    for (session, (client, written)) in &mut clients {
        let answer = client.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!(answer.json::<Vec<String>>(), log(session, *written));
        let token = answer.token();
        let place = if *session == "top" { "italy" } else { "milan" };
        assert_eq!(token.proprietary_location.as_str(), place, "{session}");
        assert_eq!(token.current_location.as_str(), place, "{session}");
        let header = answer.header("x-session-token").to_owned();
        let mut elsewhere = Client::new(tree.gateway("trastevere"), session);
        let hint = [("x-session-token", header.as_str())];
        let led = elsewhere.send_with(Method::GET, "/log", "", &hint).await;
        assert_eq!(led.expect(200).json::<Vec<String>>(), log(session, *written));
    }
    let answer = other.send(Method::GET, "/log", "").await.expect(200);
    assert_eq!(answer.json::<Vec<String>>(), ["of brera"], "another session of the same id");
    for node in ["italy", "milan", "rome", "brera", "trastevere"] {
        let status = operator.status(node).await;
        assert_eq!((status.topology.nodes, status.topology.refused), (5, None), "{node}");
    }
    assert_eq!(operator.status("navigli").await.sessions, 0);
    let itself = json!({"node": "milan", "step": "rehome"});
    assert_eq!(operator.post("milan", "retire", &itself).await.status, 400);
}

funicular_tests::on_each_store! {
    retired
}

#[tokio::test]
async fn a_node_that_goes_creates_no_sessions_also_after_a_restart() {
    let mut tree = Tree::italy(Store::Redis("always")).start().await;
    let close = json!({"node": "navigli", "step": "close"});
    tree.operator().post("navigli", "retire", &close).await.expect(200);
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    let answer = client.send(Method::POST, "/log", "a").await;
    assert_eq!((answer.status, answer.code().as_str()), (421, "unknown-session"));
    tree.site("navigli").restart().await;
    until("it has read that it goes", async || {
        let answer = client.send(Method::POST, "/log", "a").await;
        answer.status == 421
    })
    .await;
    assert_eq!(
        retire(&tree, "navigli", "--stop").await.expect("its end").good(),
        "`navigli` is at work again\n"
    );
    client.send(Method::POST, "/log", "a").await.expect(200);
}

#[tokio::test]
async fn g8_nodes_cannot_tell_each_other_to_retire() {
    use funicular::http::signature::Role;
    let tree = Tree::line(Store::Memory).start().await;
    let call = json!({"node": "navigli", "step": "rehome"});
    let answer = tree.operator().post_as((Role::Peer, "italy"), "milan", "retire", &call).await;
    assert_eq!(answer.status, 403);
}
