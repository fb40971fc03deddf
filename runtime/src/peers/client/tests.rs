use std::sync::atomic::{AtomicUsize, Ordering};

use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;

use super::*;
use crate::http::signature::{NonceCache, PeerKeys, Secret};

const AT_ONCE: usize = 16;
const CALLS: usize = 20;

fn keys() -> Keys {
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
    let keys = keys().for_function(&FunctionName::new("f").unwrap());
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
    let peers = Arc::new(HttpPeers::new(here, keys(), topology).unwrap());
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
