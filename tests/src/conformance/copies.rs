//! Copies: a session's way to another store while it is being served.

use funicular::protocol::{Event, Refusal, Reply};
use funicular::session::fields::CHUNK;
use funicular::session::{Page, Record, SessionId, Transfer};
use funicular::store::Staged;

use super::data::noise;
use crate::bench::{Bench, Move, append, clear, delete, request, session, set};

/// A session of several pages.
async fn large(source: &Bench) -> SessionId {
    let id = session("it-{copies}%");
    let blobs = (0..24).map(|i| set(&format!("blob{i}"), noise(CHUNK + 1000 * i)));
    let small = (0..3000).map(|i| set(&format!("key-{i}"), i.to_string()));
    let list = (0..50).map(|i| append("list", noise(1000 + i)));
    source.write(&id, blobs.chain(small).chain(list).collect()).await;
    id
}

/// Freezes, carries the rest, installs, and compares.
async fn finish(moving: &Move, source: &Bench, target: &Bench, since: String) -> usize {
    let id = &moving.id;
    let (expected, before) = (source.dump(id).await.unwrap(), source.snapshot(id).await);
    moving.freeze(source).await;
    let (_, pages) = moving.carry_since(source, target, 1, Some(since)).await;
    assert_eq!(moving.install(target).await, Ok(Reply::Changed));
    assert!(target.dump(id).await.unwrap() == expected, "the data is the same");
    let after = target.snapshot(id).await;
    let about = |snapshot: &funicular::store::Snapshot| {
        (snapshot.version, snapshot.bytes, snapshot.fields, snapshot.window)
    };
    assert_eq!(about(&after), about(&before));
    moving.settle(source, target).await;
    untracked(source, id);
    pages
}

/// Nothing of a copy is left at its source.
fn untracked(bench: &Bench, id: &SessionId) {
    if let Some(server) = &bench.server {
        let keys = |what: &str| {
            let found = server.cli(&["KEYS", what]);
            redis::from_redis_value::<Vec<String>>(found).expect("keys")
        };
        assert_eq!(keys("*:z"), Vec::<String>::new(), "left of the copy of {id:?}");
        for key in keys("*:m") {
            assert_eq!(server.number(&["HEXISTS", &key, "c"]), 0, "{key}");
        }
    }
}

pub async fn g2_a_copied_session_is_the_same(source: &Bench, target: &Bench) {
    let id = large(source).await;
    let moving = Move::agree(source, target, &id).await;
    let mut cursor: Option<String> = None;
    let mut number = 0;
    loop {
        let page = moving.copied(source, cursor.as_deref()).await.unwrap();
        assert_eq!(moving.stage(target, &page).await, Staged::More);
        cursor = page.next;
        // It is written to in between: new, changed, cut, joined, gone.
        number += 1;
        if number < 12 {
            let data = vec![
                set(&format!("new-{number}"), noise(number)),
                set(&format!("key-{}", number * 7), noise(number * 100)),
                set(&format!("blob{}", number % 6), noise(CHUNK * (number % 3) + 1)),
                delete(&format!("key-{}", number * 11)),
                append("list", noise(number)),
                if number == 7 { clear("list") } else { append("other", "x") },
            ];
            source.write_as(&id, &format!("r{number}"), data).await;
        }
        let copied = page.copied.unwrap();
        if copied.walked && copied.at == copied.changes && number > 12 {
            break;
        }
    }
    source.write(&id, vec![set("last", "one"), delete("key-1")]).await;
    assert_eq!(finish(&moving, source, target, cursor.unwrap()).await, 1);
    for number in 1..12 {
        let kept = target.store.remembered(&id, &request(&format!("r{number}"))).await.unwrap();
        assert!(kept.is_some(), "r{number}");
    }
}

pub async fn g2_a_copy_goes_on_where_it_was(source: &Bench, target: &Bench) {
    let id = large(source).await;
    let moving = Move::agree(source, target, &id).await;
    let mut asked: Vec<Option<String>> = vec![None];
    loop {
        let cursor = asked.last().unwrap().clone();
        // Each is asked for twice, and so are those before it; the last answer counts.
        for earlier in asked.iter().rev().take(3) {
            moving.copied(source, earlier.as_deref()).await.unwrap();
        }
        source.write_as(&id, &format!("r{}", asked.len()), vec![append("list", "x")]).await;
        let page = moving.copied(source, cursor.as_deref()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(moving.stage(target, &page).await, Staged::More);
        }
        asked.push(page.next.clone());
        if page.copied.unwrap().walked {
            break;
        }
    }
    assert!(asked.len() > 3, "several pages");
    finish(&moving, source, target, asked.pop().unwrap().unwrap()).await;
}

