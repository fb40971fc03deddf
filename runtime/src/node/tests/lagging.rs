//! A memory store whose index may lag, as that of Redis may, and that may take its time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::protocol::{Event, Refusal, Reply};
use crate::session::fields::FieldMap;
use crate::session::{
    LeaseId, Millis, NodeName, Nonce, OutboxEntry, Page, RequestId, SessionId, Slot, WindowEntry,
};
use crate::store::memory::MemoryStore;
use crate::store::{
    BeginRequest, Begun, Commit, Committed, Counts, Durability, Promise, Read, ReadGuard, Resident,
    Session, SessionStore, Snapshot, Staged, StoreError, StoreResult, StoreScope, Walked,
};

/// A memory store; while its index lags it lists no session, and while it is silent nobody learns
/// what is in it. A page of a copy takes so many milliseconds.
#[derive(Debug)]
pub(super) struct Lagging {
    memory: MemoryStore,
    lags: AtomicBool,
    silent: AtomicBool,
    copy_takes: AtomicU64,
    held: Mutex<Option<oneshot::Receiver<()>>>,
    restarted: AtomicBool,
    looks: AtomicUsize,
    recoveries: AtomicUsize,
}

impl Lagging {
    pub(super) fn new(scope: StoreScope) -> Self {
        Self {
            memory: MemoryStore::new(scope),
            lags: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            copy_takes: AtomicU64::new(0),
            held: Mutex::default(),
            restarted: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
            recoveries: AtomicUsize::new(0),
        }
    }

    /// The next request waits in front of the store until what is returned is dropped.
    pub(super) fn holds(&self) -> oneshot::Sender<()> {
        let (holding, held) = oneshot::channel();
        *self.held.lock() = Some(held);
        holding
    }

    /// The index lags from now on, until it is mended.
    pub(super) fn lags(&self) {
        self.lags.store(true, Ordering::Relaxed);
    }

    /// Whether it was restarted, for whoever looks at a session.
    pub(super) fn restarted(&self, restarted: bool) {
        self.restarted.store(restarted, Ordering::Relaxed);
    }

    /// How often somebody looked at a session.
    pub(super) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// How often somebody recovered it.
    pub(super) fn recoveries(&self) -> usize {
        self.recoveries.load(Ordering::Relaxed)
    }

    /// From now on it answers no question about how many sessions there are, or what time it is.
    pub(super) fn falls_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    fn answers(&self) -> StoreResult<()> {
        match self.silent.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("it is silent".to_owned())),
            false => Ok(()),
        }
    }

    /// A page of a copy takes so many milliseconds from now on.
    pub(super) fn copies_slowly(&self, milliseconds: u64) {
        self.copy_takes.store(milliseconds, Ordering::Relaxed);
    }
}

/// The store with the methods given, and all others the memory store's.
macro_rules! store {
    (
        { $($own:item)* }
        $(fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*
    ) => {
        #[async_trait]
        impl SessionStore for Lagging {
            $($own)*
            $(
                async fn $name(&self, $($arg: $type),*) -> StoreResult<$out> {
                    self.memory.$name($($arg),*).await
                }
            )*
        }
    };
}

store! {
    {
        async fn begin(
            &self,
            session: &SessionId,
            request: &BeginRequest,
        ) -> StoreResult<Begun> {
            let held = self.held.lock().take();
            if let Some(held) = held {
                let _ = held.await;
            }
            self.memory.begin(session, request).await
        }

        async fn snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            match self.restarted.load(Ordering::Relaxed) {
                true => Err(StoreError::Restarted),
                false => self.memory.snapshot(session).await,
            }
        }

        async fn recover_restart(&self) -> StoreResult<()> {
            self.recoveries.fetch_add(1, Ordering::Relaxed);
            self.memory.recover_restart().await
        }

        async fn residents(
            &self,
            homes: Option<&[NodeName]>,
            limit: usize,
        ) -> StoreResult<Vec<Resident>> {
            match self.lags.load(Ordering::Relaxed) {
                true => Ok(Vec::new()),
                false => self.memory.residents(homes, limit).await,
            }
        }

        async fn counts(&self) -> StoreResult<Counts> {
            self.answers()?;
            let counts = self.memory.counts().await?;
            let lags = self.lags.load(Ordering::Relaxed);
            Ok(Counts { resident: if lags { 0 } else { counts.resident }, ..counts })
        }

        async fn now(&self) -> StoreResult<Millis> {
            self.answers()?;
            self.memory.now().await
        }

        async fn mend_index(&self, cursor: Option<String>) -> StoreResult<Option<String>> {
            self.lags.store(false, Ordering::Relaxed);
            self.memory.mend_index(cursor).await
        }

        async fn copy(
            &self,
            session: &SessionId,
            nonce: Nonce,
            cursor: Option<&str>,
        ) -> StoreResult<Result<Page, Refusal>> {
            let takes = self.copy_takes.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(takes)).await;
            self.memory.copy(session, nonce, cursor).await
        }

        fn promise(&self) -> Promise {
            self.memory.promise()
        }

        fn recall(&self, session: &SessionId) -> Option<Session> {
            self.memory.recall(session)
        }
    }
    fn is_current(session: &SessionId, recalled: &Session) -> bool;
    fn commit_at_once(
        session: &SessionId,
        recalled: &Session,
        commit: &Commit
    ) -> Option<Committed>;
    fn commit(session: &SessionId, commit: &Commit) -> Committed;
    fn release(session: &SessionId, lease: LeaseId) -> ();
    fn renew(session: &SessionId, lease: LeaseId, ttl: Duration) -> bool;
    fn remembered(session: &SessionId, request: &RequestId) -> Option<WindowEntry>;
    fn read(session: &SessionId, guard: &ReadGuard, read: &Read) -> Option<FieldMap>;
    fn step(session: &SessionId, event: &Event, durability: Durability) -> Result<Reply, Refusal>;
    fn export(session: &SessionId, nonce: Nonce, cursor: Option<&str>) -> Result<Page, Refusal>;
    fn stage(session: &SessionId, nonce: Nonce, page: &Page) -> Staged;
    fn dump(session: &SessionId) -> Option<FieldMap>;
    fn outbox(session: &SessionId, limit: usize) -> Vec<OutboxEntry>;
    fn delivered(session: &SessionId, entry: &str) -> ();
    fn pending(limit: usize) -> Vec<SessionId>;
    fn old_pointers(before: Millis, limit: usize) -> Vec<SessionId>;
    fn slots(sessions: &[SessionId]) -> Vec<Slot>;
    fn walk(cursor: Option<String>) -> Walked;
    fn on_disk() -> ();
    fn close() -> ();
    fn inside() -> Arc<dyn SessionStore>;
    fn setting(name: &str) -> Option<String>;
    fn set_setting(name: &str, value: Option<&str>) -> Option<String>;
    fn settings(prefix: &str) -> BTreeMap<String, String>;
}
