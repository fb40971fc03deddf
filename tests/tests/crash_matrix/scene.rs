//! One scene: a session moves, clients go on, a step of the move is held open,
//! and somebody is struck meanwhile.

use std::time::{Duration, Instant};

use funicular_tests::client::Client;
use funicular_tests::operator::Operator;
use funicular_tests::traffic::{self, Seen, Traffic};
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;
use serde_json::json;

/// The promise (G7): once the nodes are back, one owner within this time.
const RECOVERY: Duration = Duration::from_secs(2);
/// What a loaded machine may take on top.
const MARGIN: Duration = Duration::from_secs(4);
/// Longer than a source waits for a silent target before it asks (1 s).
const PAUSE: Duration = Duration::from_millis(1500);
/// The session that moves.
const SESSION: &str = "s/crash?&+%20";

/// A move; the session's home is navigli in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// An offload navigli → milan: the source is home.
    FromHome,
    /// An offload milan → italy: neither is home.
    Onwards,
    /// An onload italy → navigli: the target is home.
    Homewards,
}

/// Whose process or Redis is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Source,
    Target,
    Home,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// SIGKILL of the process, which is started again.
    Kill,
    /// SIGKILL of its Redis, which is started again.
    KillRedis,
    /// SIGSTOP of the process for longer than the source waits before it asks.
    Pause,
}

impl Route {
    fn node(self, part: Part) -> &'static str {
        match (self, part) {
            (_, Part::Home) | (Self::FromHome, Part::Source) | (Self::Homewards, Part::Target) => {
                "navigli"
            }
            (Self::FromHome, Part::Target) | (Self::Onwards, Part::Source) => "milan",
            (Self::Onwards, Part::Target) | (Self::Homewards, Part::Source) => "italy",
        }
    }

    /// Brings the session to where the move begins.
    async fn prepare(self, operator: &Operator<'_>) {
        if self == Self::FromHome {
            return;
        }
        operator.offload("navigli", SESSION).await;
        operator.settled(SESSION, RECOVERY + MARGIN).await;
        if self == Self::Homewards {
            operator.offload("milan", SESSION).await;
            operator.settled(SESSION, RECOVERY + MARGIN).await;
        }
    }

    /// Who is told to move it, and how.
    fn trigger(self) -> (&'static str, &'static str) {
        match self {
            Self::FromHome => ("navigli", "force-offload"),
            Self::Onwards => ("milan", "force-offload"),
            Self::Homewards => ("navigli", "force-onload"),
        }
    }

    /// The node that comes to a step.
    fn at(self, step: &str) -> &'static str {
        let part = match step.split_once('.').expect("node.step").0 {
            "source" => Part::Source,
            "target" => Part::Target,
            "home" => Part::Home,
            other => panic!("no step of a move begins with {other}"),
        };
        self.node(part)
    }
}

async fn strike(tree: &mut Tree, victim: &str, blow: Blow) {
    let site = tree.site(victim);
    match blow {
        Blow::Kill => site.restart().await,
        Blow::KillRedis => {
            site.redis().restart();
            site.ready().await;
        }
        Blow::Pause => {
            site.pause();
            tokio::time::sleep(PAUSE).await;
            site.resume();
        }
    }
}

/// Whatever was not well was at the victim, while it was away or (its answer
/// being late) began then: nobody else may show a client an error.
fn excuse(seen: &[Seen], victim: &str, away: (Instant, Instant)) {
    let mut excused = 0;
    for odd in seen.iter().flat_map(|client| &client.odd) {
        let (began, ended) = odd.during;
        let then = ended >= away.0 && began <= away.1;
        assert!(odd.node == victim && then, "{odd:?}, which {victim}'s crash does not explain");
        excused += 1;
    }
    let good: usize = seen.iter().map(|client| client.good).sum();
    println!("{good} requests well, {excused} failed at {victim} while it was away");
}

/// The whole scene. See the sentences below.
pub(crate) async fn play(route: Route, step: &str, part: Part, blow: Blow) {
    let mut tree = Tree::line(Store::Redis("always")).start().await;
    let victim = route.node(part);
    let mut client = Client::new(tree.gateway("navigli"), SESSION);
    // Copied in one page, or in several where the blow falls between two of them.
    let value = vec![7; if step.contains("cop") { 4_000_000 } else { 100_000 }];
    client.send(Method::PUT, "/value/large", value.clone()).await.expect(204);
    route.prepare(&tree.operator()).await;

    // Clients work, the move begins and comes to the step; there the blow falls.
    let traffic = Traffic::start(&tree, "navigli", SESSION, 3);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let held = tree.hold(route.at(step), step);
    let (mover, endpoint) = route.trigger();
    let moved = tree.operator().begin(mover, endpoint, &json!({"session": SESSION}));
    held.reached().await;
    let struck = Instant::now();
    strike(&mut tree, victim, blow).await;
    held.release();
    let back = Instant::now();

    // Within the recovery interval one node owns the session and nobody doubts it.
    let owner = tree.operator().settled(SESSION, RECOVERY + MARGIN).await;
    println!("{owner} owns the session {:?} after all were back", back.elapsed());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = traffic.stop().await;
    let _ = moved.await;

    // Nothing acknowledged is lost or twice; errors only where the victim was asked.
    let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    traffic::check(&log, &seen);
    excuse(&seen, victim, (struck, back));

    // The session moves again, with everything in it: from wherever it is now that
    // the move has been answered, which may have begun only after the blow.
    let operator = tree.operator();
    let owner = operator.settled(SESSION, RECOVERY + MARGIN).await;
    let again = match owner {
        "italy" => operator.onload("navigli", SESSION).await,
        lower => operator.offload(lower, SESSION).await,
    };
    assert_ne!(again.accepted_by.as_str(), owner);
    let end = client.send(Method::POST, "/log", "end").await.expect(200);
    assert_eq!(end.text(), log.len().to_string());
    assert!(end.hops.len() <= 2, "{:?}", end.hops);
    let after: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(after[..log.len()], log);
    let kept = client.send(Method::GET, "/value/large", "").await.expect(200);
    assert_eq!(kept.body, value);
}
