//! `POST /_/recover`: a person gives a lost node up, or takes it back.

use super::{Answered, Reply, Signed};
use crate::http::problem::Problem;
use crate::http::signature::Role;
use crate::peers::messages::{RecoverAnswer, RecoverCall};

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    if call.role != Role::Operator {
        return Err(Problem::wrong_role("operators").into());
    }
    let recover: RecoverCall = call.content()?;
    let resumed = match (&recover.lost, &recover.back) {
        (Some(lost), None) => call.node.give_up_node(lost).await?,
        (None, Some(back)) => {
            call.node.readmit_node(back).await?;
            0
        }
        _ => return Err(Problem::bad_request("name one node, as `lost` or as `back`").into()),
    };
    Ok(Reply::ok(&RecoverAnswer { resumed }))
}
