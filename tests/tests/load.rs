//! G2 under load: a thousand sessions on the move. Clients see 200s and 307s and
//! nothing else, and the logs at the end hold what was acknowledged, once.
//!
//! `FUNICULAR_LOAD_SECONDS` says how long sessions stay on the move (default 60 on
//! Redis, 20 in memory), `FUNICULAR_LOAD_SEED` replays a choice of moves.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use funicular_tests::client::{Answer, Client};
use funicular_tests::judge::{Fault, History, Outcome, Read, Write};
use funicular_tests::operator::Operator;
use funicular_tests::tree::{Store, Tree};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long a tree may take to come to rest when the load is gone.
const REST: Duration = Duration::from_secs(60);

fn position(answer: &Answer) -> usize {
    answer.text().parse().expect("a position")
}

const SESSIONS: usize = 1000;
/// So many of them get half of all moves and requests, so that they meet.
const BUSY: usize = 50;
const CLIENTS: usize = 64;
const EDGES: [&str; 3] = ["navigli", "brera", "trastevere"];
/// Between two moves: 20 a second, as long as the machine keeps up.
const EVERY: Duration = Duration::from_millis(50);

/// From the root to an edge.
fn way(edge: &str) -> [&'static str; 3] {
    match edge {
        "navigli" => ["italy", "milan", "navigli"],
        "brera" => ["italy", "milan", "brera"],
        _ => ["italy", "rome", "trastevere"],
    }
}

#[derive(Debug, Default)]
struct Moves {
    took: Vec<f64>,
    downtime: Vec<f64>,
    /// Calls that came to nothing, by endpoint and code.
    raced: BTreeMap<String, usize>,
}

/// What all tasks of a run share.
struct Run {
    tree: Tree,
    histories: Vec<Mutex<History>>,
    /// How many levels below the root each session was last seen.
    depths: Vec<AtomicUsize>,
    moves: Mutex<Moves>,
    /// Answers by status, redirects included.
    answers: Mutex<BTreeMap<u16, usize>>,
    stop: AtomicBool,
}

fn name(session: usize) -> String {
    format!("session-{session}")
}

fn home(session: usize) -> &'static str {
    EDGES[session % EDGES.len()]
}

fn any(rng: &mut StdRng) -> usize {
    let among = if rng.random_bool(0.5) { BUSY } else { SESSIONS };
    rng.random_range(0..among)
}

/// What a mover does: a session, and whether each of its steps leads up.
type Order = (usize, Vec<bool>);

impl Run {
    fn home_gateway(&self, session: usize) -> String {
        self.tree.gateway(home(session))
    }

    async fn move_as_ordered(
        self: Arc<Self>,
        orders: Arc<tokio::sync::Mutex<mpsc::Receiver<Order>>>,
    ) {
        let operator = self.tree.operator();
        loop {
            let order = orders.lock().await.recv().await;
            let Some((session, steps)) = order else { return };
            for up in steps {
                self.step(&operator, session, up).await;
            }
        }
    }

    /// Sends a session one level up or down from where it was last seen.
    async fn step(&self, operator: &Operator<'_>, session: usize, up: bool) {
        let way = way(home(session));
        let depth = self.depths[session].load(Ordering::Relaxed);
        let up = (up || depth == 2) && depth != 0;
        let (node, endpoint, then) = if up {
            (way[depth], "force-offload", depth - 1)
        } else {
            (way[depth + 1], "force-onload", depth + 1)
        };
        let answer = operator.post(node, endpoint, &json!({"session": name(session)})).await;
        if answer.status == 200 {
            let report = if up { &answer.body } else { &answer.body["moved"][0] };
            let ms = |what: &str| report[what].as_f64().expect("a report");
            let mut moves = self.moves.lock().unwrap();
            moves.took.push(ms("took_ms"));
            moves.downtime.push(ms("downtime_ms"));
            self.depths[session].store(then, Ordering::Relaxed);
            return;
        }
        // Another move of the same session was faster, or is not over.
        let code = answer.body["code"].as_str().unwrap_or("?").to_owned();
        let raced = match answer.status {
            202 | 409 => true,
            404 => code == "no-such-session",
            503 => ["move-failed", "busy"].contains(&code.as_str()),
            _ => false,
        };
        assert!(raced, "{node} {endpoint}: {answer:?}");
        *self.moves.lock().unwrap().raced.entry(format!("{endpoint} {code}")).or_default() += 1;
        if let Some(found) = operator.whereabouts(home(session), &name(session)).await
            && let Some(depth) = way.iter().position(|node| *node == found.location.as_str())
        {
            self.depths[session].store(depth, Ordering::Relaxed);
        }
    }

