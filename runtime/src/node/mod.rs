//! The node at work: one function's sessions at one node.
//!
//! A [`Node`] owns no record: the store does, and the protocol decides. What is
//! here is the I/O around them:
//!
//! - `invoke`, `enter`, `run`: a client's request, from the line to the commit
//! - `activity`: how much there was to do of late
//! - `arrivals`: which sessions came here by a move of late
//! - `at_once`: a request in a session that this process remembers
//! - `pull`, `copy`: this node is the target of a move
//! - `source`: this node is the source of a move
//! - `offload`: who should take a session, or give one back
//! - `locate`: where a session is, as far as anyone knows
//! - `home`: who has to be told where a session is
//! - `outbox`: messages that commits send to other nodes
//! - `recover`, `doubts`: whoever is in doubt asks
//! - `expire`: idle sessions and old pointers end
//! - `detached`: work that runs to its end, whoever waits for it
//! - `drain`: an operator takes the node out of work
//! - `retire`: a node is taken out of the tree
//! - `restore`: the store was put back to a backup
//! - `retree`: the tree changes while the node is at work
//! - `status`: how it is, for tools
//! - `moves`: how many moves go on at once
//! - `lines`, `leases`, `local`, `predecessors`: what this process remembers while it runs
//! - `machine`: chance and the time of day, which a simulation hands in

mod activity;
mod arrivals;
mod at_once;
mod calls;
mod claim;
mod config;
mod copy;
mod detached;
mod doubts;
mod drain;
mod enter;
mod expire;
mod failure;
mod home;
mod invoke;
mod leases;
mod lines;
mod local;
mod locate;
mod machine;
mod moves;
mod offload;
mod outbox;
mod predecessors;
mod pull;
mod recover;
mod restore;
mod retire;
mod retree;
mod run;
mod seats;
mod source;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

pub use config::NodeConfig;
use drain::Drain;
pub use failure::{Failure, Outcome};
pub(crate) use invoke::Methods;
pub use invoke::{Answer, Call};
pub use machine::{Machine, ThisMachine};
pub(crate) use offload::Offload;
pub(crate) use outbox::Received;
pub use restore::MARK as RESTORING;

use crate::function::Function;
use crate::metrics::Meters;
use crate::peers::Peers;
use crate::peers::messages::OffloadStatus;
use crate::session::{NodeName, SessionId, SessionToken};
use crate::store::{SessionStore, Snapshot, StoreError, StoreResult};
use crate::topology::Topology;
use crate::trace;
use activity::Activity;
use arrivals::Arrivals;
use doubts::Doubts;
use leases::Leases;
use lines::Lines;
use local::Local;
use machine::{Rate, Steady};
use moves::Moves;
use predecessors::Predecessors;
use restore::Restore;
use seats::Seats;

/// One function's sessions at one node. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

/// What a node is made of; reached through [`Node`] alone.
#[doc(hidden)]
pub struct Inner {
    config: NodeConfig,
    function: Function,
    store: Arc<dyn SessionStore>,
    peers: Arc<dyn Peers>,
    caller: Option<Arc<dyn crate::edge_db::Caller>>,
    machine: Arc<dyn Machine>,
    topology: RwLock<Arc<Topology>>,
    /// Why a newer tree is not taken.
    topology_refused: Mutex<Option<String>>,
    /// It goes out of the tree, and creates no sessions; the store has the truth.
    closed: AtomicBool,
    lines: Arc<Lines>,
    leases: Arc<Leases>,
    local: Arc<Local>,
    predecessors: Predecessors,
    /// Nodes that a person gave up; the store has the truth.
    barred: RwLock<BTreeSet<NodeName>>,
    /// Sessions that are here, as last counted.
    resident: AtomicU64,
    in_flight: AtomicUsize,
    seats: Seats,
    activity: Activity,
    meters: Meters,
    arrivals: Arrivals,
    /// Requests so far.
    taken_in: AtomicUsize,
    moves: Moves,
    drain: Drain,
    restore: Restore,
    creations: Rate,
    /// The rate was reached: a new session has to ask first.
    creations_exhausted: AtomicBool,
    /// The recovery loop has something to do at once.
    wake: Notify,
    /// The store may have forgotten its last writes; so it is taken to be at start.
    unrecovered: AtomicBool,
    /// Sessions in doubt, and who is next.
    doubts: Mutex<Doubts>,
    /// Sessions somebody works on in the background, so that nobody else begins.
    working: recover::Sessions,
    /// Bounds that work.
    workers: Arc<Semaphore>,
    /// Sessions whose home somebody tells where they are, or that they ended.
    telling: recover::Sessions,
    /// Sessions whose messages somebody delivers.
    delivering: recover::Sessions,
    /// Bounds the deliveries.
    couriers: Arc<Semaphore>,
    /// Nodes that did not answer, and until when nobody tries again for a session
    /// in doubt.
    silent: Mutex<BTreeMap<NodeName, tokio::time::Instant>>,
    tasks: TaskTracker,
}

