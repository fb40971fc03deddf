//! A tree of real processes: one a node, each with a Redis of its own or in memory.
//!
//! ```no_run
//! # async fn test() {
//! use funicular_tests::tree::{Tree, Store};
//! let tree = Tree::italy(Store::Redis("always")).function("probe").start().await;
//! let place = tree.gateway("navigli");
//! # }
//! ```
//!
//! Everything a tree starts ends when it is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use funicular::peers::WireVersion;
use tempfile::TempDir;

use crate::cluster::RedisCluster;
use crate::link::Link;
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::ports::Port;
use crate::process;
use crate::reach::Reach;
use crate::redis::{RedisServer, Setup, hasty_server, waitaof_server};

/// How long a process may take to serve or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the nodes keep their sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In their process.
    Memory,
    /// In a Redis each, whose append-only file is synced as said (`always`,
    /// `everysec`).
    Redis(&'static str),
    /// In a server each that is synced every second and can be waited for.
    Waitaof,
    /// The same with a server that answers too early when it is waited for.
    Hasty,
    /// In a cluster that all nodes share, each with keys of its own; synced as said.
    Cluster(&'static str),
}

/// Makes a test of each function, on each kind of [`Store`]: `memory::name`,
/// `redis::name` and `cluster::name`.
#[macro_export]
macro_rules! on_each_store {
    ($($(#[$also:meta])* $name:ident)*) => {
        mod memory { $(
            #[tokio::test]
            $(#[$also])*
            async fn $name() {
                super::$name($crate::tree::Store::Memory).await;
            }
        )* }
        mod redis { $(
            #[tokio::test]
            $(#[$also])*
            async fn $name() {
                super::$name($crate::tree::Store::Redis("always")).await;
            }
        )* }
        mod cluster { $(
            #[tokio::test]
            $(#[$also])*
            async fn $name() {
                super::$name($crate::tree::Store::Cluster("always")).await;
            }
        )* }
    };
}

/// A node of the tree: name, parent, depth.
type Shape = &'static [(&'static str, Option<&'static str>, usize)];

const ITALY: Shape = &[
    ("italy", None, 0),
    ("milan", Some("italy"), 1),
    ("navigli", Some("milan"), 2),
    ("brera", Some("milan"), 2),
    ("rome", Some("italy"), 1),
    ("trastevere", Some("rome"), 2),
];

const LINE: Shape =
    &[("italy", None, 0), ("milan", Some("italy"), 1), ("navigli", Some("milan"), 2)];

/// A tree that is being described.
#[derive(Debug)]
pub struct Plan {
    shape: Shape,
    store: Store,
    function: &'static str,
    settings: BTreeMap<String, String>,
    settings_at: Vec<(&'static [&'static str], String, String)>,
    entries: &'static [&'static str],
    links: bool,
    metrics: bool,
}

/// One node: its process and its Redis.
#[derive(Debug)]
pub struct Site {
    /// Its name.
    pub name: &'static str,
    port: Port,
    metrics: Option<Port>,
    process: Option<Child>,
    /// Its Redis, unless it keeps sessions in memory.
    pub redis: Option<RedisServer>,
    settings: BTreeMap<String, String>,
    log: PathBuf,
}

/// A tree of running processes.
#[derive(Debug)]
pub struct Tree {
    sites: BTreeMap<&'static str, Site>,
    /// The cluster that they share, if they do.
    pub cluster: Option<RedisCluster>,
    function: &'static str,
    dir: TempDir,
    topology: String,
    links: BTreeMap<&'static str, Link>,
}

impl Tree {
    /// The tree of the examples: six nodes on three levels.
    pub fn italy(store: Store) -> Plan {
        Plan::new(ITALY, store)
    }

    /// Three nodes on three levels: navigli below milan below italy.
    pub fn line(store: Store) -> Plan {
        Plan::new(LINE, store)
    }
}

fn everysec(program: Option<PathBuf>) -> RedisServer {
    assert!(program.is_some(), "there is no such server here: run scripts/setup-tests.sh");
    RedisServer::start(Setup { program, ..Setup::durable("everysec") })
}

impl Plan {
    fn new(shape: Shape, store: Store) -> Self {
        Self {
            shape,
            store,
            function: "probe",
            settings: BTreeMap::new(),
            settings_at: Vec::new(),
            entries: &[],
            links: false,
            metrics: false,
        }
    }

    /// The function that every node serves; `probe` unless said.
    #[must_use]
    pub fn function(mut self, name: &'static str) -> Self {
        self.function = name;
        self
    }

    /// A setting for every node, as in `docs/configuration.md`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A setting for some nodes only.
    #[must_use]
    pub fn set_at(mut self, nodes: &'static [&'static str], name: &str, value: &str) -> Self {
        self.settings_at.push((nodes, name.to_owned(), value.to_owned()));
        self
    }

    /// These nodes create sessions too, besides the leaves.
    #[must_use]
    pub fn entries(mut self, names: &'static [&'static str]) -> Self {
        self.entries = names;
        self
    }

    /// Nodes reach each other over links that can be cut.
    #[must_use]
    pub fn with_links(mut self) -> Self {
        self.links = true;
        self
    }

    /// Each node has its metrics at a port of its own.
    #[must_use]
    pub fn with_metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    fn topology(
        &self,
        ports: &BTreeMap<&str, Port>,
        links: &BTreeMap<&'static str, Link>,
    ) -> String {
        fn write(
            out: &mut String,
            plan: &Plan,
            (ports, links): (&BTreeMap<&str, Port>, &BTreeMap<&'static str, Link>),
            name: &str,
            depth: usize,
        ) {
            use std::fmt::Write;
            let pad = "  ".repeat(depth * 2 + 1);
            let dash = if depth == 0 { "  ".to_owned() } else { format!("{}- ", &pad[2..]) };
            let _ = writeln!(out, "{dash}name: {name}");
            let _ = writeln!(out, "{pad}gateway: http://127.0.0.1:{}", ports[name].number());
            if let Some(link) = links.get(name) {
                let _ = writeln!(out, "{pad}internal: http://127.0.0.1:{}", link.port());
            }
            if plan.entries.contains(&name) {
                let _ = writeln!(out, "{pad}entry: true");
            }
            let children: Vec<_> =
                plan.shape.iter().filter(|(_, parent, _)| *parent == Some(name)).collect();
            if !children.is_empty() {
                let _ = writeln!(out, "{pad}children:");
                for (child, _, _) in children {
                    write(out, plan, (ports, links), child, depth + 1);
                }
            }
        }
        let mut out = String::from("levels: [country, city, district]\nroot:\n");
        write(&mut out, self, (ports, links), self.shape[0].0, 0);
        out
    }

    /// Starts everything and waits until every node serves.
    pub async fn start(self) -> Tree {
        let dir =
            tempfile::Builder::new().prefix("funicular-tree-").tempdir().expect("a directory");
        let mut ports: BTreeMap<&str, Port> =
            self.shape.iter().map(|(name, _, _)| (*name, Port::free())).collect();
        let mut links = BTreeMap::new();
        if self.links {
            for (name, _, _) in self.shape {
                links.insert(*name, Link::to(ports[name].number()).await);
            }
        }
        let topology = self.topology(&ports, &links);
        for (name, secret) in [
            ("session-peer-key", "the peers' key of a test tree 0123456789"),
            ("session-operator-key", "the operators' key of a test tree 0123456789"),
        ] {
            std::fs::write(dir.path().join(name), secret).expect("a secret");
        }
        std::fs::write(dir.path().join("topology.yaml"), &topology).expect("the topology");
        let cluster = match self.store {
            Store::Cluster(sync) => Some(RedisCluster::start(Setup::durable(sync)).await),
            _ => None,
        };
        let shared = cluster.as_ref().map(RedisCluster::url);
        let mut sites = BTreeMap::new();
        for (name, _, _) in self.shape {
            let port = ports.remove(name).expect("its port");
            let metrics = self.metrics.then(Port::free);
            let redis = match self.store {
                Store::Memory | Store::Cluster(_) => None,
                Store::Redis(sync) => Some(RedisServer::start(Setup::durable(sync))),
                Store::Waitaof => Some(everysec(waitaof_server())),
                Store::Hasty => Some(everysec(hasty_server())),
            };
            let url = redis.as_ref().map(RedisServer::url);
            let prefix = if shared.is_some() { name } else { "f" };
            let mut settings = self.settings.clone();
            for (nodes, setting, value) in &self.settings_at {
                if nodes.contains(name) {
                    settings.insert(setting.clone(), value.clone());
                }
            }
            std::fs::create_dir_all(dir.path().join("failpoints").join(name)).expect("a directory");
            let own = [
                ("TEST_FUNCTION", self.function.to_owned()),
                ("FUNICULAR_FUNCTION", self.function.to_owned()),
                ("LOCATION_ID", (*name).to_owned()),
                ("FUNICULAR_TOPOLOGY", dir.path().join("topology.yaml").display().to_string()),
                ("FUNICULAR_SECRETS", dir.path().display().to_string()),
                ("FUNICULAR_STORE", url.or(shared.clone()).unwrap_or("memory".into())),
                ("FUNICULAR_STORE_PREFIX", prefix.to_owned()),
                ("FUNICULAR_STANDALONE", "true".to_owned()),
                (
                    "FUNICULAR_FAILPOINTS",
                    dir.path().join("failpoints").join(name).display().to_string(),
                ),
                ("address", "127.0.0.1".to_owned()),
                ("port", port.number().to_string()),
                ("metrics_port", metrics.as_ref().map_or(0, Port::number).to_string()),
                ("healthcheck_interval", "100ms".to_owned()),
                ("TMPDIR", dir.path().join("failpoints").join(name).display().to_string()),
            ];
            for (setting, value) in own {
                settings.entry(setting.to_owned()).or_insert(value);
            }
            let log = dir.path().join(format!("{name}.log"));
            let site = Site { name, port, metrics, process: None, redis, settings, log };
            sites.insert(*name, site);
        }
        let mut tree = Tree { sites, cluster, function: self.function, dir, topology, links };
        for site in tree.sites.values_mut() {
            site.launch();
        }
        for site in tree.sites.values_mut() {
            site.ready().await;
        }
        tree
    }
}

impl Tree {
    /// The URL of the tree's function at a node, without a slash at the end.
    pub fn gateway(&self, node: &str) -> String {
        Reach::gateway(self, node)
    }

    /// The URL of a node.
    pub fn base(&self, node: &str) -> String {
        format!("http://127.0.0.1:{}", self.sites[node].port.number())
    }

    /// Where a node has its metrics, `host:port`, if it has any.
    pub fn metrics(&self, node: &str) -> Option<String> {
        let port = self.sites[node].metrics.as_ref()?;
        Some(format!("127.0.0.1:{}", port.number()))
    }

    /// Starts the oracle of a node with these settings (YAML).
    pub async fn oracle(&self, node: &'static str, settings: &str) -> Oracle {
        let site = &self.sites[node];
        let given: Vec<_> = ["LOCATION_ID", "FUNICULAR_STORE", "FUNICULAR_STORE_PREFIX"]
            .into_iter()
            .map(|name| (name.to_owned(), site.settings[name].clone()))
            .collect();
        Oracle::start(node, self.dir.path(), self.function, given, settings).await
    }

    /// The same, of one that only observes.
    pub async fn observer(&self, node: &'static str, settings: &str) -> Oracle {
        let given: Vec<_> =
            [("LOCATION_ID", node), ("FUNICULAR_STORE", "memory"), ("ORACLE_OBSERVE", "true")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        Oracle::start(node, self.dir.path(), self.function, given, settings).await
    }

    /// Which node a URL leads to.
    pub fn node_at(&self, url: &str) -> Option<&'static str> {
        let of =
            |site: &&Site| url.starts_with(&format!("http://127.0.0.1:{}/", site.port.number()));
        self.sites.values().find(of).map(|site| site.name)
    }

    /// The names of all nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &'static str> {
        self.sites.keys().copied()
    }

    /// The topology's text.
    pub fn topology(&self) -> &str {
        &self.topology
    }

    /// The directory with topology and secrets, as the CLI takes it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The function's name.
    pub fn function(&self) -> &'static str {
        self.function
    }

    /// One node.
    pub fn site(&mut self, node: &str) -> &mut Site {
        self.sites.get_mut(node).expect("a node of the tree")
    }

    /// The way of the other nodes to this one.
    pub fn link(&self, node: &str) -> &Link {
        &self.links[node]
    }

    /// Whether a node's Redis has this text anywhere; `None` without a Redis.
    pub fn redis_holds(&self, node: &str, text: &str) -> Option<bool> {
        if let Some(cluster) = &self.cluster {
            let pattern = format!("{node}:*");
            return Some(cluster.masters.iter().any(|master| master.holds_at(&pattern, text)));
        }
        self.sites[node].redis.as_ref().map(|redis| redis.holds(text))
    }

    /// Calls of an operator to this tree.
    pub fn operator(&self) -> Operator<'_> {
        Operator::new(self)
    }

    /// Holds a step of a node open, until the returned value is dropped. The
    /// steps are those of the source: `grep -rn 'reach("' runtime/src`.
    pub fn hold(&self, node: &str, step: &str) -> Held {
        let path = self.dir.path().join("failpoints").join(node).join(step);
        let reached = path.with_file_name(format!("{step}.reached"));
        let _ = std::fs::remove_file(&reached);
        std::fs::write(&path, b"").expect("a failpoint");
        Held { path, reached }
    }
}

