//! `GET /_/status`: this function at this node, for tools.

use super::{Answered, Reply, Signed};
use crate::http::signature::Role;
use crate::peers::messages::StatusCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let wanted: StatusCall = call.content()?;
    let mut status = call.node.told(&wanted).await?;
    status.peer_keys = call.keys.ids(Role::Peer);
    Ok(Reply::ok(&status))
}
