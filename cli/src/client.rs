//! Signed calls to nodes. All of the command line's HTTP is here.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use funicular::http::problem::Received;
use funicular::http::signature::{
    AnswerError, Call, Caller, Keys, Role, SIGNATURE_HEADER, SignatureError,
};
use funicular::session::{FunctionName, NodeName, Nonce};
use funicular::topology::Node;
use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than a node takes until it answers 202 to a move.
const TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Calls nodes as an operator.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    keys: Keys,
    caller: Caller,
}

/// An answer that the node signed, with a status below 300.
#[derive(Debug)]
pub(crate) struct Answer {
    node: NodeName,
    pub(crate) status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// Reads its JSON.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| CallError::Unreadable {
            node: self.node.clone(),
            why: error.to_string(),
        })
    }
}

/// Why a call brought no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody answered for the node.
    #[error("`{node}` does not answer ({why}); see that it runs where the topology says")]
    Unreachable { node: NodeName, why: String },
    /// Somebody answered, but not provably the node.
    #[error("`{node}` gave no answer that counts (status {status}): {error}")]
    Untrusted { node: NodeName, status: u16, error: AnswerError },
    /// The node's answer makes no sense to this release.
    #[error("what `{node}` answers does not read ({why}); bring both to the same release")]
    Unreadable { node: NodeName, why: String },
    /// The gateway has no such function.
    #[error("`{node}` does not have the function `{function}`; deploy it there")]
    NoFunction { node: NodeName, function: FunctionName },
    /// The gateway does not tell which functions it has.
    #[error(
        "the gateway of `{node}` does not list its functions (status {status}); \
         name one with --function"
    )]
    NoList { node: NodeName, status: u16 },
    /// The node says no.
    #[error("`{node}` says no ({code}): {detail}")]
    Refused { node: NodeName, code: String, detail: String },
    /// The call could not be signed.
    #[error(transparent)]
    Unsigned(#[from] SignatureError),
}

impl CallError {
    /// Whether this is an answer, and the answer is no.
    pub(crate) fn says_no(&self) -> bool {
        match self {
            Self::NoFunction { .. }
            | Self::NoList { .. }
            | Self::Refused { .. }
            | Self::Unsigned(_) => true,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Unreadable { .. } => false,
        }
    }

    /// The code of the node's problem, if the node said no.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl Client {
    /// A client that signs with the operators' key.
    pub(crate) fn new(keys: Keys) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // A signature is for one node: following a redirect would be no use.
            .redirect(reqwest::redirect::Policy::none())
            // Nodes are called where the topology says, not through a proxy.
            .no_proxy()
            .build()?;
        let caller = Caller { role: Role::Operator, name: NodeName::new("cli")? };
        Ok(Self { http, keys, caller })
    }

    /// The functions that a node's gateway has.
    pub(crate) async fn functions(&self, node: &Node) -> Result<Vec<FunctionName>, CallError> {
        #[derive(serde::Deserialize)]
        struct Listed {
            name: String,
        }

        let url = format!("{}/system/functions", node.gateway);
        let response = self.http.get(url).send().await.map_err(|e| unreachable(node, &e))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(CallError::NoList { node: node.name.clone(), status });
        }
        let body = read_body(node, response).await?;
        let answer = Answer { node: node.name.clone(), status, body };
        let listed: Vec<Listed> = answer.read()?;
        // A name that is none of OpenFaaS's cannot be called either.
        Ok(listed.iter().filter_map(|listed| FunctionName::new(&listed.name).ok()).collect())
    }

    /// `GET /_/<endpoint>` of a function at a node.
    pub(crate) async fn get(
        &self,
        node: &Node,
        function: &FunctionName,
        endpoint: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, CallError> {
        self.call(node, function, Method::GET, endpoint, query, Vec::new()).await
    }

    /// `POST /_/<endpoint>` of a function at a node, with a JSON body.
    pub(crate) async fn post(
        &self,
        node: &Node,
        function: &FunctionName,
        endpoint: &str,
        body: &impl Serialize,
    ) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Unreadable {
            node: node.name.clone(),
            why: error.to_string(),
        })?;
        self.call(node, function, Method::POST, endpoint, &[], body).await
    }

    async fn call(
        &self,
        node: &Node,
        function: &FunctionName,
        method: Method,
        endpoint: &str,
        query: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, CallError> {
        let path = format!("/_/{endpoint}");
        let mut url = Url::parse(&format!("{}/function/{function}{path}", node.gateway))
            .map_err(|error| unreachable(node, &error))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let query = url.query().unwrap_or_default();
        let (verb, path) = (method.as_str(), path.as_str());
        let call = Call { method: verb, path, query, body: &body, ..Call::to(&node.name) };
        let keys = self.keys.for_function(function);
        let signed = keys.sign(&self.caller, &call, unix_ms(), Nonce(rand::random()))?;
        let request = self
            .http
            .request(method, url)
            .header(SIGNATURE_HEADER, signed.header())
            .header("content-type", "application/json")
            .body(body);
        let response = request.send().await.map_err(|error| unreachable(node, &error))?;
        let status = response.status().as_u16();
        let signature = response.headers().get(SIGNATURE_HEADER).cloned();
        let signature = signature.as_ref().and_then(|value| value.to_str().ok());
        let body = read_body(node, response).await?;
        match signed.check_answer(signature, status, &body) {
            Ok(()) if (200..300).contains(&status) => {
                Ok(Answer { node: node.name.clone(), status, body })
            }
            Ok(()) => Err(refused(node, status, &body)),
            Err(error) => Err(uncounted(node, function, status, &body, error)),
        }
    }
}

fn refused(node: &Node, status: u16, body: &[u8]) -> CallError {
    let node = node.name.clone();
    match Received::read(body) {
        Some(problem) => CallError::Refused {
            node,
            code: problem.code.unwrap_or_else(|| status.to_string()),
            detail: problem.detail,
        },
        None => CallError::Refused {
            node,
            code: status.to_string(),
            detail: "it does not say why; see its log".to_owned(),
        },
    }
}

/// An answer whose signature does not count: a gateway's own, or a node's that
/// does not accept our key and so cannot sign for us. Nothing rests on these.
fn uncounted(
    node: &Node,
    function: &FunctionName,
    status: u16,
    body: &[u8],
    error: AnswerError,
) -> CallError {
    match (status, Received::read(body)) {
        (401 | 403, Some(_)) => refused(node, status, body),
        (404, None) => {
            CallError::NoFunction { node: node.name.clone(), function: function.clone() }
        }
        (502..=504, _) => CallError::Unreachable {
            node: node.name.clone(),
            why: format!("its gateway answers {status} for `{function}`"),
        },
        _ => CallError::Untrusted { node: node.name.clone(), status, error },
    }
}

async fn read_body(node: &Node, response: Response) -> Result<Vec<u8>, CallError> {
    Ok(response.bytes().await.map_err(|error| unreachable(node, &error))?.to_vec())
}

/// The innermost reason says most: "connection refused".
fn unreachable(node: &Node, error: &(dyn Error + 'static)) -> CallError {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    CallError::Unreachable { node: node.name.clone(), why: format!("{}: {inner}", node.gateway) }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
