//! The tree: sites with their stores and processes, and what happens to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use funicular::function::Function;
use funicular::node::{Background, Node, Parts};
use funicular::session::{NodeName, Record, SessionId};
use funicular::topology::Topology;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::function::{self, Tokens, tokens};
use crate::network::Link;
use crate::plan::{Astray, Plan};
use crate::reasons::Reasons;
use crate::shadow::{LifeKey, Shadow};
use crate::store::{self, Disk, Handle};
use crate::trace::Trace;

/// What is counted, for the summary.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub repeated_requests: AtomicU64,
    pub failed_requests: AtomicU64,
    pub moves: AtomicU64,
    pub moves_refused: AtomicU64,
    pub messages: AtomicU64,
    pub messages_lost: AtomicU64,
    pub messages_repeated: AtomicU64,
    pub crashes: AtomicU64,
    pub restarts: AtomicU64,
    pub forgotten: AtomicU64,
    pub partitions: AtomicU64,
    pub given_up: AtomicU64,
}

/// Counts one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A process of a node: all its functions.
pub struct Process {
    /// Ends with the process: what still runs of it reaches nobody any more.
    pub gone: CancellationToken,
    /// One node a function.
    pub nodes: Vec<Node>,
    _background: Vec<Background>,
}

/// A place with its processes; its stores are in [`World::disks`].
pub struct Site {
    processes: Mutex<Vec<Option<Arc<Process>>>>,
    /// Nobody starts a process before this is false again.
    held_down: Mutex<bool>,
    slow_until: Mutex<Instant>,
    /// Only sites of the same side reach each other.
    side: Mutex<u8>,
}

/// A node that has a life's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub site: usize,
    /// Otherwise it is frozen there.
    pub owned: bool,
    /// Messages that wait there.
    pub outbox: u64,
}

/// Everything of one run.
pub struct World {
    this: Weak<Self>,
    pub plan: Plan,
    pub topology: Arc<Topology>,
    pub trace: Arc<Trace>,
    pub shadow: Arc<Shadow>,
    pub reasons: Arc<Reasons>,
    pub counters: Counters,
    pub chance: Chance,
    pub astray: Mutex<Astray>,
    /// By site, then function.
    pub disks: Vec<Vec<Arc<Disk>>>,
    pub sites: Vec<Site>,
    functions: Vec<Function>,
    numbers: AtomicU64,
}

