//! Moves between two stores of any kind.

use funicular::protocol::{Access, Event, Refusal, Reply};
use funicular::session::fields::{self, CHUNK};
use funicular::session::packet::Totals;
use funicular::session::{Change, Page, Record};
use funicular::store::{Begun, Commit, Committed, Staged};

use super::data::noise;
use crate::bench::{Bench, Move, append, ask, remember, request, session, set};

async fn moves(source: &Bench, target: &Bench, data: Vec<Change>) -> usize {
    let id = session("it-{moves}%");
    source.write(&id, data).await;
    let before = source.snapshot(&id).await;
    let expected = source.dump(&id).await.unwrap();
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    let (totals, pages) = moving.carry(source, target, 1).await;
    assert_eq!(totals.fields, expected.len() as u64);
    assert_eq!(totals.bytes, fields::size(&expected));
    assert_eq!(moving.install(target).await, Ok(Reply::Changed));
    assert_eq!(moving.install(target).await, Ok(Reply::Unchanged));
    moving.settle(source, target).await;
    assert!(target.dump(&id).await.unwrap() == expected, "the data is the same");
    let after = target.snapshot(&id).await;
    assert_eq!(
        (after.version, after.bytes, after.fields),
        (before.version, before.bytes, before.fields)
    );
    assert_eq!(source.dump(&id).await, None);
    let left = source.snapshot(&id).await;
    assert_eq!((left.version, left.bytes, left.fields, left.slot.used), (0, 0, 0, 0));
    // It goes on where it stopped, and counts its bytes from there.
    let turn = target.write(&id, vec![set("more", "data")]).await;
    assert_eq!((turn.session.epoch, turn.session.version), (2, 1));
    let data = target.dump(&id).await.unwrap();
    assert_eq!(target.snapshot(&id).await.bytes, fields::size(&data));
    pages
}

pub async fn g2_an_empty_session_moves(source: &Bench, target: &Bench) {
    let id = session("s");
    let turn = source.turn(&id).await;
    source.commit(&id, &turn.commit()).await;
    Move::whole(source, target, &id).await;
    assert_eq!(target.dump(&id).await, Some(fields::FieldMap::new()));
}

pub async fn g2_a_small_session_moves_in_one_page(source: &Bench, target: &Bench) {
    let data = vec![set("k", noise(500)), append("l", noise(300)), set("empty", "")];
    assert_eq!(moves(source, target, data).await, 1);
}

pub async fn g2_five_megabytes_move(source: &Bench, target: &Bench) {
    let data = (0..50).map(|i| set(&format!("k{i}"), noise(100_000 + i))).collect();
    assert!(moves(source, target, data).await > 1);
}

pub async fn g2_one_value_of_twenty_megabytes_moves(source: &Bench, target: &Bench) {
    assert!(moves(source, target, vec![set("film", noise(20_000_000))]).await > 4);
}

pub async fn g2_ten_thousand_small_keys_move(source: &Bench, target: &Bench) {
    let data = (0..10_000).map(|i| set(&format!("key-{i}"), i.to_string())).collect();
    moves(source, target, data).await;
}

pub async fn g2_small_and_large_fields_move_together(source: &Bench, target: &Bench) {
    let small = (0..5000).map(|i| append("log", format!("line {i}")));
    let large = (0..12).map(|i| set(&format!("blob{i}"), noise(CHUNK - 1 + i)));
    moves(source, target, small.chain(large).collect()).await;
}

