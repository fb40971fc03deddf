//! Signed HTTP to the other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use parking_lot::{Mutex, RwLock};

use super::{PeerAnswer, PeerCall, PeerError, Peers};
use crate::edge_db::Caller as Invokes;
use crate::function::{Error, Request, Response};
use crate::http::problem::Received;
use crate::http::signature::{Call, Caller, FunctionKeys, Keys, Role, SIGNATURE_HEADER};
use crate::session::{FunctionName, NodeName, Nonce, RequestId, SessionId};
use crate::topology::Topology;

/// How long an invoked function may take: as long as the platform's own limit.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections that are kept to each node: more than the moves of a pair and the
/// recovery loop use at once. A burst of requests may open more; those are closed.
const IDLE_A_NODE: usize = 64;
/// Headers that are this call's own, whatever the request says.
const NOT_PASSED_ON: [&str; 6] = [
    "host",
    "content-length",
    "authorization",
    "x-session",
    "x-session-request-id",
    SIGNATURE_HEADER,
];
/// A redirected request goes on over at most this many nodes.
const HOPS: usize = 8;

/// Milliseconds since 1970 on this machine's clock, for signatures only.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The other nodes over HTTP: one pool of connections, every call signed, every
/// answer checked.
pub struct HttpPeers {
    here: NodeName,
    http: reqwest::Client,
    keys: RwLock<Keys>,
    derived: Mutex<BTreeMap<FunctionName, Arc<FunctionKeys>>>,
    topology: RwLock<Arc<Topology>>,
}

impl HttpPeers {
    /// The peers of node `here`. Fails only if the HTTP client cannot be made.
    pub fn new(here: NodeName, keys: Keys, topology: Arc<Topology>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(1))
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_A_NODE)
            .no_proxy()
            .build()
            .map_err(|error| format!("the HTTP client could not be made: {error}"))?;
        let (keys, topology) = (RwLock::new(keys), RwLock::new(topology));
        Ok(Self { here, http, keys, derived: Mutex::default(), topology })
    }

    /// Replaces the secrets, if they differ; says whether they did. Calls that are under
    /// way keep theirs.
    pub fn set_keys(&self, keys: Keys) -> bool {
        // Derived keys are made with the lock held: none of the old ones comes back.
        let mut derived = self.derived.lock();
        let mut held = self.keys.write();
        if *held == keys {
            return false;
        }
        *held = keys;
        derived.clear();
        true
    }

    /// Replaces the tree.
    pub fn set_topology(&self, topology: Arc<Topology>) {
        *self.topology.write() = topology;
    }

    /// The connections, for requests that are forwarded.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The keys of one function.
    pub fn keys(&self, function: &FunctionName) -> Arc<FunctionKeys> {
        let mut derived = self.derived.lock();
        let keys = derived
            .entry(function.clone())
            .or_insert_with(|| Arc::new(self.keys.read().for_function(function)));
        Arc::clone(keys)
    }

    fn base(&self, node: &NodeName, function: &FunctionName) -> Option<String> {
        let topology = self.topology.read();
        topology.node(node).map(|node| format!("{}/function/{function}", node.peer_url()))
    }
}

