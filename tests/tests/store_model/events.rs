//! The protocol event that a call stands for, given what a store knows.

use funicular::protocol::Event;
use funicular::session::{Nonce, Pull, Record, Slot, Transfer};
use funicular::store::Snapshot;
use funicular_tests::bench::node;

use crate::calls::{Call, life, place};

/// The pull and the transfer that are open at this moment, else made-up ones.
fn open(slot: &Slot, exact: bool) -> (Pull, Transfer) {
    let made_up = Transfer { to: node("middle"), next_epoch: 2, nonce: Nonce(1) };
    let transfer =
        match &slot.record {
            Some(
                Record::Migrating { transfer, .. } | Record::Owned { intent: Some(transfer), .. },
            ) if exact => transfer.clone(),
            _ => made_up,
        };
    let pull = Pull { life: life(0), next_epoch: 2, from: node("middle"), nonce: Nonce(1) };
    (slot.pull.clone().filter(|_| exact).unwrap_or(pull), transfer)
}

/// The protocol event that a call stands for, given what a store knows.
pub(crate) fn event(call: &Call, at: &Snapshot) -> Option<Event> {
    let (pull, transfer) = match call {
        Call::Install { exact } | Call::Ask { exact, .. } | Call::Answer { exact, .. } => {
            open(&at.slot, *exact)
        }
        _ => open(&at.slot, false),
    };
    let owned = |number: u8| match &at.slot.record {
        Some(record) if number == 0 => record.life().clone(),
        _ => life(number),
    };
    let next = at.slot.record.as_ref().map_or(2, |record| record.epoch() + 1);
    Some(match *call {
        Call::OpenPull { life: of, next, from, nonce } => Event::OpenPull(Pull {
            life: life(of),
            next_epoch: next.into(),
            from: place(from),
            nonce: Nonce(nonce.into()),
        }),
        Call::ClosePull { nonce } => Event::ClosePull { nonce: Nonce(nonce.into()) },
        Call::Agree { life, to, next: given, nonce } => Event::Agree {
            life: owned(life),
            transfer: Transfer {
                to: place(to),
                next_epoch: given.map_or(next, u64::from),
                nonce: Nonce(nonce.into()),
            },
        },
        Call::Freeze { nonce, waits } => Event::Freeze {
            nonce: Nonce(nonce.into()),
            wait_until: if waits { at.now + 60_000 } else { 1 },
        },
        Call::Install { .. } => Event::Install { pull },
        Call::Done { life, epoch, to } => {
            Event::Done { life: owned(life), epoch: epoch.into(), to: place(to) }
        }
        Call::Settled { epoch } => Event::Settled { epoch: epoch.into() },
        Call::Ask { exact, life: of, next, nonce } => {
            let made_up =
                Transfer { to: node("edge"), next_epoch: next.into(), nonce: Nonce(nonce.into()) };
            let ours =
                Transfer { to: node("edge"), next_epoch: pull.next_epoch, nonce: pull.nonce };
            if exact {
                Event::Ask { life: pull.life, transfer: ours }
            } else {
                Event::Ask { life: life(of), transfer: made_up }
            }
        }
        Call::Answer { installed, .. } => Event::Answer { transfer, installed },
        Call::Restarted => Event::StoreRestarted,
        Call::Abandon { lost } => Event::Abandon { lost: place(lost) },
        Call::Superseded { epoch, by, to } if to > 0 => {
            Event::Superseded { epoch: epoch.into(), by_epoch: by.into(), to: place(to) }
        }
        Call::HomeUpdate { life, epoch, to } => {
            Event::HomeUpdate { life: owned(life), epoch: epoch.into(), to: place(to) }
        }
        Call::HomeExpired { life, epoch } => {
            Event::HomeExpired { life: owned(life), epoch: epoch.into() }
        }
        Call::Told { epoch } => Event::Told { epoch: epoch.into() },
        Call::Expire { always } => {
            Event::Expire { unused_since: if always { u64::MAX } else { 0 } }
        }
        Call::Rehome { life: of, new } => Event::Rehome { life: owned(of), new: life(new) },
        Call::ExpiryTold { epoch } => Event::ExpiryTold { epoch: epoch.into() },
        Call::Age { right, epoch } => match &at.slot.record {
            Some(Record::Moved { epoch, since, .. }) if right => {
                Event::Age { epoch: *epoch, since: *since }
            }
            _ => Event::Age { epoch: epoch.into(), since: 3 },
        },
        Call::Refresh { life, epoch, to } => {
            Event::Refresh { life: owned(life), epoch: epoch.into(), to: place(to) }
        }
        _ => return None,
    })
}
