//! Doubt and its end: questions, restarts, persons, expiry.

use funicular::protocol::{Event, Refusal, Reply};
use funicular::session::{Record, Slot};
use funicular::store::{Commit, Committed};

use crate::bench::{Bench, Move, node, session, set};

pub async fn g7_a_source_in_doubt_learns_yes(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    moving.carry(source, target, 1).await;
    moving.install(target).await.unwrap();
    let ask = Event::Ask { life: moving.pull.life.clone(), transfer: moving.transfer.clone() };
    assert_eq!(target.step(&id, &ask).await, Ok(Reply::Installed { epoch: 2 }));
    let answer = Event::Answer { transfer: moving.transfer.clone(), installed: true };
    assert_eq!(source.step(&id, &answer).await, Ok(Reply::Changed));
    assert_eq!(source.step(&id, &answer).await, Ok(Reply::Unchanged));
    match source.snapshot(&id).await.slot.record {
        Some(Record::Moved { epoch, to, since, .. }) => {
            assert_eq!((epoch, to), (2, target.node.clone()));
            assert!(since > 0);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(source.dump(&id).await, None);
}

pub async fn g7_a_source_in_doubt_learns_no_and_goes_on(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    let answer = Event::Answer { transfer: moving.transfer.clone(), installed: false };
    assert_eq!(source.step(&id, &answer).await, Ok(Reply::Changed));
    let turn = source.write(&id, vec![set("k", "w")]).await;
    assert_eq!((turn.session.epoch, turn.session.version), (3, 1));
}

pub async fn g1_a_restarted_store_freezes_what_had_agreed(source: &Bench, target: &Bench) {
    let (agreed, quiet) = (session("agreed"), session("quiet"));
    for id in [&agreed, &quiet] {
        source.write(id, vec![set("k", "v")]).await;
    }
    let moving = Move::agree(source, target, &agreed).await;
    let turn = source.turn(&agreed).await;
    assert_eq!(source.step(&agreed, &Event::StoreRestarted).await, Ok(Reply::Changed));
    let slot = source.snapshot(&agreed).await.slot;
    assert!(matches!(slot.record, Some(Record::Migrating { .. })));
    assert_eq!(slot.lease, None);
    let commit = Commit { data: vec![set("k", "late")], ..turn.commit() };
    assert_eq!(source.commit(&agreed, &commit).await, Committed::LeaseLost);
    assert_eq!(source.step(&quiet, &Event::StoreRestarted).await, Ok(Reply::Unchanged));
    // The move ends as if the freeze had been asked for.
    moving.carry(source, target, 1).await;
    moving.install(target).await.unwrap();
    moving.settle(source, target).await;
}

pub async fn g7_a_person_ends_a_wait(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    moving.carry(source, target, 1).await;
    moving.install(target).await.unwrap();
    let abandon = Event::Abandon { lost: target.node.clone() };
    assert_eq!(source.step(&id, &abandon).await, Ok(Reply::Changed));
    source.write(&id, vec![set("k", "went on")]).await;
    assert_eq!(source.life(&id).await.1, 3);
    // The target returns and is told; its data goes to lost+found.
    let superseded = Event::Superseded { epoch: 2, by_epoch: 3, to: source.node.clone() };
    assert_eq!(target.step(&id, &superseded).await, Ok(Reply::Changed));
    assert!(matches!(target.snapshot(&id).await.slot.record, Some(Record::Moved { .. })));
    assert_eq!(target.dump(&id).await, None);
    assert_eq!(target.snapshot(&id).await.bytes, 0);
    // And the session may come again.
    Move::whole(source, target, &id).await;
    assert_eq!(target.dump(&id).await.unwrap().get("sk").unwrap(), "went on");
}

pub async fn g2_an_unused_session_ends(bench: &Bench) {
    let id = session("s");
    let turn = bench.turn(&id).await;
    let always = Event::Expire { unused_since: u64::MAX };
    assert_eq!(bench.step(&id, &always).await, Err(Refusal::InUse));
    let outbox = vec![turn.message(0, "m")];
    bench.commit(&id, &Commit { outbox, data: vec![set("k", "v")], ..turn.commit() }).await;
    assert_eq!(bench.step(&id, &always).await, Err(Refusal::InUse));
    let entry = bench.store.outbox(&id, 1).await.unwrap().remove(0);
    bench.store.delivered(&id, &entry.id).await.unwrap();
    let used = bench.snapshot(&id).await.slot.used;
    let before = Event::Expire { unused_since: used - 1 };
    assert_eq!(bench.step(&id, &before).await, Err(Refusal::InUse));
    let exactly = Event::Expire { unused_since: used };
    assert_eq!(bench.step(&id, &exactly).await, Ok(Reply::Changed));
    assert_eq!(bench.snapshot(&id).await.slot, Slot::default());
    assert_eq!(bench.dump(&id).await, None);
    assert_eq!(bench.step(&id, &always).await, Ok(Reply::Unchanged));
    // A new life of the same id begins with nothing.
    let turn = bench.turn(&id).await;
    assert_eq!((turn.session.created, turn.session.version), (true, 0));
}

pub async fn g2_a_session_that_ends_away_tells_home(home: &Bench, away: &Bench) {
    let id = session("s");
    home.write(&id, vec![set("k", "v")]).await;
    let moving = Move::whole(home, away, &id).await;
    let life = moving.pull.life.clone();
    let expire = Event::Expire { unused_since: u64::MAX };
    assert_eq!(away.step(&id, &expire).await, Ok(Reply::Changed));
    let slot = away.snapshot(&id).await.slot;
    assert!(matches!(slot.record, Some(Record::Expired { epoch: 2, .. })));
    assert_eq!(away.store.pending(10).await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(away.dump(&id).await, None);
    let told = Event::HomeExpired { life, epoch: 2 };
    assert_eq!(home.step(&id, &told).await, Ok(Reply::Changed));
    assert_eq!(home.snapshot(&id).await.slot, Slot::default());
    assert_eq!(away.step(&id, &Event::ExpiryTold { epoch: 2 }).await, Ok(Reply::Changed));
    assert_eq!(away.snapshot(&id).await.slot, Slot::default());
}

pub async fn g4_pointers_follow_and_age(home: &Bench, away: &Bench) {
    let id = session("s");
    home.write(&id, vec![set("k", "v")]).await;
    let moving = Move::whole(home, away, &id).await;
    let life = moving.pull.life.clone();
    let update = |epoch, to: &str| Event::HomeUpdate { life: life.clone(), epoch, to: node(to) };
    assert_eq!(home.step(&id, &update(4, "root")).await, Ok(Reply::Changed));
    assert_eq!(home.step(&id, &update(4, "root")).await, Ok(Reply::Unchanged));
    let stale = Err(Refusal::StaleEpoch { epoch: 4 });
    assert_eq!(home.step(&id, &update(3, "root")).await, stale);
    assert_eq!(home.step(&id, &update(4, "other")).await, stale);
    // A home update creates nothing.
    let nowhere = session("nowhere");
    assert_eq!(home.step(&nowhere, &update(4, "root")).await, Ok(Reply::Unchanged));
    assert_eq!(home.snapshot(&nowhere).await.slot, Slot::default());

    // Home's own pointer does not age; another's does, if it is as it was judged.
    let Some(Record::Moved { since, .. }) = home.snapshot(&id).await.slot.record else {
        panic!("a pointer")
    };
    let age = |epoch, since| Event::Age { epoch, since };
    assert_eq!(home.step(&id, &age(4, since)).await, Err(Refusal::InUse));
    let gone = Event::Superseded { epoch: 2, by_epoch: 4, to: node("root") };
    assert_eq!(away.step(&id, &gone).await, Ok(Reply::Changed));
    let Some(Record::Moved { since, .. }) = away.snapshot(&id).await.slot.record else {
        panic!("a pointer")
    };
    assert_eq!(away.step(&id, &age(3, since)).await, Err(Refusal::InUse));
    let fresh = Event::Refresh { life: life.clone(), epoch: 5, to: node("root") };
    assert_eq!(away.step(&id, &fresh).await, Ok(Reply::Changed));
    assert_eq!(away.step(&id, &age(4, since)).await, Err(Refusal::InUse));
    let Some(Record::Moved { since, .. }) = away.snapshot(&id).await.slot.record else {
        panic!("a pointer")
    };
    assert_eq!(away.step(&id, &age(5, since)).await, Ok(Reply::Changed));
    assert_eq!(away.snapshot(&id).await.slot, Slot::default());
}
