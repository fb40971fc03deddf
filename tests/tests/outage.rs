//! G2, G5, G7 while a node's Redis is away, slow or full: errors that say when to
//! try again, nothing lost, and the node goes on by itself.

use std::time::{Duration, Instant};

use funicular_tests::client::{Answer, Client};
use funicular_tests::judge::Fault;
use funicular_tests::load::{Load, Said, Seen, code};
use funicular_tests::redis::{hasty_server, waitaof_server};
use funicular_tests::tree::{Plan, Store, Tree, until};
use reqwest::Method;

/// No answer takes longer, whatever the store does: the wait for the session, the
/// store's own time limit a few times over, and a slow machine's share.
const BOUND: Duration = Duration::from_secs(8);
/// The service is back within 2 s of its store; this is a slow machine's margin.
const BACK: Duration = Duration::from_secs(2 + 4);

fn impatient(plan: Plan) -> Plan {
    plan.set("session_wait", "2s").set("store_timeout", "1s")
}

/// Writes to a session of its own until that works, and says how long it took.
async fn until_served(tree: &Tree, node: &str, since: Instant) -> Duration {
    let mut client = Client::new(tree.gateway(node), "canary");
    loop {
        let answer = client.try_send(Method::POST, "/log", "x".into(), &[]).await;
        if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            return since.elapsed();
        }
        assert!(since.elapsed() < BACK, "{node} does not serve again: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What every session's history says against its log now.
async fn faults(tree: &Tree, node: &str, seen: &Seen) -> Vec<(String, Vec<Fault>)> {
    let mut found = Vec::new();
    for (session, history) in &seen.histories {
        let mut client = Client::new(tree.gateway(node), session);
        let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
        let faults = history.judge(&log);
        if !faults.is_empty() {
            found.push((session.clone(), faults));
        }
    }
    found
}

/// Every answer came in time; those that are errors say when to try again.
fn all_answered_well(seen: &Seen) {
    println!("{:?}", seen.answers());
    for said in &seen.said {
        assert!(said.took < BOUND, "{said:?}");
        assert!([200, 423, 503].contains(&said.status), "{said:?}");
        assert!(said.status == 200 || said.retry_after, "{said:?}");
    }
}

fn sessions(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("session-{number}")).collect()
}

async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Under load, `stop` takes navigli's Redis away and `back` brings it back.
async fn an_outage(stop: fn(&mut Tree), back: fn(&mut Tree)) {
    let mut tree = impatient(Tree::line(Store::Redis("always"))).start().await;
    let load = Load::start(&tree, "navigli", &sessions(20), 16);
    pause(0.5).await;
    stop(&mut tree);
    let gone = Instant::now();
    // Longer than a commit whose answer was lost is repeated, and the one after it.
    pause(5.0).await;
    let until = Instant::now();
    let returned = Instant::now();
    back(&mut tree);
    let took = until_served(&tree, "navigli", returned).await;
    pause(0.5).await;
    let seen = load.stop().await;
    println!("served again {took:?} after its store was back");
    all_answered_well(&seen);
    let refused = |said: &&Said| said.status == 503 && said.began > gone && said.began < until;
    assert!(seen.said.iter().filter(refused).count() > 0, "nobody noticed the outage");
    assert!(seen.said.iter().any(|said| said.status == 200 && said.began > returned));
    assert_eq!(faults(&tree, "navigli", &seen).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_killed_redis_costs_answers_and_no_writes() {
    let back = |tree: &mut Tree| tree.site("navigli").redis().restart();
    an_outage(|tree| tree.site("navigli").redis().kill9(), back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_redis_that_hangs_costs_answers_and_no_writes() {
    let back = |tree: &mut Tree| tree.site("navigli").redis().resume();
    an_outage(|tree| tree.site("navigli").redis().pause(), back).await;
}

// --- memory

/// Fills a node's Redis until a write is refused, and returns that answer.
async fn fill(client: &mut Client) -> Answer {
    for value in 0..1000 {
        let answer = client.send(Method::PUT, &format!("/value/{value}"), vec![b'x'; 20_000]).await;
        if answer.status != 204 {
            return answer;
        }
    }
    panic!("the store is never full");
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_full_store_serves_what_it_has_and_is_relieved_by_offloading() {
    let mut tree = Tree::line(Store::Redis("always")).start().await;
    let mut large = Client::new(tree.gateway("navigli"), "large");
    let mut small = large.session("small");
    let mut other = large.session("other");
    small.send(Method::POST, "/log", "first").await.expect(200);
    let redis = tree.site("navigli").redis();
    let used = match redis.cli(&["INFO", "memory"]) {
        redis::Value::VerbatimString { text, .. } => text,
        value => redis::from_redis_value::<String>(value).expect("a text"),
    };
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a number");
    let limit = used.trim().parse::<u64>().expect("a number") + 2_000_000;
    redis.cli(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);

    let refused = fill(&mut large).await;
    assert_eq!((refused.status, code(&refused).as_str()), (507, "no-room"), "{refused:?}");
    let refused = small.send(Method::POST, "/log", vec![b'y'; 100_000]).await;
    assert_eq!((refused.status, code(&refused).as_str()), (507, "no-room"), "{refused:?}");
    let refused = other.send(Method::POST, "/log", "new").await;
    assert_eq!((refused.status, code(&refused).as_str()), (507, "no-room"), "{refused:?}");
    // A request that was refused holds nothing back: reads go on, and the next.
    assert_eq!(small.send(Method::GET, "/log", "").await.expect(200).text(), r#"["first"]"#);
    let value = large.send(Method::GET, "/value/0", "").await.expect(200);
    assert!(value.took < Duration::from_secs(1), "{:?}", value.took);

    let report = tree.operator().offload("navigli", "large").await;
    assert_eq!(report.accepted_by.as_str(), "milan");
    let value = large.send(Method::GET, "/value/0", "").await.expect(200);
    assert_eq!(value.body.len(), 20_000);
    // Redis frees memory in its own time; what is refused until then is not written.
    until("there is room again", async || {
        let answer = small.send(Method::POST, "/log", "second").await;
        answer.status == 200 && answer.text() == "1"
    })
    .await;
    other.send(Method::POST, "/log", "new").await.expect(200);
    assert_eq!(tree.operator().settled("large", BOUND).await, "milan");
}

// --- servers that promise less

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_redis_that_may_evict_sessions_is_refused_in_one_sentence() {
    let mut tree = Tree::line(Store::Redis("always")).start().await;
    let site = tree.site("navigli");
    site.kill9();
    site.redis().cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let before = site.log().len();
    site.launch();
    assert_eq!(site.ended().await, Some(69));
    let log = site.log();
    let said: Vec<_> = log[before..].lines().collect();
    assert_eq!(said.len(), 1, "{said:?}");
    for words in ["maxmemory-policy is allkeys-lru", "config set maxmemory-policy noeviction"] {
        assert!(said[0].contains(words), "{said:?}");
    }
}

/// What a node says of its store after it was started with these settings.
async fn promise(tree: &mut Tree, settings: &[(&str, &str)]) -> (String, String) {
    let site = tree.site("italy");
    for (name, value) in settings {
        site.redis().cli(&["CONFIG", "SET", name, value]);
    }
    let before = site.log().len();
    site.restart().await;
    let log = site.log();
    let warned = log[before..].lines().find(|line| line.contains("WARN"));
    let warned = warned.unwrap_or_default().to_owned();
    (tree.operator().status("italy").await.promise, warned)
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_store_that_promises_less_is_named_in_the_log() {
    let mut tree = Tree::line(Store::Redis("always")).start().await;
    let tree = &mut tree;
    assert_eq!(promise(tree, &[]).await, ("always".into(), String::new()));
    let (said, warned) = promise(tree, &[("appendfsync", "everysec")]).await;
    if said == "waitaof" {
        assert_eq!(warned, "");
    } else {
        promises_everysec(&said, &warned);
    }
    let (said, warned) = promise(tree, &[("appendonly", "no")]).await;
    assert_eq!(said, "none");
    assert!(warned.contains("set `appendonly yes`"), "{warned}");
}

fn promises_everysec(said: &str, warned: &str) {
    assert_eq!(said, "everysec");
    for words in ["power loss may cost the last second", "steps of moves", "appendfsync always"] {
        assert!(warned.contains(words), "{warned}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_server_that_can_be_waited_for_is() {
    if waitaof_server().is_none() {
        println!("skipped: there is no Redis 8 here; run scripts/setup-tests.sh");
        return;
    }
    let mut tree = Tree::line(Store::Waitaof).start().await;
    assert_eq!(promise(&mut tree, &[]).await, ("waitaof".into(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_moves_succeed_where_every_step_waits_a_second_for_the_disk() {
    if waitaof_server().is_none() {
        println!("skipped: there is no Redis 8 here; run scripts/setup-tests.sh");
        return;
    }
    let tree = Tree::line(Store::Waitaof).start().await;
    let load = Load::start(&tree, "navigli", &["moving".to_owned()], 2);
    pause(0.3).await;
    let operator = tree.operator();
    for _ in 0..2 {
        assert_eq!(operator.offload("navigli", "moving").await.accepted_by.as_str(), "milan");
        assert_eq!(operator.onload("navigli", "moving").await.accepted_by.as_str(), "navigli");
    }
    let seen = load.stop().await;
    assert!(seen.said.iter().all(|said| said.status == 200), "{:?}", seen.answers());
    assert_eq!(faults(&tree, "navigli", &seen).await, []);
}

/// Valkey 8 and Redis 7.4 answer `WAITAOF` before the disk has anything.
#[tokio::test(flavor = "multi_thread")]
async fn g2_a_server_that_answers_too_early_is_not_relied_on() {
    if hasty_server().is_none() {
        println!("skipped: there is no Valkey here; run scripts/setup-tests.sh");
        return;
    }
    let mut tree = Tree::line(Store::Hasty).start().await;
    assert!(tree.site("italy").redis().has_waitaof());
    let (said, warned) = promise(&mut tree, &[]).await;
    promises_everysec(&said, &warned);
}
