//! `POST /_/restore`: an operator has a restored store judged.

use super::{Answered, Reply, Signed};
use crate::http::problem::Problem;
use crate::http::signature::Role;
use crate::peers::messages::RestoreCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    if call.role != Role::Operator {
        return Err(Problem::wrong_role("operators").into());
    }
    let restore: RestoreCall = call.content()?;
    Ok(Reply::ok(&call.node.restore(&restore).await?))
}
