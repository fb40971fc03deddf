use funicular::session::NodeName;
use serde_json::json;

use super::*;
use crate::client::tests::{Nodes, function};

async fn at_milan(nodes: &Nodes) -> Result<Vec<FunctionName>> {
    let topology = nodes.topology();
    let milan = topology.node(&NodeName::new("milan").unwrap()).unwrap();
    functions(&nodes.client(), milan, &[]).await
}

#[tokio::test]
async fn what_is_none_of_funiculars_is_left_out() {
    let nodes = Nodes::start().await;
    nodes.lists_figlet_and("milan", &["cart", "work"]).await;
    for name in ["cart", "work"] {
        nodes.answers("milan", name, "GET", "/_/status", 200, &json!({})).await;
    }
    assert_eq!(at_milan(&nodes).await.unwrap(), [function("cart"), function("work")]);
    assert_eq!(left_out(&function("figlet")), "figlet is no function of Funicular: left out");
    // Who names a function is believed.
    let topology = nodes.topology();
    let milan = topology.node(&NodeName::new("milan").unwrap()).unwrap();
    let named = [function("figlet")];
    assert_eq!(functions(&nodes.client(), milan, &named).await.unwrap(), named);
}

#[tokio::test]
async fn a_silent_one_is_named_before_anything_is_begun() {
    let nodes = Nodes::start().await;
    nodes.lists_figlet_and("milan", &["cart", "work"]).await;
    nodes.answers("milan", "cart", "GET", "/_/status", 200, &json!({})).await;
    nodes.is_silent("milan", "work").await;
    let error = format!("{:#}", at_milan(&nodes).await.unwrap_err());
    assert!(error.contains("`work` may be a function of Funicular, and is silent"), "{error}");
    assert!(error.contains("its gateway answers 502 for `work`"), "{error}");
}

#[tokio::test]
async fn others_are_asked_nothing_and_named_once_for_all_nodes() {
    let nodes = Nodes::start().await;
    for node in ["italy", "milan", "navigli"] {
        nodes.lists_figlet_and(node, &["cart"]).await;
    }
    for node in ["italy", "milan"] {
        nodes.answers(node, "cart", "GET", "/_/status", 200, &json!({})).await;
        nodes.answers(node, "cart", "POST", "/_/recover", 200, &json!({ "resumed": 1 })).await;
    }
    nodes.is_silent("navigli", "cart").await;
    let (topology, client) = (nodes.topology(), nodes.client());
    let ask = |node, function| {
        let client = &client;
        async move { client.post(node, &function, "recover", &json!({})).await }
    };
    let survey = everywhere(&client, topology.nodes(), None, ask).await;
    assert_eq!(survey.others, BTreeSet::from([function("figlet")]));
    let said: Vec<_> = survey
        .places
        .iter()
        .map(|place| (place.node.name.as_str(), place.function.clone(), place.said.is_ok()))
        .collect();
    let cart = Some(function("cart"));
    assert_eq!(
        said,
        [("italy", cart.clone(), true), ("milan", cart.clone(), true), ("navigli", cart, false)]
    );
    for node in ["italy", "milan", "navigli"] {
        assert_eq!(nodes.posts(node, "figlet").await, 0, "{node} ran figlet");
    }
}
