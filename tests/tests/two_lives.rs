//! Two clients with the same session id at two edges have a session each, and
//! neither's moves touch the other's. A token says which one is meant.

use std::cell::Cell;
use std::time::Duration;

use funicular::peers::messages::Whereabouts;
use funicular::session::SessionToken;
use funicular_tests::client::Client;
use funicular_tests::on_each_store;
use funicular_tests::operator::Operator;
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use serde_json::{Value, json};

on_each_store! {
    two_edges_begin_two_lives
    g1_g2_two_lives_written_while_both_move_never_mix_or_lose
    an_offer_skips_a_node_that_holds_another_life
    a_life_whose_whole_path_is_taken_stays
    a_redirect_under_way_does_not_lead_into_another_life
    a_token_leads_from_the_second_edge_to_the_session
    g8_a_token_changes_no_record
}

const LONG: Duration = Duration::from_secs(30);

async fn write(tree: &Tree, edge: &str, text: &str) {
    let mut client = Client::new(tree.gateway(edge), "s");
    client.send(Method::POST, "/log", text.to_owned()).await.expect(200);
}

async fn log(tree: &Tree, edge: &str) -> Vec<String> {
    let mut client = Client::new(tree.gateway(edge), "s");
    client.send(Method::GET, "/log", "").await.expect(200).json()
}

/// Asks a node to move the session up: who took it, or the code of the refusal.
async fn offload(operator: &Operator<'_>, node: &str) -> Result<String, String> {
    outcome(&operator.post(node, "force-offload", &json!({"session": "s"})).await)
}

fn outcome(answer: &funicular_tests::operator::Answer) -> Result<String, String> {
    match answer.status {
        200 => Ok(answer.body["accepted_by"].as_str().unwrap_or_default().to_owned()),
        _ => Err(answer.body["code"].as_str().expect("a code").to_owned()),
    }
}

async fn two_edges_begin_two_lives(store: Store) {
    let tree = Tree::italy(store).start().await;
    write(&tree, "navigli", "n").await;
    write(&tree, "brera", "b").await;
    let operator = tree.operator();
    let [one, other] = ["navigli", "brera"].map(|edge| operator.whereabouts(edge, "s"));
    let (one, other) = (one.await.expect("one"), other.await.expect("the other"));
    assert_ne!(one.token.incarnation, other.token.incarnation);
    assert_eq!(log(&tree, "navigli").await, ["n"]);
    assert_eq!(log(&tree, "brera").await, ["b"]);
    // What is from one edge does not go to the other.
    assert_eq!(offload(&operator, "navigli").await.as_deref(), Ok("milan"));
    let onload = operator.post("brera", "force-onload", &json!({"session": "s"})).await;
    assert_eq!(onload.expect(404).body["code"], "no-such-session");
    assert_eq!(log(&tree, "navigli").await, ["n"]);
    assert_eq!(log(&tree, "brera").await, ["b"]);
}

async fn an_offer_skips_a_node_that_holds_another_life(store: Store) {
    let tree = Tree::italy(store).start().await;
    let operator = tree.operator();
    write(&tree, "navigli", "n").await;
    write(&tree, "brera", "b").await;
    assert_eq!(offload(&operator, "navigli").await.as_deref(), Ok("milan"));
    assert_eq!(offload(&operator, "brera").await.as_deref(), Ok("italy"));
    for (edge, at, text) in [("navigli", "milan", "n"), ("brera", "italy", "b")] {
        let mut client = Client::new(tree.gateway(edge), "s");
        let read = client.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!(read.hops, [format!("{}/log", tree.gateway(at))]);
        assert_eq!(read.json::<Vec<String>>(), [text]);
    }
    // Each comes home past the other.
    assert_eq!(operator.onload("brera", "s").await.accepted_by.as_str(), "brera");
    assert_eq!(operator.onload("navigli", "s").await.accepted_by.as_str(), "navigli");
    assert_eq!(log(&tree, "navigli").await, ["n"]);
    assert_eq!(log(&tree, "brera").await, ["b"]);
}

