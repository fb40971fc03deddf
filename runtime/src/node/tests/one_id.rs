//! Two sessions of one id that change places at a node while a request waits there.

use super::*;

/// Milan has a pointer to italy, which navigli, home, has not heard of.
async fn went_on(change: fn(&mut NodeConfig)) -> Arc<Tree> {
    let tree = Tree::start(change);
    tree.write("navigli", "n").await;
    tree.write("brera", "b").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    tree.loses(|_, call| call.endpoint == "update-session");
    assert_eq!(tree.offload("milan").await.unwrap(), "italy");
    tree
}

/// A request that has looked at milan's record, and waits.
async fn waits(tree: &Arc<Tree>, path: &str) -> tokio::task::JoinHandle<Outcome<Answer>> {
    let (asking, request) = (Arc::clone(tree), Request::get(path));
    let waits = tokio::spawn(async move { asking.ask("milan", request).await });
    // Time stands still until nobody has anything to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!waits.is_finished());
    waits
}

fn leads_to(answer: &Outcome<Answer>, place: &str) -> bool {
    matches!(answer, Ok(Answer::Redirect { to, .. }) if to.as_str() == place)
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_request_that_waits_for_home_is_not_led_into_a_session_that_comes_meanwhile() {
    let tree = went_on(|config| config.pointer_fresh = Duration::ZERO).await;
    *tree.silent.lock() = Some(name("navigli"));
    let waiting = waits(&tree, "/log").await;
    // Its session goes home, and the other one of that id comes to milan: not at once, but
    // milan's pointer leads home after the first try.
    *tree.silent.lock() = None;
    tree.node("navigli").force_onload(Some(session()), 1).await.unwrap();
    assert_eq!(tree.offload("brera").await.unwrap(), "italy");
    tree.node("brera").force_onload(Some(session()), 1).await.unwrap();
    assert_eq!(tree.offload("brera").await.unwrap(), "milan");
    assert!(!waiting.is_finished());
    let answer = waiting.await.unwrap();
    assert!(leads_to(&answer, "navigli"), "{answer:?}");
    assert_eq!(tree.read("navigli").await, ("n".to_owned(), "navigli".to_owned()));
    assert_eq!(tree.read("brera").await, ("b".to_owned(), "milan".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_request_follows_a_pointer_that_was_forgotten_while_it_waited_for_home() {
    let tree = went_on(|config| config.pointer_fresh = Duration::ZERO).await;
    *tree.silent.lock() = Some(name("navigli"));
    let waiting = waits(&tree, "/log").await;
    *tree.silent.lock() = None;
    let milan = &tree.stores[&name("milan")];
    let record = milan.snapshot(&session()).await.unwrap().slot.record;
    let Some(Record::Moved { epoch, since, .. }) = record else { panic!("{record:?}") };
    let age = Event::Age { epoch, since };
    milan.step(&session(), &age, Durability::Eventual).await.unwrap().unwrap();
    let answer = waiting.await.unwrap();
    assert!(leads_to(&answer, "italy"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_read_that_runs_again_is_not_led_into_a_session_that_came_meanwhile() {
    let tree = Tree::start(|config| {
        config.pointer_fresh = Duration::ZERO;
        config.inline_max = 0;
    });
    tree.write("navigli", "n").await;
    tree.write("brera", "b").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    let waiting = waits(&tree, "/slowly").await;
    tree.node("navigli").force_onload(Some(session()), 1).await.unwrap();
    assert_eq!(tree.offload("brera").await.unwrap(), "milan");
    assert!(!waiting.is_finished());
    let answer = waiting.await.unwrap();
    assert!(leads_to(&answer, "navigli"), "{answer:?}");
}

/// Requests that came to milan when navigli's session was there; when they get to the store,
/// brera's is.
async fn comes_before_another(
    tree: &Arc<Tree>,
    requests: Vec<Request>,
) -> Vec<tokio::task::JoinHandle<Outcome<Answer>>> {
    tree.write("navigli", "n").await;
    tree.write("brera", "b").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    let holding = tree.stores[&name("milan")].holds();
    let mut waiting = Vec::new();
    for request in requests {
        let asking = Arc::clone(tree);
        waiting.push(tokio::spawn(async move { asking.ask("milan", request).await }));
        // Time stands still until nobody has anything to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    tree.node("navigli").force_onload(Some(session()), 1).await.unwrap();
    assert_eq!(tree.offload("brera").await.unwrap(), "milan");
    drop(holding);
    waiting
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_request_that_gets_to_a_slow_store_late_means_the_session_that_it_came_to() {
    let tree = Tree::start(|config| config.pointer_fresh = Duration::ZERO);
    for waiting in comes_before_another(&tree, vec![Request::get("/log").into()]).await {
        let answer = waiting.await.unwrap();
        assert!(leads_to(&answer, "navigli"), "{answer:?}");
    }
    assert_eq!(tree.read("brera").await, ("b".to_owned(), "milan".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn rule_5_writes_in_line_mean_the_session_that_they_came_to() {
    let tree = Tree::start(|config| config.pointer_fresh = Duration::ZERO);
    // The first one asks for the lease, since it sends something; the other waits behind it.
    let writes = ["/send", "/log"].map(|path| Request::post(path).text("more").into());
    for waiting in comes_before_another(&tree, writes.into()).await {
        let answer = waiting.await.unwrap();
        assert!(leads_to(&answer, "navigli"), "{answer:?}");
    }
    assert_eq!(tree.read("brera").await, ("b".to_owned(), "milan".to_owned()));
    assert_eq!(tree.read("navigli").await, ("n".to_owned(), "navigli".to_owned()));
}
