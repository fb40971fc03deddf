//! `POST /_/update-session`: an owner tells home where the session is.

use super::{Answered, Reply, Signed};
use crate::peers::messages::UpdateCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let from = call.peer()?;
    let update: UpdateCall = call.content()?;
    call.node.updated(from, &update).await?;
    Ok(Reply::ok(&update.token))
}
