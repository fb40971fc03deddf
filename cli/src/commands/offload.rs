//! `funicular offload [SESSION] --function F --node N`

use anyhow::Result;
use funicular::peers::messages::{ForceCall, MoveReport, StillMoving};
use funicular::session::{FunctionName, NodeName, SessionId};
use funicular::topology::Node;
use serde::Serialize;

use crate::client::{CallError, Client};
use crate::options::{Access, OneFunction, node};
use crate::output::{show, size};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The session's id [default: the node chooses]
    session: Option<SessionId>,

    #[command(flatten)]
    function: OneFunction,

    /// The node that has it now
    #[arg(long, value_name = "N")]
    node: NodeName,

    #[command(flatten)]
    access: Access,
}

/// The node's answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Moved(Box<MoveReport>),
    Moving(StillMoving),
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let node = node(&topology, &args.node)?;
    let function = &args.function.function;
    let outcome = offload(&client, node, function, args.session.clone()).await?;
    show(json, &outcome, || told(&args.node, &outcome));
    Ok(())
}

/// What came of it, in one line.
pub(super) fn told(from: &NodeName, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Moved(report) => sentence(from, report),
        Outcome::Moving(still) => {
            format!("`{}` is taking it and not done yet; see `funicular where`", still.ask)
        }
    }
}

/// Moves a session, or one that the node chooses, to the next node above that takes it.
pub(super) async fn offload(
    client: &Client,
    node: &Node,
    function: &FunctionName,
    session: Option<SessionId>,
) -> Result<Outcome, CallError> {
    let call = ForceCall { session, max_sessions: None };
    let answer = client.post(node, function, "force-offload", &call).await?;
    match answer.status {
        202 => answer.read().map(Outcome::Moving),
        _ => answer.read().map(|report| Outcome::Moved(Box::new(report))),
    }
}

/// What a move did, in one line.
pub(super) fn sentence(from: &NodeName, report: &MoveReport) -> String {
    format!(
        "{} moved from `{from}` to `{}`: {} in {:.1} ms, writes waited {:.1} ms at most",
        report.token.session,
        report.accepted_by,
        size(report.bytes),
        report.took_ms,
        report.downtime_ms,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::tests::{Nodes, function, token};

    #[tokio::test]
    async fn the_move_is_told_in_one_line() {
        let nodes = Nodes::start().await;
        let report = json!({
            "token": token("milan", 2), "accepted_by": "milan",
            "bytes": 3400, "took_ms": 2.13, "downtime_ms": 0.8,
        });
        nodes.answers("navigli", "cart", "POST", "/_/force-offload", 200, &report).await;
        let topology = nodes.topology();
        let navigli = node(&topology, &NodeName::new("navigli").unwrap()).unwrap();
        let session = SessionId::new("s1").ok();
        let cart = function("cart");
        let outcome = offload(&nodes.client(), navigli, &cart, session).await.unwrap();
        let Outcome::Moved(report) = outcome else { panic!("{outcome:?}") };
        assert_eq!(
            sentence(&navigli.name, &report),
            "s1 moved from `navigli` to `milan`: 3.4 kB in 2.1 ms, writes waited 0.8 ms at most"
        );
        assert_eq!(nodes.last_body("navigli").await, json!({ "session": "s1" }));
    }

    #[tokio::test]
    async fn a_move_that_takes_longer_says_whom_to_ask() {
        let nodes = Nodes::start().await;
        let still = json!({ "ask": "milan" });
        nodes.answers("navigli", "cart", "POST", "/_/force-offload", 202, &still).await;
        let topology = nodes.topology();
        let navigli = node(&topology, &NodeName::new("navigli").unwrap()).unwrap();
        let outcome = offload(&nodes.client(), navigli, &function("cart"), None).await.unwrap();
        assert!(matches!(outcome, Outcome::Moving(still) if still.ask.as_str() == "milan"));
        assert_eq!(nodes.last_body("navigli").await, json!({}));
    }
}
