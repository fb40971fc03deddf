//! Nodes of a small tree with memory stores, and messages between them that a test
//! loses or changes.

mod doubts;
mod ended;
mod given_up;
mod lagging;
mod messages;
mod one_id;
mod put_back;
mod retired;
mod seats;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::{Answer, Call, Failure, Node, NodeConfig, Offload, Outcome, Parts, ThisMachine};
use crate::edge_db::{EdgeDb, ReadDb};
use crate::function::{Function, Propagated, Request, Response, Result as Handled};
use crate::peers::messages::{DrainAction, DrainState, MigrateCall, Phase, StatusCall};
use crate::peers::{PeerAnswer, PeerCall, PeerError, Peers};
use crate::protocol::{Event, Refusal};
use crate::session::{
    FunctionName, Life, NodeName, Nonce, Page, Pull, Record, SessionId, SessionToken,
};
use crate::store::{Durability, SessionStore, StoreScope, WindowLimits};
use crate::topology::Topology;
use lagging::Lagging;

const TREE: &str = "
levels: [country, region, city]
root:
  name: italy
  gateway: http://italy.test
  children:
    - name: milan
      gateway: http://milan.test
      children:
        - name: navigli
          gateway: http://navigli.test
        - name: brera
          gateway: http://brera.test
";

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn session() -> SessionId {
    SessionId::new("s").unwrap()
}

async fn read((): &(), _: Request, db: &ReadDb) -> Handled<Response> {
    let items = db.get_list("log").await?;
    let texts: Vec<_> = items.iter().map(|item| String::from_utf8_lossy(item)).collect();
    Ok(Response::text(texts.join(",")))
}

async fn write((): &(), request: Request, db: &mut EdgeDb) -> Handled<Response> {
    db.add_to_list("log", request.text()?.to_owned())?;
    Ok(Response::text("written"))
}

async fn read_slowly((): &(), request: Request, db: &ReadDb) -> Handled<Response> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    read(&(), request, db).await
}

async fn write_slowly((): &(), request: Request, db: &mut EdgeDb) -> Handled<Response> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    write(&(), request, db).await
}

async fn write_with_lease((): &(), request: Request, db: &mut EdgeDb) -> Handled<Response> {
    tokio::task::yield_now().await;
    write(&(), request, db).await
}

async fn send((): &(), request: Request, db: &mut EdgeDb) -> Handled<Response> {
    db.propagate(request.text()?.to_owned(), "country", "log")?;
    Ok(Response::text("sent"))
}

async fn take((): &(), message: Propagated, db: &mut EdgeDb) -> Handled<()> {
    db.add_to_list("log", message.value)
}

fn log() -> Function {
    let log = Function::routes(()).on("GET /log", read).on("POST /log", write);
    let log = log.on("GET /slowly", read_slowly).on("POST /slowly", write_slowly);
    let log = log.on("POST /with-lease", write_with_lease);
    log.on("POST /send", send).on_propagate(take).into()
}

/// Whether a call from one node to another is lost.
type Loses = Box<dyn Fn(&NodeName, &PeerCall) -> bool + Send + Sync>;
/// What becomes of an answer.
type Changes = Box<dyn Fn(&PeerCall, PeerAnswer) -> PeerAnswer + Send + Sync>;

/// For how long an answer is under way.
type Delays = Box<dyn Fn(&PeerCall) -> Duration + Send + Sync>;

struct Tree {
    topology: Arc<Topology>,
    change: fn(&mut NodeConfig),
    stores: BTreeMap<NodeName, Arc<Lagging>>,
    nodes: Mutex<BTreeMap<NodeName, Node>>,
    loses: Mutex<Loses>,
    silent: Mutex<Option<NodeName>>,
    changes: Mutex<Changes>,
    delays: Mutex<Delays>,
    this: Weak<Self>,
}

/// A node's way to the others.
struct Wire(NodeName, Weak<Tree>);

