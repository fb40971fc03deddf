//! Everything at once on the real thing: sessions that move up and down, clients
//! that write and read without a pause, and nodes, stores and links that fail.
//!
//! `FUNICULAR_CHAOS_SECONDS` says for how long, `FUNICULAR_CHAOS_SEED` replays a
//! schedule of moves and faults (what comes of it depends on the machine, too).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use funicular_tests::client::Client;
use funicular_tests::judge::{Fault, History, Outcome, Read, Write};
use funicular_tests::link::Way;
use funicular_tests::load::code;
use funicular_tests::tree::{Held, Store, Tree};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

const SESSIONS: usize = 45;
const EDGES: [&str; 3] = ["navigli", "brera", "trastevere"];
const NODES: [&str; 6] = ["italy", "milan", "rome", "navigli", "brera", "trastevere"];
/// So many of each kind.
const CLIENTS: usize = 8;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two looks at the schedule.
const TICK: Duration = Duration::from_millis(50);
/// How long everything may take to come to rest when all faults are over.
const REST: Duration = Duration::from_secs(90);
/// Steps of a move at which a fault may strike, and whose they are.
const STEPS: [&str; 14] = [
    "source.offload",
    "source.agree",
    "source.agreed",
    "source.freeze",
    "source.frozen",
    "source.done",
    "source.moved",
    "target.opened",
    "target.agreed",
    "target.frozen",
    "target.staged",
    "target.installed",
    "target.done",
    "home.update",
];

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The process is killed, and started again.
    Kill,
    /// The process stands still for a while.
    Stop,
    /// Its Redis is killed, and started again on its file.
    RedisKill,
    /// Its Redis stands still for a while.
    RedisStop,
    /// Others reach it as said.
    Way(Way),
    /// It reaches nobody, and everybody reaches it.
    Unheard,
}

/// A failure on the schedule.
#[derive(Debug, Clone, Copy)]
struct Plan {
    node: &'static str,
    failure: Failure,
    lasts: Duration,
    /// It waits for the node to be at this step, for a while.
    at: Option<&'static str>,
}

impl Plan {
    /// Who comes to this step is not heard of for so long that the other side asks.
    fn aimed(rng: &mut StdRng, step: &'static str) -> Self {
        Self {
            node: NODES.choose(rng).expect("a node"),
            failure: Failure::Unheard,
            lasts: Duration::from_millis(rng.random_range(2000..3000)),
            at: Some(step),
        }
    }

    fn any(rng: &mut StdRng) -> Self {
        let failure = match rng.random_range(0..20) {
            0..5 => Failure::Kill,
            5..8 => Failure::Stop,
            8..11 => Failure::RedisKill,
            11..12 => Failure::RedisStop,
            12..15 => Failure::Way(Way::Cut),
            15..16 => Failure::Way(Way::Slow(Duration::from_millis(rng.random_range(5..300)))),
            16..18 => Failure::Way(Way::SwallowsCalls),
            _ => Failure::Way(Way::SwallowsAnswers),
        };
        Self {
            node: NODES.choose(rng).expect("a node"),
            failure,
            lasts: Duration::from_millis(rng.random_range(50..2500)),
            at: rng.random_bool(0.6).then(|| *STEPS.choose(rng).expect("a step")),
        }
    }
}

fn name(session: usize) -> String {
    format!("session-{session}")
}

fn home(session: usize) -> &'static str {
    EDGES[session % EDGES.len()]
}

/// From the root to an edge.
fn way(edge: &str) -> [&'static str; 3] {
    match edge {
        "navigli" => ["italy", "milan", "navigli"],
        "brera" => ["italy", "milan", "brera"],
        _ => ["italy", "rome", "trastevere"],
    }
}

/// An answer that was no good: who gave it, what it was, and when.
#[derive(Debug)]
struct Odd {
    base: String,
    status: u16,
    what: String,
    retry_after: bool,
    during: (Instant, Instant),
}

