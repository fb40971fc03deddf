//! A store on the bench: a node's name, a store, and the few moves with which a
//! test brings sessions into the state it wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use funicular::protocol::{Access, BeginAsk, Event, Refusal, Reply};
use funicular::session::fields::FieldMap;
use funicular::session::packet::Totals;
use funicular::session::{
    Change, Digest, Epoch, FunctionName, Incarnation, LeaseId, Life, NodeName, Nonce, OutboxEntry,
    Page, Pull, RequestId, SessionId, StoredResponse, Transfer,
};
use funicular::store::memory::MemoryStore;
use funicular::store::redis::{RedisOptions, RedisStore};
use funicular::store::{
    BeginRequest, Begun, Commit, Committed, Durability, Session, SessionStore, Snapshot, Staged,
    StoreScope, WindowLimits,
};

use crate::cluster::RedisCluster;
use crate::redis::RedisServer;

/// Which store a check runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Redis,
}

/// Numbers the stores that share a cluster.
static SHARING: AtomicU64 = AtomicU64::new(0);

/// A node's store, and the server under it if it has one.
pub struct Bench {
    pub node: NodeName,
    pub store: Arc<dyn SessionStore>,
    pub server: Option<RedisServer>,
    pub cluster: Option<Arc<RedisCluster>>,
}

/// A lease that was taken, with the session it is for.
#[derive(Debug, Clone)]
pub struct Turn {
    pub id: SessionId,
    pub lease: LeaseId,
    pub session: Session,
}

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a node's name")
}

pub fn session(id: &str) -> SessionId {
    SessionId::new(id).expect("a session id")
}

pub fn request(id: &str) -> RequestId {
    RequestId::new(id).expect("a request id")
}

pub fn set(key: &str, value: impl Into<Bytes>) -> Change {
    Change::Set { key: key.into(), value: value.into() }
}

pub fn append(list: &str, value: impl Into<Bytes>) -> Change {
    Change::Append { list: list.into(), value: value.into() }
}

pub fn delete(key: &str) -> Change {
    Change::Delete { key: key.into() }
}

pub fn clear(list: &str) -> Change {
    Change::ClearList { list: list.into() }
}

pub fn response(body: &str) -> StoredResponse {
    let body = Some(Bytes::copy_from_slice(body.as_bytes()));
    StoredResponse { status: 200, headers: vec![("kind".into(), "test".into())], body }
}

pub fn remember(id: &str, body: &str) -> Option<(RequestId, Digest, StoredResponse)> {
    Some((request(id), Digest([7; 32]), response(body)))
}

/// The scope of the function `cart` at a node.
pub fn scope(node: &NodeName, window: WindowLimits) -> StoreScope {
    let function = FunctionName::new("cart").expect("a function's name");
    StoreScope { function, here: node.clone(), window }
}

/// A request that may create, takes what is small inline, and has no request id.
pub fn ask(access: Access) -> BeginRequest {
    BeginRequest {
        ask: BeginAsk {
            access,
            create: Some(Incarnation(rand::random())),
            lease: LeaseId(rand::random()),
            lease_ttl: 60_000,
            frozen_reads: false,
            unsettled_writes: None,
        },
        request: None,
        inline_max: 64 * 1024,
    }
}

impl Turn {
    /// A commit of this turn with nothing in it.
    pub fn commit(&self) -> Commit {
        Commit {
            lease: self.lease,
            life: self.session.life.clone(),
            epoch: self.session.epoch,
            data: Vec::new(),
            outbox: Vec::new(),
            remember: None,
            max_bytes: 1 << 40,
        }
    }

    /// A message to the root.
    pub fn message(&self, index: usize, value: &str) -> OutboxEntry {
        OutboxEntry {
            id: format!("{}-{index}", self.lease),
            function: FunctionName::new("cart").expect("a function's name"),
            to: node("root"),
            from: node("edge"),
            value: Bytes::copy_from_slice(value.as_bytes()),
        }
    }
}

impl Bench {
    pub async fn new(kind: Kind, name: &str) -> Self {
        Self::with_window(kind, name, WindowLimits::default()).await
    }

    pub async fn with_window(kind: Kind, name: &str, window: WindowLimits) -> Self {
        match kind {
            Kind::Memory => {
                let node = node(name);
                let store = Arc::new(MemoryStore::new(scope(&node, window)));
                Self { node, store, server: None, cluster: None }
            }
            Kind::Redis => Self::on(RedisServer::plain(), name, window).await,
        }
    }

    /// On a server of one's own, recovered and ready.
    pub async fn on(server: RedisServer, name: &str, window: WindowLimits) -> Self {
        let node = node(name);
        let store = connect(&server, &node, window).await;
        store.recover_restart().await.expect("the store recovers");
        Self { node, store: Arc::new(store), server: Some(server), cluster: None }
    }

