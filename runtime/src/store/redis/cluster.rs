//! A Redis Cluster: which master has which slot, and how a command gets there.
//!
//! A command goes to the master that has its slot. Where slots have moved, masters
//! say so (`MOVED`, `ASK`, `TRYAGAIN`, `CLUSTERDOWN`) *instead of* running the
//! command, so following them never runs one twice. A connection that breaks says
//! nothing of that kind, and the command is not sent again: the caller has to ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::address::{Address, Reach};
use super::keys::Keys;
use super::link::{Link, counted, failure, in_time};
use super::options::{ConnectError, RedisOptions};
use super::scripts::Scripts;
use super::shard::{Shard, Witness};
use super::slots::{Map, slots};
use super::sync::Run;
use crate::store::{Promise, StoreError, StoreResult};

/// So many redirections are followed at once; then each waits for [`PAUSE`].
const HOPS: usize = 3;
/// Between two looks at something that is on the move.
const PAUSE: Duration = Duration::from_millis(10);
/// The cluster is not asked more often than this where its slots are.
const LOOKS: Duration = Duration::from_millis(100);

/// The masters of one store.
#[derive(Debug)]
pub(super) struct Cluster {
    this: Weak<Self>,
    reach: Reach,
    options: RedisOptions,
    keys: Keys,
    scripts: Arc<Scripts>,
    map: RwLock<Arc<Map>>,
    /// All that were ever named, so that each is opened once.
    known: Mutex<BTreeMap<Address, Arc<Member>>>,
    looking: tokio::sync::Mutex<Option<Instant>>,
}

/// One master, opened when it is first needed.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: Address,
    opened: OnceCell<Arc<Shard>>,
}

/// What became of a command.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) value: Value,
    pub(super) witness: Option<Witness>,
}

/// What a master says instead of running a command.
#[derive(Debug)]
enum Redirect {
    Moved(Address),
    Ask(Address),
    Later,
}

impl Redirect {
    fn read(error: &RedisError, asked: &Address) -> Option<Self> {
        let to = || Address::read(error.redirect_node()?.0, asked);
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => to().map(Self::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => to().map(Self::Ask),
            ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Self::Later),
            _ => None,
        }
    }
}

