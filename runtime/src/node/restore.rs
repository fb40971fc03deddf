//! This node's store was put back to a backup: it serves nothing before the other nodes
//! have named what they have, and every record here was decided on.
//!
//! That it is so is a setting in the store, the same for all replicas and there after a
//! restart: [`MARK`]. As long as it is there, nobody recovers the store, so that no
//! replica is let in (`SessionStore::close`); whoever restores works inside. The mark is
//! set by `funicular restore`, or by hand before anything reads the store
//! (`funicular restore --mark`), or because the process was started with a label
//! (`FUNICULAR_RESTORED`) that the store does not have yet.
//!
//! `work` asks and decides, `name` answers another node that does.

mod name;
mod work;

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Failure, Node, Outcome};
use crate::peers::messages::{RestoreAction, RestoreCall, RestoreState, RestoreStatus};
use crate::session::NodeName;
use crate::store::StoreError;

/// The setting that says that the store was put back, and is not to be served.
pub const MARK: &str = "restoring";
/// The label of the last restore that was done.
const LABEL: &str = "restored";
/// That an operator has begun it: the nodes that are given up, as JSON.
const WISH: &str = "restore/wish";
/// That records were decided on, and without which nodes, as JSON.
const DECIDED: &str = "restore/decided";
/// How far it is, and how the last one ended, as JSON.
const PROGRESS: &str = "restore/progress";
const REPORT: &str = "restore/report";
/// Which process works on it, and when it last said so.
const TURN: &str = "restore/turn";

/// What this process knows of the mark.
const UNKNOWN: u8 = 0;
const ABSENT: u8 = 1;
const THERE: u8 = 2;

/// The restore of this node, as this process knows it.
#[derive(Debug)]
pub(super) struct Restore {
    /// Names this process among its replicas.
    process: u64,
    mark: AtomicU8,
    /// What this process does, or did last.
    status: Mutex<RestoreStatus>,
    wake: Notify,
}

impl Restore {
    pub(super) fn new(process: u64) -> Self {
        let mark = AtomicU8::new(UNKNOWN);
        Self { process, mark, status: Mutex::default(), wake: Notify::new() }
    }

    /// This process's name among its replicas.
    pub(super) fn replica(&self) -> String {
        format!("{:016x}", self.process)
    }
}

impl Node {
    /// Whether the store is known to be put back and not judged yet.
    pub(crate) fn is_restoring(&self) -> bool {
        self.restore.mark.load(Ordering::Relaxed) == THERE
    }

    /// Whether anything may be done here for anybody.
    pub(crate) async fn serves(&self) -> Outcome<()> {
        let restoring = match self.restore.mark.load(Ordering::Relaxed) {
            UNKNOWN => {
                // Nor does a node that goes out of the tree create before it knows that.
                self.refresh_closed().await?;
                self.refresh_restore().await?
            }
            mark => mark == THERE,
        };
        if restoring { Err(Failure::Restoring) } else { Ok(()) }
    }

    /// Reads the mark; says whether it is there.
    pub(super) async fn refresh_restore(&self) -> Outcome<bool> {
        let there = match self.read_mark().await {
            // Part of a cluster is away, and nobody could have set the mark either.
            Err(Failure::Store(StoreError::Unavailable(why))) => {
                match self.restore.mark.load(Ordering::Relaxed) {
                    UNKNOWN => return Err(StoreError::Unavailable(why).into()),
                    mark => mark == THERE,
                }
            }
            there => there?,
        };
        if !there && self.is_restoring() {
            // Whoever took it away may still wait for the disk.
            self.store.on_disk().await?;
        }
        self.meters.restoring(there);
        let mark = if there { THERE } else { ABSENT };
        if self.restore.mark.swap(mark, Ordering::Relaxed) != mark && there {
            *self.restore.status.lock() = RestoreStatus::default();
            tracing::warn!(
                node = %self.here(), function = %self.config.function,
                "the store was put back to a backup: nothing is served before an operator runs \
                 `funicular restore {}`", self.here()
            );
        }
        Ok(there)
    }

    /// Nobody recovers a store that was put back, so that nobody is let in.
    pub(super) async fn may_be_served(&self) -> Outcome<()> {
        if self.refresh_restore().await? { Err(Failure::Restoring) } else { Ok(()) }
    }

    async fn read_mark(&self) -> Outcome<bool> {
        if self.store.setting(MARK).await?.is_some() {
            return Ok(true);
        }
        let Some(label) = &self.config.restored else { return Ok(false) };
        if self.store.setting(LABEL).await?.as_ref() == Some(label) {
            return Ok(false);
        }
        self.restore.mark.store(THERE, Ordering::Relaxed);
        self.mark(label).await?;
        Ok(true)
    }

