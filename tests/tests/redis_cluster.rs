//! What only a cluster has: masters that fail, restart and give up slots, each for
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use funicular::protocol::{Access, Reply};
use funicular::session::{Record, SessionId};
use funicular::store::redis::{ConnectError, RedisOptions, RedisStore};
use funicular::store::{Begun, Commit, Committed, Promise, StoreError, StoreResult, WindowLimits};
use funicular_tests::bench::{Bench, Kind, Move, Turn, ask, node, scope, session, set};
use funicular_tests::cluster::RedisCluster;
use funicular_tests::redis::{RedisServer, Setup, waitaof_server};

async fn durable() -> RedisCluster {
    RedisCluster::start(Setup::durable("always")).await
}

/// A session at each master.
fn one_each(cluster: &RedisCluster) -> Vec<SessionId> {
    (0..cluster.masters.len()).map(|master| session(&cluster.session_at(master, "s"))).collect()
}

async fn refused(url: &str) -> ConnectError {
    let scope = scope(&node("edge"), WindowLimits::default());
    match RedisStore::connect(url, RedisOptions::default(), scope).await {
        Err(error) => error,
        Ok(_) => panic!("it should be refused"),
    }
}

/// The cluster as it is for the moment in which a test changes it: no bench is using
/// the servers' handles meanwhile.
fn change<T>(
    cluster: &mut Arc<RedisCluster>,
    bench: &mut Bench,
    work: impl FnOnce(&mut RedisCluster) -> T,
) -> T {
    bench.cluster = None;
    let done = work(Arc::get_mut(cluster).expect("nobody else has it"));
    bench.cluster = Some(cluster.clone());
    done
}

#[tokio::test]
async fn what_is_no_cluster_or_only_a_part_of_one_is_refused() {
    let single = RedisServer::start(Setup { tcp: true, ..Setup::default() });
    let url = format!("redis+cluster://127.0.0.1:{}", single.port());
    assert!(matches!(refused(&url).await, ConnectError::NotCluster));
    let cluster = RedisCluster::start(Setup::default()).await;
    assert!(matches!(refused(&cluster.masters[1].url()).await, ConnectError::IsCluster));
    let away = refused("redis+cluster://127.0.0.1:1").await;
    assert!(matches!(away, ConnectError::Unreachable(_)), "{away}");
    // One that evicts is enough.
    cluster.masters[2].cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert!(matches!(refused(&cluster.url()).await, ConnectError::Evicts(_)));
    cluster.masters[2].cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    cluster.masters[1].cli(&["CLUSTER", "DELSLOTSRANGE", "6000", "6009"]);
    let url = format!("redis+cluster://127.0.0.1:{}", cluster.masters[1].port());
    let uncovered = refused(&url).await;
    assert!(matches!(uncovered, ConnectError::Uncovered(10)), "{uncovered}");
}

#[tokio::test]
async fn g2_the_promise_is_that_of_the_weakest_master() {
    let cluster = durable().await;
    let promise = async || {
        let scope = scope(&node("edge"), WindowLimits::default());
        let store = RedisStore::connect(&cluster.url(), RedisOptions::default(), scope).await;
        funicular::store::SessionStore::promise(&store.unwrap())
    };
    assert_eq!(promise().await, Promise::Always);
    cluster.masters[1].cli(&["CONFIG", "SET", "appendfsync", "no"]);
    assert_eq!(promise().await, Promise::Everysec);
    cluster.masters[2].cli(&["CONFIG", "SET", "appendonly", "no"]);
    assert_eq!(promise().await, Promise::None);
}

