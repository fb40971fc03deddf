//! G8 towards clients: whatever they send, it is answered, changes nothing that it
//! should not, leads nowhere outside the topology, and leaves no trace in the logs.

use std::time::Duration;

use funicular::session::{SessionId, SessionToken};
use funicular_tests::client::Client;
use funicular_tests::tree::{Plan, Store, Tree};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a node answers to these very bytes, up to the end of the connection.
async fn raw(tree: &Tree, node: &str, request: &[u8]) -> String {
    let address = tree.base(node).replace("http://", "");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // A server that has seen enough may stop reading.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    let is = |line: &&str| line.to_lowercase().starts_with(&format!("{name}: "));
    head.lines().find(is)?.split_once(": ").map(|(_, value)| value)
}

/// A request of one append with these header lines.
fn append(headers: &[&[u8]]) -> Vec<u8> {
    let mut request = b"POST /function/probe/log HTTP/1.1\r\nhost: x\r\n".to_vec();
    for line in headers {
        request.extend_from_slice(line);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"connection: close\r\ncontent-length: 1\r\n\r\nx");
    request
}

async fn sessions_at(tree: &Tree, node: &str) -> u64 {
    tree.operator().status(node).await.sessions
}

/// How many requests were refused by the server itself, before any of ours.
fn is_refused(answer: &str) {
    assert!([400, 431].contains(&status(answer)), "{answer}");
}

