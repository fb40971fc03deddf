//! Requests that wait for a place to run (`max_running`).

use super::*;
use crate::peers::messages::PropagateCall;

fn one_seat(config: &mut NodeConfig) {
    config.max_running = 1;
}

/// A request of some session.
fn asks(
    tree: &Arc<Tree>,
    of: &str,
    request: impl Into<Request>,
) -> tokio::task::JoinHandle<Outcome<Answer>> {
    called(tree, of, false, request)
}

/// The same of another function's handler, or of a client.
fn called(
    tree: &Arc<Tree>,
    of: &str,
    from_peer: bool,
    request: impl Into<Request>,
) -> tokio::task::JoinHandle<Outcome<Answer>> {
    let (node, session) = (tree.node("navigli"), SessionId::new(of).unwrap());
    let call = Call {
        session,
        request_id: None,
        token: None,
        from_peer,
        timeout: None,
        request: request.into(),
    };
    tokio::spawn(async move { node.invoke(call).await })
}

/// Session "s" is frozen at navigli for a target that has died, and its last reads are over.
async fn left_frozen(tree: &Arc<Tree>) {
    tree.write("navigli", "one").await;
    let (milan, freeze) = (name("milan"), tree.attempt("navigli", "milan", 1).await);
    let navigli = tree.node("navigli");
    navigli.agree(&milan, &freeze).await.unwrap();
    navigli.freeze(&milan, &freeze).await.unwrap();
    tokio::time::advance(Duration::from_millis(1100)).await;
}

/// Lets everybody do what they can without time.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn ran(answer: &Outcome<Answer>) -> bool {
    matches!(answer, Ok(Answer::Response { .. }))
}

fn goes_to(answer: &Outcome<Answer>, place: &str) -> bool {
    matches!(answer, Ok(Answer::Redirect { to, .. }) if to.as_str() == place)
}

