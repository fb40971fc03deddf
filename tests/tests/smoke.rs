use std::time::Duration;
use funicular_tests::client::Client;
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;

async fn story(store: Store) {
    let tree = Tree::italy(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    client.send(Method::POST, "/log", "one").await.expect(200);
    let report = tree.operator().offload("navigli", "ada").await;
    eprintln!("{report:?}");
    let answer = client.send(Method::POST, "/log", "two").await.expect(200);
    eprintln!("{:?}", answer.hops);
    let report = tree.operator().offload("milan", "ada").await;
    eprintln!("{report:?}");
    let answer = client.send(Method::POST, "/log", "three").await.expect(200);
    eprintln!("{:?}", answer.hops);
    let report = tree.operator().onload("navigli", "ada").await;
    eprintln!("{report:?}");
    let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(log, ["one", "two", "three"]);
    assert_eq!(tree.operator().settled("ada", Duration::from_secs(2)).await, "navigli");
}

#[tokio::test]
async fn memory() { story(Store::Memory).await; }
#[tokio::test]
async fn redis() { story(Store::Redis("always")).await; }
