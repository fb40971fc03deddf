//! A node that was given up, and returns.

use super::*;

#[tokio::test(start_paused = true)]
async fn g2_a_home_that_was_given_up_learns_who_has_its_session_now() {
    let tree = Tree::start(|config| config.pointer_ttl = Duration::from_secs(5));
    tree.write("navigli", "one").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    assert_eq!(tree.offload("milan").await.unwrap(), "italy");
    // It comes home, and italy, where it was, does not hear of it any more.
    tree.loses(|from, call| {
        let done = String::from_utf8_lossy(&call.body).contains("\"done\"");
        *from == name("navigli") && call.endpoint == "migrate-session" && done
    });
    tree.node("navigli").force_onload(Some(session()), 1).await.unwrap();
    for place in ["italy", "milan"] {
        tree.node(place).give_up_node(&name("navigli")).await.unwrap();
    }
    // It goes on without navigli, and from italy to milan.
    tree.node("milan").force_onload(Some(session()), 1).await.unwrap();
    tree.write("milan", "two").await;
    tree.loses(|_, _| false);
    let navigli = tree.node("navigli");
    let _background: Vec<_> = ["navigli", "milan", "italy"].map(|at| tree.node(at).start()).into();
    let record =
        || async { tree.stores[&name("navigli")].snapshot(&session()).await.unwrap().slot.record };
    while !matches!(record().await, Some(Record::Moved { .. })) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for place in ["italy", "milan"] {
        tree.node(place).readmit_node(&name("navigli")).await.unwrap();
    }
    // Long enough for the pointer at italy to go, and for home to confirm its own.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let known = navigli.whereabouts(&session()).await.unwrap();
    assert_eq!(known.location, name("milan"));
    assert_eq!(tree.read("navigli").await, ("one,two".to_owned(), "milan".to_owned()));
}
