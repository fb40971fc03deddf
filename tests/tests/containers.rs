//! The tree of `topology/compose`, in containers, while containers are killed, stand
//! still, are cut off and replaced. It is brought up once, for one story after the other:
//! after each there is one owner a session, and nothing that was acknowledged is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use funicular::peers::messages::{DrainState, DrainStatus};
use funicular_tests::client::Client;
use funicular_tests::containers::compose::{Compose, View};
use funicular_tests::containers::docker;
use funicular_tests::operator::Operator;
use funicular_tests::reach::Reach;
use funicular_tests::traffic::{Seen, Traffic, check};
use funicular_tests::tree::until;
use reqwest::Method;
use serde_json::{Value, json};

/// How long everything may take to come to rest after a fault.
const REST: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_compose_tree_keeps_its_promises() {
    let tree = Compose::up().await;
    the_story_of_the_demo(&tree).await;
    g2_g7_a_middle_node_is_killed_mid_move(&tree).await;
    g2_g7_a_node_stands_still_mid_move(&tree).await;
    g2_a_cut_off_edge_serves_what_it_owns_and_rejoins(&tree).await;
    g2_g7_a_redis_is_killed(&tree).await;
    g5_a_drain_is_not_noticed(&tree).await;
    g2_g5_half_of_the_tree_goes_back_to_the_release_before(&tree).await;
    g5_a_rolling_restart_is_not_noticed(&tree).await;
}

/// Creates a session of the probe.
async fn create(tree: &Compose, node: &str, session: &str) {
    let mut client = Client::new(tree.gateway(node), session);
    client.send(Method::PUT, "/value/here", "yes").await.expect(204);
}

/// Makes a session so large that a move of it takes a while.
async fn fill(tree: &Compose, node: &str, session: &str) {
    let mut client = Client::new(tree.gateway(node), session);
    for key in 0..3 {
        let bytes: Vec<u8> = (0..8 << 20).map(|_| rand::random()).collect();
        client.send(Method::PUT, &format!("/value/{key}"), bytes).await.expect(204);
    }
}

/// The end of a story: one owner, who has all that was acknowledged. Says who, and
/// prints what clients met besides.
async fn rest(
    what: &str,
    (tree, session): (&Compose, &str),
    traffic: Traffic,
) -> (&'static str, Vec<Seen>) {
    let owner = tree.operator().settled(session, REST).await;
    let seen = traffic.stop().await;
    let mut client = Client::new(tree.gateway(owner), session);
    let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    check(&log, &seen);
    let good: usize = seen.iter().map(|client| client.good).sum();
    println!("{what}: at {owner} in the end, {good} good answers, {:?}", odd(&seen));
    assert!(good > 0, "nobody was served");
    (owner, seen)
}

/// What was not well, counted: by node, and the status or `none`.
fn odd(seen: &[Seen]) -> BTreeMap<(&'static str, String), usize> {
    let mut counts = BTreeMap::new();
    for odd in seen.iter().flat_map(|client| &client.odd) {
        let status = odd.what.get(..3).filter(|text| text.parse::<u16>().is_ok());
        *counts.entry((odd.node, status.unwrap_or("none").to_owned())).or_default() += 1;
    }
    counts
}

/// What clients met is explained by this fault: nothing else went wrong.
#[track_caller]
fn assert_explained(seen: &[Seen], allowed: &[(&str, &[&str])]) {
    for ((node, status), count) in odd(seen) {
        let explained =
            allowed.iter().any(|(at, statuses)| *at == node && statuses.contains(&status.as_str()));
        let all: Vec<_> = seen.iter().flat_map(|client| &client.odd).take(5).collect();
        assert!(explained, "{count} answers of {node}: {status}: {all:#?}");
    }
}

/// Waits until a move leads away from a node.
async fn moving(operator: &Operator<'_>, node: &str) {
    until("the move is under way", async || operator.status(node).await.leaving > 0).await;
}

async fn the_story_of_the_demo(tree: &Compose) {
    let carts = View(tree, "cart");
    let operator = Operator::new(&carts);
    let at = |node: &str| Client::new(carts.gateway(node), "ada");
    let add = async |sku: &str| {
        let item = json!({"sku": sku}).to_string();
        at("navigli").send(Method::POST, "/items", item).await.expect(201)
    };
    for sku in ["apple", "pear"] {
        assert_eq!(add(sku).await.hops.len(), 0);
    }
    assert_eq!(operator.offload("navigli", "ada").await.accepted_by.as_str(), "milan");
    assert_eq!(add("fig").await.hops.len(), 1);
    assert_eq!(operator.offload("milan", "ada").await.accepted_by.as_str(), "italy");
    assert!(add("plum").await.hops.len() <= 2);
    let mut seen = Vec::new();
    for node in ["navigli", "milan", "italy"] {
        let answer = at(node).send(Method::GET, "/items", "").await.expect(200);
        assert!(answer.hops.len() <= 2, "{:?}", answer.hops);
        seen.push(answer.json::<Value>());
    }
    operator.onload("navigli", "ada").await;
    let home = at("navigli").send(Method::GET, "/items", "").await.expect(200);
    assert_eq!(home.hops.len(), 0, "{:?}", home.hops);
    seen.push(home.json());
    let skus: Vec<_> =
        seen[0].as_array().expect("a list").iter().map(|item| &item["sku"]).collect();
    assert_eq!(skus, ["apple", "pear", "fig", "plum"]);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    assert_eq!(operator.settled("ada", REST).await, "navigli");
}

