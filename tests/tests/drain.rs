//! A node is taken out of work while clients use its sessions: all of them move to
//! its ancestors, clients see 200s and 307s, and nothing is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use funicular::http::signature::Role;
use funicular::peers::messages::{DrainState, DrainStatus};
use funicular_tests::client::Client;
use funicular_tests::judge::{Fault, History, Outcome, Write};
use funicular_tests::load::{Load, Seen};
use funicular_tests::on_each_store;
use funicular_tests::tree::{Plan, Store, Tree, until};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

/// How long a drain may go without a session that leaves. How long all of it takes is
/// the machine's business: a move costs the nodes of a debug build 10 ms of a core.
const PATIENCE: Duration = Duration::from_secs(60);

on_each_store! {
    g2_g5_a_drain_under_load_loses_nothing
    a_drain_is_stopped_and_begun_again
    a_drain_waits_while_its_ancestors_are_away
    a_drain_waits_while_its_ancestors_are_full
    a_session_that_cannot_go_is_named_and_holds_nobody_up
    a_node_that_is_drained_takes_nothing
    who_may_drain_what
}

fn names(prefix: &str, number: usize) -> Vec<String> {
    (0..number).map(|index| format!("{prefix}-{index}")).collect()
}

/// Nothing here is about time: nobody gives up on a slow machine.
fn patient(plan: Plan) -> Plan {
    plan.set("session_wait", "45s").set("lease_ttl", "15s").set("store_timeout", "15s")
}

/// One write in each session, at `node`; what was written.
async fn create(tree: &Tree, node: &str, sessions: &[String]) -> BTreeMap<String, History> {
    let client = Client::new(tree.gateway(node), "any");
    let mut creating: JoinSet<Vec<(String, History)>> = JoinSet::new();
    for part in sessions.chunks(sessions.len().div_ceil(32)) {
        let (client, part) = (client.clone(), part.to_vec());
        creating.spawn(async move {
            let mut histories = Vec::new();
            for session in part {
                let began = Instant::now();
                let mut client = client.session(&session);
                client.send(Method::POST, "/log", "first").await.expect(200);
                let (ended, outcome) = (Instant::now(), Outcome::Acked(0));
                let write = Write { text: "first".to_owned(), began, ended, outcome };
                let history = History { writes: vec![write], reads: Vec::new() };
                histories.push((session, history));
            }
            histories
        });
    }
    creating.join_all().await.into_iter().flatten().collect()
}

async fn drain(tree: &Tree, node: &str, action: &str) -> DrainStatus {
    let answer = tree.operator().post(node, "drain", &json!({"action": action})).await.expect(200);
    serde_json::from_value(answer.body).expect("how far it is")
}

async fn far(tree: &Tree, node: &str) -> DrainStatus {
    tree.operator().status(node).await.drain.unwrap_or_default()
}

