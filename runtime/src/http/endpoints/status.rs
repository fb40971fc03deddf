//! `GET /_/status`: this function at this node, for tools.

use super::{Answered, Reply, Signed};
use crate::http::signature::Role;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let mut status = call.node.status().await;
    status.peer_keys = call.keys.ids(Role::Peer);
    Ok(Reply::ok(&status))
}
