//! How this node is, for tools and the oracle.

use std::sync::atomic::Ordering;

use super::{Node, Outcome};
use crate::peers::messages::{MovedStatus, NodeStatus, SessionStatus, StatusCall};
use crate::session::{Millis, NodeName, Record, SessionId};
use crate::store::Resident;

/// One of so many sessions that are told is one of the most used.
const HOT_SHARE: usize = 4;
/// Most sessions that are told.
const MOST: usize = 1024;

impl Node {
    /// How this node is, with what else is wanted. While its store does not answer, that is
    /// what there is to say: no session is listed.
    pub(crate) async fn told(&self, wanted: &StatusCall) -> Outcome<NodeStatus> {
        let mut status = self.status().await;
        status.listed = match self.listed(wanted.below.as_ref(), wanted.max_sessions).await {
            Ok(listed) => listed,
            Err(_) if status.store != "ok" => Vec::new(),
            Err(failure) => return Err(failure),
        };
        status.moved = self.moved(wanted.max_moves);
        Ok(status)
    }

    /// What `/_/status` answers if nothing else is wanted.
    pub async fn status(&self) -> NodeStatus {
        let counts = self.store.counts().await;
        // The count may lag; what is really in doubt is looked up.
        let pending = self.store.pending(1024).await.map_or(0, |found| found.len() as u64);
        let status = self.offload_status().await.unwrap_or_default();
        // Another replica may have been told to drain, or this process before it ended.
        if let Err(failure) = self.refresh_drain().await {
            tracing::debug!(
                node = %self.here(), function = %self.config.function, %failure,
                "whether it is drained is not known"
            );
        }
        let store = counts.as_ref().err().map_or_else(|| "ok".to_owned(), ToString::to_string);
        let restore = match self.is_restoring() {
            true => Some(self.restore_status().await.unwrap_or_default()),
            false => None,
        };
        let counts = counts.unwrap_or_default();
        NodeStatus {
            node: self.here().clone(),
            function: self.config.function.clone(),
            replica: self.restore.replica(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_version: self.config.wire_version.number(),
            sessions: counts.resident,
            pending,
            in_flight: self.in_flight.load(Ordering::Relaxed) as u64,
            moves: self.local.pulls() as u64,
            leaving: self.moves.leaving() as u64,
            waiting: self.moves.waiting() as u64,
            drain: self.drain_status(counts.resident),
            restore,
            copies: self.local.copies(),
            status,
            promise: format!("{:?}", self.store.promise()).to_lowercase(),
            barred: self.barred.read().iter().cloned().collect(),
            store,
            topology: self.topology_status(),
            activity: Some(self.activity.status()),
            listed: Vec::new(),
            moved: None,
            // They belong to whoever signs for this node.
            peer_keys: Vec::new(),
        }
    }

    /// The last sessions that came to this process by a move, the latest first; `None` if none
    /// is wanted.
    fn moved(&self, most: usize) -> Option<Vec<MovedStatus>> {
        (most > 0).then(|| self.arrivals.last(most))
    }

    /// Some sessions that are here, for whoever chooses which of them move: those that
    /// were not used for the longest time, and those with the most requests of late.
    /// With `below`, only those with their home at that node or below it.
    pub(crate) async fn listed(
        &self,
        below: Option<&NodeName>,
        most: usize,
    ) -> Outcome<Vec<SessionStatus>> {
        let most = most.min(MOST);
        if most == 0 {
            return Ok(Vec::new());
        }
        let homes: Option<Vec<NodeName>> = below.map(|below| {
            self.topology().subtree(below).into_iter().map(|node| node.name.clone()).collect()
        });
        let now = self.store.now().await?;
        let hot = most.div_ceil(HOT_SHARE);
        let mut found: Vec<SessionStatus> = Vec::new();
        for session in self.activity.hottest(hot) {
            let known = self.snapshot(&session).await?;
            let Some(Record::Owned { life, .. }) = &known.slot.record else { continue };
            if homes.as_ref().is_none_or(|homes| homes.contains(&life.home)) {
                let (home, bytes) = (life.home.clone(), known.bytes);
                found.push(self.session_status(session, home, bytes, known.slot.used, now));
            }
        }
        let cold = most - found.len();
        for resident in self.store.residents(homes.as_deref(), cold).await? {
            let Resident { session, home, used, bytes } = resident;
            if found.iter().all(|other| other.session != session) {
                found.push(self.session_status(session, home, bytes, used, now));
            }
        }
        Ok(found)
    }

    fn session_status(
        &self,
        session: SessionId,
        home: NodeName,
        bytes: u64,
        used: Millis,
        now: Millis,
    ) -> SessionStatus {
        let arrived = self.activity.since_arrival(&session);
        SessionStatus {
            home,
            bytes,
            idle_ms: now.saturating_sub(used),
            requests: self.activity.requests(&session),
            arrived_ms: arrived.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            session,
        }
    }
}
