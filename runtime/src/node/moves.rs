//! How many moves go on at once, and what they leave to requests.
//!
//! Bounds are per process. A move takes a place at its target for as long as it is
//! pulled, and one at its source from the intent until the source has let go. One
//! that finds none stands in a line, first come first served; a line that is full
//! refuses ([`Failure::TooManyMoves`]).
//!
//! **What moves take from requests.** Small sessions cost a store a handful of short
//! scripts each, no more than as many requests would; what hurts is their number. So
//! a move takes two places while requests are being answered, and one while none
//! are: a node at work gives its moves half of what an idle one does. Measured, three
//! nodes of a debug build and eight clients on two busy cores, 400 small sessions: with
//! 1, 2, 4, 8, 32 moves at once a request's median was 12, 13, 16, 23, 57 ms (5 without
//! any; the 99th percentile 230, 210, 190, 220, 500), and all had left after 44, 29, 15,
//! 12, 13 s. Four, half of what a pair has, is where moves gain little more and requests
//! begin to pay. Large sessions hurt by their pages: one keeps a store's only thread for milliseconds, and eight
//! moves that ask for one each make a request wait for all eight. So one page at a
//! time goes through the store while requests are being answered, two else (the
//! second is on its way while the first is read), and a request waits for one page
//! at most, however many moves go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Failure, Node, NodeConfig, Outcome};
use crate::session::{NodeName, Nonce, SessionId};

/// When whoever finds the line full should come again.
pub(super) const COME_AGAIN: Duration = Duration::from_secs(1);

/// Pages that go through the store at once when nobody else needs it.
const PAGES: usize = 2;

/// What a move needs of a node: places, with the other node and in all.
#[derive(Debug)]
struct Gate {
    places: u32,
    all: Arc<Semaphore>,
    places_a_pair: u32,
    /// By the other node. As many as the topology has nodes.
    pairs: Mutex<BTreeMap<NodeName, Arc<Semaphore>>>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// The places of one move; given back when dropped.
#[derive(Debug)]
pub(super) struct Places {
    _pair: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// A move that leaves this node.
#[derive(Debug)]
struct Leaving {
    nonce: Nonce,
    _places: Places,
    heard: Instant,
}

/// The moves of one function at one node, as this process sees them.
#[derive(Debug)]
pub(super) struct Moves {
    incoming: Gate,
    outgoing: Gate,
    leaving: Mutex<BTreeMap<SessionId, Leaving>>,
    pages: Semaphore,
    /// Requests that the node had taken in when it was asked last.
    taken_in: AtomicUsize,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    fn new(places: usize, places_a_pair: usize, most_waiting: usize) -> Self {
        let fits = |places: usize| u32::try_from(places.max(1)).unwrap_or(u32::MAX);
        let (places, places_a_pair) = (fits(places), fits(places_a_pair));
        Self {
            places,
            all: Arc::new(semaphore(places)),
            places_a_pair,
            pairs: Mutex::default(),
            waiting: AtomicUsize::new(0),
            most_waiting,
        }
    }

    fn pair(&self, with: &NodeName) -> Arc<Semaphore> {
        let mut pairs = self.pairs.lock();
        let new = || Arc::new(semaphore(self.places_a_pair));
        Arc::clone(pairs.entry(with.clone()).or_insert_with(new))
    }

    /// Waits for the places of one move. First those of the pair: whoever waits for
    /// one node holds nobody up who moves with another.
    async fn enter(&self, with: &NodeName, share: u32) -> Result<Places, Failure> {
        let pair = self.pair(with);
        let (of_pair, of_all) = (share.min(self.places_a_pair), share.min(self.places));
        // Tokio's semaphores are fair: this fails while anybody waits.
        if let Ok(pair) = Arc::clone(&pair).try_acquire_many_owned(of_pair)
            && let Ok(all) = Arc::clone(&self.all).try_acquire_many_owned(of_all)
        {
            return Ok(Places { _pair: pair, _all: all });
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Failure::TooManyMoves);
        }
        let waiting = Waiting(&self.waiting);
        let closed = |_| Failure::MoveFailed("the node is stopping".to_owned());
        let pair = pair.acquire_many_owned(of_pair).await.map_err(closed)?;
        let all = Arc::clone(&self.all).acquire_many_owned(of_all).await.map_err(closed)?;
        drop(waiting);
        Ok(Places { _pair: pair, _all: all })
    }
}

fn semaphore(places: u32) -> Semaphore {
    Semaphore::new(usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))
}

