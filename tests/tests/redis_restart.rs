//! Redis goes away and comes back, with or without its last second.

use std::time::{Duration, Instant};

use funicular::protocol::{Access, Event, Reply};
use funicular::session::Record;
use funicular::store::redis::{RedisOptions, RedisStore};
use funicular::store::{Durability, Promise, SessionStore, StoreError, WindowLimits};
use funicular_tests::bench::{Bench, Move, ask, connect, node, session, set};
use funicular_tests::redis::{RedisServer, Setup, waitaof_server};

async fn durable(setup: Setup, name: &str) -> Bench {
    Bench::on(RedisServer::start(setup), name, WindowLimits::default()).await
}

/// Asks until the store answers something else than that it is away.
async fn answer_of(bench: &Bench) -> (StoreError, Duration) {
    let begun = Instant::now();
    loop {
        match bench.store.begin(&session("s"), &ask(Access::Read)).await {
            Err(StoreError::Unavailable(_)) => {
                assert!(begun.elapsed() < Duration::from_secs(2), "it should be back by now");
            }
            Err(other) => return (other, begun.elapsed()),
            Ok(begun) => panic!("a restart goes unnoticed: {begun:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn g7_a_redis_that_is_away_fails_fast_and_resumes() {
    for tcp in [false, true] {
        let setup = Setup { tcp, ..Setup::durable("always") };
        let mut bench = durable(setup, "edge").await;
        bench.write(&session("s"), vec![set("k", "v")]).await;
        bench.server().kill9();
        for _ in 0..20 {
            let begun = Instant::now();
            let found = bench.store.snapshot(&session("s")).await;
            assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
            assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
        }
        bench.server().restart();
        let (error, took) = answer_of(&bench).await;
        assert!(matches!(error, StoreError::Restarted), "{error:?}");
        assert!(took < Duration::from_millis(500), "{took:?}");
        bench.store.recover_restart().await.unwrap();
        assert_eq!(bench.dump(&session("s")).await.unwrap().get("sk").unwrap(), "v");
        bench.write(&session("s"), vec![set("k", "w")]).await;
    }
}

#[tokio::test]
async fn g7_a_redis_that_hangs_is_not_waited_for() {
    let server = RedisServer::plain();
    let options =
        RedisOptions { response_timeout: Duration::from_millis(200), ..RedisOptions::default() };
    let scope = funicular_tests::bench::scope(&node("edge"), WindowLimits::default());
    let store = RedisStore::connect(&server.url(), options, scope).await.unwrap();
    store.recover_restart().await.unwrap();
    server.pause();
    for _ in 0..3 {
        let begun = Instant::now();
        let found = store.snapshot(&session("s")).await;
        assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
        assert!(begun.elapsed() < Duration::from_millis(400));
    }
    server.resume();
    store.snapshot(&session("s")).await.unwrap();
}

#[tokio::test]
async fn g1_nothing_is_served_between_a_restart_and_its_recovery() {
    let mut bench = durable(Setup::durable("always"), "edge").await;
    let id = session("s");
    bench.write(&id, vec![set("k", "v")]).await;
    let turn = bench.turn(&id).await;
    bench.server().restart();
    answer_of(&bench).await;
    let store = &bench.store;
    let restarted = |error: StoreError| assert!(matches!(error, StoreError::Restarted));
    restarted(store.commit(&id, &turn.commit()).await.unwrap_err());
    restarted(store.renew(&id, turn.lease, Duration::from_secs(1)).await.unwrap_err());
    restarted(store.release(&id, turn.lease).await.unwrap_err());
    restarted(store.snapshot(&id).await.unwrap_err());
    restarted(store.dump(&id).await.unwrap_err());
    restarted(store.outbox(&id, 1).await.unwrap_err());
    // Settings say of whom the store waits for.
    assert_eq!(store.set_setting("a", None).await.unwrap(), None);
    let told = Event::Told { epoch: 1 };
    restarted(store.step(&id, &told, Durability::Eventual).await.unwrap_err());
    store.recover_restart().await.unwrap();
    // The lease outlives the restart, and so does its commit.
    bench.commit(&id, &turn.commit()).await;
    bench.turn(&id).await;
}

/// The source forgets that it froze: without recovery it would write on while the
/// target owns the session.
#[tokio::test]
async fn g1_a_forgotten_freeze_is_a_freeze_again() {
    let mut source = durable(Setup::durable("everysec"), "edge").await;
    let target = Bench::new(funicular_tests::bench::Kind::Memory, "middle").await;
    let id = session("s");
    source.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(&source, &target, &id).await;
    source.server().sync_point();
    moving.freeze(&source).await;
    moving.carry(&source, &target, 1).await;
    moving.install(&target).await.unwrap();
    let waits = source.store.promise() == Promise::WaitAof;
    source.server().power_loss();
    source.server().restart();
    answer_of(&source).await;
    // The intent is there; the freeze is not, unless it was waited for.
    let before = source.server().cli(&["HGET", "f:{cart/s}:m", "r"]);
    let owned = matches!(&before, redis::Value::BulkString(r) if r.starts_with(b"O"));
    assert_eq!(owned, !waits, "{before:?}");
    source.store.recover_restart().await.unwrap();
    let record = source.snapshot(&id).await.slot.record;
    assert!(matches!(record, Some(Record::Migrating { .. })), "{record:?}");
    assert_eq!(source.store.pending(10).await.unwrap(), std::slice::from_ref(&id));
    moving.settle(&source, &target).await;
}

#[tokio::test]
async fn g1_recovery_finds_intents_that_the_index_forgot() {
    let mut source = durable(Setup::durable("always"), "edge").await;
    let target = Bench::new(funicular_tests::bench::Kind::Memory, "middle").await;
    let ids: Vec<_> = (0..50).map(|i| session(&format!("s{i}"))).collect();
    for id in &ids {
        source.write(id, vec![set("k", "v")]).await;
    }
    for id in &ids[..20] {
        Move::agree(&source, &target, id).await;
    }
    source.server().cli(&["DEL", "f:cart:pending"]);
    source.server().restart();
    answer_of(&source).await;
    source.store.recover_restart().await.unwrap();
    for (place, id) in ids.iter().enumerate() {
        let record = source.snapshot(id).await.slot.record;
        let frozen = matches!(record, Some(Record::Migrating { .. }));
        assert_eq!(frozen, place < 20, "{record:?}");
    }
    assert_eq!(source.store.pending(100).await.unwrap().len(), 20);
}

#[tokio::test]
async fn g1_replicas_recover_side_by_side_and_functions_each_their_own() {
    let mut bench = durable(Setup::durable("always"), "edge").await;
    let target = Bench::new(funicular_tests::bench::Kind::Memory, "middle").await;
    let id = session("s");
    bench.write(&id, vec![set("k", "v")]).await;
    let window = WindowLimits::default();
    let replica = connect(bench.server.as_ref().unwrap(), &node("edge"), window).await;
    let foreign = connect(bench.server.as_ref().unwrap(), &node("other"), window).await;
    // A replica that joins finds everything loaded; another node's store does not.
    replica.snapshot(&id).await.unwrap();
    assert!(matches!(foreign.snapshot(&id).await, Err(StoreError::Restarted)));
    Move::agree(&bench, &target, &id).await;
    bench.server().restart();
    answer_of(&bench).await;
    let (one, other) = tokio::join!(bench.store.recover_restart(), replica.recover_restart());
    one.unwrap();
    other.unwrap();
    let record = bench.snapshot(&id).await.slot.record;
    assert!(matches!(record, Some(Record::Migrating { .. })));
    assert_eq!(replica.snapshot(&id).await.unwrap().slot.record, record);
    assert!(matches!(foreign.snapshot(&id).await, Err(StoreError::Restarted)));
}

#[tokio::test]
async fn g2_what_was_synced_survives_power_loss() {
    let always = RedisServer::start(Setup::durable("always"));
    let mut servers = vec![(always, Promise::Always)];
    if let Some(program) = waitaof_server() {
        let everysec = Setup { program: Some(program), ..Setup::durable("everysec") };
        servers.push((RedisServer::start(everysec), Promise::WaitAof));
    }
    for (server, promise) in servers {
        let mut bench = Bench::on(server, "edge", WindowLimits::default()).await;
        let target = Bench::new(funicular_tests::bench::Kind::Memory, "middle").await;
        assert_eq!(bench.store.promise(), promise);
        let ids: Vec<_> = (0..20).map(|i| session(&format!("s{i}"))).collect();
        let mut moves = Vec::new();
        for id in &ids {
            bench.write(id, vec![set("k", "v")]).await;
            let moving = Move::plan(&bench, &target, id).await;
            target.step(id, &Event::OpenPull(moving.pull.clone())).await.unwrap();
            moves.push(moving);
        }
        // All at once: those who wait for the disk wait together.
        let begun = Instant::now();
        let mut steps = tokio::task::JoinSet::new();
        for moving in &moves {
            let (store, event, id) = (bench.store.clone(), moving.agreed(), moving.id.clone());
            steps.spawn(async move { store.step(&id, &event, Durability::Synced).await });
        }
        while let Some(done) = steps.join_next().await {
            assert_eq!(done.unwrap().unwrap(), Ok(Reply::Changed));
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        bench.store.set_setting("status", Some("reject")).await.unwrap();
        bench.server().power_loss();
        bench.server().restart();
        answer_of(&bench).await;
        bench.store.recover_restart().await.unwrap();
        for id in &ids {
            let record = bench.snapshot(id).await.slot.record;
            assert!(matches!(record, Some(Record::Migrating { .. })), "{promise:?}: {record:?}");
        }
        assert_eq!(bench.store.setting("status").await.unwrap().as_deref(), Some("reject"));
    }
}