pub async fn g2_a_copy_begins_anew(source: &Bench, target: &Bench) {
    let id = large(source).await;
    let moving = Move::agree(source, target, &id).await;
    let (early, _) = moving.copy(source, target).await;
    source.write_as(&id, "r1", vec![delete("blob1"), set("k", "v")]).await;
    // Its first page replaces what was there; what had changed is not asked for again.
    let (late, pages) = moving.copy(source, target).await;
    assert!(pages > 1);
    // Where it had come to before is still good: more comes, and nothing is missed.
    let page = moving.copied(source, Some(&early)).await.unwrap();
    assert_eq!(page.window.len(), 1);
    assert!(page.removed.iter().any(|field| field == "hsblob1"), "{:?}", page.removed);
    assert_eq!(moving.stage(target, &page).await, Staged::More);
    finish(&moving, source, target, late).await;
}

pub async fn g2_a_copy_ends_with_its_move(source: &Bench, target: &Bench) {
    let id = large(source).await;
    // The target says no.
    let moving = Move::agree(source, target, &id).await;
    let (cursor, _) = moving.copy(source, target).await;
    let close = Event::ClosePull { nonce: moving.pull.nonce };
    assert_eq!(target.step(&id, &close).await, Ok(Reply::Changed));
    let no = Event::Answer { transfer: moving.transfer.clone(), installed: false };
    assert_eq!(source.step(&id, &no).await, Ok(Reply::Changed));
    for cursor in [None, Some(cursor.as_str())] {
        assert_eq!(moving.copied(source, cursor).await, Err(Refusal::NoSuchMove));
    }
    untracked(source, &id);
    // The same target begins anew: the first attempt's copy is over.
    let first = Move::agree(source, target, &id).await;
    let (cursor, _) = first.copy(source, target).await;
    let again = Move::plan(source, target, &id).await;
    assert_eq!(source.step(&id, &again.agreed()).await, Ok(Reply::Changed));
    assert_eq!(first.copied(source, Some(&cursor)).await, Err(Refusal::NoSuchMove));
    assert_eq!(again.copied(source, Some(&cursor)).await, Err(Refusal::NoSuchCopy));
    untracked(source, &id);
    // Frozen and resumed: over as well.
    let page = again.copied(source, None).await.unwrap();
    again.freeze(source).await;
    assert_eq!(again.copied(source, page.next.as_deref()).await, Err(Refusal::NoSuchCopy));
    let no = Event::Answer { transfer: again.transfer.clone(), installed: false };
    assert_eq!(source.step(&id, &no).await, Ok(Reply::Changed));
    untracked(source, &id);
}

pub async fn g2_a_restarted_store_knows_no_copy(source: &Bench, target: &Bench) {
    let id = large(source).await;
    let moving = Move::agree(source, target, &id).await;
    let (cursor, _) = moving.copy(source, target).await;
    assert_eq!(source.step(&id, &Event::StoreRestarted).await, Ok(Reply::Changed));
    assert!(matches!(source.snapshot(&id).await.slot.record, Some(Record::Migrating { .. })));
    untracked(source, &id);
    for cursor in [None, Some(cursor.as_str())] {
        assert_eq!(moving.copied(source, cursor).await, Err(Refusal::NoSuchCopy));
    }
    assert_eq!(moving.exported(source, Some(&cursor)).await, Err(Refusal::NoSuchCopy));
    // Everything is carried then, and what was copied does not stay.
    let lost = Page { fields: vec![("sforgotten".into(), "1".into())], ..Page::default() };
    assert_eq!(moving.stage(target, &lost).await, Staged::More);
    let expected = source.dump(&id).await.unwrap();
    moving.carry(source, target, 1).await;
    assert_eq!(moving.install(target).await, Ok(Reply::Changed));
    assert!(target.dump(&id).await.unwrap() == expected);
}

/// A store that forgot its last second between two pages of a frozen session has
/// another version of it.
pub async fn g2_pages_of_two_versions_are_not_mixed(source: &Bench, target: &Bench) {
    let id = large(source).await;
    let moving = Move::agree(source, target, &id).await;
    moving.freeze(source).await;
    let first = moving.exported(source, None).await.unwrap();
    assert!(moving.exported(source, first.next.as_deref()).await.is_ok());
    let no = Event::Answer { transfer: moving.transfer.clone(), installed: false };
    assert_eq!(source.step(&id, &no).await, Ok(Reply::Changed));
    source.write(&id, vec![set("k", "v")]).await;
    let (life, epoch) = source.life(&id).await;
    let transfer = Transfer { next_epoch: epoch + 1, ..moving.transfer.clone() };
    source.step(&id, &Event::Agree { life, transfer }).await.unwrap();
    // While it is served, and when it is frozen again.
    assert_eq!(moving.copied(source, first.next.as_deref()).await, Err(Refusal::NoSuchCopy));
    moving.freeze(source).await;
    assert_eq!(moving.exported(source, first.next.as_deref()).await, Err(Refusal::NoSuchCopy));
    assert_eq!(moving.exported(source, Some("what?")).await, Err(Refusal::NoSuchCopy));
    assert!(moving.exported(source, None).await.is_ok());
}

