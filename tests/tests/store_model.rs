//! The same random calls on the memory store and on Redis: the answers and what
//! is known afterwards must be the same.
//!
//! `PROPTEST_CASES` sets how many sequences are tried; a failing one is shrunk
//! and printed.

use bytes::Bytes;
use funicular::protocol::{Access, BeginAsk, Event, violations};
use funicular::session::fields::CHUNK;
use funicular::session::packet::{Totals, WindowItem};
use funicular::session::{
    Change, Digest, Epoch, Incarnation, LeaseId, Life, Nonce, Page, Pull, Record, SessionId, Slot,
    Transfer, WindowEntry,
};
use funicular::store::{
    BeginRequest, Begun, Commit, Durability, Read, ReadGuard, Snapshot, WindowLimits,
};
use funicular_tests::bench::{
    Bench, Kind, append, clear, delete, node, request, response, session, set,
};
use proptest::prelude::*;
use std::time::Duration;

const NODES: [&str; 3] = ["edge", "middle", "root"];

/// A call, in small numbers that stand for names, so that calls meet.
#[derive(Debug, Clone)]
enum Call {
    Begin {
        write: bool,
        create: Option<u8>,
        brief: bool,
        frozen: bool,
        quiet: Option<u8>,
        request: Option<u8>,
        inline: u16,
    },
    Commit {
        turn: u8,
        wrong: u8,
        data: Vec<Change>,
        outbox: u8,
        remember: Option<u8>,
        most: u64,
    },
    Release {
        turn: u8,
    },
    Renew {
        turn: u8,
        brief: bool,
    },
    Read {
        turn: Option<u8>,
        version: u8,
        frozen: bool,
        what: u8,
    },
    Delivered {
        turn: u8,
        index: u8,
    },
    OpenPull {
        life: u8,
        next: u8,
        from: u8,
        nonce: u8,
    },
    ClosePull {
        nonce: u8,
    },
    Agree {
        life: u8,
        to: u8,
        next: Option<u8>,
        nonce: u8,
    },
    Freeze {
        nonce: u8,
        waits: bool,
    },
    Install {
        exact: bool,
    },
    Stage {
        nonce: u8,
        large: bool,
        totals: bool,
        lie: bool,
    },
    Done {
        life: u8,
        epoch: u8,
        to: u8,
    },
    Settled {
        epoch: u8,
    },
    Ask {
        exact: bool,
        life: u8,
        next: u8,
        nonce: u8,
    },
    Answer {
        exact: bool,
        installed: bool,
    },
    Restarted,
    Abandon {
        lost: u8,
    },
    Superseded {
        epoch: u8,
        by: u8,
        to: u8,
    },
    HomeUpdate {
        life: u8,
        epoch: u8,
        to: u8,
    },
    HomeExpired {
        life: u8,
        epoch: u8,
    },
    Told {
        epoch: u8,
    },
    Expire {
        always: bool,
    },
    ExpiryTold {
        epoch: u8,
    },
    Age {
        right: bool,
        epoch: u8,
    },
    Refresh {
        life: u8,
        epoch: u8,
        to: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let key = "[ab]{0,1}";
    let value = prop_oneof![
        4 => "[xyz]{0,5}".prop_map(Bytes::from),
        1 => Just(Bytes::from(vec![7; CHUNK + 1])),
    ];
    prop_oneof![
        3 => (key, value.clone()).prop_map(|(key, value)| set(&key, value)),
        2 => (key, value).prop_map(|(list, value)| append(&list, value)),
        1 => key.prop_map(|key| delete(&key)),
        1 => key.prop_map(|list| clear(&list)),
    ]
}

fn few() -> impl Strategy<Value = u8> {
    0_u8..3
}

fn epoch() -> impl Strategy<Value = u8> {
    1_u8..6
}

fn calls() -> impl Strategy<Value = Call> {
    use proptest::option::of;
    let requests = prop_oneof![
        6 => (any::<bool>(), of(few()), prop::bool::weighted(0.2), any::<bool>(), of(epoch()), of(few()), 0_u16..64)
            .prop_map(|(write, create, brief, frozen, quiet, request, inline)| Call::Begin { write, create, brief, frozen, quiet, request, inline }),
        6 => (few(), 0_u8..8, prop::collection::vec(change(), 0..4), 0_u8..2, of(few()), prop_oneof![9 => Just(1 << 40), 1 => 0_u64..20])
            .prop_map(|(turn, wrong, data, outbox, remember, most)| Call::Commit { turn, wrong, data, outbox, remember, most }),
        1 => few().prop_map(|turn| Call::Release { turn }),
        1 => (few(), any::<bool>()).prop_map(|(turn, brief)| Call::Renew { turn, brief }),
        2 => (of(few()), 0_u8..4, any::<bool>(), 0_u8..5)
            .prop_map(|(turn, version, frozen, what)| Call::Read { turn, version, frozen, what }),
        2 => (few(), 0_u8..2).prop_map(|(turn, index)| Call::Delivered { turn, index }),
    ];
    let moves = prop_oneof![
        3 => (few(), epoch(), 1_u8..3, few()).prop_map(|(life, next, from, nonce)| Call::OpenPull { life, next, from, nonce }),
        1 => few().prop_map(|nonce| Call::ClosePull { nonce }),
        4 => (few(), few(), of(epoch()), few()).prop_map(|(life, to, next, nonce)| Call::Agree { life, to, next, nonce }),
        4 => (few(), any::<bool>()).prop_map(|(nonce, waits)| Call::Freeze { nonce, waits }),
        3 => any::<bool>().prop_map(|exact| Call::Install { exact }),
        4 => (few(), prop::bool::weighted(0.1), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(nonce, large, totals, lie)| Call::Stage { nonce, large, totals, lie }),
        2 => (few(), epoch(), few()).prop_map(|(life, epoch, to)| Call::Done { life, epoch, to }),
        2 => epoch().prop_map(|epoch| Call::Settled { epoch }),
    ];
    let doubts = prop_oneof![
        2 => (any::<bool>(), few(), epoch(), few()).prop_map(|(exact, life, next, nonce)| Call::Ask { exact, life, next, nonce }),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(exact, installed)| Call::Answer { exact, installed }),
        1 => Just(Call::Restarted),
        1 => few().prop_map(|lost| Call::Abandon { lost }),
        1 => (epoch(), epoch(), few()).prop_map(|(epoch, by, to)| Call::Superseded { epoch, by, to }),
        2 => (few(), epoch(), few()).prop_map(|(life, epoch, to)| Call::HomeUpdate { life, epoch, to }),
        1 => (few(), epoch()).prop_map(|(life, epoch)| Call::HomeExpired { life, epoch }),
        1 => epoch().prop_map(|epoch| Call::Told { epoch }),
        2 => any::<bool>().prop_map(|always| Call::Expire { always }),
        1 => epoch().prop_map(|epoch| Call::ExpiryTold { epoch }),
        1 => (any::<bool>(), epoch()).prop_map(|(right, epoch)| Call::Age { right, epoch }),
        1 => (few(), epoch(), few()).prop_map(|(life, epoch, to)| Call::Refresh { life, epoch, to }),
    ];
    prop_oneof![3 => requests, 3 => moves, 2 => doubts]
}