impl Cluster {
    /// Asks the cluster for its slots and opens every master that can be reached.
    pub(super) async fn open(
        reach: Reach,
        options: &RedisOptions,
        keys: Keys,
        scripts: Arc<Scripts>,
    ) -> Result<Arc<Self>, ConnectError> {
        let cluster = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            reach,
            options: options.clone(),
            keys,
            scripts,
            map: RwLock::default(),
            known: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        });
        cluster.look(true).await?;
        let without = cluster.map.read().without_master();
        if without > 0 {
            return Err(ConnectError::Uncovered(without));
        }
        let masters = cluster.masters();
        let opening = masters.iter().map(|master| cluster.open_member(master));
        let mut reached = 0;
        let mut away = None;
        for (master, opened) in masters.iter().zip(futures_util::future::join_all(opening).await) {
            match opened {
                Ok(_) => reached += 1,
                Err(error @ ConnectError::Unreachable(_)) => {
                    tracing::warn!(%master.address, %error, "a master of the cluster is away");
                    away = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match away {
            Some(error) if reached == 0 => Err(error),
            _ => Ok(cluster),
        }
    }

    /// Every master that has slots, in the order of their addresses.
    pub(super) fn masters(&self) -> Vec<Arc<Member>> {
        let map = Arc::clone(&self.map.read());
        let mut masters: Vec<_> = map.masters().cloned().collect();
        masters.sort_by(|a, b| a.address.cmp(&b.address));
        masters
    }

    /// Others that commands were led to: such as are about to take over their first
    /// slots.
    pub(super) fn newcomers(&self) -> Vec<Arc<Member>> {
        let masters = self.masters();
        let known = self.known.lock();
        let opened = known.values().filter(|member| member.opened.initialized());
        opened.filter(|one| !masters.iter().any(|m| m.address == one.address)).cloned().collect()
    }

    /// Those that have been reached since this process began.
    pub(super) fn opened(&self) -> Vec<Arc<Shard>> {
        self.masters().iter().filter_map(|master| master.opened.get().cloned()).collect()
    }

    /// The weakest of what they promise.
    pub(super) fn promise(&self) -> Promise {
        let strength = |promise: &Promise| match promise {
            Promise::None => 0,
            Promise::Everysec => 1,
            Promise::WaitAof => 2,
            Promise::Always | Promise::Process => 3,
        };
        let all = self.opened();
        all.iter().map(|shard| shard.promise()).min_by_key(strength).unwrap_or(Promise::None)
    }

    /// Whether any of them has to be waited for.
    pub(super) fn waits(&self) -> bool {
        self.opened().iter().any(|shard| shard.promise() == Promise::WaitAof)
    }

    /// Whether this master has a slot, as far as is known here.
    pub(super) fn has(&self, member: &Arc<Member>, slot: u16) -> bool {
        self.map.read().owner(slot).is_some_and(|owner| Arc::ptr_eq(owner, member))
    }

    fn member(&self, address: &Address) -> Arc<Member> {
        let mut known = self.known.lock();
        let member = known.entry(address.clone()).or_insert_with(|| {
            Arc::new(Member { address: address.clone(), opened: OnceCell::new() })
        });
        Arc::clone(member)
    }

    fn owner(&self, slot: u16) -> StoreResult<Arc<Member>> {
        self.map.read().owner(slot).cloned().ok_or_else(|| {
            StoreError::Unavailable(format!("no master of the cluster has slot {slot}"))
        })
    }

    /// The master itself, connected to once for all who want it. That goes on though
    /// whoever asked for it has stopped waiting: finding out whether a server keeps
    /// its word may take longer than a call.
    pub(super) async fn open_member(
        &self,
        member: &Arc<Member>,
    ) -> Result<Arc<Shard>, ConnectError> {
        if let Some(shard) = member.opened.get() {
            return Ok(Arc::clone(shard));
        }
        let gone = || ConnectError::Unreachable("the process ends".to_owned());
        let cluster = self.this.upgrade().ok_or_else(gone)?;
        let member = Arc::clone(member);
        let opening = tokio::spawn(async move {
            let open = member.opened.get_or_try_init(|| cluster.open_shard(&member.address));
            open.await.cloned()
        });
        opening.await.map_err(|_| gone())?
    }

    async fn open_shard(&self, address: &Address) -> Result<Arc<Shard>, ConnectError> {
        let key = || self.map.read().sync_key(address).map(str::to_owned);
        if key().is_none() {
            // It is new here, and may have no slots yet.
            self.look(true).await?;
        }
        let key = key();
        let to = self.reach.to(address);
        let scripts = Arc::clone(&self.scripts);
        let shard = Shard::open(to, &self.options, scripts, key, true).await?;
        let judged = &shard.judged;
        tracing::info!(%address, server = %judged.name, promise = ?judged.promise, "a master");
        if judged.all_or_nothing {
            tracing::warn!(
                %address,
                "when one master fails, this cluster stops serving what the others have: set \
                 `cluster-require-full-coverage no`"
            );
        }
        Ok(Arc::new(shard))
    }

    async fn shard(&self, member: &Arc<Member>) -> StoreResult<Arc<Shard>> {
        self.open_member(member).await.map_err(|error| {
            self.look_soon();
            StoreError::Unavailable(error.to_string())
        })
    }

    /// Runs one command where its slot is, wherever that moves meanwhile; with
    /// `run`, says who it was.
    pub(super) async fn follow(&self, slot: u16, cmd: &Cmd, run: bool) -> StoreResult<Answer> {
        self.in_time(self.follow_on(slot, cmd, run)).await
    }

    async fn follow_on(&self, slot: u16, cmd: &Cmd, run: bool) -> StoreResult<Answer> {
        let mut asked: Option<Address> = None;
        for hop in 0.. {
            if hop > HOPS {
                tokio::time::sleep(PAUSE).await;
            }
            let asking = asked.is_some();
            let member = match asked.take() {
                Some(address) => self.member(&address),
                None => self.owner(slot)?,
            };
            let shard = self.shard(&member).await?;
            match shard.send(cmd, asking, run).await {
                Ok((value, about)) => {
                    let run = about.map(Run::read).transpose()?;
                    let witness = run.map(|run| Witness { shard, run });
                    return Ok(Answer { value, witness });
                }
                Err(error) => match Redirect::read(&error, &member.address) {
                    Some(Redirect::Moved(to)) => self.moved(slot, &to),
                    Some(Redirect::Ask(to)) => asked = Some(to),
                    Some(Redirect::Later) => tokio::time::sleep(PAUSE).await,
                    None => return Err(self.failed(&error)),
                },
            }
        }
        Err(StoreError::Unavailable("the slot is on the move".to_owned()))
    }

    /// Several commands, each with its slot, in one round trip a master; each has its
    /// own outcome.
    pub(super) async fn spread(&self, cmds: &[(u16, Cmd)]) -> Vec<StoreResult<Value>> {
        let mut groups: BTreeMap<Address, (Arc<Member>, Vec<usize>)> = BTreeMap::new();
        let mut found: Vec<StoreResult<Value>> = Vec::with_capacity(cmds.len());
        for (place, (slot, _)) in cmds.iter().enumerate() {
            found.push(Ok(Value::Nil));
            match self.owner(*slot) {
                Ok(member) => {
                    let group = groups.entry(member.address.clone());
                    group.or_insert_with(|| (member, Vec::new())).1.push(place);
                }
                Err(error) => found[place] = Err(error),
            }
        }
        let asking = groups.values().map(|(member, places)| self.spread_to(member, places, cmds));
        for (place, answer) in futures_util::future::join_all(asking).await.into_iter().flatten() {
            found[place] = answer;
        }
        found
    }

    async fn spread_to(
        &self,
        member: &Arc<Member>,
        places: &[usize],
        cmds: &[(u16, Cmd)],
    ) -> Vec<(usize, StoreResult<Value>)> {
        let mut pipe = Pipeline::with_capacity(places.len());
        for place in places {
            pipe.add_command(cmds[*place].1.clone());
        }
        let sent = async {
            let shard = self.shard(member).await?;
            shard.link.send_all(&pipe).await.map_err(|error| self.failed(&error))
        };
        let answers = match self.in_time(sent).await {
            Ok(answers) => answers,
            Err(error) => return places.iter().map(|at| (*at, Err(error.clone()))).collect(),
        };
        let mut found = Vec::with_capacity(places.len());
        let mut failed = None;
        for (place, answer) in places.iter().zip(answers) {
            let outcome = match answer.extract_error() {
                // It was not run there.
                Err(error) if Redirect::read(&error, &member.address).is_some() => {
                    let (slot, cmd) = &cmds[*place];
                    self.follow(*slot, cmd, false).await.map(|answer| answer.value)
                }
                answer => answer.map_err(|error| {
                    let error = self.failed(&error);
                    failed.get_or_insert_with(|| error.clone());
                    error
                }),
            };
            found.push((*place, outcome));
        }
        // Once a round trip; of those that were run elsewhere is counted there.
        if let Some(error) = failed {
            self.options.meter.failed(&error);
        }
        found
    }

    async fn in_time<T>(&self, work: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let work =
            async { in_time(self.options.response_timeout, async { Ok(work.await) }).await? };
        counted(&self.options.meter, work).await
    }

    /// Judges an error, and finds out whether another master is in charge by now.
    fn failed(&self, error: &RedisError) -> StoreError {
        let failure = failure(error);
        if matches!(failure, StoreError::Unavailable(_)) {
            self.look_soon();
        }
        failure
    }

    fn moved(&self, slot: u16, to: &Address) {
        let member = self.member(to);
        let mut map = self.map.write();
        if map.owner(slot).is_none_or(|owner| owner.address != *to) {
            *map = Arc::new(map.with(slot, &member));
        }
        drop(map);
        self.look_soon();
    }

    fn look_soon(&self) {
        let Some(cluster) = self.this.upgrade() else { return };
        tokio::spawn(async move {
            if let Err(error) = cluster.look(false).await {
                tracing::debug!(%error, "the cluster does not say where its slots are");
            }
        });
    }

    /// Brings the map up to date; unless `now` not more often than [`LOOKS`] allows.
    pub(super) async fn look(&self, now: bool) -> Result<(), ConnectError> {
        let mut last = match now {
            true => self.looking.lock().await,
            // Somebody is at it.
            false => match self.looking.try_lock() {
                Ok(last) => last,
                Err(_) => return Ok(()),
            },
        };
        if let Some(last) = *last
            && !now
        {
            tokio::time::sleep_until(last + LOOKS).await;
        }
        *last = Some(Instant::now());
        let mut failed = None;
        for address in self.who_may_know() {
            match self.ask_slots(&address).await {
                Ok(owned) => {
                    self.learn(&owned);
                    return Ok(());
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(ConnectError::Unreachable("no server is named".to_owned())))
    }

    fn who_may_know(&self) -> Vec<Address> {
        let mut all: Vec<_> = self.masters().iter().map(|one| one.address.clone()).collect();
        all.extend(self.reach.seeds.iter().cloned());
        let mut known = Vec::new();
        for address in all {
            if !known.contains(&address) {
                known.push(address);
            }
        }
        known
    }

    async fn ask_slots(&self, address: &Address) -> Result<Vec<(u16, u16, Address)>, ConnectError> {
        let unreachable =
            |error: &dyn std::fmt::Display| ConnectError::Unreachable(error.to_string());
        let opened = self.known.lock().get(address).and_then(|member| member.opened.get().cloned());
        let link = match opened {
            Some(shard) => shard.link.clone(),
            None => {
                let client = redis::Client::open(self.reach.to(address));
                let client = client.map_err(|error| unreachable(&error))?;
                Link::open(client, &self.options).await.map_err(|error| unreachable(&error))?
            }
        };
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let asking = tokio::time::timeout(self.options.connect_timeout, link.send(&cmd));
        let answer = asking.await.map_err(|_| unreachable(&"no answer"))?;
        match answer {
            Ok(answer) => slots(answer, address).map_err(|error| unreachable(&error)),
            Err(error) if error.detail().is_some_and(|why| why.contains("cluster support")) => {
                Err(ConnectError::NotCluster)
            }
            Err(error) => Err(unreachable(&error)),
        }
    }

    fn learn(&self, owned: &[(u16, u16, Address)]) {
        let map = Map::new(owned, |address| self.member(address), &self.keys);
        for master in map.masters() {
            if let (Some(shard), Some(key)) = (master.opened.get(), map.sync_key(&master.address)) {
                shard.set_sync_key(key);
            }
        }
        *self.map.write() = Arc::new(map);
    }
}
