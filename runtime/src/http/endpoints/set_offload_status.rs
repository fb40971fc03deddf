//! `POST /_/set-offload-status`: whether this node takes sessions from below.

use serde::Deserialize;

use super::{Answered, Reply, Signed};
use crate::peers::messages::OffloadStatus;

#[derive(Deserialize)]
struct NewStatus {
    status: OffloadStatus,
}

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let new: NewStatus = call.content()?;
    let change = call.node.set_offload_status(new.status).await?;
    Ok(Reply::ok(&change))
}
