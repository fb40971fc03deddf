//! One constructor a code, by status. The conflicts (409) are in `conflicts`.

use std::time::Duration;

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Code, Problem};
use crate::session::{InvalidId, NodeName};
use crate::topology::Node;

pub(super) const SOON: Duration = Duration::from_secs(1);

impl Problem {
    /// 208: a repeat whose first reply, of this status, was too large to keep.
    pub fn reply_not_kept(first: StatusCode) -> Self {
        Self::new(
            Code::ReplyNotKept,
            "the request took effect when it was made first; read what it changed instead of \
             sending it again",
        )
        .with("first_status", first.as_u16())
    }

    /// 400: no `X-session`.
    pub fn missing_session() -> Self {
        Self::new(
            Code::MissingSession,
            "name the session in the header `X-session`: 1 to 256 visible ASCII characters that \
             stay the same for one client",
        )
    }

    /// 400: an `X-session` that is none.
    pub fn malformed_session(error: &InvalidId) -> Self {
        Self::new(Code::MalformedSession, format!("{error}; choose another id"))
    }

    /// 400: a request id that is none.
    pub fn malformed_request_id(error: &InvalidId) -> Self {
        Self::new(Code::MalformedRequestId, format!("{error}; send a UUID or no id"))
    }

    /// 400: an `X-session-token` that does not read.
    pub fn bad_token(error: &InvalidId) -> Self {
        Self::new(
            Code::BadToken,
            format!("{error}; send the token of the last response, or none: it is only a hint"),
        )
    }

    /// 400: a body other than its `Content-Digest` says.
    pub fn digest_mismatch() -> Self {
        Self::new(
            Code::DigestMismatch,
            "the body that arrived does not have the digest in `Content-Digest`, and nothing ran; \
             send it again, with the digest of the bytes as sent",
        )
    }