impl Reach for Tree {
    fn names(&self) -> Vec<&'static str> {
        self.nodes().collect()
    }

    fn base(&self, node: &str) -> String {
        self.base(node)
    }

    fn function(&self) -> &'static str {
        self.function
    }

    fn secrets(&self) -> PathBuf {
        self.dir().to_owned()
    }
}

/// Asks again and again until the answer is yes; fails after a while.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A step that is held open until this is dropped.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    reached: PathBuf,
}

impl Held {
    /// Waits until a process is at the step.
    pub async fn reached(&self) {
        let began = Instant::now();
        while !self.reached.exists() {
            assert!(began.elapsed() < PATIENCE, "nobody came to {}", self.path.display());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether a process is at the step.
    pub fn is_reached(&self) -> bool {
        self.reached.exists()
    }

    /// Lets the process go on.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The binary that serves a function. A node that is held to the version of the release
/// before is that release, where `FUNICULAR_PREVIOUS` names its binary.
fn site(settings: &BTreeMap<String, String>) -> PathBuf {
    if let Some(name) = settings.get("TEST_PROGRAM") {
        return program(name);
    }
    let before = WireVersion::OLDEST.to_string();
    let previous = std::env::var_os("FUNICULAR_PREVIOUS");
    match previous.filter(|_| settings.get("wire_version") == Some(&before)) {
        Some(path) => path.into(),
        None => program("site"),
    }
}

/// A binary of this crate: beside the test's own.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's path");
    let dir = test.parent().and_then(Path::parent).expect("target/<profile>");
    let path = dir.join(name);
    let package = match name {
        "traced" => "--workspace --bin traced --features funicular-traced/otel",
        _ => "-p funicular-tests --bins",
    };
    assert!(path.exists(), "{} is missing: cargo build {package}", path.display());
    path
}

impl Site {
    /// Starts the process; [`Site::ready`] waits for it.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log =
            std::fs::File::options().create(true).append(true).open(&self.log).expect("a log file");
        let child = Command::new(site(&self.settings))
            .env("FUNICULAR_LOG", std::env::var("FUNICULAR_LOG").unwrap_or("info".into()))
            .envs(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the process starts");
        self.process = Some(child);
    }

    /// Waits until the node answers, its store included.
    pub async fn ready(&mut self) {
        let url = format!("http://127.0.0.1:{}/_/ready", self.port.number());
        let began = Instant::now();
        loop {
            if let Ok(answer) = reqwest::get(&url).await
                && answer.status().is_success()
            {
                return;
            }
            let process = self.process.as_mut().expect("it was launched");
            let ended = process.try_wait().expect("its state");
            let late = began.elapsed() > PATIENCE;
            assert!(ended.is_none() && !late, "{} is not ready:\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the process wrote into its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A setting for the next launch.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGTERM, and waits for the end; says whether it ended with 0.
    pub async fn terminate(&mut self) -> bool {
        self.process.iter().for_each(|process| process::signal("-TERM", process.id()));
        let Some(mut process) = self.process.take() else { return true };
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = process.try_wait() {
                return status.success();
            }
            if began.elapsed() > PATIENCE {
                let _ = process.kill();
                let _ = process.wait();
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the process ends by itself, and says with which code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("it runs");
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = process.try_wait() {
                return status.code();
            }
            if began.elapsed() > PATIENCE {
                let _ = process.kill();
                let _ = process.wait();
                panic!("{} goes on running:\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills the process and starts it again.
    pub async fn restart(&mut self) {
        self.kill9();
        self.launch();
        self.ready().await;
    }

    /// From now on the most memory that the process holds is counted anew.
    pub fn forget_peak(&self) {
        let process = self.process.as_ref().expect("it runs");
        std::fs::write(format!("/proc/{}/clear_refs", process.id()), "5").expect("a new count");
    }

    /// The memory that the process holds and the most that it held, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let process = self.process.as_ref().expect("it runs");
        let path = format!("/proc/{}/status", process.id());
        let status = std::fs::read_to_string(path).expect("its status");
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            let kib = line.split_whitespace().next().expect("a number");
            kib.parse::<u64>().expect("a number") * 1024
        };
        (line("VmRSS:"), line("VmHWM:"))
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.process.iter().for_each(|process| process::pause(process.id()));
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.iter().for_each(|process| process::resume(process.id()));
    }

    /// Its Redis.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("a Redis")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}
