//! Problems of the layers below: which code their errors go out under.

use http::{StatusCode, header};
use serde_json::Value;

use super::each::SOON;
use super::{Code, Problem};
use crate::http::signature::SignatureError;
use crate::peers::PeerError;
use crate::protocol::Refusal;
use crate::session::NodeName;
use crate::store::StoreError;

impl Problem {
    /// 401: why a signature was refused, under the code that fits; 400 if it is of a
    /// version that is not read.
    pub fn unauthorized(error: &SignatureError) -> Self {
        let code = match error {
            SignatureError::UnknownVersion { newest, .. } => {
                let problem = Self::new(Code::UnsupportedVersion, error.to_string());
                return problem.with("known", newest.number());
            }
            SignatureError::Unsigned | SignatureError::Malformed(_) | SignatureError::NoKey(_) => {
                Code::Unsigned
            }
            SignatureError::UnknownKey { .. } | SignatureError::Bad => Code::BadSignature,
            SignatureError::Stale { .. } | SignatureError::Crowded => Code::StaleSignature,
            SignatureError::Replayed => Code::ReplayedCall,
        };
        Self::new(code, error.to_string()).header(header::WWW_AUTHENTICATE, "Funicular-Signature")
    }

    /// 409: why the protocol refused, under the code that fits.
    pub fn refused(refusal: &Refusal) -> Self {
        let mut problem = match refusal {
            Refusal::OtherLife => Self::other_life(),
            Refusal::StaleEpoch { epoch } => Self::stale_epoch(*epoch),
            Refusal::Superseded { epoch } => Self::superseded(*epoch),
            Refusal::MoveOpen => Self::move_open(),
            Refusal::Unsettled => Self::unsettled(),
            Refusal::NoSuchMove => Self::no_such_move(),
            Refusal::NoSuchCopy => Self::no_such_copy(),
            Refusal::NotOwner { to } => Self::not_owner(to.as_ref()),
            Refusal::InUse => Self::in_use(),
        };
        // The refusal itself goes along, for the node that asked.
        if let Ok(Value::Object(members)) = serde_json::to_value(refusal) {
            problem.extra.extend(members);
        }
        problem
    }

    /// What a store's error means to a request that did nothing before it, at the
    /// node `here`.
    pub fn store(error: &StoreError, here: &NodeName) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::store_unavailable(),
            StoreError::Restarted => Self::store_recovering(),
            StoreError::Full => Self::no_room(here),
            StoreError::Corrupt(_) => Self::store_corrupt(),
        }
    }

    /// What another node's "no", or its silence, means to whoever asked here.
    pub fn peer(error: &PeerError) -> Self {
        match error {
            PeerError::Unreachable { node, .. } => Self::peer_unreachable(node),
            PeerError::NoFunction { node } => Self::no_such_function(node),
            PeerError::Refused { refusal: Some(refusal), .. } => Self::refused(refusal),
            PeerError::Refused { node, status, code, message, retry_after, .. } => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut problem = Self::plain(status, format!("`{node}` says: {message}"));
                problem.code = Code::parse(code);
                if [423, 429, 503].contains(&status.as_u16()) {
                    problem = problem.retry_after(retry_after.unwrap_or(SOON));
                }
                problem.with("location", node.as_str())
            }
        }
    }
}
