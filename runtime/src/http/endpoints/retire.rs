//! `POST /_/retire`: a person takes a node out of the tree.

use super::{Answered, Reply, Signed};
use crate::http::problem::Problem;
use crate::http::signature::Role;
use crate::peers::messages::RetireCall;

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    if call.role != Role::Operator {
        return Err(Problem::wrong_role("operators").into());
    }
    let retire: RetireCall = call.content()?;
    Ok(Reply::ok(&call.node.retire(&retire).await?))
}
