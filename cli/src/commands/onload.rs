//! `funicular onload [SESSION] --function F --node N`

use anyhow::Result;
use funicular::peers::messages::{ForceCall, MoveReport, OnloadReport};
use funicular::session::{FunctionName, NodeName, SessionId};
use funicular::topology::Node;

use crate::client::{CallError, Client};
use crate::exit::Failure;
use crate::options::{Access, OneFunction, node};
use crate::output::{count, show, size};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The session's id [default: the nodes above choose]
    session: Option<SessionId>,

    #[command(flatten)]
    function: OneFunction,

    /// The node that shall have it
    #[arg(long, value_name = "N")]
    node: NodeName,

    /// Without a session: bring at most this many
    #[arg(long, value_name = "NUMBER", conflicts_with = "session")]
    max: Option<usize>,

    #[command(flatten)]
    access: Access,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let node = node(&topology, &args.node)?;
    let function = &args.function.function;
    let report = onload(&client, node, function, args.session.clone(), args.max).await?;
    show(json, &report, || text(&args.node, &report));
    if report.moved.is_empty() && !report.failed.is_empty() {
        return Err(Failure::Refused("no session came".to_owned()).into());
    }
    Ok(())
}

/// Brings a session, or at most so many that the nodes above choose, to a node.
pub(super) async fn onload(
    client: &Client,
    node: &Node,
    function: &FunctionName,
    session: Option<SessionId>,
    max_sessions: Option<usize>,
) -> Result<OnloadReport, CallError> {
    let call = ForceCall { session, max_sessions };
    client.post(node, function, "force-onload", &call).await?.read()
}

fn text(node: &NodeName, report: &OnloadReport) -> String {
    let mut lines: Vec<String> = report.moved.iter().map(|moved| sentence(node, moved)).collect();
    lines.extend(report.failed.iter().map(|why| format!("one did not come: {why}")));
    lines.push(match report.moved.len() {
        0 => format!("nothing came to `{node}`"),
        number => format!("{} at `{node}` again", count(number, "session")),
    });
    lines.join("\n")
}

/// What one move brought, in one line.
pub(super) fn sentence(node: &NodeName, moved: &MoveReport) -> String {
    format!(
        "{} came to `{node}`: {} in {:.1} ms, writes waited {:.1} ms at most",
        moved.token.session,
        size(moved.bytes),
        moved.took_ms,
        moved.downtime_ms,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::tests::token;

    #[test]
    fn what_came_and_what_did_not_is_told() {
        let node = NodeName::new("navigli").unwrap();
        let report = json!({
            "moved": [{
                "token": token("navigli", 3), "accepted_by": "navigli",
                "bytes": 10, "took_ms": 1.0, "downtime_ms": 0.5,
            }],
            "failed": ["`italy` does not answer"],
        });
        let text_of = |report| text(&node, &serde_json::from_value(report).unwrap());
        assert_eq!(
            text_of(report),
            "s1 came to `navigli`: 10 B in 1.0 ms, writes waited 0.5 ms at most\n\
             one did not come: `italy` does not answer\n\
             1 session at `navigli` again"
        );
        assert_eq!(text_of(json!({ "moved": [] })), "nothing came to `navigli`");
    }
}