pub async fn g3_the_window_moves_along(source: &Bench, target: &Bench) {
    let id = session("s");
    for number in 0..40 {
        source.write_as(&id, &format!("r{number}"), vec![set("k", number.to_string())]).await;
    }
    let turn = source.turn(&id).await;
    let commit = Commit {
        data: vec![set("k", "last")],
        outbox: vec![turn.message(0, "first"), turn.message(1, "second")],
        remember: remember("last", "the last response"),
        ..turn.commit()
    };
    assert_eq!(source.commit(&id, &commit).await, Committed::Applied);
    let outbox = source.store.outbox(&id, 10).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;

    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    let (totals, _) = moving.carry(source, target, 2).await;
    assert_eq!((totals.window, totals.outbox), (41, 2));
    assert!(totals.idle >= 30);
    // Only the owner delivers.
    assert_eq!(source.store.outbox(&id, 10).await.unwrap(), []);
    moving.install(target).await.unwrap();
    moving.settle(source, target).await;

    let now = target.now().await;
    let snapshot = target.snapshot(&id).await;
    assert!(snapshot.slot.used + 30 <= now, "idle time moves along");
    assert_eq!(snapshot.slot.outbox, 2);
    assert_eq!(target.store.outbox(&id, 10).await.unwrap(), outbox);
    assert_eq!(target.store.pending(10).await.unwrap(), std::slice::from_ref(&id));
    for name in ["r0", "r39", "last"] {
        let mut again = ask(Access::Write);
        again.request = Some(request(name));
        match target.begin(&id, &again).await {
            Begun::Replay { entry, epoch, .. } => {
                assert_eq!(epoch, 2);
                assert!(entry.at + 30 <= now, "ages move, not times");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    // A commit whose reply was lost is known at its new place, by its request id.
    assert_eq!(target.commit(&id, &commit).await, Committed::AlreadyCommitted);
    // The order moved along too: the next ones push the oldest out.
    for number in 0..=1024 - 41 {
        target.write_as(&id, &format!("n{number}"), vec![]).await;
    }
    assert!(target.store.remembered(&id, &request("r0")).await.unwrap().is_none());
    assert!(target.store.remembered(&id, &request("r1")).await.unwrap().is_some());
}

pub async fn g2_pages_may_come_twice(source: &Bench, target: &Bench) {
    let id = session("s");
    let data = (0..30).map(|i| set(&format!("k{i}"), noise(100_000))).collect();
    source.write_as(&id, "r", data).await;
    let expected = source.dump(&id).await.unwrap();
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    moving.carry(source, target, 3).await;
    // And all of them once more, from the start.
    moving.carry(source, target, 1).await;
    moving.install(target).await.unwrap();
    assert!(target.dump(&id).await.unwrap() == expected);
}

fn totals_of(page: &Page, version: u64) -> Totals {
    let bytes = page.fields.iter().map(|(f, v)| (f.len() + v.len()) as u64).sum();
    let fields = page.fields.len() as u64;
    Totals { fields, bytes, version, window: 0, outbox: 0, idle: 0 }
}

pub async fn g2_a_lost_page_is_noticed(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("a", "1"), set("b", "2")]).await;
    let moving = Move::agree(source, target, &id).await;
    let nonce = moving.pull.nonce;
    let stage = async |page: &Page| target.store.stage(&id, nonce, page).await.unwrap();
    let whole = Page {
        fields: vec![("sa".into(), "1".into()), ("sb".into(), "2".into())],
        ..Page::default()
    };
    let totals = Some(totals_of(&whole, 1));
    let half = Page { fields: whole.fields[..1].to_vec(), ..Page::default() };
    assert_eq!(stage(&half).await, Staged::More);
    assert_eq!(stage(&Page { totals, ..Page::default() }).await, Staged::Mismatch);
    assert_eq!(moving.install(target).await, Err(Refusal::NoSuchMove));
    assert_eq!(stage(&Page { totals, ..whole.clone() }).await, Staged::Complete);
    // What a copy brought and is no more goes; bytes are counted exactly.
    let delta = Page {
        fields: vec![("sa".into(), "longer".into()), ("sc".into(), "".into())],
        removed: vec!["sb".into(), "never there".into()],
        ..Page::default()
    };
    let totals = Some(totals_of(&delta, 2));
    assert_eq!(stage(&Page { totals, ..delta.clone() }).await, Staged::Complete);
    assert_eq!(stage(&Page { totals, ..delta }).await, Staged::Complete);
    assert_eq!(moving.install(target).await, Ok(Reply::Changed));
    let data = target.dump(&id).await.unwrap();
    assert_eq!(data.get("sa").unwrap(), "longer");
    assert_eq!(data.get("sc").unwrap(), "");
    assert_eq!(data.len(), 2);
    assert_eq!(target.snapshot(&id).await.version, 2);
}

pub async fn g2_nothing_installs_without_its_pages(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("a", "1")]).await;
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    assert_eq!(moving.install(target).await, Err(Refusal::NoSuchMove));
    assert_eq!(target.snapshot(&id).await.slot.record, None);
    moving.carry(source, target, 1).await;
    assert_eq!(moving.install(target).await, Ok(Reply::Changed));
}