    /// On a cluster, with keys that no other bench has.
    pub async fn sharing(cluster: &Arc<RedisCluster>, name: &str, window: WindowLimits) -> Self {
        let prefix = format!("f{}", SHARING.fetch_add(1, Ordering::SeqCst));
        Self::on_cluster(cluster, name, window, prefix).await
    }

    /// On a cluster of one's own.
    pub async fn clustered(cluster: &Arc<RedisCluster>, name: &str) -> Self {
        Self::on_cluster(cluster, name, WindowLimits::default(), "f".to_owned()).await
    }

    async fn on_cluster(
        cluster: &Arc<RedisCluster>,
        name: &str,
        window: WindowLimits,
        prefix: String,
    ) -> Self {
        let node = node(name);
        let options = RedisOptions { prefix, ..RedisOptions::default() };
        let store = RedisStore::connect(&cluster.url(), options, scope(&node, window)).await;
        let store = store.unwrap_or_else(|error| panic!("{error}"));
        store.recover_restart().await.expect("the store recovers");
        Self { node, store: Arc::new(store), server: None, cluster: Some(cluster.clone()) }
    }

    pub fn server(&mut self) -> &mut RedisServer {
        self.server.as_mut().expect("this bench has a server")
    }

    pub async fn begin(&self, id: &SessionId, request: &BeginRequest) -> Begun {
        self.store.begin(id, request).await.expect("the store answers")
    }

    /// Takes the lease, creating the session if there is none.
    pub async fn turn(&self, id: &SessionId) -> Turn {
        let request = ask(Access::Write);
        match self.begin(id, &request).await {
            Begun::Run(session) => Turn { id: id.clone(), lease: request.ask.lease, session },
            other => panic!("it should run: {other:?}"),
        }
    }

    pub async fn commit(&self, id: &SessionId, commit: &Commit) -> Committed {
        self.store.commit(id, commit).await.expect("the store answers")
    }

    /// One request that writes.
    pub async fn write(&self, id: &SessionId, data: Vec<Change>) -> Turn {
        let turn = self.turn(id).await;
        let committed = self.commit(id, &Commit { data, ..turn.commit() }).await;
        assert_eq!(committed, Committed::Applied);
        turn
    }

    /// One request with an id that writes and is remembered.
    pub async fn write_as(&self, id: &SessionId, request: &str, data: Vec<Change>) -> Turn {
        let turn = self.turn(id).await;
        let remember = remember(request, request);
        let committed = self.commit(id, &Commit { data, remember, ..turn.commit() }).await;
        assert_eq!(committed, Committed::Applied);
        turn
    }

    pub async fn step(&self, id: &SessionId, event: &Event) -> Result<Reply, Refusal> {
        self.store.step(id, event, Durability::Synced).await.expect("the store answers")
    }

    pub async fn snapshot(&self, id: &SessionId) -> Snapshot {
        self.store.snapshot(id).await.expect("the store answers")
    }

    pub async fn dump(&self, id: &SessionId) -> Option<FieldMap> {
        self.store.dump(id).await.expect("the store answers")
    }

    pub async fn now(&self) -> u64 {
        self.store.now().await.expect("the store answers")
    }

    pub async fn life(&self, id: &SessionId) -> (Life, Epoch) {
        let record = self.snapshot(id).await.slot.record.expect("a record");
        (record.life().clone(), record.epoch())
    }