#[async_trait]
impl Peers for Wire {
    async fn call(
        &self,
        to: &NodeName,
        _: &FunctionName,
        call: PeerCall,
    ) -> Result<PeerAnswer, PeerError> {
        let tree = self.1.upgrade().unwrap();
        if (tree.loses.lock())(&self.0, &call) {
            return Err(super::calls::unreachable(to, "it is lost".to_owned()));
        }
        let silent = tree.silent.lock().as_ref() == Some(to);
        if silent {
            tokio::time::sleep(call.timeout).await;
            return Err(super::calls::unreachable(to, "it does not answer".to_owned()));
        }
        let answer = crate::testing::answer(&tree.node(to.as_str()), &self.0, call.clone()).await?;
        let long = (tree.delays.lock())(&call);
        tokio::time::sleep(long).await;
        Ok((tree.changes.lock())(&call, answer))
    }
}

impl Tree {
    fn start(change: fn(&mut NodeConfig)) -> Arc<Self> {
        Self::of(TREE, change)
    }

    fn of(tree: &str, change: fn(&mut NodeConfig)) -> Arc<Self> {
        let topology = Arc::new(Topology::parse(tree).unwrap());
        let places: Vec<NodeName> = topology.nodes().map(|node| node.name.clone()).collect();
        let store = |here: &NodeName| {
            let function = FunctionName::new("log").unwrap();
            let window = WindowLimits::default();
            let scope = StoreScope { function, here: here.clone(), window };
            (here.clone(), Arc::new(Lagging::new(scope)))
        };
        let tree = Arc::new_cyclic(|this| Self {
            topology,
            change,
            stores: places.iter().map(store).collect(),
            nodes: Mutex::default(),
            loses: Mutex::new(Box::new(|_, _| false)),
            silent: Mutex::default(),
            changes: Mutex::new(Box::new(|_, answer| answer)),
            delays: Mutex::new(Box::new(|_| Duration::ZERO)),
            this: this.clone(),
        });
        for place in &places {
            tree.restart(place.as_str());
        }
        tree
    }

    /// A new process on the same store.
    fn restart(&self, at: &str) {
        let mut config = NodeConfig::new(name(at), FunctionName::new("log").unwrap());
        (self.change)(&mut config);
        let node = Node::new(Parts {
            config,
            function: log(),
            store: self.stores[&name(at)].clone(),
            peers: Arc::new(Wire(name(at), self.this.clone())),
            caller: None,
            machine: Arc::new(ThisMachine),
            topology: Arc::clone(&self.topology),
        });
        self.nodes.lock().insert(name(at), node);
    }

    fn node(&self, at: &str) -> Node {
        self.nodes.lock()[&name(at)].clone()
    }

    fn loses(&self, loses: impl Fn(&NodeName, &PeerCall) -> bool + Send + Sync + 'static) {
        *self.loses.lock() = Box::new(loses);
    }

    /// What a client without a token is answered.
    async fn ask(&self, at: &str, request: impl Into<Request>) -> Outcome<Answer> {
        self.ask_with(at, None, request).await
    }

    async fn ask_with(
        &self,
        at: &str,
        token: Option<SessionToken>,
        request: impl Into<Request>,
    ) -> Outcome<Answer> {
        self.ask_in(session(), at, token, request).await
    }

    async fn ask_in(
        &self,
        session: SessionId,
        at: &str,
        token: Option<SessionToken>,
        request: impl Into<Request>,
    ) -> Outcome<Answer> {
        let call = Call {
            session,
            request_id: None,
            token,
            from_peer: false,
            timeout: None,
            request: request.into(),
        };
        self.node(at).invoke(call).await
    }

    async fn write(&self, at: &str, text: &str) {
        let answer = self.ask(at, Request::post("/log").text(text)).await;
        assert!(matches!(answer, Ok(Answer::Response { .. })), "{answer:?}");
    }

    /// Follows redirects from `at`; what is read, and where.
    async fn read(&self, at: &str) -> (String, String) {
        let mut at = at.to_owned();
        for _ in 0..4 {
            match self.ask(&at, Request::get("/log")).await.unwrap() {
                Answer::Redirect { to, .. } => at = to.to_string(),
                Answer::Response { response, .. } => {
                    return (String::from_utf8_lossy(response.body()).into_owned(), at);
                }
                Answer::Error { error, .. } => panic!("{error}"),
            }
        }
        panic!("redirects and no end")
    }

    async fn offload(&self, from: &str) -> Result<String, Failure> {
        match self.node(from).force_offload(Some(session())).await? {
            Offload::Moved(report) => Ok(report.accepted_by.to_string()),
            Offload::Moving(still) => panic!("{} is still at it", still.ask),
        }
    }

