use super::*;
use crate::client::tests::{Nodes, function};

fn status(state: &str, moved: u64, left: u64) -> Value {
    json!({ "state": state, "moved": moved, "left": left, "failing": 0 })
}

fn node_status(drain: &Value) -> Value {
    json!({
        "node": "navigli", "function": "cart", "version": "0.1.0", "wire_version": 1,
        "sessions": drain["left"].as_u64().unwrap_or(0), "pending": 0, "in_flight": 0, "moves": 0,
        "status": "accept", "promise": "always", "barred": [], "store": "ok", "drain": drain,
    })
}

/// A drain of navigli's cart that is under way, as the node says.
async fn begun(nodes: &Nodes, client: &Client) -> (Topology, Vec<Far>) {
    nodes.answers("navigli", "cart", "POST", "/_/drain", 200, &status("moving", 0, 9)).await;
    let topology = nodes.topology();
    let far = drain(&topology, client).tell(DrainAction::Start).await.unwrap();
    (topology, far)
}

fn drain<'a>(topology: &'a Topology, client: &'a Client) -> Drain<'a> {
    let node = node(topology, &NodeName::new("navigli").unwrap()).unwrap();
    Drain { client, node, functions: vec![function("cart")] }
}

async fn end(states: &[(&str, Value)], at_most: Option<Duration>) -> (Vec<Far>, End) {
    let nodes = Nodes::start().await;
    for (function, drain) in states {
        nodes.answers("navigli", function, "GET", "/_/status", 200, &node_status(drain)).await;
    }
    let client = nodes.client();
    let (topology, far) = begun(&nodes, &client).await;
    assert_eq!(nodes.last_body("navigli").await, json!({ "action": "start" }));
    watched(&topology, &client, far, at_most).await
}

async fn watched(
    topology: &Topology,
    client: &Client,
    far: Vec<Far>,
    at_most: Option<Duration>,
) -> (Vec<Far>, End) {
    let drain = drain(topology, client);
    let progress = Progress::new(drain.node, true);
    drain.watch(far, at_most, progress).await.unwrap()
}

#[tokio::test]
async fn it_waits_until_no_session_is_left() {
    let (far, how) = end(&[("cart", status("empty", 9, 0))], None).await;
    assert_eq!((how, total(&far).moved), (End::Empty, 9));
    let at_most = Some(Duration::from_millis(600));
    let (far, how) = end(&[("cart", status("moving", 4, 5))], at_most).await;
    assert_eq!((how, total(&far).left), (End::Late, 5));
    let (_, how) = end(&[("cart", Value::Null)], None).await;
    assert_eq!(how, End::Stopped);
}

#[tokio::test]
async fn a_node_without_its_store_is_not_empty_but_silent() {
    let nodes = Nodes::start().await;
    let mut gone = node_status(&status("empty", 0, 0));
    gone["store"] = "gone".into();
    nodes.answers("navigli", "cart", "GET", "/_/status", 200, &gone).await;
    let client = nodes.client();
    let (topology, far) = begun(&nodes, &client).await;
    let error = drain(&topology, &client).ask().await.unwrap_err();
    assert!(!error.says_no(), "it is waited for");
    let error = error.to_string();
    assert!(error.starts_with("`navigli` does not answer (its Redis, of `cart`: gone)"), "{error}");
    let at_most = Some(Duration::from_millis(600));
    let (far, how) = watched(&topology, &client, far, at_most).await;
    assert_eq!((how, total(&far).left), (End::Late, 9), "what it said last");
}

#[tokio::test]
async fn a_node_that_hangs_does_not_outlast_the_wait() {
    let nodes = Nodes::start().await;
    // Heard to its end, it would be empty.
    let late = (&node_status(&status("empty", 9, 0)), Duration::from_secs(15));
    nodes.answers_late("navigli", "cart", "GET", "/_/status", late).await;
    let client = nodes.client();
    let (topology, far) = begun(&nodes, &client).await;
    let at_most = Some(Duration::from_millis(600));
    assert_eq!(watched(&topology, &client, far, at_most).await.1, End::Late);
}

#[tokio::test]
async fn only_funiculars_functions_are_drained() {
    let nodes = Nodes::start().await;
    nodes.lists_figlet_and("navigli", &["cart", "work"]).await;
    for name in ["cart", "work"] {
        let at_work = node_status(&Value::Null);
        nodes.answers("navigli", name, "GET", "/_/status", 200, &at_work).await;
        nodes.answers("navigli", name, "POST", "/_/drain", 200, &status("moving", 0, 9)).await;
    }
    let (topology, client) = (nodes.topology(), nodes.client());
    let navigli = node(&topology, &NodeName::new("navigli").unwrap()).unwrap();
    let functions = functions(&client, navigli, &[]).await.unwrap();
    let drain = Drain { client: &client, node: navigli, functions };
    assert_eq!(total(&drain.tell(DrainAction::Start).await.unwrap()).left, 18);
    let mut told = Vec::new();
    for name in ["cart", "figlet", "work"] {
        told.push(nodes.posts("navigli", name).await);
    }
    assert_eq!(told, [1, 0, 1]);
}

#[tokio::test]
async fn what_is_left_and_why_is_told() {
    let nodes = Nodes::start().await;
    let topology = nodes.topology();
    let navigli = node(&topology, &NodeName::new("navigli").unwrap()).unwrap();
    let far = |drain: Value| {
        vec![Far { function: function("cart"), status: serde_json::from_value(drain).unwrap() }]
    };
    let waiting = far(json!({
        "state": "waiting", "moved": 7, "left": 3, "failing": 2,
        "reasons": [{ "why": "milan refuses: no room", "sessions": 2 }],
        "waits_for": "milan refuses: no room",
    }));
    assert_eq!(
        text(navigli, &waiting),
        "cart at `navigli`: waiting, 7 moved, 3 left, 2 failing\n  waits: milan refuses: no \
         room\n  2 sessions cannot go: milan refuses: no room"
    );
    assert_eq!(
        unfinished(navigli, &waiting),
        "`navigli` is not empty; 3 sessions are left, and it goes on"
    );
    let off = far(status("off", 0, 1));
    assert_eq!(unfinished(navigli, &off), "`navigli` is not being drained; 1 session is left");
    assert_eq!(plain(navigli, &waiting)["functions"][0]["function"], "cart");
}

#[tokio::test]
async fn the_root_is_not_drained() {
    let nodes = Nodes::start().await;
    let topology = nodes.topology();
    let error = drainable(&topology, &NodeName::new("italy").unwrap()).unwrap_err();
    assert!(error.to_string().contains("is the root and cannot be drained"), "{error}");
}
