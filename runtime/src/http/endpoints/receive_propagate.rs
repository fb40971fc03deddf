//! `POST /_/receive-propagate`: a value that another node's function sends.

use http::StatusCode;
use serde_json::json;

use super::{Answered, Reply, Signed};
use crate::node::Received;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let from = call.peer()?;
    Ok(match call.node.receive(from, &call.content()?).await? {
        Received::Taken => Reply::ok(&json!({"taken": true})),
        Received::Elsewhere(place) => Reply::json(StatusCode::TEMPORARY_REDIRECT, &place),
    })
}
