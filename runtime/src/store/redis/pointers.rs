//! Pointers that this process has seen, for redirects that cost the store next to
//! nothing and are never older than it.
//!
//! The store keeps a *turn* beside its pointers: a random text that every change of
//! any of them replaces, in the same script. A pointer that was read together with a
//! turn is what the store has as long as it has that turn, whoever else writes to
//! it. So a redirect asks for the turn, after it was asked itself; all who ask at
//! the same time ask once. In a cluster one turn cannot be changed together with
//! all pointers, so that there each is asked for (ADR 0013).

use std::sync::Arc;

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Core;
use super::gather::Gather;
use super::recent::Recent;
use super::reply;
use super::scripts::Script;
use super::servers::Servers;
use super::shard::Shard;
use super::steps::loaded;
use crate::session::{Millis, Record, SessionId, Slot};
use crate::store::{Begun, Snapshot, StoreError, StoreResult};

/// How many pointers are kept.
const MOST: usize = 65_536;

type Turn = Arc<str>;

/// A pointer as it was read.
#[derive(Debug, Clone)]
struct Pointer {
    slot: Arc<Slot>,
    /// The store's clock then, and this process's.
    at: (Millis, Instant),
    /// Under which turn; `None` if it was not asked.
    turn: Option<Turn>,
}

/// What is known of pointers.
#[derive(Debug)]
pub(super) struct Pointers {
    known: Recent<Pointer>,
    /// Those who want to know the turn.
    asking: Gather<oneshot::Sender<StoreResult<Turn>>>,
    /// As it was said last.
    last: Mutex<Option<Turn>>,
}

impl Default for Pointers {
    fn default() -> Self {
        Self { known: Recent::new(MOST), asking: Gather::new(1), last: Mutex::default() }
    }
}

/// Whether a slot is a pointer.
pub(super) fn is_pointer(slot: &Slot) -> bool {
    matches!(slot.record, Some(Record::Moved { .. }))
}

impl Core {
    /// The key of the turn, where a script can reach it and any session.
    pub(super) fn turn_key(&self) -> Option<String> {
        matches!(self.servers, Servers::One(_)).then(|| self.keys.turn())
    }

    /// A script, not a command: after a restart it is not known (NOSCRIPT).
    fn turn_call(&self) -> Cmd {
        let mut cmd = self.scripts.start(Script::Turn, 1, 64);
        cmd.arg(self.keys.turn());
        cmd
    }

    /// Notes that a session is a pointer: the next request looks at it as one.
    pub(super) fn note_pointer(&self, session: &SessionId, slot: &Slot, now: Millis) {
        // A cluster has no turn, and is asked each time.
        if is_pointer(slot) && matches!(self.servers, Servers::One(_)) {
            let at = (now, Instant::now());
            let pointer = Pointer { slot: Arc::new(slot.clone()), at, turn: None };
            self.pointers.known.put(session, pointer, 1);
        }
    }

    /// What the store says to a request in a session that is a pointer, as far as is
    /// known here; `None` if it is none (any more).
    pub(super) async fn pointed(&self, session: &SessionId) -> StoreResult<Option<Begun>> {
        let Servers::One(shard) = &self.servers else { return Ok(None) };
        let Some(Pointer { slot, at, turn }) = self.pointers.known.get(session) else {
            return Ok(None);
        };
        // If it is outdated for sure, it is read anew right away.
        let last = self.pointers.last.lock().clone();
        if turn.is_some() && turn == last && turn == Some(self.turn(shard).await?) {
            let since = u64::try_from(at.1.elapsed().as_millis()).unwrap_or(0);
            return Ok(Some(Begun::Other { slot: Slot::clone(&slot), now: at.0 + since }));
        }
        let mut pipe = Pipeline::with_capacity(3);
        // The turn before and after: a pointer that changes in between has neither.
        pipe.add_command(self.turn_call());
        pipe.add_command(self.load_call(session, None));
        pipe.add_command(self.turn_call());
        let mut answers = shard.link.pipe(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let turn = reply::text(next()?)?;
        let Snapshot { slot, now, .. } = loaded(next()?)?.snapshot;
        let unchanged = turn == reply::text(next()?)?;
        if !is_pointer(&slot) {
            self.pointers.known.forget(session);
            return Ok(None);
        }
        let turn: Option<Turn> = (unchanged && !turn.is_empty()).then(|| turn.into());
        self.pointers.last.lock().clone_from(&turn);
        let pointer = Pointer { slot: Arc::new(slot.clone()), at: (now, Instant::now()), turn };
        self.pointers.known.put(session, pointer, 1);
        Ok(Some(Begun::Other { slot, now }))
    }

    /// The turn that the store has at some moment after this call.
    async fn turn(&self, shard: &Arc<Shard>) -> StoreResult<Turn> {
        let (sender, receiver) = oneshot::channel();
        if self.pointers.asking.join(sender)
            && let Some(core) = self.this.upgrade()
        {
            let shard = Arc::clone(shard);
            tokio::spawn(async move { core.ask_for_turns(&shard).await });
        }
        let ended = || StoreError::Unavailable("the process is ending".to_owned());
        receiver.await.map_err(|_| ended())?
    }

    /// Asks until nobody waits. Who comes while a question is under way is
    /// answered by the next one.
    async fn ask_for_turns(&self, shard: &Shard) {
        let mut asker = self.pointers.asking.asker();
        while let Some(waiting) = asker.next(|_| true).await {
            let turn = match shard.link.call(&self.turn_call()).await {
                Ok(turn) => reply::text(turn).map(Turn::from),
                Err(error) => Err(error),
            };
            if let Ok(turn) = &turn {
                *self.pointers.last.lock() = Some(turn.clone());
            }
            for one in waiting {
                let _ = one.send(turn.clone());
            }
        }
    }
}
