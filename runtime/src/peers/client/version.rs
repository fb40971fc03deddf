//! Finding out which version another node speaks.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::{Exchange, HttpPeers};
use crate::http::problem::{Code, Received};
use crate::peers::{PeerCall, PeerError, Peers, WireVersion};
use crate::session::{FunctionName, NodeName};

/// While a function's replicas at a node are replaced, an old one may refuse what a new
/// one says that it reads. A call is made so often, and before each repeat one question
/// more is asked than before the last: whoever takes turns does not stay in step.
pub(super) const TRIES: usize = 5;

/// What a node says of the version that it was called in.
pub(super) enum Learned {
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
    /// Somebody said, unsigned, that a node does not read `tried`. Anybody on the way may
    /// have said so, to be spoken to in a version that covers less. So it is believed
    /// when the node says which one it speaks, signed, in the version that it reads if
    /// it is of a release next to this one.
    pub(super) async fn learn_version(
        &self,
        to: &NodeName,
        function: &FunctionName,
        tried: WireVersion,
        (questions, timeout): (usize, Duration),
    ) -> Learned {
        let mut learned = Learned::Nothing;
        if tried == WireVersion::OLDEST {
            return learned;
        }
        for _ in 0..questions {
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
}

/// Whether an answer that is not signed says that the call's version is not read. Version 1
/// knows no word of its own for that.
pub(super) fn says_unread(status: StatusCode, body: &[u8]) -> bool {
    let code = Received::read(body).and_then(|problem| problem.code);
    match code.as_deref().and_then(Code::parse) {
        Some(Code::UnsupportedVersion) => true,
        Some(Code::BadSignature) => status == StatusCode::UNAUTHORIZED,
        _ => false,
    }
}

pub(super) fn too_far_apart(node: &NodeName, message: String) -> PeerError {
    PeerError::Refused {
        node: node.clone(),
        status: Code::UnsupportedVersion.status().as_u16(),
        code: Code::UnsupportedVersion.as_str().to_owned(),
        message,
        refusal: None,
        retry_after: None,
    }
}