    /// Sends one request and counts its answers.
    async fn ask(
        &self,
        client: &mut Client,
        method: Method,
        body: &str,
        id: Option<&str>,
    ) -> Answer {
        let header = id.map(|id| ("x-session-request-id", id));
        let headers = header.as_slice();
        let answer = client.send_with(method, "/log", body.to_owned(), headers).await;
        let mut answers = self.answers.lock().unwrap();
        *answers.entry(answer.status).or_default() += 1;
        *answers.entry(307).or_default() += answer.hops.len();
        if answer.status != 200 {
            println!("{}: {:?} {:?}", answer.status, answer.body, answer.hops);
        }
        answer
    }

    async fn write(&self, client: &mut Client, session: usize, text: String, id: Option<String>) {
        let began = Instant::now();
        let answer = self.ask(client, Method::POST, &text, id.as_deref()).await;
        let ended = Instant::now();
        let outcome = match answer.status {
            200 => Outcome::Acked(position(&answer)),
            _ => Outcome::Unknown,
        };
        let write = Write { text: text.clone(), began, ended, outcome };
        self.histories[session].lock().unwrap().writes.push(write);
        if let Some(id) = id.filter(|id| id.ends_with('7')) {
            // Now and then an impatient client sends it again.
            let again = self.ask(client, Method::POST, &text, Some(&id)).await;
            assert_eq!((again.status, again.text()), (answer.status, answer.text()));
        }
    }

    async fn read(&self, client: &mut Client, session: usize) {
        let began = Instant::now();
        let answer = self.ask(client, Method::GET, "", None).await;
        if answer.status == 200 {
            let read = Read { began, ended: Instant::now(), seen: answer.json() };
            self.histories[session].lock().unwrap().reads.push(read);
        }
    }