#[tokio::test(start_paused = true)]
async fn handlers_run_one_after_the_other_and_what_they_waited_is_told() {
    let tree = Tree::start(one_seat);
    let began = tokio::time::Instant::now();
    let slow: Vec<_> =
        ["a", "b", "c"].map(|of| asks(&tree, of, Request::get("/slowly"))).into_iter().collect();
    settle().await;
    let last = asks(&tree, "d", Request::post("/log").text("x"));
    for answer in slow {
        assert!(ran(&answer.await.unwrap()));
    }
    assert!(ran(&last.await.unwrap()));
    assert!(began.elapsed() >= Duration::from_secs(3));
    let told = tree.node("navigli").status().await.activity.unwrap();
    assert!(told.queue_wait_p99_us.unwrap() >= 2_900_000, "{told:?}");
    assert!(told.queue_wait_p50_us.unwrap() >= 900_000, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_a_sessions_line_full_is_told_which_bound_that_is() {
    let tree = Tree::start(|config| {
        one_seat(config);
        config.max_waiting = 2;
    });
    let running = asks(&tree, "another", Request::get("/slowly"));
    settle().await;
    let all: Vec<_> = (0..6).map(|_| asks(&tree, "s", Request::post("/log").text("x"))).collect();
    let (mut well, mut full) = (0, 0);
    for answer in all {
        match answer.await.unwrap() {
            Err(Failure::LineFull) => full += 1,
            answer => well += usize::from(ran(&answer)),
        }
    }
    assert!(full > 0 && well > 0 && well + full == 6, "{well} ran, {full} did not");
    assert!(ran(&running.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn g5_a_request_that_waits_for_a_seat_follows_its_session_at_once() {
    let tree = Tree::start(one_seat);
    tree.write("navigli", "one").await;
    let running = asks(&tree, "another", Request::get("/slowly"));
    settle().await;
    let waiting = asks(&tree, "s", Request::post("/log").text("two"));
    let reading = asks(&tree, "s", Request::get("/log"));
    settle().await;
    assert!(!waiting.is_finished() && !reading.is_finished());
    // It moves though a request of it waits, and that goes after it.
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    assert!(goes_to(&waiting.await.unwrap(), "milan"));
    assert!(goes_to(&reading.await.unwrap(), "milan"));
    // Whoever comes now needs no seat to be led there.
    assert!(goes_to(&tree.ask("navigli", Request::get("/log")).await, "milan"));
    assert!(!running.is_finished());
    assert!(ran(&running.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_so_and_a_function_that_calls_itself_is_not_kept_waiting() {
    let tree = Tree::start(|config| {
        one_seat(config);
        config.session_wait = Duration::from_millis(300);
    });
    let running = asks(&tree, "a", Request::get("/slowly"));
    settle().await;
    let late = tree.ask("navigli", Request::post("/log").text("x")).await;
    assert!(matches!(late, Err(Failure::Busy { .. })), "{late:?}");
    assert!(ran(&called(&tree, "s", true, Request::post("/log").text("y")).await.unwrap()));
    assert!(ran(&running.await.unwrap()));
    assert_eq!(tree.read("navigli").await.0, "y");
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_their_session_keep_nobody_from_running() {
    let tree = Tree::start(|config| config.max_running = 4);
    left_frozen(&tree).await;
    let mut waiting: Vec<_> = (0..4).map(|_| asks(&tree, "s", Request::get("/log"))).collect();
    waiting.extend((0..4).map(|_| asks(&tree, "s", Request::post("/log").text("two"))));
    settle().await;
    for number in 0..8 {
        let of = format!("healthy-{number}");
        assert!(ran(&asks(&tree, &of, Request::post("/log").text("x")).await.unwrap()));
    }
    assert!(waiting.iter().all(|request| !request.is_finished()));
    for request in waiting {
        assert!(matches!(request.await.unwrap(), Err(Failure::Busy { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_frozen_session_run_when_it_goes_on_though_all_seats_were_taken() {
    let tree = Tree::start(one_seat);
    left_frozen(&tree).await;
    let running = asks(&tree, "a", Request::get("/slowly"));
    settle().await;
    let waiting = [
        asks(&tree, "s", Request::get("/log")),
        asks(&tree, "s", Request::post("/log").text("two")),
    ];
    assert!(ran(&running.await.unwrap()));
    settle().await;
    let closed = tree.attempt("navigli", "milan", 1).await;
    tree.node("navigli").closed(&name("milan"), &closed).await.unwrap();
    for request in waiting {
        assert!(ran(&request.await.unwrap()));
    }
    assert_eq!(tree.read("navigli").await.0, "one,two");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_running_handler_passes_the_clients_that_wait_for_its_seat() {
    let tree = Tree::start(one_seat);
    let running = asks(&tree, "a", Request::get("/slowly"));
    settle().await;
    let clients = ["2", "3"].map(|text| asks(&tree, "s", Request::post("/log").text(text)));
    settle().await;
    // What the handler that has the seat waits for.
    assert!(ran(&called(&tree, "s", true, Request::post("/log").text("0")).await.unwrap()));
    let value = PropagateCall {
        id: "m-0".to_owned(),
        function: FunctionName::new("log").unwrap(),
        session: session(),
        from: name("milan"),
        value: "MQ==".to_owned(),
    };
    tree.node("navigli").receive(&name("milan"), &value).await.unwrap();
    assert!(!running.is_finished() && clients.iter().all(|client| !client.is_finished()));
    assert!(ran(&running.await.unwrap()));
    for client in clients {
        assert!(ran(&client.await.unwrap()));
    }
    assert_eq!(tree.read("navigli").await.0, "0,1,2,3");
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_a_seat_while_a_call_runs_in_its_session_and_all_get_their_turn() {
    let tree = Tree::start(one_seat);
    let first = asks(&tree, "a", Request::get("/slowly"));
    settle().await;
    let clients = ["1", "2"].map(|text| asks(&tree, "s", Request::post("/log").text(text)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    // It runs in their session when the seat becomes free, and another one after it.
    let calls =
        ["x", "y"].map(|text| called(&tree, "s", true, Request::post("/slowly").text(text)));
    settle().await;
    let other = asks(&tree, "b", Request::post("/log").text("x"));
    assert!(ran(&other.await.unwrap()));
    assert!(first.is_finished() && calls.iter().all(|call| !call.is_finished()));
    for request in clients.into_iter().chain(calls) {
        assert!(ran(&request.await.unwrap()));
    }
}

/// A read and a write wait while a replica, of which this process hears nothing, moves
/// their session.
async fn a_replica_moves_what_waits(session_wait: fn(&mut NodeConfig)) {
    let tree = Tree::start(session_wait);
    tree.write("navigli", "one").await;
    let running = asks(&tree, "a", Request::post("/slowly").text("x"));
    settle().await;
    let waiting = [
        asks(&tree, "s", Request::get("/log")),
        asks(&tree, "s", Request::post("/log").text("two")),
    ];
    settle().await;
    tree.restart("navigli");
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    for request in waiting {
        assert!(goes_to(&request.await.unwrap(), "milan"));
    }
    assert!(!running.is_finished());
    assert!(ran(&running.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn g5_a_replica_that_moves_a_session_takes_along_what_waits_here() {
    a_replica_moves_what_waits(one_seat).await;
}

#[tokio::test(start_paused = true)]
async fn g5_whoever_waits_too_long_looks_after_its_session_once_more() {
    a_replica_moves_what_waits(|config| {
        one_seat(config);
        config.session_wait = Duration::from_millis(100);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_restarted_is_not_recovered_by_everybody_who_waits() {
    let tree = Tree::start(one_seat);
    let running = asks(&tree, "a", Request::get("/slowly"));
    settle().await;
    let store = Arc::clone(&tree.stores[&name("navigli")]);
    let before = store.recoveries();
    store.restarted(true);
    let waiting: Vec<_> = (0..8)
        .map(|number| asks(&tree, &format!("w-{number}"), Request::post("/log").text("x")))
        .collect();
    settle().await;
    assert_eq!(store.recoveries(), before);
    assert!(waiting.iter().all(|request| !request.is_finished()));
    store.restarted(false);
    assert!(ran(&running.await.unwrap()));
    for request in waiting {
        assert!(ran(&request.await.unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_seat_does_not_look_after_every_turn_of_its_session() {
    let tree = Tree::start(one_seat);
    let running = asks(&tree, "a", Request::get("/slowly"));
    settle().await;
    let reading: Vec<_> = (0..10).map(|_| asks(&tree, "s", Request::get("/log"))).collect();
    settle().await;
    let before = tree.stores[&name("navigli")].looks();
    for _ in 0..100 {
        let call = Request::post("/with-lease").text("x");
        assert!(ran(&called(&tree, "s", true, call).await.unwrap()));
        settle().await;
    }
    assert!(!running.is_finished());
    // A tenth of a second and a little more.
    let looks = tree.stores[&name("navigli")].looks() - before;
    assert!(looks <= 10 * 5, "{looks}");
    for request in reading {
        assert!(ran(&request.await.unwrap()));
    }
}

#[test]
fn what_a_request_waited_is_recorded_once_whatever_comes_of_it() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let tree = Tree::start(|config| {
                one_seat(config);
                config.session_wait = Duration::from_millis(300);
            });
            tree.write("navigli", "one").await;
            let running = asks(&tree, "a", Request::get("/slowly"));
            settle().await;
            for request in [Request::get("/log"), Request::post("/log").text("x")] {
                let late = asks(&tree, "s", request).await.unwrap();
                assert!(matches!(late, Err(Failure::Busy { .. })), "{late:?}");
            }
            tree.offload("navigli").await.unwrap();
            assert!(goes_to(&tree.ask("navigli", Request::get("/log")).await, "milan"));
            assert!(ran(&running.await.unwrap()));
        });
    });
    let told = handle.render();
    let count = told
        .lines()
        .find(|line| line.starts_with("funicular_wait_seconds_count") && line.contains("navigli"));
    assert!(count.is_some_and(|count| count.ends_with(" 5")), "{told}");
}

#[test]
fn a_line_that_nothing_bounds_is_warned_of() {
    let mut config = NodeConfig::new(name("navigli"), FunctionName::new("log").unwrap());
    assert_eq!(config.caveat(), None);
    one_seat(&mut config);
    assert!(config.caveat().is_some_and(|caveat| caveat.contains("set max_inflight")));
    config.max_inflight = 64;
    assert_eq!(config.caveat(), None);
}
