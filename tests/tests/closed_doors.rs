//! G8 between nodes: whoever is not who they say, says it late or twice, or speaks
//! for others is refused, and nothing has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use funicular::http::signature::{Call, Caller, Keys, Role, Secret};
use funicular::session::{FunctionName, NodeName, Nonce};
use funicular_tests::client::Client;
use funicular_tests::operator::{Operator, unix_ms};
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(15);

/// A tree with the session `s` at navigli.
async fn with_a_session(store: Store) -> (Tree, Client) {
    let tree = Tree::line(store).set("recovery_interval", "300ms").start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    client.send(Method::POST, "/log", "one").await.expect(200);
    (tree, client)
}

/// Everything that every node knows of `s`, and how much else it knows.
async fn records(tree: &Tree) -> Vec<Value> {
    let operator = tree.operator();
    let mut all = Vec::new();
    for node in tree.nodes() {
        let known = operator.post(node, "test-function", &json!({"session": "s"})).await.body;
        let status = operator.status(node).await;
        all.push(json!([node, known, status.sessions, status.pending, status.status]));
    }
    all
}

/// What only nodes may call, with a content that would do something to `s`.
async fn calls_of_nodes(tree: &Tree, target: &str) -> Vec<(&'static str, Value)> {
    let known = tree.operator().whereabouts("navigli", "s").await.expect("it is there");
    let token = serde_json::to_value(&known.token).expect("JSON");
    let mut newer = token.clone();
    newer["epoch"] = 9.into();
    newer["currentLocation"] = target.into();
    newer["expired"] = false.into();
    let step = |phase: &str, epoch: u64| {
        json!({
            "session": "s", "phase": phase, "home": "navigli", "target": target,
            "incarnation": token["incarnation"], "epoch": epoch, "nonce": "0".repeat(32),
        })
    };
    vec![
        ("offload-session", token.clone()),
        ("onload-session", json!({"location": "navigli", "session": "s"})),
        ("update-session", newer),
        ("migrate-session", step("open", 2)),
        ("migrate-session", step("freeze", 2)),
        ("migrate-session", step("done", 9)),
        ("migrate-session", step("ask", 2)),
        (
            "receive-propagate",
            json!({"id": "x", "function": "probe", "session": "s", "from": "milan", "value": "eA=="}),
        ),
    ]
}

fn calls_of_operators() -> Vec<(&'static str, Value)> {
    vec![
        ("force-offload", json!({"session": "s"})),
        ("force-onload", json!({})),
        ("set-offload-status", json!({"status": "reject"})),
        ("recover", json!({"lost": "milan"})),
        ("status", json!({})),
        ("test-function", json!({"session": "s"})),
    ]
}

/// Signs a call to navigli with keys of one's own choice.
fn signed(keys: &Keys, function: &str, role: Role, path: &str, body: &str) -> String {
    let function = FunctionName::new(function).expect("a name");
    let here = NodeName::new("navigli").expect("a name");
    let caller = Caller { role, name: NodeName::new("milan").expect("a name") };
    let call = Call { method: "POST", path, body: body.as_bytes(), ..Call::to(&here) };
    let nonce = Nonce(rand::random());
    let signed = keys.for_function(&function).sign(&caller, &call, unix_ms(), nonce);
    signed.expect("a key").header().to_owned()
}

