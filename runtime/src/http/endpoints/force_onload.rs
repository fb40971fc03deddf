//! `POST /_/force-onload`: bring sessions of this subtree back down.

use super::{Answered, Reply, Signed};
use crate::peers::messages::ForceCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let force: ForceCall = call.content()?;
    let most = force.max_sessions.unwrap_or(1);
    let report = call.node.force_onload(force.session, most).await?;
    Ok(Reply::ok(&report))
}
