//! Doubt and its end: questions, restarts, persons, expiry, backups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use funicular::protocol::{Access, BEYOND, Event, Fate, Named, Refusal, Reply};
use funicular::session::{Record, SessionId, Slot};
use funicular::store::{Commit, Committed, Durability, SessionStore, StoreError};

use crate::bench::{Bench, Move, ask, node, session, set};

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

async fn walk(store: &dyn SessionStore) -> BTreeMap<SessionId, Slot> {
    let mut found = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = store.walk(cursor).await.expect("the store answers");
        found.extend(page.found);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

pub async fn g1_a_walk_finds_every_record(source: &Bench, target: &Bench) {
    assert_eq!(walk(&*source.store).await, BTreeMap::new());
    let mut written = BTreeSet::new();
    for number in 0..1500 {
        let id = session(&format!("s{number}"));
        source.write(&id, vec![set("k", "v")]).await;
        written.insert(id);
    }
    let (away, odd) = (session("s7"), session("{s7}%:m"));
    Move::whole(source, target, &away).await;
    source.write(&odd, vec![set("k", "v")]).await;
    written.insert(odd.clone());
    let found = walk(&*source.store).await;
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), written);
    assert!(matches!(found[&away].record, Some(Record::Moved { .. })));
    let ids: Vec<SessionId> = written.into_iter().take(600).chain([session("none"), odd]).collect();
    let slots = source.store.slots(&ids).await.expect("the store answers");
    assert_eq!(slots.len(), ids.len());
    for (id, slot) in ids.iter().zip(slots) {
        assert_eq!(slot, found.get(id).cloned().unwrap_or_default(), "{id}");
    }
    // What another node has is not found here, though they may share a cluster.
    assert_eq!(walk(&*target.store).await.into_keys().collect::<Vec<_>>(), [away]);
}

pub async fn g1_a_closed_store_lets_in_nobody_but_who_works_inside(bench: &Bench) {
    let id = session("s");
    bench.write(&id, vec![set("k", "v")]).await;
    let turn = bench.turn(&id).await;
    let store = &bench.store;
    store.set_setting("restoring", Some("yes")).await.expect("it is kept");
    store.close().await.expect("it closes");
    let refused = |outcome: Result<(), StoreError>, what: &str| {
        assert!(matches!(outcome, Err(StoreError::Restarted)), "{what}: {outcome:?}");
    };
    let commit = Commit { data: vec![set("k", "late")], ..turn.commit() };
    refused(store.commit(&id, &commit).await.map(drop), "commit");
    for access in [Access::Read, Access::Write] {
        refused(store.begin(&id, &ask(access)).await.map(drop), "begin");
        refused(store.begin(&session("new"), &ask(access)).await.map(drop), "begin");
    }
    if let Some(recalled) = store.recall(&id) {
        refused(store.is_current(&id, &recalled).await.map(drop), "is current");
        refused(store.commit_at_once(&id, &recalled, &commit).await.map(drop), "at once");
    }
    refused(store.snapshot(&id).await.map(drop), "snapshot");
    refused(store.dump(&id).await.map(drop), "dump");
    refused(store.counts().await.map(drop), "counts");
    let restarted = Event::StoreRestarted;
    refused(store.step(&id, &restarted, Durability::Synced).await.map(drop), "step");
    // Settings, and what a walk finds, are there for whoever looks.
    assert_eq!(store.setting("restoring").await.expect("it answers").as_deref(), Some("yes"));
    assert_eq!(store.set_setting("other", Some("1")).await.expect("it is kept"), None);
    assert_eq!(walk(&**store).await.len(), 1);

    let inside = store.inside().await.expect("there is a way in");
    inside.recover_restart().await.expect("it recovers");
    let mut cursor = None;
    loop {
        cursor = inside.mend_index(cursor).await.expect("it answers");
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(inside.counts().await.expect("it answers").resident, 1);
    let event = Event::Restore { named: Vec::new(), asked: Arc::default() };
    let step = inside.step(&id, &event, Durability::Eventual).await.expect("it answers");
    assert_eq!(step, Ok(Reply::Restored { fate: Fate::Kept }));
    inside.on_disk().await.expect("it is on disk");
    refused(store.snapshot(&id).await.map(drop), "still");

    store.recover_restart().await.expect("it recovers");
    assert_eq!(bench.commit(&id, &commit).await, Committed::LeaseLost);
    let turn = bench.write(&id, vec![set("k", "w")]).await;
    assert_eq!((turn.session.epoch, turn.session.version), (1 + BEYOND, 1));
}

pub async fn g1_what_others_have_is_set_aside(source: &Bench, target: &Bench) {
    // The backup has these as they were before they moved, or ended.
    let ids = ["given", "ended", "pointer", "lost"].map(session);
    for id in &ids[..2] {
        source.write(id, vec![set("k", "v")]).await;
    }
    let lives = [source.life(&ids[0]).await.0, source.life(&ids[1]).await.0];
    let by = |record| Named { by: target.node.clone(), record };
    let owned =
        |life| Record::Owned { life, epoch: 7, intent: None, unsettled: None, untold: false };
    let mut other = lives[1].clone();
    other.incarnation.0 ^= 1;
    let mut mine = lives[0].clone();
    mine.incarnation.0 ^= 1;
    let foreign = funicular::session::Life { home: target.node.clone(), ..mine.clone() };
    let here = source.node.clone();
    let leads_here = Record::Moved { life: foreign, epoch: 4, to: here, since: 1 };
    let named = [
        (owned(lives[0].clone()), Fate::Given),
        (owned(other), Fate::Ended),
        (owned(mine), Fate::Elsewhere),
        (leads_here, Fate::Lost),
    ];
    let asked = Arc::new(BTreeSet::from([target.node.clone()]));
    for (id, (record, fate)) in ids.iter().zip(named) {
        let event = Event::Restore { named: vec![by(record)], asked: Arc::clone(&asked) };
        assert_eq!(source.step(id, &event).await, Ok(Reply::Restored { fate }), "{id}");
        assert_eq!(source.dump(id).await, None, "{id}");
        let snapshot = source.snapshot(id).await;
        assert_eq!((snapshot.bytes, snapshot.version, snapshot.slot.used), (0, 0, 0), "{id}");
    }
    for (id, epoch) in ids[..3].iter().zip([7, 7, 7]) {
        let record = source.snapshot(id).await.slot.record.expect("a pointer");
        assert_eq!((record.state(), record.epoch()), ("moved", epoch), "{id}");
    }
    assert_eq!(source.snapshot(&ids[3]).await.slot.record.expect("an end").state(), "expired");
    assert_eq!(source.store.pending(10).await.unwrap(), std::slice::from_ref(&ids[3]));
}
