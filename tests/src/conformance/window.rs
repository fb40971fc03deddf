//! The deduplication window.

use std::time::Duration;

use funicular::protocol::Access;
use funicular::session::{Digest, WindowEntry};
use funicular::store::{Begun, Commit, Committed};

use crate::bench::{Bench, ask, remember, request, response, session, set};

pub async fn g3_a_known_request_id_gets_the_first_response(bench: &Bench) {
    let id = session("s");
    let turn = bench.write_as(&id, "r1", vec![set("k", "v")]).await;
    let (life, epoch) = bench.life(&id).await;
    let mut again = ask(Access::Write);
    again.request = Some(request("r1"));
    // Even while another request holds the lease.
    for _ in 0..2 {
        match bench.begin(&id, &again).await {
            Begun::Replay { entry, life: of, epoch: at } => {
                assert_eq!((of, at), (life.clone(), epoch));
                assert_eq!(entry.lease, turn.lease);
                assert_eq!(entry.digest, Digest([7; 32]));
                assert_eq!(entry.response, response("r1"));
                let now = bench.now().await;
                assert!(entry.at <= now && entry.at + 60_000 > now);
            }
            other => panic!("{other:?}"),
        }
        bench.begin(&id, &ask(Access::Write)).await;
    }
    let known: Option<WindowEntry> = bench.store.remembered(&id, &request("r1")).await.unwrap();
    assert_eq!(known.unwrap().response, response("r1"));
    assert_eq!(bench.store.remembered(&id, &request("r2")).await.unwrap(), None);
    assert_eq!(bench.store.remembered(&session("no"), &request("r1")).await.unwrap(), None);
}

pub async fn g3_a_commit_takes_effect_once(bench: &Bench) {
    let id = session("s");
    let turn = bench.turn(&id).await;
    let commit = Commit { data: vec![set("k", "v")], ..turn.commit() };
    assert_eq!(bench.commit(&id, &commit).await, Committed::Applied);
    assert_eq!(bench.commit(&id, &commit).await, Committed::AlreadyCommitted);
    // Also while the next one runs.
    let next = bench.turn(&id).await;
    assert_eq!(bench.commit(&id, &commit).await, Committed::AlreadyCommitted);
    bench.commit(&id, &next.commit()).await;
    // After another commit only the window knows, if there was a request id.
    assert_eq!(bench.commit(&id, &commit).await, Committed::LeaseLost);
    assert_eq!(bench.snapshot(&id).await.version, 1);

    let turn = bench.turn(&id).await;
    let named = Commit { remember: remember("r", "x"), data: commit.data, ..turn.commit() };
    assert_eq!(bench.commit(&id, &named).await, Committed::Applied);
    bench.write(&id, vec![set("k", "w")]).await;
    assert_eq!(bench.commit(&id, &named).await, Committed::AlreadyCommitted);
    assert_eq!(bench.dump(&id).await.unwrap().get("sk").unwrap(), "w");
}

/// On a bench whose window holds three entries.
pub async fn g3_the_window_keeps_the_newest(bench: &Bench) {
    let id = session("s");
    for number in 0..5 {
        bench.write_as(&id, &format!("r{number}"), vec![]).await;
    }
    for (number, known) in [(0, false), (1, false), (2, true), (3, true), (4, true)] {
        let found = bench.store.remembered(&id, &request(&format!("r{number}"))).await.unwrap();
        assert_eq!(found.is_some(), known, "r{number}");
    }
    // Without a request id nothing is pushed out.
    bench.write(&id, vec![set("k", "v")]).await;
    assert!(bench.store.remembered(&id, &request("r2")).await.unwrap().is_some());
}

/// On a bench whose window keeps entries for 200 ms.
pub async fn g3_the_window_forgets_the_old(bench: &Bench) {
    let id = session("s");
    bench.write_as(&id, "old", vec![]).await;
    bench.write_as(&id, "older", vec![]).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    bench.write_as(&id, "new", vec![]).await;
    for (name, known) in [("old", false), ("older", false), ("new", true)] {
        let found = bench.store.remembered(&id, &request(name)).await.unwrap();
        assert_eq!(found.is_some(), known, "{name}");
    }
}

pub async fn g3_a_large_body_and_an_odd_id_are_kept(bench: &Bench) {
    let id = session("s");
    let name = "!~{}%:\"'".repeat(16);
    let turn = bench.turn(&id).await;
    let (_, digest, mut kept) = remember("x", "").unwrap();
    kept.body = Some(crate::conformance::data::noise(100_000));
    let commit = Commit { remember: Some((request(&name), digest, kept.clone())), ..turn.commit() };
    assert_eq!(bench.commit(&id, &commit).await, Committed::Applied);
    let found = bench.store.remembered(&id, &request(&name)).await.unwrap().unwrap();
    assert_eq!(found.response, kept);
}