/// A step waits for the disk of the master that has the session, whichever that is.
#[tokio::test]
async fn g2_what_is_waited_for_is_on_the_disk_of_its_master() {
    let Some(program) = waitaof_server() else {
        eprintln!("skipped: there is no server here whose WAITAOF can be relied on");
        return;
    };
    let setup = Setup { program: Some(program), ..Setup::durable("everysec") };
    let mut cluster = Arc::new(RedisCluster::start(setup).await);
    let ids = one_each(&cluster);
    let mut source = Bench::clustered(&cluster, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    assert_eq!(source.store.promise(), Promise::WaitAof);
    for id in &ids {
        source.write(id, vec![set("k", "v")]).await;
        Move::agree(&source, &target, id).await;
    }
    change(&mut cluster, &mut source, |cluster| {
        for master in &mut cluster.masters {
            master.power_loss();
            master.restart();
        }
    });
    cluster.serves().await;
    recovered(&source).await;
    for id in &ids {
        let record = source.snapshot(id).await.slot.record;
        assert!(matches!(record, Some(Record::Migrating { .. })), "{id}: {record:?}");
    }
}

/// Recovers as a node does: until nobody says that a restart went unnoticed.
async fn recovered(bench: &Bench) {
    bench
        .soon("the store recovers", async || {
            bench.store.recover_restart().await.ok()?;
            bench.store.counts().await.ok()
        })
        .await;
}

#[tokio::test]
async fn g7_sessions_of_every_master_are_found() {
    let cluster = Arc::new(RedisCluster::start(Setup::default()).await);
    let bench = Bench::clustered(&cluster, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    let ids: Vec<_> = (0..30).map(|number| session(&format!("s{number}"))).collect();
    for id in &ids {
        bench.write(id, vec![set("k", id.as_str().to_owned())]).await;
    }
    let listed = bench.store.residents(None, 100).await.unwrap();
    assert_eq!(listed.len(), 30);
    assert_eq!(bench.store.counts().await.unwrap().resident, 30);
    for id in &ids[..10] {
        Move::agree(&bench, &target, id).await;
    }
    assert_eq!(bench.store.pending(100).await.unwrap().len(), 10);
    // The index is lost, and made again from what the masters have.
    for key in ["pending", "homes", "residents:edge"] {
        cluster.cli("f:{cart}:pending", &["DEL", &format!("f:{{cart}}:{key}")]);
    }
    let mut cursor = None;
    loop {
        cursor = bench.store.mend_index(cursor).await.unwrap();
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(bench.store.residents(None, 100).await.unwrap().len(), 30);
    assert_eq!(bench.store.pending(100).await.unwrap().len(), 10);
}

#[tokio::test]
async fn g7_one_master_is_away_and_the_others_go_on() {
    let mut cluster = Arc::new(durable().await);
    let index = cluster.owner("f:{cart}:pending");
    let lost = (index + 1) % 3;
    let ids = one_each(&cluster);
    let mut bench = Bench::clustered(&cluster, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    for id in &ids {
        bench.write(id, vec![set("k", "v")]).await;
        Move::agree(&bench, &target, id).await;
    }
    change(&mut cluster, &mut bench, |cluster| cluster.masters[lost].kill9());
    let away = bench.store.begin(&ids[lost], &ask(Access::Write)).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    for (master, id) in ids.iter().enumerate().filter(|(master, _)| *master != lost) {
        bench.write(id, vec![set("k", format!("{master}"))]).await;
    }
    // Whoever looks after the sessions is not held up by those that are away.
    assert_eq!(bench.store.pending(100).await.unwrap().len(), 3);
    assert_eq!(bench.store.residents(None, 100).await.unwrap().len(), 2);
    bench.store.counts().await.unwrap();
    bench.store.now().await.unwrap();
    bench.store.recover_restart().await.unwrap();
    // A node that starts now serves what is there.
    let late = Bench::clustered(&cluster, "edge").await;
    late.write(&ids[index], vec![set("k", "late")]).await;
    drop(late);
    change(&mut cluster, &mut bench, |cluster| cluster.masters[lost].restart());
    bench
        .soon("it is back", async || match bench.store.snapshot(&ids[lost]).await {
            Err(StoreError::Restarted) => Some(()),
            Err(StoreError::Unavailable(_)) => None,
            found => panic!("a restart goes unnoticed: {found:?}"),
        })
        .await;
    recovered(&bench).await;
    assert_eq!(bench.dump(&ids[lost]).await.unwrap().get("sk").unwrap(), "v");
}

/// All pages of a walk, or why one did not come.
async fn walk(bench: &Bench) -> StoreResult<usize> {
    let (mut found, mut cursor) = (0, None);
    loop {
        let page = bench.store.walk(cursor).await?;
        found += page.found.len();
        cursor = page.next;
        if cursor.is_none() {
            return Ok(found);
        }
    }
}

#[tokio::test]
async fn g2_a_walk_does_not_pass_over_a_master_that_is_away() {
    let mut cluster = Arc::new(durable().await);
    let ids = one_each(&cluster);
    let mut bench = Bench::clustered(&cluster, "edge").await;
    for id in &ids {
        bench.write(id, vec![set("k", "v")]).await;
    }
    assert_eq!(walk(&bench).await.unwrap(), 3);
    for lost in 0..3 {
        change(&mut cluster, &mut bench, |cluster| cluster.masters[lost].kill9());
        let away = walk(&bench).await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        let away = bench.store.slots(&ids).await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        change(&mut cluster, &mut bench, |cluster| cluster.masters[lost].restart());
        bench.soon("it is back", async || walk(&bench).await.ok()).await;
    }
    // A cursor is of the process that gave it: another one's keys are in another order.
    let page = bench.store.walk(None).await.unwrap();
    let (_, rest) = page.next.as_deref().and_then(|next| next.split_once(' ')).expect("more");
    let (_, server) = rest.split_once(' ').expect("a server");
    let other = bench.store.walk(Some(format!("7 another-run {server}"))).await;
    assert!(matches!(other, Err(StoreError::Unavailable(_))), "{other:?}");
}

fn restarted<T: std::fmt::Debug>(answer: &StoreResult<T>) {
    assert!(matches!(answer, Err(StoreError::Restarted)), "{answer:?}");
}

#[tokio::test]
async fn g1_only_what_a_restarted_master_has_is_frozen_and_not_served_before() {
    let mut cluster = Arc::new(durable().await);
    let ids = one_each(&cluster);
    let mut bench = Bench::clustered(&cluster, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    for id in &ids {
        bench.write(id, vec![set("k", "v")]).await;
        Move::agree(&bench, &target, id).await;
    }
    let lost = 1;
    change(&mut cluster, &mut bench, |cluster| cluster.masters[lost].restart());
    // Whatever is asked of it, it is refused, and the others are not.
    bench
        .soon("it is back", async || match bench.store.dump(&ids[lost]).await {
            Err(StoreError::Restarted) => Some(()),
            Err(StoreError::Unavailable(_)) => None,
            found => panic!("a restart goes unnoticed: {found:?}"),
        })
        .await;
    let id = &ids[lost];
    restarted(&bench.store.begin(id, &ask(Access::Write)).await);
    restarted(&bench.store.snapshot(id).await);
    restarted(&bench.store.counts().await);
    bench.write(&ids[0], vec![set("k", "w")]).await;
    recovered(&bench).await;
    for (master, id) in ids.iter().enumerate() {
        let record = bench.snapshot(id).await.slot.record;
        let frozen = matches!(record, Some(Record::Migrating { .. }));
        assert_eq!(frozen, master == lost, "{record:?}");
    }
}

/// What one disk remembers says nothing of another: marks that were lost are made
/// again for the sessions of all masters.
#[tokio::test]
async fn g7_marks_are_made_again_when_their_master_forgot_them() {
    let mut cluster = Arc::new(durable().await);
    let index = cluster.owner("f:{cart}:pending");
    let ids = one_each(&cluster);
    let mut bench = Bench::clustered(&cluster, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    for id in &ids {
        bench.write(id, vec![set("k", "v")]).await;
        Move::agree(&bench, &target, id).await;
    }
    // One that was only sent a message for another node.
    let talks = session(&cluster.session_at((index + 1) % 3, "talks"));
    let turn = bench.turn(&talks).await;
    let commit = Commit { outbox: vec![turn.message(0, "hello")], ..turn.commit() };
    bench.commit(&talks, &commit).await;
    cluster.cli("f:{cart}:pending", &["DEL", "f:{cart}:pending"]);
    change(&mut cluster, &mut bench, |cluster| cluster.masters[index].restart());
    recovered(&bench).await;
    let mut pending = bench.store.pending(100).await.unwrap();
    pending.sort();
    let mut all: Vec<_> = ids.into_iter().chain([talks]).collect();
    all.sort();
    assert_eq!(pending, all);
}

/// Asks, and once more after a recovery if one is due.
async fn again<T>(bench: &Bench, ask: impl AsyncFn() -> StoreResult<T>) -> T {
    match ask().await {
        Err(StoreError::Restarted) => {
            bench.store.recover_restart().await.expect("the newcomer is recovered");
            ask().await.expect("the store answers")
        }
        answer => answer.expect("the store answers"),
    }
}

/// Writes one after the other, until it is told to stop; says how many were applied.
/// A master that is new has to be recovered first, as a node does it.
async fn writes(bench: &Bench, id: &SessionId, stop: &AtomicBool) -> u64 {
    let mut applied = 0;
    while !stop.load(Ordering::SeqCst) {
        let request = ask(Access::Write);
        match again(bench, async || bench.store.begin(id, &request).await).await {
            Begun::Run(run) => {
                let turn = Turn { id: id.clone(), lease: request.ask.lease, session: run };
                let data = vec![set("k", format!("{applied}"))];
                let commit = Commit { data, ..turn.commit() };
                let committed = again(bench, async || bench.store.commit(id, &commit).await).await;
                assert_eq!(committed, Committed::Applied);
            }
            other => panic!("it should run: {other:?}"),
        }
        applied += 1;
    }
    applied
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_slot_moves_while_its_session_is_written() {
    let mut cluster = durable().await;
    let new = cluster.join(Setup::durable("always")).await;
    let cluster = Arc::new(cluster);
    let bench = Bench::clustered(&cluster, "edge").await;
    let id = session(&cluster.session_at(0, "s"));
    let slot = cluster.slot(&format!("f:{{cart/{id}}}:m"));
    bench.write(&id, vec![set("first", "1")]).await;
    let stop = AtomicBool::new(false);
    let moving = async {
        // To a master that has slots, to one without, and back.
        for (from, to) in [(0, 1), (1, new), (new, 0)] {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cluster.begin_move(slot, from, to);
            tokio::time::sleep(Duration::from_millis(50)).await;
            while cluster.move_keys(slot, from, to, 1) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            cluster.end_move(slot, to);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (applied, ()) = tokio::join!(writes(&bench, &id, &stop), moving);
    let snapshot = bench.snapshot(&id).await;
    assert_eq!(snapshot.version, applied + 1);
    let data = bench.dump(&id).await.unwrap();
    assert_eq!(data.get("sk").unwrap(), &format!("{}", applied - 1));
    assert_eq!(data.get("sfirst").unwrap(), "1");
}

/// A step is not said to have happened twice, nor lost, when its slot is halfway.
#[tokio::test]
async fn g1_a_session_moves_between_nodes_from_a_slot_that_has_moved() {
    let cluster = Arc::new(durable().await);
    let source = Bench::clustered(&cluster, "edge").await;
    let target = Bench::new(Kind::Memory, "middle").await;
    let id = session(&cluster.session_at(2, "s"));
    let slot = cluster.slot(&format!("f:{{cart/{id}}}:m"));
    source.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(&source, &target, &id).await;
    cluster.begin_move(slot, 2, 0);
    while cluster.move_keys(slot, 2, 0, 10) > 0 {}
    cluster.end_move(slot, 0);
    moving.freeze(&source).await;
    moving.carry(&source, &target, 1).await;
    assert_eq!(moving.install(&target).await, Ok(Reply::Changed));
    moving.settle(&source, &target).await;
    assert_eq!(target.dump(&id).await.unwrap().get("sk").unwrap(), "v");
    assert!(source.dump(&id).await.is_none());
}

/// One script a begin and one a commit, at the one master that has the session.
#[tokio::test]
async fn g6_a_request_is_two_scripts() {
    let cluster = Arc::new(RedisCluster::start(Setup::default()).await);
    let bench = Bench::clustered(&cluster, "edge").await;
    let single = Bench::new(Kind::Redis, "edge").await;
    let id = session(&cluster.session_at(1, "s"));
    for (bench, server) in
        [(&bench, &cluster.masters[1]), (&single, single.server.as_ref().unwrap())]
    {
        server.cli(&["CONFIG", "RESETSTAT"]);
        for _ in 0..100 {
            let turn = bench.turn(&id).await;
            bench.commit(&id, &turn.commit()).await;
        }
        let text: String = redis::from_redis_value(server.cli(&["INFO", "commandstats"])).unwrap();
        let calls = |name: &str| -> u32 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:")));
            line.map_or(0, |line| {
                line["calls=".len()..].split(',').next().unwrap().parse().unwrap()
            })
        };
        // The index is told of a session's use once a second.
        assert!((200..250).contains(&calls("evalsha")), "{text}");
        assert_eq!(calls("eval"), 0, "{text}");
    }
}
