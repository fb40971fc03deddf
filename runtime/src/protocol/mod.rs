//! The session protocol: what a node's store does with each event, as pure
//! functions. No I/O, no clock, no randomness: time, ids and names come in as
//! arguments, so that the stores, the model checker and the simulator run the
//! same code.
//!
//! - [`begin()`](begin()): may this request run, or where should it go?
//! - [`commit()`](commit()), [`release`]: its turn ends, with or without writing
//! - [`step`]: every other event, dispatched to
//!   - `moves`: open, agree, freeze, install, settle
//!   - `recovery`: ask, answer, restart, abandon, superseded
//!   - `ending`: pointers, home, expiry
//!   - `restore`: a store that was put back to a backup
//! - [`violations`]: what must hold of a slot after each step
//!
//! The rules that make late, lost and repeated messages harmless are numbered
//! in `docs/protocol.md`; comments here name them.

mod begin;
mod commit;
mod ending;
mod event;
mod invariants;
mod moves;
mod recovery;
mod restore;
#[cfg(test)]
mod tests;

pub use begin::{Access, Begin, BeginAsk, Busy, begin};
pub use commit::{Turn, commit, release};
pub use event::{Event, Payload, Refusal, Reply, Step};
pub use invariants::violations;
pub use moves::{pointer_is_needed, went_on};
pub use restore::{BEYOND, Fate, Named, unconfirmed};

use crate::session::{Millis, NodeName, Slot};

/// Applies `event` to what the store of node `here` knows, at `now` on that
/// store's clock. A refusal changes nothing.
pub fn step(slot: &Slot, here: &NodeName, now: Millis, event: &Event) -> Result<Step, Refusal> {
    match event {
        Event::OpenPull(pull) => moves::open_pull(slot, here, pull),
        Event::ClosePull { nonce } => Ok(moves::close_pull(slot, *nonce)),
        Event::Agree { life, transfer } => moves::agree(slot, here, life, transfer),
        Event::Freeze { nonce, wait_until } => moves::freeze(slot, now, *nonce, *wait_until),
        Event::Install { pull } => moves::install(slot, here, now, pull),
        Event::Done { life, epoch, to } => moves::done(slot, here, now, life, *epoch, to),
        Event::Settled { epoch } => Ok(moves::settled(slot, *epoch)),
        Event::Ask { life, transfer } => Ok(recovery::ask(slot, life, transfer)),
        Event::Answer { transfer, installed } => {
            Ok(recovery::answer(slot, here, now, transfer, *installed))
        }
        Event::StoreRestarted => Ok(recovery::store_restarted(slot)),
        Event::Abandon { lost } => recovery::abandon(slot, here, lost),
        Event::Superseded { epoch, by_epoch, to } => {
            Ok(recovery::superseded(slot, now, *epoch, *by_epoch, to))
        }
        Event::HomeUpdate { life, epoch, to } => {
            ending::home_update(slot, here, now, life, *epoch, to)
        }
        Event::HomeExpired { life, epoch } => ending::home_expired(slot, life, *epoch),
        Event::Told { epoch } => Ok(ending::told(slot, *epoch)),
        Event::Expire { unused_since } => ending::expire(slot, here, now, *unused_since),
        Event::Rehome { life, new } => ending::rehome(slot, here, now, life, new),
        Event::ExpiryTold { epoch } => Ok(ending::expiry_told(slot, *epoch)),
        Event::Age { epoch, since } => ending::age(slot, here, *epoch, *since),
        Event::Refresh { life, epoch, to } => {
            Ok(ending::refresh(slot, here, now, life, *epoch, to))
        }
        Event::Restore { named, asked } => Ok(restore::restore(slot, here, now, named, asked)),
    }
}
