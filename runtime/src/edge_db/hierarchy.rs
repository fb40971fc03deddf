//! The other nodes, as a handler sees them.

use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};

use super::{Place, ReadDb};
use crate::function::{Error, Request, Response, Result};
use crate::session::{FunctionName, NodeName, RequestId, SessionId};
use crate::topology::Node;

/// The tree of nodes around the one where this request runs, and calls to
/// functions there.
#[derive(Debug, Clone, Copy)]
pub struct Hierarchy<'a> {
    db: &'a ReadDb,
}

impl<'a> Hierarchy<'a> {
    pub(super) fn new(db: &'a ReadDb) -> Self {
        Self { db }
    }

    fn place(self) -> &'a Place {
        &self.db.place
    }

    /// The node above this one; none at the root.
    pub fn parent(&self) -> Option<&'a Node> {
        self.place().topology.parent(&self.place().here)
    }

    /// The nodes directly below this one.
    pub fn children(&self) -> Vec<&'a Node> {
        self.place().topology.children(&self.place().here)
    }

    /// This node and all below it, this node first.
    pub fn subtree(&self) -> Vec<&'a Node> {
        self.place().topology.subtree(&self.place().here)
    }

    /// The nodes above this one, its parent first, the root last.
    pub fn path_to_root(&self) -> Vec<&'a Node> {
        self.place().topology.ancestors(&self.place().here)
    }

    /// The names of the levels, the root's first.
    pub fn levels(&self) -> &'a [String] {
        self.place().topology.levels()
    }

    /// Sends a request to the session `session` of `function` at `node`, or
    /// where that session lives now, and waits for the answer. The answer comes
    /// as it is, whatever its status.
    ///
    /// A handler may pass on the request it received; the client's session and
    /// request id do not go along.
    ///
    /// The call takes effect at once, not with this request's commit. It takes
    /// effect once even if this request is repeated, as long as this request has
    /// an id of its own (`X-session-request-id`) and makes the same calls in the
    /// same order.
    ///
    /// Two sessions whose handlers call each other at the same time wait for each other
    /// until `session_wait` ends one of the calls with 503: let calls go one way.
    ///
    /// Fails with 500 for a node that the topology does not have, a name that is
    /// not one, or this very session, which would wait for itself; with 503 if
    /// the node does not answer.
    pub async fn invoke(
        &self,
        node: &str,
        function: &str,
        session: &str,
        request: impl Into<Request>,
    ) -> Result<Response> {
        let request = request.into().into_outgoing();
        let place = self.place();
        let id = self.next_id(request.request_id())?;
        let node = NodeName::new(node)?;
        let (function, session) = (FunctionName::new(function)?, SessionId::new(session)?);
        if place.topology.node(&node).is_none() {
            return Err(Error::internal(format!("the topology has no node `{node}`")));
        }
        if node == place.here && function == place.function && session == place.session {
            return Err(Error::internal(
                "a session cannot invoke itself: it would wait for itself",
            ));
        }
        let Some(caller) = &place.caller else {
            return Err(Error::internal("this node has no way to other nodes"));
        };
        if let Some(gate) = &place.gate {
            gate.wait().await;
        }
        caller.invoke(&node, &function, &session, request, id).await
    }

    /// The id of the next call: the request's own, else derived from the id of
    /// the request that makes it, else random.
    fn next_id(self, own: Option<&RequestId>) -> Result<RequestId> {
        let number = self.db.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(own) = own {
            return Ok(own.clone());
        }
        let Place { home, function, session, request, .. } = self.place();
        let uuid = match request {
            None => {
                let random = self.place().machine.random();
                uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
            }
            Some(request) => {
                let caller = format!("invoke\0{function}\0{home}\0{session}\0{request}\0{number}");
                let digest: [u8; 32] = Sha256::digest(caller.as_bytes()).into();
                let mut bytes = [0; 16];
                bytes.copy_from_slice(&digest[..16]);
                uuid::Builder::from_custom_bytes(bytes).into_uuid()
            }
        };
        Ok(RequestId::new(uuid.to_string())?)
    }

    /// The nodes that `levels` of [`EdgeDb::propagate`](super::EdgeDb::propagate) means.
    pub(super) fn targets(self, levels: &str) -> Result<Vec<NodeName>> {
        let name = |node: &Node| node.name.clone();
        let above = self.path_to_root();
        if levels.trim() == "*" {
            return Ok(above.into_iter().map(name).collect());
        }
        let wanted: Vec<&str> = levels.split(',').map(str::trim).collect();
        let known = self.levels();
        if let Some(unknown) = wanted.iter().find(|level| !known.iter().any(|k| k == *level)) {
            return Err(Error::internal(format!(
                "the topology has no level `{unknown}`; it has {}, and `*` means all above",
                known.join(", ")
            )));
        }
        // The subtree begins with this node itself.
        let below = self.subtree().into_iter().skip(1);
        Ok(above
            .into_iter()
            .chain(below)
            .filter(|node| wanted.contains(&node.level.as_str()))
            .map(name)
            .collect())
    }
}
