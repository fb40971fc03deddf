//! Moves, as the nodes tell them that they lead to.

use funicular::peers::messages::MovedStatus;
use funicular::session::{FunctionName, NodeName};

use super::{Arrivals, Listing, Memory};
use crate::watch::MOVES;
use crate::watch::view::{Cause, MoveView, SessionView, What};

/// A listing and the news of a move may be under way at the same time: within this the move
/// counts as the newer one, in milliseconds.
const RACE: u64 = 200;
/// A replica that has not answered for so long, while others of its function did, has ended,
/// in milliseconds.
const REPLICA: u64 = 3_600_000;

impl Memory {
    pub(super) fn take_move(
        &mut self,
        to: &NodeName,
        function: &FunctionName,
        replica: &str,
        at_ms: u64,
        moved: &MovedStatus,
        heard_ms: u64,
    ) {
        let replicas = self.arrivals.entry((to.clone(), function.clone())).or_default();
        let next = replicas.get(replica).map(|arrivals| arrivals.next);
        if next.is_some_and(|next| moved.number < next) {
            return;
        }
        // What was before we looked is no loss.
        self.moves_missed += next.map_or(0, |next| moved.number - next);
        replicas.insert(replica.to_owned(), Arrivals { next: moved.number + 1, told_ms: at_ms });
        let hash = moved.session.log_hash();
        let seen = MoveView {
            number: self.moves_seen,
            at_ms: at_ms.saturating_sub(moved.ago_ms),
            function: function.clone(),
            id: moved.session.clone(),
            hash: hash.clone(),
            home: moved.home.clone(),
            from: moved.from.clone(),
            to: to.clone(),
            up: self.topology.in_subtree(to, &moved.from),
            epoch: moved.epoch,
            bytes: moved.bytes,
            took_ms: moved.took_ms,
            downtime_ms: moved.downtime_ms,
            cause: Cause::Unknown,
        };
        self.moves_seen += 1;
        self.relocate(&seen);
        if seen.at_ms >= heard_ms {
            let (function, from, to) = (function.clone(), moved.from.clone(), to.clone());
            self.happened(at_ms, What::Moved { function, session: hash, from, to });
        }
        let later = |other: &MoveView| other.at_ms > seen.at_ms;
        let place = self.moves.iter().position(|other| !later(other)).unwrap_or(self.moves.len());
        self.moves.insert(place, seen);
        self.moves.truncate(MOVES);
    }

    /// A replica that ended never answers again.
    pub(super) fn forget_replicas(
        &mut self,
        node: &NodeName,
        name: FunctionName,
        told: &str,
        at_ms: u64,
    ) {
        let Some(replicas) = self.arrivals.get_mut(&(node.clone(), name)) else { return };
        if let Some(arrivals) = replicas.get_mut(told) {
            arrivals.told_ms = at_ms;
        }
        replicas.retain(|_, arrivals| arrivals.told_ms + REPLICA > at_ms);
    }

    /// Puts a session where a move has brought it, in listings that do not know that yet.
    fn relocate(&mut self, moved: &MoveView) {
        let outdated = |listing: &Listing| listing.at_ms < moved.at_ms + RACE;
        let arrived = |session: SessionView| SessionView {
            arrived_ms: Some(0),
            bytes: moved.bytes,
            moving: None,
            ..session
        };
        let mut carried = None;
        if let Some(listing) = self.listing(&moved.from, &moved.function)
            && outdated(listing)
            && let Some(at) = listing.sessions.iter().position(|it| it.hash == moved.hash)
        {
            carried = Some(listing.sessions.remove(at));
        }
        let Some(listing) = self.listing(&moved.to, &moved.function) else { return };
        if outdated(listing) && listing.sessions.iter().all(|it| it.hash != moved.hash) {
            let session = carried.unwrap_or_else(|| SessionView {
                id: moved.id.clone(),
                hash: moved.hash.clone(),
                home: moved.home.clone(),
                bytes: moved.bytes,
                rate: None,
                idle_ms: 0,
                arrived_ms: None,
                moving: None,
            });
            listing.sessions.insert(0, arrived(session));
        }
    }

    fn listing(&mut self, node: &NodeName, function: &FunctionName) -> Option<&mut Listing> {
        self.nodes.get_mut(node)?.functions.get_mut(function)?.listing.as_mut()
    }
}
