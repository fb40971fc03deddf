//! A tree in which nodes of this release meet nodes of the one before: half of it, or one
//! after the other in a rolling upgrade and back again.
//!
//! The older nodes are this release, held to the version before with `wire_version`. Where
//! `FUNICULAR_PREVIOUS` names the `site` of the release before, they are that one.

use std::time::Duration;

use funicular::http::signature::{Call, Caller, Keys, Role, SIGNATURE_HEADER};
use funicular::peers::WireVersion;
use funicular::session::{FunctionName, NodeName, Nonce};
use funicular_tests::client::Client;
use funicular_tests::load::{Load, Seen};
use funicular_tests::operator::{Operator, unix_ms};
use funicular_tests::tree::{Plan, Store, Tree, until};
use reqwest::Method;
use serde_json::json;

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(60);
const OLD: &str = "1";
const NEW: &str = "2";
/// So that each kind of node is above, below and at home of each other kind.
const OLD_HALF: &[&str] = &["milan", "brera", "trastevere"];
/// From each edge up.
const WAYS: [[&str; 3]; 3] =
    [["navigli", "milan", "italy"], ["brera", "milan", "italy"], ["trastevere", "rome", "italy"]];

fn plan() -> Plan {
    Tree::italy(Store::Redis("always")).set("precopy_min", "4096")
}

async fn create(tree: &Tree, node: &str, session: &str) {
    Client::new(tree.gateway(node), session).send(Method::PUT, "/value/k", "v").await.expect(204);
}

/// Makes a session large, of what compresses and of what does not.
async fn fill(tree: &Tree, node: &str, session: &str, pieces: usize) {
    let mut client = Client::new(tree.gateway(node), session);
    for key in 0..pieces {
        let bytes: Vec<u8> = match key % 2 {
            0 => b"a line of a log\n".repeat(16 * 1024),
            _ => (0..256 * 1024).map(|_| rand::random()).collect(),
        };
        client.send(Method::PUT, &format!("/value/{key}"), bytes).await.expect(204);
    }
}

/// Nothing is lost or there twice.
async fn judge(tree: &Tree, seen: &Seen) {
    for (session, history) in &seen.histories {
        let owner = tree.operator().settled(session, REST).await;
        let mut client = Client::new(tree.gateway(owner), session);
        let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
        assert!(!log.is_empty(), "{session}");
        let faults = history.judge(&log);
        assert!(faults.is_empty(), "{session}: {faults:?}");
    }
}

async fn versions(tree: &Tree) -> Vec<(&'static str, u32)> {
    let operator = tree.operator();
    let mut all = Vec::new();
    for node in tree.nodes() {
        all.push((node, operator.status(node).await.wire_version));
    }
    all
}

/// Up to the root and down again, a level at a time; says how much was copied ahead.
async fn up_and_down(operator: &Operator<'_>, way: [&str; 3], session: &str) -> u32 {
    let [edge, middle, root] = way;
    let mut rounds = 0;
    for (from, to) in [(edge, middle), (middle, root)] {
        let report = operator.offload(from, session).await;
        assert_eq!(report.accepted_by.as_str(), to, "{session} up from {from}");
        assert_eq!(operator.settled(session, REST).await, to);
        rounds += report.rounds;
    }
    for (from, to) in [(root, middle), (middle, edge)] {
        let report = operator.onload(to, session).await;
        assert_eq!(report.accepted_by.as_str(), to, "{session} down from {from}");
        assert_eq!(operator.settled(session, REST).await, to);
        rounds += report.rounds;
    }
    rounds
}

async fn move_all(tree: &Tree, way: [&str; 3]) {
    for kind in ["small", "large"] {
        let rounds = up_and_down(&tree.operator(), way, &format!("{}-{kind}", way[0])).await;
        assert!(kind == "small" || rounds >= 4, "{rounds} rounds of four copies");
    }
}

