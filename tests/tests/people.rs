//! G5 as people meet it: curl and Python's requests, which follow redirects by
//! themselves, see no error before, during and after moves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use funicular_tests::client::Client;
use funicular_tests::moves::{during, patient};
use funicular_tests::on_each_store;
use funicular_tests::people::{Body, Person, Said};
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;

on_each_store! {
    g5_curl_follows_a_session_through_its_moves
    g5_requests_follows_a_session_through_its_moves
    g5_curl_uploads_twenty_megabytes_wherever_the_session_is
    g5_requests_uploads_twenty_megabytes_wherever_the_session_is
    g5_a_body_from_a_pipe_is_forwarded
    g5_a_body_from_a_generator_is_forwarded
    g5_requests_at_any_step_of_a_move_succeed
}

/// Steps of a move from an edge to its parent, in the order in which it comes to
/// them.
const STEPS: [(&str, &str); 14] = [
    ("navigli", "source.offload"),
    ("milan", "target.opened"),
    ("navigli", "source.agree"),
    ("navigli", "source.agreed"),
    ("milan", "target.agreed"),
    ("navigli", "source.freeze"),
    ("navigli", "source.frozen"),
    ("milan", "target.frozen"),
    ("milan", "target.staged"),
    ("milan", "target.installed"),
    ("navigli", "source.done"),
    ("navigli", "source.moved"),
    ("milan", "target.done"),
    ("milan", "target.settled"),
];

/// How long a large session may take to move.
const LONG: Duration = Duration::from_secs(60);

async fn append(tree: &Tree, person: Person, text: &str) -> Said {
    let url = format!("{}/log", tree.gateway("navigli"));
    person.ask("POST", &url, "s", &[], Body::Text(text)).await.expect(200)
}

async fn follows_a_session_through_its_moves(store: Store, person: Person) {
    let tree = patient(Tree::line(store)).start().await;
    let operator = tree.operator();
    let at = |said: &Said| (said.hops, tree.node_at(&said.url));
    assert_eq!(at(&append(&tree, person, "at the edge").await), (0, Some("navigli")));

    let up = operator.offload("navigli", "s");
    let request = append(&tree, person, "on the way to milan");
    let (_, said) = during(&tree, ("navigli", "source.frozen"), up, request).await;
    assert_eq!(at(&said), (1, Some("milan")));
    assert_eq!(at(&append(&tree, person, "in milan").await), (1, Some("milan")));

    let up = operator.offload("milan", "s");
    let request = append(&tree, person, "on the way to italy");
    let (_, said) = during(&tree, ("milan", "source.frozen"), up, request).await;
    assert_eq!(tree.node_at(&said.url), Some("italy"));
    assert_eq!(at(&append(&tree, person, "in italy").await), (1, Some("italy")));

    let down = operator.onload("navigli", "s");
    let request = append(&tree, person, "on the way home");
    let (_, said) = during(&tree, ("italy", "source.frozen"), down, request).await;
    assert_eq!(tree.node_at(&said.url), Some("navigli"));
    assert_eq!(at(&append(&tree, person, "at home").await), (0, Some("navigli")));

    let url = format!("{}/log", tree.gateway("navigli"));
    let all = person.ask("GET", &url, "s", &[], Body::None).await.expect(200);
    let log: Vec<String> = serde_json::from_slice(&all.body).expect("JSON");
    let written = [
        "at the edge",
        "on the way to milan",
        "in milan",
        "on the way to italy",
        "in italy",
        "on the way home",
        "at home",
    ];
    assert_eq!(log, written);
}

async fn g5_curl_follows_a_session_through_its_moves(store: Store) {
    follows_a_session_through_its_moves(store, Person::Curl).await;
}

async fn g5_requests_follows_a_session_through_its_moves(store: Store) {
    follows_a_session_through_its_moves(store, Person::Requests).await;
}

/// A file in the tree's directory whose bytes repeat nowhere.
fn file(tree: &Tree, name: &str, bytes: usize) -> (PathBuf, Vec<u8>) {
    let mut content = vec![0; bytes];
    rand::fill(&mut content[..]);
    let path = tree.dir().join(name);
    std::fs::write(&path, &content).expect("a file");
    (path, content)
}

async fn fetched(tree: &Tree, person: Person, name: &str, content: &[u8]) {
    let url = format!("{}/{name}", tree.gateway("navigli"));
    let got = person.ask("GET", &url, "s", &[], Body::None).await.expect(200);
    // Not with `assert_eq`: nobody wants to read them.
    assert!(got.body == content, "{name}: {} bytes came, or others", got.body.len());
}