async fn a_life_whose_whole_path_is_taken_stays(store: Store) {
    let tree = Tree::italy(store).start().await;
    let operator = tree.operator();
    write(&tree, "navigli", "n").await;
    write(&tree, "brera", "b").await;
    write(&tree, "trastevere", "t").await;
    assert_eq!(offload(&operator, "navigli").await.as_deref(), Ok("milan"));
    assert_eq!(offload(&operator, "brera").await.as_deref(), Ok("italy"));
    assert_eq!(offload(&operator, "trastevere").await.as_deref(), Ok("rome"));
    for taken in ["milan", "rome"] {
        let refused = operator.post(taken, "force-offload", &json!({"session": "s"})).await;
        let problem = refused.expect(409).body;
        assert_eq!(problem["code"], "other-life");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("another session")));
    }
    for edge in ["navigli", "brera", "trastevere"] {
        write(&tree, edge, "more").await;
        assert_eq!(log(&tree, edge).await, [&edge[..1], "more"]);
    }
    // A node that is to choose leaves it and takes another.
    let mut client = Client::new(tree.gateway("navigli"), "free");
    client.send(Method::POST, "/log", "free").await.expect(200);
    assert_eq!(operator.offload("navigli", "free").await.accepted_by.as_str(), "milan");
    until("s is the least recently used", async || {
        let chosen = operator.post("milan", "force-offload", &json!({})).await;
        chosen.status == 200 && chosen.body["token"]["session"] == "free"
    })
    .await;
}

/// Redirected to `milan`, a request finds that its session has gone on and that
/// another one of the same id has come.
async fn a_redirect_under_way_does_not_lead_into_another_life(store: Store) {
    let tree = Tree::italy(store).start().await;
    let operator = tree.operator();
    write(&tree, "navigli", "n").await;
    write(&tree, "brera", "b").await;
    for away in ["italy", "navigli"] {
        assert_eq!(offload(&operator, "navigli").await.as_deref(), Ok("milan"));
        // Where a redirect of just now leads.
        let mut under_way = Client::new(tree.gateway("milan"), "s");
        match away {
            "italy" => assert_eq!(offload(&operator, "milan").await.as_deref(), Ok("italy")),
            _ => assert_eq!(operator.onload("navigli", "s").await.accepted_by.as_str(), away),
        }
        let other = offload(&operator, "brera").await;
        let read = under_way.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!(read.json::<Vec<String>>(), ["n"], "{away}: the other went to {other:?}");
        if other.is_ok() {
            operator.onload("brera", "s").await;
        }
        if away == "italy" {
            operator.onload("navigli", "s").await;
        }
    }
}

/// Moves a life up and down until `rounds` are over; refusals are part of it.
async fn keep_moving(operator: &Operator<'_>, edge: &str, rounds: u32) {
    let expected = [
        "other-life",
        "not-owner",
        "no-such-session",
        "move-open",
        "unsettled",
        "move-failed",
        "stale-epoch",
        "no-such-move",
        "busy",
    ];
    for round in 0..rounds {
        let mut outcomes = vec![offload(operator, edge).await];
        if round % 3 != 0 {
            outcomes.push(offload(operator, "milan").await);
        }
        let onload = operator.post(edge, "force-onload", &json!({"session": "s"})).await;
        outcomes.push(match onload.status {
            200 => Ok(String::new()),
            _ => outcome(&onload),
        });
        for outcome in outcomes {
            assert!(
                outcome.as_ref().err().is_none_or(|e| expected.contains(&e.as_str())),
                "{outcome:?}"
            );
        }
    }
}

