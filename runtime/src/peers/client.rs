//! Signed HTTP to the other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::version::{REMEMBERED, Versions, WireVersion};
use super::{PeerAnswer, PeerCall, PeerError, Peers};
use crate::edge_db::Caller as Invokes;
use crate::function::{Error, Request, Response};
use crate::http::problem::{Code, Received};
use crate::http::signature::{Call, Caller, FunctionKeys, Keys, Role, SIGNATURE_HEADER};
use crate::session::{FunctionName, NodeName, Nonce, RequestId, SessionId};
use crate::topology::Topology;

/// How long a node may take to say which version it speaks.
const QUESTION: Duration = Duration::from_secs(5);
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
/// While a function's replicas at a node are replaced, an old one may refuse what a new
/// one says that it reads: so many are asked, and the call is made so often.
const REPLICAS: usize = 2;
const TRIES: usize = 5;
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
    versions: Mutex<Versions>,
}

/// What came of one call.
enum Exchange {
    /// The node's answer, or that there is none.
    Done(Result<PeerAnswer, PeerError>),
    /// Somebody says, unsigned, that the node does not read the call's version.
    Unread(PeerError),
}

/// What a node says of the version that it was called in.
enum Learned {
    /// It speaks another; a sentence.
    Other(String),
    /// It speaks that one.
    Same,
    /// It does not say.
    Nothing,
}

/// What a status says of versions.
#[derive(serde::Deserialize)]
struct Speaks {
    wire_version: u32,
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
        let versions = Mutex::new(Versions::new(WireVersion::NEWEST, REMEMBERED));
        Ok(Self { here, http, keys, derived: Mutex::default(), topology, versions })
    }

    /// Speaks no newer version than this.
    #[must_use]
    pub fn speaking(mut self, newest: WireVersion) -> Self {
        self.versions = Mutex::new(Versions::new(newest, REMEMBERED));
        self
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
    fn version(&self, to: &NodeName, function: &FunctionName) -> WireVersion {
        self.versions.lock().with(to, function, Instant::now())
    }

    async fn call(
        &self,
        to: &NodeName,
        function: &FunctionName,
        call: PeerCall,
    ) -> Result<PeerAnswer, PeerError> {
        let mut refused = None;
        for _ in 0..TRIES {
            let why = match self.exchange(to, function, call.clone()).await {
                Exchange::Done(answer) => return answer,
                Exchange::Unread(why) => why,
            };
            match self.learn_version(to, function, call.version, call.timeout).await {
                Learned::Other(why) => return Err(too_far_apart(to, why)),
                Learned::Same => refused = Some(why),
                Learned::Nothing => return Err(why),
            }
        }
        let nobody = || PeerError::Unreachable { node: to.clone(), why: "no answer".to_owned() };
        Err(refused.unwrap_or_else(nobody))
    }
}

impl HttpPeers {
    /// Somebody said, unsigned, that a node does not read `tried`. Anybody on the way may
    /// have said so, to be spoken to in a version that covers less. So it is believed
    /// when the node says which one it speaks, signed, in the version that it reads if
    /// it is of a release next to this one.
    async fn learn_version(
        &self,
        to: &NodeName,
        function: &FunctionName,
        tried: WireVersion,
        timeout: Duration,
    ) -> Learned {
        let mut learned = Learned::Nothing;
        if tried == WireVersion::OLDEST {
            return learned;
        }
        for _ in 0..REPLICAS {
            if self.version(to, function) < tried {
                return Learned::Other("it was asked just now".to_owned());
            }
            let question = PeerCall {
                version: WireVersion::OLDEST,
                endpoint: "status",
                query: Some(String::new()),
                body: Bytes::new(),
                timeout,
            };
            let Exchange::Done(Ok(answer)) = self.exchange(to, function, question).await else {
                return learned;
            };
            let Ok(Speaks { wire_version }) = serde_json::from_slice(&answer.body) else {
                return learned;
            };
            let mut versions = self.versions.lock();
            let common = versions.learned(to, function, wire_version, Instant::now());
            if common != Some(tried) {
                tracing::info!(
                    node = %self.here, %to, %function, wire_version, spoken = ?common,
                    "another node speaks another version of the internal calls"
                );
                let why = format!("it speaks version {wire_version} of the internal calls");
                return Learned::Other(why);
            }
            learned = Learned::Same;
        }
        learned
    }

    async fn exchange(&self, to: &NodeName, function: &FunctionName, call: PeerCall) -> Exchange {
        match self.try_exchange(to, function, call).await {
            Ok(done) => done,
            Err(error) => Exchange::Done(Err(error)),
        }
    }

    async fn try_exchange(
        &self,
        to: &NodeName,
        function: &FunctionName,
        call: PeerCall,
    ) -> Result<Exchange, PeerError> {
        let unreachable = |why: String| PeerError::Unreachable { node: to.clone(), why };
        let base = self
            .base(to, function)
            .ok_or_else(|| unreachable("it is not in this node's topology".to_owned()))?;
        let path = format!("/_/{}", call.endpoint);
        let query = call.query.as_deref().unwrap_or_default();
        let method = if call.query.is_some() { "GET" } else { "POST" };
        let signed = self
            .keys(function)
            .sign_in(
                call.version,
                &Caller { role: Role::Peer, name: self.here.clone() },
                &Call { method, path: &path, query, body: &call.body, ..Call::to(to) },
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
            return match (status, header) {
                (StatusCode::NOT_FOUND, None) => Err(PeerError::NoFunction { node: to.clone() }),
                (_, header) => {
                    let why = unreachable(unsigned(status, &body, &error.to_string()));
                    if header.is_none() && says_unread(status, &body) {
                        return Ok(Exchange::Unread(why));
                    }
                    Err(why)
                }
            };
        }
        if status.is_success() || status == StatusCode::TEMPORARY_REDIRECT {
            return Ok(Exchange::Done(Ok(PeerAnswer { status: status.as_u16(), body })));
        }
        Err(refused(to, status, &body, retry_after.map(Duration::from_secs)))
    }
}

fn too_far_apart(node: &NodeName, message: String) -> PeerError {
    PeerError::Refused {
        node: node.clone(),
        status: Code::UnsupportedVersion.status().as_u16(),
        code: Code::UnsupportedVersion.as_str().to_owned(),
        message,
        refusal: None,
        retry_after: None,
    }
}

/// Whether an answer that is not signed says that the call's version is not read. Version 1
/// knows no word of its own for that.
fn says_unread(status: StatusCode, body: &[u8]) -> bool {
    let code = Received::read(body).and_then(|problem| problem.code);
    match code.as_deref().and_then(Code::parse) {
        Some(Code::UnsupportedVersion) => true,
        Some(Code::BadSignature) => status == StatusCode::UNAUTHORIZED,
        _ => false,
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
        let mut target = node.clone();
        let path = request.path().to_owned();
        let query = request.raw_query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        let mut headers = request.headers().clone();
        for name in NOT_PASSED_ON {
            headers.remove(name);
        }
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
                    let learned = self.learn_version(&target, function, version, QUESTION).await;
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
        let body = sent.bytes().await.map_err(|error| unavailable(innermost(&error)))?;
        let signature = headers.remove(SIGNATURE_HEADER);
        let signature = signature.as_ref().and_then(|value| value.to_str().ok());
        if version > WireVersion::V1 {
            let place = headers.get(http::header::LOCATION);
            let place = place.and_then(|value| value.to_str().ok()).unwrap_or_default();
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

#[cfg(test)]
mod tests;
