//! What one replica has seen, when another one changes it: nobody is answered from
//! memory that the store has left behind.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use funicular::protocol::Access;
use funicular::session::{Change, Record, SessionId};
use funicular::store::{Begun, Commit, Committed, SessionStore, WindowLimits};
use funicular_tests::bench::{
    Bench, Kind, Move, Turn, append, ask, clear, connect, delete, session, set,
};
use funicular_tests::redis::{RedisServer, Setup};

/// Another replica at the bench's node.
async fn replica(bench: &Bench) -> impl SessionStore {
    let server = bench.server.as_ref().expect("a server");
    connect(server, &bench.node, WindowLimits::default()).await
}

/// One request that writes, at some replica.
async fn write(store: &impl SessionStore, id: &SessionId, data: Vec<Change>) {
    let request = ask(Access::Write);
    match store.begin(id, &request).await.unwrap() {
        Begun::Run(session) => {
            let turn = Turn { id: id.clone(), lease: request.ask.lease, session };
            let commit = Commit { data, ..turn.commit() };
            assert_eq!(store.commit(id, &commit).await.unwrap(), Committed::Applied);
        }
        other => panic!("it should run: {other:?}"),
    }
}

/// What a read-only request and a writing one see of `k`.
async fn seen(bench: &Bench, id: &SessionId) -> [Option<String>; 2] {
    let mut found = [None, None];
    for (found, access) in found.iter_mut().zip([Access::Read, Access::Write]) {
        let request = ask(access);
        let Begun::Run(run) = bench.begin(id, &request).await else { panic!("it should run") };
        let data = run.data.expect("it is small");
        *found = data.get("sk").map(|value| String::from_utf8(value.to_vec()).unwrap());
        if access == Access::Write {
            bench.store.release(id, request.ask.lease).await.unwrap();
        }
    }
    found
}

fn both(value: &str) -> [Option<String>; 2] {
    [Some(value.to_owned()), Some(value.to_owned())]
}

#[tokio::test]
async fn g1_g5_what_another_replica_wrote_is_seen_at_once() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let other = replica(&bench).await;
    let id = session("s");
    for turn in 0..20 {
        let (mine, theirs) = (format!("mine {turn}"), format!("theirs {turn}"));
        bench.write(&id, vec![set("k", mine.clone())]).await;
        assert_eq!(seen(&bench, &id).await, both(&mine));
        write(&other, &id, vec![set("k", theirs.clone())]).await;
        assert_eq!(seen(&bench, &id).await, both(&theirs));
    }
}

/// Short ways and long ways take turns; in the end the totals are those of the data.
#[tokio::test]
async fn g2_totals_stay_true_whichever_way_a_commit_takes() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let id = session("s");
    let changes = [
        vec![set("k", "1"), append("l", "a")],
        vec![set("k", "longer than before")],
        vec![append("l", "b"), append("l", "c")],
        vec![delete("k")],
        vec![set("k", "2"), set("other", vec![7; 600_000])],
        vec![set("other", "small")],
        vec![clear("l"), append("l", "anew")],
        vec![set("k", "3"), set("k", "4")],
    ];
    for (turn, data) in changes.into_iter().cycle().take(24).enumerate() {
        if turn % 5 == 4 {
            bench.write_as(&id, &format!("request-{turn}"), data).await;
        } else {
            bench.write(&id, data).await;
        }
        let (snapshot, dump) = (bench.snapshot(&id).await, bench.dump(&id).await.unwrap());
        assert_eq!(snapshot.bytes, funicular::session::fields::size(&dump), "after {turn}");
        assert_eq!(snapshot.version, turn as u64 + 1);
        let Begun::Run(run) = bench.begin(&id, &ask(Access::Read)).await else { panic!("a run") };
        assert_eq!((run.bytes, run.version), (snapshot.bytes, snapshot.version));
        if let Some(data) = run.data {
            assert_eq!(*data, dump, "after {turn}");
        }
    }
}