async fn g2_g7_a_middle_node_is_killed_mid_move(tree: &Compose) {
    let operator = tree.operator();
    create(tree, "navigli", "killed").await;
    fill(tree, "navigli", "killed").await;
    let traffic = Traffic::start(tree, "navigli", "killed", 2);
    let asked = operator.begin("navigli", "force-offload", &json!({"session": "killed"}));
    moving(&operator, "navigli").await;
    let milan = tree.probe("milan");
    docker(&["kill", &milan]);
    let _ = asked.await;
    docker(&["start", &milan]);
    tree.ready("milan", "probe").await;
    let (_, seen) = rest("milan killed mid-move", (tree, "killed"), traffic).await;
    // Its gateway says 502 and 504 while there is no process behind it.
    assert_explained(&seen, &[("milan", &["502", "503", "504"]), ("navigli", &["503"])]);
}

async fn g2_g7_a_node_stands_still_mid_move(tree: &Compose) {
    let operator = tree.operator();
    create(tree, "brera", "still").await;
    fill(tree, "brera", "still").await;
    operator.offload_large("brera", "still", REST).await;
    let traffic = Traffic::start(tree, "brera", "still", 2);
    let asked = operator.begin("milan", "force-offload", &json!({"session": "still"}));
    moving(&operator, "milan").await;
    let italy = tree.probe("italy");
    docker(&["pause", &italy]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    docker(&["unpause", &italy]);
    let _ = asked.await;
    let (_, seen) = rest("italy stood still for 10 s", (tree, "still"), traffic).await;
    // Who is frozen waits for the answer of a node that does not give one.
    assert_explained(&seen, &[("milan", &["503"]), ("italy", &["503", "504"])]);
}

async fn g2_a_cut_off_edge_serves_what_it_owns_and_rejoins(tree: &Compose) {
    let operator = tree.operator();
    create(tree, "trastevere", "cut").await;
    create(tree, "trastevere", "away").await;
    operator.offload("trastevere", "away").await;
    let traffic = Traffic::start(tree, "trastevere", "cut", 2);
    tree.cut("trastevere");
    let asked = json!({"session": "cut"});
    let refused = operator.post("trastevere", "force-offload", &asked).await;
    println!("an offload of a node that is cut off: {} {}", refused.status, refused.body);
    assert!(refused.status >= 400, "{refused:?}");
    for number in 0..20 {
        create(tree, "trastevere", "meanwhile").await;
        let mut own = Client::new(tree.gateway("trastevere"), "cut");
        let answer = own.send(Method::GET, "/log", "").await.expect(200);
        assert_eq!(answer.hops.len(), 0, "{:?}", answer.hops);
        // A client that is not cut off itself is led to where its session is.
        let mut away = Client::new(tree.gateway("trastevere"), "away");
        let answer = away.send(Method::POST, "/log", number.to_string()).await.expect(200);
        assert_eq!((answer.text(), answer.hops.len()), (number.to_string().as_str(), 1));
    }
    assert_eq!(operator.whereabouts("trastevere", "cut").await.expect("it").state, "owned");
    tree.rejoin("trastevere");
    until("it is back", async || {
        operator.post("trastevere", "force-offload", &asked).await.status == 200
    })
    .await;
    let (owner, seen) = rest("trastevere cut off", (tree, "cut"), traffic).await;
    assert_eq!(owner, "rome");
    assert_explained(&seen, &[]);
    assert_eq!(operator.settled("meanwhile", REST).await, "trastevere");
}

async fn g2_g7_a_redis_is_killed(tree: &Compose) {
    let operator = tree.operator();
    create(tree, "navigli", "store").await;
    operator.offload("navigli", "store").await;
    let traffic = Traffic::start(tree, "navigli", "store", 2);
    until("they write", async || {
        operator.whereabouts("milan", "store").await.is_some_and(|it| it.token.epoch > 1)
    })
    .await;
    let redis = tree.container("milan-redis");
    docker(&["kill", "--signal", "KILL", &redis]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    docker(&["start", &redis]);
    tree.ready("milan", "probe").await;
    let (owner, seen) = rest("milan's Redis killed", (tree, "store"), traffic).await;
    assert_eq!(owner, "milan");
    assert_explained(&seen, &[("milan", &["503"])]);
}

async fn g5_a_drain_is_not_noticed(tree: &Compose) {
    let operator = tree.operator();
    let sessions: Vec<_> = (0..5).map(|number| format!("drained-{number}")).collect();
    let mut traffic = Vec::new();
    for session in &sessions {
        create(tree, "brera", session).await;
        operator.offload("brera", session).await;
        traffic.push(Traffic::start(tree, "brera", session, 1));
    }
    let drain = async |action| {
        let answer = operator.post("milan", "drain", &json!({"action": action})).await.expect(200);
        serde_json::from_value::<DrainStatus>(answer.body).expect("how far it is")
    };
    drain("start").await;
    until("it is empty", async || {
        operator.status("milan").await.drain.is_some_and(|drain| drain.state == DrainState::Empty)
    })
    .await;
    drain("stop").await;
    for (session, traffic) in sessions.iter().zip(traffic) {
        let (owner, seen) = rest("milan drained", (tree, session), traffic).await;
        assert_eq!(owner, "italy");
        assert_explained(&seen, &[]);
    }
}

/// From each edge up; each kind of node is above, below and at home of each other kind.
const OLD_HALF: [&str; 3] = ["milan", "brera", "trastevere"];
const WAYS: [[&str; 3]; 3] =
    [["navigli", "milan", "italy"], ["brera", "milan", "italy"], ["trastevere", "rome", "italy"]];

async fn versions(tree: &Compose) -> BTreeMap<&'static str, u32> {
    let operator = tree.operator();
    let mut all = BTreeMap::new();
    for node in tree.names() {
        all.insert(node, operator.status(node).await.wire_version);
    }
    all
}

async fn up_and_down(tree: &Compose, [edge, middle, root]: [&str; 3], session: &str) {
    let operator = tree.operator();
    for (from, to) in [(edge, middle), (middle, root)] {
        operator.offload_large(from, session, REST).await;
        assert_eq!(operator.settled(session, REST).await, to, "{session} up from {from}");
    }
    for (from, to) in [(root, middle), (middle, edge)] {
        operator.onload(to, session).await;
        assert_eq!(operator.settled(session, REST).await, to, "{session} down from {from}");
    }
}

async fn g2_g5_half_of_the_tree_goes_back_to_the_release_before(tree: &Compose) {
    let mut traffic = Vec::new();
    for way in WAYS {
        let session = format!("{}-mixed", way[0]);
        create(tree, way[0], &session).await;
        let mut client = Client::new(tree.gateway(way[0]), &session);
        let bytes: Vec<u8> = (0..1 << 20).map(|_| rand::random()).collect();
        client.send(Method::PUT, "/value/large", bytes).await.expect(204);
        traffic.push((session.clone(), way, Traffic::start(tree, way[0], &session, 1)));
    }
    // It was spoken to as it is now, and is not any more.
    tokio::join!(
        up_and_down(tree, WAYS[0], "navigli-mixed"),
        up_and_down(tree, WAYS[2], "trastevere-mixed"),
    );
    tree.hold_to(1, &OLD_HALF).await;
    for (node, version) in versions(tree).await {
        assert_eq!(version, if OLD_HALF.contains(&node) { 1 } else { 2 }, "{node}");
    }
    tokio::join!(
        up_and_down(tree, WAYS[0], "navigli-mixed"),
        up_and_down(tree, WAYS[1], "brera-mixed"),
        up_and_down(tree, WAYS[2], "trastevere-mixed"),
    );
    for (session, way, traffic) in traffic {
        let (owner, seen) =
            rest("half a tree of the release before", (tree, &session), traffic).await;
        assert_eq!(owner, way[0]);
        assert_explained(&seen, &[]);
    }
}

/// Which brings the half that was held to the release before up to this one.
async fn g5_a_rolling_restart_is_not_noticed(tree: &Compose) {
    tree.let_go();
    let operator = tree.operator();
    let places = [("low", "navigli"), ("middle", "milan"), ("high", "italy"), ("other", "rome")];
    let mut traffic = Vec::new();
    for (session, owner) in places {
        let home = if owner == "rome" { "trastevere" } else { "navigli" };
        create(tree, home, session).await;
        let mut at = home;
        while at != owner {
            operator.offload(at, session).await;
            at = operator.settled(session, REST).await;
        }
        traffic.push(Traffic::start(tree, home, session, 1));
    }
    let mut cart = Client::new(View(tree, "cart").gateway("navigli"), "ada");
    // Two at a time: each node keeps at least one container of each.
    let rolling = async { tokio::join!(tree.roll("cart"), tree.roll("cdn")) };
    tokio::pin!(rolling);
    let rolled = loop {
        tokio::select! {
            rolled = &mut rolling => break rolled,
            answer = cart.send(Method::GET, "/items", "") => answer.expect(200),
        };
    };
    assert_eq!((rolled.0.lines().count(), rolled.1.lines().count()), (6, 6), "{rolled:?}");
    for ((session, owner), traffic) in places.into_iter().zip(traffic) {
        let (at, seen) = rest("rolling restart", (tree, session), traffic).await;
        assert_eq!(at, owner);
        assert_explained(&seen, &[]);
    }
    assert!(versions(tree).await.values().all(|version| *version == 2));
}
