//! The tree of `topology/compose`, in containers, while containers are killed, stand
//! still, are cut off and replaced. It is brought up once, for one story after the other:
//! after each there is one owner a session, and nothing that was acknowledged is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use funicular::peers::messages::{DrainState, DrainStatus};
use funicular::session::{FunctionName, SessionId};
use funicular_oracle::daemon::{Explanation, Mode, Recorded, SignalTold};
use funicular_oracle::policy::decision::Phase;
use funicular_oracle::policy::settings::PolicySettings;
use funicular_oracle::settings::FileSettings;
use funicular_tests::client::Client;
use funicular_tests::containers::compose::{Compose, SEATS, SMALL, View};
use funicular_tests::containers::docker;
use funicular_tests::crowd::Crowd;
use funicular_tests::operator::Operator;
use funicular_tests::oracle::{check_budget, check_dwell};
use funicular_tests::reach::Reach;
use funicular_tests::traffic::{Seen, Traffic, check};
use funicular_tests::tree::until;
use reqwest::Method;
use serde_json::{Value, json};

/// How long everything may take to come to rest after a fault.
const REST: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
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
    g5_an_oracle_relieves_its_node_and_nothing_flaps(&tree).await;
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

/// How long a load near the watermark has to leave everything where it is.
fn steady() -> Duration {
    let given = std::env::var("FUNICULAR_STEADY_SECONDS").ok();
    Duration::from_secs(given.map_or(45, |text| text.parse().expect("FUNICULAR_STEADY_SECONDS")))
}

