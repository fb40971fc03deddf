//! The calls that were seen already, as long as their signatures are fresh.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::WINDOW_MS;
use crate::session::Nonce;

/// Remembers (time, nonce) of the calls that were accepted, and never more than
/// its capacity.
///
/// When it is full it forgets the oldest calls, and from then on refuses
/// everything as old as those: under a flood the window shrinks, but no replay
/// gets through. It starts empty with its process; a call replayed right after a
/// restart, or to another replica, gets as far as the protocol, where repeats do
/// nothing.
#[derive(Debug)]
pub struct NonceCache {
    capacity: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By time, so that the oldest go first.
    calls: BTreeSet<(u64, u128)>,
    /// Calls of this time (Unix ms) and before may have been forgotten.
    forgotten: Option<u64>,
}

/// Why a call was not let through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Replayed,
    /// So many calls came since that it cannot be known to be new.
    TooOld,
}

impl NonceCache {
    /// Remembers at most `capacity` calls (at least one), about 50 bytes each.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), seen: Mutex::default() }
    }

    /// Lets a call through once. `time` is the call's and `now` ours, in Unix ms;
    /// the caller has checked that they are less than the window apart.
    pub(super) fn admit(&self, time: u64, nonce: Nonce, now: u64) -> Result<(), Refused> {
        let mut seen = self.seen.lock();
        if seen.forgotten.is_some_and(|forgotten| time <= forgotten) {
            return Err(Refused::TooOld);
        }
        if !seen.calls.insert((time, nonce.0)) {
            return Err(Refused::Replayed);
        }
        // What is stale needs no memory: the window refuses it. A clock that is
        // set back later would accept it again, so what went counts as forgotten.
        while let Some(&(oldest, _)) = seen.calls.first()
            && (seen.calls.len() > self.capacity || now.saturating_sub(oldest) > WINDOW_MS)
        {
            seen.calls.pop_first();
            seen.forgotten = seen.forgotten.max(Some(oldest));
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.seen.lock().calls.len()
    }
}

impl Default for NonceCache {
    /// Room for about 4,000 calls a second.
    fn default() -> Self {
        Self::new(1 << 18)
    }
}
