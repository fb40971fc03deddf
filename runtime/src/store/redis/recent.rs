//! What this process has seen lately, so that the store need not say it again.
//!
//! Nothing in here is believed: what rests on it is sent along, and the store says
//! in the same round trip whether it still holds (ADR 0013).

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::mem::take;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::watched::Watch;
use crate::session::fields::{self, FieldMap};
use crate::session::{LeaseId, SessionId};
use crate::store::{Commit, Session};

const SHARDS: usize = 16;

/// Sessions with something known of each: the latest used, up to a total weight.
#[derive(Debug)]
pub(super) struct Recent<T> {
    hasher: RandomState,
    shards: Vec<Mutex<Shard<T>>>,
    /// Half of what a shard may hold.
    half: usize,
}

/// Two generations: what is used moves to the young one; when that is full, it
/// becomes the old one, and the old one goes.
#[derive(Debug)]
struct Shard<T> {
    young: HashMap<SessionId, (T, usize)>,
    old: HashMap<SessionId, (T, usize)>,
    weight: usize,
}

impl<T: Clone> Recent<T> {
    /// At most `most` in weight, about.
    pub(super) fn new(most: usize) -> Self {
        let shard = || Shard { young: HashMap::new(), old: HashMap::new(), weight: 0 };
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            half: most / SHARDS / 2,
        }
    }

    fn shard(&self, session: &SessionId) -> &Mutex<Shard<T>> {
        let hash = usize::try_from(self.hasher.hash_one(session) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }

    pub(super) fn get(&self, session: &SessionId) -> Option<T> {
        let mut shard = self.shard(session).lock();
        if let Some((found, _)) = shard.young.get(session) {
            return Some(found.clone());
        }
        let (session, (found, weight)) = shard.old.remove_entry(session)?;
        let answer = found.clone();
        shard.insert(session, found, weight, self.half);
        Some(answer)
    }

    /// The same without counting as a use.
    pub(super) fn peek(&self, session: &SessionId) -> Option<T> {
        let shard = self.shard(session).lock();
        let (found, _) = shard.young.get(session).or_else(|| shard.old.get(session))?;
        Some(found.clone())
    }

    pub(super) fn put(&self, session: &SessionId, what: T, weight: usize) {
        let mut shard = self.shard(session).lock();
        shard.old.remove(session);
        shard.insert(session.clone(), what, weight, self.half);
    }

    pub(super) fn forget(&self, session: &SessionId) {
        let mut shard = self.shard(session).lock();
        shard.old.remove(session);
        if let Some((_, weight)) = shard.young.remove(session) {
            shard.weight -= weight;
        }
    }
}

impl<T> Shard<T> {
    fn insert(&mut self, session: SessionId, what: T, weight: usize, half: usize) {
        if let Some((_, before)) = self.young.insert(session, (what, weight)) {
            self.weight -= before;
        }
        self.weight += weight;
        if self.weight > half {
            self.old = take(&mut self.young);
            self.weight = 0;
        }
    }
}

/// A session in one state, with its data.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) session: Session,
    /// When the store was last told of a use.
    pub(super) touched: Instant,
    /// Who took the lease in this very state, if that is how it was seen: what a commit
    /// under it leaves is known. Another look may be older than the lease.
    pub(super) lease: Option<LeaseId>,
    /// Whether the store says when it changes.
    pub(super) watch: Watch,
}

/// A session with more fields is asked for each time: to copy it costs as much.
const MOST_FIELDS: usize = 64;
/// The same for one with more bytes.
const MOST_BYTES: u64 = 256 * 1024;

impl Seen {
    pub(super) fn new(session: Session, touched: Instant, lease: Option<LeaseId>) -> Self {
        Self { session, touched, lease, watch: Watch::default() }
    }

    pub(super) fn is_small(&self) -> bool {
        let few = self.session.data.as_ref().is_some_and(|data| data.len() <= MOST_FIELDS);
        few && self.session.bytes <= MOST_BYTES
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        let fields = self.session.data.as_ref().map_or(0, |data| data.len());
        usize::try_from(self.session.bytes).unwrap_or(usize::MAX / 2) + fields * 64 + 512
    }
}

/// What a commit in this state leaves, and the fields that it touches; `None` if the
/// data is not known.
pub(super) fn after(before: &Session, commit: &Commit) -> Option<(Session, BTreeSet<String>)> {
    let mut data = FieldMap::clone(before.data.as_ref()?);
    let done = fields::apply(&mut data, &commit.data);
    for field in &done.touched {
        if let Some(content) = data.get_mut(field) {
            // It may be a slice of a whole request's buffer, which would stay.
            *content = Bytes::copy_from_slice(content);
        }
    }
    let after = Session {
        life: before.life.clone(),
        epoch: before.epoch,
        version: before.version + u64::from(!commit.data.is_empty()),
        bytes: (before.bytes + done.added).saturating_sub(done.removed),
        data: Some(Arc::new(data)),
        last: Some(commit.lease),
        created: false,
    };
    Some((after, done.touched))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Change, Incarnation, Life, NodeName};

    fn id(number: usize) -> SessionId {
        SessionId::new(format!("s{number}")).unwrap()
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let recent = Recent::new(SHARDS * 20);
        recent.put(&id(0), 0, 1);
        for number in 1..10_000 {
            recent.put(&id(number), number, 1);
            assert_eq!(recent.get(&id(0)), Some(0));
        }
        let held: usize =
            recent.shards.iter().map(|s| s.lock()).map(|s| s.young.len() + s.old.len()).sum();
        assert!(held <= SHARDS * 22, "{held}");
        assert_eq!(recent.get(&id(1)), None);
        recent.forget(&id(0));
        assert_eq!(recent.get(&id(0)), None);
    }

    #[test]
    fn weights_add_up() {
        let recent = Recent::new(SHARDS * 200);
        for turn in 0..1000 {
            recent.put(&id(turn % 3), turn, turn % 40);
            if turn % 7 == 0 {
                recent.forget(&id(turn % 3));
            }
        }
        for shard in &recent.shards {
            let shard = shard.lock();
            let weights = shard.young.values().map(|(_, weight)| *weight);
            assert_eq!(shard.weight, weights.sum::<usize>());
        }
    }

    #[test]
    fn no_request_stays_in_memory_because_of_what_it_set() {
        let before = Session {
            life: Life { home: NodeName::new("edge").unwrap(), incarnation: Incarnation(1) },
            epoch: 1,
            version: 1,
            bytes: 0,
            data: Some(Arc::default()),
            last: None,
            created: false,
        };
        let body = Bytes::from(vec![7; 1024 * 1024]);
        let commit = Commit {
            lease: LeaseId(1),
            life: before.life.clone(),
            epoch: 1,
            data: vec![Change::Set { key: "k".into(), value: body.slice(..10) }],
            outbox: Vec::new(),
            remember: None,
            max_bytes: u64::MAX,
        };
        let (after, _) = after(&before, &commit).unwrap();
        drop(commit);
        assert_eq!(after.data.unwrap()["sk"], body.slice(..10));
        assert!(body.is_unique(), "nothing else holds the request's buffer");
    }
}
