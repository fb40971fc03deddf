//! `funicular where SESSION --function F`

use anyhow::Result;
use funicular::peers::messages::Whereabouts;
use funicular::session::{FunctionName, SessionId};
use funicular::topology::Topology;
use serde_json::{Value, json};

use super::survey::{Place, everywhere};
use crate::client::Client;
use crate::exit::Failure;
use crate::options::{Access, OneFunction};
use crate::output::{NONE, count, show, size, table};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The session's id
    session: SessionId,

    #[command(flatten)]
    function: OneFunction,

    #[command(flatten)]
    access: Access,
}

/// What a node knows of the session; `None` is "nothing".
type Known = Option<Whereabouts>;

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, client) = args.access.open()?;
    let function = &args.function.function;
    let places = ask(&client, &topology, function, &args.session).await;
    show(json, &plain(&places), || text(&places));
    let silent = places.iter().filter(|place| place.said.is_err()).count();
    match (holder(&places), silent) {
        (Some(_), _) => Ok(()),
        (None, 0) => {
            let why = format!("no node holds this session of `{function}`: it never was, or ended");
            Err(Failure::Refused(why).into())
        }
        (None, silent) => {
            let why = format!(
                "no node that answers holds the session, and {} did not answer",
                count(silent, "node")
            );
            Err(Failure::Unavailable(why).into())
        }
    }
}

async fn ask<'a>(
    client: &Client,
    topology: &'a Topology,
    function: &FunctionName,
    session: &SessionId,
) -> Vec<Place<'a, Known>> {
    everywhere(client, topology.nodes(), Some(function), |node, function| async move {
        let query = [("session", session.as_str())];
        match client.get(node, &function, "test-function", &query).await {
            Ok(answer) => answer.read().map(Some),
            Err(error) if error.code() == Some("no-such-session") => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await
    .places
}

/// Who has the session, and what they say of it. During a move both ends have
/// data, but only the owner's record says so.
fn holder<'a>(places: &'a [Place<'_, Known>]) -> Option<(&'a str, &'a Whereabouts)> {
    places.iter().find_map(|place| {
        let known = place.said.as_ref().ok()?.as_ref()?;
        let holds = matches!(known.state.as_str(), "owned" | "migrating");
        holds.then_some((place.node.name.as_str(), known))
    })
}

fn plain(places: &[Place<'_, Known>]) -> Value {
    let nodes: Vec<Value> = places
        .iter()
        .map(|place| match &place.said {
            Ok(known) => json!({ "node": place.node.name.as_str(), "knows": known }),
            Err(error) => json!({ "node": place.node.name.as_str(), "error": error.to_string() }),
        })
        .collect();
    let holder = holder(places);
    json!({
        "location": holder.map(|(node, _)| node),
        "home": holder.map(|(_, known)| known.token.proprietary_location.as_str()),
        "nodes": nodes,
    })
}

fn text(places: &[Place<'_, Known>]) -> String {
    let mut lines = Vec::new();
    if let Some((node, known)) = holder(places) {
        let home = known.token.proprietary_location.as_str();
        let from = if home == node { "its home".to_owned() } else { format!("home is `{home}`") };
        lines.push(format!("`{node}` holds the session ({from})"));
    }
    let rows: Vec<Vec<String>> = places
        .iter()
        .filter_map(|place| {
            let known = place.said.as_ref().ok()?.as_ref()?;
            let here = known.location == place.node.name;
            Some(vec![
                format!("{}{}", "  ".repeat(place.node.depth), place.node.name),
                known.state.clone(),
                if here { "here".to_owned() } else { format!("at {}", known.location) },
                known.token.epoch.to_string(),
                known.keys.map_or(NONE.to_owned(), |keys| keys.to_string()),
                known.bytes.map_or(NONE.to_owned(), size),
            ])
        })
        .collect();
    if !rows.is_empty() {
        lines.push(table(&["NODE", "RECORD", "WHERE", "EPOCH", "KEYS", "SIZE"], &rows));
    }
    let errors = places.iter().filter_map(|place| place.said.as_ref().err());
    lines.extend(errors.map(ToString::to_string));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{Nodes, function, token};

    #[tokio::test]
    async fn every_nodes_word_is_shown_and_who_holds_it() {
        let nodes = Nodes::start().await;
        let says = |location: &str, state: &str| {
            json!({
                "offloaded": state == "moved", "location": location, "state": state,
                "token": token(location, 3),
                "keys": (state == "owned").then_some(4), "bytes": (state == "owned").then_some(2048),
            })
        };
        let call = |node: &'static str, status: u16, body: Value| {
            nodes.answers_at(node, "cart", "/_/test-function?session=a%26b", status, body)
        };
        call("navigli", 200, says("milan", "moved")).await;
        call("milan", 200, says("milan", "owned")).await;
        let unknown = json!({ "code": "no-such-session", "detail": "unknown here" });
        call("italy", 404, unknown).await;

        let session = SessionId::new("a&b").unwrap();
        let topology = nodes.topology();
        let places = ask(&nodes.client(), &topology, &function("cart"), &session).await;
        assert_eq!(
            text(&places),
            "`milan` holds the session (home is `navigli`)\n\
             NODE         RECORD  WHERE     EPOCH  KEYS    SIZE\n  \
               milan      owned   here          3     4  2.0 kB\n    \
                 navigli  moved   at milan      3     -       -"
        );
        let plain = plain(&places);
        assert_eq!((&plain["location"], &plain["home"]), (&json!("milan"), &json!("navigli")));
        assert_eq!(plain["nodes"][0], json!({ "node": "italy", "knows": null }));
    }
}