fn life(number: u8) -> Life {
    // Of three lives one is at home elsewhere.
    let home = node(if number == 2 { "middle" } else { "edge" });
    Life { home, incarnation: Incarnation(number.into()) }
}

fn place(number: u8) -> funicular::session::NodeName {
    node(NODES[usize::from(number)])
}

/// What two stores with clocks of their own must agree on.
#[derive(Debug, PartialEq)]
struct Known {
    slot: Slot,
    live: bool,
    freeze_waits: bool,
    version: u64,
    bytes: u64,
    fields: u64,
}

fn known(snapshot: &Snapshot) -> Known {
    let Snapshot { slot, now, version, bytes, fields } = snapshot;
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
    Known { slot, live, freeze_waits, version: *version, bytes: *bytes, fields: *fields }
}

/// A turn that was taken on both stores.
#[derive(Debug, Clone)]
struct Turn {
    lease: LeaseId,
    life: Life,
    epoch: Epoch,
}

/// What one case has seen so far.
#[derive(Debug, Default)]
struct Past {
    turns: Vec<Turn>,
    calls: u64,
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
fn event(call: &Call, at: &Snapshot) -> Option<Event> {
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

/// One call on one store; the answer as a text in which no time stands.
async fn run(bench: &Bench, id: &SessionId, call: &Call, past: &Past) -> (String, Option<Turn>) {
    let store = &bench.store;
    let lease = LeaseId(1000 + u128::from(past.calls));
    let answer = match call {
        Call::Begin { write, create, brief: short, frozen, quiet, request: name, inline } => {
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
            return match store.begin(id, &asked).await.unwrap() {
                Begun::Run(run) => {
                    let text = format!("{run:?}");
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
            };
        }
        Call::Commit { turn, wrong, data, outbox, remember, most } => {
            let Turn { lease, mut life, mut epoch } = past.turn(*turn);
            match wrong {
                0 => epoch += 1,
                1 => life.incarnation = Incarnation(9),
                _ => {}
            }
            let turn = funicular_tests::bench::Turn {
                id: id.clone(),
                lease,
                session: funicular::store::Session {
                    life,
                    epoch,
                    version: 0,
                    bytes: 0,
                    data: None,
                    created: false,
                },
            };
            let commit = Commit {
                data: data.clone(),
                outbox: (0..*outbox).map(|index| turn.message(index.into(), "m")).collect(),
                remember: remember.map(|number| {
                    let name = format!("r{number}");
                    (request(&name), Digest([number; 32]), response(&name))
                }),
                max_bytes: *most,
                ..turn.commit()
            };
            format!("{:?}", store.commit(id, &commit).await.unwrap())
        }
        Call::Release { turn } => {
            store.release(id, past.turn(*turn).lease).await.unwrap();
            String::new()
        }
        Call::Renew { turn, brief: short } => {
            let ttl = Duration::from_millis(brief(*short));
            format!("{}", store.renew(id, past.turn(*turn).lease, ttl).await.unwrap())
        }
        Call::Read { turn, version, frozen, what } => {
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
            let found = store.read(id, &guard, &read).await.unwrap();
            // Of keys only the names count.
            format!(
                "{:?}",
                found.map(|map| if *what < 4 {
                    map
                } else {
                    map.into_keys().map(|field| (field, Bytes::new())).collect()
                })
            )
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
async fn all(bench: &Bench, id: &SessionId) -> (Known, String) {
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

#[test]
fn g1_g2_g3_the_stores_say_the_same() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let config = ProptestConfig {
        cases: cases.unwrap_or(128),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let window = WindowLimits { entries: 2, age: Duration::from_secs(3600) };
    let redis = runtime.block_on(Bench::with_window(Kind::Redis, "edge", window));
    let id = session("the-{one}");
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&prop::collection::vec(calls(), 1..60), |calls| {
        runtime.block_on(async {
            redis.server.as_ref().unwrap().cli(&["FLUSHALL"]);
            let memory = Bench::with_window(Kind::Memory, "edge", window).await;
            let mut past = Past::default();
            for call in calls {
                past.calls += 1;
                let (expected, turn) = run(&memory, &id, &call, &past).await;
                let (found, _) = run(&redis, &id, &call, &past).await;
                prop_assert_eq!(expected, found, "{:?}", call);
                past.turns.extend(turn);
                let (expected, found) = (all(&memory, &id).await, all(&redis, &id).await);
                prop_assert_eq!(expected.0, found.0, "after {:?}", call);
                prop_assert_eq!(expected.1, found.1, "after {:?}", call);
            }
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
