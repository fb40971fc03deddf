//! `GET /_/status`: this function at this node, for tools.

use super::{Answered, Reply, Signed};

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    Ok(Reply::ok(&call.node.status().await))
}
