use std::sync::atomic::{AtomicUsize, Ordering};

use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;

use super::*;
use crate::edge_db::Caller as Invokes;
use crate::function::{Error, Request, Response};
use crate::http::signature::{NonceCache, PeerKeys, Secret};
use crate::session::{RequestId, SessionId};

const AT_ONCE: usize = 16;
const CALLS: usize = 20;

fn peers_keys() -> Keys {
    let now = Secret::new(b"the peers' own secret").unwrap();
    Keys { peer: Some(PeerKeys { current: now, previous: Vec::new() }), operator: None }
}

/// A node that answers every call, signed, a moment later; how often it was connected to.
async fn node() -> (Arc<Topology>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let listener = listener.tap_io(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let keys = peers_keys().for_function(&FunctionName::new("f").unwrap());
    let answer = move |request: axum::extract::Request| {
        let keys = keys.clone();
        async move {
            let header = request.headers()[SIGNATURE_HEADER].to_str().unwrap().to_owned();
            let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
            let here = NodeName::new("milan").unwrap();
            let (path, query) = ("/_/status", "");
            let body = body.to_bytes();
            let call = Call { method: "POST", path, query, body: &body, ..Call::to(&here) };
            let verified = keys.verify(Some(&header), &call, unix_ms(), &NonceCache::default());
            tokio::time::sleep(Duration::from_millis(2)).await;
            let signature = verified.unwrap().sign_answer(&here, 200, b"{}");
            ([(SIGNATURE_HEADER, signature)], "{}")
        }
    };
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text = format!("levels: [city]\nroot:\n  name: milan\n  gateway: {gateway}\n");
    (Arc::new(Topology::parse(&text).unwrap()), connections)
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let (topology, connections) = node().await;
    let here = NodeName::new("navigli").unwrap();
    let peers = Arc::new(HttpPeers::new(here, peers_keys(), topology).unwrap());
    let callers = (0..AT_ONCE).map(|_| {
        let peers = Arc::clone(&peers);
        tokio::spawn(async move {
            let (to, function) = (NodeName::new("milan").unwrap(), FunctionName::new("f").unwrap());
            for _ in 0..CALLS {
                let (body, timeout) = (Bytes::from_static(b"{}"), Duration::from_secs(20));
                let version = WireVersion::NEWEST;
                let call = PeerCall { version, endpoint: "status", query: None, body, timeout };
                assert_eq!(peers.call(&to, &function, call).await.unwrap().status, 200);
            }
        })
    });
    for caller in callers {
        caller.await.unwrap();
    }
    // A caller that finds none idle begins to connect, takes the one that comes back
    // first, and leaves the other for the next: never more than twice as many.
    let opened = connections.load(Ordering::Relaxed);
    assert!(opened <= 2 * AT_ONCE, "{opened} connections for {AT_ONCE} callers");
}

/// How a node answers that is of some release, or is not the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plays {
    /// The release before: refuses version 2 in its own words.
    Before,
    /// This release.
    This,
    /// So many replicas, each asked in turn; the first is of the release before.
    Replicas(usize),
    /// This release, behind somebody who would rather hear version 1.
    InTheMiddle,
    /// This release, behind somebody who answers in its place.
    Impostor,
}

