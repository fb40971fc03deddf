//! Watches a tree: every node is asked by itself, at its own pace, and whoever subscribes
//! gets one [`View`] of all that is known whenever that changes.
//!
//! A node that hangs is late by itself and holds up nobody. While nobody looks, nodes are asked
//! rarely. Nothing of it moves a session or changes a record.
//!
//! ```no_run
//! # async fn example(client: funicular::peers::operator::OperatorClient,
//! #     topology: std::sync::Arc<funicular::topology::Topology>) {
//! use funicular_dashboard::watch::{Settings, Watcher};
//!
//! let settings = Settings::whole_tree(client, topology);
//! let watcher = Watcher::start(&settings, &tokio_util::sync::CancellationToken::new());
//! let mut views = watcher.subscribe();
//! while views.changed().await.is_ok() {
//!     let view = views.borrow_and_update().clone();
//!     println!("{} moves were seen", view.moves.len());
//! }
//! # }
//! ```
//!
//! - [`view`]: what is seen, as plain data
//! - [`answers`]: what was answered
//! - [`assemble`]: from answers to a view, without I/O
//! - `ask`: the calls

pub mod answers;
mod ask;
pub mod assemble;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use funicular::peers::operator::OperatorClient;
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use answers::{NodeAnswer, OracleSaid};
use ask::Asking;
use assemble::Memory;
use view::View;

/// So many moves are kept.
pub const MOVES: usize = 512;
/// So many decisions are kept.
pub const DECISIONS: usize = 256;
/// So many events are kept.
pub const EVENTS: usize = 64;
/// So many sessions of a function are listed unless said.
pub const SESSIONS: usize = 64;

/// A node is not asked more often than this, however many want to know.
const LEAST: Duration = Duration::from_millis(100);

/// A question to an oracle in this process.
pub type AskHere = Arc<dyn Fn() -> Option<OracleSaid> + Send + Sync>;

/// Where a node's oracle is.
#[derive(Clone)]
pub enum OracleAt {
    /// At this URL, which `/explain` is added to.
    Url(String),
    /// In this process.
    Here(AskHere),
}

/// How often who is asked what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A node, while somebody looks.
    pub every: Duration,
    /// A node, while nobody does.
    pub idle_every: Duration,
    /// A node's sessions, while somebody looks.
    pub sessions_every: Duration,
    /// A gateway, for its functions.
    pub list_every: Duration,
    /// How many sessions of a function are listed, at most 1024.
    pub sessions: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(400),
            idle_every: Duration::from_secs(5),
            sessions_every: Duration::from_secs(2),
            list_every: Duration::from_secs(10),
            sessions: SESSIONS,
        }
    }
}

/// How long a node may take to answer: what to give [`OperatorClient::new`].
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Whom to watch.
#[derive(Clone)]
pub struct Settings {
    /// The tree.
    pub topology: Arc<Topology>,
    /// The nodes to ask, each with the gateway to call it at.
    pub nodes: Vec<Node>,
    /// Calls them; see [`PATIENCE`].
    pub client: OperatorClient,
    /// User and password of gateways that ask for them: of each its own.
    pub logins: BTreeMap<NodeName, (String, String)>,
    /// The functions, where no gateway lists them.
    pub functions: Option<Vec<FunctionName>>,
    /// Where oracles are, as far as that is known.
    pub oracles: BTreeMap<NodeName, OracleAt>,
    /// How often.
    pub pace: Pace,
}

impl Settings {
    /// All nodes of a tree at their gateways; oracles where `funicular up` has them.
    pub fn whole_tree(client: OperatorClient, topology: Arc<Topology>) -> Self {
        let oracle =
            |node: &Node| (node.name.clone(), OracleAt::Url(format!("{}/oracle", node.gateway)));
        Self {
            nodes: topology.nodes().cloned().collect(),
            oracles: topology.nodes().map(oracle).collect(),
            topology,
            client,
            logins: BTreeMap::new(),
            functions: None,
            pace: Pace::default(),
        }
    }
}

