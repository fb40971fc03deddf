//! The other nodes, as a node talks to them.
//!
//! [`Peers`] carries one call; `client` does it over signed HTTP, tests may do
//! it otherwise. [`messages`] are the bodies, [`version`] says in which version they go.
//! [`operator`] calls nodes as an operator.

mod client;
pub mod messages;
pub mod operator;
pub mod version;

use std::fmt::Write;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::http::problem::Code;
use crate::protocol::Refusal;
use crate::session::{FunctionName, NodeName};

pub use client::HttpPeers;
pub(crate) use client::answer::{OF_A_FUNCTION, whole};
pub(crate) use client::invoke::followed;
pub(crate) use client::{innermost, unix_ms};
pub use version::WireVersion;

/// One internal call.
#[derive(Debug, Clone)]
pub struct PeerCall {
    /// The version that it is made in, and answered.
    pub version: WireVersion,
    /// The endpoint below `/_/`, such as `migrate-session`.
    pub endpoint: &'static str,
    /// The query, without `?`; a call with one is a GET.
    pub query: Option<String>,
    /// The body, JSON.
    pub body: Bytes,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

/// A signed answer.
#[derive(Debug, Clone)]
pub struct PeerAnswer {
    /// HTTP status, 2xx or 307.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// A call that brought no good answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// No answer, or one that is not signed by that node: whether the call had
    /// an effect is not known.
    #[error("{node} does not answer: {why}")]
    Unreachable {
        /// Who was called.
        node: NodeName,
        /// What happened.
        why: String,
    },
    /// The node's gateway answers, and has no such function.
    #[error("{node} does not have this function")]
    NoFunction {
        /// Who was called.
        node: NodeName,
    },
    /// The node answered, signed, that it will not; or the releases are too far apart.
    #[error("{node} refuses: {message}")]
    Refused {
        /// Who was called.
        node: NodeName,
        /// HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// The problem's sentence.
        message: String,
        /// What the protocol said, if it was the protocol.
        refusal: Option<Refusal>,
        /// When to ask again, if the node said so.
        retry_after: Option<Duration>,
    },
}

impl PeerError {
    /// What the peer's protocol core said, if it was that.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => refusal.as_ref(),
            _ => None,
        }
    }

    /// Whether nobody answered for that node.
    pub fn unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether the node did nothing since it does not read the call's version.
    pub fn in_another_version(&self) -> bool {
        self.code() == Some(Code::UnsupportedVersion.as_str())
    }

    /// When the node wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The code of the problem that the peer answered with.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// How a node reaches the others.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The version to call `function` at node `to` in, as far as is known.
    fn version(&self, to: &NodeName, function: &FunctionName) -> WireVersion {
        let _ = (to, function);
        WireVersion::NEWEST
    }

    /// Calls `function` at node `to`. A call in a version that is not read there is
    /// refused as `unsupported-version`, and nothing was done; from then on [`Peers::version`]
    /// says which one is, if there is any.
    async fn call(
        &self,
        to: &NodeName,
        function: &FunctionName,
        call: PeerCall,
    ) -> Result<PeerAnswer, PeerError>;
}

/// A value for a query: everything but letters, digits and `-_.~` escaped.
pub(crate) fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
