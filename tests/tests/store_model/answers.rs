//! A call on a store, and everything that can be asked of it afterwards.

use std::time::Duration;

use bytes::Bytes;
use funicular::protocol::{Access, BeginAsk, violations};
use funicular::session::fields::FieldMap;
use funicular::session::packet::{Totals, WindowItem};
use funicular::session::{
    Digest, Epoch, Incarnation, LeaseId, Life, Nonce, Page, Record, SessionId, Slot, WindowEntry,
};
use funicular::store::{
    BeginRequest, Begun, Commit, Durability, Read, ReadGuard, Session, Snapshot,
};
use funicular_tests::bench::{Bench, request, response};

use crate::calls::{Call, life};
use crate::events::event;

/// What two stores with clocks of their own must agree on.
#[derive(Debug, PartialEq)]
pub(crate) struct Known {
    slot: Slot,
    live: bool,
    freeze_waits: bool,
    version: u64,
    bytes: u64,
    fields: u64,
    window: u64,
}

fn known(snapshot: &Snapshot) -> Known {
    let Snapshot { slot, now, version, bytes, fields, window } = snapshot;
    let live = slot.live_lease(*now).is_some();
    let freeze_waits = slot.freeze_waits(*now);
    let mut slot = slot.clone();
    if let Some(Record::Moved { since, .. }) = &mut slot.record {
        *since = 0;
    }
    if let Some(lease) = &mut slot.lease {
        lease.until = 0;
    }
    slot.freeze_until = slot.freeze_until.map(|_| 0);
    slot.used = u64::from(slot.used > 0);
    Known {
        slot,
        live,
        freeze_waits,
        version: *version,
        bytes: *bytes,
        fields: *fields,
        window: *window,
    }
}

/// A turn that was taken on both stores.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    lease: LeaseId,
    life: Life,
    epoch: Epoch,
}

/// What one case has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) turns: Vec<Turn>,
    pub(crate) calls: u64,
}

impl Past {
    /// One of the last three turns, or one that never was.
    fn turn(&self, back: u8) -> Turn {
        let place = self.turns.len().checked_sub(1 + usize::from(back));
        place.map_or(Turn { lease: LeaseId(0), life: life(0), epoch: 1 }, |p| self.turns[p].clone())
    }
}

fn brief(brief: bool) -> u64 {
    if brief { 0 } else { 60_000 }
}

/// Small pages of which three are whole.
fn page(nonce: u8, large: bool, totals: bool, lie: bool) -> Page {
    let value = if large { Bytes::from(vec![1; 1000]) } else { Bytes::from("v") };
    let entry = WindowEntry {
        digest: Digest([1; 32]),
        lease: LeaseId(77),
        at: 5,
        response: response("moved"),
    };
    let fields = vec![("sa".to_owned(), value), (format!("s{nonce}"), "w".into())];
    let bytes: u64 = fields.iter().map(|(field, value)| (field.len() + value.len()) as u64).sum();
    let totals = totals.then_some(Totals {
        fields: 2,
        bytes: bytes + u64::from(lie),
        version: 9,
        window: 1,
        outbox: 0,
        idle: 10,
    });
    let window = vec![WindowItem { id: request("r1"), age: 10, entry }];
    Page { fields, removed: vec!["sz".into()], window, totals, ..Page::default() }
}

async fn begin(bench: &Bench, id: &SessionId, call: &Call, past: &Past) -> (String, Option<Turn>) {
    let Call::Begin { write, create, brief: short, frozen, quiet, request: name, inline } = call
    else {
        unreachable!("it begins")
    };
    let lease = LeaseId(1000 + u128::from(past.calls));
    let ask = BeginAsk {
        access: if *write { Access::Write } else { Access::Read },
        create: create.map(|number| Incarnation(number.into())),
        lease,
        lease_ttl: brief(*short),
        frozen_reads: *frozen,
        unsettled_writes: quiet.map(u64::from),
    };
    let name = name.map(|number| request(&format!("r{number}")));
    let asked = BeginRequest { ask, request: name, inline_max: (*inline).into() };
    match bench.store.begin(id, &asked).await.unwrap() {
        Begun::Run(run) => {
            // Each store has its own way to name a state, and needs no other.
            let text = format!("{:?}", Session { last: None, ..run.clone() });
            (text, Some(Turn { lease, life: run.life, epoch: run.epoch }))
        }
        Begun::Replay { entry, life, epoch } => {
            let entry = WindowEntry { at: 0, ..entry };
            (format!("{entry:?} {life:?} {epoch}"), None)
        }
        Begun::Other { slot, now } => {
            let snapshot = Snapshot { slot, now, ..Snapshot::default() };
            (format!("{:?}", known(&snapshot)), None)
        }
    }
}

