//! A node whose store was put back to a backup.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::node::RESTORING;
use crate::peers::messages::{NameAnswer, NamedSession, RestoreAction, RestoreCall, RestoreState};
use crate::protocol::Fate;

const TURN: &str = "restore/turn";

fn begin(without: &[&str]) -> RestoreCall {
    let without = without.iter().map(|node| name(node)).collect();
    RestoreCall { action: RestoreAction::Start, without, begin: true }
}

async fn is_marked(tree: &Tree) -> bool {
    tree.stores[&name("milan")].setting(RESTORING).await.unwrap().is_some()
}

/// How long ago somebody said that he is at work, and who.
async fn turn(tree: &Tree) -> (u64, String) {
    let store = &tree.stores[&name("milan")];
    let turn = store.setting(TURN).await.unwrap().expect("somebody is at work");
    let (who, at) = turn.split_once(' ').expect("a time");
    (store.now().await.unwrap() - at.parse::<u64>().unwrap(), who.to_owned())
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn g1_one_that_others_move_while_they_are_asked_has_one_owner() {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "one").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    let slot = tree.stores[&name("milan")].snapshot(&session()).await.unwrap().slot;
    let asked = AtomicU32::new(0);
    *tree.changes.lock() = Box::new(move |call, mut answer| {
        if call.endpoint != "name-sessions" {
            return answer;
        }
        let mut names: NameAnswer = serde_json::from_slice(&answer.body).unwrap();
        let asks = serde_json::from_slice::<serde_json::Value>(&call.body).unwrap();
        let of = NamedSession::of(session(), &slot).unwrap();
        if asks["sessions"] == serde_json::json!(["s"]) {
            let epoch = of.epoch + 2;
            if names.node == name("navigli") {
                // It had it back since the backup, and sends it to the root meanwhile.
                let (state, to) = ("moved".to_owned(), Some(name("italy")));
                names.named = vec![NamedSession { state, epoch, to, ..of }];
            } else if names.node == name("italy") && asked.fetch_add(1, Ordering::Relaxed) > 0 {
                names.named = vec![NamedSession { epoch, ..of }];
            }
        }
        answer.body = serde_json::to_vec(&names).unwrap().into();
        answer
    });
    let milan = tree.node("milan");
    let _background = milan.start();
    milan.restore(&begin(&[])).await.unwrap();
    seconds(5).await;
    let status = milan.restore(&RestoreCall { action: RestoreAction::Show, ..begin(&[]) }).await;
    let status = status.unwrap();
    assert_eq!((status.state, status.fates.get(&Fate::Given)), (RestoreState::Done, Some(&1)));
    let slot = tree.stores[&name("milan")].snapshot(&session()).await.unwrap().slot;
    assert!(
        matches!(&slot.record, Some(Record::Moved { to, .. }) if *to == name("italy")),
        "{slot:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn g1_who_has_lost_the_turn_ends_no_restore() {
    let tree = Tree::start(|_| {});
    let milan = tree.node("milan");
    let _background = milan.start();
    *tree.silent.lock() = Some(name("navigli"));
    milan.restore(&begin(&[])).await.unwrap();
    seconds(1).await;
    // A call takes longer than a silent worker is believed to be at work.
    let own = turn(&tree).await.1;
    for _ in 0..30 {
        seconds(1).await;
        let (age, who) = turn(&tree).await;
        assert!(age < 5000 && who == own, "{age} {who}");
    }
    // Another replica has taken it all the same, and is at work from now on.
    let store = &tree.stores[&name("milan")];
    *tree.silent.lock() = None;
    for _ in 0..20 {
        let now = store.now().await.unwrap();
        store.set_setting(TURN, Some(&format!("another {now}"))).await.unwrap();
        seconds(1).await;
        assert!(is_marked(&tree).await);
        assert_eq!(turn(&tree).await.1, "another");
    }
    // It is gone.
    seconds(20).await;
    assert!(!is_marked(&tree).await);
    assert_eq!(store.setting(TURN).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn g1_a_store_that_is_served_is_not_restored_by_mistake() {
    let tree = Tree::start(|_| {});
    let milan = tree.node("milan");
    let refused = milan.restore(&RestoreCall::default()).await;
    let Err(Failure::RestoreRefused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("--status") && why.contains("--begin"), "{why}");
    assert!(!is_marked(&tree).await);
}

#[tokio::test(start_paused = true)]
async fn g1_what_was_decided_without_a_node_is_not_undone() {
    let tree = Tree::start(|_| {});
    let milan = tree.node("milan");
    let _background = milan.start();
    *tree.silent.lock() = Some(name("navigli"));
    // Nothing is decided yet: who was given up by mistake is waited for.
    milan.restore(&begin(&["italy"])).await.unwrap();
    seconds(5).await;
    milan.restore(&begin(&[])).await.unwrap();
    seconds(20).await;
    milan.restore(&begin(&["navigli"])).await.unwrap();
    tree.stores[&name("milan")]
        .set_setting("restore/decided", Some("[\"navigli\"]"))
        .await
        .unwrap();
    for without in [&[][..], &["italy"]] {
        let refused = milan.restore(&begin(without)).await;
        let Err(Failure::RestoreRefused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("go on with `funicular restore milan --without navigli`"), "{why}");
    }
    milan.restore(&begin(&["italy", "navigli"])).await.unwrap();
    seconds(30).await;
    assert!(!is_marked(&tree).await);
    // The next restore begins with nothing decided.
    *tree.silent.lock() = None;
    milan.restore(&begin(&[])).await.unwrap();
    seconds(5).await;
    assert!(!is_marked(&tree).await);
}