/// Waits until an oracle knows or has decided something; every look is a call of Docker.
async fn told(
    what: &str,
    (tree, node): (&Compose, &str),
    holds: impl Fn(&Explanation) -> bool,
) -> Explanation {
    let began = Instant::now();
    loop {
        let told = tree.explain(node).await.expect("an oracle that answers");
        if holds(&told) {
            return told;
        }
        assert!(began.elapsed() < 2 * REST, "{what}: not yet, but {told:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A signal of a function, or of the node, if it is known.
fn signal(told: &Explanation, function: Option<&str>, name: &str) -> Option<f64> {
    let is_meant = |signal: &&SignalTold| {
        signal.signal == name && signal.function.as_ref().map(FunctionName::as_str) == function
    };
    told.signals.iter().find(is_meant)?.value
}

fn probe_phase(told: &Explanation) -> Option<Phase> {
    let of_probe = told.functions.iter().find(|verdict| verdict.function.as_str() == "probe");
    of_probe.map(|verdict| verdict.phase)
}

/// Each source is read where it is: Redis over the node's network, the cgroup of the
/// container, the functions through the gateway, which lists them.
async fn it_reads_everything(tree: &Compose) {
    let all = [
        (None, "redis-memory"),
        (None, "redis-bytes"),
        (None, "cpu"),
        (None, "memory"),
        (Some("cart"), "latency-p99"),
        (Some("probe"), "queue-wait"),
        (Some("probe"), "in-flight"),
    ];
    let seen = told("every source has spoken", (tree, SMALL), |seen| {
        seen.mode == Mode::Acting
            && all.iter().all(|(function, name)| signal(seen, *function, name).is_some())
    })
    .await;
    assert!(seen.sources.iter().all(|source| source.error.is_none()), "{:?}", seen.sources);
    // What the container uses of the limit that the compose file gives it.
    let oracle = tree.container(&format!("{SMALL}-oracle"));
    let of_cgroup = |new: &str, old: &str| -> f64 {
        let read = format!("cd /sys/fs/cgroup; cat {new} 2>/dev/null || cat memory/{old}");
        docker(&["exec", &oracle, "sh", "-c", &read]).parse().expect("bytes")
    };
    let limit = of_cgroup("memory.max", "memory.limit_in_bytes");
    let usage = of_cgroup("memory.current", "memory.usage_in_bytes");
    assert!((limit - f64::from(128 << 20)).abs() < 1.0, "{limit}");
    let share = signal(&seen, None, "memory").expect("it is known");
    assert!(share > 0.0 && share < 2.0 * usage / limit, "{share} of {usage}");
}

/// So many clients wait for the seats that the last of them waits a little longer than the
/// high watermark of `queue-wait`: now above it, now below.
fn near_the_watermark(policy: &PolicySettings) -> usize {
    const WORK_MS: usize = 50;
    let rule = policy.rules.iter().find(|rule| rule.name == "queue-wait").expect("that rule");
    let enough = |clients: &usize| {
        let waits = Duration::from_millis((clients * WORK_MS / SEATS - WORK_MS) as u64);
        waits.as_secs_f64() >= rule.high
    };
    (SEATS..1000).find(enough).expect("a number")
}

async fn g5_an_oracle_relieves_its_node_and_nothing_flaps(tree: &Compose) {
    let shipped = include_str!("../../topology/compose/oracle.yaml");
    let policy = FileSettings::parse(shipped).expect("the settings that are shipped").policy;
    tree.watch().await;
    it_reads_everything(tree).await;

    let clients = near_the_watermark(&policy);
    let crowd = Crowd::start(tree, SMALL, clients, "/slow?ms=50");
    let crowds: BTreeSet<String> = (0..clients)
        .map(|number| SessionId::new(format!("session-{number}")).expect("a session").log_hash())
        .collect();
    // The stories before have left sessions in odd places, which oracles bring home too.
    let moved = |told: &Explanation, action: &str| {
        let of_crowd = told.decisions.iter().filter(|it| {
            let session = it.decision.action.moves().map(|(session, _)| session.as_str());
            session.is_some_and(|session| crowds.contains(session))
        });
        of_crowd.filter(|it| it.decision.action.name() == action).count()
    };
    let seen = told("it is relieved", (tree, SMALL), |seen| {
        moved(seen, "offload") > 0 && probe_phase(seen) == Some(Phase::Holding)
    })
    .await;
    let (up, began) = (moved(&seen, "offload"), Instant::now());
    let (mut phases, mut waits) = (vec![Phase::Holding], Vec::new());
    while began.elapsed() < steady() {
        let seen = tree.explain(SMALL).await.expect("an oracle that answers");
        let phase = probe_phase(&seen).expect("it is watched");
        if phases.last() != Some(&phase) {
            phases.push(phase);
        }
        waits.extend(signal(&seen, Some("probe"), "queue-wait"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut all = Vec::new();
    for node in tree.names() {
        all.push(tree.explain(node).await.expect("an oracle that answers"));
    }
    let seen = all.iter().find(|told| told.node.as_str() == SMALL).expect("it is there");
    let (more, home) = (moved(seen, "offload") - up, moved(seen, "onload"));
    let (least, most) = waits
        .iter()
        .fold((f64::MAX, 0.0_f64), |(least, most), wait| (least.min(*wait), most.max(*wait)));
    println!(
        "an oracle in a container: {clients} clients; {up} sessions went up, {more} more and \
         {home} home in the {} s after; phases {phases:?}; a wait of {least:.3} to {most:.3} s; \
         {} requests answered",
        began.elapsed().as_secs(),
        crowd.answered(),
    );
    // A machine that is slow for a while makes everybody wait: that is one more relief, and
    // who left for it comes home. It is no reason for anybody to go to and fro.
    assert!(phases.len() <= 4, "{phases:?}");
    let mut moves: BTreeMap<&SessionId, Vec<&str>> = BTreeMap::new();
    for decision in seen.decisions.iter().rev().map(|it| &it.decision) {
        if let Some((session, _)) = decision.action.moves() {
            moves.entry(session).or_default().push(decision.action.name());
        }
    }
    let restless: Vec<_> = moves
        .iter()
        .filter(|(session, moves)| moves.len() > 2 && crowds.contains(session.as_str()))
        .collect();
    assert!(restless.is_empty(), "{restless:?}");
    for told in &all {
        check_budget(told, policy.moves, policy.interval.as_millis());
        // A session that an earlier story left on its way somewhere may be there before its oracle
        // has it fetched; of the crowd nobody else knows.
        let of_crowd = |it: &&Recorded| {
            it.decision.action.moves().is_none_or(|(session, _)| crowds.contains(session.as_str()))
        };
        let failed: Vec<_> =
            told.decisions.iter().filter(of_crowd).filter(|it| it.outcome == "failed").collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
    check_dwell(&all, policy.dwell.as_millis());
    assert!(crowd.stop().await > 0);
}
