//! `POST /_/onload-session`: a descendant wants its sessions back.

use super::{Answered, Reply, Signed};

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let from = call.peer()?;
    let offers = call.node.onload_offers(from, &call.content()?).await?;
    Ok(Reply::ok(&offers))
}
