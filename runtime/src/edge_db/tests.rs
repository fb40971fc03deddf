use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{Caller, EdgeDb, Place, ReadDb, Reader};
use crate::function::{Request, Response, Result};
use crate::protocol::{Access, BeginAsk};
use crate::session::fields::{self, CHUNK, FieldMap};
use crate::session::{Change, FunctionName, Incarnation, LeaseId, NodeName, RequestId, SessionId};
use crate::store::memory::MemoryStore;
use crate::store::{
    BeginRequest, Begun, Commit, ReadGuard, SessionStore, StoreScope, WindowLimits,
};
use crate::topology::Topology;

const ITALY: &str = include_str!("../../../topology/examples/italy.yaml");

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// Where a test's request runs: function `cart`, session `ada`.
pub(crate) fn place(here: &str) -> Place {
    Place {
        here: name(here),
        home: name("navigli"),
        function: FunctionName::new("cart").unwrap(),
        session: SessionId::new("ada").unwrap(),
        topology: Arc::new(Topology::parse(ITALY).unwrap()),
        caller: None,
        machine: std::sync::Arc::new(crate::node::ThisMachine),
        request: Some(RequestId::new("r1").unwrap()),
        gate: None,
    }
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(StoreScope {
        function: FunctionName::new("cart").unwrap(),
        here: name("navigli"),
        window: WindowLimits::default(),
    }))
}

/// Begins a request on a store, creating the session; with the data inline if asked.
async fn begin(store: &Arc<MemoryStore>, lease: u128, access: Access, inline: bool) -> Reader {
    let session = SessionId::new("ada").unwrap();
    let ask = BeginAsk {
        access,
        create: Some(Incarnation(1)),
        lease: LeaseId(lease),
        lease_ttl: 60_000,
        frozen_reads: false,
        unsettled_writes: None,
    };
    let inline_max = if inline { u64::MAX } else { 0 };
    let request = BeginRequest { ask, request: None, inline_max };
    let Begun::Run(run) = store.begin(&session, &request).await.unwrap() else {
        panic!("the session does not run")
    };
    let guard = match access {
        Access::Write => ReadGuard::Lease(LeaseId(lease)),
        Access::Read => ReadGuard::Version {
            life: run.life,
            epoch: run.epoch,
            version: run.version,
            frozen: false,
        },
    };
    Reader { store: store.clone(), session, guard, inline: run.data.filter(|_| inline) }
}

async fn commit(store: &Arc<MemoryStore>, lease: u128, data: Vec<Change>) {
    let session = SessionId::new("ada").unwrap();
    let commit = Commit {
        lease: LeaseId(lease),
        life: crate::session::Life { home: name("navigli"), incarnation: Incarnation(1) },
        epoch: 1,
        data,
        outbox: Vec::new(),
        remember: None,
        max_bytes: u64::MAX,
    };
    let done = store.commit(&session, &commit).await.unwrap();
    assert_eq!(done, crate::store::Committed::Applied);
}

/// A handle on a new session.
pub(crate) async fn edge_db() -> EdgeDb {
    EdgeDb::new(begin(&store(), 1, Access::Write, true).await, place("navigli"))
}

/// A reader of a new session, and one whose session has changed since.
pub(crate) async fn read_dbs() -> (ReadDb, ReadDb) {
    let store = store();
    let before = begin(&store, 1, Access::Read, false).await;
    begin(&store, 1, Access::Write, false).await;
    let change = Change::Set { key: "x".into(), value: "1".into() };
    commit(&store, 1, vec![change]).await;
    let now = begin(&store, 2, Access::Read, false).await;
    (ReadDb::new(now, place("navigli")), ReadDb::new(before, place("navigli")))
}

