//! Leases: who may write, and when.

use std::time::Duration;

use funicular::protocol::{Access, Event, Reply};
use funicular::session::{Epoch, LeaseId, Record};
use funicular::store::{BeginRequest, Begun, Commit, Committed, Read, ReadGuard};

use crate::bench::{Bench, Move, ask, node, session, set};

pub async fn g1_an_absent_session_is_created_only_where_it_may(bench: &Bench) {
    let id = session("s");
    for access in [Access::Read, Access::Write] {
        let mut request = ask(access);
        request.ask.create = None;
        match bench.begin(&id, &request).await {
            Begun::Other { slot, now } => {
                assert_eq!(slot.record, None);
                assert!(now > 0);
            }
            other => panic!("{other:?}"),
        }
    }
    let turn = bench.turn(&id).await;
    assert!(turn.session.created);
    assert_eq!((turn.session.version, turn.session.bytes, turn.session.epoch), (0, 0, 1));
    assert_eq!(turn.session.life.home, bench.node);
    assert_eq!(turn.session.data, Some(std::sync::Arc::default()));
    bench.commit(&id, &turn.commit()).await;
    assert!(!bench.turn(&id).await.session.created);
}

pub async fn g1_a_reader_may_create_and_holds_no_lease(bench: &Bench) {
    let id = session("s");
    for created in [true, false] {
        match bench.begin(&id, &ask(Access::Read)).await {
            Begun::Run(run) => assert_eq!(run.created, created),
            other => panic!("{other:?}"),
        }
    }
    let snapshot = bench.snapshot(&id).await;
    assert_eq!(snapshot.slot.lease, None);
    assert!(snapshot.slot.used > 0);
    let turn = bench.turn(&id).await;
    // Any number of readers run beside the writer.
    for _ in 0..3 {
        assert!(matches!(bench.begin(&id, &ask(Access::Read)).await, Begun::Run(_)));
    }
    let commit = Commit { data: vec![set("k", "v")], ..turn.commit() };
    assert_eq!(bench.commit(&id, &commit).await, Committed::Applied);
}

pub async fn g1_one_writer_at_a_time(bench: &Bench) {
    let id = session("{a}%{b}");
    let turn = bench.turn(&id).await;
    match bench.begin(&id, &ask(Access::Write)).await {
        Begun::Other { slot, now } => {
            assert_eq!(slot.live_lease(now).map(|lease| lease.id), Some(turn.lease));
        }
        other => panic!("{other:?}"),
    }
    bench.commit(&id, &turn.commit()).await;
    bench.turn(&id).await;
}

pub async fn g1_a_released_lease_is_free(bench: &Bench) {
    let id = session("s");
    let turn = bench.turn(&id).await;
    // Somebody else's release does nothing.
    bench.store.release(&id, LeaseId(1)).await.unwrap();
    assert!(bench.snapshot(&id).await.slot.lease.is_some());
    bench.store.release(&id, turn.lease).await.unwrap();
    assert_eq!(bench.snapshot(&id).await.slot.lease, None);
    let commit = Commit { data: vec![set("k", "v")], ..turn.commit() };
    assert_eq!(bench.commit(&id, &commit).await, Committed::LeaseLost);
    bench.turn(&id).await;
}

fn brief() -> BeginRequest {
    let mut request = ask(Access::Write);
    request.ask.lease_ttl = 60;
    request
}

pub async fn g1_a_lease_that_ran_out_is_anybodys(bench: &Bench) {
    let id = session("s");
    let request = brief();
    let Begun::Run(run) = bench.begin(&id, &request).await else { panic!("it should run") };
    tokio::time::sleep(Duration::from_millis(80)).await;
    // A read of the old turn still holds until somebody takes the lease.
    let guard = ReadGuard::Lease(request.ask.lease);
    assert!(bench.store.read(&id, &guard, &Read::Keys).await.unwrap().is_some());
    let next = bench.turn(&id).await;
    assert!(bench.store.read(&id, &guard, &Read::Keys).await.unwrap().is_none());
    assert!(!bench.store.renew(&id, request.ask.lease, Duration::from_secs(1)).await.unwrap());
    let late = Commit {
        lease: request.ask.lease,
        life: run.life,
        data: vec![set("k", "late")],
        ..next.commit()
    };
    assert_eq!(bench.commit(&id, &late).await, Committed::LeaseLost);
    let commit = Commit { data: vec![set("k", "v")], ..next.commit() };
    assert_eq!(bench.commit(&id, &commit).await, Committed::Applied);
    assert_eq!(bench.dump(&id).await.unwrap().get("sk").unwrap(), "v");
}