async fn g1_g2_two_lives_written_while_both_move_never_mix_or_lose(store: Store) {
    let tree = Tree::italy(store).start().await;
    let operator = tree.operator();
    write(&tree, "navigli", "navigli-0").await;
    write(&tree, "brera", "brera-0").await;
    let over = Cell::new(false);
    let writes = async |edge: &str| {
        let mut client = Client::new(tree.gateway(edge), "s");
        let mut number = 1;
        while !over.get() {
            let text = format!("{edge}-{number}");
            let answer = client.write_once("/log", &text, &text, LONG).await;
            assert_eq!(answer.expect(200).text(), number.to_string(), "{edge}");
            number += 1;
        }
        number
    };
    let reads = async |edge: &str| {
        while !over.get() {
            for text in log(&tree, edge).await {
                assert!(text.starts_with(edge), "{edge} sees {text}");
            }
        }
    };
    let moves = async {
        tokio::join!(keep_moving(&operator, "navigli", 25), keep_moving(&operator, "brera", 25));
        over.set(true);
    };
    let (navigli, brera, (), (), ()) =
        tokio::join!(writes("navigli"), writes("brera"), reads("navigli"), reads("brera"), moves);
    for (edge, number) in [("navigli", navigli), ("brera", brera)] {
        let all: Vec<_> = (0..number).map(|number| format!("{edge}-{number}")).collect();
        assert_eq!(log(&tree, edge).await, all);
    }
}

async fn a_token_leads_from_the_second_edge_to_the_session(store: Store) {
    // The last part is to meet the other session where this one was just now.
    let tree = Tree::italy(store).set("pointer_fresh", "1ms").start().await;
    let operator = tree.operator();
    let mut first = Client::new(tree.gateway("navigli"), "s");
    let old = first.send(Method::POST, "/log", "n").await.expect(200);
    let old = old.header("x-session-token").to_owned();
    let mut newest = old.clone();
    for (from, at) in [("", "navigli"), ("navigli", "milan"), ("milan", "italy")] {
        if !from.is_empty() {
            assert_eq!(offload(&operator, from).await.as_deref(), Ok(at));
            until("home knows", async || {
                let known = operator.whereabouts("navigli", "s").await;
                known.is_some_and(|known| known.location.as_str() == at)
            })
            .await;
        }
        // The newest token and the very first one lead to the same place, from an
        // edge and from a node that creates no sessions.
        for other in ["brera", "trastevere", "rome"] {
            for token in [newest.clone(), old.clone()] {
                let mut client = Client::new(tree.gateway(other), "s");
                let headers = [("x-session-token", token.as_str())];
                let read = client.send_with(Method::GET, "/log", "", &headers).await.expect(200);
                assert_eq!(read.hops, [format!("{}/log", tree.gateway(at))], "{other}");
                assert_eq!(read.json::<Vec<String>>(), ["n"]);
                read.header("x-session-token").clone_into(&mut newest);
            }
            assert_eq!(operator.whereabouts(other, "s").await, None);
        }
    }
    // Without the token it is another session, which the token leads past.
    write(&tree, "brera", "b").await;
    assert_eq!(log(&tree, "brera").await, ["b"]);
    let with_token = [("x-session-token", newest.as_str())];
    let mut client = Client::new(tree.gateway("brera"), "s");
    let written = client.send_with(Method::POST, "/log", "by token", &with_token).await;
    assert_eq!((written.expect(200).text(), log(&tree, "brera").await.len()), ("1", 1));
    assert_eq!(log(&tree, "navigli").await, ["n", "by token"]);
    // Wherever the two meet: the other one is where the token says that this one is.
    operator.onload("navigli", "s").await;
    assert_eq!(operator.post("brera", "force-offload", &json!({"session": "s"})).await.status, 200);
    let mut client = Client::new(tree.gateway("milan"), "s");
    let read = client.send_with(Method::GET, "/log", "", &with_token).await.expect(200);
    assert_eq!(read.json::<Vec<String>>(), ["n", "by token"]);
    assert_eq!(log(&tree, "brera").await, ["b"]);
    // Nor does it go after the other one from where that has left.
    let mut client = Client::new(tree.gateway("brera"), "s");
    let read = client.send_with(Method::GET, "/log", "", &with_token).await.expect(200);
    assert_eq!(read.hops, [format!("{}/log", tree.gateway("navigli"))]);
    assert_eq!(read.json::<Vec<String>>(), ["n", "by token"]);
}

