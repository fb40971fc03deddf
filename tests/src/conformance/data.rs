//! What a commit writes, and how it is read.

use bytes::Bytes;
use funicular::protocol::Access;
use funicular::session::fields::{self, CHUNK, FieldMap};
use funicular::session::{Change, LeaseId};
use funicular::store::{Begun, Commit, Committed, Read, ReadGuard};

use crate::bench::{Bench, Turn, append, ask, clear, delete, remember, session, set};

/// Bytes that no compression and no text reading would leave alone.
pub fn noise(length: usize) -> Bytes {
    let mut state = length as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

async fn agree(bench: &Bench, turn: &Turn, expected: &FieldMap) {
    let snapshot = bench.snapshot(&turn.id).await;
    assert_eq!(bench.dump(&turn.id).await.as_ref(), Some(expected));
    assert_eq!(snapshot.bytes, fields::size(expected));
    assert_eq!(snapshot.fields, expected.len() as u64);
}

pub async fn g2_a_commit_writes_what_the_flat_map_says(bench: &Bench) {
    let big = noise(CHUNK * 2 + 7);
    let steps: Vec<Vec<Change>> = vec![
        vec![set("a", "1"), set("", "empty key"), set("empty", "")],
        vec![set("a", big.clone()), set("b", noise(CHUNK)), set("c", noise(CHUNK + 1))],
        vec![set("a", "small again"), delete("b"), set("c", big.clone())],
        vec![append("l", "0"), append("l", big.clone()), append("l", "2"), append("m", "")],
        vec![set("l", "a value of a list's name"), append("l", "3")],
        vec![delete("l"), append("l", "new"), clear("m"), clear("absent"), delete("absent")],
        vec![set("a\0b", "1"), append("a", "item"), set("\0", "2"), delete("c")],
        vec![set("a", big.clone()), set("a", "in between"), set("a", big.clone()), delete("a")],
        vec![append("big", big.clone()), append("big", big.clone()), clear("big")],
        vec![set("a\n{}%", "text"), delete("empty"), delete("")],
        vec![],
    ];
    let id = session("s");
    let mut expected = FieldMap::new();
    let mut version = 0;
    for changes in steps {
        fields::apply(&mut expected, &changes);
        version += u64::from(!changes.is_empty());
        let turn = bench.write(&id, changes).await;
        agree(bench, &turn, &expected).await;
        assert_eq!(bench.snapshot(&id).await.version, version);
    }
}

pub async fn g2_everything_at_once_is_the_same(bench: &Bench) {
    let id = session("s");
    let many: Vec<Change> = (0..3000)
        .flat_map(|i| [set(&format!("k{}", i % 700), i.to_string()), append("l", i.to_string())])
        .chain((0..300).map(|i| delete(&format!("k{}", i * 2))))
        .collect();
    let mut expected = FieldMap::new();
    for _ in 0..2 {
        fields::apply(&mut expected, &many);
        let turn = bench.write(&id, many.clone()).await;
        agree(bench, &turn, &expected).await;
    }
    let all = [clear("l")].into_iter().chain((0..700).map(|i| delete(&format!("k{i}"))));
    let turn = bench.write(&id, all.collect()).await;
    agree(bench, &turn, &FieldMap::new()).await;
}

pub async fn g2_a_commit_that_is_too_large_writes_nothing(bench: &Bench) {
    let id = session("s");
    let first = bench.write(&id, vec![set("a", "12345678")]).await;
    let before = bench.dump(&id).await.unwrap();
    let turn = bench.turn(&id).await;
    let commit = Commit {
        data: vec![delete("a"), set("b", "x".repeat(100)), append("l", "1")],
        outbox: vec![turn.message(0, "m")],
        remember: remember("r", "response"),
        max_bytes: 50,
        ..turn.commit()
    };
    let mut wanted = before.clone();
    fields::apply(&mut wanted, &commit.data);
    let bytes = fields::size(&wanted);
    assert_eq!(bench.commit(&id, &commit).await, Committed::TooLarge { bytes });
    agree(bench, &first, &before).await;
    let snapshot = bench.snapshot(&id).await;
    assert_eq!((snapshot.version, snapshot.slot.outbox, snapshot.slot.lease), (1, 0, None));
    assert_eq!(bench.store.remembered(&id, &crate::bench::request("r")).await.unwrap(), None);
    // Its lease is gone with it.
    assert_eq!(bench.commit(&id, &commit).await, Committed::LeaseLost);
    // Exactly as large as allowed is not too large.
    let turn = bench.turn(&id).await;
    let exact = Commit { max_bytes: bytes, ..commit.clone() };
    let exact = Commit { lease: turn.lease, ..exact };
    assert_eq!(bench.commit(&id, &exact).await, Committed::Applied);
    // What is too large already may still shrink.
    let turn = bench.turn(&id).await;
    let shrink = Commit { data: vec![clear("l")], max_bytes: 1, ..turn.commit() };
    assert_eq!(bench.commit(&id, &shrink).await, Committed::Applied);
}

pub async fn g2_what_is_small_comes_inline(bench: &Bench) {
    let id = session("s");
    bench.write(&id, vec![set("k", "v"), append("l", "i")]).await;
    let expected = bench.dump(&id).await.unwrap();
    let bytes = fields::size(&expected);
    for (most, inline) in [(bytes, true), (bytes - 1, false), (0, false)] {
        for access in [Access::Read, Access::Write] {
            let mut request = ask(access);
            request.inline_max = most;
            let Begun::Run(run) = bench.begin(&id, &request).await else { panic!("it should run") };
            assert_eq!(run.bytes, bytes);
            assert_eq!(run.data.as_deref(), inline.then_some(&expected));
            bench.store.release(&id, request.ask.lease).await.unwrap();
        }
    }
}

pub async fn g2_parts_are_read_as_they_are_asked_for(bench: &Bench) {
    let id = session("s");
    let big = noise(CHUNK + 1);
    let data = vec![
        set("plain", "v"),
        set("big", big.clone()),
        append("list", "0"),
        append("list", big.clone()),
        append("plain", "a list of a value's name"),
    ];
    bench.write(&id, data).await;
    let all = bench.dump(&id).await.unwrap();
    let turn = bench.turn(&id).await;
    let read = async |read: Read| {
        let guard = ReadGuard::Lease(turn.lease);
        bench.store.read(&id, &guard, &read).await.unwrap().unwrap()
    };
    let plain = read(Read::Value("plain".into())).await;
    assert_eq!(plain, FieldMap::from([("splain".into(), "v".into())]));
    let found = read(Read::Value("big".into())).await;
    assert_eq!(fields::get(&found, "sbig"), Some(big.clone()));
    assert_eq!(found.len(), 3);
    assert_eq!(read(Read::Value("absent".into())).await, FieldMap::new());
    let found = read(Read::List("list".into())).await;
    assert_eq!(fields::list(&found, "list"), vec![Bytes::from("0"), big]);
    assert_eq!(read(Read::List("absent".into())).await, FieldMap::new());
    let found = read(Read::ListLen("list".into())).await;
    assert_eq!(found, FieldMap::from([("nlist".into(), "2".into())]));
    assert_eq!(read(Read::ListLen("absent".into())).await, FieldMap::new());
    let found = read(Read::Keys).await;
    let names = |map: &FieldMap| fields::keys(map.keys().map(String::as_str));
    assert_eq!(names(&found), names(&all));
    let nobody = ReadGuard::Lease(LeaseId(0));
    assert_eq!(bench.store.read(&id, &nobody, &Read::Keys).await.unwrap(), None);
    assert_eq!(bench.store.read(&session("no"), &nobody, &Read::Keys).await.unwrap(), None);
}

pub async fn g2_an_outbox_keeps_its_order_until_delivered(bench: &Bench) {
    let id = session("s");
    let (mut expected, mut ids) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let turn = bench.turn(&id).await;
        let outbox: Vec<_> = (0..2).map(|i| turn.message(i, &format!("m{round}.{i}\n"))).collect();
        expected.extend(outbox.iter().cloned());
        ids.extend(outbox.iter().map(|entry| entry.id.clone()));
        let commit = Commit { outbox, ..turn.commit() };
        assert_eq!(bench.commit(&id, &commit).await, Committed::Applied);
    }
    let store = &bench.store;
    assert_eq!(store.outbox(&id, 100).await.unwrap(), expected);
    assert_eq!(store.outbox(&id, 2).await.unwrap(), expected[..2]);
    assert_eq!(store.outbox(&id, 0).await.unwrap(), []);
    assert_eq!(bench.snapshot(&id).await.slot.outbox, 6);
    // Without data, the version stays.
    assert_eq!(bench.snapshot(&id).await.version, 0);
    assert_eq!(store.pending(10).await.unwrap(), std::slice::from_ref(&id));
    for (place, entry) in [(3, &ids[3]), (0, &ids[0]), (0, &ids[0])] {
        store.delivered(&id, entry).await.unwrap();
        if expected.get(place).is_some_and(|known| known.id == *entry) {
            expected.remove(place);
        }
        assert_eq!(store.outbox(&id, 100).await.unwrap(), expected);
    }
    for entry in &ids {
        store.delivered(&id, entry).await.unwrap();
    }
    assert_eq!(store.outbox(&id, 100).await.unwrap(), []);
    assert_eq!(bench.snapshot(&id).await.slot.outbox, 0);
    assert_eq!(store.pending(10).await.unwrap(), []);
    store.delivered(&session("absent"), "x").await.unwrap();
}