impl World {
    /// All nodes, up and running.
    pub fn start(plan: Plan, trace: Arc<Trace>) -> Result<Arc<Self>, String> {
        let topology = Topology::parse(&plan.tree).map_err(|error| error.to_string())?;
        let shadow = Arc::new(Shadow::new(Arc::clone(&trace), plan.sites.clone()));
        let reasons = Arc::new(Reasons::new());
        let chance = Chance::new(plan.seed, 2);
        let disks = (0..plan.sites.len())
            .map(|site| {
                let disk = |function| {
                    let chance = Chance::new(plan.seed, 1000 + (site * 2 + function) as u64);
                    Disk::new(&plan, (site, function), chance, (&shadow, &trace), &reasons)
                };
                (0..plan.functions.len()).map(disk).collect()
            })
            .collect();
        let replicas = plan.replicas;
        let site = |_| Site {
            processes: Mutex::new(vec![None; replicas]),
            held_down: Mutex::new(false),
            slow_until: Mutex::new(Instant::now()),
            side: Mutex::new(0),
        };
        let world = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            topology: Arc::new(topology),
            trace,
            shadow,
            reasons,
            counters: Counters::default(),
            chance,
            astray: Mutex::new(plan.astray),
            disks,
            sites: (0..plan.sites.len()).map(site).collect(),
            functions: plan
                .functions
                .iter()
                .rev()
                .map(|other| function::function(other.as_str()))
                .collect(),
            numbers: AtomicU64::new(0),
            plan,
        });
        for site in 0..world.sites.len() {
            for replica in 0..world.plan.replicas {
                world.start_process(site, replica);
            }
        }
        Ok(world)
    }

    /// A number that was not there before.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of a site.
    pub fn index(&self, name: &NodeName) -> Option<usize> {
        self.plan.sites.iter().position(|site| site == name)
    }

    /// Starts a process, unless it runs or must not.
    pub fn start_process(&self, site: usize, replica: usize) {
        let place = &self.sites[site];
        let mut processes = place.processes.lock();
        if processes[replica].is_some() || *place.held_down.lock() {
            return;
        }
        let name = &self.plan.sites[site];
        let gone = CancellationToken::new();
        let nodes: Vec<Node> = (0..self.functions.len())
            .map(|f| {
                let link = Arc::new(Link::new(site, self.this.clone(), gone.clone()));
                let mut config = self.plan.config.clone();
                config.here = name.clone();
                config.function = self.plan.functions[f].clone();
                Node::new(Parts {
                    config,
                    function: self.functions[f].clone(),
                    store: Arc::new(Handle::new(Arc::clone(&self.disks[site][f]), gone.clone())),
                    peers: link.clone(),
                    caller: Some(link),
                    machine: Arc::new(Chance::new(self.chance.seed(), 3)),
                    topology: Arc::clone(&self.topology),
                })
            })
            .collect();
        let background = nodes.iter().map(Node::start).collect();
        processes[replica] = Some(Arc::new(Process { gone, nodes, _background: background }));
        drop(processes);
        self.trace.step((site, replica), || format!("{name}.{replica} starts"));
    }

    /// Ends a process where it is.
    pub fn kill(&self, site: usize, replica: usize) {
        let Some(process) = self.sites[site].processes.lock()[replica].take() else { return };
        process.gone.cancel();
        self.reasons.note();
        let name = &self.plan.sites[site];
        self.trace.step((site, replica), || format!("{name}.{replica} crashes"));
        count(&self.counters.crashes);
    }

    /// Ends all processes of a site, and keeps it so until told otherwise.
    pub fn hold_down(&self, site: usize, down: bool) {
        *self.sites[site].held_down.lock() = down;
        for replica in 0..self.plan.replicas {
            match down {
                true => self.kill(site, replica),
                false => self.start_process(site, replica),
            }
        }
    }

    /// One of the processes of a site that run.
    pub fn process(&self, site: usize) -> Option<Arc<Process>> {
        let processes = self.sites[site].processes.lock();
        let alive: Vec<_> = processes.iter().flatten().collect();
        match alive.len() {
            0 => None,
            1 => Some(Arc::clone(alive[0])),
            _ => Some(Arc::clone(*self.chance.pick(&alive))),
        }
    }

    /// The stores of a site end.
    pub fn stop_stores(&self, site: usize) {
        self.reasons.note();
        self.disks[site].iter().for_each(|disk| disk.stop());
        let name = &self.plan.sites[site];
        self.trace.step(site, || format!("the stores of {name} end"));
        count(&self.counters.restarts);
    }

    /// They come back, with what they remember.
    pub fn start_stores(&self, site: usize) {
        self.reasons.note();
        for f in 0..self.functions.len() {
            for (session, was, is) in self.disks[site][f].start() {
                let elsewhere = match was.slot().record {
                    Some(record) => self.on_disk_elsewhere(site, f, &session, &record),
                    None => Vec::new(),
                };
                let lost = store::lost(&was, &is, &elsewhere);
                for (list, token) in &lost {
                    self.trace.step((site, f, &session, list, token), || {
                        format!("{} forgot {token} of {list} of {session}", self.plan.sites[site])
                    });
                    count(&self.counters.forgotten);
                }
                self.shadow.forgot(site, f, &session, (&was.slot(), &is.slot()), lost);
            }
        }
    }

    /// What other nodes have on disk of the life that `record` is of.
    fn on_disk_elsewhere(
        &self,
        site: usize,
        f: usize,
        session: &SessionId,
        record: &Record,
    ) -> Vec<Tokens> {
        let others = self.disks.iter().enumerate().filter(|(other, _)| *other != site);
        let kept = others.filter_map(|(_, disks)| {
            let moment = disks[f].durable(session);
            let slot = moment.slot();
            let same = slot.record.filter(|found| found.life() == record.life());
            same.filter(Record::holds_data).and_then(|_| moment.fields().map(tokens))
        });
        kept.collect()
    }

    /// Cuts sites off from each other; all zeros heals.
    pub fn cut(&self, sides: &[u8]) {
        for (site, side) in self.sites.iter().zip(sides) {
            *site.side.lock() = *side;
        }
        self.trace.step(sides, || format!("sides: {sides:?}"));
    }

    /// Whether a message between two sites passes right now.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        let side = |site: usize| *self.sites[site].side.lock();
        side(a) == side(b)
    }

    /// A site takes long for everything, for so long.
    pub fn slow(&self, site: usize, long: Duration) {
        self.reasons.lasts(long);
        *self.sites[site].slow_until.lock() = Instant::now() + long;
        let name = &self.plan.sites[site];
        self.trace.step((site, long), || format!("{name} is slow for {long:?}"));
    }

    /// How much longer a site takes than others right now.
    pub fn slowness(&self, site: usize) -> Duration {
        match *self.sites[site].slow_until.lock() > Instant::now() {
            true => self.chance.millis(50, 900),
            false => Duration::ZERO,
        }
    }

    /// From now on nothing goes wrong any more, and everybody is back.
    pub fn heal(&self) {
        *self.astray.lock() = Astray::default();
        self.cut(&vec![0; self.sites.len()]);
        for site in 0..self.sites.len() {
            *self.sites[site].slow_until.lock() = Instant::now();
            self.disks[site].iter().for_each(|disk| disk.heal());
            self.hold_down(site, false);
        }
    }

    /// Where each life is owned or frozen, and how many messages wait there.
    pub fn standing(&self) -> BTreeMap<LifeKey, Vec<At>> {
        let mut found: BTreeMap<LifeKey, Vec<At>> = BTreeMap::new();
        for (site, disks) in self.disks.iter().enumerate() {
            for (f, disk) in disks.iter().enumerate() {
                for (session, slot) in disk.slots() {
                    let Some(record) = slot.record.as_ref().filter(|found| found.holds_data())
                    else {
                        continue;
                    };
                    let owned = store::owns(&slot);
                    let at = At { site, owned, outbox: slot.outbox };
                    found.entry((f, session, record.life().clone())).or_default().push(at);
                }
            }
        }
        found
    }

    /// Each life that any node has a record of, and what its owners have.
    pub fn lives(&self) -> BTreeMap<LifeKey, Vec<(usize, Tokens)>> {
        let mut found: BTreeMap<LifeKey, Vec<(usize, Tokens)>> = BTreeMap::new();
        for (site, disks) in self.disks.iter().enumerate() {
            for (f, disk) in disks.iter().enumerate() {
                for (session, moment) in disk.moments() {
                    let slot = moment.slot();
                    let Some(record) = &slot.record else { continue };
                    let key = (f, session, record.life().clone());
                    let owners = found.entry(key).or_default();
                    if store::owns(&slot) {
                        let has = moment.fields().map(tokens).unwrap_or_default();
                        owners.push((site, has));
                    }
                }
            }
        }
        found
    }
}