async fn g8_a_token_changes_no_record(store: Store) {
    let tree = Tree::italy(store).start().await;
    let operator = tree.operator();
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let real = client.send(Method::POST, "/log", "n").await.expect(200).token();
    assert_eq!(offload(&operator, "navigli").await.as_deref(), Ok("milan"));
    let records = async || {
        let mut records = Vec::new();
        for node in tree.nodes() {
            // Pointers grow older meanwhile.
            let known = operator.whereabouts(node, "s").await;
            records.push((node, known.map(|known| Whereabouts { pointer_age: None, ..known })));
        }
        records
    };
    let before = records().await;
    let forge = |changes: Value| {
        let mut forged = serde_json::to_value(&real).expect("JSON");
        for (name, value) in changes.as_object().expect("changes") {
            forged[name] = value.clone();
        }
        forged.to_string()
    };
    let forged = [
        forge(json!({"epoch": 999, "currentLocation": "rome"})),
        forge(json!({"epoch": 999, "currentLocation": "italy"})),
        forge(json!({"incarnation": "00000000000000000000000000000000", "epoch": 7})),
        forge(json!({"session": "another"})),
        forge(json!({"function": "cart"})),
        forge(json!({"currentLocation": "nowhere", "proprietaryLocation": "elsewhere"})),
    ];
    for token in &forged {
        for node in ["navigli", "milan"] {
            let mut client = Client::new(tree.gateway(node), "s");
            let headers = [("x-session-token", token.as_str())];
            let read = client.send_with(Method::GET, "/log", "", &headers).await.expect(200);
            assert_eq!(read.json::<Vec<String>>(), ["n"], "{node}: {token}");
            assert_eq!(read.token(), SessionToken { epoch: 2, ..read.token() });
            for hop in &read.hops {
                assert!(tree.node_at(hop).is_some(), "{hop} is no gateway of the tree");
            }
        }
        assert_eq!(records().await, before, "{token}");
    }
    for unread in ["", "!!", "bm8gSlNPTg==", "{}"] {
        let mut client = Client::new(tree.gateway("navigli"), "s");
        let headers = [("x-session-token", unread)];
        let refused = client.send_with(Method::GET, "/log", "", &headers).await.expect(400);
        assert_eq!(refused.code(), "bad-token", "{unread}");
    }
    // One that names another home means a session of that home, and leaves this one.
    let foreign = forge(json!({"proprietaryLocation": "brera", "currentLocation": "rome"}));
    let mut client = Client::new(tree.gateway("milan"), "s");
    let headers = [("x-session-token", foreign.as_str())];
    let read = client.send_with(Method::GET, "/log", "", &headers).await.expect(200);
    assert!(read.json::<Vec<String>>().is_empty());
    assert_eq!(read.token().proprietary_location.as_str(), "brera");
    let left = records().await;
    assert!(before.iter().zip(&left).all(|(one, other)| one.0 == "brera" || one == other));
    // Somewhere else a forged token leads nowhere but to gateways of the tree, and
    // what is created is created at home, as for anybody.
    let nobody = forge(json!({"session": "new", "proprietaryLocation": "brera"}));
    let mut client = Client::new(tree.gateway("trastevere"), "new");
    let headers = [("x-session-token", nobody.as_str())];
    let read = client.send_with(Method::GET, "/log", "", &headers).await.expect(200);
    assert_eq!(read.token().proprietary_location.as_str(), "brera");
    let rootless = forge(json!({"session": "newer", "proprietaryLocation": "rome"}));
    let mut client = Client::new(tree.gateway("trastevere"), "newer");
    let headers = [("x-session-token", rootless.as_str())];
    let refused = client.send_with(Method::GET, "/log", "", &headers).await.expect(421);
    assert_eq!(refused.code(), "unknown-session");
    assert_eq!(records().await, left);
}