#[tokio::test]
async fn a_writer_reads_its_own_writes() {
    let mut db = edge_db().await;
    assert_eq!(db.get("name").await.unwrap(), None);
    db.set("name", "Ada").unwrap();
    db.set("photo", [0xff, 0]).unwrap();
    db.add_to_list("log", "one").unwrap();
    db.add_to_list_json("log", &2).unwrap();
    assert_eq!(db.get_text("name").await.unwrap().as_deref(), Some("Ada"));
    assert_eq!(db.get_list("log").await.unwrap(), ["one", "2"]);
    assert_eq!(db.list_len("log").await.unwrap(), 2);
    assert_eq!(db.keys().await.unwrap(), ["log", "name", "photo"]);
    assert!(db.get_text("photo").await.is_err());
    assert!(db.get_json::<u8>("name").await.is_err());
    db.set_list_json("log", [1, 2, 3]).unwrap();
    assert_eq!(db.get_list_json::<u8>("log").await.unwrap(), [1, 2, 3]);
    db.delete("log").unwrap();
    assert_eq!(db.list_len("log").await.unwrap(), 0);
    assert_eq!(db.keys().await.unwrap(), ["name", "photo"]);
    assert_eq!(db.into_changes().data.len(), 9);
}

#[tokio::test]
async fn names_that_are_too_long_are_refused_with_a_sentence() {
    let mut db = edge_db().await;
    let long = "é".repeat(513);
    for bad in ["", &long] {
        assert_eq!(db.get(bad).await.unwrap_err().status_code(), StatusCode::BAD_REQUEST);
        assert!(db.set(bad, "x").is_err());
        assert!(db.add_to_list(bad, "x").is_err());
        assert!(db.set_list(bad, ["x"]).is_err());
        assert!(db.delete(bad).is_err());
    }
    let longest = "é".repeat(512);
    db.set(&longest, "x").unwrap();
    let error = db.get(&long).await.unwrap_err();
    assert!(error.to_string().contains("1024"), "{error}");
}

#[tokio::test]
async fn g5_all_reads_of_a_request_see_one_version() {
    let (fresh, stale) = read_dbs().await;
    assert_eq!(fresh.get_text("x").await.unwrap().as_deref(), Some("1"));
    assert!(stale.get("x").await.unwrap_err().is_stale_read());
    assert!(stale.failure().is_some() && fresh.failure().is_none());
}

#[tokio::test]
async fn g1_a_writer_without_its_lease_reads_nothing() {
    let store = store();
    let db = EdgeDb::new(begin(&store, 1, Access::Write, false).await, place("navigli"));
    store.release(&SessionId::new("ada").unwrap(), LeaseId(1)).await.unwrap();
    begin(&store, 2, Access::Write, false).await;
    assert!(db.get_list("x").await.unwrap_err().is_stale_read());
}

#[tokio::test]
async fn values_go_to_the_levels_that_were_named() {
    let targets = async |here: &str, levels: &str| -> Result<Vec<String>> {
        let reader = begin(&store(), 1, Access::Write, true).await;
        let mut db = EdgeDb::new(reader, place(here));
        let count = db.propagate("v", levels, "stats")?;
        let outbox = db.into_changes().outbox;
        assert_eq!(outbox.len(), count);
        assert!(outbox.iter().all(|entry| entry.from.as_str() == here && entry.value == "v"));
        Ok(outbox.into_iter().map(|entry| entry.to.to_string()).collect())
    };
    assert_eq!(targets("navigli", "*").await.unwrap(), ["milan", "italy"]);
    assert_eq!(targets("navigli", "country").await.unwrap(), ["italy"]);
    assert_eq!(targets("navigli", "city, country").await.unwrap(), ["milan", "italy"]);
    assert_eq!(targets("milan", "district").await.unwrap(), ["navigli", "brera"]);
    assert_eq!(targets("italy", "district,city").await.unwrap().len(), 5);
    assert!(targets("milan", "city").await.unwrap().is_empty());
    assert!(targets("italy", "*").await.unwrap().is_empty());
    let error = targets("milan", "province").await.unwrap_err();
    assert!(error.to_string().contains("country, city, district"), "{error}");
    assert!(targets("milan", "").await.is_err());
}