#[tokio::test]
async fn g2_g3_g5_sessions_move_between_old_and_new_nodes() {
    let mut tree = plan().set_at(OLD_HALF, "wire_version", OLD).start().await;
    for (node, version) in versions(&tree).await {
        assert_eq!(version, if OLD_HALF.contains(&node) { 1 } else { 2 }, "{node}");
    }
    let mut sessions = Vec::new();
    for [edge, ..] in WAYS {
        for kind in ["small", "large"] {
            let session = format!("{edge}-{kind}");
            create(&tree, edge, &session).await;
            if kind == "large" {
                fill(&tree, edge, &session, 8).await;
            }
            sessions.push((edge, session));
        }
    }
    let loads: Vec<_> = sessions
        .iter()
        .map(|(edge, session)| Load::start(&tree, edge, std::slice::from_ref(session), 2))
        .collect();
    tokio::join!(move_all(&tree, WAYS[0]), move_all(&tree, WAYS[1]), move_all(&tree, WAYS[2]));
    for load in loads {
        let seen = load.stop().await;
        let answers = seen.answers();
        assert!(answers.keys().all(|answer| *answer == (200, "")), "{answers:?}");
        judge(&tree, &seen).await;
    }
    // Whoever is new found out, and nobody else had to.
    for node in ["navigli", "italy", "rome"] {
        let log = tree.site(node).log();
        assert!(log.contains("another version of the internal calls"), "{node}: {log}");
    }
    for node in OLD_HALF {
        assert!(!tree.site(node).log().contains("another version of the internal calls"), "{node}");
    }
}

#[tokio::test]
async fn g3_functions_call_each_other_between_old_and_new_nodes() {
    let plan = plan().entries(&["milan", "rome", "italy"]);
    let tree = plan.set_at(OLD_HALF, "wire_version", OLD).start().await;
    let operator = tree.operator();
    // From new to old, to new, and from old to new, to old; with a redirect between kinds.
    for (number, (from, to, moved)) in [
        ("navigli", "milan", None),
        ("navigli", "italy", None),
        ("brera", "italy", None),
        ("brera", "milan", None),
        ("navigli", "milan", Some("italy")),
        ("brera", "milan", Some("italy")),
        ("trastevere", "rome", Some("italy")),
    ]
    .into_iter()
    .enumerate()
    {
        let session = format!("called-{number}");
        create(&tree, to, &session).await;
        if let Some(moved) = moved {
            assert_eq!(operator.offload(to, &session).await.accepted_by.as_str(), moved);
        }
        let mut client = Client::new(tree.gateway(from), &session);
        for (count, id) in [(1, "a"), (1, "a"), (2, "b")] {
            let path = format!("/invoke?node={to}&path=/log");
            client.write_once(&path, id, id, REST).await.expect(200);
            let mut called = Client::new(tree.gateway(to), &session);
            let log: Vec<String> = called.send(Method::GET, "/log", "").await.expect(200).json();
            assert_eq!(log.len(), count, "{from} calls {to} {moved:?}: {log:?}");
        }
    }
    // Values go to all levels above: to old and new ones.
    for (number, from) in ["navigli", "brera", "trastevere"].into_iter().enumerate() {
        let session = format!("told-{number}");
        let [_, middle, root] = WAYS.into_iter().find(|way| way[0] == from).unwrap();
        for node in [middle, root] {
            create(&tree, node, &session).await;
        }
        let mut client = Client::new(tree.gateway(from), &session);
        client.write_once("/propagate?levels=*&function=probe", "v", "1", REST).await.expect(200);
        until("it is delivered", async || operator.status(from).await.pending == 0).await;
        for node in [middle, root] {
            let mut told = Client::new(tree.gateway(node), &session);
            let log: Vec<String> = told.send(Method::GET, "/log", "").await.expect(200).json();
            assert_eq!(log, ["v"], "{from} to {node}");
        }
    }
}

/// Replaces a node's process.
async fn replace(tree: &mut Tree, node: &str, version: &str) {
    let site = tree.site(node);
    assert!(site.terminate().await, "{node} ends well");
    site.set("wire_version", version);
    site.launch();
    site.ready().await;
}

