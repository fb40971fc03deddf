//! A node is taken out of the tree for good.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use funicular::topology::Topology;
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

    // It can be run again, also with the file that it has written.
    let again = retire(&tree, "navigli", "--in-place").await.expect("its end").good();
    assert!(again.contains("`navigli` is retired; 0 sessions got another home"), "{again}");
    let kept = fs::read_to_string(tree.dir().join("topology.yaml.with-navigli")).expect("a copy");
    assert_eq!(kept, tree.topology());
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
    let answer = client.send(Method::POST, "/log", "a").await;
    assert_eq!((answer.status, answer.code().as_str()), (421, "unknown-session"), "at once");
    assert_eq!(
        retire(&tree, "navigli", "--stop").await.expect("its end").good(),
        "`navigli` is at work again\n"
    );
    client.send(Method::POST, "/log", "a").await.expect(200);
}

#[tokio::test]
async fn g5_a_token_from_before_leads_to_the_session_at_its_new_home() {
    let tree = Tree::italy(Store::Redis("always")).start().await;
    let operator = tree.operator();
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    let before = client.send(Method::POST, "/log", "a").await.expect(200);
    let before = before.header("x-session-token").to_owned();
    operator.offload("navigli", "ada").await;
    operator.settled("ada", Duration::from_secs(8)).await;
    let moved = client.send(Method::GET, "/log", "").await.expect(200);
    let moved = moved.header("x-session-token").to_owned();
    let close = json!({"node": "navigli", "step": "close"});
    operator.post("navigli", "retire", &close).await.expect(200);
    let rehome = json!({"node": "navigli", "step": "rehome"});
    let done = operator.post("milan", "retire", &rehome).await.expect(200);
    assert_eq!(done.body["done"], 1);
    for stop in [false, true] {
        if stop {
            retire(&tree, "navigli", "--stop").await.expect("its end").good();
        }
        for token in [&before, &moved] {
            for place in ["milan", "navigli", "trastevere"] {
                let mut client = Client::new(tree.gateway(place), "ada");
                let hint = [("x-session-token", token.as_str())];
                let answer = client.send_with(Method::GET, "/log", "", &hint).await;
                assert_eq!(answer.status, 200, "{place}: {}", answer.text());
                assert_eq!(answer.json::<Vec<String>>(), ["a"]);
                assert_eq!(answer.token().proprietary_location.as_str(), "milan");
            }
        }
    }
}

#[tokio::test]
async fn g2_a_session_that_the_index_has_lost_is_not_left_behind() {
    let mut tree = Tree::italy(Store::Redis("always")).set("reload_interval", "50ms").start().await;
    for session in ["ada", "bob"] {
        let mut client = Client::new(tree.gateway("navigli"), session);
        client.send(Method::POST, "/log", "a").await.expect(200);
        tree.operator().offload("navigli", session).await;
        tree.operator().settled(session, Duration::from_secs(8)).await;
    }
    let listed = "f:probe:residents:navigli";
    for session in ["ada", "bob"] {
        assert_eq!(tree.site("milan").redis().number(&["ZREM", listed, session]), 1);
    }
    // A tree without its home would orphan it, whatever the index says.
    let topology = tree.topology().to_owned();
    let smaller = Topology::parse(&topology).unwrap().without(&"navigli".parse().unwrap()).unwrap();
    fs::write(tree.dir().join("topology.yaml"), smaller.to_yaml()).expect("the topology");
    until("it is refused", async || {
        let refused = tree.operator().status("milan").await.topology.refused;
        refused.is_some_and(|why| why.contains("the home of sessions that are here"))
    })
    .await;
    fs::write(tree.dir().join("topology.yaml"), &topology).expect("the topology");

    retire(&tree, "navigli", "--in-place").await.expect("its end").good();
    for session in ["ada", "bob"] {
        let mut client = Client::new(tree.gateway("milan"), session);
        let answer = client.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!(answer.json::<Vec<String>>(), ["a"]);
        assert_eq!(answer.token().proprietary_location.as_str(), "milan");
    }
}

#[tokio::test]
async fn g2_nobody_goes_while_a_part_of_a_store_is_away() {
    let mut tree =
        Tree::italy(Store::Cluster("always")).set("reload_interval", "50ms").start().await;
    for number in 0..6 {
        let mut client = Client::new(tree.gateway("navigli"), &format!("s{number}"));
        client.send(Method::POST, "/log", "a").await.expect(200);
    }
    let cluster = tree.cluster.as_mut().expect("a cluster");
    cluster.masters[0].kill9();
    let refused = retire(&tree, "navigli", "--in-place").await.expect("its end");
    assert_ne!(refused.code, 0, "{refused:?}");
    let kept = fs::read_to_string(tree.dir().join("topology.yaml")).expect("the topology");
    assert_eq!(kept, tree.topology());

    tree.cluster.as_mut().expect("a cluster").masters[0].restart();
    for node in ["italy", "milan", "navigli", "brera", "rome", "trastevere"] {
        let operator = tree.operator();
        until("it has its store", async || operator.status(node).await.store == "ok").await;
    }
    retire(&tree, "navigli", "--in-place").await.expect("its end").good();
    for number in 0..6 {
        let mut client = Client::new(tree.gateway("milan"), &format!("s{number}"));
        let answer = client.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!(answer.token().proprietary_location.as_str(), "milan");
    }
}

#[tokio::test]
async fn g8_nodes_cannot_tell_each_other_to_retire() {
    use funicular::http::signature::Role;
    let tree = Tree::line(Store::Memory).start().await;
    let call = json!({"node": "navigli", "step": "rehome"});
    let answer = tree.operator().post_as((Role::Peer, "italy"), "milan", "retire", &call).await;
    assert_eq!(answer.status, 403);
}