#[derive(Default)]
struct Calls(Mutex<Vec<(String, RequestId)>>);

#[async_trait]
impl Caller for Calls {
    async fn invoke(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
        request: Request,
        request_id: RequestId,
    ) -> Result<Response> {
        assert_eq!((request.session(), request.header("x-session")), ("", None));
        let call = format!("{} {node}/{function}/{session}{}", request.method(), request.path());
        self.0.lock().push((call, request_id));
        Ok(Response::status(StatusCode::NOT_FOUND))
    }
}

async fn invoke_twice(place: Place) -> Vec<(String, RequestId)> {
    let calls = Arc::new(Calls::default());
    let place = Place { caller: Some(calls.clone()), ..place };
    let db = ReadDb::new(begin(&store(), 1, Access::Read, true).await, place);
    for session in ["ada", "total"] {
        let parent = db.hierarchy().parent().unwrap().name.as_str();
        let request = Request::post("/sum").json(&1).unwrap();
        let answer = db.hierarchy().invoke(parent, "cart", session, request).await.unwrap();
        assert_eq!(answer.status_code(), StatusCode::NOT_FOUND);
    }
    std::mem::take(&mut calls.0.lock())
}

#[tokio::test]
async fn g3_a_repeated_request_makes_the_same_calls() {
    let first = invoke_twice(place("navigli")).await;
    assert_eq!(first[0].0, "POST milan/cart/ada/sum");
    assert_ne!(first[0].1, first[1].1);
    assert_eq!(invoke_twice(place("navigli")).await, first);
    // Wherever the session lives now, it is the same request.
    assert_eq!(invoke_twice(place("brera")).await[0].1, first[0].1);
    for other in [
        Place { request: None, ..place("navigli") },
        Place { request: Some(RequestId::new("r2").unwrap()), ..place("navigli") },
        Place { session: SessionId::new("bob").unwrap(), ..place("navigli") },
        Place { home: name("brera"), ..place("navigli") },
    ] {
        assert_ne!(invoke_twice(other).await[0].1, first[0].1);
    }
}

