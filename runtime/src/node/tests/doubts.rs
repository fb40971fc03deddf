//! Sessions in doubt, more than are looked after at once.

use super::*;
use crate::node::recover::WORKERS;

/// A tree of whose nodes italy does not answer, and sessions at navigli that sort before the
/// one that is frozen for a milan which has forgotten it.
async fn many_before(path: &str) -> (Arc<Tree>, Vec<SessionId>) {
    let tree = Tree::start(|config| {
        config.recovery_interval = Duration::from_secs(1);
        (config.max_moves_out, config.max_moves_pair) = (1000, 1000);
    });
    tree.write("navigli", "one").await;
    *tree.silent.lock() = Some(name("italy"));
    let many: Vec<_> =
        (0..WORKERS + 6).map(|n| SessionId::new(format!("before-{n:03}")).unwrap()).collect();
    for session in &many {
        let request = Request::post(path).text("a word");
        let sent = tree.ask_in(session.clone(), "navigli", None, request).await;
        assert!(matches!(sent, Ok(Answer::Response { .. })), "{sent:?}");
    }
    (tree, many)
}

async fn freeze(tree: &Tree, session: &SessionId, target: &str, nonce: u128) {
    let call = tree.attempt_in(session.clone(), "navigli", target, nonce).await;
    let navigli = tree.node("navigli");
    navigli.agree(&name(target), &call).await.unwrap();
    navigli.freeze(&name(target), &call).await.unwrap();
}

/// Whether the move to milan is found to have come to nothing within that time.
async fn resolves(tree: &Tree, within: Duration) -> bool {
    let store = &tree.stores[&name("navigli")];
    let resolved = tokio::time::timeout(within, async {
        loop {
            let record = store.snapshot(&session()).await.unwrap().slot.record;
            if matches!(record, Some(Record::Owned { intent: None, .. })) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    resolved.await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn g7_messages_for_a_node_that_is_away_keep_no_move_in_doubt() {
    let (tree, _) = many_before("/send").await;
    freeze(&tree, &session(), "milan", 1).await;
    let navigli = tree.node("navigli");
    let _background = navigli.start();
    assert!(resolves(&tree, navigli.config().recovery_interval * 2).await);
}

#[tokio::test(start_paused = true)]
async fn g7_moves_to_a_node_that_is_away_keep_no_other_move_in_doubt() {
    let (tree, many) = many_before("/log").await;
    for (session, nonce) in many.iter().zip(2..) {
        freeze(&tree, session, "italy", nonce).await;
    }
    freeze(&tree, &session(), "milan", 1).await;
    let navigli = tree.node("navigli");
    let _background = navigli.start();
    // All workers wait for italy, once.
    let config = navigli.config();
    assert!(resolves(&tree, config.peer_timeout + config.recovery_interval * 2).await);
}
