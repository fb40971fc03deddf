//! A session that ends away from its home.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[tokio::test(start_paused = true)]
async fn g5_a_client_whom_home_sent_to_a_session_that_ended_meanwhile_is_sent_back() {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "old").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    let sent = tree.ask("navigli", Request::get("/log")).await;
    assert!(matches!(&sent, Ok(Answer::Redirect { to, .. }) if *to == name("milan")), "{sent:?}");
    // One that is there already, and one that comes when nobody knows of the session any more.
    let (store, milan) = (&tree.stores[&name("milan")], tree.node("milan"));
    let holding = store.holds();
    let asking = Arc::clone(&tree);
    let there = tokio::spawn(async move { asking.ask("milan", Request::get("/log")).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let expire = Event::Expire { unused_since: u64::MAX };
    store.step(&session(), &expire, Durability::Synced).await.unwrap().unwrap();
    milan.look_after(&session()).await;
    assert!(store.snapshot(&session()).await.unwrap().slot.record.is_none());
    drop(holding);
    for answer in [there.await.unwrap(), tree.ask("milan", Request::get("/log")).await] {
        assert!(
            matches!(&answer, Ok(Answer::Redirect { to, .. }) if *to == name("navigli")),
            "{answer:?}"
        );
    }
    assert_eq!(tree.read("navigli").await, (String::new(), "navigli".to_owned()));
    // Who comes much later was sent here by nobody.
    let _background = milan.start();
    tokio::time::sleep(milan.config().pointer_fresh * 2).await;
    let late = tree.ask("milan", Request::get("/log")).await;
    assert!(matches!(late, Err(Failure::UnknownSession { .. })), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn rule_5_who_waited_while_a_session_ended_begins_it_anew_at_its_home() {
    let text = TREE.replace("name: milan\n", "name: milan\n      entry: true\n");
    let tree = Tree::of(&text, |_| {});
    tree.write("navigli", "old").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    let (store, milan) = (&tree.stores[&name("milan")], tree.node("milan"));
    // It stands in line behind somebody.
    let line = milan.lines.stand(&session());
    let turn = line.turn(8, tokio::time::Instant::now()).await.unwrap();
    let asking = Arc::clone(&tree);
    let request = Request::post("/log").text("new");
    let waiting = tokio::spawn(async move { asking.ask("milan", request).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!waiting.is_finished());
    let expire = Event::Expire { unused_since: u64::MAX };
    store.step(&session(), &expire, Durability::Synced).await.unwrap().unwrap();
    milan.look_after(&session()).await;
    drop(turn);
    let answer = waiting.await.unwrap();
    assert!(
        matches!(&answer, Ok(Answer::Redirect { to, .. }) if *to == name("navigli")),
        "{answer:?}"
    );
    assert!(store.snapshot(&session()).await.unwrap().slot.record.is_none());
}

/// Navigli's session has ended at milan, and two tell home, whose first answer takes 0.9 s and
/// whose second one takes long: brera's session has come by then, and a client that means it.
async fn two_tell_home(replicas: bool) {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "n").await;
    tree.write("brera", "b").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    let store = &tree.stores[&name("milan")];
    let expire = Event::Expire { unused_since: u64::MAX };
    store.step(&session(), &expire, Durability::Synced).await.unwrap().unwrap();
    let told = AtomicU64::new(0);
    *tree.delays.lock() = Box::new(move |call| match call.endpoint {
        "update-session" if told.fetch_add(1, Ordering::Relaxed) == 0 => Duration::from_millis(900),
        "update-session" => Duration::from_millis(1600),
        _ => Duration::ZERO,
    });
    let first = tree.node("milan");
    if replicas {
        tree.restart("milan");
    }
    let began = tokio::time::Instant::now();
    let at = |milliseconds| tokio::time::sleep_until(began + Duration::from_millis(milliseconds));
    let tells = |node: Node| tokio::spawn(async move { node.tell_home_now(&session()).await });
    let earlier = tells(first);
    at(200).await;
    let later = tells(tree.node("milan"));
    at(950).await;
    assert!(earlier.is_finished());
    *tree.delays.lock() = Box::new(|_| Duration::ZERO);
    assert_eq!(tree.offload("brera").await.unwrap(), "milan");
    // A client of brera's, who names no home, waits in front of the store until after that.
    at(1700).await;
    let (holding, asking) = (store.holds(), Arc::clone(&tree));
    let asks = tokio::spawn(async move { asking.read("milan").await });
    at(1900).await;
    assert!(later.is_finished());
    drop(holding);
    assert_eq!(asks.await.unwrap(), ("b".to_owned(), "milan".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn rule_5_an_end_that_home_hears_of_twice_gives_way_once() {
    two_tell_home(false).await;
}

#[tokio::test(start_paused = true)]
async fn rule_5_an_end_that_home_hears_of_from_two_replicas_gives_way_once() {
    two_tell_home(true).await;
}