async fn line(change: impl FnOnce(Plan) -> Plan) -> Tree {
    change(Tree::line(Store::Memory)).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_ids_that_could_be_misread_touch_nothing() {
    let tree = line(|plan| plan).await;
    let long = [b"x-session: ".to_vec(), vec![b'x'; 300]].concat();
    let sessions: &[&[u8]] = &[
        b"x-session: a b",
        b"x-session: a\tb",
        b"x-session: a\x01b",
        b"x-session: a\x00b",
        b"x-session: a\x7fb",
        b"x-session: caf\xc3\xa9",
        b"x-session: \xff\xfe",
        b"x-session: ../../etc",
        b"x-session: a%2Fb",
        b"x-session: a%2fb",
        b"x-session: ",
        b"x-session:",
        b"x-other: a",
        b"x-session: a\r\n folded",
        b"x-session: a\nx-session: b",
        b"x-session: a\r\nx-session: a",
        b"X-Session: a\r\nx-session: b",
        b"x-session: a\rb",
        &long,
    ];
    for id in sessions {
        let answer = raw(&tree, "navigli", &append(&[id])).await;
        assert_eq!(status(&answer), 400, "{}: {answer}", id.escape_ascii());
    }
    let good = b"x-session: good".as_slice();
    let long = [b"x-session-request-id: ".to_vec(), vec![b'x'; 129]].concat();
    let requests: &[&[u8]] = &[
        b"x-session-request-id: a b",
        b"x-session-request-id: \xc3\xa9",
        b"x-session-request-id: ",
        b"x-session-request-id: a\r\nx-session-request-id: b",
        b"idempotency-key: a\tb",
        b"x-session-token: !!",
        b"x-session-token: eyJzZXNzaW9uIjoiYSBiIn0=",
        b"content-digest: sha-256=:AAAA:",
        &long,
    ];
    for id in requests {
        let answer = raw(&tree, "navigli", &append(&[good, id])).await;
        assert_eq!(status(&answer), 400, "{}: {answer}", id.escape_ascii());
    }
    assert_eq!(sessions_at(&tree, "navigli").await, 0);
    // As in the draft, an id may be nearly anything else.
    for id in ["x", "user-1@example.org", "{a}:b|c;d,e", "100%", &"y".repeat(256)] {
        let line = format!("x-session: {id}");
        let answer = raw(&tree, "navigli", &append(&[line.as_bytes()])).await;
        assert_eq!(status(&answer), 200, "{id}: {answer}");
    }
    assert_eq!(sessions_at(&tree, "navigli").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_body_that_is_too_large_is_read_and_refused() {
    let tree = line(|plan| plan.set("max_body", "1000")).await;
    let body = "x".repeat(3000);
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let framings = [
        format!("content-length: {}\r\n\r\n{body}", body.len()),
        format!("transfer-encoding: chunked\r\n\r\n{chunks}"),
    ];
    for framed in framings {
        // The connection goes on: the body was read, and the next request stands alone.
        let large =
            format!("POST /function/probe/log HTTP/1.1\r\nhost: x\r\nx-session: s\r\n{framed}");
        let next = "GET /function/probe/log HTTP/1.1\r\nhost: x\r\nx-session: s\r\n\
                    connection: close\r\n\r\n";
        let answers = raw(&tree, "navigli", format!("{large}{next}").as_bytes()).await;
        assert_eq!(status(&answers), 413, "{answers}");
        assert!(answers.contains(r#""code":"too-large""#), "{answers}");
        let second = answers.rfind("HTTP/1.1 ").map(|at| &answers[at..]).unwrap_or_default();
        assert_eq!(status(second), 200, "{answers}");
        assert!(second.ends_with("[]"), "{second}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_flood_of_headers_is_refused_and_the_node_goes_on() {
    let tree = line(|plan| plan).await;
    let many: Vec<String> = (0..2000).map(|n| format!("x-flood-{n}: y")).collect();
    let many: Vec<&[u8]> =
        many.iter().map(String::as_bytes).chain([b"x-session: s".as_slice()]).collect();
    is_refused(&raw(&tree, "navigli", &append(&many)).await);
    let huge = [b"x-flood: ".to_vec(), vec![b'y'; 2_000_000]].concat();
    is_refused(&raw(&tree, "navigli", &append(&[b"x-session: s", &huge])).await);
    is_refused(&raw(&tree, "navigli", b"\x16\x03\x01 nonsense\r\n\r\n").await);
    assert_eq!(sessions_at(&tree, "navigli").await, 0);
    let answer = raw(&tree, "navigli", &append(&[b"x-session: s"])).await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_path_stays_in_its_function_and_redirects_keep_it_byte_for_byte() {
    let tree = line(|plan| plan).await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    client.send(Method::POST, "/log", "one").await.expect(200);
    tree.operator().offload("navigli", "s").await;
    for path in [
        "/value/..%2f..%2f_%2fstatus?x=%0a%20../&y=%zz",
        "/value/..",
        "/value/%2e%2e?",
        "/value/a;b=c,d@e:f",
        "/value/%E2%82%AC?q=%E2%82%AC#",
        "/value/%0d%0aset-cookie:%20a=b",
    ] {
        let request = format!(
            "GET /function/probe{path} HTTP/1.1\r\nhost: evil.example\r\nx-session: s\r\n\
             x-forwarded-host: evil.example\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(&tree, "navigli", request.as_bytes()).await;
        assert_eq!(status(&answer), 307, "{path}: {answer}");
        // A fragment is not sent on; an empty query may go.
        let kept = path.trim_end_matches(['#', '?']);
        let place = header(&answer, "location").unwrap_or_default().trim_end_matches('?');
        assert_eq!(place, format!("{}{kept}", tree.gateway("milan")), "{answer}");
        assert!(!answer.to_lowercase().contains("\nset-cookie"), "{answer}");
    }
    for path in [
        "/function/probe/../probe/_/status",
        "/function/probe//_/status",
        "/function/probe/%5f/status",
        "/function/probe/./_/status",
        "/function/probe/x/../_/status",
        "/function/other/_/status",
        "/function/probe/_/../_/status",
        "/_/status",
        "/function/probe/_/status",
        "http://evil.example/function/probe/_/status",
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-session: t\r\ncontent-length: 2\r\n\
             connection: close\r\n\r\n{{}}"
        );
        let answer = raw(&tree, "navigli", request.as_bytes()).await;
        assert!([400, 401, 404, 405].contains(&status(&answer)), "{path}: {answer}");
    }
    assert_eq!(sessions_at(&tree, "navigli").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_forged_token_leads_nowhere_else_and_changes_nothing() {
    let tree = line(|plan| plan).await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let token = client.send(Method::POST, "/log", "one").await.expect(200).headers;
    let token = token["x-session-token"].to_str().expect("text").to_owned();
    let token = serde_json::to_value(SessionToken::decode(&token).expect("a token"));
    let token = token.expect("JSON");
    let forgeries = [
        ("currentLocation", json!("evil-example")),
        ("currentLocation", json!("milan")),
        ("currentLocation", json!("http://evil.example/")),
        ("proprietaryLocation", json!("evil-example")),
        ("proprietaryLocation", json!("italy")),
        ("session", json!("another")),
        ("function", json!("another")),
        ("epoch", json!(u64::MAX)),
        ("incarnation", json!("f".repeat(32))),
    ];
    for (member, value) in forgeries {
        let mut forged = token.clone();
        forged[member] = value.clone();
        for (session, node) in [("s", "navigli"), ("s", "milan"), ("s", "italy")] {
            let mut client = Client::new(tree.gateway(node), session);
            let headers = [("x-session-token", &*forged.to_string())];
            let answer = client.send_with(Method::GET, "/log", "", &headers).await;
            let what = format!("{member}={value} at {node}: {answer:?}");
            assert!([200, 400, 421, 503].contains(&answer.status), "{what}");
            assert!(answer.hops.iter().all(|hop| tree.node_at(hop).is_some()), "{what}");
            if answer.status == 200 {
                assert_eq!(answer.text(), r#"["one"]"#, "{what}");
            }
        }
    }
    assert_eq!(tree.operator().settled("s", PATIENCE).await, "navigli");
    for (node, sessions) in [("navigli", 1), ("milan", 0), ("italy", 0)] {
        assert_eq!(sessions_at(&tree, node).await, sessions, "{node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_logs_hold_no_secret_no_value_and_no_session_id() {
    let mut tree = line(|plan| plan.set("FUNICULAR_LOG", "debug")).await;
    let id = "the-session-of-a-person-4711";
    let ids = "the-session-of-a-person";
    let mut client = Client::new(tree.gateway("navigli"), id);
    client.send(Method::POST, "/log", "the-value-of-a-person").await.expect(200);
    client.send(Method::POST, "/panic", "the-value-of-a-person").await.expect(500);
    let mut sends = client.session("the-session-of-a-person-4712");
    sends.send(Method::POST, "/propagate?levels=*", "the-value-of-a-person").await.expect(200);
    let bad = [("x-session-token", "not a token"), ("x-session-request-id", "a b")];
    client.send_with(Method::POST, "/log", "x", &bad).await.expect(400);
    let operator = tree.operator();
    operator.offload("navigli", id).await;
    operator.post("navigli", "force-offload", &json!({"session": id})).await;
    operator.send("milan", "status", "{}".into(), Some("v=1;kid=x;wrong")).await;
    client.send(Method::GET, "/log", "").await.expect(200);
    assert_eq!(operator.settled(id, PATIENCE).await, "milan");
    let hash = SessionId::new(id).expect("an id").log_hash();
    let secrets = ["session-peer-key", "session-operator-key"]
        .map(|name| std::fs::read_to_string(tree.dir().join(name)).expect("a secret"));
    let mut hashed = 0;
    for node in ["navigli", "milan", "italy"] {
        let log = tree.site(node).log();
        // The last is how a token begins.
        for word in [ids, &secrets[0], &secrets[1], "the-value-of-a-person", "eyJzZXNzaW9u"] {
            let line = log.lines().find(|line| line.contains(word));
            assert!(line.is_none(), "{node} logs {word}: {line:?}");
        }
        hashed += log.matches(&hash).count();
    }
    assert!(hashed > 0, "nothing can be found by the session's hash");
}
