//! An operator takes this node out of work: every session that is here moves to its
//! ancestors, and so do those that are created here meanwhile.
//!
//! That the node is being drained is a setting in its store: the same for all
//! replicas, and there after a restart. It ends when somebody says so, not when the
//! node is empty. While it lasts, offers from below are passed on as with `reject`,
//! and nothing is brought down here. Pointers stay: they lead clients on.
//!
//! `work` does the moves.

mod pace;
mod work;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Failure, Node, Outcome};
use crate::peers::messages::{DrainAction, DrainReason, DrainState, DrainStatus};
use crate::session::{Millis, SessionId};
use pace::Marks;

/// The setting that says since when the node is being drained.
const SINCE: &str = "drain";
/// Below it, how many sessions each process has moved away since then.
const MOVED: &str = "drain/moved/";
/// So many reasons are told apart.
const REASONS: usize = 16;

/// The drain of this node, as this process knows it.
#[derive(Debug)]
pub(super) struct Drain {
    /// Names this process's count in the store.
    process: u64,
    progress: Mutex<Progress>,
    wake: Notify,
}

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    /// Since when, on the store's clock; none while the node is at work.
    since: Option<Millis>,
    /// Sessions that this process moved away.
    moved: u64,
    /// Those that others did, replicas and processes before this one.
    moved_by_others: u64,
    /// How many of `moved` the store knows of.
    written: u64,
    /// A full look at the store found no session.
    empty: bool,
    /// Why nothing is offered for a while.
    waits_for: Option<String>,
    /// Sessions that could not go.
    marks: Marks,
}

impl Drain {
    pub(super) fn new(process: u64) -> Self {
        Self { process, progress: Mutex::default(), wake: Notify::new() }
    }

    fn is_on(&self) -> bool {
        self.progress.lock().since.is_some()
    }

    fn count_key(&self, since: Millis) -> String {
        format!("{MOVED}{since}/{:016x}", self.process)
    }
}

impl Progress {
    fn reasons(&self) -> Vec<DrainReason> {
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for why in self.marks.failing() {
            *reasons.entry(why).or_default() += 1;
        }
        let mut reasons: Vec<_> = reasons
            .into_iter()
            .map(|(why, sessions)| DrainReason { why: why.to_owned(), sessions })
            .collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.sessions));
        reasons.truncate(REASONS);
        reasons
    }
}

impl Node {
    /// Whether this node is being drained, as far as this process has heard.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_on()
    }

    /// How far the drain is, with `left` sessions here; `None` if there is none.
    pub(super) fn drain_status(&self, left: u64) -> Option<DrainStatus> {
        let progress = self.drain.progress.lock();
        progress.since?;
        let state = match &progress.waits_for {
            _ if left == 0 && progress.empty => DrainState::Empty,
            Some(_) => DrainState::Waiting,
            None => DrainState::Moving,
        };
        let reasons = progress.reasons();
        Some(DrainStatus {
            state,
            moved: progress.moved + progress.moved_by_others,
            left,
            failing: progress.marks.failing().count() as u64,
            reasons,
            waits_for: progress.waits_for.clone().filter(|_| state == DrainState::Waiting),
        })
    }

    /// `drain`: takes this node out of work, or back.
    pub(crate) async fn drain(&self, action: DrainAction) -> Outcome<DrainStatus> {
        if self.topology().parent(self.here()).is_none() && action == DrainAction::Start {
            return Err(Failure::RootStays);
        }
        let kept = self.store.settings(SINCE).await?;
        match (action, kept.contains_key(SINCE)) {
            // It goes on, with what it has counted.
            (DrainAction::Start, true) => {}
            (DrainAction::Start, false) => {
                for count in kept.keys() {
                    self.store.set_setting(count, None).await?;
                }
                let since = self.store.now().await?.to_string();
                self.store.set_setting(SINCE, Some(&since)).await?;
                tracing::info!(node = %self.here(), function = %self.config.function, "drain begins");
            }
            (DrainAction::Stop, _) => {
                self.refresh_drain().await?;
                let left = self.store.counts().await?.resident;
                let last = self.drain_status(left);
                // The wish first: without it the counts say nothing.
                self.store.set_setting(SINCE, None).await?;
                for count in kept.keys().filter(|key| *key != SINCE) {
                    self.store.set_setting(count, None).await?;
                }
                self.refresh_drain().await?;
                self.drain.wake.notify_one();
                tracing::info!(node = %self.here(), function = %self.config.function, "drain ends");
                let off = DrainStatus { left, ..DrainStatus::default() };
                return Ok(DrainStatus { state: DrainState::Off, ..last.unwrap_or(off) });
            }
        }
        self.refresh_drain().await?;
        self.drain.wake.notify_one();
        let left = self.store.counts().await?.resident;
        Ok(self.drain_status(left).unwrap_or_default())
    }

    /// Reads the wish and what others have counted, and writes down what this
    /// process has; says whether the node is being drained.
    pub(super) async fn refresh_drain(&self) -> Outcome<bool> {
        let kept = self.store.settings(SINCE).await?;
        let since: Option<Millis> = kept.get(SINCE).and_then(|text| text.parse().ok());
        let own = since.map(|since| self.drain.count_key(since));
        let by_others = since.map_or(0, |since| {
            let of_this = format!("{MOVED}{since}/");
            let counts = kept.iter().filter(|(key, _)| key.starts_with(&of_this));
            let others = counts.filter(|(key, _)| Some(*key) != own.as_ref());
            others.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
        });
        let unwritten = {
            let mut progress = self.drain.progress.lock();
            if progress.since != since {
                *progress = Progress { since, ..Progress::default() };
            }
            progress.moved_by_others = by_others;
            (progress.moved != progress.written).then_some(progress.moved)
        };
        if let (Some(key), Some(moved)) = (own, unwritten) {
            self.store.set_setting(&key, Some(&moved.to_string())).await?;
            let mut progress = self.drain.progress.lock();
            if progress.since == since {
                progress.written = moved;
            }
        }
        Ok(since.is_some())
    }

    /// A session has left.
    fn drained_one(&self, session: &SessionId) {
        let mut progress = self.drain.progress.lock();
        progress.moved += 1;
        progress.marks.forget(session);
    }
}
