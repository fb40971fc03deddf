//! A session that ends away from its home.

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