/// A store that lost its last writes counts the same versions again.
#[tokio::test]
async fn g2_a_version_that_is_counted_twice_is_not_taken_for_the_same() {
    let server = RedisServer::start(Setup::durable("everysec"));
    let mut bench = Bench::on(server, "edge", WindowLimits::default()).await;
    let id = session("s");
    bench.write(&id, vec![set("k", "kept")]).await;
    bench.server().sync_point();
    bench.write(&id, vec![set("k", "lost")]).await;
    assert_eq!(seen(&bench, &id).await, both("lost"));
    bench.server().power_loss();
    bench.server().restart();
    // Another replica recovers and writes; this one has slept through all of it.
    let other = replica(&bench).await;
    other.recover_restart().await.unwrap();
    write(&other, &id, vec![set("k", "anew")]).await;
    assert_eq!(other.snapshot(&id).await.unwrap().version, 2);
    // The connection may have to be made again first.
    let _ = bench.store.now().await;
    assert_eq!(seen(&bench, &id).await, both("anew"));
}

/// The same epoch is installed twice, with other data: the first time was forgotten.
#[tokio::test]
async fn g2_an_install_that_is_repeated_with_other_data_is_not_taken_for_the_first() {
    let source = Bench::new(Kind::Memory, "edge").await;
    let server = RedisServer::start(Setup::durable("everysec"));
    let mut target = Bench::on(server, "root", WindowLimits::default()).await;
    let id = session("s");
    target.write(&session("another"), vec![set("k", "1")]).await;
    target.server().sync_point();
    source.write(&id, vec![set("k", "early")]).await;
    Move::whole(&source, &target, &id).await;
    assert_eq!(seen(&target, &id).await, both("early"));
    target.server().power_loss();
    target.server().restart();
    let other = replica(&target).await;
    other.recover_restart().await.unwrap();
    // Another source that has forgotten the same: its epoch is the same again.
    let again = Bench::new(Kind::Memory, "edge").await;
    again.write(&id, vec![set("k", "later")]).await;
    let _ = target.store.now().await;
    Move::whole(&again, &target, &id).await;
    assert_eq!(seen(&target, &id).await, both("later"));
}

#[tokio::test]
async fn g2_a_commit_says_that_its_session_was_used_until_then() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let id = session("s");
    bench.write(&id, vec![set("k", "1")]).await;
    let turn = bench.turn(&id).await;
    let begun = bench.store.now().await.unwrap();
    while bench.store.now().await.unwrap() < begun + 5 {
        tokio::task::yield_now().await;
    }
    let commit = Commit { data: vec![set("k", "2")], ..turn.commit() };
    assert_eq!(bench.store.commit(&id, &commit).await.unwrap(), Committed::Applied);
    assert!(bench.snapshot(&id).await.slot.used >= begun + 5);
}

fn leads(begun: &Begun) -> Option<&str> {
    match begun {
        Begun::Other { slot, .. } => match &slot.record {
            Some(Record::Moved { to, .. }) => Some(to.as_str()),
            _ => None,
        },
        _ => None,
    }
}

#[tokio::test]
async fn g4_a_redirect_is_never_older_than_the_store() {
    let edge = Bench::new(Kind::Redis, "edge").await;
    let root = Bench::new(Kind::Memory, "root").await;
    let other = replica(&edge).await;
    let (id, still) = (session("s"), session("still"));
    for session in [&id, &still] {
        edge.write(session, vec![set("k", "1")]).await;
    }
    Move::whole(&edge, &root, &still).await;
    for _ in 0..5 {
        Move::whole(&edge, &root, &id).await;
        for _ in 0..4 {
            for session in [&id, &still] {
                assert_eq!(leads(&edge.begin(session, &ask(Access::Write)).await), Some("root"));
            }
        }
        // It comes back through the other replica, of which this one hears nothing.
        let store = Arc::new(replica(&edge).await);
        let back = Bench { node: edge.node.clone(), store, server: None, cluster: None };
        Move::whole(&root, &back, &id).await;
        for store in [&edge.store, &back.store] {
            let begun = store.begin(&id, &ask(Access::Read)).await.unwrap();
            assert!(matches!(begun, Begun::Run(_)), "{begun:?}");
        }
        assert_eq!(leads(&other.begin(&still, &ask(Access::Read)).await.unwrap()), Some("root"));
    }
}