/// What all clients share.
#[derive(Debug, Default)]
struct Seen {
    histories: Vec<Mutex<History>>,
    odd: Mutex<Vec<Odd>>,
    good: Mutex<usize>,
    stop: AtomicBool,
}

impl Seen {
    /// One request; its answer's text if it was good.
    async fn ask(
        &self,
        client: &mut Client,
        method: Method,
        body: &str,
        id: Option<&str>,
    ) -> Option<String> {
        let began = Instant::now();
        let header = id.map(|id| ("x-session-request-id", id));
        let (base, answer) =
            client.attempt(method, "/log", body.to_owned().into(), header.as_slice()).await;
        let (status, what, retry_after) = match &answer {
            Ok(answer) if answer.status == 200 => {
                *self.good.lock().unwrap() += 1;
                return Some(answer.text().to_owned());
            }
            Ok(answer) => (answer.status, code(answer), answer.headers.contains_key("retry-after")),
            Err(error) => (0, format!("{error:?}"), false),
        };
        let during = (began, Instant::now());
        self.odd.lock().unwrap().push(Odd { base, status, what, retry_after, during });
        None
    }

    /// Writes one line after the other, each under an id, and repeats it until it is
    /// acknowledged.
    async fn write(self: Arc<Self>, number: usize, client: Client, homes: Vec<String>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        for line in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let session = rng.random_range(0..SESSIONS);
            let mut client = client.session(&name(session));
            let text = format!("{number}/{line}");
            let began = Instant::now();
            let position = loop {
                client.base.clone_from(&homes[session]);
                if let Some(text) = self.ask(&mut client, Method::POST, &text, Some(&text)).await {
                    break text.parse().expect("a position");
                }
                assert!(began.elapsed() < REST, "{} takes no write: {text}", name(session));
                tokio::time::sleep(PAUSE).await;
            };
            let outcome = Outcome::Acked(position);
            let write = Write { text, began, ended: Instant::now(), outcome };
            self.histories[session].lock().unwrap().writes.push(write);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(self: Arc<Self>, client: Client, homes: Vec<String>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        while !self.stop.load(Ordering::SeqCst) {
            let session = rng.random_range(0..SESSIONS);
            let mut client = client.session(&name(session));
            client.base.clone_from(&homes[session]);
            let began = Instant::now();
            if let Some(text) = self.ask(&mut client, Method::GET, "", None).await {
                let seen = serde_json::from_str(&text).expect("a log");
                let read = Read { began, ended: Instant::now(), seen };
                self.histories[session].lock().unwrap().reads.push(read);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What is going on.
struct Running {
    plan: Plan,
    until: Instant,
}

/// Who lets things happen.
struct Director {
    tree: Tree,
    rng: StdRng,
    aim: Option<&'static str>,
    running: Vec<Running>,
    waiting: Option<(Plan, Held, Instant)>,
    /// When nodes were away, and what with.
    away: Vec<(&'static str, Instant, Instant)>,
    counts: BTreeMap<String, usize>,
    moves: JoinSet<u16>,
}

impl Director {
    /// Orders a session to move, wherever it may be.
    fn move_any(&mut self) {
        let session = self.rng.random_range(0..SESSIONS);
        let way = way(home(session));
        let node = way[self.rng.random_range(1..3)];
        let endpoint = if self.rng.random_bool(0.6) { "force-offload" } else { "force-onload" };
        let body = json!({"session": name(session)});
        let answer = self.tree.operator().begin(node, endpoint, &body);
        self.moves
            .spawn(async move { answer.await.ok().flatten().map_or(0, |answer| answer.status) });
    }

    fn is_hit(&self, node: &str) -> bool {
        self.running.iter().any(|running| running.plan.node == node)
    }

    fn strike(&mut self, plan: Plan) {
        let what = match plan.failure {
            Failure::Way(Way::Slow(_)) => "Slow".to_owned(),
            Failure::Way(way) => format!("{way:?}"),
            other => format!("{other:?}"),
        };
        *self.counts.entry(what).or_default() += 1;
        // Before it strikes: its connections break first.
        let now = Instant::now();
        let site = self.tree.site(plan.node);
        match plan.failure {
            Failure::Kill => site.kill9(),
            Failure::Stop => site.pause(),
            Failure::RedisKill => site.redis().kill9(),
            Failure::RedisStop => site.redis().pause(),
            Failure::Way(way) => self.tree.link(plan.node).set(way),
            Failure::Unheard => {
                let others = NODES.into_iter().filter(|node| *node != plan.node);
                others.for_each(|node| self.tree.link(node).set(Way::Cut));
            }
        }
        self.running.push(Running { plan, until: Instant::now() + plan.lasts });
        if plan.failure == Failure::Kill {
            self.away.push((plan.node, now, now));
        }
    }

    async fn heal(&mut self, plan: Plan) {
        let site = self.tree.site(plan.node);
        match plan.failure {
            Failure::Kill => {
                site.launch();
                site.ready().await;
                let mut kills = self.away.iter_mut().rev();
                let last = kills.find(|(node, _, _)| *node == plan.node);
                last.expect("it was killed").2 = Instant::now();
            }
            Failure::Stop => site.resume(),
            Failure::RedisKill => site.redis().restart(),
            Failure::RedisStop => site.redis().resume(),
            Failure::Way(_) => self.tree.link(plan.node).mend(),
            Failure::Unheard => NODES.into_iter().for_each(|node| self.tree.link(node).mend()),
        }
    }

    /// Ends what is over; begins what is next.
    async fn faults(&mut self) {
        let now = Instant::now();
        let over = |running: &mut Running| running.until <= now;
        let ended: Vec<_> = self.running.extract_if(.., over).collect();
        for running in ended {
            self.heal(running.plan).await;
        }
        if let Some((plan, held, until)) = self.waiting.take() {
            if held.is_reached() {
                self.strike(plan);
                *self.counts.entry("at a step".to_owned()).or_default() += 1;
            } else if now < until {
                self.waiting = Some((plan, held, until));
            }
            return;
        }
        // Two at once, at most; a moment of peace in between.
        if self.running.len() < 2 && self.rng.random_bool(0.3) {
            let plan = match self.aim {
                Some(step) => Plan::aimed(&mut self.rng, step),
                None => Plan::any(&mut self.rng),
            };
            if self.is_hit(plan.node) {
                return;
            }
            match plan.at {
                Some(step) => {
                    let held = self.tree.hold(plan.node, step);
                    self.waiting = Some((plan, held, now + Duration::from_secs(1)));
                }
                None => self.strike(plan),
            }
        }
    }

    async fn end_all(&mut self) {
        self.waiting = None;
        for running in std::mem::take(&mut self.running) {
            self.heal(running.plan).await;
        }
        while let Some(status) = self.moves.join_next().await {
            let status = status.expect("no move panics");
            *self.counts.entry(format!("moves {status}")).or_default() += 1;
        }
    }

    /// Waits until no node is in doubt about anything.
    async fn rest(&self) {
        let began = Instant::now();
        let operator = self.tree.operator();
        loop {
            let mut pending = BTreeMap::new();
            for node in self.tree.nodes() {
                let status = operator.post(node, "status", &json!({})).await;
                let said = status.body["pending"].as_u64().filter(|_| status.body["store"] == "ok");
                pending.insert(node, said);
            }
            if pending.values().all(|count| *count == Some(0)) {
                return;
            }
            assert!(began.elapsed() < REST, "still in doubt: {pending:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is wrong with each session.
    async fn judge(&self, seen: &Seen, client: &Client) -> Vec<(String, Vec<Fault>)> {
        let operator = self.tree.operator();
        let mut found = Vec::new();
        for session in 0..SESSIONS {
            let history = std::mem::take(&mut *seen.histories[session].lock().unwrap());
            if history.writes.is_empty() {
                continue;
            }
            let owners = operator.nodes_where(&name(session), "owned").await;
            let frozen = operator.nodes_where(&name(session), "migrating").await;
            assert!(
                owners.len() == 1 && frozen.is_empty(),
                "{}: owned by {owners:?}, frozen at {frozen:?}",
                name(session)
            );
            let mut client = client.session(&name(session));
            client.base = self.tree.gateway(home(session));
            let answer = client.send(Method::GET, "/log", "").await.expect(200);
            assert!(answer.hops.len() <= 2, "{}: {:?}", name(session), answer.hops);
            let faults = history.judge(&answer.json::<Vec<String>>());
            if !faults.is_empty() {
                found.push((name(session), faults));
            }
        }
        found
    }

    /// Answers that no failure explains.
    fn unexplained(&self, odd: &[Odd]) -> Vec<String> {
        let away = |odd: &Odd| {
            let node = self.tree.node_at(&odd.base);
            self.away.iter().any(|(name, from, to)| {
                node == Some(*name) && odd.during.0 <= *to && *from <= odd.during.1
            })
        };
        let well = |odd: &&Odd| match odd.status {
            0 => away(odd),
            503 | 423 => odd.retry_after,
            _ => false,
        };
        odd.iter().filter(|odd| !well(odd)).map(|odd| format!("{odd:?}")).collect()
    }
}

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

/// The one step of moves at which everything fails, if one is asked for.
fn aim() -> Option<&'static str> {
    let wanted = std::env::var("FUNICULAR_CHAOS_STEP").ok()?;
    let known = STEPS.into_iter().find(|step| *step == wanted);
    assert!(known.is_some(), "FUNICULAR_CHAOS_STEP is one of {}", STEPS.join(", "));
    known
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_g2_g3_g7_whatever_fails_nothing_is_lost_and_nothing_happens_twice() {
    let seconds = setting("FUNICULAR_CHAOS_SECONDS", 45);
    // The same schedule every time, unless another is asked for.
    let seed = setting("FUNICULAR_CHAOS_SEED", 1);
    println!("again: make chaos SECONDS={seconds} SEED={seed}");
    let plan = Tree::italy(Store::Redis("always")).with_links().set("session_wait", "2s");
    let plan = plan.set("recovery_interval", "1s").set("leaving_reads", "300ms");
    let tree = plan.set("lease_ttl", "3s").set("peer_timeout", "1s").start().await;
    let client = Client::new(tree.gateway("navigli"), "any");
    let homes: Vec<_> = (0..SESSIONS).map(|session| tree.gateway(home(session))).collect();
    let histories = (0..SESSIONS).map(|_| Mutex::default()).collect();
    let seen = Arc::new(Seen { histories, ..Seen::default() });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (seed, homes) = (seed ^ (number as u64 + 1), homes.clone());
        clients.spawn(Arc::clone(&seen).write(number, client.clone(), homes.clone(), seed));
        clients.spawn(Arc::clone(&seen).read(client.clone(), homes, !seed));
    }
    let mut director = Director {
        tree,
        rng: StdRng::seed_from_u64(seed),
        aim: aim(),
        running: Vec::new(),
        waiting: None,
        away: Vec::new(),
        counts: BTreeMap::new(),
        moves: JoinSet::new(),
    };
    let began = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    while began.elapsed() < Duration::from_secs(seconds) {
        ticks.tick().await;
        director.move_any();
        director.faults().await;
    }
    director.end_all().await;
    seen.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client fails");
    }
    director.rest().await;
    let odd = std::mem::take(&mut *seen.odd.lock().unwrap());
    let mut answers = BTreeMap::new();
    for odd in &odd {
        let what = if odd.status == 0 { "no answer" } else { &odd.what };
        *answers.entry((odd.status, what)).or_insert(0) += 1;
    }
    println!(
        "{} good answers, {answers:?}; what happened: {:?}",
        seen.good.lock().unwrap(),
        director.counts
    );
    let again = format!("again: make chaos SECONDS={seconds} SEED={seed}");
    let faults = director.judge(&seen, &client).await;
    assert!(faults.is_empty(), "{faults:#?}\n{again}");
    let unexplained = director.unexplained(&odd);
    assert!(unexplained.is_empty(), "{unexplained:#?}\n{again}");
}