pub async fn g1_a_renewed_lease_holds(bench: &Bench) {
    let id = session("s");
    let request = brief();
    bench.begin(&id, &request).await;
    let lease = request.ask.lease;
    assert!(bench.store.renew(&id, lease, Duration::from_secs(60)).await.unwrap());
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(matches!(bench.begin(&id, &ask(Access::Write)).await, Begun::Other { .. }));
}

pub async fn g1_a_commit_names_life_and_epoch(bench: &Bench) {
    let id = session("s");
    let turn = bench.turn(&id).await;
    let data = vec![set("k", "v")];
    let mut wrong = Commit { data: data.clone(), epoch: 2, ..turn.commit() };
    assert_eq!(bench.commit(&id, &wrong).await, Committed::LeaseLost);
    wrong.epoch = 1;
    wrong.life.home = node("elsewhere");
    assert_eq!(bench.commit(&id, &wrong).await, Committed::LeaseLost);
    assert_eq!(bench.commit(&id, &Commit { data, ..turn.commit() }).await, Committed::Applied);
}

pub async fn g1_a_waiting_freeze_keeps_new_leases_off(bench: &Bench, other: &Bench) {
    let id = session("s");
    bench.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(bench, other, &id).await;
    let turn = bench.turn(&id).await;
    let wait_until = bench.now().await + 300;
    let freeze = Event::Freeze { nonce: moving.pull.nonce, wait_until };
    assert_eq!(bench.step(&id, &freeze).await, Ok(Reply::FreezeWaits));
    bench.commit(&id, &turn.commit()).await;
    match bench.begin(&id, &ask(Access::Write)).await {
        Begun::Other { slot, now } => assert!(slot.freeze_waits(now)),
        other => panic!("{other:?}"),
    }
    // The deadline passes: the freeze gave up, requests run again.
    tokio::time::sleep(Duration::from_millis(350)).await;
    let turn = bench.turn(&id).await;
    assert_eq!(bench.snapshot(&id).await.slot.freeze_until, None);
    bench.commit(&id, &turn.commit()).await;
    assert_eq!(bench.step(&id, &freeze).await, Ok(Reply::Changed));
}

