//! One function behind HTTP: the node, the keys, and what the endpoints share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client_call::{REQUEST_ID, SESSION};
use super::router::Incoming;
use super::signature::{
    Call, FunctionKeys, Keys, NonceCache, SIGNATURE_HEADER, SignatureError, Verified,
};
use crate::metrics::Requests;
use crate::node::Node;
use crate::peers::{HttpPeers, unix_ms};
use crate::topology::Topology;

/// One function at one node, as the router serves it. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

/// What a service is made of; reached through [`Service`] alone.
#[doc(hidden)]
pub struct Inner {
    pub(super) node: Node,
    pub(super) nonces: NonceCache,
    pub(super) peers: Arc<HttpPeers>,
    pub(super) requests: Requests,
    healthy: AtomicBool,
}

impl std::ops::Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Service {
    /// Serves `node`, whose peers are `peers`.
    pub fn new(node: Node, peers: Arc<HttpPeers>) -> Self {
        let nonces = NonceCache::default();
        let requests = Requests::new(node.config());
        let healthy = AtomicBool::new(true);
        Self(Arc::new(Inner { node, nonces, peers, requests, healthy }))
    }

    /// The node behind it.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// From now on `/_/health` answers 503; everything else is still served.
    pub fn leaving(&self) {
        self.healthy.store(false, Ordering::Relaxed);
    }

    /// The keys of this function, as they are now.
    pub(super) fn keys(&self) -> Arc<FunctionKeys> {
        self.peers.keys(&self.node.config().function)
    }

    /// Replaces the tree, if the node can do with the new one; the error says why not.
    /// The same tree again is no change.
    pub async fn set_topology(&self, topology: Arc<Topology>) -> Result<bool, String> {
        let changed = self.node.change_topology(Arc::clone(&topology)).await?;
        if changed {
            self.peers.set_topology(topology);
        }
        Ok(changed)
    }

    /// Replaces the secrets, if they differ; says whether they did.
    pub fn set_keys(&self, keys: Keys) -> bool {
        self.peers.set_keys(keys)
    }

    /// Checks the signature of a call to this node.
    pub(super) fn verify(&self, incoming: &Incoming) -> Result<Verified, SignatureError> {
        let text = |name: &str| incoming.headers.get(name).and_then(|value| value.to_str().ok());
        let call = Call {
            target: self.node.here(),
            method: incoming.method.as_str(),
            path: &incoming.path,
            query: incoming.query.as_deref().unwrap_or_default(),
            body: &incoming.body,
            session: text(SESSION.as_str()).unwrap_or_default(),
            request_id: text(REQUEST_ID.as_str()).unwrap_or_default(),
        };
        let newest = self.node.config().wire_version;
        self.keys().verify_up_to(newest, text(SIGNATURE_HEADER), &call, unix_ms(), &self.nonces)
    }

    pub(super) fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.node.fmt(f)
    }
}
