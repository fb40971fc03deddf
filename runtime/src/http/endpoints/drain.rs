//! `POST /_/drain`: an operator takes the node out of work, or back.

use super::{Answered, Reply, Signed};
use crate::http::problem::Problem;
use crate::http::signature::Role;
use crate::peers::messages::DrainCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    if call.role != Role::Operator {
        return Err(Problem::wrong_role("operators").into());
    }
    let drain: DrainCall = call.content()?;
    Ok(Reply::ok(&call.node.drain(drain.action).await?))
}
