//! What each of the node's failures is as a problem.

use super::problem::Problem;
use crate::node::{Failure, Node};

pub(crate) fn problem(node: &Node, failure: &Failure) -> Problem {
    let config = node.config();
    let here = node.here();
    match failure {
        Failure::NoRoute(path) => Problem::no_such_route(path),
        Failure::MethodNotAllowed(allowed) => Problem::method_not_allowed(allowed),
        Failure::UnknownSession { entries } => {
            let topology = node.topology();
            let entries = entries.iter().filter_map(|name| topology.node(name));
            Problem::unknown_session(here, entries)
        }
        Failure::NoSuchSession => Problem::no_such_session(here),
        Failure::RequestIdReused => Problem::request_id_reused(),
        Failure::ReplyNotKept { status } => {
            let first = http::StatusCode::from_u16(*status).unwrap_or(http::StatusCode::OK);
            Problem::reply_not_kept(first)
        }
        Failure::Busy { retry_after } => {
            Problem::busy(config.session_wait).retry_after(*retry_after)
        }
        Failure::TooManyRequests => Problem::too_many_requests(config.max_inflight),
        Failure::LineFull => Problem::too_many_waiting(config.max_waiting),
        Failure::TooManyNewSessions => {
            Problem::too_many_new_sessions(std::time::Duration::from_secs(1))
        }
        Failure::TooManyMoves => Problem::too_many_moves(config.max_moves_waiting),
        Failure::Restoring => Problem::restoring(here),
        Failure::Draining => Problem::draining(here),
        Failure::RestoreRefused(why) => Problem::restore_refused(why),
        Failure::RootStays => Problem::root_stays(),
        Failure::NoRoom => Problem::no_room(here),
        Failure::LeaseLost => Problem::lease_lost(),
        Failure::HandlerTimeout => Problem::handler_timeout(config.exec_timeout),
        Failure::HandlerPanicked => Problem::handler_failed(),
        Failure::SessionTooLarge { bytes, max } => Problem::session_too_large(*bytes, *max),
        Failure::OutcomeUnknown => Problem::outcome_unknown(),
        Failure::Store(error) => {
            tracing::warn!(node = %here, function = %config.function, %error, "the store failed");
            Problem::store(error, here)
        }
        Failure::Refused(refusal) => Problem::refused(refusal),
        Failure::Peer(error) => Problem::peer(error),
        Failure::UnknownPeer(node) => Problem::unknown_peer(node),
        Failure::ValueTooLarge(limit) => Problem::too_large(*limit as u64),
        Failure::BadCall(what) => Problem::bad_request(what.as_str()),
        Failure::NotTaken(why) => Problem::not_taken(why.as_str()),
        Failure::RootAccepts => Problem::root_accepts(),
        Failure::Barred(node) => Problem::barred(node),
        Failure::SchemaTooNew { theirs, ours } => Problem::older_schema(*theirs, *ours),
        Failure::MoveFailed(why) => Problem::move_failed(why),
    }
}
