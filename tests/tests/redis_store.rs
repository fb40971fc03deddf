//! What only the Redis store has: memory limits, an index that lags, replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use funicular::protocol::{Access, Event, Reply};
use funicular::session::{FunctionName, Record};
use funicular::store::redis::{ConnectError, RedisOptions, RedisStore};
use funicular::store::{
    Begun, Commit, Committed, Durability, Promise, SessionStore, StoreError, StoreScope,
    WindowLimits,
};
use funicular_tests::bench::{Bench, Kind, Move, ask, connect, delete, node, scope, session, set};
use funicular_tests::conformance::data::noise;
use funicular_tests::redis::{RedisServer, Setup, hasty_server, waitaof_server};

async fn refused(url: &str, options: RedisOptions) -> ConnectError {
    let scope = scope(&node("edge"), WindowLimits::default());
    match RedisStore::connect(url, options, scope).await {
        Err(error) => error,
        Ok(_) => panic!("it should be refused"),
    }
}

#[tokio::test]
async fn g2_a_redis_that_evicts_is_refused() {
    let server = RedisServer::start(Setup { policy: "allkeys-lru", ..Setup::default() });
    let error = refused(&server.url(), RedisOptions::default()).await;
    assert!(matches!(&error, ConnectError::Evicts(policy) if policy == "allkeys-lru"));
    assert!(error.to_string().contains("config set maxmemory-policy noeviction"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_in_a_sentence() {
    let away = refused("redis://127.0.0.1:1/0", RedisOptions::default()).await;
    assert!(matches!(away, ConnectError::Unreachable(_)), "{away}");
    let away = refused("redis+unix:///nowhere/socket", RedisOptions::default()).await;
    assert!(matches!(away, ConnectError::Unreachable(_)), "{away}");
    let url = refused("http://localhost", RedisOptions::default()).await;
    assert!(matches!(url, ConnectError::Url(_)), "{url}");
    let prefix = RedisOptions { prefix: "a{b".into(), ..RedisOptions::default() };
    let server = RedisServer::plain();
    assert!(matches!(refused(&server.url(), prefix).await, ConnectError::Prefix(_)));
}

#[tokio::test]
async fn the_promise_is_the_servers() {
    for (setup, always) in [
        (Setup::default(), Promise::None),
        (Setup::durable("always"), Promise::Always),
        (Setup::durable("no"), Promise::Everysec),
    ] {
        let server = RedisServer::start(setup);
        let store = connect(&server, &node("edge"), WindowLimits::default()).await;
        assert_eq!(store.promise(), always);
    }
    // Not every server that has WAITAOF keeps its word.
    let servers = [(waitaof_server(), Promise::WaitAof), (hasty_server(), Promise::Everysec)];
    for (program, expected) in servers.into_iter().filter(|(program, _)| program.is_some()) {
        let server = RedisServer::start(Setup { program, ..Setup::durable("everysec") });
        let store = connect(&server, &node("edge"), WindowLimits::default()).await;
        assert_eq!(store.promise(), expected);
    }
}

/// Lowers the server's limit below what it holds.
fn fill(bench: &Bench) {
    bench.server.as_ref().unwrap().cli(&["CONFIG", "SET", "maxmemory", "1"]);
}

#[tokio::test]
async fn g2_a_full_redis_takes_no_data_and_can_be_relieved() {
    let source = Bench::on(RedisServer::plain(), "edge", WindowLimits::default()).await;
    let target = Bench::new(Kind::Redis, "middle").await;
    let id = session("s");
    source.write_as(&id, "r", vec![set("a", noise(100_000)), set("b", "2")]).await;
    let running = source.turn(&id).await;
    fill(&source);

    // Nothing is created, nothing grows, and nothing of it is written.
    let created = source.store.begin(&session("new"), &ask(Access::Write)).await;
    assert!(matches!(created, Err(StoreError::Full)), "{created:?}");
    let mut known = ask(Access::Write);
    known.ask.create = None;
    assert!(matches!(source.begin(&session("new"), &known).await, Begun::Other { .. }));
    let before = source.dump(&id).await.unwrap();
    let more = Commit { data: vec![delete("b"), set("c", "3")], ..running.commit() };
    assert!(matches!(source.store.commit(&id, &more).await, Err(StoreError::Full)));
    assert_eq!(source.dump(&id).await.unwrap(), before);
    // What shrinks is welcome, and reads go on.
    let less = Commit { data: vec![delete("b")], ..running.commit() };
    assert_eq!(source.commit(&id, &less).await, Committed::Applied);
    assert!(matches!(source.begin(&id, &ask(Access::Read)).await, Begun::Run(_)));
    let turn = source.turn(&id).await;
    source.store.release(&id, turn.lease).await.unwrap();
    source.store.set_setting("status", Some("reject")).await.unwrap();

    // The session leaves.
    let moving = Move::whole(&source, &target, &id).await;
    assert!(target.dump(&id).await.unwrap().contains_key("sa"));
    assert_eq!(
        source.store.old_pointers(u64::MAX >> 12, 9).await.unwrap(),
        std::slice::from_ref(&id)
    );
    // Nothing arrives: its pages are refused before anything is installed.
    let back = Move::agree(&target, &source, &id).await;
    back.freeze(&target).await;
    let page = target.store.export(&id, back.pull.nonce, None).await.unwrap().unwrap();
    let staged = source.store.stage(&id, back.pull.nonce, &page).await;
    assert!(matches!(staged, Err(StoreError::Full)), "{staged:?}");
    let close = Event::ClosePull { nonce: back.pull.nonce };
    assert_eq!(source.step(&id, &close).await, Ok(Reply::Changed));
    drop(moving);
}

#[tokio::test]
async fn the_index_mends_itself() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    let cli = |words: &[&str]| bench.server.as_ref().unwrap().cli(words);
    for place in 0..40 {
        bench.write(&session(&format!("s{place}")), vec![set("k", "v")]).await;
    }
    for place in 0..10 {
        Move::whole(&bench, &target, &session(&format!("s{place}"))).await;
    }
    Move::agree(&bench, &target, &session("s20")).await;
    // All is lost, and lies stand in its place.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for key in ["homes", "residents:edge", "pointers", "pending"] {
        cli(&["DEL", &format!("f:cart:{key}")]);
    }
    cli(&["SADD", "f:cart:homes", "edge", "gone"]);
    cli(&["ZADD", "f:cart:residents:edge", "1", "never-was", "2", "s0"]);
    cli(&["ZADD", "f:cart:residents:gone", "1", "s11"]);
    cli(&["ZADD", "f:cart:pointers", "1", "s12", "1", "never-was"]);
    let mut cursor = None;
    for rounds in 0.. {
        cursor = bench.store.mend_index(cursor).await.unwrap();
        if cursor.is_none() {
            break;
        }
        assert!(rounds < 1000, "it comes to an end");
    }
    let residents = bench.store.residents(None, 100).await.unwrap();
    assert_eq!(residents.len(), 30);
    assert_eq!(bench.store.counts().await.unwrap().resident, 30);
    assert_eq!(bench.store.old_pointers(u64::MAX >> 12, 100).await.unwrap().len(), 10);
    assert_eq!(bench.store.pending(10).await.unwrap(), [session("s20")]);
    assert!(bench.store.mend_index(Some("nonsense".into())).await.is_err());
}

#[tokio::test]
async fn a_listing_drops_what_is_not_there() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    bench.write(&session("s"), vec![set("k", "v")]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let server = bench.server.as_ref().unwrap();
    server.cli(&["ZADD", "f:cart:residents:edge", "1", "never-was"]);
    let found = bench.store.residents(None, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(server.number(&["ZCARD", "f:cart:residents:edge"]), 1);
}

/// Steps get through however busy the session is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g6_a_busy_session_agrees_and_freezes() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    let id = session("s");
    bench.write(&id, vec![set("n", "0")]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (store, id, stop) = (bench.store.clone(), id.clone(), stop.clone());
        writers.spawn(async move {
            let mut written = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let request = ask(Access::Write);
                if let Begun::Run(run) = store.begin(&id, &request).await.unwrap() {
                    let commit = Commit {
                        lease: request.ask.lease,
                        life: run.life,
                        epoch: run.epoch,
                        data: vec![set("n", "x")],
                        outbox: Vec::new(),
                        remember: None,
                        max_bytes: 1000,
                    };
                    let committed = store.commit(&id, &commit).await.unwrap();
                    assert_eq!(committed, Committed::Applied);
                    written += 1;
                }
            }
            written
        });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..10 {
        let moving = Move::agree(&bench, &target, &id).await;
        let wait_until = bench.now().await + 2000;
        let freeze = Event::Freeze { nonce: moving.pull.nonce, wait_until };
        let mut tries = 0;
        while bench.step(&id, &freeze).await != Ok(Reply::Changed) {
            tries += 1;
            assert!(tries < 200, "the freeze never gets its turn");
        }
        let no = Event::Answer { transfer: moving.transfer.clone(), installed: false };
        assert_eq!(bench.step(&id, &no).await, Ok(Reply::Changed));
        target.step(&id, &Event::ClosePull { nonce: moving.pull.nonce }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    while let Some(done) = writers.join_next().await {
        written += done.unwrap();
    }
    assert_eq!(bench.snapshot(&id).await.version, u64::from(written) + 1);
}

/// Two replicas decide at the same time; only one decision is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_one_of_two_decisions_is_written() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let targets = [node("middle"), node("root")];
    for round in 0..50 {
        let id = session(&format!("s{round}"));
        bench.write(&id, vec![set("k", "v")]).await;
        let (life, epoch) = bench.life(&id).await;
        let mut steps = tokio::task::JoinSet::new();
        for to in targets.clone() {
            let (store, id) = (bench.store.clone(), id.clone());
            let transfer = funicular::session::Transfer {
                to,
                next_epoch: epoch + 1,
                nonce: funicular::session::Nonce(rand::random()),
            };
            let agree = Event::Agree { life: life.clone(), transfer };
            steps.spawn(async move { store.step(&id, &agree, Durability::Synced).await.unwrap() });
        }
        let mut agreed = 0;
        while let Some(done) = steps.join_next().await {
            agreed += u32::from(done.unwrap() == Ok(Reply::Changed));
        }
        assert_eq!(agreed, 1);
        let record = bench.snapshot(&id).await.slot.record;
        assert!(matches!(record, Some(Record::Owned { intent: Some(_), .. })));
    }
}

#[tokio::test]
async fn functions_share_a_redis_without_meeting() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let server = bench.server.as_ref().unwrap();
    let other = StoreScope {
        function: FunctionName::new("cart2").unwrap(),
        ..scope(&bench.node, WindowLimits::default())
    };
    let other = RedisStore::connect(&server.url(), RedisOptions::default(), other).await.unwrap();
    other.recover_restart().await.unwrap();
    let id = session("s");
    bench.write(&id, vec![set("k", "v")]).await;
    assert_eq!(other.snapshot(&id).await.unwrap().slot.record, None);
    other.mend_index(None).await.unwrap();
    assert_eq!(other.counts().await.unwrap().resident, 0);
}

/// What an idle session costs Redis beyond its data: at most 600 bytes.
#[tokio::test]
async fn an_idle_session_is_small() {
    const SESSIONS: u64 = 5000;
    let bench = Bench::new(Kind::Redis, "edge").await;
    let server = bench.server.as_ref().unwrap();
    let used = || {
        let text = server.cli(&["INFO", "memory"]);
        let text: String = redis::from_redis_value(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let data = || vec![set("cart", noise(200))];
    bench.write(&session("first"), data()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = used();
    for place in 0..SESSIONS {
        bench.write(&session(&format!("0198b2f4-7c1e-7d3a-9f00-{place:012}")), data()).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let whole = (used() - before) / SESSIONS;
    let key = "f:{cart/0198b2f4-7c1e-7d3a-9f00-000000000042}";
    let data = server.number(&["MEMORY", "USAGE", &format!("{key}:d")]);
    let meta = server.number(&["MEMORY", "USAGE", &format!("{key}:m")]);
    let index = server.number(&["MEMORY", "USAGE", "f:cart:residents:edge", "SAMPLES", "0"]);
    let share = index / SESSIONS;
    println!("idle session: {whole} B in all, of which data {data}, meta {meta}, index {share}");
    assert_eq!(bench.store.counts().await.unwrap().resident, SESSIONS + 1);
    assert!(whole - data <= 600, "{whole} - {data}");
}
