//! `POST /_/name-sessions`: a node whose store was restored asks what this one has.

use super::{Answered, Reply, Signed};
use crate::peers::messages::NameCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let from = call.peer()?;
    let names: NameCall = call.content()?;
    Ok(Reply::ok(&call.node.name_sessions(from, names).await?))
}