/// A node of some release, and the version of each call that came to it.
async fn of_release(plays: Plays) -> (HttpPeers, Arc<Mutex<Vec<(String, u32)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let calls: Arc<Mutex<Vec<(String, u32)>>> = Arc::default();
    let keys = peers_keys().for_function(&FunctionName::new("f").unwrap());
    let seen = Arc::clone(&calls);
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (keys, seen) = (keys.clone(), Arc::clone(&seen));
        async move {
            let (head, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
            let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
            let path = head.uri.path().strip_prefix("/function/f").unwrap();
            let here = NodeName::new("milan").unwrap();
            let call = Call {
                method: head.method.as_str(),
                path,
                query: head.uri.query().unwrap_or_default(),
                body: &body,
                session: text("x-session").unwrap_or_default(),
                request_id: text("x-session-request-id").unwrap_or_default(),
                ..Call::to(&here)
            };
            let header = text(SIGNATURE_HEADER);
            let nonces = NonceCache::default();
            let verified = keys.verify(header, &call, unix_ms(), &nonces).unwrap();
            let version = verified.version();
            let turn = {
                let mut seen = seen.lock();
                seen.push((path.to_owned(), version.number()));
                seen.len()
            };
            let (status, reads) = match plays {
                Plays::Before => (1, WireVersion::V1),
                Plays::This | Plays::Impostor => (2, WireVersion::V2),
                Plays::Replicas(count) if turn % count == 1 => (1, WireVersion::V1),
                Plays::Replicas(_) => (2, WireVersion::V2),
                Plays::InTheMiddle => (2, WireVersion::V1),
            };
            let unsigned = |status: u16, body: &str| {
                let response = http::Response::builder().status(status);
                response.body(axum::body::Body::from(body.to_owned())).unwrap()
            };
            if version > reads {
                let problem = r#"{"title":"t","status":401,"detail":"d","code":"bad-signature"}"#;
                return unsigned(401, problem);
            }
            let invoked = !path.starts_with("/_/");
            if plays == Plays::Impostor || (invoked && version == WireVersion::V1) {
                return unsigned(200, "unsigned");
            }
            let body = match path {
                "/_/status" => format!(r#"{{"wire_version":{status}}}"#),
                _ => "signed".to_owned(),
            };
            let signature = verified.sign_answer(&here, 200, body.as_bytes());
            let response = http::Response::builder().header(SIGNATURE_HEADER, signature);
            response.body(axum::body::Body::from(body)).unwrap()
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text = format!("levels: [city]\nroot:\n  name: milan\n  gateway: {gateway}\n");
    let topology = Arc::new(Topology::parse(&text).unwrap());
    (HttpPeers::new(NodeName::new("navigli").unwrap(), peers_keys(), topology).unwrap(), calls)
}

fn whom() -> (NodeName, FunctionName) {
    (NodeName::new("milan").unwrap(), FunctionName::new("f").unwrap())
}

/// A call in the version that is known, as a node makes it.
async fn move_step(peers: &HttpPeers) -> Result<PeerAnswer, PeerError> {
    let (to, function) = whom();
    let mut version = peers.version(&to, &function);
    loop {
        let (body, timeout) = (Bytes::from_static(b"{}"), Duration::from_secs(20));
        let call = PeerCall { version, endpoint: "migrate-session", query: None, body, timeout };
        let answer = peers.call(&to, &function, call).await;
        if !answer.as_ref().is_err_and(PeerError::in_another_version) {
            return answer;
        }
        let older = peers.version(&to, &function);
        assert!(older < version, "{answer:?}");
        version = older;
    }
}

async fn invoke(peers: &HttpPeers) -> Result<Response, Error> {
    let (to, function) = whom();
    let session = SessionId::new("s").unwrap();
    let request = Request::post("/items").text("x").into();
    peers.invoke(&to, &function, &session, request, RequestId::new("r").unwrap()).await
}

fn said(calls: &Mutex<Vec<(String, u32)>>) -> Vec<(String, u32)> {
    std::mem::take(&mut *calls.lock())
}

fn expected(calls: &[(&str, u32)]) -> Vec<(String, u32)> {
    calls.iter().map(|(path, version)| ((*path).to_owned(), *version)).collect()
}

const STEP: &str = "/_/migrate-session";
const STATUS: &str = "/_/status";

#[tokio::test]
async fn a_node_of_the_release_before_is_asked_once_and_then_spoken_to_as_it_speaks() {
    let (peers, calls) = of_release(Plays::Before).await;
    assert_eq!(move_step(&peers).await.unwrap().body, "signed");
    assert_eq!(said(&calls), expected(&[(STEP, 2), (STATUS, 1), (STEP, 1)]));
    move_step(&peers).await.unwrap();
    assert_eq!(invoke(&peers).await.unwrap().read_text().unwrap(), "unsigned");
    assert_eq!(said(&calls), expected(&[(STEP, 1), ("/items", 1)]));
}

#[tokio::test]
async fn an_invoked_call_finds_out_as_well() {
    let (peers, calls) = of_release(Plays::Before).await;
    assert_eq!(invoke(&peers).await.unwrap().read_text().unwrap(), "unsigned");
    assert_eq!(said(&calls), expected(&[("/items", 2), (STATUS, 1), ("/items", 1)]));
}

#[tokio::test]
async fn a_node_of_this_release_is_spoken_to_at_once() {
    let (peers, calls) = of_release(Plays::This).await;
    move_step(&peers).await.unwrap();
    assert_eq!(invoke(&peers).await.unwrap().read_text().unwrap(), "signed");
    assert_eq!(said(&calls), expected(&[(STEP, 2), ("/items", 2)]));
}

#[tokio::test]
async fn a_node_that_is_held_to_the_version_before_speaks_no_other() {
    let (peers, calls) = of_release(Plays::This).await;
    let peers = peers.speaking(WireVersion::V1);
    move_step(&peers).await.unwrap();
    invoke(&peers).await.unwrap();
    assert_eq!(said(&calls), expected(&[(STEP, 1), ("/items", 1)]));
}

#[tokio::test]
async fn while_replicas_are_replaced_calls_get_through() {
    for replicas in 2..=6 {
        let (peers, _calls) = of_release(Plays::Replicas(replicas)).await;
        for _ in 0..8 {
            move_step(&peers).await.unwrap();
            invoke(&peers).await.unwrap();
        }
    }
}

#[tokio::test]
async fn g8_nobody_in_the_middle_talks_a_node_into_an_older_version() {
    let (peers, calls) = of_release(Plays::InTheMiddle).await;
    assert!(move_step(&peers).await.unwrap_err().unreachable());
    invoke(&peers).await.unwrap_err();
    let calls = said(&calls);
    assert!(calls.len() > 2);
    // It was asked what it speaks, and nothing else in version 1.
    assert!(calls.iter().all(|(path, version)| (path == STATUS) == (*version == 1)), "{calls:?}");
}

#[tokio::test]
async fn g8_an_answer_to_an_invoked_call_counts_only_if_the_node_gave_it() {
    let (peers, _calls) = of_release(Plays::Impostor).await;
    let error = invoke(&peers).await.unwrap_err();
    assert_eq!(error.status_code(), StatusCode::SERVICE_UNAVAILABLE);
}
