//! `funicular status`

use anyhow::Result;
use funicular::session::FunctionName;
use funicular::topology::Topology;
use serde_json::{Value, json};

use super::survey::{Place, Survey, everywhere, say_left_out};
use crate::client::Client;
use crate::exit::Failure;
use crate::options::Access;
use crate::output::{NONE, show, size, table};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    access: Access,

    /// This function only [default: all of Funicular's that the nodes' gateways list]
    #[arg(long, value_name = "F")]
    function: Option<FunctionName>,
}

/// A column: its head, and the member of the status it shows.
const COLUMNS: &[(&str, &str)] = &[
    ("TAKES", "status"),
    ("SESSIONS", "sessions"),
    ("PENDING", "pending"),
    ("BYTES", "bytes"),
    ("IN FLIGHT", "in_flight"),
    ("MOVES", "moves"),
    ("LEAVING", "leaving"),
    ("DRAIN", "drain"),
    ("RESTORE", "restore"),
    ("STORE", "store"),
    ("SYNCED BY", "promise"),
    ("VERSION", "version"),
    ("TREE", "topology"),
];

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let Survey { places, others } = ask(&client, &topology, args.function.as_ref()).await;
    say_left_out(&others);
    show(json, &plain(&places), || text(&places));
    let silent = places.iter().filter(|place| place.said.is_err()).count();
    if silent > 0 {
        let why = format!("{silent} of {} did not answer as they should", places.len());
        return Err(Failure::Unavailable(why).into());
    }
    Ok(())
}

async fn ask<'a>(
    client: &Client,
    topology: &'a Topology,
    function: Option<&FunctionName>,
) -> Survey<'a, Value> {
    everywhere(client, topology.nodes(), function, |node, function| async move {
        client.get(node, &function, "status", &[]).await?.read()
    })
    .await
}

fn plain(places: &[Place<'_, Value>]) -> Vec<Value> {
    let one = |place: &Place<'_, Value>| {
        let mut value = json!({
            "node": place.node.name.as_str(),
            "level": place.node.level,
            "function": place.function.as_ref().map(FunctionName::as_str),
        });
        match &place.said {
            Ok(status) => value["status"] = status.clone(),
            Err(error) => value["error"] = error.to_string().into(),
        }
        value
    };
    places.iter().map(one).collect()
}

