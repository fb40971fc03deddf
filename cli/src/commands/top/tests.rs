//! A small tree, as nodes and oracles tell of it, on a screen of text.

mod keys;
mod screens;

use std::sync::Arc;

use funicular::peers::messages::NodeStatus;
use funicular::session::{FunctionName, NodeName, SessionId};
use funicular::topology::Topology;
use funicular_dashboard::watch::answers::{FunctionAnswer, NodeAnswer};
use funicular_dashboard::watch::assemble::Memory;
use funicular_dashboard::watch::view::View;
use serde_json::{Value, json};

/// When all of this is, in milliseconds since 1970.
const NOW: u64 = 1_000_000;

const TREE: &str = "
levels: [country, city, district]
root:
  name: italy
  gateway: http://italy.test
  children:
    - name: milan
      gateway: http://milan.test
      children:
        - name: navigli
          gateway: http://navigli.test
        - name: brera
          gateway: http://brera.test
    - name: rome
      gateway: http://rome.test
      children:
        - name: trastevere
          gateway: http://trastevere.test
";

fn hash(session: &str) -> String {
    SessionId::new(session).unwrap().log_hash()
}

fn function(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// A function that answers with a status, with changes to a quiet one.
fn answer(node: &str, name: &str, changes: Value) -> FunctionAnswer {
    let mut status = json!({
        "node": node, "function": name, "replica": "r1", "version": "0.1.0", "wire_version": 2,
        "sessions": 0, "pending": 0, "in_flight": 0, "moves": 0, "leaving": 0, "waiting": 0,
        "status": "accept", "promise": "memory", "barred": [], "store": "ok",
        "activity": {"window_ms": 5000, "requests": 0}, "moved": [],
    });
    let (all, Value::Object(changes)) = (status.as_object_mut().unwrap(), changes) else {
        panic!("changes are an object")
    };
    all.extend(changes);
    let status: NodeStatus = serde_json::from_value(status).unwrap();
    FunctionAnswer { function: function(name), sessions: 64, status: Ok(Box::new(status)) }
}

fn session(id: &str, home: &str, bytes: u64, requests: u64) -> Value {
    json!({ "session": id, "home": home, "bytes": bytes, "idle_ms": 2_000, "requests": requests })
}

/// What a node says of its functions `cart` and `cdn`.
fn says(at: &str, cart: Value, cdn: Value) -> NodeAnswer {
    let functions = vec![answer(at, "cart", cart), answer(at, "cdn", cdn)];
    NodeAnswer { node: node(at), asked_ms: NOW, at_ms: NOW, functions: Ok(functions), oracle: None }
}

/// navigli is loaded, has moved `ada` to milan, and copies `bob` there; nobody hears of rome;
/// trastevere was not asked yet.
fn view() -> View {
    let topology = Arc::new(Topology::parse(TREE).unwrap());
    let all = topology.nodes().map(|node| node.name.clone()).collect();
    let mut memory = Memory::new(topology, all);
    memory.take(says("italy", json!({}), json!({})));
    memory.take(says("brera", json!({ "status": "reject" }), json!({})));
    let why = "`rome` does not answer (http://rome.test: connection refused); see that it runs \
               where the topology says";
    let (at_ms, functions) = (NOW - 95_000, Err(why.to_owned()));
    memory.take(NodeAnswer { node: node("rome"), asked_ms: at_ms, at_ms, functions, oracle: None });
    memory.take(milan(&json!([])));
    memory.take(navigli());
    memory.take(milan(&json!([{
        "number": 0, "session": "ada", "home": "navigli", "from": "navigli", "epoch": 2,
        "bytes": 3_400, "took_ms": 2.13, "downtime_ms": 0.8, "ago_ms": 9_000,
    }])));
    memory.view(NOW)
}

fn milan(moved: &Value) -> NodeAnswer {
    let copy = json!({ "session": hash("bob"), "from": "navigli", "copied": 300, "bytes": 900, "round": 0 });
    let cart = json!({
        "sessions": 1, "moves": 1, "listed": [session("ada", "navigli", 3_400, 5)],
        "copies": [copy], "moved": moved,
        "activity": { "window_ms": 5000, "requests": 5, "latency_p50_us": 400,
            "latency_p99_us": 1_240, "queue_wait_p99_us": 90 },
    });
    says("milan", cart, json!({}))
}

fn navigli() -> NodeAnswer {
    let cart = json!({
        "sessions": 3, "in_flight": 12, "leaving": 1,
        "listed": [session("bob", "navigli", 900, 200), session("carla", "navigli", 64_000, 400),
            session("dora", "navigli", 1_200, 0)],
        "activity": { "window_ms": 5000, "requests": 600, "latency_p50_us": 2_300,
            "latency_p99_us": 45_400, "queue_wait_p99_us": 31_000 },
    });
    let cdn = json!({ "sessions": 200, "listed": [session("video", "navigli", 4_000_000, 10)] });
    let oracle = json!({
        "mode": "acting",
        "sources": [], "signals": [{ "signal": "memory", "value": 0.912 }],
        "functions": [{ "function": "cart", "phase": "relieving", "why": "queue-wait is 31 ms",
            "would_change": [] }],
        "decisions": [{ "id": 1, "time_ms": NOW - 9_100, "outcome": "done", "detail": "now at milan",
            "decision": { "function": "cart", "rule": "queue-wait", "why": "queue-wait is 29 ms",
                "action": { "do": "offload", "session": hash("ada"), "bytes": 3_400 } } }],
    });
    let oracle = Some(Ok(serde_json::from_value(oracle).unwrap()));
    NodeAnswer { oracle, ..says("navigli", cart, cdn) }
}
