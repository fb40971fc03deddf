//! Topology and secrets change while the nodes are at work.

use std::fs;

use funicular_tests::client::Client;
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;

async fn topology_status(tree: &Tree, node: &str) -> funicular::peers::messages::TopologyStatus {
    tree.operator().status(node).await.topology
}

fn write(tree: &Tree, text: &str) {
    fs::write(tree.dir().join("topology.yaml"), text).expect("the topology");
}

/// The lines of a node and what is below it, taken out.
fn without(topology: &str, node: &str) -> String {
    let mut lines = Vec::new();
    let mut skipping = None;
    for line in topology.lines() {
        let indent = line.len() - line.trim_start().len();
        if skipping.is_some_and(|from| indent <= from) {
            skipping = None;
        }
        if line.trim_start() == format!("- name: {node}") {
            skipping = Some(indent);
        }
        if skipping.is_none() {
            lines.push(line);
        }
    }
    // A node that has no children left leaves the key out.
    let empty = |index: usize| {
        let indent = |line: &str| line.len() - line.trim_start().len();
        lines[index].trim() == "children:"
            && lines.get(index + 1).is_none_or(|next| indent(next) <= indent(lines[index]))
    };
    let kept = (0..lines.len()).filter(|index| !empty(*index)).map(|index| lines[index]);
    kept.collect::<Vec<_>>().join("\n") + "\n"
}

async fn takes_effect(tree: &Tree, nodes: &[&str], count: u64) {
    until("the new topology is everywhere", async || {
        for node in nodes {
            let status = topology_status(tree, node).await;
            if status.nodes != count || status.refused.is_some() {
                return false;
            }
        }
        true
    })
    .await;
}

async fn refused(tree: &Tree, node: &str) -> String {
    let mut why = None;
    until("the new topology is refused", async || {
        why = topology_status(tree, node).await.refused;
        why.is_some()
    })
    .await;
    why.expect("a reason")
}

#[tokio::test]
async fn a_changed_topology_takes_effect_without_a_restart() {
    let tree = Tree::line(Store::Memory).set("reload_interval", "50ms").start().await;
    let before = topology_status(&tree, "milan").await;
    let url = tree.base("navigli");
    assert!(tree.topology().contains(&url));
    // Another way to reach navigli, and a node that was not there.
    let more = tree
        .topology()
        .replace("levels:", "# the gateway of a new node is not asked for anything here\nlevels:")
        + "        - name: brera\n          gateway: http://127.0.0.1:1\n";
    write(&tree, &more);
    takes_effect(&tree, &["italy", "milan", "navigli"], 4).await;
    let after = topology_status(&tree, "milan").await;
    assert_ne!(before.digest, after.digest);
    assert_eq!(after.digest, topology_status(&tree, "navigli").await.digest);

    // Nothing is at brera: it may go again.
    write(&tree, tree.topology());
    takes_effect(&tree, &["italy", "milan", "navigli"], 3).await;
    assert_eq!(topology_status(&tree, "italy").await, before);
}

#[tokio::test]
async fn g2_a_topology_that_leaves_sessions_behind_is_refused_until_they_are_gone() {
    let tree = Tree::italy(Store::Redis("always")).set("reload_interval", "50ms").start().await;
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    client.send(Method::POST, "/log", "a").await.expect(200);
    tree.operator().offload("navigli", "ada").await;
    let smaller = without(tree.topology(), "navigli");
    write(&tree, &smaller);
    // milan has a session of that home, italy nothing of it.
    takes_effect(&tree, &["italy", "rome", "brera"], 5).await;
    let why = refused(&tree, "milan").await;
    assert!(why.contains("`navigli`") && why.contains("the home of sessions"), "{why}");
    let why = refused(&tree, "navigli").await;
    assert!(why.contains("it lacks `navigli`, this node"), "{why}");
    assert_eq!(topology_status(&tree, "milan").await.nodes, 6);
    // Nothing has changed for the session.
    let answer = client.send(Method::POST, "/log", "b").await.expect(200);
    assert_eq!(answer.hops.len(), 1);

    // What does not read is refused as well, with its line.
    write(&tree, "levels: [a]\nroot:\n  name: UP\n");
    let said = async |node| refused(&tree, node).await.contains("line 3:");
    for node in ["italy", "milan", "navigli"] {
        until("the fault is said", async || said(node).await).await;
    }
    write(&tree, tree.topology());
    takes_effect(&tree, &["italy", "milan", "navigli", "rome", "brera"], 6).await;
}

#[tokio::test]
async fn g2_a_node_that_a_pointer_leads_to_stays() {
    let tree = Tree::italy(Store::Memory).set("reload_interval", "50ms").start().await;
    let mut client = Client::new(tree.gateway("trastevere"), "ada");
    client.send(Method::POST, "/log", "a").await.expect(200);
    tree.operator().offload("trastevere", "ada").await;
    // rome goes, and trastevere stands right below italy.
    let flat = tree.topology().to_owned();
    let rome = flat.find("    - name: rome").expect("rome");
    let trastevere = tree.base("trastevere");
    let text = format!("{}    - name: trastevere\n      gateway: {trastevere}\n", &flat[..rome]);
    write(&tree, &text);
    let why = refused(&tree, "trastevere").await;
    assert!(why.contains("it lacks `rome`, where sessions of this node are"), "{why}");
    takes_effect(&tree, &["italy", "milan"], 5).await;
    client.send(Method::GET, "/log", "").await.expect(200);
}

#[tokio::test]
async fn g8_the_peers_key_is_rotated_file_by_file_without_a_refused_call() {
    let (old, new) =
        ("the peers' key of a test tree 0123456789", "another key, 32 bytes or so long");
    let tree = Tree::line(Store::Memory).set("reload_interval", "50ms").start().await;
    let nodes = ["italy", "milan", "navigli"];
    let operator = tree.operator();
    let keys = async |node| operator.status(node).await.peer_keys;
    let all = async |what: &str, count: usize, signs: &str| {
        until(what, async || {
            for node in nodes {
                let keys = keys(node).await;
                if keys.len() != count || keys[0] != signs {
                    return false;
                }
            }
            true
        })
        .await;
    };
    let put = |name: &str, text: &str| fs::write(tree.dir().join(name), text).expect("a secret");
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    client.send(Method::POST, "/log", "a").await.expect(200);
    let move_it = async || {
        operator.offload("navigli", "ada").await;
        operator.onload("navigli", "ada").await;
    };
    let first = keys("milan").await[0].clone();
    put("session-peer-key-previous", &format!("{old}\n{new}\n"));
    all("the new key is accepted", 3, &first).await;
    move_it().await;
    let second = keys("milan").await[2].clone();
    assert_ne!(first, second);
    put("session-peer-key", new);
    all("the new key signs", 3, &second).await;
    move_it().await;
    put("session-peer-key-previous", new);
    all("the old key is gone", 2, &second).await;
    move_it().await;
    assert!(keys("italy").await.iter().all(|key| *key == second));
    // Secrets that are no good change nothing.
    put("session-peer-key", "short");
    let log = tree.dir().join("milan.log");
    let said = || fs::read_to_string(&log).expect("a log").contains("has 5 bytes and needs");
    until("milan says so", async || said()).await;
    assert_eq!(operator.status("milan").await.peer_keys[0], second);
    put("session-peer-key", new);
    move_it().await;
}