pub async fn g1_a_frozen_session_takes_no_writes(bench: &Bench, other: &Bench) {
    let id = session("s");
    bench.write_as(&id, "r", vec![set("k", "v")]).await;
    let moving = Move::agree(bench, other, &id).await;
    // A lease that has run out does not hold the freeze up, and commits no more.
    let request = brief();
    let Begun::Run(run) = bench.begin(&id, &request).await else { panic!("it should run") };
    tokio::time::sleep(Duration::from_millis(80)).await;
    moving.freeze(bench).await;
    let late = Commit {
        lease: request.ask.lease,
        life: run.life,
        epoch: run.epoch,
        data: vec![set("k", "late")],
        outbox: Vec::new(),
        remember: None,
        max_bytes: 1000,
    };
    assert_eq!(bench.commit(&id, &late).await, Committed::LeaseLost);
    let mut again = ask(Access::Write);
    again.request = Some(crate::bench::request("r"));
    for request in [ask(Access::Write), again, ask(Access::Read)] {
        match bench.begin(&id, &request).await {
            Begun::Other { slot, .. } => {
                assert!(matches!(slot.record, Some(Record::Migrating { .. })));
            }
            other => panic!("{other:?}"),
        }
    }
    // Reads go on for as long as the caller says.
    let mut read = ask(Access::Read);
    read.ask.frozen_reads = true;
    match bench.begin(&id, &read).await {
        Begun::Run(run) => assert_eq!(run.data.unwrap().get("sk").unwrap(), "v"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.dump(&id).await.unwrap().get("sk").unwrap(), "v");
}

pub async fn g1_a_session_that_arrived_waits_with_its_first_write(bench: &Bench, other: &Bench) {
    let id = session("s");
    other.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(other, bench, &id).await;
    moving.freeze(other).await;
    moving.carry(other, bench, 1).await;
    assert_eq!(moving.install(bench).await, Ok(Reply::Changed));
    let asked = |epoch: Option<Epoch>| {
        let mut request = ask(Access::Write);
        request.ask.unsettled_writes = epoch;
        request
    };
    for epoch in [None, Some(1), Some(3), Some(22)] {
        let begun = bench.begin(&id, &asked(epoch)).await;
        assert!(matches!(begun, Begun::Other { .. }), "{epoch:?}: {begun:?}");
    }
    assert!(matches!(bench.begin(&id, &ask(Access::Read)).await, Begun::Run(_)));
    assert!(matches!(bench.begin(&id, &asked(Some(2))).await, Begun::Run(_)));
}

pub async fn g1_a_node_with_an_open_pull_creates_nothing(bench: &Bench, other: &Bench) {
    let id = session("s");
    other.write(&id, vec![set("k", "v")]).await;
    let moving = Move::plan(other, bench, &id).await;
    bench.step(&id, &Event::OpenPull(moving.pull.clone())).await.unwrap();
    match bench.begin(&id, &ask(Access::Write)).await {
        Begun::Other { slot, .. } => assert_eq!(slot.pull, Some(moving.pull.clone())),
        other => panic!("{other:?}"),
    }
    bench.step(&id, &Event::ClosePull { nonce: moving.pull.nonce }).await.unwrap();
    assert!(bench.turn(&id).await.session.created);
}

pub async fn g1_a_guarded_read_sees_one_version(bench: &Bench, other: &Bench) {
    let id = session("s");
    bench.write(&id, vec![set("k", "1")]).await;
    let Begun::Run(run) = bench.begin(&id, &ask(Access::Read)).await else {
        panic!("it should run")
    };
    let guard = |version, epoch, frozen| ReadGuard::Version {
        life: run.life.clone(),
        epoch,
        version,
        frozen,
    };
    let read = async |guard| bench.store.read(&id, &guard, &Read::Value("k".into())).await.unwrap();
    assert_eq!(read(guard(1, 1, false)).await.unwrap().get("sk").unwrap(), "1");
    assert_eq!(read(guard(1, 2, false)).await, None);
    assert_eq!(read(guard(2, 1, false)).await, None);
    bench.write(&id, vec![set("k", "2")]).await;
    assert_eq!(read(guard(1, 1, false)).await, None);
    assert_eq!(read(guard(2, 1, false)).await.unwrap().get("sk").unwrap(), "2");

    let moving = Move::agree(bench, other, &id).await;
    moving.freeze(bench).await;
    assert_eq!(read(guard(2, 1, false)).await, None);
    assert_eq!(read(guard(2, 1, true)).await.unwrap().get("sk").unwrap(), "2");
    assert_eq!(bench.step(&id, &moving.done()).await, Ok(Reply::Changed));
    assert_eq!(read(guard(2, 1, true)).await, None);
}

pub async fn g1_many_writers_take_turns(bench: &Bench) {
    let id = session("s");
    let store = &bench.store;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, id) = (store.clone(), id.clone());
        writers.spawn(async move {
            let mut done = 0;
            while done < 25 {
                let request = ask(Access::Write);
                let Begun::Run(run) = store.begin(&id, &request).await.unwrap() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let fields = run.data.unwrap();
                let count = fields
                    .get("sn")
                    .map_or(0, |n| std::str::from_utf8(n).unwrap().parse::<u32>().unwrap());
                let commit = Commit {
                    lease: request.ask.lease,
                    life: run.life,
                    epoch: run.epoch,
                    data: vec![set("n", (count + 1).to_string())],
                    outbox: Vec::new(),
                    remember: None,
                    max_bytes: 1000,
                };
                assert_eq!(store.commit(&id, &commit).await.unwrap(), Committed::Applied);
                done += 1;
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(bench.dump(&id).await.unwrap().get("sn").unwrap(), "200");
    assert_eq!(bench.snapshot(&id).await.version, 200);
}