fn commit(id: &SessionId, call: &Call, past: &Past) -> Commit {
    let Call::Commit { turn, wrong, data, outbox, remember, most } = call else {
        unreachable!("it commits")
    };
    let Turn { lease, mut life, mut epoch } = past.turn(*turn);
    match wrong {
        0 => epoch += 1,
        1 => life.incarnation = Incarnation(9),
        _ => {}
    }
    let turn = funicular_tests::bench::Turn {
        id: id.clone(),
        lease,
        session: Session {
            life,
            epoch,
            version: 0,
            bytes: 0,
            data: None,
            last: None,
            created: false,
        },
    };
    Commit {
        data: data.clone(),
        outbox: (0..*outbox).map(|index| turn.message(index.into(), "m")).collect(),
        remember: remember.map(|number| {
            let name = format!("r{number}");
            (request(&name), Digest([number; 32]), response(&name))
        }),
        max_bytes: *most,
        ..turn.commit()
    }
}

fn reading(call: &Call, past: &Past) -> (ReadGuard, Read) {
    let Call::Read { turn, version, frozen, what } = call else { unreachable!("it reads") };
    let last = past.turn(0);
    let guard = match turn {
        Some(back) => ReadGuard::Lease(past.turn(*back).lease),
        None => ReadGuard::Version {
            life: last.life,
            epoch: last.epoch,
            version: (*version).into(),
            frozen: *frozen,
        },
    };
    let read = match what {
        0 => Read::Value("a".into()),
        1 => Read::List("a".into()),
        2 => Read::ListLen("a".into()),
        3 => Read::List(String::new()),
        _ => Read::Keys,
    };
    (guard, read)
}

/// One call on one store; the answer as a text in which no time stands.
pub(crate) async fn run(
    bench: &Bench,
    id: &SessionId,
    call: &Call,
    past: &Past,
) -> (String, Option<Turn>) {
    let store = &bench.store;
    let answer = match call {
        Call::Begin { .. } => return begin(bench, id, call, past).await,
        Call::Commit { .. } => {
            format!("{:?}", store.commit(id, &commit(id, call, past)).await.unwrap())
        }
        Call::Release { turn } => {
            store.release(id, past.turn(*turn).lease).await.unwrap();
            String::new()
        }
        Call::Renew { turn, brief: short } => {
            let ttl = Duration::from_millis(brief(*short));
            format!("{}", store.renew(id, past.turn(*turn).lease, ttl).await.unwrap())
        }
        Call::Read { .. } => {
            let (guard, read) = reading(call, past);
            let found = store.read(id, &guard, &read).await.unwrap();
            // Of keys only the names count.
            let names =
                |map: FieldMap| map.into_keys().map(|field| (field, Bytes::new())).collect();
            let found = if read == Read::Keys { found.map(names) } else { found };
            format!("{found:?}")
        }
        Call::Delivered { turn, index } => {
            let entry = format!("{}-{index}", past.turn(*turn).lease);
            store.delivered(id, &entry).await.unwrap();
            String::new()
        }
        Call::Stage { nonce, large, totals, lie } => {
            let page = page(*nonce, *large, *totals, *lie);
            format!("{:?}", store.stage(id, Nonce((*nonce).into()), &page).await.unwrap())
        }
        other => match event(other, &bench.snapshot(id).await) {
            Some(event) => {
                format!("{:?}", store.step(id, &event, Durability::Eventual).await.unwrap())
            }
            None => String::new(),
        },
    };
    (answer, None)
}

/// Everything that can be asked of a store about a session.
pub(crate) async fn all(bench: &Bench, id: &SessionId) -> (Known, String) {
    let store = &bench.store;
    let snapshot = bench.snapshot(id).await;
    assert_eq!(violations(&snapshot.slot, &bench.node), Vec::<&str>::new());
    let mut window = Vec::new();
    for number in 0..3 {
        let entry = store.remembered(id, &request(&format!("r{number}"))).await.unwrap();
        window.push(entry.map(|entry| WindowEntry { at: 0, ..entry }));
    }
    let mut pages = Vec::new();
    if let Some(Record::Migrating { transfer, .. }) = &snapshot.slot.record {
        let mut cursor: Option<String> = None;
        loop {
            let page = store.export(id, transfer.nonce, cursor.as_deref()).await.unwrap().unwrap();
            pages.extend(page.window.into_iter().map(|item| item.id));
            cursor = page.next;
            if cursor.is_none() {
                let totals = page.totals.map(|totals| Totals { idle: 0, ..totals });
                window.push(None);
                pages.push(request(&format!("{totals:?}").replace(' ', "")));
                break;
            }
        }
    }
    let mut pending = store.pending(10).await.unwrap();
    pending.sort();
    let pointers = store.old_pointers(u64::MAX >> 12, 10).await.unwrap();
    let dump = store.dump(id).await.unwrap();
    let digest = dump.map(|map| {
        let short = |bytes: &Bytes| bytes.slice(..bytes.len().min(20));
        map.iter()
            .map(|(field, value)| (field.clone(), value.len(), short(value)))
            .collect::<Vec<_>>()
    });
    let outbox = store.outbox(id, 10).await.unwrap();
    let rest = format!("{window:?} {pages:?} {pending:?} {pointers:?} {digest:?} {outbox:?}");
    (known(&snapshot), rest)
}
