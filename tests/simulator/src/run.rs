//! One seed from beginning to end: clients, moves and mishaps; then quiet; then the
//! verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use funicular::session::SessionId;
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::client::{Client, Named};
use crate::function::Tokens;
use crate::judge::Evidence;
use crate::plan::Plan;
use crate::shadow::LifeKey;
use crate::trace::{Fault, Trace};
use crate::world::World;
use crate::{mishaps, moves};

/// Beyond `recovery_interval`: what is under way when the nodes are back is waited for
/// (`peer_timeout`, `lease_ttl`), then asked again.
const GRACE: Duration = Duration::from_secs(5);
/// As long as somebody is told something, it goes on; not that long without.
const QUIET: Duration = Duration::from_secs(40);
/// No client is at it for longer than that.
const CLIENTS: Duration = Duration::from_secs(120);
/// How many redirects there may be from anywhere in a quiet system (G4).
const HOPS: usize = 2;
/// A system that is quiet is so within as many looks.
const TRIES: usize = 4;

/// What came of a seed.
#[derive(Debug, Clone)]
pub struct Report {
    pub seed: u64,
    pub faults: Vec<Fault>,
    pub steps: u64,
    pub hash: u64,
    pub virtual_time: Duration,
    /// How long after the last mishap every session had its one owner.
    pub recovered: Duration,
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed. `prints` prints its steps.
pub fn run(seed: u64, prints: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async { simulate(Plan::of(seed), prints).await })
}

async fn simulate(plan: Plan, prints: bool) -> Report {
    let trace = Arc::new(Trace::new(prints));
    trace.step(plan.seed, || format!("{plan:#?}"));
    let world = match World::start(plan, Arc::clone(&trace)) {
        Ok(world) => world,
        Err(error) => panic!("the plan's tree does not read: {error}"),
    };
    let mut recovered = Duration::ZERO;
    tokio::select! {
        biased;
        () = trace.failed.notified() => {}
        took = lives(&world) => recovered = took,
    }
    let (steps, hash) = trace.sum();
    Report {
        seed: world.plan.seed,
        faults: trace.faults(),
        steps,
        hash,
        virtual_time: trace.elapsed(),
        recovered,
        counts: counts(&world),
    }
}

fn counts(world: &World) -> BTreeMap<&'static str, u64> {
    let counters = &world.counters;
    [
        ("requests", &counters.requests),
        ("requests repeated", &counters.repeated_requests),
        ("requests given up", &counters.failed_requests),
        ("moves asked for and made", &counters.moves),
        ("moves refused or broken off", &counters.moves_refused),
        ("messages", &counters.messages),
        ("messages lost", &counters.messages_lost),
        ("messages repeated or late", &counters.messages_repeated),
        ("process crashes", &counters.crashes),
        ("store restarts", &counters.restarts),
        ("writes forgotten", &counters.forgotten),
        ("partitions", &counters.partitions),
        ("nodes given up", &counters.given_up),
    ]
    .into_iter()
    .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    .collect()
}

async fn lives(world: &Arc<World>) -> Duration {
    // The nodes' first turn lets requests in.
    sleep(Duration::from_millis(20)).await;
    let until = Instant::now() + world.plan.lasts;
    let sessions = sessions(world);
    let mut clients = Vec::new();
    for number in 0..world.plan.clients {
        let chance = Chance::new(world.plan.seed, 100 + number as u64);
        let session = chance.pick(&sessions).clone();
        let client = Client::new(Arc::clone(world), chance, session);
        clients.push(tokio::spawn(client.run(until)));
    }
    let crowd = crowd(world, &sessions, until);
    clients.extend(crowd);
    let mishaps = mishaps::begin(world, until);
    let moves = tokio::spawn(moves::go_on(Arc::clone(world), Arc::clone(&sessions), until));
    for mishap in mishaps {
        joined(world, "a mishap", mishap.await);
    }
    joined(world, "the moves", moves.await);
    world.heal();
    world.trace.step("healed", || "all is well from now on".to_owned());
    let healed = Instant::now();
    let recovered = recover(world, healed).await;
    let patience = healed + CLIENTS;
    for client in clients {
        match tokio::time::timeout_at(patience, client).await {
            Ok(ended) => joined(world, "a client", ended),
            Err(_) => {
                world.trace.fault("a client is still not answered".to_owned());
                return recovered;
            }
        }
    }
    settle(world).await;
    verdict(world, &sessions).await;
    recovered
}

fn joined(world: &World, what: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        world.trace.fault(format!("{what} panics: {error}"));
    }
}

/// The sessions that clients name; some share an id, with homes of their own.
fn sessions(world: &Arc<World>) -> Arc<[Named]> {
    let chance = Chance::new(world.plan.seed, 4);
    let mut named: Vec<Named> = Vec::new();
    for number in 0..world.plan.sessions {
        let id = match named.last() {
            Some(last) if chance.hits(120) => last.id.clone(),
            _ => match SessionId::new(format!("s{number}")) {
                Ok(id) => id,
                Err(_) => continue,
            },
        };
        let home = *chance.pick(&world.plan.edges);
        let f = if chance.hits(800) { 0 } else { world.plan.functions.len() - 1 };
        named.push(Named { f, id, home });
    }
    named.into()
}