pub async fn g1_a_closed_pull_takes_no_pages(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("a", "1")]).await;
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    let nonce = moving.pull.nonce;
    let page = source.store.export(&id, nonce, None).await.unwrap().unwrap();
    assert_eq!(target.store.stage(&id, nonce, &page).await.unwrap(), Staged::Complete);
    // "No" closes the pull, and what was staged is gone.
    let ask = Event::Ask { life: moving.pull.life.clone(), transfer: moving.transfer.clone() };
    assert_eq!(target.step(&id, &ask).await, Ok(Reply::NotInstalled));
    assert_eq!(target.store.stage(&id, nonce, &page).await.unwrap(), Staged::Closed);
    assert_eq!(moving.install(target).await, Err(Refusal::NoSuchMove));
    assert_eq!(target.snapshot(&id).await.slot, funicular::session::Slot::default());
    let answer = Event::Answer { transfer: moving.transfer.clone(), installed: false };
    assert_eq!(source.step(&id, &answer).await, Ok(Reply::Changed));
    // Another attempt starts from nothing.
    assert_eq!(source.life(&id).await.1, 3);
    Move::whole(source, target, &id).await;
    assert_eq!(target.life(&id).await.1, 4);
}

pub async fn g1_only_a_frozen_session_is_exported(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("a", "1")]).await;
    let moving = Move::agree(source, target, &id).await;
    let nonce = moving.pull.nonce;
    let gone = Err(Refusal::NoSuchMove);
    assert_eq!(source.store.export(&id, nonce, None).await.unwrap(), gone);
    moving.freeze(source).await;
    let other = funicular::session::Nonce(1);
    assert_eq!(source.store.export(&id, other, None).await.unwrap(), gone);
    assert!(source.store.export(&id, nonce, None).await.unwrap().is_ok());
    source.step(&id, &moving.done()).await.unwrap();
    assert_eq!(source.store.export(&id, nonce, None).await.unwrap(), gone);
    assert_eq!(source.store.export(&session("no"), nonce, None).await.unwrap(), gone);
}

pub async fn g2_a_session_comes_back(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write_as(&id, "r", vec![set("k", noise(1000))]).await;
    let expected = source.dump(&id).await.unwrap();
    for round in 0..3 {
        Move::whole(source, target, &id).await;
        assert!(matches!(source.snapshot(&id).await.slot.record, Some(Record::Moved { .. })));
        let told = Event::Told { epoch: target.life(&id).await.1 };
        target.step(&id, &told).await.unwrap();
        assert!(!target.snapshot(&id).await.slot.pending());
        Move::whole(target, source, &id).await;
        assert_eq!(source.life(&id).await.1, 3 + round * 2);
    }
    assert_eq!(source.dump(&id).await.unwrap(), expected);
    assert!(source.store.remembered(&id, &request("r")).await.unwrap().is_some());
}

pub async fn g3_a_commit_is_known_after_the_session_left(source: &Bench, target: &Bench) {
    let id = session("s");
    let turn = source.turn(&id).await;
    let commit = Commit { data: vec![set("k", "v")], ..turn.commit() };
    assert_eq!(source.commit(&id, &commit).await, Committed::Applied);
    Move::whole(source, target, &id).await;
    // The reply was lost and the caller asks again where it committed.
    assert_eq!(source.commit(&id, &commit).await, Committed::AlreadyCommitted);
    let told = Event::Told { epoch: 2 };
    target.step(&id, &told).await.unwrap();
    Move::whole(target, source, &id).await;
    assert_eq!(source.commit(&id, &commit).await, Committed::AlreadyCommitted);
    assert_eq!(source.snapshot(&id).await.version, 1);
}

/// A node that was started a moment ago takes a session that was idle for longer.
pub async fn g2_an_idle_session_outlives_a_young_clock(source: &Bench, target: &Bench) {
    const HOUR: u64 = 3_600_000;
    let id = session("s");
    source.write(&id, vec![set("a", "1")]).await;
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    let nonce = moving.pull.nonce;
    let mut page = source.store.export(&id, nonce, None).await.unwrap().unwrap();
    page.totals.as_mut().unwrap().idle = HOUR;
    assert_eq!(target.store.stage(&id, nonce, &page).await.unwrap(), Staged::Complete);
    moving.install(target).await.unwrap();
    moving.settle(source, target).await;
    target.step(&id, &Event::Told { epoch: 2 }).await.unwrap();
    let (used, now) = (target.snapshot(&id).await.slot.used, target.now().await);
    assert!(used + HOUR <= now && used + HOUR + 10_000 > now, "{used}, {now}");
    let expire = |unused: u64| Event::Expire { unused_since: now.saturating_sub(unused) };
    assert_eq!(target.step(&id, &expire(2 * HOUR)).await, Err(Refusal::InUse));
    assert_eq!(target.step(&id, &expire(HOUR / 2)).await, Ok(Reply::Changed));
}
