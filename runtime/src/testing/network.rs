//! Calls between the nodes of a test: no wire, the same messages.

use std::sync::Weak;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::world::World;
use crate::edge_db::Caller;
use crate::function::{Error, Request, Response, Result};
use crate::http::problem::Code;
use crate::node::{Failure, Node, Offload, Outcome, Received};
use crate::peers::messages::{ForceCall, OffloadStatus, Phase};
use crate::peers::{PeerAnswer, PeerCall, PeerError, Peers};
use crate::session::{FunctionName, NodeName, RequestId, SessionId};

/// One node's way to the others.
pub(super) struct Link {
    from: NodeName,
    world: Weak<World>,
}

impl Link {
    pub(super) fn new(from: NodeName, world: Weak<World>) -> Self {
        Self { from, world }
    }
}

#[async_trait]
impl Caller for Link {
    async fn invoke(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
        request: Request,
        request_id: RequestId,
    ) -> Result<Response> {
        let world = self.world.upgrade().ok_or_else(|| Error::unavailable("the test is over"))?;
        let request = request.with_request_id(Some(request_id));
        let asked = world.ask(node, function, session, request).await;
        Ok(Response::from_parts(asked.status, asked.headers, asked.body))
    }
}

#[async_trait]
impl Peers for Link {
    async fn call(
        &self,
        to: &NodeName,
        function: &FunctionName,
        call: PeerCall,
    ) -> Result<PeerAnswer, PeerError> {
        let gone = |why: &str| PeerError::Unreachable { node: to.clone(), why: why.to_owned() };
        let world = self.world.upgrade().ok_or_else(|| gone("the test is over"))?;
        let node =
            world.find(to, function).ok_or_else(|| PeerError::NoFunction { node: to.clone() })?;
        let timeout = call.timeout;
        let answering = answer(node, &self.from, call);
        let outcome = tokio::time::timeout(timeout, answering).await;
        outcome.map_err(|_| gone("it took too long"))?
    }
}

/// What a node answers to an internal call of the node `from`: the endpoints of HTTP,
/// without the wire and its signatures. For a network of a test's own.
pub async fn answer(node: &Node, from: &NodeName, call: PeerCall) -> Result<PeerAnswer, PeerError> {
    respond(node, from, call).await.map_err(|failure| {
        let problem = crate::http::problem_of(node, &failure);
        PeerError::Refused {
            node: node.here().clone(),
            status: problem.status.as_u16(),
            code: problem.code.map_or("", Code::as_str).to_owned(),
            message: failure.to_string(),
            retry_after: problem.retry_after,
            refusal: match failure {
                Failure::Refused(refusal) => Some(refusal),
                Failure::Peer(error) => error.refusal().cloned(),
                _ => None,
            },
        }
    })
}

async fn respond(node: &Node, from: &NodeName, call: PeerCall) -> Outcome<PeerAnswer> {
    let body = call.body;
    match call.endpoint {
        "offload-session" => match node.offered(from, read(&body)?).await? {
            Offload::Moved(report) => say(200, &report),
            Offload::Moving(still) => say(202, &still),
        },
        "onload-session" => say(200, &node.onload_offers(from, &read(&body)?).await?),
        "update-session" => {
            let call = read(&body)?;
            node.updated(from, &call).await?;
            say(200, &call)
        }
        "migrate-session" => {
            let call: crate::peers::messages::MigrateCall = read(&body)?;
            match call.phase {
                Phase::Open => say(200, &node.agree(from, &call).await?),
                Phase::Copy => {
                    let page = node.copy(from, &call).await?.encode_small();
                    Ok(PeerAnswer { status: 200, body: page.into() })
                }
                Phase::Freeze => {
                    let page = node.freeze(from, &call).await?.encode_small();
                    Ok(PeerAnswer { status: 200, body: page.into() })
                }
                Phase::Done => say(200, &node.let_go(from, &call).await?),
                Phase::Ask => say(200, &node.ask(from, &call).await?),
                Phase::Closed => say(200, &node.closed(from, &call).await?),
                Phase::Agreed => say(200, &node.agreed(from, &call).await?),
            }
        }
        "name-sessions" => say(200, &node.name_sessions(from, read(&body)?).await?),
        "receive-propagate" => match node.receive(from, &read(&body)?).await? {
            Received::Taken => say(200, &()),
            Received::Elsewhere(elsewhere) => say(307, &elsewhere),
        },
        "test-function" => {
            let query = call.query.unwrap_or_default();
            let session = form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == "session")
                .map(|(_, session)| SessionId::new(session))
                .transpose()
                .map_err(|bad| Failure::BadCall(bad.to_string()))?
                .ok_or_else(|| Failure::BadCall("the query names no session".to_owned()))?;
            say(200, &node.whereabouts(&session).await?)
        }
        "force-offload" => {
            let force: ForceCall = read(&body)?;
            match node.force_offload(force.session).await? {
                Offload::Moved(report) => say(200, &report),
                Offload::Moving(still) => say(202, &still),
            }
        }
        "force-onload" => {
            let force: ForceCall = read(&body)?;
            say(200, &node.force_onload(force.session, force.max_sessions.unwrap_or(1)).await?)
        }
        "set-offload-status" => {
            let StatusCall { status } = read(&body)?;
            say(200, &node.set_offload_status(status).await?)
        }
        other => Err(Failure::BadCall(format!("there is no endpoint /_/{other}"))),
    }
}

#[derive(serde::Deserialize)]
struct StatusCall {
    status: OffloadStatus,
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Outcome<T> {
    serde_json::from_slice(body).map_err(|error| Failure::BadCall(error.to_string()))
}

fn say(status: u16, body: &impl Serialize) -> Outcome<PeerAnswer> {
    let body = serde_json::to_vec(body).map_err(|error| Failure::MoveFailed(error.to_string()))?;
    Ok(PeerAnswer { status, body: body.into() })
}
