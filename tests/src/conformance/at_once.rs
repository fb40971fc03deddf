//! Commits of requests that ran on what their process remembers.

use std::time::Duration;

use bytes::Bytes;
use funicular::protocol::{Access, Event};
use funicular::session::{Change, LeaseId, SessionId};
use funicular::store::{Begun, Commit, Committed, Session};

use super::data::noise;
use crate::bench::{
    Bench, Move, append, ask, clear, delete, remember, request, response, session, set,
};

/// A session with a value and a list, as the store's process remembers it.
async fn recalled(bench: &Bench, id: &SessionId) -> Session {
    bench.write(id, vec![set("k", "v"), append("l", "0"), append("l", "1")]).await;
    remembered(bench, id).await
}

/// What is remembered of a session after it was read.
async fn remembered(bench: &Bench, id: &SessionId) -> Session {
    let Begun::Run(run) = bench.begin(id, &ask(Access::Read)).await else {
        panic!("it should run")
    };
    let seen = bench.store.recall(id).expect("it was just read");
    assert!(seen.is_same_state(&run));
    assert_eq!(seen.data, run.data);
    assert_eq!(seen.bytes, run.bytes);
    seen
}

fn commit(seen: &Session, data: Vec<Change>) -> Commit {
    Commit {
        lease: LeaseId(rand::random()),
        life: seen.life.clone(),
        epoch: seen.epoch,
        data,
        outbox: Vec::new(),
        remember: None,
        max_bytes: 1 << 40,
    }
}

async fn at_once(
    bench: &Bench,
    id: &SessionId,
    seen: &Session,
    commit: &Commit,
) -> Option<Committed> {
    bench.store.commit_at_once(id, seen, commit).await.expect("an answer")
}

/// Nothing was committed, and nothing is current.
async fn refuses(bench: &Bench, id: &SessionId, seen: &Session) {
    let late = commit(seen, vec![set("k", "late")]);
    assert_eq!(at_once(bench, id, seen, &late).await, None);
}

pub async fn g2_a_commit_at_once_does_what_a_turn_does(bench: &Bench) {
    let (id, twin) = (session("s"), session("twin"));
    let mut seen = recalled(bench, &id).await;
    recalled(bench, &twin).await;
    let steps: [Vec<Change>; 7] = [
        vec![set("k", "w"), set("new", Bytes::new())],
        vec![append("l", "2"), append("m", "0")],
        vec![delete("k")],
        vec![clear("l"), append("l", "anew"), delete("nothing")],
        vec![],
        vec![set("l", "a value of the list's name"), set("large", noise(30_000))],
        vec![delete("l"), delete("m"), delete("new"), delete("large")],
    ];
    for data in steps {
        let done = at_once(bench, &id, &seen, &commit(&seen, data.clone())).await;
        assert_eq!(done, Some(Committed::Applied), "{data:?}");
        bench.write(&twin, data).await;
        assert_eq!(bench.dump(&id).await, bench.dump(&twin).await);
        let (here, there) = (bench.snapshot(&id).await, bench.snapshot(&twin).await);
        assert_eq!((here.version, here.bytes), (there.version, there.bytes));
        // Remembered right away, unless it has become too large for that.
        if let Some(after) = bench.store.recall(&id) {
            assert_eq!(after.data.as_deref(), bench.dump(&id).await.as_ref());
            assert!(bench.store.is_current(&id, &after).await.unwrap());
        }
        seen = remembered(bench, &id).await;
    }
}

pub async fn g1_what_is_outdated_commits_nothing(bench: &Bench) {
    let id = session("s");
    let seen = recalled(bench, &id).await;
    assert!(bench.store.is_current(&id, &seen).await.unwrap());
    bench.write(&id, vec![set("k", "newer")]).await;
    assert!(!bench.store.is_current(&id, &seen).await.unwrap());
    refuses(bench, &id, &seen).await;
    // Nor when it was outdated by a commit at once, or by one that changes nothing.
    for data in [vec![set("k", "newest")], vec![]] {
        let seen = remembered(bench, &id).await;
        let newer = commit(&seen, data);
        assert_eq!(at_once(bench, &id, &seen, &newer).await, Some(Committed::Applied));
        refuses(bench, &id, &seen).await;
    }
    assert_eq!(bench.dump(&id).await.unwrap().get("sk").unwrap(), "newest");
}

pub async fn g1_a_running_writer_is_not_overtaken(bench: &Bench) {
    let id = session("s");
    let seen = recalled(bench, &id).await;
    let turn = bench.turn(&id).await;
    refuses(bench, &id, &seen).await;
    // What is read meanwhile is what was committed last.
    assert!(bench.store.is_current(&id, &seen).await.unwrap());
    let data = vec![set("k", "turn")];
    assert_eq!(bench.commit(&id, &Commit { data, ..turn.commit() }).await, Committed::Applied);
    assert_eq!(bench.dump(&id).await.unwrap().get("sk").unwrap(), "turn");
}

