//! G3: a request id takes effect at most once, wherever the session is and
//! whatever goes on; a repeat gets the first response.

use funicular_tests::client::{Answer, Client};
use funicular_tests::moves::{during, patient, waits};
use funicular_tests::on_each_store;
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;

on_each_store! {
    g3_a_repeat_gets_the_first_response_wherever_the_session_is
    g3_a_repeat_at_any_step_of_a_move_runs_once
    g3_a_first_request_during_a_move_and_its_repeats_run_once
    g3_repeats_at_the_same_time_run_once
    g3_a_request_whose_client_went_away_runs_once
    g3_an_id_belongs_to_one_request
    g3_a_response_too_large_to_keep_is_208
    g3_failures_are_not_kept
    g3_reads_are_not_kept
    g3_the_window_moves_along_and_ends
    an_id_that_is_none_is_refused
}

const ID: &str = "5f0c3f52-8a43-4f0e-9b0f-1f2d3c4b5a69";

async fn post(tree: &Tree, path: &str, body: &str, id: &str) -> Answer {
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let headers = [("x-session-request-id", id)];
    client.send_with(Method::POST, path, body.to_owned(), &headers).await
}

async fn log(tree: &Tree) -> Vec<String> {
    let mut client = Client::new(tree.gateway("navigli"), "s");
    client.send(Method::GET, "/log", "").await.expect(200).json()
}

fn replayed(answer: &Answer) -> bool {
    answer.header("x-session-replayed") == "true"
}

/// The first response again, and it says so.
#[track_caller]
fn is_repeat_of(again: &Answer, first: &Answer, when: &str) {
    assert!(replayed(again) && !replayed(first), "{when}: {again:?}");
    assert_eq!((again.status, again.text()), (first.status, first.text()), "{when}");
    for name in ["content-type", "x-receipt", "location"] {
        assert_eq!(again.header(name), first.header(name), "{when}: {name}");
    }
}

async fn g3_a_repeat_gets_the_first_response_wherever_the_session_is(store: Store) {
    let mut tree = Tree::line(store).start().await;
    let first = post(&tree, "/receipt", "one", ID).await.expect(201);
    assert_eq!(first.header("x-receipt"), "0042");
    assert_eq!(first.json::<serde_json::Value>()["position"], 0);
    // The state has gone on since: the first response is not made up anew.
    post(&tree, "/log", "two", "another").await.expect(200);
    let again = async |tree: &Tree, at: &str| {
        let again = post(tree, "/receipt", "one", ID).await;
        is_repeat_of(&again, &first, at);
        assert_eq!(again.token().current_location.as_str(), at);
    };
    again(&tree, "navigli").await;
    tree.operator().offload("navigli", "s").await;
    again(&tree, "milan").await;
    tree.operator().offload("milan", "s").await;
    again(&tree, "italy").await;
    if store != Store::Memory {
        tree.site("italy").restart().await;
        again(&tree, "italy").await;
    }
    tree.operator().onload("navigli", "s").await;
    again(&tree, "navigli").await;
    assert_eq!(log(&tree).await, ["one", "two"]);
}

async fn g3_a_repeat_at_any_step_of_a_move_runs_once(store: Store) {
    let tree = patient(Tree::line(store)).start().await;
    let operator = tree.operator();
    let first = post(&tree, "/receipt", "one", ID).await.expect(201);
    for (node, step) in [
        ("navigli", "source.agreed"),
        ("navigli", "source.frozen"),
        ("milan", "target.staged"),
        ("milan", "target.installed"),
        ("navigli", "source.moved"),
        ("milan", "target.settled"),
    ] {
        let up = operator.offload("navigli", "s");
        let (_, again) = during(&tree, (node, step), up, post(&tree, "/receipt", "one", ID)).await;
        is_repeat_of(&again, &first, step);
        operator.onload("navigli", "s").await;
    }
    assert_eq!(log(&tree).await, ["one"]);
}