impl Moves {
    pub(super) fn new(config: &NodeConfig) -> Self {
        let gate = |most| Gate::new(most, config.max_moves_pair, config.max_moves_waiting);
        Self {
            incoming: gate(config.max_moves_in),
            outgoing: gate(config.max_moves_out),
            leaving: Mutex::default(),
            pages: Semaphore::new(PAGES),
            taken_in: AtomicUsize::new(0),
        }
    }

    /// The source has agreed to a move: it keeps its places until it is over.
    pub(super) fn leaves(&self, session: &SessionId, nonce: Nonce, places: Option<Places>) {
        if let Some(places) = places {
            let leaving = Leaving { nonce, _places: places, heard: Instant::now() };
            self.leaving.lock().insert(session.clone(), leaving);
        }
    }

    /// The source heard of a move.
    pub(super) fn heard(&self, session: &SessionId) {
        if let Some(leaving) = self.leaving.lock().get_mut(session) {
            leaving.heard = Instant::now();
        }
    }

    /// The session has left, or stays.
    pub(super) fn over(&self, session: &SessionId) {
        self.leaving.lock().remove(session);
    }

    /// This attempt has come to nothing, or is over; another one keeps its places.
    pub(super) fn attempt_over(&self, session: &SessionId, nonce: Nonce) {
        let mut leaving = self.leaving.lock();
        if leaving.get(session).is_some_and(|known| known.nonce == nonce) {
            leaving.remove(session);
        }
    }

    /// Gives back the places of moves that were not heard of for `long`: another
    /// replica heard their end, or whoever was in doubt asked. `hears` knows of more
    /// than their pages.
    pub(super) fn forget_silent(&self, long: Duration, hears: impl Fn(&SessionId, Nonce) -> bool) {
        self.leaving.lock().retain(|session, leaving| {
            leaving.heard.elapsed() < long || hears(session, leaving.nonce)
        });
    }

    /// Moves that leave, as far as this process heard.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.lock().len()
    }

    /// Moves that wait for a place.
    pub(super) fn waiting(&self) -> usize {
        let waiting = |gate: &Gate| gate.waiting.load(Ordering::Relaxed);
        waiting(&self.incoming) + waiting(&self.outgoing)
    }
}

impl Node {
    /// How many places a move takes now.
    fn share(&self) -> u32 {
        if self.in_flight.load(Ordering::Relaxed) == 0 { 1 } else { 2 }
    }

