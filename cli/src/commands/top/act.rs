//! The calls that a key leads to.

use funicular::peers::messages::{
    DrainAction, DrainCall, DrainStatus, OffloadStatus, StatusChange,
};
use funicular::session::FunctionName;
use funicular::topology::Node;
use serde_json::json;

use super::state::{Action, Said, What, list};
use crate::client::{CallError, Client};
use crate::commands::{offload, onload};
use crate::output::count;

/// Tells a node to do something, and says what came of it.
pub(super) async fn perform(client: &Client, node: &Node, action: &Action) -> Said {
    let done = match &action.what {
        What::Offload { function, session } => {
            let outcome = offload::offload(client, node, function, session.clone()).await;
            outcome.map(|outcome| Said::good(offload::told(&node.name, &outcome)))
        }
        What::Onload { function, session } => {
            let report = onload::onload(client, node, function, session.clone(), None).await;
            report.map(|report| match (report.moved.first(), report.failed.is_empty()) {
                (Some(moved), _) => Said::good(onload::sentence(&node.name, moved)),
                (None, true) => Said::bad(format!("nothing came to `{}`", node.name)),
                (None, false) => {
                    Said::bad(format!("it did not come: {}", report.failed.join("; ")))
                }
            })
        }
        What::Status { functions, status } => set_status(client, node, functions, *status).await,
        What::Drain { functions, action } => drain(client, node, functions, *action).await,
    };
    done.unwrap_or_else(|error| Said::bad(error.to_string()))
}

async fn set_status(
    client: &Client,
    node: &Node,
    functions: &[FunctionName],
    status: OffloadStatus,
) -> Result<Said, CallError> {
    for function in functions {
        let body = json!({ "status": status });
        let answer = client.post(node, function, "set-offload-status", &body).await?;
        answer.read::<StatusChange>()?;
    }
    let does = match status {
        OffloadStatus::Accept => "accepts",
        OffloadStatus::Reject => "rejects",
    };
    Ok(Said::good(format!("`{}` {does} sessions of {}", node.name, list(functions))))
}

async fn drain(
    client: &Client,
    node: &Node,
    functions: &[FunctionName],
    action: DrainAction,
) -> Result<Said, CallError> {
    let mut left = 0;
    for function in functions {
        let answer = client.post(node, function, "drain", &DrainCall { action }).await?;
        left += answer.read::<DrainStatus>()?.left;
    }
    let left = count(usize::try_from(left).unwrap_or(usize::MAX), "session");
    let name = &node.name;
    Ok(Said::good(match action {
        DrainAction::Start => format!("`{name}` is being drained, {left} left"),
        DrainAction::Stop => format!("`{name}` is back in work, with {left}"),
    }))
}

#[cfg(test)]
mod tests {
    use funicular::session::{NodeName, SessionId};
    use serde_json::Value;

    use super::*;
    use crate::client::tests::{Nodes, function, token};
    use crate::commands::top::state::Tone;

    async fn told(nodes: &Nodes, what: What) -> (Tone, String) {
        let topology = nodes.topology();
        let name = NodeName::new("navigli").unwrap();
        let action = Action { node: name.clone(), what };
        let said = perform(&nodes.client(), topology.node(&name).unwrap(), &action).await;
        (said.tone, said.text)
    }

    async fn answers(nodes: &Nodes, endpoint: &str, status: u16, body: Value) {
        nodes.answers("navigli", "cart", "POST", endpoint, status, &body).await;
    }

    #[tokio::test]
    async fn each_is_told_in_one_line() {
        let nodes = Nodes::start().await;
        let moved = |to| {
            json!({
                "token": token(to, 2), "accepted_by": to, "bytes": 10, "took_ms": 1.0,
                "downtime_ms": 0.5,
            })
        };
        answers(&nodes, "/_/force-offload", 200, moved("milan")).await;
        let came = json!({ "moved": [moved("navigli")], "failed": [] });
        answers(&nodes, "/_/force-onload", 200, came).await;
        let change = json!({ "old": "accept", "new": "reject" });
        answers(&nodes, "/_/set-offload-status", 200, change).await;
        let far = json!({ "state": "moving", "moved": 0, "left": 1, "failing": 0 });
        answers(&nodes, "/_/drain", 200, far).await;

        let cart = || vec![function("cart")];
        let session = || SessionId::new("s1").ok();
        let moves = "10 B in 1.0 ms, writes waited 0.5 ms at most";
        let function = || function("cart");
        for (what, text) in [
            (
                What::Offload { function: function(), session: session() },
                format!("s1 moved from `navigli` to `milan`: {moves}"),
            ),
            (
                What::Onload { function: function(), session: session() },
                format!("s1 came to `navigli`: {moves}"),
            ),
            (
                What::Status { functions: cart(), status: OffloadStatus::Reject },
                "`navigli` rejects sessions of cart".to_owned(),
            ),
            (
                What::Drain { functions: cart(), action: DrainAction::Start },
                "`navigli` is being drained, 1 session left".to_owned(),
            ),
        ] {
            assert_eq!(told(&nodes, what).await, (Tone::Good, text));
        }
        assert_eq!(nodes.last_body("navigli").await, json!({ "action": "start" }));
    }

    #[tokio::test]
    async fn a_no_and_a_silence_are_told_too() {
        let nodes = Nodes::start().await;
        let no = json!({ "code": "no-taker", "detail": "nobody takes it" });
        answers(&nodes, "/_/force-offload", 507, no).await;
        let nothing = json!({ "moved": [], "failed": ["`milan` does not answer"] });
        answers(&nodes, "/_/force-onload", 200, nothing).await;
        let (function, session) = (function("cart"), None);
        let offload = What::Offload { function: function.clone(), session: session.clone() };
        assert_eq!(
            told(&nodes, offload.clone()).await,
            (Tone::Bad, "`navigli` says no (no-taker): nobody takes it".to_owned())
        );
        let onload = What::Onload { function, session };
        assert_eq!(
            told(&nodes, onload).await,
            (Tone::Bad, "it did not come: `milan` does not answer".to_owned())
        );
        nodes.stops("navigli");
        let (tone, text) = told(&nodes, offload).await;
        assert_eq!(tone, Tone::Bad);
        assert!(text.starts_with("`navigli` does not answer"), "{text}");
    }
}