pub async fn g3_the_window_is_copied_too(source: &Bench, target: &Bench) {
    let id = session("s");
    for number in 0..1500 {
        source.write_as(&id, &format!("r{number}"), vec![]).await;
    }
    let moving = Move::agree(source, target, &id).await;
    let (cursor, _) = moving.copy(source, target).await;
    // The window moves along meanwhile: the oldest leave it at both ends.
    for number in 1500..1600 {
        source.write_as(&id, &format!("r{number}"), vec![]).await;
    }
    let page = moving.copied(source, Some(&cursor)).await.unwrap();
    assert_eq!(page.window.len(), 100);
    assert_eq!(moving.stage(target, &page).await, Staged::More);
    for number in 1600..1610 {
        source.write_as(&id, &format!("r{number}"), vec![]).await;
    }
    moving.freeze(source).await;
    let rest = moving.exported(source, page.next.as_deref()).await.unwrap();
    assert_eq!(rest.window.len(), 10);
    assert_eq!(rest.oldest, Some(request("r586")));
    assert_eq!(moving.stage(target, &rest).await, Staged::Complete);
    assert_eq!(moving.stage(target, &rest).await, Staged::Complete);
    assert_eq!(moving.install(target).await, Ok(Reply::Changed));
    moving.settle(source, target).await;
    assert_eq!(target.snapshot(&id).await.window, 1024);
    for (number, known) in [(585, false), (586, true), (1000, true), (1609, true)] {
        let found = target.store.remembered(&id, &request(&format!("r{number}"))).await.unwrap();
        assert_eq!(found.is_some(), known, "r{number}");
    }
    // The order moved along too.
    target.write_as(&id, "next", vec![]).await;
    assert_eq!(target.store.remembered(&id, &request("r586")).await.unwrap(), None);
    assert!(target.store.remembered(&id, &request("r587")).await.unwrap().is_some());
}

/// An id that is committed again (its first lease had run out) leaves its place in the
/// window: what was copied of it is not what is there.
pub async fn g3_an_id_that_is_committed_again_is_copied_again(source: &Bench, target: &Bench) {
    let id = session("s");
    for name in ["r1", "r2", "r3"] {
        source.write_as(&id, name, vec![]).await;
    }
    let moving = Move::agree(source, target, &id).await;
    let (cursor, _) = moving.copy(source, target).await;
    source.write_as(&id, "r1", vec![]).await;
    moving.freeze(source).await;
    let rest = moving.exported(source, Some(&cursor)).await.unwrap();
    assert_eq!(rest.window.iter().map(|item| &item.id).collect::<Vec<_>>(), [&request("r1")]);
    assert_eq!(rest.oldest, Some(request("r2")));
    assert_eq!(moving.stage(target, &rest).await, Staged::Complete);
}

pub async fn g6_the_freeze_carries_what_changed_since(source: &Bench, target: &Bench) {
    let id = large(source).await;
    let moving = Move::agree(source, target, &id).await;
    let (cursor, _) = moving.copy(source, target).await;
    source.write_as(&id, "r", vec![set("key-5", "changed"), delete("key-6")]).await;
    let before = source.snapshot(&id).await;
    moving.freeze(source).await;
    let rest = moving.exported(source, Some(&cursor)).await.unwrap();
    assert_eq!(rest.fields, [("skey-5".to_owned(), "changed".into())]);
    assert_eq!(rest.removed, ["skey-6"]);
    assert_eq!(rest.window.len(), 1);
    assert_eq!(rest.totals.unwrap().bytes, before.bytes);
    assert_eq!(moving.stage(target, &rest).await, Staged::Complete);
    // A page of the copy that is missing would be noticed.
    let missing = Page { first: true, ..rest };
    assert_eq!(moving.stage(target, &missing).await, Staged::Mismatch);
    assert_eq!(moving.install(target).await, Err(Refusal::NoSuchMove));
}

/// While a target is away, fields that come and go must not fill the source.
pub async fn g2_fields_that_come_and_go_end_a_copy(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("k", "v")]).await;
    let moving = Move::agree(source, target, &id).await;
    let (cursor, _) = moving.copy(source, target).await;
    for round in 0..17 {
        let names = (0..4000).map(|i| format!("n{round}-{i}"));
        let (come, go) = names.map(|name| (set(&name, "1"), delete(&name))).unzip();
        source.write(&id, come).await;
        source.write(&id, go).await;
        let known = moving.copied(source, Some(&cursor)).await;
        if round < 16 {
            assert!(known.is_ok(), "{round}: {known:?}");
        } else {
            assert_eq!(known, Err(Refusal::NoSuchCopy));
        }
    }
    untracked(source, &id);
    // It begins again, and ends well.
    let (cursor, _) = moving.copy(source, target).await;
    finish(&moving, source, target, cursor).await;
}
