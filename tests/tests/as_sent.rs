//! Requests reach their handler as they were sent, on whichever node it runs.

use funicular_tests::client::Client;
use funicular_tests::on_each_store;
use funicular_tests::people::{Body, Person, curl};
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

on_each_store! {
    redirects_keep_path_and_query_byte_for_byte
    bytes_that_are_not_ascii_are_redirected_as_they_came
    a_redirect_is_for_now_and_for_this_session
    sessions_are_named_by_any_visible_characters
    what_is_no_session_is_refused
    head_is_get_without_the_body
    options_are_answered_by_any_node
    g2_a_body_other_than_its_digest_is_refused
    a_client_that_expects_100_continue_is_told_to
    chunked_bodies_arrive_whole
    g3_idempotency_key_is_the_request_ids_other_name
}

/// The headers of an answer to exactly this path, by curl.
async fn head(tree: &Tree, node: &str, path: &str, more: &[&str]) -> String {
    let url = format!("{}{path}", tree.gateway(node));
    let mut args = vec!["--path-as-is", "-g", "-H", "X-session: s", "-o", "/dev/null", "-D", "-"];
    args.extend(more);
    args.push(&url);
    String::from_utf8(curl(&args, None).await).expect("text")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

async fn redirects_keep_path_and_query_byte_for_byte(store: Store) {
    let tree = Tree::line(store).function("cdn").start().await;
    let paths = [
        "/plain",
        "/a%20b",
        "/a+b",
        "//twice",
        "/a//b",
        "/c%2Fd",
        "/e%2ff",
        "/a/../b",
        "/a/./b",
        "/%2e%2e/b",
        "/a;v=1,2&b=c",
        "/it's(a)*test!$@:~",
        "/[a]",
        "/%zz",
        "/caf%C3%A9",
        "/_",
        "/function/probe/log",
    ];
    for path in paths {
        let put = head(&tree, "navigli", path, &["-X", "PUT", "-d", path]).await;
        assert!(put.starts_with("HTTP/1.1 20"), "{path}: {put}");
    }
    tree.operator().offload("navigli", "s").await;
    for path in paths {
        for query in ["", "?", "?a=b&c=%2F", "?q=a+b%20c&&d==?/e", "?x='{}|~!$(*)"] {
            let sent = format!("{path}{query}");
            let answer = head(&tree, "navigli", &sent, &[]).await;
            assert!(answer.starts_with("HTTP/1.1 307"), "{sent}: {answer}");
            let place = format!("{}{sent}", tree.gateway("milan"));
            assert_eq!(header(&answer, "location"), Some(place.as_str()));
        }
        // It leads to the same file.
        let url = format!("{}{path}", tree.gateway("navigli"));
        let args = ["-L", "--path-as-is", "-g", "-H", "X-session: s", "--fail-with-body", &url];
        assert_eq!(String::from_utf8_lossy(&curl(&args, None).await), path);
    }
}

/// Few programs send such a path; one that works at home works after a move too.
async fn bytes_that_are_not_ascii_are_redirected_as_they_came(store: Store) {
    let tree = Tree::line(store).function("cdn").start().await;
    let address = tree.base("navigli").replace("http://", "");
    let send = async |method: &str, body: &str| {
        let request = format!(
            "{method} /function/cdn/th\u{e9}?caf\u{e9} HTTP/1.1\r\nhost: x\r\nx-session: s\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8(answer).expect("UTF-8")
    };
    let put = send("PUT", "tea").await;
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    tree.operator().offload("navigli", "s").await;
    let answer = send("GET", "").await;
    let place = format!("{}/th\u{e9}?caf\u{e9}", tree.gateway("milan"));
    assert_eq!(header(&answer, "location"), Some(place.as_str()), "{answer}");
}

async fn a_redirect_is_for_now_and_for_this_session(store: Store) {
    let tree = Tree::line(store).start().await;
    Client::new(tree.gateway("navigli"), "s").send(Method::POST, "/log", "a").await.expect(200);
    let here = head(&tree, "navigli", "/log", &[]).await;
    assert_eq!(header(&here, "vary"), Some("X-session"), "{here}");
    tree.operator().offload("navigli", "s").await;
    let away = head(&tree, "navigli", "/log", &[]).await;
    assert!(away.starts_with("HTTP/1.1 307"), "{away}");
    assert_eq!(header(&away, "vary"), Some("X-session"));
    assert_eq!(header(&away, "cache-control"), Some("no-store"));
    assert_eq!(header(&away, "content-length"), Some("0"));
    let token = header(&away, "x-session-token").expect("a token");
    let token = funicular::session::SessionToken::decode(token).expect("it reads");
    assert_eq!((token.current_location.as_str(), token.epoch), ("milan", 2));
}

async fn sessions_are_named_by_any_visible_characters(store: Store) {
    let tree = Tree::line(store).start().await;
    let all: String = ('!'..='~').collect();
    let long = "x".repeat(256);
    let names = [all.as_str(), &long, "{s}", "s}:m", "*", "..", "%7D", "a,b", "\\", "\"q\""];
    for name in names {
        let mut client = Client::new(tree.gateway("navigli"), name);
        client.send(Method::POST, "/log", name.to_owned()).await.expect(200);
        tree.operator().offload("navigli", name).await;
    }
    for name in names {
        let mut client = Client::new(tree.gateway("navigli"), name);
        let read = client.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!((read.hops.len(), read.json()), (1, vec![name.to_owned()]), "{name}");
        assert_eq!(tree.operator().onload("navigli", name).await.token.session.as_str(), name);
        let read = client.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!((read.hops.len(), read.json()), (0, vec![name.to_owned()]), "{name}");
    }
    assert_eq!(tree.operator().status("navigli").await.sessions, names.len() as u64);
}

async fn what_is_no_session_is_refused(store: Store) {
    let tree = Tree::line(store).start().await;
    for name in ["", "two words", &"x".repeat(257), "caf\u{e9}", "../../etc", "a%2Fb"] {
        let mut client = Client::new(tree.gateway("navigli"), name);
        let refused = client.send(Method::POST, "/log", "a").await.expect(400);
        assert_eq!(refused.code(), "malformed-session", "{name}");
    }
    let url = format!("{}/log", tree.gateway("navigli"));
    let problem = curl(&[&url], None).await;
    let problem: serde_json::Value = serde_json::from_slice(&problem).expect("a problem");
    assert_eq!((&problem["status"], &problem["code"]), (&json!(400), &json!("missing-session")));
    assert_eq!(tree.operator().status("navigli").await.sessions, 0);
}

async fn head_is_get_without_the_body(store: Store) {
    let tree = Tree::line(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    client.send(Method::PUT, "/value/film", vec![7; 1234]).await.expect(204);
    for from in ["navigli", "milan"] {
        let got = client.send(Method::HEAD, "/value/film", "").await.expect(200);
        assert_eq!((got.header("content-length"), got.body.len()), ("1234", 0), "{from}");
        assert_eq!(got.token().current_location.as_str(), from);
        for person in [Person::Curl, Person::Requests] {
            let url = format!("{}/value/film", tree.gateway("navigli"));
            let said = person.ask("HEAD", &url, "s", &[], Body::None).await;
            // requests does not follow a HEAD's redirect unless told; here it is.
            assert_eq!(tree.node_at(&said.expect(200).url), Some(from), "{person:?}");
        }
        assert_eq!(client.send(Method::HEAD, "/value/none", "").await.status, 404);
        tree.operator().offload(from, "s").await;
    }
}

/// A browser asks with `OPTIONS` first, without headers of its own, and takes no
/// redirect for an answer.
async fn options_are_answered_by_any_node(store: Store) {
    let tree = Tree::line(store).start().await;
    Client::new(tree.gateway("navigli"), "s").send(Method::POST, "/log", "a").await.expect(200);
    tree.operator().offload("navigli", "s").await;
    for node in ["navigli", "milan", "italy"] {
        let url = format!("{}/log", tree.gateway(node));
        let args = ["-X", "OPTIONS", "-o", "/dev/null", "-D", "-", &url];
        let answer = String::from_utf8(curl(&args, None).await).expect("text");
        assert!(answer.starts_with("HTTP/1.1 204"), "{node}: {answer}");
        // And one that names a session all the same.
        let answer = head(&tree, node, "/log", &["-X", "OPTIONS"]).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{node}: {answer}");
        assert_eq!(header(&answer, "allow"), Some("GET, POST, HEAD, OPTIONS"), "{node}");
        let answer = head(&tree, node, "/no/such/path", &["-X", "OPTIONS"]).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{node}: {answer}");
    }
}

/// The digests of `hello`.
const SHA_256: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
const WRONG: &str = "sha-256=:AAAAul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

async fn g2_a_body_other_than_its_digest_is_refused(store: Store) {
    let tree = Tree::line(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let mut written = Vec::new();
    for node in ["navigli", "milan"] {
        for digest in [WRONG, "sha-256=nonsense", &format!("{SHA_256}, {WRONG}")] {
            let headers = [("content-digest", digest)];
            let refused = client.send_with(Method::POST, "/log", "hello", &headers).await;
            assert_eq!(refused.expect(400).code(), "digest-mismatch", "{node} {digest}");
        }
        for digest in [SHA_256, "md5=:AAAA:"] {
            let headers = [("content-digest", digest)];
            client.send_with(Method::POST, "/log", "hello", &headers).await.expect(200);
            written.push("hello".to_owned());
        }
        let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
        assert_eq!(log, written, "{node}");
        tree.operator().offload(node, "s").await;
    }
}

async fn a_client_that_expects_100_continue_is_told_to(store: Store) {
    let tree = Tree::line(store).start().await;
    for (node, position) in [("navigli", "0"), ("milan", "1")] {
        // Without a "continue", curl would wait for longer than it may run.
        let url = format!("{}/log", tree.gateway("navigli"));
        let expects = ["-L", "-i", "-H", "Expect: 100-continue", "--expect100-timeout", "1000"];
        let mut args = expects.to_vec();
        args.extend(["-H", "X-session: s", "-d", "hello", &url]);
        let said = String::from_utf8(curl(&args, None).await).expect("text");
        assert!(said.starts_with("HTTP/1.1 100"), "{node}: {said}");
        assert!(said.ends_with(&format!("\r\n\r\n{position}")), "{node}: {said}");
        let forward = ["-H", "X-session-forward: 1", "-X", "PUT"];
        let url = format!("{}/value/x", tree.gateway("navigli"));
        let mut args = [&expects[1..], &forward, &["-H", "X-session: s"]].concat();
        args.extend(["-d", "hello", &url]);
        let said = String::from_utf8(curl(&args, None).await).expect("text");
        assert!(said.contains("HTTP/1.1 204"), "{node}: {said}");
        tree.operator().offload(node, "s").await;
    }
}

async fn chunked_bodies_arrive_whole(store: Store) {
    let tree = Tree::line(store).start().await;
    let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = tree.dir().join("body");
    std::fs::write(&path, &body).expect("a file");
    for node in ["navigli", "milan"] {
        let url = format!("{}/value/{node}", tree.gateway("navigli"));
        let chunked = ["Transfer-Encoding: chunked"];
        let said = Person::Curl.ask("PUT", &url, "s", &chunked, Body::File(&path)).await;
        assert_eq!(tree.node_at(&said.expect(204).url), Some(node));
        let got = Person::Curl.ask("GET", &url, "s", &[], Body::None).await.expect(200);
        assert!(got.body == body, "{node}: {} bytes", got.body.len());
        tree.operator().offload(node, "s").await;
    }
}

async fn g3_idempotency_key_is_the_request_ids_other_name(store: Store) {
    let tree = Tree::line(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "s");
    let mut send = async |headers: &[(&str, &str)], body: &str| {
        let answer = client.send_with(Method::POST, "/log", body.to_owned(), headers).await;
        (answer.status, answer.header("x-session-replayed") == "true")
    };
    let (ours, theirs) = ("x-session-request-id", "idempotency-key");
    assert_eq!(send(&[(theirs, "a")], "one").await, (200, false));
    assert_eq!(send(&[(ours, "b")], "two").await, (200, false));
    tree.operator().offload("navigli", "s").await;
    assert_eq!(send(&[(theirs, "a")], "one").await, (200, true));
    assert_eq!(send(&[(ours, "a")], "one").await, (200, true));
    assert_eq!(send(&[(theirs, "b")], "two").await, (200, true));
    assert_eq!(send(&[(theirs, "b")], "other").await, (422, false));
    // Where both are, ours counts.
    assert_eq!(send(&[(theirs, "a"), (ours, "c")], "three").await, (200, false));
    assert_eq!(send(&[(ours, "c")], "three").await, (200, true));
}
