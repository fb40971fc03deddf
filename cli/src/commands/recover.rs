//! `funicular recover --lost B`

use anyhow::Result;
use funicular::peers::messages::{RecoverAnswer, RecoverCall};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::Topology;
use serde_json::{Value, json};

use super::survey::{Place, Survey, everywhere, say_left_out};
use crate::client::Client;
use crate::exit::Failure;
use crate::options::{Access, node};
use crate::output::{NONE, show, table};

#[derive(clap::Args)]
#[group(id = "which", required = true, multiple = false, args = ["lost", "back"])]
pub(crate) struct Args {
    /// The node that will not come back: its sessions go on where they were last
    /// known, and what only it had is given up
    #[arg(long, value_name = "B")]
    lost: Option<NodeName>,

    /// A node that was given up and may take part again
    #[arg(long, value_name = "B")]
    back: Option<NodeName>,

    /// This function only [default: all of Funicular's that the nodes' gateways list]
    #[arg(long, value_name = "F")]
    function: Option<FunctionName>,

    #[command(flatten)]
    access: Access,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let call = RecoverCall { lost: args.lost.clone(), back: args.back.clone() };
    if let Some(name) = call.lost.as_ref().or(call.back.as_ref()) {
        node(&topology, name)?;
    }
    let Survey { places, others } = ask(&client, &topology, args.function.as_ref(), &call).await;
    say_left_out(&others);
    show(json, &plain(&places), || text(&places));
    let silent = places.iter().filter(|place| place.said.is_err()).count();
    if silent > 0 {
        let why = format!("{silent} of {} did not answer; run it again", places.len());
        return Err(Failure::Unavailable(why).into());
    }
    Ok(())
}

/// Tells all nodes but the one it is about: that one is not asked about itself.
async fn ask<'a>(
    client: &Client,
    topology: &'a Topology,
    function: Option<&FunctionName>,
    call: &RecoverCall,
) -> Survey<'a, RecoverAnswer> {
    let about = call.lost.as_ref().or(call.back.as_ref());
    let others = |node: &&funicular::topology::Node| Some(&node.name) != about;
    everywhere(client, topology.nodes().filter(others), function, |node, function| async move {
        client.post(node, &function, "recover", call).await?.read()
    })
    .await
}

fn plain(places: &[Place<'_, RecoverAnswer>]) -> Vec<Value> {
    let one = |place: &Place<'_, RecoverAnswer>| {
        let mut value = json!({
            "node": place.node.name.as_str(),
            "function": place.function.as_ref().map(FunctionName::as_str),
        });
        match &place.said {
            Ok(answer) => value["resumed"] = answer.resumed.into(),
            Err(error) => value["error"] = error.to_string().into(),
        }
        value
    };
    places.iter().map(one).collect()
}

fn text(places: &[Place<'_, RecoverAnswer>]) -> String {
    let mut rows = Vec::new();
    let mut errors = Vec::new();
    for place in places {
        let function = place.function.as_ref().map_or(NONE, FunctionName::as_str);
        match &place.said {
            Ok(answer) => rows.push(vec![
                place.node.name.to_string(),
                function.to_owned(),
                answer.resumed.to_string(),
            ]),
            Err(error) => errors.push(error.to_string()),
        }
    }
    let mut lines = vec![table(&["NODE", "FUNCTION", "SESSIONS RESUMED"], &rows)];
    lines.extend(errors);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{Nodes, function};

    #[tokio::test]
    async fn all_nodes_but_the_lost_one_are_told() {
        let nodes = Nodes::start().await;
        nodes.answers("italy", "cart", "POST", "/_/recover", 200, &json!({ "resumed": 0 })).await;
        nodes.answers("navigli", "cart", "POST", "/_/recover", 200, &json!({ "resumed": 7 })).await;
        let call = RecoverCall { lost: NodeName::new("milan").ok(), back: None };
        let cart = function("cart");
        let topology = nodes.topology();
        let places = ask(&nodes.client(), &topology, Some(&cart), &call).await.places;
        assert_eq!(
            text(&places),
            "NODE     FUNCTION  SESSIONS RESUMED\nitaly    cart                     0\nnavigli  \
             cart                     7"
        );
        assert_eq!(nodes.last_body("italy").await, json!({ "lost": "milan" }));
    }
}
