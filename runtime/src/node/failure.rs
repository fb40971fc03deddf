//! Why a request or an internal call did not end well.

use std::time::Duration;

use crate::peers::PeerError;
use crate::protocol::Refusal;
use crate::session::NodeName;
use crate::store::StoreError;

/// What a node answers instead of a result. `http` gives each its status, its
/// code and its page.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// No route of the function fits the path.
    #[error("this function has no path {0:?}")]
    NoRoute(String),
    /// Routes fit the path, not the method.
    #[error("this path does not take that method")]
    MethodNotAllowed(Vec<http::Method>),
    /// The session is unknown here, and this node creates none.
    #[error("this node creates no sessions")]
    UnknownSession {
        /// The nodes that do.
        entries: Vec<NodeName>,
    },
    /// Tools asked for a session that is not known here.
    #[error("no such session is known here")]
    NoSuchSession,
    /// The request id was used for another request.
    #[error("this request id was used for a request with another content")]
    RequestIdReused,
    /// The first response was too large to keep.
    #[error("this request took effect before; its response was too large to keep")]
    ReplyNotKept {
        /// The first response's status.
        status: u16,
    },
    /// The session stayed busy.
    #[error("the session stayed busy")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// As many requests run as may.
    #[error("too many requests")]
    TooManyRequests,
    /// As many requests wait for the session as may.
    #[error("too many requests for one session")]
    LineFull,
    /// Sessions are created faster than `creation_rate`.
    #[error("too many new sessions")]
    TooManyNewSessions,
    /// As many moves wait here as may.
    #[error("too many moves wait here")]
    TooManyMoves,
    /// This node's store was restored, and nobody has said yet what of it still holds.
    #[error("this node's store was put back to a backup")]
    Restoring,
    /// What is asked of a restore would begin one by mistake, or undo what it decided.
    #[error("{0}")]
    RestoreRefused(String),
    /// This node is being drained.
    #[error("this node is being drained")]
    Draining,
    /// The root was told to drain.
    #[error("the root cannot be drained: there is nobody above it")]
    RootStays,
    /// No room for another session.
    #[error("no room for more sessions")]
    NoRoom,
    /// The turn was lost while the handler ran; nothing was written.
    #[error("the request lost its turn; nothing was written")]
    LeaseLost,
    /// The handler did not end in time; nothing was written.
    #[error("the handler took too long; nothing was written")]
    HandlerTimeout,
    /// The handler panicked; nothing was written.
    #[error("the handler failed; nothing was written")]
    HandlerPanicked,
    /// The session would be too large; nothing was written.
    #[error("the session would hold {bytes} bytes, more than the {max} allowed")]
    SessionTooLarge {
        /// What it would hold.
        bytes: u64,
        /// What it may hold.
        max: u64,
    },
    /// The commit's outcome cannot be learned.
    #[error("whether the request took effect is not known")]
    OutcomeUnknown,
    /// The store does not answer, or is full, or recovers.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The protocol refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another node refuses or does not answer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The call is not for this node, or its content makes no sense.
    #[error("{0}")]
    BadCall(String),
    /// The calling node is not in this node's topology (yet).
    #[error("{0} is not in this node's topology")]
    UnknownPeer(NodeName),
    /// A propagated value is larger than a body may be; nothing was written.
    #[error("a propagated value is larger than the {0} bytes of a body")]
    ValueTooLarge(usize),
    /// The handler of propagated values refuses this one.
    #[error("{0}")]
    NotTaken(String),
    /// The root was told to reject.
    #[error("the root takes every session: it cannot reject")]
    RootAccepts,
    /// The calling node is barred here.
    #[error("{0} was given up here")]
    Barred(NodeName),
    /// The other function's state is of a newer schema.
    #[error("the session's schema {theirs} is newer than this function's {ours}")]
    SchemaTooNew {
        /// The offered session's.
        theirs: u32,
        /// This function's.
        ours: u32,
    },
    /// The move did not end well; whatever is in doubt is being asked.
    #[error("{0}")]
    MoveFailed(String),
}

impl Failure {
    /// The same in a word, for metrics: the code that `http` gives it, where that is one.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::NoSuchSession => "no-such-session",
            Self::Busy { .. } => "busy",
            Self::TooManyMoves => "too-many-moves",
            Self::Restoring => "restoring",
            Self::Draining => "draining",
            Self::NoRoom => "no-room",
            Self::Store(StoreError::Full) => "store-full",
            Self::Store(_) => "store",
            Self::Refused(_) => "refused",
            Self::Peer(PeerError::Unreachable { .. }) => "unreachable",
            Self::Peer(PeerError::NoFunction { .. }) => "no-such-function",
            Self::Peer(PeerError::Refused { refusal: Some(_), .. }) => "refused",
            Self::Peer(PeerError::Refused { code, .. }) => code,
            Self::Barred(_) => "barred",
            Self::UnknownPeer(_) => "unknown-peer",
            Self::SchemaTooNew { .. } => "older-schema",
            _ => "move-failed",
        }
    }
}

/// A node's result.
pub type Outcome<T> = Result<T, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_refuses_is_refused_wherever_it_was_asked() {
        let refused = |code: &str, refusal: Option<Refusal>| {
            let (node, code) = (NodeName::new("milan").unwrap(), code.to_owned());
            let message = String::new();
            let retry_after = None;
            PeerError::Refused { node, status: 409, code, message, refusal, retry_after }
        };
        let here = Failure::Refused(Refusal::Unsettled);
        let there = Failure::Peer(refused("unsettled", Some(Refusal::Unsettled)));
        assert_eq!((here.reason(), there.reason()), ("refused", "refused"));
        assert_eq!(Failure::Peer(refused("no-room", None)).reason(), "no-room");
    }
}
