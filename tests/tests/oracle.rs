//! The oracle relieves its node and brings sessions home, while clients notice nothing.

use std::time::Duration;

use funicular_oracle::daemon::Mode;
use funicular_oracle::policy::decision::Phase;
use funicular_tests::crowd::Crowd;
use funicular_tests::oracle::{Oracle, check_budget, decided, phase};
use funicular_tests::tree::{Store, Tree, until};

/// Requests in flight are what the edge is judged by: as many as there are clients whose
/// sessions are there.
const SETTINGS: &str = "
tick: 100ms
signals: {time_constant: 1s, stale_after: 5s}
policy:
  rules: [{name: in-flight, signals: [in-flight], high: 12, low: 8, onload: 3}]
  cooldown: 1s
  dwell: 2s
  interval: 1s
  moves: 2
sources:
  status: {every: 100ms}
  machine: {enabled: false}
";
const MOVES: usize = 2;
const INTERVAL_MS: u64 = 1000;
/// What each client asks for.
const WORK: &str = "/slow?ms=40";

async fn acting(oracle: &Oracle) {
    until("the oracle acts", async || oracle.explain().await.mode == Mode::Acting).await;
}

async fn sessions(tree: &Tree, node: &str) -> u64 {
    tree.operator().status(node).await.sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_an_edge_is_relieved_and_its_sessions_come_home() {
    let tree = Tree::line(Store::Redis("always")).start().await;
    let mut oracle = tree.oracle("navigli", SETTINGS).await;
    acting(&oracle).await;
    let crowd = Crowd::start(&tree, "navigli", 20, WORK);
    until("it is relieved", async || {
        let told = oracle.explain().await;
        phase(&told) == Some(Phase::Holding)
    })
    .await;
    // The load goes on, and so nothing comes home.
    crowd.goes_on(1000).await;
    let told = oracle.explain().await;
    let (up, here) = (decided(&told)["offload"], sessions(&tree, "navigli").await);
    assert!(up >= 8 && here <= 12, "{up} went, {here} are here");
    assert_eq!(here + sessions(&tree, "milan").await, 20);
    assert_eq!(decided(&told).get("onload"), None, "{:?}", told.decisions);
    assert!(oracle.metrics().await.contains("funicular_oracle_decisions_total"));
    crowd.stop().await;
    until("everybody is at home", async || {
        let told = oracle.explain().await;
        sessions(&tree, "navigli").await == 20
            && told.decisions.iter().all(|it| it.outcome != "waiting")
    })
    .await;
    let told = oracle.explain().await;
    check_budget(&told, MOVES, INTERVAL_MS);
    let counts = decided(&told);
    assert_eq!((counts["onload"], counts["offload"]), (up, up), "{counts:?}");
    assert!(told.decisions.iter().all(|it| it.outcome == "done"), "{:?}", told.decisions);
    // A status that was not heard in time is said again; it changes once each way.
    let mut statuses: Vec<_> = told.decisions.iter().map(|it| it.decision.action.name()).collect();
    statuses.retain(|name| ["accept", "reject"].contains(name));
    statuses.dedup();
    assert_eq!(statuses, ["accept", "reject"], "the latest first");
    assert!(oracle.terminate().await);
    // The same once more, from what it saw.
    let trace = std::fs::File::open(&oracle.trace).unwrap();
    let mut offloads = 0;
    funicular_oracle::trace::replay(std::io::BufReader::new(trace), None, |_, _, outcome| {
        offloads += outcome.decisions.iter().filter(|it| it.action.name() == "offload").count();
    })
    .unwrap();
    assert!(offloads >= up, "{offloads} of {up}");
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_watermark_nothing_flaps() {
    let tree = Tree::line(Store::Redis("always")).start().await;
    // Eleven clients are ten and some requests in flight: now above it, now below.
    let settings = SETTINGS.replace("high: 12, low: 8, onload: 3", "high: 10, low: 7, onload: 3");
    let oracle = tree.oracle("navigli", &settings).await;
    acting(&oracle).await;
    let crowd = Crowd::start(&tree, "navigli", 11, WORK);
    crowd.goes_on(1500).await;
    let told = oracle.explain().await;
    let counts = decided(&told);
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    // Whether it is relieved is open. It is at most once, and nothing comes back.
    assert!(count("reject") <= 1 && count("offload") <= 6, "{counts:?}");
    assert_eq!((count("accept"), count("onload")), (0, 0), "{counts:?}");
    check_budget(&told, MOVES, INTERVAL_MS);
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oracle_that_observes_moves_nothing() {
    let tree = Tree::line(Store::Memory).start().await;
    let settings = SETTINGS.replace("high: 12, low: 8, onload: 3", "high: 3, low: 2, onload: 1");
    let oracle = tree.observer("navigli", &settings).await;
    let crowd = Crowd::start(&tree, "navigli", 8, WORK);
    until("something is decided", async || {
        decided(&oracle.explain().await).contains_key("offload")
    })
    .await;
    let told = oracle.explain().await;
    assert_eq!(told.mode, Mode::Observing);
    assert!(told.decisions.iter().all(|it| it.outcome == "observed"));
    assert_eq!(sessions(&tree, "navigli").await, 8);
    // Its dashboard shows its node, and what it would do; of the others no more than that they
    // are there.
    let page = oracle.page("/").await;
    for said in ["oracle observing", "8 sessions", "in-flight is ", "not watched from here"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(!page.contains("session-0"), "{page}");
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_oracle_acts_at_a_node_and_the_next_takes_over() {
    let tree = Tree::line(Store::Redis("always")).start().await;
    let mut first = tree.oracle("navigli", SETTINGS).await;
    acting(&first).await;
    let second = tree.oracle("navigli", SETTINGS).await;
    until("the second has looked", async || !second.explain().await.signals.is_empty()).await;
    assert_eq!(second.explain().await.mode, Mode::StandingBy);
    assert!(first.terminate().await);
    acting(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_away_stops_nothing() {
    let mut tree = Tree::line(Store::Redis("always")).start().await;
    tree.site("milan").kill9();
    tree.site("italy").kill9();
    let oracle = tree.oracle("navigli", SETTINGS).await;
    acting(&oracle).await;
    let crowd = Crowd::start(&tree, "navigli", 20, WORK);
    until("a move has failed", async || {
        oracle.explain().await.decisions.iter().any(|it| it.outcome == "failed")
    })
    .await;
    crowd.goes_on(300).await;
    let told = oracle.explain().await;
    assert!(told.functions.len() == 1 && told.mode == Mode::Acting, "{told:?}");
    tokio::time::timeout(Duration::from_secs(20), crowd.stop()).await.expect("clients end");
}