async fn g3_a_first_request_during_a_move_and_its_repeats_run_once(store: Store) {
    let tree = patient(Tree::line(store)).start().await;
    let operator = tree.operator();
    post(&tree, "/log", "zero", "0").await.expect(200);
    for (index, (node, step)) in [
        ("navigli", "source.agreed"),
        ("navigli", "source.frozen"),
        ("milan", "target.installed"),
        ("navigli", "source.moved"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("{ID}-{index}");
        let request = async {
            let one = || post(&tree, "/receipt", step, &id);
            tokio::join!(one(), one(), one())
        };
        let up = operator.offload("navigli", "s");
        let (_, (a, b, c)) = during(&tree, (node, step), up, request).await;
        let late = post(&tree, "/receipt", step, &id).await;
        let (repeats, firsts): (Vec<_>, Vec<_>) = [a, b, c, late].into_iter().partition(replayed);
        assert_eq!(firsts.len(), 1, "{step}");
        repeats.iter().for_each(|again| is_repeat_of(again, &firsts[0], step));
        operator.onload("navigli", "s").await;
    }
    let log = log(&tree).await;
    assert_eq!(log[1..], ["source.agreed", "source.frozen", "target.installed", "source.moved"]);
}

async fn g3_repeats_at_the_same_time_run_once(store: Store) {
    let tree = patient(Tree::line(store)).start().await;
    let held = tree.hold("navigli", "handler.begin");
    let requests = async {
        let one = || post(&tree, "/receipt", "one", ID);
        tokio::join!(one(), one(), one(), one(), one())
    };
    let releasing = async {
        held.reached().await;
        let operator = tree.operator();
        until("all wait", async || operator.status("navigli").await.in_flight == 5).await;
        held.release();
    };
    let ((a, b, c, d, e), ()) = tokio::join!(requests, releasing);
    let (repeats, firsts): (Vec<_>, Vec<_>) = [a, b, c, d, e].into_iter().partition(replayed);
    assert_eq!(firsts.len(), 1);
    repeats.iter().for_each(|again| is_repeat_of(again, &firsts[0], "at the same time"));
    assert_eq!(log(&tree).await, ["one"]);
}

async fn g3_a_request_whose_client_went_away_runs_once(store: Store) {
    let tree = patient(Tree::line(store)).start().await;
    let held = tree.hold("navigli", "handler.begin");
    {
        let gone = post(&tree, "/receipt", "one", ID);
        tokio::select! {
            _ = gone => panic!("the handler is held"),
            () = held.reached() => {}
        }
    }
    let (again, ()) = tokio::join!(post(&tree, "/receipt", "one", ID), async {
        until("the repeat waits", async || waits(&tree).await).await;
        held.release();
    });
    assert!(replayed(&again.expect(201)));
    assert_eq!(log(&tree).await, ["one"]);
}

async fn g3_an_id_belongs_to_one_request(store: Store) {
    let tree = Tree::line(store).start().await;
    post(&tree, "/receipt", "one", ID).await.expect(201);
    for node in ["navigli", "milan"] {
        for (path, body) in [("/receipt", "two"), ("/log", "one"), ("/receipt?x", "one")] {
            let other = post(&tree, path, body, ID).await.expect(422);
            assert_eq!(other.code(), "request-id-reused", "{node} {path} {body}");
        }
        // Another session's ids are its own.
        let mut other = Client::new(tree.gateway("navigli"), &format!("other-{node}"));
        let id = [("x-session-request-id", ID)];
        other.send_with(Method::POST, "/log", "two", &id).await.expect(200);
        if node == "navigli" {
            tree.operator().offload("navigli", "s").await;
        }
    }
    assert!(replayed(&post(&tree, "/receipt", "one", ID).await.expect(201)));
    assert_eq!(log(&tree).await, ["one"]);
}

async fn g3_a_response_too_large_to_keep_is_208(store: Store) {
    let tree = Tree::line(store).start().await;
    let (small, large) = ("/large?bytes=4096", "/large?bytes=4097");
    assert_eq!(post(&tree, small, "small", "small").await.expect(200).body.len(), 4096);
    assert_eq!(post(&tree, large, "large", "large").await.expect(200).body.len(), 4097);
    for from in ["navigli", "milan"] {
        assert_eq!(post(&tree, small, "small", "small").await.expect(200).body.len(), 4096);
        let again = post(&tree, large, "large", "large").await.expect(208);
        assert_eq!(again.code(), "reply-not-kept");
        assert_eq!(again.json::<serde_json::Value>()["first_status"], 200);
        tree.operator().offload(from, "s").await;
    }
    assert_eq!(log(&tree).await, ["small", "large"]);
}

async fn g3_failures_are_not_kept(store: Store) {
    let tree = Tree::line(store).start().await;
    for (path, status) in [("/fail", 409), ("/panic", 500), ("/refuse", 402)] {
        for _ in 0..2 {
            let failed = post(&tree, path, "lost", path).await.expect(status);
            assert!(!replayed(&failed));
        }
        // The id is free: for the same request once it works, or for another.
        assert!(!replayed(&post(&tree, "/log", path, path).await.expect(200)));
        assert!(replayed(&post(&tree, "/log", path, path).await.expect(200)));
        assert_eq!(post(&tree, path, "lost", path).await.expect(422).code(), "request-id-reused");
    }
    assert_eq!(log(&tree).await, ["/fail", "/panic", "/refuse"]);
}

/// A read has no effect: it is made again, and shows what is there now.
async fn g3_reads_are_not_kept(store: Store) {
    let tree = Tree::line(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let id = [("x-session-request-id", ID)];
    let before = client.send_with(Method::GET, "/log", "", &id).await.expect(200);
    assert!(before.json::<Vec<String>>().is_empty());
    client.send_with(Method::POST, "/log", "one", &id).await.expect(200);
    let after = client.send_with(Method::GET, "/log", "", &id).await.expect(200);
    assert_eq!((after.json(), replayed(&after)), (vec!["one".to_owned()], false));
}

async fn g3_the_window_moves_along_and_ends(store: Store) {
    let tree = Tree::line(store).set("window_entries", "3").start().await;
    for id in ["a", "b", "c"] {
        post(&tree, "/log", id, id).await.expect(200);
    }
    tree.operator().offload("navigli", "s").await;
    // The fourth pushes the first out, which then counts as new.
    post(&tree, "/log", "d", "d").await.expect(200);
    for id in ["b", "c", "d"] {
        assert!(replayed(&post(&tree, "/log", id, id).await.expect(200)), "{id}");
    }
    assert!(!replayed(&post(&tree, "/log", "a", "a").await.expect(200)));
    assert_eq!(log(&tree).await, ["a", "b", "c", "d", "a"]);
}

async fn an_id_that_is_none_is_refused(store: Store) {
    let tree = Tree::line(store).start().await;
    let long = "x".repeat(1000);
    for id in ["", "two words", &long] {
        let refused = post(&tree, "/log", "one", id).await.expect(400);
        assert_eq!(refused.code(), "malformed-request-id", "{id}");
    }
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let twice = [("x-session-request-id", "a"), ("x-session-request-id", "b")];
    client.send_with(Method::POST, "/log", "one", &twice).await.expect(400);
    assert!(log(&tree).await.is_empty());
}
