//! A private Redis Cluster for a test: real masters on the loopback, no replicas.
//!
//! A master serves two seconds after it was started at the earliest (Redis wants to
//! hear of the others first), so tests share one where they can.

use std::time::{Duration, Instant};

use redis::Value;

use crate::redis::{RedisServer, Setup};

/// How long the masters may take to agree.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// The masters of a cluster, each with as many slots.
#[derive(Debug)]
pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three masters and waits until all of them serve.
    pub async fn start(setup: Setup) -> Self {
        Self::of(3, setup).await
    }

    /// The same with another number of them.
    pub async fn of(count: u16, setup: Setup) -> Self {
        let setup = Setup { tcp: true, clustered: true, ..setup };
        let masters: Vec<_> = (0..count).map(|_| RedisServer::start(setup.clone())).collect();
        let share = SLOTS.div_ceil(count);
        for (place, master) in (0_u16..).zip(&masters) {
            let (first, end) = (place * share, SLOTS.min((place + 1) * share));
            let (first, last) = (first.to_string(), (end - 1).to_string());
            master.cli(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            master.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]);
        }
        let mut cluster = Self { masters };
        for master in &cluster.masters[1..] {
            cluster.meet(master);
        }
        cluster.serves().await;
        for place in 0..cluster.masters.len() {
            let key = cluster.session_of("sync", place, "sample");
            cluster.masters[place].watch_disk(&format!("{{sync/{key}}}"));
        }
        cluster
    }

    fn meet(&self, other: &RedisServer) {
        let (port, bus) = (other.port().to_string(), other.bus_port().to_string());
        self.masters[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }

    /// Adds a master that has no slots yet.
    pub async fn join(&mut self, setup: Setup) -> usize {
        let newcomer = RedisServer::start(Setup { tcp: true, clustered: true, ..setup });
        self.meet(&newcomer);
        self.masters.push(newcomer);
        self.serves().await;
        self.masters.len() - 1
    }

    /// Waits until every master knows all the others and serves.
    pub async fn serves(&self) {
        let began = Instant::now();
        let count = self.masters.len();
        loop {
            let well = |master: &RedisServer| {
                let text: String =
                    redis::from_redis_value(master.cli(&["CLUSTER", "INFO"])).ok()?;
                let said = |line: String| text.lines().any(|found| found == line).then_some(());
                said("cluster_state:ok".to_owned())?;
                said(format!("cluster_known_nodes:{count}"))?;
                said(format!("cluster_slots_ok:{SLOTS}"))
            };
            if self.masters.iter().all(|master| well(master).is_some()) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the masters do not agree");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where to connect to: the URL names some of them only.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.masters.iter().take(2).map(|m| format!("127.0.0.1:{}", m.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        let slot = self.masters[0].number(&["CLUSTER", "KEYSLOT", key]);
        u16::try_from(slot).expect("a slot")
    }

    /// Which master has a key.
    pub fn owner(&self, key: &str) -> usize {
        self.owner_of(self.slot(key))
    }

    fn owner_of(&self, slot: u16) -> usize {
        let answer = self.masters.iter().find_map(|m| m.try_cli(&["CLUSTER", "SLOTS"]).ok());
        let Some(Value::Array(ranges)) = answer else { panic!("no master says its slots") };
        for range in ranges {
            let Value::Array(range) = range else { continue };
            if let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..]
                && (*first..=*last).contains(&i64::from(slot))
                && let Value::Int(port) = master[1]
            {
                let has = |m: &RedisServer| i64::from(m.port()) == port;
                return self.masters.iter().position(has).expect("a master of ours");
            }
        }
        panic!("nobody has slot {slot}");
    }

    /// Runs a command at the master that has the key, as `redis-cli -c` would.
    pub fn cli(&self, key: &str, words: &[&str]) -> Value {
        self.masters[self.owner(key)].cli(words)
    }

    /// An id of a session of `cart` whose keys the master has.
    pub fn session_at(&self, master: usize, name: &str) -> String {
        self.session_of("cart", master, name)
    }

    /// The same for any function.
    pub fn session_of(&self, function: &str, master: usize, name: &str) -> String {
        (0..1_000_000_u32)
            .map(|number| format!("{name}-{number}"))
            .find(|id| self.owner(&format!("{{{function}/{id}}}")) == master)
            .expect("one of so many")
    }

    /// Begins to bring a slot from one master to another: both know of it, and no key
    /// has gone yet.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, from_id, to_id) = (slot.to_string(), self.id(from), self.id(to));
        self.masters[to].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        self.masters[from].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    }

    /// Brings some keys of a slot over; says how many.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize, most: u32) -> usize {
        let asked = ["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &most.to_string()];
        let keys: Vec<String> =
            redis::from_redis_value(self.masters[from].cli(&asked)).expect("keys");
        let port = self.masters[to].port().to_string();
        for key in &keys {
            self.masters[from].cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        keys.len()
    }

    /// Ends the move of a slot whose keys have all gone.
    pub fn end_move(&self, slot: u16, to: usize) {
        let (slot, to_id) = (slot.to_string(), self.id(to));
        self.masters[to].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        for master in &self.masters {
            master.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }

    fn id(&self, master: usize) -> String {
        redis::from_redis_value(self.masters[master].cli(&["CLUSTER", "MYID"])).expect("an id")
    }
}
