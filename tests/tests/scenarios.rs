//! The scenarios that the draft was tested with, under their names, and what it
//! says of each operation.

use funicular::session::SessionData;
use funicular_tests::client::{Answer, Client};
use funicular_tests::on_each_store;
use funicular_tests::operator::{Operator, query_value};
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use serde_json::{Value, json};

on_each_store! {
    simple
    offload
    onload
    chain
    expiry_on_one_level
    expiry_across_levels
    set_offload_status
    force_offload_without_a_session_chooses_one
    onload_without_a_session_brings_what_there_is_nearest_first
    a_sibling_cannot_onload_what_is_not_from_its_subtree
    the_drafts_query_forms
    an_edge_that_restarts_begins_where_its_store_is
}

/// Text that no runtime writes by itself.
const DATA: &str = "quattro-formaggi-senza-cipolla";

async fn write(client: &mut Client, text: &str) -> Answer {
    client.send(Method::POST, "/log", text.to_owned()).await.expect(200)
}

async fn log(client: &mut Client) -> Vec<String> {
    client.send(Method::GET, "/log", "").await.expect(200).json()
}

fn entries(data: &SessionData) -> Vec<(&str, &str)> {
    data.session_data.iter().map(|entry| (entry.key.as_str(), entry.data.as_str())).collect()
}

/// Only `node` has the session's data: as its dump, as the others' dumps, and in
/// every Redis.
async fn only_at(tree: &Tree, session: &str, node: &str) {
    let operator = tree.operator();
    for other in tree.nodes() {
        let dump = operator.dump(other, session).await;
        if other == node {
            assert_eq!(entries(&dump.expect("the data")), [("log", DATA)], "{other}");
        } else {
            assert_eq!(dump, None, "{other}");
        }
        if let Some(holds) = tree.redis_holds(other, DATA) {
            assert_eq!(holds, other == node, "the Redis of {other}");
        }
    }
}

