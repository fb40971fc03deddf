//! `POST /_/offload-session`: a descendant offers a session.

use http::StatusCode;

use super::{Answered, Reply, Signed};
use crate::node::Offload;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let from = call.peer()?;
    let offload = call.node.offered(from, call.content()?).await?;
    Ok(reply(&offload))
}

pub(super) fn reply(offload: &Offload) -> Reply {
    match offload {
        Offload::Moved(report) => Reply::ok(report),
        Offload::Moving(place) => Reply::json(StatusCode::ACCEPTED, place),
    }
}