pub async fn g3_a_commit_at_once_takes_effect_once(bench: &Bench) {
    let id = session("s");
    let seen = recalled(bench, &id).await;
    let named = Commit { remember: remember("r", "x"), ..commit(&seen, vec![append("l", "2")]) };
    assert_eq!(at_once(bench, &id, &seen, &named).await, Some(Committed::Applied));
    assert_eq!(at_once(bench, &id, &seen, &named).await, Some(Committed::AlreadyCommitted));
    // The long way knows it too, also after the next one.
    assert_eq!(bench.commit(&id, &named).await, Committed::AlreadyCommitted);
    bench.write(&id, vec![set("k", "w")]).await;
    assert_eq!(bench.commit(&id, &named).await, Committed::AlreadyCommitted);
    // The same request from another process, or again: the first answer counts.
    let seen = remembered(bench, &id).await;
    let again = Commit { remember: remember("r", "y"), ..commit(&seen, vec![append("l", "3")]) };
    assert_eq!(at_once(bench, &id, &seen, &again).await, None);
    let mut repeat = ask(Access::Write);
    repeat.request = Some(request("r"));
    match bench.begin(&id, &repeat).await {
        Begun::Replay { entry, .. } => assert_eq!(entry.response, response("x")),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.dump(&id).await.unwrap().get("nl").unwrap(), "3");
}

/// On a bench whose window holds three entries.
pub async fn g3_the_window_is_kept_as_turns_keep_it(bench: &Bench) {
    let id = session("s");
    let mut seen = recalled(bench, &id).await;
    for number in 0..6 {
        let name = format!("r{number}");
        let named =
            Commit { remember: remember(&name, &name), ..commit(&seen, vec![append("l", "x")]) };
        assert_eq!(at_once(bench, &id, &seen, &named).await, Some(Committed::Applied));
        seen = remembered(bench, &id).await;
    }
    for number in 0..6 {
        let known = bench.store.remembered(&id, &request(&format!("r{number}"))).await.unwrap();
        assert_eq!(known.is_some(), number >= 3, "r{number}");
    }
    assert_eq!(bench.snapshot(&id).await.window, 3);
}

pub async fn g2_what_would_be_too_large_is_left_to_a_turn(bench: &Bench) {
    let id = session("s");
    let seen = recalled(bench, &id).await;
    let large = Commit { max_bytes: 1000, ..commit(&seen, vec![set("k", noise(2000))]) };
    assert_eq!(at_once(bench, &id, &seen, &large).await, None);
    // So many fields that a script could not take them at once: done or left, not halved.
    let many: Vec<_> = (0..20_000).map(|number| set(&format!("k{number}"), "v")).collect();
    let done = at_once(bench, &id, &seen, &commit(&seen, many)).await;
    let fields = bench.snapshot(&id).await.fields;
    assert_eq!(fields, if done.is_some() { 20_004 } else { 4 });
}

pub async fn g1_a_session_in_a_move_is_left_to_turns(bench: &Bench, other: &Bench) {
    let id = session("s");
    let seen = recalled(bench, &id).await;
    let moving = Move::agree(bench, other, &id).await;
    // A freeze that waits goes first.
    let turn = bench.turn(&id).await;
    let wait_until = bench.now().await + 60_000;
    let freeze = Event::Freeze { nonce: moving.pull.nonce, wait_until };
    bench.step(&id, &freeze).await.unwrap();
    bench.store.release(&id, turn.lease).await.unwrap();
    refuses(bench, &id, &seen).await;
    moving.freeze(bench).await;
    refuses(bench, &id, &seen).await;
    assert!(!bench.store.is_current(&id, &seen).await.unwrap());
    moving.carry(bench, other, 1).await;
    moving.install(other).await.unwrap();
    // It has arrived, and its source may still serve reads.
    let arrived = remembered(other, &id).await;
    assert!(!arrived.is_same_state(&seen));
    refuses(other, &id, &arrived).await;
    bench.step(&id, &moving.done()).await.unwrap();
    refuses(bench, &id, &seen).await;
    assert_eq!(other.dump(&id).await.unwrap().get("sk").unwrap(), "v");
}

pub async fn g2_a_copy_misses_no_commit_at_once(bench: &Bench, other: &Bench) {
    let id = session("s");
    let seen = recalled(bench, &id).await;
    let moving = Move::agree(bench, other, &id).await;
    let first = bench.store.copy(&id, moving.pull.nonce, None).await.unwrap().unwrap();
    let newer = commit(&seen, vec![set("k", "w")]);
    let done = at_once(bench, &id, &seen, &newer).await;
    if done.is_none() {
        bench.write(&id, newer.data).await;
    }
    let cursor = first.next.expect("a copy has no end");
    let rest = bench.store.copy(&id, moving.pull.nonce, Some(&cursor)).await.unwrap().unwrap();
    let carried = rest.fields.iter().find(|(field, _)| field == "sk");
    assert_eq!(carried.map(|(_, content)| &content[..]), Some(&b"w"[..]));
}

pub async fn g1_a_lease_that_ran_out_commits_after_nothing_else(bench: &Bench) {
    let id = session("s");
    let seen = recalled(bench, &id).await;
    let mut brief = ask(Access::Write);
    brief.ask.lease_ttl = 50;
    let Begun::Run(run) = bench.begin(&id, &brief).await else { panic!("it should run") };
    tokio::time::sleep(Duration::from_millis(80)).await;
    let newer = commit(&seen, vec![set("k", "newer")]);
    let done = at_once(bench, &id, &seen, &newer).await.is_some();
    let late = Commit { lease: brief.ask.lease, ..commit(&run, vec![set("k", "late")]) };
    let committed = bench.commit(&id, &late).await;
    // One of the two, never both.
    assert_eq!(committed, if done { Committed::LeaseLost } else { Committed::Applied });
}