    /// 400: anything else that does not read. `what` is a sentence that says what to send.
    pub fn bad_request(what: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, what)
    }

    /// 400: an internal call of a version this release does not read.
    pub fn unsupported_version(found: u32, known: u32) -> Self {
        Self::new(
            Code::UnsupportedVersion,
            format!(
                "the message has version {found} and this node reads up to {known}; \
                 bring both nodes to releases next to each other"
            ),
        )
        .with("known", known)
    }

    /// 403: the calling node was given up for lost.
    pub fn barred(node: &NodeName) -> Self {
        Self::new(
            Code::Barred,
            format!(
                "`{node}` was given up for lost and its sessions went on elsewhere; \
                 see `funicular recover` before it serves again"
            ),
        )
    }

    /// 403: the calling node is not in this node's topology.
    pub fn unknown_peer(node: &NodeName) -> Self {
        Self::new(
            Code::UnknownPeer,
            format!(
                "`{node}` is not in the topology here, so nothing was done; give both nodes the \
                 same topology and repeat the call"
            ),
        )
    }

    /// 403: signed well, but by somebody who may not make this call.
    pub fn wrong_role(needed: &str) -> Self {
        Self::new(
            Code::WrongRole,
            format!("only {needed} may make this call; sign it with their key"),
        )
    }

    /// 404: a tool asks about a session that this node does not know.
    pub fn no_such_session(here: &NodeName) -> Self {
        Self::new(
            Code::NoSuchSession,
            format!(
                "`{here}` knows no such session of this function; ask its home, or see whether \
                 the id is right and the session has not expired"
            ),
        )
    }

    /// 404: no endpoint of this path.
    pub fn no_such_route(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Self::new(Code::NoSuchRoute, format!("nothing answers at {shown:?}; see the path"))
    }

    /// 404: `node` does not have this function.
    pub fn no_such_function(node: &NodeName) -> Self {
        Self::new(
            Code::NoSuchFunction,
            format!("`{node}` does not have this function; deploy it there or ask another node"),
        )
        .with("location", node.as_str())
    }

    /// 405: another method is needed.
    pub fn method_not_allowed(allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        Self::new(Code::MethodNotAllowed, format!("this path takes {allowed}; call it with that"))
            .header(header::ALLOW, &allowed)
    }

    /// 413: the body has more than `limit` bytes.
    pub fn too_large(limit: u64) -> Self {
        Self::new(
            Code::TooLarge,
            format!("bodies have at most {limit} bytes here; send less, or raise `max_body`"),
        )
        .with("limit", limit)
    }

    /// 413: the session would have `bytes` bytes, more than `limit`.
    pub fn session_too_large(bytes: u64, limit: u64) -> Self {
        Self::new(
            Code::SessionTooLarge,
            format!(
                "the session would have {bytes} bytes and may have {limit}, so nothing was \
                 written; delete something first, or raise `max_session_bytes`"
            ),
        )
        .with("limit", limit)
    }

    /// 421: a session this node does not know and may not create.
    pub fn unknown_session<'a>(
        here: &NodeName,
        entry_nodes: impl IntoIterator<Item = &'a Node>,
    ) -> Self {
        let entries: Vec<Value> = entry_nodes
            .into_iter()
            .map(|node| json!({ "name": node.name.as_str(), "gateway": node.gateway }))
            .collect();
        Self::new(
            Code::UnknownSession,
            format!(
                "`{here}` does not know the session and may not create it; \
                 begin it at one of `entry_nodes`"
            ),
        )
        .with("entry_nodes", entries)
    }

    /// 422: the id of another request.
    pub fn request_id_reused() -> Self {
        Self::new(
            Code::RequestIdReused,
            "this request id belongs to a request with another method, path, query or body, and \
             nothing ran; give every request an id of its own",
        )
    }

    /// 422: the receiving handler refused a propagated value; `why` is its sentence.
    pub fn not_taken(why: impl Into<String>) -> Self {
        Self::new(Code::NotTaken, why)
    }

    /// 423: the turn ran out before the commit.
    pub fn lease_lost() -> Self {
        Self::new(
            Code::LeaseLost,
            "the request lost its turn and nothing was written; repeat it with the same id",
        )
        .retry_after(SOON)
    }

    /// 429: `limit` requests are running.
    pub fn too_many_requests(limit: usize) -> Self {
        Self::new(
            Code::TooManyRequests,
            format!("{limit} requests are running, as many as `max_inflight` lets; try again"),
        )
        .retry_after(SOON)
    }

    /// 429: `limit` requests wait for one session.
    pub fn too_many_waiting(limit: usize) -> Self {
        Self::new(
            Code::TooManyRequests,
            format!(
                "{limit} requests wait for this session, as many as `max_waiting` lets; try again"
            ),
        )
        .retry_after(SOON)
    }

    /// 429: sessions are created faster than allowed.
    pub fn too_many_new_sessions(wait: Duration) -> Self {
        Self::new(
            Code::TooManyNewSessions,
            "sessions are created faster here than is allowed; use the ones you have, or try \
             again after the time in `Retry-After`",
        )
        .retry_after(wait)
    }

    /// 429: `limit` moves wait already.
    pub fn too_many_moves(limit: usize) -> Self {
        Self::new(
            Code::TooManyMoves,
            format!(
                "as many moves wait here as may ({limit}, or none came to its turn in time), and \
                 this one did not begin; try again after the time in `Retry-After`"
            ),
        )
        .retry_after(SOON)
    }

    /// 500: the handler panicked or failed. The reason is in the log only.
    pub fn handler_failed() -> Self {
        Self::new(
            Code::HandlerFailed,
            "the function failed and nothing was written; its log says why",
        )
    }

    /// 500: what the store holds does not read. The reason is in the log only.
    pub fn store_corrupt() -> Self {
        Self::new(
            Code::StoreCorrupt,
            "what is stored of this session does not read with this release; the log says what, \
             and a newer release may read it",
        )
    }

    /// 503: others had the session, or all places to run at its node, for all of `waited`.
    pub fn busy(waited: Duration) -> Self {
        Self::new(
            Code::Busy,
            format!(
                "the session, or every place to run at its node, was busy for {} ms and nothing \
                 ran; repeat the request",
                waited.as_millis()
            ),
        )
        .retry_after(SOON)
    }

    /// 503: the store does not answer, and the request did nothing. For a commit
    /// whose reply was lost see [`Self::outcome_unknown`].
    pub fn store_unavailable() -> Self {
        Self::new(
            Code::StoreUnavailable,
            "the node's store does not answer and nothing was written; repeat the request",
        )
        .retry_after(SOON)
    }

    /// 503: the store came back and its sessions are being looked after.
    pub fn store_recovering() -> Self {
        Self::new(
            Code::StoreRecovering,
            "the node's store was restarted and its sessions are being recovered; \
             repeat the request",
        )
        .retry_after(SOON)
    }

    /// 503: the store was put back to a backup, and is not served before it is judged.
    pub fn restoring(here: &NodeName) -> Self {
        Self::new(
            Code::Restoring,
            format!(
                "the store of `{here}` was put back to a backup and nothing ran; repeat the \
                 request once an operator has run `funicular restore {here}`"
            ),
        )
        .retry_after(5 * SOON)
    }

    /// 503: whether the request took effect could not be learned.
    pub fn outcome_unknown() -> Self {
        Self::new(
            Code::OutcomeUnknown,
            "the request may have taken effect; repeat it with the same request id, which makes \
             that safe (without an id, read first)",
        )
        .retry_after(SOON)
    }

    /// 503: `node` has to be asked and does not answer.
    pub fn peer_unreachable(node: &NodeName) -> Self {
        Self::new(
            Code::PeerUnreachable,
            format!("`{node}` has to be asked about this session and does not answer; try again"),
        )
        .with("location", node.as_str())
        .retry_after(2 * SOON)
    }

    /// 503: the move broke off; `why` says at what.
    pub fn move_failed(why: &str) -> Self {
        Self::new(
            Code::MoveFailed,
            format!(
                "{why}; the session keeps one owner and stays available, so try the move again"
            ),
        )
        .retry_after(SOON)
    }

    /// 504: the handler took longer than `limit`.
    pub fn handler_timeout(limit: Duration) -> Self {
        Self::new(
            Code::HandlerTimeout,
            format!(
                "the function took longer than {} ms and nothing was written; ask for less, or \
                 raise `exec_timeout`",
                limit.as_millis()
            ),
        )
    }

    /// 507: no room for a session or its data.
    pub fn no_room(here: &NodeName) -> Self {
        Self::new(
            Code::NoRoom,
            format!(
                "`{here}` has no room left and nothing was written; move sessions away or raise \
                 its limits (`max_sessions`, the store's memory)"
            ),
        )
    }
}
