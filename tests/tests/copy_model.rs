//! G2, G3: random writes between the pages of a copy, pages that are asked for again,
//! copies that begin anew: what arrives is what a plain model says, on either store.
//!
//! `PROPTEST_CASES` sets how many sequences are tried; a failing one is shrunk and
//! printed.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use funicular::protocol::{Event, Refusal, Reply};
use funicular::session::fields::{self, CHUNK, FieldMap};
use funicular::session::{Change, SessionId};
use funicular::store::{Commit, Committed, Staged, WindowLimits};
use funicular_tests::bench::{
    Bench, Kind, Move, append, clear, delete, remember, request, session, set,
};
use proptest::prelude::*;

/// So few that a copy sees entries leave.
const WINDOW: usize = 12;

/// What happens between the first page and the freeze.
#[derive(Debug, Clone)]
enum Deed {
    /// A request with this id, if it has one.
    Commit { data: Vec<Change>, request: Option<u8> },
    /// The next page, kept so many times.
    Page { times: u8 },
    /// An earlier page, whose answer is lost.
    Again { back: u8 },
    /// The copy begins anew.
    Anew,
    /// The source's store was restarted: it may have forgotten something.
    Restart,
}

fn change() -> impl Strategy<Value = Change> {
    let key = prop_oneof![4 => "[a-d]", 1 => "key-[0-9]{1,2}"];
    let value = prop_oneof![
        3 => "[xyz]{0,5}".prop_map(Bytes::from),
        2 => (0_usize..2000).prop_map(|length| Bytes::from(vec![8; length])),
        1 => (1_usize..3).prop_map(|chunks| Bytes::from(vec![7; CHUNK * chunks + 1])),
    ];
    prop_oneof![
        4 => (key.clone(), value.clone()).prop_map(|(key, value)| set(&key, value)),
        3 => (key.clone(), value).prop_map(|(list, value)| append(&list, value)),
        2 => key.clone().prop_map(|key| delete(&key)),
        1 => key.prop_map(|list| clear(&list)),
    ]
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (prop::collection::vec(change(), 0..5), proptest::option::of(0_u8..40))
            .prop_map(|(data, request)| Deed::Commit { data, request }),
        6 => (1_u8..3).prop_map(|times| Deed::Page { times }),
        2 => (0_u8..4).prop_map(|back| Deed::Again { back }),
        1 => Just(Deed::Anew),
    ];
    let restart = prop_oneof![9 => Just(None), 1 => Just(Some(Deed::Restart))];
    (prop::collection::vec(deed, 1..40), restart)
        .prop_map(|(deeds, restart)| deeds.into_iter().chain(restart).collect())
}

/// The session as a plain model has it.
#[derive(Debug, Default)]
struct Model {
    fields: FieldMap,
    window: VecDeque<String>,
}

impl Model {
    async fn commit(
        &mut self,
        source: &Bench,
        id: &SessionId,
        data: Vec<Change>,
        name: Option<String>,
    ) {
        fields::apply(&mut self.fields, &data);
        let turn = source.turn(id).await;
        let known = name.as_ref().and_then(|name| remember(name, name));
        let commit = Commit { data, remember: known, ..turn.commit() };
        assert_eq!(source.commit(id, &commit).await, Committed::Applied);
        if let Some(name) = name {
            self.window.retain(|known| *known != name);
            self.window.push_back(name);
            while self.window.len() > WINDOW {
                self.window.pop_front();
            }
        }
    }
}

/// The window of a session that is frozen or has just arrived, oldest first.
async fn window(bench: &Bench, id: &SessionId) -> Vec<String> {
    let mut found = Vec::new();
    for number in 0..40 {
        let name = format!("r{number}");
        if let Some(entry) = bench.store.remembered(id, &request(&name)).await.unwrap() {
            found.push((entry.at, name));
        }
    }
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

async fn play(source: &Bench, target: &Bench, id: &SessionId, deeds: &[Deed]) {
    let mut model = Model::default();
    let small = (0..1500).map(|number| set(&format!("key-{number}"), number.to_string()));
    let large = [set("a", vec![1; CHUNK + 5]), append("b", vec![2; CHUNK * 2])];
    let list = (0..20).map(|number| append("c", vec![3; number]));
    model.commit(source, id, small.chain(large).chain(list).collect(), None).await;
    let moving = Move::agree(source, target, id).await;

    // Cursors that were handed out, the last one being where the copy has come to.
    let mut cursors: Vec<Option<String>> = vec![None];
    let mut restarted = false;
    for deed in deeds {
        match deed {
            Deed::Commit { data, request } => {
                let name = request.map(|number| format!("r{number}"));
                model.commit(source, id, data.clone(), name).await;
            }
            Deed::Page { times } => {
                let cursor = cursors.last().cloned().flatten();
                let page = moving.copied(source, cursor.as_deref()).await.unwrap();
                for _ in 0..*times {
                    assert_eq!(moving.stage(target, &page).await, Staged::More);
                }
                cursors.push(page.next);
            }
            Deed::Again { back } => {
                let place = cursors.len().saturating_sub(1 + usize::from(*back));
                moving.copied(source, cursors[place].as_deref()).await.unwrap();
            }
            Deed::Anew => cursors = vec![None],
            Deed::Restart => {
                restarted = source.step(id, &Event::StoreRestarted).await == Ok(Reply::Changed);
            }
        }
    }
    if restarted {
        if let Some(cursor) = cursors.last().cloned().flatten() {
            let unknown = Err(Refusal::NoSuchCopy);
            assert_eq!(moving.copied(source, Some(&cursor)).await, unknown);
            assert_eq!(moving.exported(source, Some(&cursor)).await, unknown);
        }
        cursors.push(None);
    } else {
        moving.freeze(source).await;
    }
    let since = cursors.last().cloned().flatten();
    let (totals, _) = moving.carry_since(source, target, 1, since).await;
    assert_eq!(totals.window, model.window.len() as u64);
    assert_eq!(moving.install(target).await, Ok(Reply::Changed));
    assert!(target.dump(id).await.unwrap() == model.fields, "the fields are the model's");
    let snapshot = target.snapshot(id).await;
    assert_eq!(snapshot.bytes, fields::size(&model.fields));
    assert_eq!(snapshot.fields, model.fields.len() as u64);
    let (mut found, mut expected) = (window(target, id).await, Vec::from(model.window));
    // Two that were committed in the same millisecond have no order by time.
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

fn copies(from: Kind, to: Kind) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let config = ProptestConfig {
        cases: cases.unwrap_or(24),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = WindowLimits { entries: WINDOW, age: Duration::from_secs(3600) };
    let source = runtime.block_on(Bench::with_window(from, "edge", limits));
    let target = runtime.block_on(Bench::with_window(to, "middle", limits));
    let number = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&deeds(), |deeds| {
        number.set(number.get() + 1);
        let id = session(&format!("s{}", number.get()));
        let play = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(play(&source, &target, &id, &deeds));
        });
        std::panic::catch_unwind(play)
            .map_err(|_| TestCaseError::fail("what arrives is not what the model says"))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn g2_g3_from_memory_to_memory() {
    copies(Kind::Memory, Kind::Memory);
}

#[test]
fn g2_g3_from_memory_to_redis() {
    copies(Kind::Memory, Kind::Redis);
}

#[test]
fn g2_g3_from_redis_to_memory() {
    copies(Kind::Redis, Kind::Memory);
}

#[test]
fn g2_g3_from_redis_to_redis() {
    copies(Kind::Redis, Kind::Redis);
}
