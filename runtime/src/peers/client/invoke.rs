//! Requests to other nodes' functions: `hierarchy().invoke`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::answer::{OF_A_FUNCTION, whole};
use super::version::{Learned, TRIES, says_unread};
use super::{HttpPeers, innermost, unix_ms, unsigned};
use crate::edge_db::Caller as Invokes;
use crate::function::{Error, Request, Response};
use crate::http::signature::{Call, Caller, Role, SIGNATURE_HEADER};
use crate::peers::{Peers, WireVersion};
use crate::session::{FunctionName, NodeName, Nonce, RequestId, SessionId};
use crate::trace;

/// How long an invoked function may take: as long as the platform's own limit.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Headers that are this call's own, whatever the request says.
const NOT_PASSED_ON: [&str; 6] = [
    "host",
    "content-length",
    "authorization",
    "x-session",
    "x-session-request-id",
    SIGNATURE_HEADER,
];
/// How long a node may take to say which version it speaks.
const QUESTION: Duration = Duration::from_secs(5);
/// A redirected request goes on over at most this many nodes.
const HOPS: usize = 8;

/// The path of a call as the function sees it.
fn path_after<'a>(url: &'a reqwest::Url, function: &FunctionName) -> &'a str {
    let prefix = format!("/function/{function}");
    let rest = url.path().find(&prefix).and_then(|at| url.path().get(at + prefix.len()..));
    rest.filter(|rest| !rest.is_empty()).unwrap_or("/")
}

#[async_trait]
impl Invokes for HttpPeers {
    async fn invoke(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
        request: Request,
        request_id: RequestId,
    ) -> Result<Response, Error> {
        let mut target = node.clone();
        let path = request.path().to_owned();
        let query = request.raw_query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        let mut headers = request.headers().clone();
        for name in NOT_PASSED_ON {
            headers.remove(name);
        }
        trace::pass_on(&mut headers);
        let body = request.into_body();
        let invoked = Invoked { method, path, query, headers, body, session, request_id };
        let mut unread = 0;
        let mut hops = 0;
        while hops < HOPS {
            match self.invoke_once(&target, function, &invoked).await? {
                Invocation::Answered(response) => return Ok(response),
                Invocation::Elsewhere(node) => {
                    target = node;
                    hops += 1;
                }
                Invocation::Unread(version, why) => {
                    unread += 1;
                    let question = (unread, QUESTION);
                    let learned = self.learn_version(&target, function, version, question).await;
                    if unread == TRIES || matches!(learned, Learned::Nothing) {
                        return Err(unavailable(why));
                    }
                    if self.version(&target, function) == version
                        && let Learned::Other(why) = learned
                    {
                        return Err(unavailable(why));
                    }
                }
            }
        }
        Err(unavailable("the session moves faster than the request".to_owned()))
    }
}

/// A request to another node's function.
struct Invoked<'a> {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    session: &'a SessionId,
    request_id: RequestId,
}

/// What comes of it at one node.
enum Invocation {
    Answered(Response),
    Elsewhere(NodeName),
    /// Somebody says, unsigned, that the node does not read this version; a sentence.
    Unread(WireVersion, String),
}

/// The place that an answer leads to, which its signature covers. In any other status the
/// header is the function's own affair.
pub(crate) fn followed(status: StatusCode, headers: &HeaderMap) -> &str {
    let place = headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
    place.filter(|_| status == StatusCode::TEMPORARY_REDIRECT).unwrap_or_default()
}

fn unavailable(why: String) -> Error {
    Error::unavailable("another node did not answer").caused_by(why)
}

impl HttpPeers {
    async fn invoke_once(
        &self,
        target: &NodeName,
        function: &FunctionName,
        invoked: &Invoked<'_>,
    ) -> Result<Invocation, Error> {
        let Invoked { method, path, query, headers, body, session, request_id } = invoked;
        let version = self.version(target, function);
        let base = self
            .base(target, function)
            .ok_or_else(|| Error::internal(format!("the topology has no node `{target}`")))?;
        let mark = if query.is_empty() { "" } else { "?" };
        let url = reqwest::Url::parse(&format!("{base}{path}{mark}{query}"))
            .map_err(|error| Error::internal("the path cannot be called").caused_by(error))?;
        // Signed is what is sent: a URL escapes what is special in it.
        let (sent_path, sent_query) = (path_after(&url, function), url.query());
        let call = Call {
            target,
            method: method.as_str(),
            path: sent_path,
            query: sent_query.unwrap_or_default(),
            body,
            session: session.as_str(),
            request_id: request_id.as_str(),
        };
        let caller = Caller { role: Role::Peer, name: self.here.clone() };
        let signed = self
            .keys(function)
            .sign_in(version, &caller, &call, unix_ms(), Nonce(rand::random()))
            .map_err(|error| unavailable(error.to_string()))?;
        let sent = self
            .http
            .request(method.clone(), url.clone())
            .headers(headers.clone())
            .header(SIGNATURE_HEADER, signed.header())
            .header("x-session", session.as_str())
            .header("x-session-request-id", request_id.as_str())
            .body(body.clone())
            .timeout(INVOKE_TIMEOUT)
            .send()
            .await
            .map_err(|error| unavailable(innermost(&error)))?;
        let status = sent.status();
        let mut headers = sent.headers().clone();
        // Read to its end, the connection serves again.
        let body = whole(sent, OF_A_FUNCTION).await.map_err(unavailable)?;
        let signature = headers.remove(SIGNATURE_HEADER);
        let signature = signature.as_ref().and_then(|value| value.to_str().ok());
        if version > WireVersion::V1 {
            let place = followed(status, &headers);
            if let Err(error) = signed.check_response(signature, status.as_u16(), place, &body) {
                let why = unsigned(status, &body, &error.to_string());
                if signature.is_none() && says_unread(status, &body) {
                    return Ok(Invocation::Unread(version, why));
                }
                return Err(unavailable(why));
            }
        }
        if status == StatusCode::TEMPORARY_REDIRECT {
            // G8: redirects only lead to gateways of the topology.
            return Ok(Invocation::Elsewhere(self.follow(&headers).map_err(unavailable)?));
        }
        Ok(Invocation::Answered(Response::from_parts(status, headers, body)))
    }

    /// To which node a redirect leads.
    fn follow(&self, headers: &HeaderMap) -> Result<NodeName, String> {
        let location = headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or("a redirect without a place")?;
        let topology = self.topology.read();
        for node in topology.nodes() {
            if let Some(rest) = location.strip_prefix(node.gateway.as_str())
                && rest.starts_with('/')
            {
                return Ok(node.name.clone());
            }
        }
        Err(format!("a redirect leads out of the topology: {location}"))
    }
}
