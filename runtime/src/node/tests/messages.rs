//! Messages of a session that are on their way while it moves.

use super::*;

#[tokio::test(start_paused = true)]
async fn g7_a_receiver_that_does_not_answer_keeps_no_source_from_asking() {
    let tree = Tree::start(|config| config.recovery_interval = Duration::from_secs(1));
    tree.write("navigli", "one").await;
    *tree.silent.lock() = Some(name("italy"));
    let sent = tree.ask("navigli", Request::post("/send").text("a word")).await;
    assert!(matches!(sent, Ok(Answer::Response { .. })), "{sent:?}");
    let (milan, navigli) = (name("milan"), tree.node("navigli"));
    let _background = navigli.start();
    // Its delivery has begun, and waits for longer than anybody may be in doubt.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let call = tree.attempt("navigli", "milan", 1).await;
    navigli.agree(&milan, &call).await.unwrap();
    navigli.freeze(&milan, &call).await.unwrap();
    // Milan has forgotten it.
    let patience = navigli.config().recovery_interval * 2;
    assert!(patience < navigli.config().session_wait);
    let record =
        || async { tree.stores[&name("navigli")].snapshot(&session()).await.unwrap().slot.record };
    let resumed = tokio::time::timeout(patience, async {
        while !matches!(record().await, Some(Record::Owned { epoch: 3, .. })) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    resumed.await.expect("the move is still in doubt");
    // And the message arrives, once, when there is somebody.
    *tree.silent.lock() = None;
    let waiting = || async { tree.stores[&name("navigli")].counts().await.unwrap().pending };
    let delivered = tokio::time::timeout(Duration::from_secs(60), async {
        while waiting().await > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    delivered.await.expect("the message is still under way");
    assert_eq!(tree.read("italy").await, ("a word".to_owned(), "italy".to_owned()));
}
