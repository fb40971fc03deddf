//! A tree of real nodes with memory stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::network::Link;
use super::or_panic;
use crate::function::{Function, Request};
use crate::node::{
    Answer, Background, Call, Failure, Node, NodeConfig, Offload, Parts, Received, ThisMachine,
};
use crate::peers::messages::PropagateCall;
use crate::session::{FunctionName, NodeName, SessionId};
use crate::store::memory::MemoryStore;
use crate::store::{SessionStore, StoreScope, WindowLimits};
use crate::topology::Topology;

/// No request is redirected more often.
const HOPS: usize = 8;

/// All nodes of a test.
pub(super) struct World {
    topology: Arc<Topology>,
    nodes: BTreeMap<(NodeName, FunctionName), Running>,
}

/// One function at one node.
struct Running {
    node: Node,
    store: Arc<MemoryStore>,
    _background: Background,
}

/// What was answered, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub node: NodeName,
    pub replayed: bool,
}

impl Asked {
    fn sentence(status: StatusCode, sentence: &str, node: NodeName) -> Self {
        let body = Bytes::copy_from_slice(sentence.as_bytes());
        Self { status, headers: HeaderMap::new(), body, node, replayed: false }
    }

    fn failure(failure: &Failure, at: &Node, node: NodeName) -> Self {
        let problem = crate::http::problem_of(at, failure);
        Self::sentence(problem.status, &problem.detail, node)
    }
}

impl World {
    /// Starts every function at every node of the tree.
    #[track_caller]
    pub(super) fn start(tree: &str, functions: Vec<(String, Function)>) -> Arc<Self> {
        let topology = Arc::new(or_panic(Topology::parse(tree)));
        let functions: Vec<(FunctionName, Function)> = functions
            .into_iter()
            .map(|(name, function)| {
                or_panic(function.check());
                (or_panic(FunctionName::new(name)), function)
            })
            .collect();
        Arc::new_cyclic(|world| {
            let mut nodes = BTreeMap::new();
            for place in topology.nodes() {
                for (name, function) in &functions {
                    let link = Arc::new(Link::new(place.name.clone(), world.clone()));
                    let scope = StoreScope {
                        function: name.clone(),
                        here: place.name.clone(),
                        window: WindowLimits::default(),
                    };
                    let store = Arc::new(MemoryStore::new(scope));
                    let node = Node::new(Parts {
                        config: NodeConfig::new(place.name.clone(), name.clone()),
                        function: function.clone(),
                        store: store.clone(),
                        peers: link.clone(),
                        caller: Some(link),
                        machine: Arc::new(ThisMachine),
                        topology: Arc::clone(&topology),
                    });
                    let running = Running { _background: node.start(), node, store };
                    nodes.insert((place.name.clone(), name.clone()), running);
                }
            }
            Self { topology, nodes }
        })
    }

    pub(super) fn first_entry(&self) -> NodeName {
        let entries = self.topology.entry_nodes();
        entries.first().map_or(&self.topology.root().name, |node| &node.name).clone()
    }

    pub(super) fn has(&self, node: &NodeName, function: &FunctionName) -> bool {
        self.find(node, function).is_some()
    }

    pub(super) fn find(&self, node: &NodeName, function: &FunctionName) -> Option<&Node> {
        self.nodes.get(&(node.clone(), function.clone())).map(|running| &running.node)
    }

    /// Sends a request as a client would: redirects are followed, with the token
    /// that came with them.
    pub(super) async fn ask(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
        request: Request,
    ) -> Asked {
        let mut at = node.clone();
        let mut known = None;
        for _ in 0..HOPS {
            let Some(node) = self.find(&at, function) else {
                let sentence = format!("{at} does not have the function {function}");
                return Asked::sentence(StatusCode::NOT_FOUND, &sentence, at);
            };
            let call = Call {
                session: session.clone(),
                request_id: request.request_id().cloned(),
                token: known.take(),
                from_peer: false,
                timeout: None,
                request: request.clone(),
            };
            match node.invoke(call).await {
                Ok(Answer::Response { response, replayed, .. }) => {
                    let (status, headers, body) = response.into_parts();
                    return Asked { status, headers, body, node: at, replayed };
                }
                Ok(Answer::Error { error, .. }) => {
                    return Asked::sentence(error.status_code(), error.sentence(), at);
                }
                Ok(Answer::Redirect { to, token }) => {
                    known = token;
                    at = to;
                }
                Err(failure) => return Asked::failure(&failure, node, at),
            }
        }
        let sentence = format!("more than {HOPS} redirects: a fault of the runtime");
        Asked::sentence(StatusCode::LOOP_DETECTED, &sentence, at)
    }

    /// Sends a propagated value, as a neighbour's outbox would.
    pub(super) async fn propagate(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
        value: Bytes,
    ) -> Asked {
        let children = self.topology.children(node);
        let from = children.first().copied().or_else(|| self.topology.parent(node));
        let from = from.map_or(node, |node| &node.name).clone();
        let call = PropagateCall {
            id: format!("{:032x}-0", rand::random::<u128>()),
            function: function.clone(),
            session: session.clone(),
            from: from.clone(),
            value: STANDARD.encode(value),
        };
        let mut at = node.clone();
        for _ in 0..HOPS {
            let Some(node) = self.find(&at, function) else { break };
            match node.receive(&from, &call).await {
                Ok(Received::Taken) => return Asked::sentence(StatusCode::OK, "", at),
                Ok(Received::Elsewhere(elsewhere)) => at = elsewhere.location,
                Err(failure) => return Asked::failure(&failure, node, at),
            }
        }
        Asked::sentence(StatusCode::LOOP_DETECTED, "the session is nowhere", at)
    }

    pub(super) async fn location(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
    ) -> NodeName {
        let mut at = node.clone();
        for _ in 0..HOPS {
            let Some(node) = self.find(&at, function) else { break };
            let found = or_panic(node.whereabouts(session).await);
            if found.location == at {
                return at;
            }
            at = found.location;
        }
        panic!("nobody knows where the session is: a fault of the runtime")
    }

    pub(super) async fn offload(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
    ) -> String {
        // What was just sent or told may still be under way.
        self.settled(super::PATIENCE).await;
        let at = self.location(node, function, session).await;
        let Some(owner) = self.find(&at, function) else { panic!("{at} is not in the tree") };
        match or_panic(owner.force_offload(Some(session.clone())).await) {
            Offload::Moved(report) => report.accepted_by.to_string(),
            Offload::Moving(still) => panic!("the session is still on its way to {}", still.ask),
        }
    }

    /// Waits until no store has a session about which somebody has to be told.
    pub(super) async fn settled(&self, patience: Duration) {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let mut waiting = Vec::new();
            for ((node, function), running) in &self.nodes {
                if !or_panic(running.store.pending(1).await).is_empty() {
                    waiting.push(format!("{function} at {node}"));
                }
            }
            if waiting.is_empty() {
                return;
            }
            assert!(
                tokio::time::Instant::now() < until,
                "still not settled: {}; does a handler of propagated values keep failing?",
                waiting.join(", ")
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.nodes.values().map(|running| &running.node)).finish()
    }
}