/// Every session has at least one client, for a request or two; one has many.
fn crowd(
    world: &Arc<World>,
    sessions: &Arc<[Named]>,
    until: Instant,
) -> Vec<tokio::task::JoinHandle<()>> {
    let chance = Chance::new(world.plan.seed, 5);
    let mut clients = Vec::new();
    let mut add = |session: &Named, stream: u64, until: Instant| {
        let chance = Chance::new(world.plan.seed, stream);
        let client = Client::new(Arc::clone(world), chance, session.clone());
        clients.push(tokio::spawn(client.run(until)));
    };
    for (number, session) in sessions.iter().enumerate() {
        let short = Instant::now() + chance.millis(100, 1500);
        add(session, 10_000 + number as u64, short.min(until));
    }
    if chance.hits(500) {
        let session = chance.pick(sessions);
        for number in 0..chance.between(2, 6) {
            add(session, 20_000 + number, until);
        }
    }
    clients
}

/// Waits until every life has exactly one owner (G7).
async fn recover(world: &Arc<World>, healed: Instant) -> Duration {
    let limit = world.plan.config.recovery_interval + GRACE;
    loop {
        let standing = world.standing();
        let wrong = standing.iter().find(|(_, at)| at.len() > 1 || at.iter().any(|at| !at.owned));
        let Some((key, at)) = wrong else { return healed.elapsed() };
        if healed.elapsed() > limit {
            world.trace.fault(format!(
                "G7: {} of {:?} has no one owner {limit:?} after all nodes are back: {at:?}",
                key.1, key.2
            ));
            return healed.elapsed();
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until nothing is pending.
async fn settle(world: &Arc<World>) {
    let (mut standing, mut since) = (world.standing(), Instant::now());
    loop {
        let pending = world.disks.iter().flatten().any(|disk| !disk.quiet());
        let now = world.standing();
        if now != standing {
            (standing, since) = (now, Instant::now());
        } else if !pending && since.elapsed() >= Duration::from_secs(2) {
            return;
        }
        if since.elapsed() > QUIET {
            for (site, disks) in world.disks.iter().enumerate() {
                for (session, slot) in disks.iter().flat_map(|disk| disk.slots()) {
                    if slot.pending() {
                        let name = &world.plan.sites[site];
                        world.trace.fault(format!("G7: {session} is pending at {name}: {slot:?}"));
                    }
                }
            }
            world.trace.fault(format!("G7: something is pending {QUIET:?} after all"));
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn verdict(world: &Arc<World>, sessions: &[Named]) {
    let fault = |what: String| world.trace.fault(what);
    let mut lists: BTreeMap<LifeKey, Tokens> = BTreeMap::new();
    let (stories, refused, sent) = world.shadow.told();
    for (key, mut owners) in world.lives() {
        let story = stories.get(&key).cloned().unwrap_or_default();
        match owners.len() {
            1 => {
                lists.insert(key, owners.remove(0).1);
            }
            0 if story.ended.is_some() || story.vanished => {}
            count => fault(format!("G1: {} of {:?} has {count} owners", key.1, key.2)),
        }
    }
    for disks in &world.disks {
        for disk in disks {
            let now = disk.now();
            for (session, slot) in disk.slots() {
                if slot.live_lease(now).is_some() {
                    fault(format!("a lease of {session} is left"));
                }
            }
        }
    }
    let gives_up = world.plan.gives_up;
    let evidence = Evidence { stories, refused, sent, lists, gives_up };
    evidence.judge().into_iter().for_each(fault);
    redirects(world, sessions).await;
}

/// From every node that knows a session there are at most two redirects to it (G4).
async fn redirects(world: &Arc<World>, sessions: &[Named]) {
    // Fresh pointers are followed as they are: quiet is when there are none.
    sleep(world.plan.config.pointer_fresh).await;
    let chance = Chance::new(world.plan.seed, 6);
    for key in world.standing().into_keys() {
        if !sessions.iter().any(|named| named.f == key.0 && named.id == key.1) {
            continue;
        }
        let first = chance.index(world.sites.len());
        // A move that was asked for long ago may still begin, and a pointer age.
        let mut wrong = None;
        for _ in 0..TRIES {
            wrong = walk(world, &key, first).await.err();
            // It may have expired meanwhile.
            wrong = wrong.filter(|_| world.standing().contains_key(&key));
            if wrong.is_none() {
                break;
            }
            sleep(world.plan.config.pointer_fresh + Duration::from_secs(1)).await;
        }
        if let Some(wrong) = wrong {
            world.trace.fault(format!("G4: {} {wrong}", key.1));
        }
    }
}

/// Follows a session from `first` to its owner.
async fn walk(world: &Arc<World>, key: &LifeKey, first: usize) -> Result<(), String> {
    let (f, id, life) = key;
    let mut at = first;
    let slot = world.disks[first][*f].moment(id).slot();
    if slot.record.is_none_or(|record| record.life() != life) {
        return Ok(());
    }
    let names = &world.plan.sites;
    let ask = funicular::function::Request::get("/log").into();
    let mut hops = 0;
    loop {
        let Some(Ok(answer)) = world.invoke((None, at, *f), id, None, None, &ask).await else {
            return Err(format!("cannot be read at {}, coming from {}", names[at], names[first]));
        };
        let funicular::node::Answer::Redirect { to, .. } = answer else { break };
        hops += 1;
        at = world.index(&to).unwrap_or(at);
        if hops > HOPS {
            return Err(format!("is more than {HOPS} redirects from {}", names[first]));
        }
    }
    let owner = world.standing().remove(key).unwrap_or_default();
    match owner.iter().any(|owner| owner.site == at) {
        true => Ok(()),
        false => Err(format!("is led to {} and not to its owner {owner:?}", names[at])),
    }
}