    /// Whether there are requests here, or were since this was asked last.
    pub(super) fn has_requests(&self) -> bool {
        let taken_in = self.taken_in.load(Ordering::Relaxed);
        let before = self.moves.taken_in.swap(taken_in, Ordering::Relaxed);
        taken_in != before || self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Waits until a session may be pulled from `source`.
    pub(super) async fn may_arrive(&self, source: &NodeName) -> Outcome<Places> {
        self.moves.incoming.enter(source, self.share()).await
    }

    /// Waits until a session may leave for `target`; not for long, since that waits
    /// with a place of its own. No places if this very move has its own already.
    pub(super) async fn may_leave(
        &self,
        target: &NodeName,
        session: &SessionId,
        nonce: Nonce,
    ) -> Outcome<Option<Places>> {
        // The target asks again after a lost answer.
        if self.moves.leaving.lock().get(session).is_some_and(|known| known.nonce == nonce) {
            return Ok(None);
        }
        let entering = self.moves.outgoing.enter(target, self.share());
        let places = tokio::time::timeout(self.config.peer_timeout / 2, entering).await;
        places.map_err(|_| Failure::TooManyMoves)?.map(Some)
    }

    /// Does what brings a page through the store, when it is its turn.
    pub(super) async fn page<T>(&self, work: impl Future<Output = T>) -> T {
        // It is never closed; without a turn the page goes at once.
        let _turn = self.moves.pages.acquire_many(self.share()).await;
        work.await
    }

    /// How many sessions this node offers at once while it is drained.
    pub(super) fn offers_at_once(&self) -> usize {
        let places = self.moves.outgoing.places.min(self.moves.outgoing.places_a_pair);
        usize::try_from((places / self.share()).max(1)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[tokio::test]
    async fn places_are_bounded_in_all_and_for_each_pair() {
        let gate = Arc::new(Gate::new(3, 2, 16));
        let (milan, rome) = (name("milan"), name("rome"));
        let first = gate.enter(&milan, 1).await.unwrap();
        let second = gate.enter(&milan, 1).await.unwrap();
        // Milan's are taken, rome's are not.
        let (waits, with) = (Arc::clone(&gate), milan.clone());
        let third = tokio::spawn(async move { waits.enter(&with, 1).await.unwrap() });
        while gate.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let of_rome = gate.enter(&rome, 1).await.unwrap();
        assert!(!third.is_finished());
        drop(first);
        let third = third.await.unwrap();
        assert_eq!(gate.all.available_permits(), 0);
        drop((second, third, of_rome));
        assert_eq!(gate.all.available_permits(), 3);
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_line_is_fair_and_a_full_one_refuses() {
        let gate = Arc::new(Gate::new(1, 1, 2));
        let milan = name("milan");
        let held = gate.enter(&milan, 1).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..2 {
            let (waits, with, order) = (Arc::clone(&gate), milan.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _places = waits.enter(&with, 1).await.unwrap();
                order.lock().push(number);
            }));
            // Let it stand in line before the next one does.
            while gate.waiting.load(Ordering::Relaxed) != number + 1 {
                tokio::task::yield_now().await;
            }
        }
        assert!(matches!(gate.enter(&milan, 1).await, Err(Failure::TooManyMoves)));
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), [0, 1]);
        gate.enter(&milan, 1).await.unwrap();
    }

    #[tokio::test]
    async fn a_move_at_a_busy_node_takes_two_places_where_there_are_two() {
        let gate = Gate::new(4, 4, 0);
        let milan = name("milan");
        let one = gate.enter(&milan, 2).await.unwrap();
        let two = gate.enter(&milan, 2).await.unwrap();
        assert!(matches!(gate.enter(&milan, 1).await, Err(Failure::TooManyMoves)));
        drop((one, two));
        let narrow = Gate::new(1, 1, 0);
        narrow.enter(&milan, 2).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn places_of_silent_moves_come_back() {
        let config =
            NodeConfig::new(name("milan"), crate::session::FunctionName::new("f").unwrap());
        let moves = Moves::new(&NodeConfig { max_moves_out: 2, ..config });
        let [one, two] = ["1", "2"].map(|id| SessionId::new(id).unwrap());
        for session in [&one, &two] {
            let places = moves.outgoing.enter(&name("italy"), 1).await.unwrap();
            moves.leaves(session, Nonce(1), Some(places));
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        moves.heard(&two);
        let long = Duration::from_secs(2);
        moves.forget_silent(long, |session, _| *session == one);
        assert_eq!(moves.leaving(), 2);
        moves.forget_silent(long, |_, _| false);
        assert_eq!((moves.leaving(), moves.outgoing.all.available_permits()), (1, 1));
        moves.over(&two);
        moves.over(&two);
        assert_eq!((moves.leaving(), moves.outgoing.all.available_permits()), (0, 2));
    }
}
