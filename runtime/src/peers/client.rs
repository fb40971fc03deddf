//! Signed HTTP to the other nodes.
//!
//! - `answer`: what comes back, as far as it may go
//! - `invoke`: requests to other nodes' functions
//! - `version`: finding out which version another node speaks

pub(crate) mod answer;
pub(crate) mod invoke;
#[cfg(test)]
mod tests;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use self::version::{Learned, TRIES, says_unread, too_far_apart};
use super::version::{REMEMBERED, Versions, WireVersion};
use super::{PeerAnswer, PeerCall, PeerError, Peers};
use crate::http::problem::Received;
use crate::http::signature::{Call, Caller, FunctionKeys, Keys, Role, SIGNATURE_HEADER};
use crate::session::{FunctionName, NodeName, Nonce};
use crate::topology::Topology;
use crate::trace;

/// Idle connections that are kept to each node: more than the moves of a pair and the
/// recovery loop use at once. A burst of requests may open more; those are closed.
const IDLE_A_NODE: usize = 64;

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
        for questions in 1..=TRIES {
            let why = match self.exchange(to, function, call.clone()).await {
                Exchange::Done(answer) => return answer,
                Exchange::Unread(why) => why,
            };
            let question = (questions, call.timeout);
            match self.learn_version(to, function, call.version, question).await {
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
        let mut headers = HeaderMap::new();
        trace::pass_on(&mut headers);
        let sent = request
            .headers(headers)
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
        let body = answer::whole(sent, answer::OF_A_CALL).await.map_err(unreachable)?;
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
