//! A parent that cannot take a session is no obstacle on its way up, and a path
//! that would lead out of the function is not forwarded.

use funicular_tests::client::Client;
use funicular_tests::on_each_store;
use funicular_tests::people::curl;
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;

on_each_store! {
    g5_a_parent_without_room_is_passed_over
    g8_a_forwarded_path_does_not_leave_the_function
}

async fn g5_a_parent_without_room_is_passed_over(store: Store) {
    let mut tree = Tree::line(store).start().await;
    // It learns how large the session is only once the source has agreed.
    tree.site("milan").set("max_session_bytes", "100");
    tree.site("milan").restart().await;
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    client.send(Method::POST, "/log", "x".repeat(200)).await.expect(200);
    let report = tree.operator().offload("navigli", "ada").await;
    assert_eq!(report.accepted_by.as_str(), "italy");
    let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(log, ["x".repeat(200)]);
    assert!(tree.operator().whereabouts("milan", "ada").await.is_none());
}

async fn g8_a_forwarded_path_does_not_leave_the_function(store: Store) {
    let tree = Tree::line(store).function("cdn").start().await;
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    client.send(Method::PUT, "/file", "one").await.expect(201);
    tree.operator().offload("navigli", "ada").await;
    for (path, expected) in [
        ("/file", "200"),
        ("/../../../healthz", "400"),
        ("/%2e%2e/%2e%2e/%2e%2e/healthz", "400"),
        ("/a/./file", "400"),
    ] {
        let url = format!("{}{path}", tree.gateway("navigli"));
        let status = ["-o", "/dev/null", "-w", "%{http_code}", "--path-as-is"];
        let headers = ["-H", "X-session: ada", "-H", "X-session-forward: 1"];
        let args: Vec<&str> = status.into_iter().chain(headers).chain([url.as_str()]).collect();
        assert_eq!(String::from_utf8_lossy(&curl(&args, None).await), expected, "{path}");
    }
}