    /// From now on no replica is let in.
    async fn mark(&self, label: &str) -> Outcome<()> {
        self.store.set_setting(MARK, Some(label)).await?;
        Ok(self.store.close().await?)
    }

    /// `restore`: an operator has the store judged, or asks how far that is.
    pub(crate) async fn restore(&self, call: &RestoreCall) -> Outcome<RestoreStatus> {
        if call.action == RestoreAction::Show {
            return self.restore_status().await;
        }
        let topology = self.topology();
        for node in &call.without {
            if node == self.here() || topology.node(node).is_none() {
                let why = format!("{node} is not another node of this tree");
                return Err(Failure::BadCall(why));
            }
        }
        if !self.refresh_restore().await? {
            if !call.begin {
                return Err(Failure::RestoreRefused(served(self.here())));
            }
            self.mark(self.config.restored.as_deref().unwrap_or("yes")).await?;
            self.refresh_restore().await?;
        }
        let decided = self.restore_setting(DECIDED).await?.unwrap_or_default();
        if let Some(why) = waits_again(self.here(), &decided, &call.without) {
            return Err(Failure::RestoreRefused(why));
        }
        if self.restore_wish().await?.is_none() {
            // Whoever set the mark by hand may have done so while it was served.
            self.store.close().await?;
        }
        let wish = serde_json::to_string(&call.without).unwrap_or_default();
        self.store.set_setting(WISH, Some(&wish)).await?;
        self.restore.status.lock().state = RestoreState::Asking;
        self.restore.wake.notify_one();
        self.restore_status().await
    }

    /// The nodes that are given up, if an operator has begun.
    async fn restore_wish(&self) -> Outcome<Option<Vec<NodeName>>> {
        self.restore_setting(WISH).await
    }

    /// Nodes that a setting names.
    async fn restore_setting(&self, name: &str) -> Outcome<Option<Vec<NodeName>>> {
        let kept = self.store.setting(name).await?;
        Ok(kept.map(|text| serde_json::from_str(&text).unwrap_or_default()))
    }

    /// How far a restore is, or how the last one ended.
    pub(super) async fn restore_status(&self) -> Outcome<RestoreStatus> {
        let own = self.restore.status.lock().clone();
        let kept = async |name| {
            let text = self.store.setting(name).await?;
            Ok::<_, Failure>(text.and_then(|text| serde_json::from_str(&text).ok()))
        };
        if !self.refresh_restore().await? {
            // What a process has done itself it knows best.
            return match own.state {
                RestoreState::Done => Ok(own),
                _ => Ok(kept(REPORT).await?.unwrap_or_default()),
            };
        }
        if self.restore_wish().await?.is_none() {
            return Ok(RestoreStatus { state: RestoreState::Marked, ..RestoreStatus::default() });
        }
        if self.has_turn().await? {
            return Ok(own);
        }
        let begun = RestoreStatus { state: RestoreState::Asking, ..RestoreStatus::default() };
        Ok(kept(PROGRESS).await?.unwrap_or(begun))
    }

    /// Whether this process works on it.
    async fn has_turn(&self) -> Outcome<bool> {
        Ok(self.is_own(self.store.setting(TURN).await?.as_deref()))
    }

    fn is_own(&self, turn: Option<&str>) -> bool {
        let own = turn.and_then(|turn| turn.split_once(' '));
        own.is_some_and(|(replica, _)| replica == self.restore.replica())
    }
}

fn served(here: &NodeName) -> String {
    format!(
        "the store of `{here}` is served, and nothing says that it was put back to a backup; \
         `funicular restore {here} --status` says how the last restore ended, `--begin` begins one"
    )
}

/// Why a restore does not wait for a node again without which it has decided. What was
/// kept because that node was not asked has an epoch by now that nothing there reaches.
fn waits_again(here: &NodeName, decided: &[NodeName], without: &[NodeName]) -> Option<String> {
    let again = decided.iter().find(|node| !without.contains(node))?;
    let all: Vec<_> = decided.iter().map(|node| format!(" --without {node}")).collect();
    Some(format!(
        "`{here}` has decided on sessions without `{again}`, and that cannot be undone: what is \
         newer at `{again}` stays there, see the lost+found of both; go on with \
         `funicular restore {here}{}`, or see `--status`",
        all.concat()
    ))
}
