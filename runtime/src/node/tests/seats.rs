//! Requests that wait for a place to run (`max_running`).

use super::*;

fn one_seat(config: &mut NodeConfig) {
    config.max_running = 1;
}

/// A request of some session.
fn asks(
    tree: &Arc<Tree>,
    of: &str,
    request: impl Into<Request>,
) -> tokio::task::JoinHandle<Outcome<Answer>> {
    let (node, session) = (tree.node("navigli"), SessionId::new(of).unwrap());
    let call = Call {
        session,
        request_id: None,
        token: None,
        from_peer: false,
        timeout: None,
        request: request.into(),
    };
    tokio::spawn(async move { node.invoke(call).await })
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
    let call = Call {
        session: session(),
        request_id: None,
        token: None,
        from_peer: true,
        timeout: None,
        request: Request::post("/log").text("y").into(),
    };
    assert!(ran(&tree.node("navigli").invoke(call).await));
    assert!(ran(&running.await.unwrap()));
    assert_eq!(tree.read("navigli").await.0, "y");
}