#[tokio::test]
async fn g3_no_call_leaves_before_the_request_holds_its_lease() {
    let calls = Arc::new(Calls::default());
    let gate = Arc::new(tokio::sync::SetOnce::new());
    let place = Place { caller: Some(calls.clone()), gate: Some(gate.clone()), ..place("navigli") };
    let db = ReadDb::new(begin(&store(), 1, Access::Read, true).await, place);
    let hierarchy = db.hierarchy();
    let mut call = std::pin::pin!(hierarchy.invoke("milan", "cart", "all", Request::get("/")));
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    assert!(calls.0.lock().is_empty());
    gate.set(()).unwrap();
    call.await.unwrap();
    assert_eq!(calls.0.lock().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_passed_on_gets_its_own_id() {
    let calls = Arc::new(Calls::default());
    let place = Place { caller: Some(calls.clone()), ..place("navigli") };
    let db = ReadDb::new(begin(&store(), 1, Access::Read, true).await, place);
    let received = Request::put("/x").header("X-Session", "ada").unwrap().request_id("r1").unwrap();
    let received = Request::from(received).with_session(SessionId::new("ada").unwrap());
    for _ in 0..2 {
        db.hierarchy().invoke("milan", "cart", "all", received.clone()).await.unwrap();
    }
    let own = Request::put("/x").request_id("mine").unwrap();
    db.hierarchy().invoke("milan", "cart", "all", own).await.unwrap();
    let calls = calls.0.lock();
    assert_eq!(calls[0].0, "PUT milan/cart/all/x");
    let ids: std::collections::BTreeSet<_> = calls.iter().map(|(_, id)| id.as_str()).collect();
    assert!(ids.len() == 3 && ids.contains("mine") && !ids.contains("r1"), "{ids:?}");
}

#[tokio::test]
async fn calls_that_cannot_work_are_refused_with_a_sentence() {
    let db = edge_db().await;
    let refused = async |node: &str, function: &str, session: &str| {
        let answer = db.hierarchy().invoke(node, function, session, Request::get("/")).await;
        answer.unwrap_err().to_string()
    };
    assert!(refused("paris", "cart", "ada").await.contains("no node `paris`"));
    assert!(refused("navigli", "cart", "ada").await.contains("itself"));
    assert!(refused("milan", "cart", "ada").await.contains("no way"));
    assert!(!refused("Milan!", "cart", "ada").await.is_empty());
    assert!(!refused("milan", "cart", "").await.is_empty());
}

#[tokio::test]
async fn the_handle_says_where_it_is() {
    let db = ReadDb::new(begin(&store(), 1, Access::Read, true).await, place("milan"));
    let names = |nodes: Vec<&crate::topology::Node>| -> Vec<String> {
        nodes.into_iter().map(|node| node.name.to_string()).collect()
    };
    let tree = db.hierarchy();
    assert_eq!(names(tree.children()), ["navigli", "brera"]);
    assert_eq!(names(tree.subtree()), ["milan", "navigli", "brera"]);
    assert_eq!(names(tree.path_to_root()), ["italy"]);
    assert_eq!((db.location().as_str(), db.home().as_str()), ("milan", "navigli"));
    assert_eq!(db.session().as_str(), "ada");
}

fn change() -> impl Strategy<Value = Change> {
    let key = "[ab]{1,2}";
    let value = prop_oneof![
        4 => any::<Vec<u8>>().prop_map(Bytes::from),
        1 => Just(Bytes::from(vec![7; CHUNK + 1])),
    ];
    prop_oneof![
        (key, value.clone()).prop_map(|(key, value)| Change::Set { key, value }),
        (key, value).prop_map(|(list, value)| Change::Append { list, value }),
        key.prop_map(|key| Change::Delete { key }),
        key.prop_map(|list| Change::ClearList { list }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// What a writer sees is what the store will hold after its commit, whether
    /// the data came inline or is read piece by piece.
    #[test]
    fn the_overlay_says_what_the_commit_will_make(
        before in proptest::collection::vec(change(), 0..8),
        changes in proptest::collection::vec(change(), 0..8),
        inline: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = store();
            begin(&store, 1, Access::Write, false).await;
            commit(&store, 1, before.clone()).await;
            let mut db = EdgeDb::new(begin(&store, 2, Access::Write, inline).await, place("navigli"));
            let mut model = FieldMap::new();
            fields::apply(&mut model, &before);
            for step in 0..=changes.len() {
                for key in ["a", "b", "aa", "ab", "ba", "bb"] {
                    assert_eq!(db.get(key).await.unwrap(), fields::get(&model, &fields::value_field(key)));
                    let items = fields::list(&model, key);
                    assert_eq!(db.list_len(key).await.unwrap(), items.len());
                    assert_eq!(db.get_list(key).await.unwrap(), items);
                    assert_eq!(db.list_len(key).await.unwrap(), items.len());
                }
                let keys = fields::keys(model.keys().map(String::as_str));
                assert_eq!(db.keys().await.unwrap(), keys.into_iter().collect::<Vec<_>>());
                let Some(change) = changes.get(step) else { break };
                fields::apply(&mut model, std::slice::from_ref(change));
                match change.clone() {
                    Change::Set { key, value } => db.set(&key, value).unwrap(),
                    Change::Append { list, value } => db.add_to_list(&list, value).unwrap(),
                    Change::Delete { key } => db.delete(&key).unwrap(),
                    Change::ClearList { list } => db.set_list(&list, Vec::<Bytes>::new()).unwrap(),
                }
            }
            assert_eq!(db.into_changes().data, changes);
        });
    }
}