fn text(places: &[Place<'_, Value>]) -> String {
    let answered: Vec<_> =
        places.iter().filter_map(|place| Some((place, place.said.as_ref().ok()?))).collect();
    let shown: Vec<_> = COLUMNS
        .iter()
        .filter(|(_, member)| answered.iter().any(|(_, status)| cell(status, member) != NONE))
        .collect();
    let heads: Vec<&str> =
        ["NODE", "FUNCTION"].into_iter().chain(shown.iter().map(|(head, _)| *head)).collect();
    let row = |(place, status): &(&Place<'_, Value>, &Value)| {
        let function = place.function.as_ref().map_or(NONE, FunctionName::as_str);
        let name = format!("{}{}", "  ".repeat(place.node.depth), place.node.name);
        let cells = shown.iter().map(|(_, member)| cell(status, member));
        [name, function.to_owned()].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = answered.iter().map(row).collect();
    let mut parts = Vec::new();
    if !rows.is_empty() {
        parts.push(table(&heads, &rows));
    }
    let copies: Vec<String> =
        answered.iter().flat_map(|(place, status)| copies(place, status)).collect();
    if !copies.is_empty() {
        parts.push(copies.join("\n"));
    }
    let waits: Vec<String> = answered
        .iter()
        .filter_map(|(place, status)| {
            let why = status["restore"]["waits_for"].as_str()?;
            Some(format!("{} is being restored and waits: {why}", place.node.name))
        })
        .collect();
    if !waits.is_empty() {
        parts.push(waits.join("\n"));
    }
    let refusals: Vec<String> = answered
        .iter()
        .filter_map(|(place, status)| {
            let why = status["topology"]["refused"].as_str()?;
            Some(format!("{} does not take the new topology: {why}", place.node.name))
        })
        .collect();
    if !refusals.is_empty() {
        parts.push(refusals.join("\n"));
    }
    let errors: Vec<String> =
        places.iter().filter_map(|place| Some(place.said.as_ref().err()?.to_string())).collect();
    if !errors.is_empty() {
        parts.push(errors.join("\n"));
    }
    if parts.is_empty() {
        parts.push("no node has a function".to_owned());
    }
    parts.join("\n\n")
}

/// One line for each session that a node copies right now.
fn copies(place: &Place<'_, Value>, status: &Value) -> Vec<String> {
    let line = |copy: &Value| {
        let bytes = |member: &str| size(copy[member].as_u64().unwrap_or_default());
        let round = match copy["round"].as_u64() {
            None | Some(0) => String::new(),
            Some(round) => format!(", round {round}"),
        };
        format!(
            "{} copies {} from {}: {} of {}{round}",
            place.node.name,
            copy["session"].as_str().unwrap_or(NONE),
            copy["from"].as_str().unwrap_or(NONE),
            bytes("copied"),
            bytes("bytes"),
        )
    };
    status["copies"].as_array().into_iter().flatten().map(line).collect()
}

fn cell(status: &Value, member: &str) -> String {
    match (member, &status[member]) {
        (_, Value::Null) => NONE.to_owned(),
        ("bytes", bytes) if bytes.is_u64() => size(bytes.as_u64().unwrap_or_default()),
        (_, Value::String(text)) => text.clone(),
        ("drain" | "restore", far) => cell(far, "state"),
        // Enough to tell a few trees apart.
        ("topology", tree) => cell(tree, "digest").chars().take(8).collect(),
        (_, value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{Nodes, function};

    #[tokio::test]
    async fn all_functions_of_all_nodes_are_shown_and_who_is_silent() {
        let nodes = Nodes::start().await;
        nodes.lists("milan", &["cart", "greet"]).await;
        let status = json!({ "status": "accept", "sessions": 12, "of_tomorrow": true });
        nodes.answers("milan", "cart", "GET", "/_/status", 200, &status).await;
        nodes.answers("milan", "greet", "GET", "/_/status", 200, &json!({ "sessions": 3 })).await;
        nodes.lists("italy", &[]).await;
        nodes.stops("navigli");

        let topology = nodes.topology();
        let places = ask(&nodes.client(), &topology, None).await.places;
        let text = text(&places);
        let (table, errors) = text.split_once("\n\n").unwrap();
        assert_eq!(
            table,
            "NODE     FUNCTION  TAKES   SESSIONS\n  milan  cart      accept        12\n  milan  \
             greet     -              3"
        );
        assert!(errors.starts_with("`navigli` does not answer"), "{errors}");
        assert_eq!(plain(&places)[0]["status"]["of_tomorrow"], true);
        assert!(plain(&places)[2]["error"].is_string());
    }

    #[tokio::test]
    async fn one_function_needs_no_list() {
        let nodes = Nodes::start().await;
        for node in ["italy", "milan", "navigli"] {
            nodes.answers(node, "cart", "GET", "/_/status", 200, &json!({ "bytes": 2048 })).await;
        }
        let topology = nodes.topology();
        let places = ask(&nodes.client(), &topology, Some(&function("cart"))).await.places;
        assert_eq!(
            text(&places),
            "NODE         FUNCTION   BYTES\nitaly        cart      2.0 kB\n  milan      cart      \
             2.0 kB\n    navigli  cart      2.0 kB"
        );
    }

    #[tokio::test]
    async fn a_topology_that_is_refused_is_shown_with_the_reason() {
        let nodes = Nodes::start().await;
        for node in ["italy", "milan", "navigli"] {
            let mut status = json!({ "topology": { "digest": "0123456789abcdef", "nodes": 3 } });
            if node == "milan" {
                status["topology"]["refused"] = "it lacks `navigli`".into();
            }
            nodes.answers(node, "cart", "GET", "/_/status", 200, &status).await;
        }
        let topology = nodes.topology();
        let text = text(&ask(&nodes.client(), &topology, Some(&function("cart"))).await.places);
        assert!(text.contains("  milan      cart      01234567\n"), "{text}");
        assert!(text.ends_with("\n\nmilan does not take the new topology: it lacks `navigli`"));
    }

    #[tokio::test]
    async fn copies_are_shown_with_how_far_they_are() {
        let nodes = Nodes::start().await;
        let copies = json!([
            { "session": "4f2a", "from": "navigli", "copied": 4096, "bytes": 8192, "round": 0 },
            { "session": "77aa", "from": "italy", "copied": 9216, "bytes": 8192, "round": 2 },
        ]);
        let status = json!({ "bytes": 2048, "copies": copies });
        nodes.answers("milan", "cart", "GET", "/_/status", 200, &status).await;
        for node in ["italy", "navigli"] {
            let copies = json!({ "bytes": 2048, "copies": [] });
            nodes.answers(node, "cart", "GET", "/_/status", 200, &copies).await;
        }
        let topology = nodes.topology();
        let places = ask(&nodes.client(), &topology, Some(&function("cart"))).await.places;
        let text = text(&places);
        assert!(
            text.ends_with(
                "\n\nmilan copies 4f2a from navigli: 4.1 kB of 8.2 kB\n\
                 milan copies 77aa from italy: 9.2 kB of 8.2 kB, round 2"
            ),
            "{text}"
        );
    }
}