/// Waits until no session is left at `node`.
async fn emptied(tree: &Tree, node: &str) -> DrainStatus {
    let mut seen = (0, Instant::now());
    loop {
        let status = far(tree, node).await;
        if status.state == DrainState::Empty {
            assert_eq!((status.left, status.failing), (0, 0), "{status:?}");
            return status;
        }
        if status.moved != seen.0 {
            seen = (status.moved, Instant::now());
        }
        assert!(seen.1.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the drain of `node` waits for something, and says what it is at.
async fn waiting(tree: &Tree, node: &str) -> DrainStatus {
    let mut seen = DrainStatus::default();
    until("the drain waits", async || {
        seen = far(tree, node).await;
        seen.state == DrainState::Waiting
    })
    .await;
    seen
}

/// Judges what was seen against the logs as they are now.
async fn judge(tree: &Tree, histories: &BTreeMap<String, History>) -> Vec<(String, Fault)> {
    let client = Client::new(tree.gateway("navigli"), "any");
    let mut judging = JoinSet::new();
    let all: Vec<_> = histories.clone().into_iter().collect();
    for part in all.chunks(all.len().div_ceil(32)) {
        let (client, part) = (client.clone(), part.to_vec());
        judging.spawn(async move {
            let mut faults = Vec::new();
            for (session, history) in part {
                let answer = client.session(&session).send(Method::GET, "/log", "").await;
                let found = history.judge(&answer.expect(200).json::<Vec<String>>());
                faults.extend(found.into_iter().map(|fault| (session.clone(), fault)));
            }
            faults
        });
    }
    judging.join_all().await.into_iter().flatten().collect()
}

fn add(histories: &mut BTreeMap<String, History>, seen: Seen) {
    for (session, history) in seen.histories {
        let known = histories.entry(session).or_default();
        known.writes.extend(history.writes);
        known.reads.extend(history.reads);
    }
}

async fn sessions_at(tree: &Tree, node: &str) -> u64 {
    tree.operator().status(node).await.sessions
}

/// Drains navigli of `number` sessions while clients use some of them, and others
/// create more.
async fn drained_under_load(tree: &Tree, number: usize, used: usize, clients: usize) {
    let sessions = names("s", number);
    let mut histories = create(tree, "navigli", &sessions).await;
    let created = Instant::now();
    let load = Load::start(tree, "navigli", &sessions[number - used..], clients);
    let newcomers = Load::start(tree, "navigli", &names("new", used.min(50)), 2);
    drain(tree, "navigli", "start").await;
    let status = emptied(tree, "navigli").await;
    let took = created.elapsed();
    let (seen, new) = (load.stop().await, newcomers.stop().await);
    // Those that were created since go as well.
    let after = emptied(tree, "navigli").await;
    println!(
        "{} of {number} and more moved in {took:.1?}; answers {:?}, newcomers {:?}",
        status.moved,
        seen.answers(),
        new.answers()
    );
    for said in seen.said.iter().chain(&new.said) {
        assert_eq!(said.status, 200, "{said:?}");
    }
    assert!(seen.said.len() > clients && new.said.len() > 2);
    add(&mut histories, seen);
    add(&mut histories, new);
    // Counted: every session left once.
    assert_eq!(after.moved, histories.len() as u64, "{after:?}");
    assert_eq!(judge(tree, &histories).await, []);
    assert_eq!(sessions_at(tree, "navigli").await, 0);
    until("all are at milan", async || sessions_at(tree, "milan").await == histories.len() as u64)
        .await;
    // Home pointers lead clients on.
    let mut client = Client::new(tree.gateway("navigli"), &sessions[0]);
    let answer = client.send(Method::GET, "/log", "").await.expect(200);
    assert_eq!(
        answer.hops.iter().map(|hop| tree.node_at(hop)).collect::<Vec<_>>(),
        [Some("milan")]
    );
}

async fn g2_g5_a_drain_under_load_loses_nothing(store: Store) {
    let tree = patient(Tree::line(store)).start().await;
    drained_under_load(&tree, 200, 100, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_g5_ten_thousand_sessions_are_drained_under_load() {
    let tree = patient(Tree::line(Store::Redis("everysec"))).set("creation_rate", "100000").start();
    drained_under_load(&tree.await, 10_000, 1000, 4).await;
}

async fn a_drain_is_stopped_and_begun_again(store: Store) {
    let tree = Tree::line(store).start().await;
    let histories = create(&tree, "navigli", &names("s", 40)).await;
    let held = tree.hold("milan", "target.opened");
    drain(&tree, "navigli", "start").await;
    held.reached().await;
    // Told twice is told once.
    assert_eq!(drain(&tree, "navigli", "start").await.state, DrainState::Moving);
    let stopped = drain(&tree, "navigli", "stop").await;
    assert_eq!((stopped.state, stopped.moved, stopped.left), (DrainState::Off, 0, 40));
    held.release();
    // What was under way ends, and nothing else begins.
    until("nothing moves", async || {
        let (above, here) =
            (tree.operator().status("milan").await, tree.operator().status("navigli").await);
        above.moves + above.waiting + above.pending + here.pending == 0
    })
    .await;
    let left = sessions_at(&tree, "navigli").await;
    assert!(left > 0 && left < 40, "{left}");
    assert_eq!(far(&tree, "navigli").await, DrainStatus::default());
    let mut client = Client::new(tree.gateway("navigli"), "of-now");
    assert!(client.send(Method::POST, "/log", "first").await.expect(200).hops.is_empty());

    drain(&tree, "navigli", "start").await;
    assert_eq!(emptied(&tree, "navigli").await.moved, left + 1);
    assert_eq!(judge(&tree, &histories).await, []);
    let ended = drain(&tree, "navigli", "stop").await;
    assert_eq!((ended.state, ended.left), (DrainState::Off, 0));
    tree.operator().onload("navigli", "s-0").await;
    assert_eq!(sessions_at(&tree, "navigli").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_node_that_is_killed_goes_on_with_its_drain() {
    let mut tree = patient(Tree::line(Store::Redis("always"))).start().await;
    let sessions = names("s", 400);
    let mut histories = create(&tree, "navigli", &sessions).await;
    let load = Load::start(&tree, "navigli", &sessions[300..], 4);
    let mut deaths = 0;
    drain(&tree, "navigli", "start").await;
    for moved in [20, 120] {
        until("some have moved", async || sessions_at(&tree, "milan").await >= moved).await;
        tree.site("navigli").kill9();
        tree.site("navigli").launch();
        tree.site("navigli").ready().await;
        deaths += 1;
    }
    let status = emptied(&tree, "navigli").await;
    let seen = load.stop().await;
    println!(
        "after {deaths} deaths {} of 400 are counted; answers {:?}",
        status.moved,
        seen.answers()
    );
    assert!(status.moved <= 400, "{status:?}");
    // A node that is dead answers nothing; what it had answered before holds.
    assert!(seen.said.iter().all(|said| [0, 200].contains(&said.status)), "{:?}", seen.answers());
    add(&mut histories, seen);
    assert_eq!(judge(&tree, &histories).await, []);
    until("all are at milan", async || sessions_at(&tree, "milan").await == 400).await;
}

async fn a_drain_waits_while_its_ancestors_are_away(store: Store) {
    let mut tree = Tree::line(store).set("peer_timeout", "500ms").start().await;
    let histories = create(&tree, "navigli", &names("s", 60)).await;
    for node in ["milan", "italy"] {
        tree.site(node).kill9();
    }
    drain(&tree, "navigli", "start").await;
    let status = waiting(&tree, "navigli").await;
    assert_eq!((status.moved, status.left), (0, 60), "{status:?}");
    assert!(status.waits_for.is_some_and(|why| why.contains("does not answer")));
    // Clients are served meanwhile.
    let mut client = Client::new(tree.gateway("navigli"), "s-0");
    assert_eq!(
        client.send(Method::GET, "/log", "").await.expect(200).json::<Vec<String>>(),
        ["first"]
    );
    // An ancestor is enough.
    tree.site("italy").launch();
    tree.site("italy").ready().await;
    assert_eq!(emptied(&tree, "navigli").await.moved, 60);
    assert_eq!(judge(&tree, &histories).await, []);
    assert_eq!(sessions_at(&tree, "italy").await, 60);
}

async fn a_drain_waits_while_its_ancestors_are_full(store: Store) {
    let mut tree = Tree::line(store).start().await;
    let histories = create(&tree, "navigli", &names("s", 60)).await;
    for node in ["milan", "italy"] {
        tree.site(node).set("max_sessions", "0");
        tree.site(node).restart().await;
    }
    drain(&tree, "navigli", "start").await;
    let status = waiting(&tree, "navigli").await;
    assert!(status.waits_for.as_deref().is_some_and(|why| why.contains("room")), "{status:?}");
    assert_eq!((status.moved, status.left), (0, 60), "{status:?}");
    tree.site("milan").set("max_sessions", "1000");
    tree.site("milan").restart().await;
    assert_eq!(emptied(&tree, "navigli").await.moved, 60);
    assert_eq!(judge(&tree, &histories).await, []);
}

async fn a_session_that_cannot_go_is_named_and_holds_nobody_up(store: Store) {
    let tree = Tree::line(store).entries(&["milan", "italy"]).start().await;
    // The same id is another session at each of the three nodes.
    for node in ["italy", "milan", "navigli"] {
        let mut client = Client::new(tree.gateway(node), "twin");
        client.send(Method::POST, "/log", node).await.expect(200);
    }
    let histories = create(&tree, "navigli", &names("s", 40)).await;
    drain(&tree, "navigli", "start").await;
    let mut status = DrainStatus::default();
    // A session has left the store a moment before its move is counted.
    until("only the twin is left", async || {
        status = far(&tree, "navigli").await;
        status.left == 1 && status.failing == 1 && status.moved >= 40
    })
    .await;
    assert_eq!((status.moved, status.reasons.len()), (40, 1), "{status:?}");
    assert!(status.reasons[0].why.contains("another session"), "{status:?}");
    assert_ne!(status.state, DrainState::Empty);
    assert_eq!(judge(&tree, &histories).await, []);
    let mut twin = Client::new(tree.gateway("navigli"), "twin");
    let answer = twin.send(Method::POST, "/log", "more").await.expect(200);
    assert_eq!((answer.text(), answer.hops.len()), ("1", 0));
}

async fn a_node_that_is_drained_takes_nothing(store: Store) {
    let tree = Tree::line(store).start().await;
    create(&tree, "navigli", &names("s", 4)).await;
    drain(&tree, "milan", "start").await;
    emptied(&tree, "milan").await;
    // What comes from below is passed on.
    let moved = tree.operator().offload("navigli", "s-0").await;
    assert_eq!(moved.accepted_by.as_str(), "italy");
    let onload = json!({"session": "s-0"});
    let refused = tree.operator().post("milan", "force-onload", &onload).await.expect(409);
    assert_eq!(refused.body["code"], "draining");
    // So is what its child sends away while it is drained itself.
    drain(&tree, "navigli", "start").await;
    assert_eq!(emptied(&tree, "navigli").await.moved, 3);
    assert_eq!(sessions_at(&tree, "italy").await, 4);
    drain(&tree, "milan", "stop").await;
    tree.operator().onload("milan", "s-0").await;
    assert_eq!(sessions_at(&tree, "milan").await, 1);
}

async fn who_may_drain_what(store: Store) {
    let tree = Tree::line(store).start().await;
    let operator = tree.operator();
    let refused = operator.post("italy", "drain", &json!({})).await.expect(409);
    assert_eq!(refused.body["code"], "root-stays");
    assert_eq!(operator.status("italy").await.drain, None);
    let peer = (Role::Peer, "italy");
    operator.post_as(peer, "navigli", "drain", &json!({})).await.expect(403);
    operator.post("navigli", "drain", &json!({"action": "perhaps"})).await.expect(400);
    assert_eq!(operator.status("navigli").await.drain, None);
    // The query form.
    let answer = operator.by_query(("navigli", Method::POST), "drain", "action=start").await;
    assert_eq!(answer.expect(200).body["left"], 0);
    emptied(&tree, "navigli").await;
}