#[tokio::test]
async fn g2_g7_a_rolling_upgrade_and_its_roll_back_lose_nothing() {
    let mut tree = plan().set("wire_version", OLD).start().await;
    let mut sessions = Vec::new();
    let mut loads = Vec::new();
    for way in WAYS {
        // One of them stays at each level of each way.
        for level in 0..3 {
            let session = format!("{}-{level}", way[0]);
            create(&tree, way[0], &session).await;
            for from in &way[..level] {
                tree.operator().offload(from, &session).await;
            }
            loads.push(Load::start(&tree, way[0], std::slice::from_ref(&session), 1));
            sessions.push(session);
        }
        let moving = format!("{}-moving", way[0]);
        create(&tree, way[0], &moving).await;
        fill(&tree, way[0], &moving, 2).await;
        loads.push(Load::start(&tree, way[0], std::slice::from_ref(&moving), 1));
    }
    for (order, version) in [
        (["milan", "navigli", "italy", "trastevere", "brera", "rome"], NEW),
        (["italy", "brera", "milan", "rome", "navigli", "trastevere"], OLD),
    ] {
        for node in order {
            replace(&mut tree, node, version).await;
            let way = WAYS.into_iter().find(|way| way.contains(&node)).unwrap();
            up_and_down(&tree.operator(), way, &format!("{}-moving", way[0])).await;
        }
        let number: u32 = version.parse().unwrap();
        assert!(versions(&tree).await.iter().all(|(_, version)| *version == number));
    }
    for load in loads {
        let seen = load.stop().await;
        // While a process is replaced nobody listens at its port, nor answers for it.
        let expected = |(status, code): &(u16, &str)| match status {
            0 | 200 => true,
            503 => ["peer-unreachable", "busy", "outcome-unknown"].contains(code),
            _ => false,
        };
        let answers = seen.answers();
        assert!(answers.keys().all(expected), "{answers:?}");
        assert!(answers[&(200, "")] > 20, "{answers:?}");
        judge(&tree, &seen).await;
    }
}

#[tokio::test]
async fn g8_a_call_of_a_version_too_far_away_is_refused_and_says_so() {
    let tree = Tree::line(Store::Memory).set_at(&["milan"], "wire_version", OLD).start().await;
    let operator = tree.operator();
    for (node, version, known) in [("navigli", 3, 2), ("italy", 0, 2), ("milan", 2, 1)] {
        if node == "milan" && std::env::var_os("FUNICULAR_PREVIOUS").is_some() {
            // That release has words of its own.
            continue;
        }
        let header = format!("v={version};kid=0;role=peer;from=italy;t=1;n=0;sig=AA");
        let answer = operator.send(node, "status", "{}".to_owned(), Some(&header)).await;
        let answer = answer.expect(400);
        assert_eq!(answer.body["code"], "unsupported-version", "{node}");
        assert_eq!(answer.body["known"], known, "{node}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("bring both to releases next to each other"), "{detail}");
    }
    // A form of a body that this release does not know, in a call that it reads.
    let step = json!({
        "v": 3, "session": "s", "phase": "open", "home": "milan", "epoch": 2, "target": "milan",
        "incarnation": "00000000000000000000000000000001",
        "nonce": "00000000000000000000000000000001",
    });
    let peer = (Role::Peer, "milan");
    let answer = operator.post_as(peer, "navigli", "migrate-session", &step).await.expect(400);
    assert_eq!(answer.body["code"], "unsupported-version");
    assert_eq!(answer.body["known"], WireVersion::NEWEST.number());
}

/// The status and whether the answer is signed, of a call that is signed for one session
/// and sent for another.
async fn invoke(tree: &Tree, version: WireVersion, signed: &str, sent: &str) -> (u16, bool) {
    let name = |text: &str| NodeName::new(text).unwrap();
    let (navigli, path, body) = (name("navigli"), "/log", "x");
    let call = Call {
        method: "POST",
        path,
        body: body.as_bytes(),
        session: signed,
        request_id: "r",
        ..Call::to(&navigli)
    };
    let keys = Keys::from_dir(tree.dir()).unwrap();
    let keys = keys.for_function(&FunctionName::new("probe").unwrap());
    let caller = Caller { role: Role::Peer, name: name("milan") };
    let call = keys.sign_in(version, &caller, &call, unix_ms(), Nonce(rand::random())).unwrap();
    let answer = reqwest::Client::new()
        .post(format!("{}{path}", tree.gateway("navigli")))
        .header(SIGNATURE_HEADER, call.header())
        .header("x-session", sent)
        .header("x-session-request-id", "r")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let signature = answer.headers().get(SIGNATURE_HEADER).cloned();
    let body = answer.bytes().await.unwrap();
    let Some(signature) = signature else { return (status, false) };
    call.check_answer(signature.to_str().ok(), status, &body).expect("its own signature");
    (status, true)
}

#[tokio::test]
async fn g8_an_invoked_call_is_for_the_session_that_was_signed() {
    let tree = Tree::line(Store::Memory).start().await;
    let (old, new) = (WireVersion::V1, WireVersion::V2);
    assert_eq!(invoke(&tree, new, "ada", "ada").await, (200, true));
    assert_eq!(invoke(&tree, new, "ada", "eve").await, (401, false));
    // This is what the version before left open.
    assert_eq!(invoke(&tree, old, "ada", "ada").await, (200, false));
    assert_eq!(invoke(&tree, old, "ada", "eve").await, (200, false));
}