    /// Waits until what the store says holds, as an index may lag for a moment.
    pub async fn soon<T, F>(&self, what: &str, mut look: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        for _ in 0..200 {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within two seconds: {what}");
    }
}

/// Connects another replica of the function at a node.
pub async fn connect(server: &RedisServer, node: &NodeName, window: WindowLimits) -> RedisStore {
    RedisStore::connect(&server.url(), RedisOptions::default(), scope(node, window))
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// One move between two stores, held at any of its steps.
#[derive(Debug, Clone)]
pub struct Move {
    pub id: SessionId,
    pub pull: Pull,
    pub transfer: Transfer,
}

impl Move {
    /// Opens the pull at the target and the intent at the source.
    pub async fn agree(source: &Bench, target: &Bench, id: &SessionId) -> Self {
        let this = Self::plan(source, target, id).await;
        assert_eq!(target.step(id, &Event::OpenPull(this.pull.clone())).await, Ok(Reply::Changed));
        assert_eq!(source.step(id, &this.agreed()).await, Ok(Reply::Changed));
        this
    }

    /// Names the move without beginning it.
    pub async fn plan(source: &Bench, target: &Bench, id: &SessionId) -> Self {
        let (life, epoch) = source.life(id).await;
        let nonce = Nonce(rand::random());
        let next_epoch = epoch + 1;
        let pull = Pull { life, next_epoch, from: source.node.clone(), nonce };
        let transfer = Transfer { to: target.node.clone(), next_epoch, nonce };
        Self { id: id.clone(), pull, transfer }
    }

    pub fn agreed(&self) -> Event {
        Event::Agree { life: self.pull.life.clone(), transfer: self.transfer.clone() }
    }

    pub async fn freeze(&self, source: &Bench) {
        let wait_until = source.now().await + 5000;
        let event = Event::Freeze { nonce: self.pull.nonce, wait_until };
        assert_eq!(source.step(&self.id, &event).await, Ok(Reply::Changed));
    }

    /// A page of the session, which is being served.
    pub async fn copied(&self, source: &Bench, cursor: Option<&str>) -> Result<Page, Refusal> {
        source.store.copy(&self.id, self.pull.nonce, cursor).await.expect("the store answers")
    }

    /// A page of the session, which is frozen.
    pub async fn exported(&self, source: &Bench, cursor: Option<&str>) -> Result<Page, Refusal> {
        source.store.export(&self.id, self.pull.nonce, cursor).await.expect("the store answers")
    }

    pub async fn stage(&self, target: &Bench, page: &Page) -> Staged {
        let wire = Page::decode(&page.encode_small()).expect("the page reads");
        assert_eq!(&wire, page);
        target.store.stage(&self.id, self.pull.nonce, page).await.expect("the store answers")
    }

    /// Copies until nothing has changed since; says where that is.
    pub async fn copy(&self, source: &Bench, target: &Bench) -> (String, usize) {
        let mut cursor: Option<String> = None;
        for pages in 1.. {
            let page = self.copied(source, cursor.as_deref()).await.expect("it is being copied");
            assert_eq!(page.first, cursor.is_none());
            assert_eq!(self.stage(target, &page).await, Staged::More);
            cursor = page.next;
            let copied = page.copied.expect("how far it is");
            if copied.walked && copied.at == copied.changes {
                return (cursor.expect("a copy has no end"), pages);
            }
        }
        unreachable!("it was copied")
    }

    /// Carries all pages over the wire's form, each `times` times.
    pub async fn carry(&self, source: &Bench, target: &Bench, times: usize) -> (Totals, usize) {
        self.carry_since(source, target, times, None).await
    }

    /// Carries what is left after a copy.
    pub async fn carry_since(
        &self,
        source: &Bench,
        target: &Bench,
        times: usize,
        since: Option<String>,
    ) -> (Totals, usize) {
        let nonce = self.pull.nonce;
        let mut cursor = since;
        let mut pages = 0;
        loop {
            let page = source.store.export(&self.id, nonce, cursor.as_deref()).await;
            let page = page.expect("the store answers").expect("the session is frozen");
            let wire = page.encode();
            let single = page.fields.len() + page.window.len() + page.outbox.len() <= 1;
            assert!(
                wire.len() <= funicular::session::packet::PAGE_BYTES + 256 * 1024 || single,
                "a page of {} bytes",
                wire.len()
            );
            let page = Page::decode(&wire).expect("the page reads");
            pages += 1;
            for _ in 0..times {
                let staged = target.store.stage(&self.id, nonce, &page).await;
                let expected = if page.totals.is_some() { Staged::Complete } else { Staged::More };
                assert_eq!(staged.expect("the store answers"), expected);
            }
            match (page.totals, page.next) {
                (Some(totals), _) => return (totals, pages),
                (None, next) => cursor = Some(next.expect("a place to go on")),
            }
        }
    }

    pub async fn install(&self, target: &Bench) -> Result<Reply, Refusal> {
        target.step(&self.id, &Event::Install { pull: self.pull.clone() }).await
    }

    pub fn done(&self) -> Event {
        let Pull { life, next_epoch, .. } = self.pull.clone();
        Event::Done { life, epoch: next_epoch, to: self.transfer.to.clone() }
    }

    pub async fn settle(&self, source: &Bench, target: &Bench) {
        assert_eq!(source.step(&self.id, &self.done()).await, Ok(Reply::Changed));
        let settled = Event::Settled { epoch: self.pull.next_epoch };
        assert_eq!(target.step(&self.id, &settled).await, Ok(Reply::Changed));
    }

    /// The whole move.
    pub async fn whole(source: &Bench, target: &Bench, id: &SessionId) -> Self {
        let this = Self::agree(source, target, id).await;
        this.freeze(source).await;
        this.carry(source, target, 1).await;
        assert_eq!(this.install(target).await, Ok(Reply::Changed));
        this.settle(source, target).await;
        this
    }
}
