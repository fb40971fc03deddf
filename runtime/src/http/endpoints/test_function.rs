//! `GET /_/test-function?session=`: where a session is, as far as this node knows.

use serde::Deserialize;

use super::{Answered, Reply, Signed};
use crate::session::SessionId;

#[derive(Deserialize)]
struct Question {
    session: SessionId,
}

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let question: Question = call.content()?;
    let whereabouts = call.node.whereabouts(&question.session).await?;
    Ok(Reply::ok(&whereabouts))
}