/// Redirects that wait for one answer together all get it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g4_many_redirects_at_once_are_all_answered() {
    let edge = Bench::new(Kind::Redis, "edge").await;
    let root = Bench::new(Kind::Memory, "root").await;
    let ids: Vec<_> = (0..8).map(|number| session(&format!("s{number}"))).collect();
    for id in &ids {
        edge.write(id, vec![set("k", "1")]).await;
        Move::whole(&edge, &root, id).await;
    }
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (store, id) = (edge.store.clone(), ids[number % ids.len()].clone());
        clients.spawn(async move {
            for _ in 0..20 {
                let begun = store.begin(&id, &ask(Access::Write)).await.unwrap();
                assert_eq!(leads(&begun), Some("root"));
            }
        });
    }
    let all = tokio::time::timeout(Duration::from_secs(60), clients.join_all());
    assert_eq!(all.await.expect("nobody waits forever").len(), 200);
}

/// A look of this process that is answered late is older than the lease that its next
/// commit is made under.
#[tokio::test]
async fn g2_a_commit_is_not_added_to_what_was_seen_before_its_lease() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    let id = session("s");
    bench.write(&id, vec![append("l", "0")]).await;
    // This one has not seen the session yet.
    let store = replica(&bench).await;
    let look = ask(Access::Read);
    let mut late = std::pin::pin!(store.begin(&id, &look));
    let asked =
        std::future::poll_fn(|context| Poll::Ready(late.as_mut().poll(context).is_pending()));
    assert!(asked.await);
    store.now().await.unwrap();
    bench.write(&id, vec![append("l", "theirs")]).await;
    let request = ask(Access::Write);
    let Begun::Run(session) = store.begin(&id, &request).await.unwrap() else { panic!("a run") };
    let Begun::Run(old) = late.await.unwrap() else { panic!("a run") };
    assert_eq!((old.version, session.version), (1, 2));
    let turn = Turn { id: id.clone(), lease: request.ask.lease, session };
    let commit = Commit { data: vec![append("l", "ours")], ..turn.commit() };
    assert_eq!(store.commit(&id, &commit).await.unwrap(), Committed::Applied);
    if let Some(seen) = store.recall(&id) {
        assert_eq!(seen.data.as_deref(), bench.dump(&id).await.as_ref());
    }
}

/// What is damaged in one session is said to its requests, and to nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_a_damaged_session_does_not_trouble_those_that_ask_with_it() {
    let bench = Arc::new(Bench::new(Kind::Redis, "edge").await);
    let ids: Vec<_> = (0..40).map(|number| session(&format!("s{number}"))).collect();
    for id in &ids {
        bench.write(id, vec![set("k", "v")]).await;
    }
    let server = bench.server.as_ref().unwrap();
    let broken = "f:{cart/s7}:d";
    server.cli(&["DEL", broken]);
    server.cli(&["SET", broken, "no hash"]);
    let commits = ids.iter().cloned().map(|id| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            let seen = bench.store.recall(&id).expect("it was just written");
            let commit = Commit {
                lease: funicular::session::LeaseId(rand::random()),
                life: seen.life.clone(),
                epoch: seen.epoch,
                data: vec![set("k", "w")],
                outbox: Vec::new(),
                remember: None,
                max_bytes: 1 << 40,
            };
            bench.store.commit_at_once(&id, &seen, &commit).await.unwrap()
        })
    });
    for (number, done) in commits.collect::<Vec<_>>().into_iter().enumerate() {
        let expected = (number != 7).then_some(Committed::Applied);
        assert_eq!(done.await.unwrap(), expected, "s{number}");
    }
}
