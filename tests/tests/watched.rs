//! Reads that ask only whether anything has changed: what that saves, and that it hides
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use funicular::protocol::Access;
use funicular::session::SessionId;
use funicular::store::{Begun, Commit, SessionStore, StoreError, WindowLimits};
use funicular_tests::bench::{Bench, Kind, Move, Turn, ask, connect, session, set};
use funicular_tests::redis::RedisServer;
use tokio::task::JoinSet;

/// What a read-only request sees of `k`.
async fn read(store: &dyn SessionStore, id: &SessionId) -> u64 {
    let Begun::Run(run) = store.begin(id, &ask(Access::Read)).await.unwrap() else {
        panic!("it should run")
    };
    let data = run.data.expect("it is small");
    std::str::from_utf8(&data["sk"]).unwrap().parse().unwrap()
}

async fn write(store: &dyn SessionStore, id: &SessionId, value: u64) {
    let request = ask(Access::Write);
    let Begun::Run(session) = store.begin(id, &request).await.unwrap() else {
        panic!("it should run")
    };
    let turn = Turn { id: id.clone(), lease: request.ask.lease, session };
    let commit = Commit { data: vec![set("k", value.to_string())], ..turn.commit() };
    store.commit(id, &commit).await.unwrap();
}

/// How often the server has run a command.
fn calls(bench: &Bench, command: &str) -> u64 {
    let info = bench.server.as_ref().unwrap().cli(&["INFO", "commandstats"]);
    let info: String = redis::from_redis_value(info).unwrap();
    let line =
        info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

/// Reads until a read does not look at the session any more.
async fn until_watched(bench: &Bench, id: &SessionId) {
    bench
        .soon("reads that only ask whether anything has changed", async || {
            let before = [calls(bench, "evalsha"), calls(bench, "hmget")];
            read(&*bench.store, id).await;
            let after = [calls(bench, "evalsha"), calls(bench, "hmget")];
            (after == [before[0] + 1, before[1]]).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_session_that_is_read_again_and_again_is_not_looked_at_each_time() {
    let bench = Arc::new(Bench::new(Kind::Redis, "edge").await);
    let id = session("s");
    bench.write(&id, vec![set("k", "1")]).await;
    until_watched(&bench, &id).await;
    // Many at once are one question.
    let before = calls(&bench, "evalsha");
    let mut reads = JoinSet::new();
    for _ in 0..50 {
        let (bench, id) = (Arc::clone(&bench), id.clone());
        reads.spawn(async move { read(&*bench.store, &id).await });
    }
    assert_eq!(reads.join_all().await, [1; 50]);
    assert!(calls(&bench, "evalsha") < before + 25, "{before}");
}

#[tokio::test]
async fn g1_g5_a_change_by_another_replica_is_never_overlooked() {
    let bench = Arc::new(Bench::new(Kind::Redis, "edge").await);
    let other = connect(bench.server.as_ref().unwrap(), &bench.node, WindowLimits::default()).await;
    let id = session("s");
    bench.write(&id, vec![set("k", "0")]).await;
    until_watched(&bench, &id).await;
    // Acknowledged so far; whatever is read later is no older.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (bench, id) = (Arc::clone(&bench), id.clone());
            let (acknowledged, over) = (Arc::clone(&acknowledged), Arc::clone(&over));
            tokio::spawn(async move {
                let mut reads = 0;
                while !over.load(Ordering::SeqCst) {
                    let least = acknowledged.load(Ordering::SeqCst);
                    let found = read(&*bench.store, &id).await;
                    assert!(found >= least, "{found} was read after {least} was written");
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for value in 1..=400 {
        write(&other, &id, value).await;
        acknowledged.store(value, Ordering::SeqCst);
        // Some are read often enough to be watched before the next write, some are not.
        for _ in 0..value % 7 {
            read(&*bench.store, &id).await;
        }
    }
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    // Its own writes it knows, too.
    write(&*bench.store, &id, 1000).await;
    assert_eq!(read(&*bench.store, &id).await, 1000);
}

#[tokio::test]
async fn g5_a_session_that_leaves_is_noticed() {
    let source = Bench::new(Kind::Redis, "edge").await;
    let target = Bench::new(Kind::Memory, "root").await;
    let id = session("s");
    source.write(&id, vec![set("k", "1")]).await;
    until_watched(&source, &id).await;
    Move::whole(&source, &target, &id).await;
    let begun = source.begin(&id, &ask(Access::Read)).await;
    assert!(matches!(begun, Begun::Other { .. }), "{begun:?}");
}

/// A closed store serves nobody, whoever remembers what.
#[tokio::test]
async fn g1_nothing_is_read_from_memory_of_a_store_that_is_closed() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let id = session("s");
    bench.write(&id, vec![set("k", "1")]).await;
    until_watched(&bench, &id).await;
    bench.store.close().await.unwrap();
    let begun = bench.store.begin(&id, &ask(Access::Read)).await;
    assert!(matches!(begun, Err(StoreError::Restarted)), "{begun:?}");
}

/// A server that has become a replica still answers what writes nothing.
#[tokio::test]
async fn g1_nothing_is_read_from_memory_of_a_server_that_is_no_master_any_more() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let master = RedisServer::plain();
    let id = session("s");
    bench.write(&id, vec![set("k", "1")]).await;
    until_watched(&bench, &id).await;
    let server = bench.server.as_ref().unwrap();
    server.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let begun = bench.store.begin(&id, &ask(Access::Read)).await;
    assert!(begun.is_err(), "{begun:?}");
}

/// Whatever becomes of the connection on which changes are heard.
#[tokio::test]
async fn g1_g5_what_is_not_heard_of_is_looked_at() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let server = bench.server.as_ref().unwrap();
    let other = connect(server, &bench.node, WindowLimits::default()).await;
    let id = session("s");
    bench.write(&id, vec![set("k", "0")]).await;
    let endings: [&[&str]; 3] = [
        &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
        // It keeps track of one key at most, and says what it gives up.
        &["CONFIG", "SET", "tracking-table-max-keys", "1"],
        &["SCRIPT", "EXISTS", "x"],
    ];
    for (turn, ending) in (1..).zip(endings) {
        until_watched(&bench, &id).await;
        server.cli(ending);
        for another in ["a", "b", "c"].map(session) {
            // A connection that was ended may be noticed by one call.
            let _ = bench.store.now().await;
            let _ = other.now().await;
            bench.write(&another, vec![set("k", "7")]).await;
            for _ in 0..4 {
                assert_eq!(read(&*bench.store, &another).await, 7);
            }
        }
        write(&other, &id, turn).await;
        assert_eq!(read(&*bench.store, &id).await, turn);
    }
}
