//! Requests of every kind with a crash in the middle: all nodes are processes
//! with a Redis of their own (`appendfsync always`).

mod expiry;
mod handlers;
mod idle;
mod invoke;
mod propagate;
mod reads;

use std::time::Duration;

use funicular_tests::client::Client;
use funicular_tests::tree::{Plan, Store, Tree};
use reqwest::Method;

/// The session of these tests.
const SESSION: &str = "s";
/// How long a client repeats a request, and how long a test waits for what has to
/// come: far above what anything here takes, for machines under load.
const PATIENCE: Duration = Duration::from_secs(20);

/// Three nodes, navigli below milan below italy, that serve `probe`.
fn line() -> Plan {
    Tree::line(Store::Redis("always"))
}

fn client(tree: &Tree) -> Client {
    Client::new(tree.gateway("navigli"), SESSION)
}

/// The whole log, as a client reads it who enters at `node`.
async fn log_at(tree: &Tree, node: &str) -> Vec<String> {
    Client::new(tree.gateway(node), SESSION).send(Method::GET, "/log", "").await.expect(200).json()
}

/// A request that is repeated under its id until it is answered, on its own.
fn write_in_background(
    tree: &Tree,
    path: &'static str,
    body: &'static str,
    id: &'static str,
) -> tokio::task::JoinHandle<funicular_tests::client::Answer> {
    let mut client = client(tree);
    tokio::spawn(async move { client.write_once(path, body, id, PATIENCE).await })
}