#[async_trait]
impl Peers for HttpPeers {
    async fn call(
        &self,
        to: &NodeName,
        function: &FunctionName,
        call: PeerCall,
    ) -> Result<PeerAnswer, PeerError> {
        let unreachable = |why: String| PeerError::Unreachable { node: to.clone(), why };
        let base = self
            .base(to, function)
            .ok_or_else(|| unreachable("it is not in this node's topology".to_owned()))?;
        let path = format!("/_/{}", call.endpoint);
        let query = call.query.as_deref().unwrap_or_default();
        let method = if call.query.is_some() { "GET" } else { "POST" };
        let signed = self
            .keys(function)
            .sign(
                &Caller { role: Role::Peer, name: self.here.clone() },
                &Call { target: to, method, path: &path, query, body: &call.body },
                unix_ms(),
                Nonce(rand::random()),
            )
            .map_err(|error| unreachable(error.to_string()))?;
        let url = match query {
            "" => format!("{base}{path}"),
            query => format!("{base}{path}?{query}"),
        };
        let request = match method {
            "GET" => self.http.get(url),
            _ => self.http.post(url).header("content-type", "application/json").body(call.body),
        };
        let sent = request
            .header(SIGNATURE_HEADER, signed.header())
            .timeout(call.timeout)
            .send()
            .await
            .map_err(|error| unreachable(innermost(&error)))?;
        let status = sent.status();
        let header = |name| {
            let value = sent.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok());
        let header = header(SIGNATURE_HEADER);
        let body = sent.bytes().await.map_err(|error| unreachable(innermost(&error)))?;
        if let Err(error) = signed.check_answer(header.as_deref(), status.as_u16(), &body) {
            return Err(match (status, header) {
                (StatusCode::NOT_FOUND, None) => PeerError::NoFunction { node: to.clone() },
                _ => unreachable(unsigned(status, &body, &error.to_string())),
            });
        }
        if status.is_success() || status == StatusCode::TEMPORARY_REDIRECT {
            return Ok(PeerAnswer { status: status.as_u16(), body });
        }
        Err(refused(to, status, &body, retry_after.map(Duration::from_secs)))
    }
}

fn refused(
    node: &NodeName,
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
) -> PeerError {
    let problem = Received::read(body);
    let refusal = problem
        .as_ref()
        .and_then(|problem| serde_json::from_value(problem.extra.clone().into()).ok());
    let (code, message) = problem.map_or_else(
        || (String::new(), status.to_string()),
        |problem| (problem.code.unwrap_or_default(), problem.detail),
    );
    let (node, status) = (node.clone(), status.as_u16());
    PeerError::Refused { node, status, code, message, refusal, retry_after }
}

/// What an answer without a good signature says, for the log.
fn unsigned(status: StatusCode, body: &[u8], why: &str) -> String {
    match Received::read(body) {
        Some(problem) => format!("{status}: {}", problem.detail),
        None => format!("{status}: {why}"),
    }
}

/// The path of a call as the function sees it.
fn path_after<'a>(url: &'a reqwest::Url, function: &FunctionName) -> &'a str {
    let prefix = format!("/function/{function}");
    let rest = url.path().find(&prefix).and_then(|at| url.path().get(at + prefix.len()..));
    rest.filter(|rest| !rest.is_empty()).unwrap_or("/")
}

/// The innermost cause: "connection refused" says more than "error sending request".
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
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
        let unavailable =
            |why: String| Error::unavailable("another node did not answer").caused_by(why);
        let keys = self.keys(function);
        let mut target = node.clone();
        let path = request.path().to_owned();
        let query = request.raw_query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        let mut headers = request.headers().clone();
        for name in NOT_PASSED_ON {
            headers.remove(name);
        }
        let body = request.into_body();
        for _ in 0..HOPS {
            let base = self
                .base(&target, function)
                .ok_or_else(|| Error::internal(format!("the topology has no node `{target}`")))?;
            let mark = if query.is_empty() { "" } else { "?" };
            let url = reqwest::Url::parse(&format!("{base}{path}{mark}{query}"))
                .map_err(|error| Error::internal("the path cannot be called").caused_by(error))?;
            // Signed is what is sent: a URL escapes what is special in it.
            let (sent_path, sent_query) = (path_after(&url, function), url.query());
            let call = Call {
                target: &target,
                method: method.as_str(),
                path: sent_path,
                query: sent_query.unwrap_or_default(),
                body: &body,
            };
            let caller = Caller { role: Role::Peer, name: self.here.clone() };
            let signed = keys
                .sign(&caller, &call, unix_ms(), Nonce(rand::random()))
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
            if status == StatusCode::TEMPORARY_REDIRECT {
                // G8: redirects only lead to gateways of the topology.
                target = self.follow(sent.headers()).map_err(unavailable)?;
                // Read to its end, the connection serves again.
                let _ = sent.bytes().await;
                continue;
            }
            let headers = sent.headers().clone();
            let body = sent.bytes().await.map_err(|error| unavailable(innermost(&error)))?;
            return Ok(Response::from_parts(status, headers, body));
        }
        Err(unavailable("the session moves faster than the request".to_owned()))
    }
}

impl HttpPeers {
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

#[cfg(test)]
mod tests;