async fn simple(store: Store) {
    let tree = Tree::line(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let first = write(&mut client, DATA).await;
    assert_eq!((first.text(), first.hops.len()), ("0", 0));
    let token = first.token();
    assert_eq!(token.proprietary_location.as_str(), "navigli");
    assert_eq!(token.current_location.as_str(), "navigli");
    assert_eq!((token.session.as_str(), token.function.as_str()), ("s", "probe"));
    assert_eq!(log(&mut client).await, [DATA]);

    let known = tree.operator().whereabouts("navigli", "s").await.expect("it is there");
    assert!(!known.offloaded);
    assert_eq!((known.location.as_str(), known.token), ("navigli", token));
    only_at(&tree, "s", "navigli").await;
    for above in ["milan", "italy"] {
        assert_eq!(tree.operator().whereabouts(above, "s").await, None);
        let stray = Client::new(tree.gateway(above), "s").send(Method::GET, "/log", "").await;
        assert_eq!(stray.expect(421).code(), "unknown-session");
    }
}

async fn offload(store: Store) {
    let tree = Tree::line(store).start().await;
    let operator = tree.operator();
    let mut client = Client::new(tree.gateway("navigli"), "s");
    write(&mut client, DATA).await;
    only_at(&tree, "s", "navigli").await;

    let report = operator.offload("navigli", "s").await;
    assert_eq!(report.accepted_by.as_str(), "milan");
    assert!(report.bytes > 0);
    only_at(&tree, "s", "milan").await;
    let known = operator.whereabouts("navigli", "s").await.expect("a pointer");
    assert!(known.offloaded);
    assert_eq!((known.location.as_str(), known.keys, known.bytes), ("milan", None, None));
    assert_eq!(known.token, report.token);
    assert_eq!(known.token.proprietary_location.as_str(), "navigli");

    let read = client.send(Method::GET, "/log?from=the%20edge", "").await.expect(200);
    assert_eq!(read.hops, [format!("{}/log?from=the%20edge", tree.gateway("milan"))]);
    assert_eq!(read.json::<Vec<String>>(), [DATA]);
    assert_eq!(write(&mut client, "more").await.text(), "1");
    // Told twice, it is not moved twice.
    let again = operator.post("navigli", "force-offload", &json!({"session": "s"})).await;
    assert_eq!(again.expect(409).body["code"], "not-owner");
    assert_eq!(log(&mut client).await, [DATA, "more"]);
}

async fn onload(store: Store) {
    let tree = Tree::line(store).start().await;
    let operator = tree.operator();
    let mut client = Client::new(tree.gateway("navigli"), "s");
    write(&mut client, DATA).await;
    operator.offload("navigli", "s").await;

    let report = operator.onload("navigli", "s").await;
    assert_eq!(report.accepted_by.as_str(), "navigli");
    only_at(&tree, "s", "navigli").await;
    assert!(!operator.whereabouts("navigli", "s").await.expect("it is there").offloaded);
    let read = client.send(Method::GET, "/log", "").await.expect(200);
    assert_eq!((read.hops.len(), read.json()), (0, vec![DATA.to_owned()]));
    // Who was redirected to the middle before is led back.
    let mut above = Client::new(tree.gateway("milan"), "s");
    let read = above.send(Method::GET, "/log", "").await.expect(200);
    assert_eq!(read.hops, [format!("{}/log", tree.gateway("navigli"))]);
    assert_eq!(write(&mut above, "more").await.text(), "1");
    assert_eq!(log(&mut client).await, [DATA, "more"]);
}

async fn chain(store: Store) {
    let tree = Tree::line(store).start().await;
    let operator = tree.operator();
    let mut client = Client::new(tree.gateway("navigli"), "s");
    write(&mut client, DATA).await;
    operator.set_status("milan", "reject").await.expect(200);

    let report = operator.offload("navigli", "s").await;
    assert_eq!(report.accepted_by.as_str(), "italy");
    only_at(&tree, "s", "italy").await;
    assert_eq!(operator.whereabouts("milan", "s").await, None);
    let read = client.send(Method::GET, "/log", "").await.expect(200);
    assert_eq!(read.hops, [format!("{}/log", tree.gateway("italy"))]);

    let report = operator.onload("navigli", "s").await;
    assert_eq!(report.token.current_location.as_str(), "navigli");
    only_at(&tree, "s", "navigli").await;
    assert_eq!(operator.whereabouts("milan", "s").await, None);

    // Step by step it takes the middle along, and nobody is more than two hops away.
    operator.set_status("milan", "accept").await.expect(200);
    assert_eq!(operator.offload("navigli", "s").await.accepted_by.as_str(), "milan");
    assert_eq!(operator.offload("milan", "s").await.accepted_by.as_str(), "italy");
    only_at(&tree, "s", "italy").await;
    until("home knows", async || {
        let known = operator.whereabouts("navigli", "s").await;
        known.is_some_and(|known| known.location.as_str() == "italy")
    })
    .await;
    for (from, hops) in [("navigli", 1), ("milan", 1), ("italy", 0)] {
        let read = Client::new(tree.gateway(from), "s").send(Method::GET, "/log", "").await;
        assert_eq!(read.expect(200).hops.len(), hops, "{from}");
    }
}

/// A session of its own, apart from any that had its id before.
async fn begins_anew(client: &mut Client, before: &Answer) {
    let first = write(client, DATA).await;
    assert_eq!(first.text(), "0");
    assert_ne!(first.token().incarnation, before.token().incarnation);
}

async fn nobody_knows(operator: &Operator<'_>, session: &str, nodes: &[&str]) {
    until("nobody knows it", async || {
        for node in nodes {
            if operator.whereabouts(node, session).await.is_some() {
                return false;
            }
        }
        true
    })
    .await;
}

async fn expiry_on_one_level(store: Store) {
    let tree = Tree::line(store).set("session_ttl", "1s").start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let before = write(&mut client, DATA).await;
    nobody_knows(&tree.operator(), "s", &["navigli"]).await;
    assert_ne!(tree.redis_holds("navigli", DATA), Some(true));
    begins_anew(&mut client, &before).await;
}

async fn expiry_across_levels(store: Store) {
    let tree = Tree::line(store).set("session_ttl", "3s").start().await;
    let operator = tree.operator();
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let before = write(&mut client, DATA).await;
    operator.offload("navigli", "s").await;
    operator.offload("milan", "s").await;
    only_at(&tree, "s", "italy").await;
    // The owner tells home, and keeps nothing itself.
    nobody_knows(&operator, "s", &["italy", "navigli"]).await;
    assert_ne!(tree.redis_holds("italy", DATA), Some(true));

    begins_anew(&mut client, &before).await;
    // What the middle remembers of the life before is not in the way.
    assert_eq!(operator.offload("navigli", "s").await.accepted_by.as_str(), "milan");
    only_at(&tree, "s", "milan").await;
    assert_eq!(log(&mut client).await, [DATA]);
}

async fn set_offload_status(store: Store) {
    let mut tree = Tree::line(store).start().await;
    let operator = tree.operator();
    let changed = |answer: funicular_tests::operator::Answer| {
        (answer.body["old"].clone(), answer.body["new"].clone())
    };
    let (accept, reject) = (Value::from("accept"), Value::from("reject"));
    let first = operator.set_status("milan", "reject").await.expect(200);
    assert_eq!(changed(first), (accept.clone(), reject.clone()));
    let second = operator.set_status("milan", "reject").await.expect(200);
    assert_eq!(changed(second), (reject.clone(), reject.clone()));
    operator.set_status("milan", "perhaps").await.expect(400);
    assert_eq!(json!(operator.status("milan").await.status), reject);
    assert_eq!(json!(operator.status("navigli").await.status), accept);

    let root = operator.set_status("italy", "reject").await.expect(409);
    assert_eq!(root.body["code"], "root-accepts");
    let root = operator.set_status("italy", "accept").await.expect(200);
    assert_eq!(changed(root), (accept.clone(), accept.clone()));

    tree.site("milan").restart().await;
    let kept = json!(tree.operator().status("milan").await.status);
    assert_eq!(kept, if store == Store::Memory { accept } else { reject });
}

async fn force_offload_without_a_session_chooses_one(store: Store) {
    let tree = Tree::line(store).start().await;
    let operator = tree.operator();
    for session in ["a", "b"] {
        write(&mut Client::new(tree.gateway("navigli"), session), session).await;
    }
    let mut moved = Vec::new();
    for _ in 0..2 {
        let answer = operator.post("navigli", "force-offload", &json!({})).await.expect(200);
        assert_eq!(answer.body["accepted_by"], "milan");
        moved.push(answer.body["token"]["session"].as_str().expect("a session").to_owned());
    }
    moved.sort();
    assert_eq!(moved, ["a", "b"]);
    let none = operator.post("navigli", "force-offload", &json!({})).await.expect(404);
    assert_eq!(none.body["code"], "no-such-session");
    operator.post("italy", "force-offload", &json!({})).await.expect(400);
}

async fn onload_without_a_session_brings_what_there_is_nearest_first(store: Store) {
    let tree = Tree::line(store).start().await;
    let operator = tree.operator();
    for session in ["near", "far", "farther"] {
        write(&mut Client::new(tree.gateway("navigli"), session), session).await;
        operator.offload("navigli", session).await;
    }
    for session in ["far", "farther"] {
        operator.offload("milan", session).await;
    }
    let onload = async |asked: Value| {
        let answer = operator.post("navigli", "force-onload", &asked).await.expect(200);
        let moved = answer.body["moved"].as_array().expect("a list").clone();
        let mut sessions: Vec<_> = moved
            .iter()
            .map(|one| one["token"]["session"].as_str().expect("an id").to_owned())
            .collect();
        sessions.sort();
        sessions
    };
    assert_eq!(onload(json!({})).await, ["near"]);
    assert_eq!(onload(json!({"max_sessions": 7})).await, ["far", "farther"]);
    assert!(onload(json!({})).await.is_empty());
    assert_eq!(operator.status("navigli").await.sessions, 3);
}

/// Its known bug: `brera` got what `navigli`, its sibling, had left with `milan`.
async fn a_sibling_cannot_onload_what_is_not_from_its_subtree(store: Store) {
    let tree = Tree::italy(store).start().await;
    let operator = tree.operator();
    let mut client = Client::new(tree.gateway("navigli"), "s");
    write(&mut client, DATA).await;
    operator.offload("navigli", "s").await;

    let nothing = operator.post("brera", "force-onload", &json!({})).await.expect(200);
    assert_eq!(nothing.body["moved"], json!([]));
    let named = operator.post("brera", "force-onload", &json!({"session": "s"})).await;
    assert_eq!(named.expect(404).body["code"], "no-such-session");
    only_at(&tree, "s", "milan").await;
    assert_eq!(operator.whereabouts("brera", "s").await, None);

    // Nor can the other branch get it from the root; its own subtree can.
    operator.offload("milan", "s").await;
    operator.post("trastevere", "force-onload", &json!({"session": "s"})).await.expect(404);
    operator.post("rome", "force-onload", &json!({"session": "s"})).await.expect(404);
    only_at(&tree, "s", "italy").await;
    assert_eq!(operator.onload("milan", "s").await.accepted_by.as_str(), "milan");
    assert_eq!(operator.onload("navigli", "s").await.accepted_by.as_str(), "navigli");
    assert_eq!(log(&mut client).await, [DATA]);
}

async fn the_drafts_query_forms(store: Store) {
    let tree = Tree::line(store).start().await;
    let operator = tree.operator();
    let post = |node| (node, Method::POST);
    // An id that means something in a query.
    let session = "a&b=c#d+e/%20?";
    let query = format!("session={}", query_value(session));
    write(&mut Client::new(tree.gateway("navigli"), session), DATA).await;

    let at = operator.by_query(("navigli", Method::GET), "test-function", &query).await;
    assert_eq!(at.expect(200).body["offloaded"], false);
    let moved = operator.by_query(post("navigli"), "force-offload", &query).await.expect(200);
    assert_eq!(moved.body["accepted_by"], "milan");
    let at = operator.by_query(("navigli", Method::GET), "test-function", &query).await;
    assert_eq!(at.expect(200).body["location"], "milan");
    let data = operator.by_query(post("milan"), "migrate-session", &query).await.expect(200);
    let shown = json!({"session_data": [{"key": "log", "data": DATA, "index": 0}]});
    assert_eq!(data.body, shown);
    operator.by_query(post("navigli"), "force-onload", &query).await.expect(200);
    only_at(&tree, session, "navigli").await;

    let status = operator.by_query(post("milan"), "set-offload-status", "status=reject").await;
    assert_eq!(status.expect(200).body, json!({"old": "accept", "new": "reject"}));
    let chosen = operator.by_query(post("navigli"), "force-offload", "").await.expect(200);
    assert_eq!(chosen.body["accepted_by"], "italy");
    let chosen = operator.by_query(post("navigli"), "force-onload", "max_sessions=2").await;
    assert_eq!(chosen.expect(200).body["moved"].as_array().map(Vec::len), Some(1));
}

async fn an_edge_that_restarts_begins_where_its_store_is(store: Store) {
    let mut tree = Tree::line(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let before = write(&mut client, DATA).await;
    tree.site("navigli").restart().await;
    if store == Store::Memory {
        begins_anew(&mut client, &before).await;
    } else {
        assert_eq!(log(&mut client).await, [DATA]);
        assert_eq!(write(&mut client, "more").await.text(), "1");
    }
}
