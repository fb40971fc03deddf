//! `POST /_/force-offload`: move a session of this node up the tree.

use super::offload_session::reply;
use super::{Answered, Signed};
use crate::peers::messages::ForceCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let force: ForceCall = call.content()?;
    let offload = call.node.force_offload(force.session).await?;
    Ok(reply(&offload))
}