async fn uploads_twenty_megabytes_wherever_the_session_is(store: Store, person: Person) {
    // A slow machine may take its time; what is tested is not how long that is.
    let plan = patient(Tree::line(store)).function("cdn").set("freeze_wait", "20s");
    let tree = plan.set("store_timeout", "20s").set("lease_ttl", "20s").start().await;
    let operator = tree.operator();
    let (path, film) = file(&tree, "film", 20_000_000);
    let upload = async |name: &str| {
        let url = format!("{}/{name}", tree.gateway("navigli"));
        person.ask("PUT", &url, "s", &["Content-Type: video/mp4"], Body::File(&path)).await
    };
    upload("before").await.expect(201);
    fetched(&tree, person, "before", &film).await;

    let up = operator.offload_large("navigli", "s", LONG);
    let (_, said) = during(&tree, ("navigli", "source.frozen"), up, upload("during")).await;
    assert_eq!((said.expect(201).hops, operator.status("milan").await.sessions), (1, 1));
    fetched(&tree, person, "before", &film).await;
    fetched(&tree, person, "during", &film).await;

    // What was there is replaced, and goes on to the root.
    assert_eq!(upload("before").await.expect(204).hops, 1);
    assert_eq!(operator.offload_large("milan", "s", LONG).await, "italy");
    assert_eq!(upload("after").await.expect(201).hops, 1);
    for name in ["before", "during", "after"] {
        fetched(&tree, person, name, &film).await;
    }
}

async fn g5_curl_uploads_twenty_megabytes_wherever_the_session_is(store: Store) {
    uploads_twenty_megabytes_wherever_the_session_is(store, Person::Curl).await;
}

async fn g5_requests_uploads_twenty_megabytes_wherever_the_session_is(store: Store) {
    uploads_twenty_megabytes_wherever_the_session_is(store, Person::Requests).await;
}

async fn a_body_that_is_sent_once_is_forwarded(store: Store, person: Person) {
    let tree = patient(Tree::line(store)).function("cdn").start().await;
    let operator = tree.operator();
    let (path, content) = file(&tree, "stream", 300_000);
    let forward: &[&str] = &["X-session-forward: 1"];
    let send = async |path: &Path, name: &str| {
        let url = format!("{}/{name}", tree.gateway("navigli"));
        let said = person.ask("PUT", &url, "s", forward, Body::Once(path)).await;
        assert_eq!((said.hops, tree.node_at(&said.url)), (0, Some("navigli")));
        said.expect(201)
    };
    send(&path, "at-home").await;
    let up = operator.offload("navigli", "s");
    during(&tree, ("navigli", "source.frozen"), up, send(&path, "on-the-way")).await;
    send(&path, "in-milan").await;
    operator.offload("milan", "s").await;
    let said = send(&path, "in-italy").await;
    if person == Person::Requests {
        assert_eq!(said.headers["vary"], "X-session");
        let token = funicular::session::SessionToken::decode(&said.headers["x-session-token"]);
        assert_eq!(token.expect("a token").current_location.as_str(), "italy");
    }
    for name in ["at-home", "on-the-way", "in-milan", "in-italy"] {
        fetched(&tree, person, name, &content).await;
    }
    assert!(operator.whereabouts("italy", "s").await.is_some_and(|known| !known.offloaded));
}

async fn g5_a_body_from_a_pipe_is_forwarded(store: Store) {
    a_body_that_is_sent_once_is_forwarded(store, Person::Curl).await;
}

async fn g5_a_body_from_a_generator_is_forwarded(store: Store) {
    a_body_that_is_sent_once_is_forwarded(store, Person::Requests).await;
}

/// Every step is held open in turn while somebody reads and somebody writes.
async fn g5_requests_at_any_step_of_a_move_succeed(store: Store) {
    let tree = patient(Tree::line(store)).start().await;
    let operator = tree.operator();
    let client = Client::new(tree.gateway("navigli"), "s");
    let mut written = vec!["first".to_owned()];
    client.clone().send(Method::POST, "/log", "first").await.expect(200);
    for (node, step) in STEPS {
        let request = async {
            let (mut reader, mut writer) = (client.clone(), client.clone());
            let write = writer.send(Method::POST, "/log", step);
            tokio::join!(reader.send(Method::GET, "/log", ""), write)
        };
        let up = operator.offload("navigli", "s");
        let (report, (read, write)) = during(&tree, (node, step), up, request).await;
        assert_eq!(report.accepted_by.as_str(), "milan", "{step}");
        let seen: Vec<String> = read.expect(200).json();
        assert_eq!(write.expect(200).text(), written.len().to_string(), "{step}");
        // What was acknowledged is seen; this step's own write may be.
        assert_eq!(seen[..written.len()], written, "{step}");
        written.push(step.to_owned());
        operator.onload("navigli", "s").await;
    }
    let log: Vec<String> = client.clone().send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(log, written);
}
