//! The line of requests in front of each session, first come first served.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::session::SessionId;

const SHARDS: usize = 64;

/// One session's line.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Tokio's mutex is fair: waiters are served in the order they came.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// In front of that: clients that need a seat, too.
    first: Arc<tokio::sync::Mutex<()>>,
    changed: Notify,
    waiting: AtomicUsize,
}

/// All lines of a node. A line exists while somebody stands in it.
#[derive(Debug)]
pub(super) struct Lines {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    /// And how many stand in each.
    lines: HashMap<SessionId, (Arc<Line>, usize)>,
    /// Nobody stands in it: the next line to begin. Most have one request, and end with it.
    spare: Option<Arc<Line>>,
}

/// A place in a line; leaving it forgets a line that nobody stands in.
#[derive(Debug)]
pub(super) struct Place {
    lines: Arc<Lines>,
    session: SessionId,
    line: Arc<Line>,
}

/// It is this request's turn, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// This request is the first of its session's clients, until this is dropped.
#[derive(Debug)]
pub(super) struct First {
    _guard: OwnedMutexGuard<()>,
}

/// Why a request did not get its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// The line is too long.
    Full,
    /// It took too long.
    Late,
}

impl Line {
    /// Whether nobody has a turn in it any more.
    fn is_free(&self) -> bool {
        Arc::strong_count(&self.turn) == 1 && Arc::strong_count(&self.first) == 1
    }
}

impl Lines {
    pub(super) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { hasher: RandomState::new(), shards })
    }

    fn shard(&self, session: &SessionId) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(session) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }

    /// Steps into the session's line.
    pub(super) fn stand(self: &Arc<Self>, session: &SessionId) -> Place {
        let mut shard = self.shard(session).lock();
        let Shard { lines, spare } = &mut *shard;
        let begin = || (spare.take().unwrap_or_default(), 0);
        let (line, standing) = lines.entry(session.clone()).or_insert_with(begin);
        *standing += 1;
        Place { lines: Arc::clone(self), session: session.clone(), line: Arc::clone(line) }
    }

    /// Wakes everybody who waits for the session's record to change.
    pub(super) fn changed(&self, session: &SessionId) {
        if let Some((line, _)) = self.shard(session).lock().lines.get(session) {
            line.changed.notify_waiters();
        }
    }
}

impl Place {
    /// Whose line it is.
    pub(super) fn session(&self) -> &SessionId {
        &self.session
    }

    /// This request's turn, if nobody is before it.
    pub(super) fn turn_at_once(&self) -> Option<Turn> {
        let guard = Arc::clone(&self.line.turn).try_lock_owned().ok()?;
        Some(Turn { _guard: guard })
    }

    /// Waits for this request's turn.
    pub(super) async fn turn(&self, most: usize, until: Instant) -> Result<Turn, NoTurn> {
        self.wait(&self.line.turn, most, until).await.map(|guard| Turn { _guard: guard })
    }

    /// Waits until this request is the first of its session's clients.
    pub(super) async fn first(&self, most: usize, until: Instant) -> Result<First, NoTurn> {
        self.wait(&self.line.first, most, until).await.map(|guard| First { _guard: guard })
    }

    async fn wait(
        &self,
        lock: &Arc<tokio::sync::Mutex<()>>,
        most: usize,
        until: Instant,
    ) -> Result<OwnedMutexGuard<()>, NoTurn> {
        if let Ok(guard) = Arc::clone(lock).try_lock_owned() {
            return Ok(guard);
        }
        if self.line.waiting.fetch_add(1, Ordering::Relaxed) >= most {
            self.line.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(NoTurn::Full);
        }
        let _waiting = Waiting(&self.line.waiting);
        timeout_at(until, Arc::clone(lock).lock_owned()).await.map_err(|_| NoTurn::Late)
    }

    /// Ends when this process changes the record, counted from this call on.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.line.changed.notified()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.lines.shard(&self.session).lock();
        let Some((_, standing)) = shard.lines.get_mut(&self.session) else { return };
        *standing -= 1;
        if *standing == 0 {
            let ended = shard.lines.remove(&self.session).map(|(line, _)| line);
            shard.spare = ended.filter(|line| line.is_free());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn turns_are_first_come_first_served_and_lines_are_forgotten() {
        let lines = Lines::new();
        let session = SessionId::new("s").unwrap();
        let soon = Instant::now() + Duration::from_secs(5);
        let first = lines.stand(&session);
        let turn = first.turn(2, soon).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for index in 0..2 {
            let place = lines.stand(&session);
            let order = Arc::clone(&order);
            tasks.push(tokio::spawn(async move {
                let _turn = place.turn(2, soon).await.unwrap();
                order.lock().push(index);
            }));
            // Let it stand in line before the next one does.
            while first.line.waiting.load(Ordering::Relaxed) != index + 1 {
                tokio::task::yield_now().await;
            }
        }
        let late = lines.stand(&session);
        assert_eq!(late.turn(2, soon).await.err(), Some(NoTurn::Full));
        assert_eq!(late.turn(9, Instant::now()).await.err(), Some(NoTurn::Late));
        drop((turn, first, late));
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), [0, 1]);
        assert!(lines.shards.iter().all(|shard| shard.lock().lines.is_empty()));
    }

    #[test]
    fn no_line_stays_when_many_come_and_go_at_once() {
        let lines = Lines::new();
        let sessions = ["a", "b", "c"].map(|id| SessionId::new(id).unwrap());
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (lines, sessions) = (&lines, &sessions);
                scope.spawn(move || {
                    for index in 0..20_000 {
                        drop(lines.stand(&sessions[(turn + index) % sessions.len()]));
                    }
                });
            }
        });
        assert!(lines.shards.iter().all(|shard| shard.lock().lines.is_empty()));
    }
}