/// A tree that is watched. Cheap to clone; ends with the token it was started with.
#[derive(Clone)]
pub struct Watcher(Arc<Shared>);

struct Shared {
    views: watch::Sender<Arc<View>>,
    /// When somebody last looked without subscribing.
    glanced: Mutex<Option<Instant>>,
    wake: Notify,
    pace: Pace,
}

impl Shared {
    /// How long a node is left alone.
    fn pause(&self) -> Duration {
        let glanced = self.glanced.lock().is_some_and(|at| at.elapsed() < self.pace.idle_every);
        match glanced || self.views.receiver_count() > 0 {
            true => self.pace.every,
            false => self.pace.idle_every,
        }
    }

    /// Leaves alone a node that was asked at `asked`, until it is due or somebody wants to know.
    async fn rest(&self, asked: Instant, woken: Notified<'_>) {
        tokio::select! {
            () = tokio::time::sleep(self.pause()) => {}
            () = woken => {}
        }
        tokio::time::sleep_until(asked + LEAST).await;
    }
}

impl Watcher {
    /// Begins to watch.
    pub fn start(settings: &Settings, stop: &CancellationToken) -> Self {
        let (views, _) = watch::channel(Arc::new(View::default()));
        let pace = settings.pace;
        let shared =
            Arc::new(Shared { views, glanced: Mutex::new(None), wake: Notify::new(), pace });
        let watched = settings.nodes.iter().map(|node| node.name.clone()).collect();
        let mut memory = Memory::new(Arc::clone(&settings.topology), watched);
        // Before anybody answers: the tree, and nothing known of it.
        shared.views.send_replace(Arc::new(View { number: 0, ..memory.view(now_ms()) }));
        let (tell, mut told) = mpsc::channel::<NodeAnswer>(64);
        for asking in Asking::each(settings) {
            let (shared, tell, stop) = (Arc::clone(&shared), tell.clone(), stop.clone());
            tokio::spawn(async move {
                stop.run_until_cancelled(ask_forever(asking, &shared, &tell)).await
            });
        }
        let publish = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Some(answer) = told.recv().await {
                memory.take(answer);
                // All that is there makes one view.
                while let Ok(answer) = told.try_recv() {
                    memory.take(answer);
                }
                publish.views.send_replace(Arc::new(memory.view(now_ms())));
            }
        });
        Self(shared)
    }

    /// What is known now and from now on. While there is a receiver, nodes are asked often.
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        let views = self.0.views.subscribe();
        self.0.wake.notify_waiters();
        views
    }

    /// What is known now, however old.
    pub fn latest(&self) -> Arc<View> {
        Arc::clone(&self.0.views.borrow())
    }

    /// What every node says when it is asked now; what is known of those that have not
    /// answered within `patience`.
    pub async fn fresh(&self, patience: Duration) -> Arc<View> {
        let asked = now_ms();
        *self.0.glanced.lock() = Some(Instant::now());
        let mut views = self.subscribe();
        let all = |view: &Arc<View>| {
            let mut watched = view.nodes.iter().filter(|node| node.watched);
            watched.all(|node| node.asked_ms.is_some_and(|at| at >= asked))
        };
        match tokio::time::timeout(patience, views.wait_for(all)).await {
            Ok(Ok(view)) => Arc::clone(&view),
            Ok(Err(_)) | Err(_) => self.latest(),
        }
    }
}

async fn ask_forever(mut asking: Asking, shared: &Shared, tell: &mpsc::Sender<NodeAnswer>) {
    loop {
        // Made before the question: a call to wake that comes meanwhile is not lost.
        let (woken, asked) = (shared.wake.notified(), Instant::now());
        if tell.send(asking.ask(&shared.pace).await).await.is_err() {
            return;
        }
        shared.rest(asked, woken).await;
    }
}

/// The time of day here, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