/// Signatures for this call to navigli that are wrong, each with what it is.
fn wrong_signatures(
    tree: &Tree,
    operator: &Operator<'_>,
    role: Role,
    path: &str,
    body: &str,
) -> Vec<(&'static str, Option<String>)> {
    let now = unix_ms();
    let sign = |target: &str, what: (&str, &str, &str), body: &str, time: u64| {
        Some(operator.signature((role, "milan"), target, what, body.as_bytes(), time))
    };
    let post = ("POST", path, "");
    let good = sign("navigli", post, body, now).expect("a signature");
    let (mine, theirs) = match role {
        Role::Peer => ("role=peer", "role=operator"),
        Role::Operator => ("role=operator", "role=peer"),
    };
    let ours = Keys::from_dir(tree.dir()).expect("the keys");
    let guess = || Secret::new(b"a secret that somebody else made up").ok();
    let mut others = Keys::from_dir(tree.dir()).expect("the keys");
    others.operator = guess();
    if let (Some(peer), Some(guess)) = (&mut others.peer, guess()) {
        peer.current = guess;
    }
    vec![
        ("unsigned", None),
        ("not a signature", Some("v=1;hello".to_owned())),
        ("cut off", Some(good[..good.len() - 4].to_owned())),
        ("another role", Some(good.replace(mine, theirs))),
        ("another caller", Some(good.replace("from=milan", "from=italy"))),
        ("another node", sign("milan", post, body, now)),
        ("another path", sign("navigli", ("POST", "/_/health", ""), body, now)),
        ("another method", sign("navigli", ("GET", path, ""), body, now)),
        ("another query", sign("navigli", ("POST", path, "session=s"), body, now)),
        ("another body", sign("navigli", post, "{}  ", now)),
        ("late", sign("navigli", post, body, now - 61_000)),
        ("early", sign("navigli", post, body, now + 66_000)),
        ("another function", Some(signed(&ours, "cart", role, path, body))),
        ("another secret", Some(signed(&others, "probe", role, path, body))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_calls_without_a_good_signature_do_nothing() {
    let (tree, _client) = with_a_session(Store::Memory).await;
    let operator = tree.operator();
    let before = records(&tree).await;
    let peers = calls_of_nodes(&tree, "milan").await.into_iter().map(|call| (Role::Peer, call));
    let operators = calls_of_operators().into_iter().map(|call| (Role::Operator, call));
    for (role, (endpoint, body)) in peers.chain(operators) {
        let (path, body) = (format!("/_/{endpoint}"), body.to_string());
        for (what, signature) in wrong_signatures(&tree, &operator, role, &path, &body) {
            let answer =
                operator.send("navigli", endpoint, body.clone(), signature.as_deref()).await;
            assert_eq!(answer.status, 401, "{endpoint}, {what}: {answer:?}");
            assert!(answer.body["code"].is_string(), "{endpoint}, {what}: {answer:?}");
        }
    }
    assert_eq!(records(&tree).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_signature_counts_once() {
    let (tree, _client) = with_a_session(Store::Memory).await;
    let operator = tree.operator();
    let body = r#"{"session":"s"}"#;
    let path = "/_/force-offload";
    let caller = (Role::Operator, "test");
    let signature =
        operator.signature(caller, "navigli", ("POST", path, ""), body.as_bytes(), unix_ms());
    let first = operator.send("navigli", "force-offload", body.into(), Some(&signature)).await;
    assert_eq!(first.status, 200, "{first:?}");
    operator.onload("navigli", "s").await;
    let again = operator.send("navigli", "force-offload", body.into(), Some(&signature)).await;
    assert_eq!((again.status, again.body["code"].as_str()), (401, Some("replayed-call")));
    assert_eq!(operator.settled("s", PATIENCE).await, "navigli");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_operators_do_not_speak_as_nodes() {
    let (tree, _client) = with_a_session(Store::Memory).await;
    let operator = tree.operator();
    let before = records(&tree).await;
    for (endpoint, body) in calls_of_nodes(&tree, "milan").await {
        let answer = operator.post("navigli", endpoint, &body).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some("wrong-role")));
    }
    assert_eq!(records(&tree).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_nodes_outside_the_topology_and_nodes_that_speak_for_others_are_refused() {
    let (tree, _client) = with_a_session(Store::Memory).await;
    let operator = tree.operator();
    let before = records(&tree).await;
    for (endpoint, body) in calls_of_nodes(&tree, "naples").await {
        let answer = operator.post_as((Role::Peer, "naples"), "navigli", endpoint, &body).await;
        let code = answer.body["code"].as_str();
        assert_eq!((answer.status, code), (403, Some("unknown-peer")), "{endpoint}: {answer:?}");
    }
    // Italy is a node, but not the target that it speaks for.
    for (endpoint, body) in calls_of_nodes(&tree, "milan").await {
        if endpoint == "migrate-session" {
            let answer = operator.post_as((Role::Peer, "italy"), "navigli", endpoint, &body).await;
            assert_eq!(answer.status, 400, "{body}: {answer:?}");
        }
    }
    // Nor may a node take sessions for another, or offer those of others.
    let take = json!({"location": "navigli", "max_sessions": 10});
    let answer = operator.post_as((Role::Peer, "milan"), "italy", "onload-session", &take).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(records(&tree).await, before);
}

/// A server that pretends to be a node: it answers every call as the asker would
/// like it, without a signature, or with the call's own sent back.
struct Impostor {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Impostor {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, reflects) = (Arc::clone(&asked), Arc::new(AtomicBool::new(false)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let reflects = reflects.fetch_xor(true, Ordering::SeqCst);
                tokio::spawn(pretend(stream, reflects));
            }
        });
        Self { port, asked }
    }

    async fn was_asked(&self, times: usize) {
        let limit = tokio::time::Instant::now() + PATIENCE;
        while self.asked.load(Ordering::SeqCst) < times {
            assert!(tokio::time::Instant::now() < limit, "nobody asks the impostor");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn pretend(mut stream: TcpStream, reflects: bool) -> Option<()> {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && serde_json::from_str::<Value>(body).is_ok()
        {
            break (head.to_owned(), serde_json::from_str::<Value>(body).expect("JSON"));
        }
    };
    let call: &Value = &body;
    let answer = if head.contains("migrate-session") {
        json!({"session": call["session"], "epoch": call["epoch"], "node": "milan",
            "installed": true, "agreed": true})
    } else {
        let mut token = call.clone();
        token["currentLocation"] = "milan".into();
        token["epoch"] = 2.into();
        json!({"token": token, "accepted_by": "milan", "bytes": 1, "took_ms": 1.0,
            "downtime_ms": 1.0, "tokens": [], "location": "milan"})
    };
    let signature = head.lines().find(|line| line.to_lowercase().starts_with("x-funicular"));
    let signature = signature.filter(|_| reflects).map_or(String::new(), |l| format!("{l}\r\n"));
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\n{signature}connection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    stream.write_all(format!("{head}{answer}").as_bytes()).await.ok()
}

/// Lets navigli, started anew, believe that milan is at the impostor's.
async fn deceive(tree: &mut Tree, impostor: &Impostor) {
    let real = tree.base("milan");
    let lie = tree.topology().replace(&real, &format!("http://127.0.0.1:{}", impostor.port));
    let path = tree.dir().join("lie.yaml");
    std::fs::write(&path, lie).expect("a topology");
    let site = tree.site("navigli");
    site.set("FUNICULAR_TOPOLOGY", &path.display().to_string());
    site.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_an_impostors_answers_are_none() {
    let (mut tree, mut client) = with_a_session(Store::Redis("always")).await;
    let impostor = Impostor::start().await;
    deceive(&mut tree, &impostor).await;
    tree.site("italy").kill9();
    for _ in 0..2 {
        let before = impostor.asked.load(Ordering::SeqCst);
        let offload =
            tree.operator().post("navigli", "force-offload", &json!({"session": "s"})).await;
        assert_eq!(offload.status, 503, "{offload:?}");
        impostor.was_asked(before + 1).await;
        let known = tree.operator().whereabouts("navigli", "s").await.expect("it is there");
        assert_eq!(known.state, "owned");
    }
    assert_eq!(client.send(Method::POST, "/log", "two").await.expect(200).text(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_frozen_session_waits_for_an_answer_that_is_signed() {
    let (mut tree, mut client) = with_a_session(Store::Redis("always")).await;
    let staged = tree.hold("milan", "target.staged");
    let moving = tree.operator().begin("navigli", "force-offload", &json!({"session": "s"}));
    staged.reached().await;
    tree.site("milan").kill9();
    let impostor = Impostor::start().await;
    deceive(&mut tree, &impostor).await;
    impostor.was_asked(4).await;
    let known = tree.operator().whereabouts("navigli", "s").await.expect("it is there");
    assert_eq!((known.state.as_str(), known.keys), ("migrating", Some(2)));
    // The real one is back, and has the last word.
    staged.release();
    tree.site("milan").launch();
    let path = tree.dir().join("topology.yaml").display().to_string();
    tree.site("navigli").set("FUNICULAR_TOPOLOGY", &path);
    tree.site("navigli").restart().await;
    assert_eq!(tree.operator().settled("s", PATIENCE).await, "navigli");
    assert_eq!(client.send(Method::POST, "/log", "two").await.expect(200).text(), "1");
    let _ = moving.await;
}
