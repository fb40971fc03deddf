//! Signed calls of operators: of the command line and of the oracle.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::unix_ms;
use crate::http::problem::Received;
use crate::http::signature::{
    AnswerError, Call, Caller, Keys, Role, SIGNATURE_HEADER, SignatureError,
};
use crate::session::{FunctionName, NodeName, Nonce};
use crate::topology::Node;

/// Longer than a node takes until it answers 202 to a move: 10 s.
pub const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Larger answers are not read.
const LARGEST_ANSWER: usize = 16 << 20;

/// Calls nodes as an operator.
#[derive(Clone)]
pub struct OperatorClient {
    http: reqwest::Client,
    keys: Keys,
    caller: Caller,
}

/// A function as a gateway lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFunction {
    /// Its name.
    pub name: FunctionName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// How many replicas answer, if the gateway says so.
    pub replicas: Option<usize>,
}

/// An answer that the node signed, with a status below 300.
#[derive(Debug)]
pub struct Answer {
    node: NodeName,
    /// HTTP status.
    pub status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// Reads its JSON.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| CallError::Unreadable {
            node: self.node.clone(),
            why: error.to_string(),
        })
    }
}

/// Why a call brought no good answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answered for the node.
    #[error("`{node}` does not answer ({why}); see that it runs where the topology says")]
    Unreachable {
        /// Who was called.
        node: NodeName,
        /// What happened.
        why: String,
    },
    /// Somebody answered, but not provably the node.
    #[error("`{node}` gave no answer that counts (status {status}): {error}")]
    Untrusted {
        /// Who was called.
        node: NodeName,
        /// HTTP status.
        status: u16,
        /// What is wrong with its signature.
        error: AnswerError,
    },
    /// The node's answer makes no sense to this release.
    #[error("what `{node}` answers does not read ({why}); bring both to the same release")]
    Unreadable {
        /// Who was called.
        node: NodeName,
        /// What happened.
        why: String,
    },
    /// The gateway has no such function.
    #[error("`{node}` does not have the function `{function}`; deploy it there")]
    NoFunction {
        /// Who was called.
        node: NodeName,
        /// Which function.
        function: FunctionName,
    },
    /// The gateway does not tell which functions it has.
    #[error(
        "the gateway of `{node}` does not list its functions (status {status}); \
         name one with --function"
    )]
    NoList {
        /// Who was called.
        node: NodeName,
        /// HTTP status.
        status: u16,
    },
    /// The node says no.
    #[error("`{node}` says no ({code}): {detail}")]
    Refused {
        /// Who was called.
        node: NodeName,
        /// The problem's code.
        code: String,
        /// The problem's sentence.
        detail: String,
    },
    /// The call could not be signed.
    #[error(transparent)]
    Unsigned(#[from] SignatureError),
}

impl CallError {
    /// Whether this is an answer, and the answer is no.
    pub fn says_no(&self) -> bool {
        match self {
            Self::NoFunction { .. }
            | Self::NoList { .. }
            | Self::Refused { .. }
            | Self::Unsigned(_) => true,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Unreadable { .. } => false,
        }
    }

    /// Whether functions answer a signed call like this that are none of Funicular's: they
    /// do not sign. What cannot answer now may be one of ours, and so may what signs and is
    /// wrong.
    pub fn is_of_another(&self) -> bool {
        match self {
            Self::Untrusted { status, error: AnswerError::Unsigned, .. } => {
                // 408 and 429 are somebody's on the way, who wants to be asked later.
                *status < 500 && ![408, 429].contains(status)
            }
            Self::NoFunction { .. } => true,
            _ => false,
        }
    }

    /// The code of the node's problem, if the node said no.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl OperatorClient {
    /// A client that signs with the operators' key, as `name`, and waits for an answer
    /// for `patience`. Fails only if the HTTP client cannot be made.
    pub fn new(keys: Keys, name: NodeName, patience: Duration) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(patience)
            .connect_timeout(CONNECT_TIMEOUT)
            // A signature is for one node: following a redirect would be no use.
            .redirect(reqwest::redirect::Policy::none())
            // Nodes are called where the topology says, not through a proxy.
            .no_proxy()
            .build()
            .map_err(|error| format!("the HTTP client could not be made: {error}"))?;
        let caller = Caller { role: Role::Operator, name };
        Ok(Self { http, keys, caller })
    }

    /// The functions that a node's gateway has.
    pub async fn functions(&self, node: &Node) -> Result<Vec<FunctionName>, CallError> {
        Ok(self.listed(node, None).await?.into_iter().map(|listed| listed.name).collect())
    }

    /// How many replicas of a function answer at a node, as its gateway has it; `None` if
    /// it does not say.
    pub async fn replicas(&self, node: &Node, function: &FunctionName) -> Option<usize> {
        let listed = self.listed(node, None).await.ok()?;
        listed.into_iter().find(|listed| listed.name == *function)?.replicas
    }

    /// The same with what was said of them when they were deployed; `login` is user and
    /// password, for a gateway that asks for them.
    pub async fn listed(
        &self,
        node: &Node,
        login: Option<(&str, &str)>,
    ) -> Result<Vec<ListedFunction>, CallError> {
        #[derive(serde::Deserialize)]
        struct Listed {
            name: String,
            #[serde(default)]
            labels: Option<BTreeMap<String, String>>,
            #[serde(default)]
            annotations: Option<BTreeMap<String, String>>,
            #[serde(default, rename = "availableReplicas")]
            replicas: Option<usize>,
        }

        let mut request = self.http.get(format!("{}/system/functions", node.gateway));
        if let Some((user, password)) = login {
            request = request.basic_auth(user, Some(password));
        }
        let response = request.send().await.map_err(|e| unreachable(node, &e))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(CallError::NoList { node: node.name.clone(), status });
        }
        let body = read_body(node, response).await?;
        let answer = Answer { node: node.name.clone(), status, body };
        let listed: Vec<Listed> = answer.read()?;
        // A name that is none of OpenFaaS's cannot be called either.
        let known = listed.into_iter().filter_map(|listed| {
            Some(ListedFunction {
                name: FunctionName::new(&listed.name).ok()?,
                labels: listed.labels.unwrap_or_default(),
                annotations: listed.annotations.unwrap_or_default(),
                replicas: listed.replicas,
            })
        });
        Ok(known.collect())
    }

    /// `GET /_/<endpoint>` of a function at a node.
    pub async fn get(
        &self,
        node: &Node,
        function: &FunctionName,
        endpoint: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, CallError> {
        self.call(node, function, Method::GET, endpoint, query, Vec::new()).await
    }

    /// `POST /_/<endpoint>` of a function at a node, with a JSON body.
    pub async fn post(
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
        let mut headers = crate::trace::of_the_environment();
        crate::trace::pass_on(&mut headers);
        let request = self
            .http
            .request(method, url)
            .headers(headers)
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

async fn read_body(node: &Node, mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(node, &error))? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            let why = format!("its answer is larger than {LARGEST_ANSWER} bytes");
            return Err(CallError::Unreachable { node: node.name.clone(), why });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost reason says most: "connection refused".
fn unreachable(node: &Node, error: &(dyn Error + 'static)) -> CallError {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    CallError::Unreachable { node: node.name.clone(), why: format!("{}: {inner}", node.gateway) }
}
