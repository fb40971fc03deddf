//! A node that is taken out of the tree.

use super::*;
use crate::peers::messages::{RetireCall, RetireStep};

#[tokio::test(start_paused = true)]
async fn a_token_of_a_home_that_goes_leads_to_the_session_that_has_another_home_now() {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "one").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    let answer = tree.ask("milan", Request::get("/log")).await;
    let Ok(Answer::Response { token: old, .. }) = answer else { panic!("{answer:?}") };
    let rehome = RetireCall { node: name("navigli"), step: RetireStep::Rehome, cursor: None };
    assert_eq!(tree.node("milan").retire(&rehome).await.unwrap().done, 1);
    // Navigli redirects as long as it is there, and its token goes along.
    let answer = tree.ask("navigli", Request::get("/log")).await;
    let Ok(Answer::Redirect { token: Some(token), .. }) = answer else { panic!("{answer:?}") };
    for token in [token, old.clone()] {
        let answer = tree.ask_with("milan", Some(token), Request::post("/log").text("more")).await;
        assert!(
            matches!(&answer, Ok(Answer::Response { token, .. })
                if token.proprietary_location == name("milan")),
            "{answer:?}"
        );
    }
    assert_eq!(tree.offload("milan").await.unwrap(), "italy");
    let answer = tree.ask_with("milan", Some(old), Request::get("/log")).await;
    assert!(
        matches!(&answer, Ok(Answer::Redirect { to, .. }) if *to == name("italy")),
        "{answer:?}"
    );
    assert_eq!(tree.read("navigli").await, ("one,more,more".to_owned(), "italy".to_owned()));
}