    /// A call of `to`, which pulls the session from `from` in this attempt.
    async fn attempt(&self, from: &str, to: &str, nonce: u128) -> MigrateCall {
        self.attempt_in(session(), from, to, nonce).await
    }

    async fn attempt_in(
        &self,
        session: SessionId,
        from: &str,
        to: &str,
        nonce: u128,
    ) -> MigrateCall {
        let slot = self.stores[&name(from)].snapshot(&session).await.unwrap().slot;
        let record: Record = slot.record.unwrap();
        let life: Life = record.life().clone();
        let (next_epoch, nonce) = (record.epoch() + 1, Nonce(nonce));
        let pull = Pull { life, next_epoch, from: name(from), nonce };
        MigrateCall::of_pull(session, &pull, name(to), Phase::Open)
    }
}

fn is_other_life(outcome: &Result<String, Failure>) -> bool {
    match outcome {
        Err(Failure::Refused(refusal)) => *refusal == Refusal::OtherLife,
        Err(Failure::Peer(error)) => error.refusal() == Some(&Refusal::OtherLife),
        _ => false,
    }
}

#[tokio::test(start_paused = true)]
async fn g5_a_late_freeze_gives_no_more_time_to_read() {
    let tree = Tree::start(|config| config.session_wait = Duration::from_millis(50));
    tree.write("navigli", "one").await;
    let (milan, freeze) = (name("milan"), tree.attempt("navigli", "milan", 1).await);
    let navigli = tree.node("navigli");
    navigli.agree(&milan, &freeze).await.unwrap();
    navigli.freeze(&milan, &freeze).await.unwrap();
    tokio::time::advance(Duration::from_millis(900)).await;
    assert_eq!(tree.read("navigli").await.0, "one");
    // One of an attempt that is over, and this one's own once more.
    let old = MigrateCall { nonce: Nonce(7), ..freeze.clone() };
    assert!(navigli.freeze(&milan, &old).await.is_err());
    navigli.freeze(&milan, &freeze).await.unwrap();
    assert_eq!(tree.read("navigli").await.0, "one");
    tokio::time::advance(Duration::from_millis(200)).await;
    let late = tree.ask("navigli", Request::get("/log")).await;
    assert!(matches!(late, Err(Failure::Busy { .. })), "{late:?}");
    // A process that was started since does not know when the freeze was.
    tree.restart("navigli");
    tree.node("navigli").freeze(&milan, &freeze).await.unwrap();
    let late = tree.ask("navigli", Request::get("/log")).await;
    assert!(matches!(late, Err(Failure::Busy { .. })), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_late_no_leaves_the_next_attempt_its_places() {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "one").await;
    let (milan, navigli) = (name("milan"), tree.node("navigli"));
    let [first, second] =
        [tree.attempt("navigli", "milan", 1).await, tree.attempt("navigli", "milan", 2).await];
    navigli.agree(&milan, &first).await.unwrap();
    navigli.agree(&milan, &second).await.unwrap();
    navigli.closed(&milan, &first).await.unwrap();
    assert_eq!(navigli.moves.leaving(), 1);
    navigli.closed(&milan, &second).await.unwrap();
    assert_eq!(navigli.moves.leaving(), 0);
}

#[tokio::test(start_paused = true)]
async fn g7_offers_to_others_do_not_keep_a_source_from_asking() {
    let tree = Tree::start(|config| config.recovery_interval = Duration::from_secs(1));
    tree.write("navigli", "one").await;
    let (milan, navigli) = (name("milan"), tree.node("navigli"));
    let call = tree.attempt("navigli", "milan", 1).await;
    navigli.agree(&milan, &call).await.unwrap();
    navigli.freeze(&milan, &call).await.unwrap();
    // Milan has forgotten it. Italy would have the session, too.
    let _background = navigli.start();
    for attempt in 2..12 {
        let other = tree.attempt("navigli", "italy", attempt).await;
        let refused = navigli.agree(&name("italy"), &other).await;
        match refused {
            Err(Failure::Refused(Refusal::MoveOpen)) => {}
            // It goes on where it was: what this attempt names is over.
            Ok(_) | Err(Failure::Refused(Refusal::StaleEpoch { .. })) => break,
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let slot = tree.stores[&name("navigli")].snapshot(&session()).await.unwrap().slot;
    assert!(matches!(slot.record, Some(Record::Owned { epoch: 3, .. })), "{slot:?}");
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_pointer_makes_room_only_when_home_has_known_for_a_while() {
    let fresh = Duration::from_secs(1);
    let tree = Tree::start(|config| config.pointer_fresh = Duration::from_secs(1));
    tree.write("navigli", "n").await;
    tree.write("brera", "b").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    // Nobody tells home that the session goes on.
    tree.loses(|_, call| call.endpoint == "update-session");
    assert_eq!(tree.offload("milan").await.unwrap(), "italy");
    tokio::time::advance(fresh * 5).await;
    let refused = tree.offload("brera").await;
    assert!(is_other_life(&refused), "{refused:?}");
    assert_eq!(tree.read("navigli").await, ("n".to_owned(), "italy".to_owned()));
    // Nor while home does not answer.
    tree.loses(|_, call| matches!(call.endpoint, "update-session" | "test-function"));
    assert!(is_other_life(&tree.offload("brera").await));
    tokio::time::advance(fresh * 5).await;
    // It is asked, and told; requests that it has sent here are under way for a while.
    tree.loses(|_, _| false);
    assert!(is_other_life(&tree.offload("brera").await));
    assert_eq!(tree.read("navigli").await, ("n".to_owned(), "italy".to_owned()));
    tokio::time::advance(fresh / 2).await;
    assert!(is_other_life(&tree.offload("brera").await));
    tokio::time::advance(fresh).await;
    assert_eq!(tree.offload("brera").await.unwrap(), "milan");
    assert_eq!(tree.read("navigli").await, ("n".to_owned(), "italy".to_owned()));
    assert_eq!(tree.read("brera").await, ("b".to_owned(), "milan".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_session_that_came_home_past_a_pointer_counts_from_when_that_is_known() {
    let tree = Tree::start(|config| config.pointer_fresh = Duration::from_secs(1));
    tree.write("navigli", "n").await;
    tree.write("brera", "b").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    tree.loses(|_, call| call.endpoint == "update-session");
    assert_eq!(tree.offload("milan").await.unwrap(), "italy");
    tokio::time::advance(Duration::from_secs(5)).await;
    tree.node("navigli").force_onload(Some(session()), 1).await.unwrap();
    // Until just now home has led to milan. Italy's pointer is fresh as well.
    assert!(is_other_life(&tree.offload("brera").await));
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert_eq!(tree.offload("brera").await.unwrap(), "milan");
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_pointer_that_changed_while_home_was_asked_leads_where_it_leads_now() {
    let tree = Tree::start(|config| config.pointer_fresh = Duration::from_secs(1));
    tree.write("navigli", "one").await;
    assert_eq!(tree.offload("navigli").await.unwrap(), "milan");
    tree.loses(|_, call| call.endpoint == "update-session");
    assert_eq!(tree.offload("milan").await.unwrap(), "italy");
    tokio::time::advance(Duration::from_secs(5)).await;
    // While milan waits for home in vain, the session goes on and milan hears of it.
    let life = tree.attempt("italy", "navigli", 1).await.life();
    let milan = Arc::clone(&tree.stores[&name("milan")]);
    tree.loses(move |_, call| {
        let event = Event::Refresh { life: life.clone(), epoch: 9, to: name("navigli") };
        let id = session();
        let step = milan.step(&id, &event, Durability::Eventual);
        step.now_or_never().unwrap().unwrap().unwrap();
        call.endpoint == "test-function"
    });
    let answer = tree.ask("milan", Request::get("/log")).await.unwrap();
    assert!(
        matches!(&answer, Answer::Redirect { to, .. } if to.as_str() == "navigli"),
        "{answer:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn g2_a_copy_that_passed_a_field_over_is_brought_again() {
    let tree = Tree::start(|config| config.precopy_min = 0);
    for text in ["one", "two", "three"] {
        tree.write("navigli", text).await;
    }
    *tree.changes.lock() = Box::new(|call, answer| {
        let copies = call.endpoint == "migrate-session"
            && String::from_utf8_lossy(&call.body).contains("\"copy\"");
        match Page::decode(&answer.body).ok().filter(|page| copies && !page.fields.is_empty()) {
            Some(mut page) => {
                page.fields.remove(0);
                PeerAnswer { body: page.encode().into(), ..answer }
            }
            None => answer,
        }
    });
    let Offload::Moved(report) = tree.node("navigli").force_offload(Some(session())).await.unwrap()
    else {
        panic!("it takes long")
    };
    assert!(report.rounds > 0, "it was not copied: {report:?}");
    assert_eq!(tree.read("navigli").await, ("one,two,three".to_owned(), "milan".to_owned()));
}

/// How long navigli takes for a page of a copy of which its store takes two milliseconds.
async fn page_of_a_copy(tree: &Tree) -> Duration {
    let navigli = tree.node("navigli");
    let call = tree.attempt("navigli", "milan", 1).await;
    navigli.agree(&name("milan"), &call).await.unwrap();
    tree.stores[&name("navigli")].copies_slowly(2);
    let copy = MigrateCall { phase: Phase::Copy, ..call };
    let began = tokio::time::Instant::now();
    navigli.copy(&name("milan"), &copy).await.unwrap();
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_copy_rests_while_its_node_serves_somebody() {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "one").await;
    // What was before is none of it.
    tree.node("navigli").has_requests();
    assert_eq!(page_of_a_copy(&tree).await, Duration::from_millis(2));
    let tree = Tree::start(|_| {});
    tree.write("navigli", "one").await;
    tree.node("navigli").has_requests();
    let here = Arc::clone(&tree);
    let slow = tokio::spawn(async move { here.ask("navigli", Request::get("/slowly")).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(page_of_a_copy(&tree).await, Duration::from_millis(4));
    slow.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn g2_a_drain_finds_a_session_that_its_index_has_not_listed_for_ten_seconds() {
    let tree = Tree::start(|_| {});
    let navigli = tree.node("navigli");
    let _background = navigli.start();
    navigli.drain(DrainAction::Start).await.unwrap();
    let state = |left| navigli.drain_status(left).unwrap().state;
    // The pass over the index at a node's start is over, and so is the first full look.
    while state(0) != DrainState::Empty {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tree.stores[&name("navigli")].lags();
    tree.write("navigli", "one").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(tree.read("navigli").await, ("one".to_owned(), "milan".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_status_is_told_without_sessions_while_the_store_does_not_answer() {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "one").await;
    let wanted = StatusCall { max_sessions: 10, max_moves: 10, below: None };
    let told = tree.node("navigli").told(&wanted).await.unwrap();
    assert_eq!((told.store.as_str(), told.listed.len()), ("ok", 1));
    tree.stores[&name("navigli")].falls_silent();
    let told = tree.node("navigli").told(&wanted).await.unwrap();
    assert_eq!(told.store, "the store does not answer: it is silent");
    assert!(told.listed.is_empty() && told.moved.is_some());
}

#[tokio::test(start_paused = true)]
async fn sessions_are_listed_with_what_there_was_to_do_for_them() {
    let tree = Tree::start(|_| {});
    tree.write("navigli", "one").await;
    tree.write("navigli", "two").await;
    let listed = tree.node("navigli").listed(None, 10).await.unwrap();
    assert_eq!((listed.len(), &listed[0].session), (1, &session()));
    assert_eq!((listed[0].requests, listed[0].arrived_ms), (Some(2), None));
    assert_eq!(tree.node("navigli").status().await.activity.unwrap().requests, 2);
    assert!(tree.node("navigli").listed(None, 0).await.unwrap().is_empty());
    tree.offload("navigli").await.unwrap();
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(tree.node("navigli").listed(None, 10).await.unwrap().is_empty());
    let milan = tree.node("milan");
    let below = milan.listed(Some(&name("navigli")), 10).await.unwrap();
    assert_eq!((below.len(), below[0].requests, &below[0].home), (1, Some(0), &name("navigli")));
    assert!(below[0].arrived_ms.is_some_and(|ago| ago >= 3000), "{below:?}");
    assert!(milan.listed(Some(&name("brera")), 10).await.unwrap().is_empty());
    // A redirect is no work.
    let answer = tree.ask("navigli", Request::get("/log")).await;
    assert!(matches!(answer, Ok(Answer::Redirect { .. })));
    assert_eq!(tree.node("navigli").status().await.activity.unwrap().requests, 2);
}