    /// A client of all sessions: every other one writes. It goes to a session's
    /// home, or where it met the session last.
    async fn use_sessions(self: Arc<Self>, number: usize, mut client: Client, mut rng: StdRng) {
        client.remembers = true;
        let mut known = HashMap::new();
        for request in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let session = any(&mut rng);
            let place = known.get(&session).filter(|_| rng.random_bool(0.5)).cloned();
            let mut client = client.session(&name(session));
            client.base = place.unwrap_or_else(|| self.home_gateway(session));
            if number.is_multiple_of(2) {
                let id = rng.random_bool(0.5).then(|| format!("id-{number}-{request}"));
                self.write(&mut client, session, format!("{number}/{request}"), id).await;
            } else {
                self.read(&mut client, session).await;
            }
            known.insert(session, client.base);
        }
    }

    /// Waits until no node is in doubt about anything.
    async fn comes_to_rest(&self) {
        let operator = self.tree.operator();
        let began = Instant::now();
        loop {
            let mut pending = BTreeMap::new();
            for node in self.tree.nodes() {
                pending.insert(node, operator.status(node).await.pending);
            }
            if pending.values().all(|count| *count == 0) {
                return;
            }
            assert!(began.elapsed() < REST, "still in doubt: {pending:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What does not fit in one session's history, and who owns it.
    async fn judge(&self, operator: &Operator<'_>, session: usize) -> Vec<Fault> {
        let owners = operator.nodes_where(&name(session), "owned").await;
        let frozen = operator.nodes_where(&name(session), "migrating").await;
        assert!(owners.len() == 1 && frozen.is_empty(), "{}: {owners:?} {frozen:?}", name(session));
        let mut client = Client::new(self.home_gateway(session), &name(session));
        let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
        self.histories[session].lock().unwrap().judge(&log)
    }

    async fn create_sessions(self: &Arc<Self>, client: &Client) {
        let mut creating = JoinSet::new();
        for session in 0..SESSIONS {
            let (run, mut client) = (Arc::clone(self), client.session(&name(session)));
            creating.spawn(async move {
                client.base = run.home_gateway(session);
                run.write(&mut client, session, "created".to_owned(), None).await;
            });
        }
        while let Some(created) = creating.join_next().await {
            created.expect("a session is created");
        }
    }

    /// What does not fit, by session.
    async fn judge_all(self: &Arc<Self>) -> BTreeMap<String, Vec<Fault>> {
        let mut judging = JoinSet::new();
        for judge in 0..16 {
            let run = Arc::clone(self);
            judging.spawn(async move {
                let operator = run.tree.operator();
                let mut faults = BTreeMap::new();
                for session in (judge..SESSIONS).step_by(16) {
                    let found = run.judge(&operator, session).await;
                    if !found.is_empty() {
                        faults.insert(name(session), found);
                    }
                }
                faults
            });
        }
        let mut faults = BTreeMap::new();
        while let Some(found) = judging.join_next().await {
            faults.extend(found.expect("every session has one owner"));
        }
        faults
    }
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get((values.len() * percent / 100).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

async fn a_thousand_sessions_on_the_move(store: Store, seconds: u64) {
    let seconds = setting("FUNICULAR_LOAD_SECONDS", seconds);
    let seed = setting("FUNICULAR_LOAD_SEED", rand::random::<u32>().into());
    println!("{store:?}: FUNICULAR_LOAD_SEED={seed}");
    // Patient enough for a slow machine: nothing here is about time.
    let plan = Tree::italy(store).set("session_wait", "45s").set("lease_ttl", "15s");
    let tree = plan.set("store_timeout", "15s").set("peer_timeout", "15s").start().await;
    let run = Arc::new(Run {
        tree,
        histories: (0..SESSIONS).map(|_| Mutex::default()).collect(),
        depths: (0..SESSIONS).map(|_| AtomicUsize::new(2)).collect(),
        moves: Mutex::default(),
        answers: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    let client = Client::new(run.tree.gateway("navigli"), "any");
    run.create_sessions(&client).await;
    let (orders, taken) = mpsc::channel::<Order>(16);
    let taken = Arc::new(tokio::sync::Mutex::new(taken));
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        tasks.spawn(Arc::clone(&run).move_as_ordered(Arc::clone(&taken)));
    }
    for session in 0..SESSIONS {
        let steps = vec![true; session / EDGES.len() % 3];
        orders.send((session, steps)).await.expect("somebody moves sessions");
    }
    for number in 0..CLIENTS {
        let rng = StdRng::seed_from_u64(seed + 1 + number as u64);
        tasks.spawn(Arc::clone(&run).use_sessions(number, client.clone(), rng));
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    while began.elapsed() < Duration::from_secs(seconds) {
        ticks.tick().await;
        let session = any(&mut rng);
        // Now and then two want to move the same session.
        for _ in 0..if rng.random_bool(0.2) { 2 } else { 1 } {
            let order = (session, vec![rng.random_bool(0.5)]);
            orders.send(order).await.expect("somebody moves sessions");
        }
    }
    drop(orders);
    run.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task fails");
    }
    run.comes_to_rest().await;
    let answers = run.answers.lock().unwrap().clone();
    let mut moves = std::mem::take(&mut *run.moves.lock().unwrap());
    println!(
        "{store:?}, {seconds} s: answers {answers:?}; {} moves, p50 {:.1} ms, p99 {:.1} ms, downtime p99 {:.1} ms; \
         came to nothing: {:?}",
        moves.took.len(),
        percentile(&mut moves.took, 50),
        percentile(&mut moves.took, 99),
        percentile(&mut moves.downtime, 99),
        moves.raced,
    );
    assert!(answers.keys().all(|status| [200, 307].contains(status)), "{answers:?}");
    assert!(!moves.took.is_empty());
    let faults = run.judge_all().await;
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_thousand_sessions_on_the_move_in_redis() {
    a_thousand_sessions_on_the_move(Store::Redis("always"), 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_thousand_sessions_on_the_move_in_memory() {
    a_thousand_sessions_on_the_move(Store::Memory, 20).await;
}