impl std::ops::Deref for Node {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.config.function, self.config.here)
    }
}

/// The parts of a node that come from outside.
pub struct Parts {
    /// Its settings.
    pub config: NodeConfig,
    /// The author's function.
    pub function: Function,
    /// Where it keeps its sessions.
    pub store: Arc<dyn SessionStore>,
    /// How it reaches the other nodes.
    pub peers: Arc<dyn Peers>,
    /// How handlers invoke other functions.
    pub caller: Option<Arc<dyn crate::edge_db::Caller>>,
    /// Its chance and time of day.
    pub machine: Arc<dyn Machine>,
    /// The tree.
    pub topology: Arc<Topology>,
}

impl Node {
    /// Puts a node together. Nothing runs in the background before [`Node::start`].
    pub fn new(parts: Parts) -> Self {
        let rate = std::num::NonZeroU32::new(parts.config.creation_rate)
            .unwrap_or(std::num::NonZeroU32::MIN);
        Self(Arc::new(Inner {
            moves: Moves::new(&parts.config),
            seats: Seats::new(parts.config.max_running),
            drain: Drain::new(machine::seed(parts.machine.as_ref())),
            restore: Restore::new(machine::seed(parts.machine.as_ref())),
            creations: RateLimiter::direct_with_clock(Quota::per_second(rate), Steady::new()),
            creations_exhausted: AtomicBool::new(false),
            meters: Meters::new(&parts.config, parts.store.promise()),
            config: parts.config,
            function: parts.function,
            store: parts.store,
            peers: parts.peers,
            caller: parts.caller,
            machine: parts.machine,
            topology: RwLock::new(parts.topology),
            topology_refused: Mutex::default(),
            closed: AtomicBool::new(false),
            lines: Lines::new(),
            leases: Arc::default(),
            local: Arc::default(),
            predecessors: Predecessors::default(),
            barred: RwLock::default(),
            resident: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            activity: Activity::new(),
            arrivals: Arrivals::default(),
            taken_in: AtomicUsize::new(0),
            wake: Notify::new(),
            unrecovered: AtomicBool::new(true),
            doubts: Mutex::default(),
            working: Mutex::default(),
            workers: Arc::new(Semaphore::new(recover::WORKERS)),
            telling: Mutex::default(),
            delivering: Mutex::default(),
            couriers: Arc::new(Semaphore::new(recover::WORKERS)),
            silent: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Starts what runs in the background: leases, recovery, expiry. It ends when
    /// the returned guard is dropped.
    #[must_use]
    pub fn start(&self) -> Background {
        let ttl = self.config.lease_ttl;
        let tasks = vec![
            tokio::spawn(Arc::clone(&self.leases).renew_all(Arc::clone(&self.store), ttl)),
            tokio::spawn(self.clone().recover_forever()),
            tokio::spawn(self.clone().expire_forever()),
            tokio::spawn(self.clone().mend_forever()),
            tokio::spawn(self.clone().drain_forever()),
            tokio::spawn(self.clone().restore_forever()),
        ];
        Background { tasks }
    }

    /// This node's name.
    pub fn here(&self) -> &NodeName {
        &self.config.here
    }

    /// Its settings.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// The tree, as it is now.
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read())
    }

    /// Whether the store answers and no recovery is due. One that is being restored is
    /// ready too: it tells clients so, and an operator has to reach it.
    pub async fn ready(&self) -> bool {
        if self.is_restoring() {
            return true;
        }
        !self.unrecovered.load(Ordering::Relaxed) && self.store.counts().await.is_ok()
    }

    /// The store was restarted: recovery comes first, then requests.
    fn store_restarted(&self) {
        self.unrecovered.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Waits until the work that requests left behind (messages, home updates,
    /// settling) has ended. Call it after the last request.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Whether this node creates sessions for clients.
    fn is_entry(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
            && self.topology().node(self.here()).is_some_and(|node| node.entry)
    }

    fn is_barred(&self, node: &NodeName) -> bool {
        self.barred.read().contains(node)
    }

    /// A peer may call: it is in the tree and nobody gave it up.
    pub(crate) fn admit(&self, from: &NodeName) -> Outcome<()> {
        if self.topology().node(from).is_none() {
            return Err(Failure::UnknownPeer(from.clone()));
        }
        if self.is_barred(from) {
            return Err(Failure::Barred(from.clone()));
        }
        Ok(())
    }

    /// A token that says where a session is.
    fn token(
        &self,
        session: &SessionId,
        life: &crate::session::Life,
        epoch: crate::session::Epoch,
        at: &NodeName,
    ) -> SessionToken {
        SessionToken {
            session: session.clone(),
            proprietary_location: life.home.clone(),
            current_location: at.clone(),
            function: self.config.function.clone(),
            epoch,
            incarnation: Some(life.incarnation),
            v: crate::session::token::TOKEN_VERSION,
        }
    }

    /// Runs something after the answer went out, tracked for the drain.
    fn later(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(trace::carried(work));
    }

    /// Lets requests at a store in again that may have forgotten its last writes.
    async fn recover_store(&self) -> Outcome<()> {
        // A target may hold what a frozen session here has forgotten: nobody reads it
        // any more.
        self.local.no_frozen_reads();
        self.may_be_served().await?;
        self.store.recover_restart().await?;
        // Somebody may have found meanwhile that it was put back to a backup.
        let restoring = self.may_be_served().await;
        if restoring.is_err() {
            self.store.close().await?;
        }
        restoring
    }

    /// Asks the store; after [`StoreError::Restarted`] recovers and asks once more.
    async fn recovered<T, F>(&self, ask: impl Fn() -> F) -> Outcome<T>
    where
        F: Future<Output = StoreResult<T>>,
    {
        let answer = ask().await;
        if !matches!(answer, Err(StoreError::Restarted)) {
            return Ok(answer?);
        }
        self.recover_store().await?;
        Ok(ask().await?)
    }

    /// A protocol step in the store.
    async fn step(
        &self,
        session: &SessionId,
        event: &crate::protocol::Event,
        durability: crate::store::Durability,
    ) -> Outcome<crate::protocol::Reply> {
        let outcome = self.recovered(|| self.store.step(session, event, durability));
        let reply = outcome.await??;
        tracing::debug!(
            node = %self.here(), function = %self.config.function,
            session = session.log_hash(), ?event, ?reply, "step"
        );
        Ok(reply)
    }

    /// What the store knows of a session.
    async fn snapshot(&self, session: &SessionId) -> Outcome<Snapshot> {
        self.recovered(|| self.store.snapshot(session)).await
    }

    /// The same for whoever tells another node of it: the step behind it may have
    /// been written by somebody who still waits for the disk, or has given up to.
    async fn durable_snapshot(&self, session: &SessionId) -> Outcome<Snapshot> {
        self.recovered(|| self.store.durable_snapshot(session)).await
    }

    /// Returns when everything this node knows of a session is on disk, as far as
    /// the store can promise it.
    async fn on_disk(&self, session: &SessionId) -> Outcome<()> {
        self.durable_snapshot(session).await.map(drop)
    }

    /// Whether sessions of descendants are taken.
    pub async fn offload_status(&self) -> Outcome<OffloadStatus> {
        let is_root = self.topology().root().name == *self.here();
        let kept = self.store.setting("status").await?;
        Ok(match kept.as_deref() {
            Some("reject") if !is_root => OffloadStatus::Reject,
            _ => OffloadStatus::Accept,
        })
    }

    /// All data of a session that is here, for tools.
    pub(crate) async fn dump(
        &self,
        session: &SessionId,
    ) -> Outcome<crate::session::fields::FieldMap> {
        self.store.dump(session).await?.ok_or(Failure::NoSuchSession)
    }
}

/// What runs in the background of a node; ends when dropped.
#[derive(Debug)]
pub struct Background {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
