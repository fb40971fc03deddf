//! A private Redis for one test: on a unix socket in a directory of its own,
//! ready in milliseconds, gone with the test.
//!
//! `FUNICULAR_REDIS_SERVER` names another binary than `redis-server`, for example
//! `valkey-server`; without either, the other one on `PATH` is taken. Tests that need
//! a [`WAITAOF` that keeps its word](waitaof_server), or one that does not, take what
//! `scripts/setup-tests.sh` provides.
//!
//! **Power loss** is a `SIGKILL` after which the append-only file is cut back to
//! what is known to have reached the disk. What that is depends on the server:
//!
//! - `appendfsync always`: everything that was answered; nothing is cut.
//! - A server whose `WAITAOF` keeps its word: a sampler writes and waits for the disk all the time
//!   and notes the file's length at each answer. Everything for which anybody's
//!   `WAITAOF` was answered is before that mark, because all who wait for one
//!   sync are answered together.
//! - Else only what came before [`RedisServer::sync_point`], which syncs by
//!   switching to `appendfsync always` for one write. What Redis synced by itself
//!   since is cut too: a harder power loss than a real one, never a softer one.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::Port;
use crate::process;

/// How long a server may take to become ready, or to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whether there is an append-only file.
    pub appendonly: bool,
    /// `always`, `everysec` or `no`.
    pub appendfsync: &'static str,
    /// In bytes; 0 is without limit.
    pub maxmemory: u64,
    /// What happens when memory is short.
    pub policy: &'static str,
    /// Listen on a free TCP port of the loopback instead of a socket.
    pub tcp: bool,
    /// A master of a cluster, see [`crate::cluster`].
    pub clustered: bool,
    /// Take this server instead of the usual one, see [`waitaof_server`].
    pub program: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            appendonly: false,
            appendfsync: "everysec",
            maxmemory: 0,
            policy: "noeviction",
            tcp: false,
            clustered: false,
            program: None,
        }
    }
}

impl Setup {
    /// With an append-only file, synced as `appendfsync` says.
    pub fn durable(appendfsync: &'static str) -> Self {
        Self { appendonly: true, appendfsync, ..Self::default() }
    }
}

/// A running (or killed) server.
#[derive(Debug)]
pub struct RedisServer {
    setup: Setup,
    dir: TempDir,
    ports: Option<(Port, Port)>,
    child: Option<Child>,
    synced: Arc<AtomicU64>,
    synced_since: Arc<Mutex<Option<Instant>>>,
    sampler: Option<Sampler>,
}

#[derive(Debug)]
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists())
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// What `scripts/setup-tests.sh` put beside the system's own servers.
fn tool(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    Some(test.ancestors().nth(3)?.join("tools").join(name)).filter(|file| file.exists())
}

/// A server whose `WAITAOF` keeps its word, if there is one: a Redis from 8.0 on,
/// named in `FUNICULAR_REDIS_SERVER`, on `PATH` or in `target/tools`.
pub fn waitaof_server() -> Option<PathBuf> {
    let known = [named("FUNICULAR_REDIS_SERVER"), on_path("redis-server"), tool("redis-server")];
    known.into_iter().flatten().find(|server| keeps_its_word(server))
}

/// A server that answers `WAITAOF` too early, if there is one: a Valkey.
pub fn hasty_server() -> Option<PathBuf> {
    on_path("valkey-server").or_else(|| tool("valkey-server"))
}

/// Whether a server is one of those; it says `Redis server v=8.0.2 …`.
fn keeps_its_word(server: &Path) -> bool {
    let Ok(said) = Command::new(server).arg("--version").output() else { return false };
    let said = String::from_utf8_lossy(&said.stdout);
    let version = said.strip_prefix("Redis server v=").unwrap_or_default();
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()) >= Some(8)
}

fn binary() -> PathBuf {
    if let Some(path) = named("FUNICULAR_REDIS_SERVER") {
        return path;
    }
    on_path("redis-server").or_else(|| on_path("valkey-server")).expect(
        "these tests need redis-server or valkey-server: install one, \
         or name it in FUNICULAR_REDIS_SERVER",
    )
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub fn start(setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("funicular-").tempdir().expect("a directory");
        let ports = setup.tcp.then(|| (Port::free(), Port::free()));
        let synced = Arc::default();
        let synced_since = Arc::default();
        let mut server =
            Self { setup, dir, ports, child: None, synced, synced_since, sampler: None };
        server.launch();
        server
    }

    /// Starts one with the default setup.
    pub fn plain() -> Self {
        Self::start(Setup::default())
    }

    /// Where to connect to.
    pub fn url(&self) -> String {
        if self.setup.tcp {
            format!("redis://127.0.0.1:{}/0", self.port())
        } else {
            format!("redis+unix://{}", self.dir.path().join("socket").display())
        }
    }

    /// Its port; 0 without one.
    pub fn port(&self) -> u16 {
        self.ports.as_ref().map_or(0, |(port, _)| port.number())
    }

    /// The port at which masters of a cluster talk to each other.
    pub fn bus_port(&self) -> u16 {
        self.ports.as_ref().map_or(0, |(_, bus)| bus.number())
    }

    fn launch(&mut self) {
        let setup = &self.setup;
        let yes_no = if setup.appendonly { "yes" } else { "no" };
        let mut config = format!(
            "save \"\"\nappendonly {yes_no}\nappendfsync {}\nmaxmemory {}\nmaxmemory-policy {}\n\
             port {}\nbind 127.0.0.1\ndaemonize no\nlogfile log\nenable-debug-command local\n",
            setup.appendfsync,
            setup.maxmemory,
            setup.policy,
            self.port()
        );
        if setup.clustered {
            let _ = write!(
                config,
                "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {}\n\
                 cluster-node-timeout 3000\ncluster-require-full-coverage no\n\
                 cluster-allow-replica-migration no\n",
                self.bus_port()
            );
        }
        if !setup.tcp {
            config.push_str("unixsocket socket\n");
        }
        fs::write(self.dir.path().join("redis.conf"), config).expect("the configuration");
        let child = Command::new(self.program())
            .arg("redis.conf")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        self.child = Some(child);
        let begun = Instant::now();
        while self.try_cli(&["PING"]).is_err() {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "redis-server is not ready: {}", log());
            std::thread::sleep(Duration::from_millis(2));
        }
        let everysec = self.setup.appendonly && self.setup.appendfsync == "everysec";
        if everysec
            && !self.setup.clustered
            && waitaof_server().is_some_and(|server| server == self.program())
        {
            self.sample("sync-sample");
        }
    }

    /// Begins to look at what is on the disk, with a key that is this server's own:
    /// for a master, once it has slots.
    pub fn watch_disk(&mut self, key: &str) {
        let everysec = self.setup.appendonly && self.setup.appendfsync == "everysec";
        if everysec && waitaof_server().is_some_and(|server| server == self.program()) {
            self.sample(key);
        }
    }

    fn program(&self) -> PathBuf {
        self.setup.program.clone().unwrap_or_else(binary)
    }

    /// Whether the server has `WAITAOF`, whatever that is worth.
    pub fn has_waitaof(&self) -> bool {
        let about = self.cli(&["COMMAND", "INFO", "WAITAOF"]);
        matches!(about, redis::Value::Array(found) if matches!(&found[..], [redis::Value::Array(_)]))
    }

    /// Runs one command.
    pub fn try_cli(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        let mut cmd = redis::cmd(words[0]);
        for word in &words[1..] {
            cmd.arg(*word);
        }
        cmd.query(&mut connection)
    }

    /// Runs one command, as `redis-cli` would; an error ends the test.
    pub fn cli(&self, words: &[&str]) -> redis::Value {
        self.try_cli(words).unwrap_or_else(|error| panic!("{} …: {error}", words[0]))
    }

    /// The same, for an answer that is a number.
    pub fn number(&self, words: &[&str]) -> u64 {
        redis::from_redis_value(self.cli(words)).expect("a number")
    }

    /// Whether any value of any key has this text in it.
    pub fn holds(&self, text: &str) -> bool {
        self.holds_at("*", text)
    }

    /// The same of keys that look like this.
    pub fn holds_at(&self, pattern: &str, text: &str) -> bool {
        let found = |value: &redis::Value| contains(value, text.as_bytes());
        let keys: Vec<String> =
            redis::from_redis_value(self.cli(&["KEYS", pattern])).expect("keys");
        keys.iter().any(|key| {
            let kind: String = redis::from_redis_value(self.cli(&["TYPE", key])).expect("a type");
            match kind.as_str() {
                "string" => found(&self.cli(&["GET", key])),
                "hash" => found(&self.cli(&["HGETALL", key])),
                "list" => found(&self.cli(&["LRANGE", key, "0", "-1"])),
                "zset" => found(&self.cli(&["ZRANGE", key, "0", "-1"])),
                "set" => found(&self.cli(&["SMEMBERS", key])),
                // Gone in between.
                _ => false,
            }
        })
    }

    /// `SIGKILL`; what was written so far is in the file (the machine lives on).
    pub fn kill9(&mut self) {
        self.stop_sampler();
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is ours to kill");
            child.wait().expect("it ends");
        }
    }

    /// A copy of its files, as a person makes one while it runs: the append-only file
    /// alone.
    pub fn back_up(&self) -> TempDir {
        let backup =
            tempfile::Builder::new().prefix("funicular-backup-").tempdir().expect("a directory");
        copy(&self.dir.path().join("appendonlydir"), &backup.path().join("appendonlydir"));
        backup
    }

    /// Kills it, replaces its files by those of a backup, and starts it again.
    pub fn put_back(&mut self, backup: &TempDir) {
        self.kill9();
        let own = self.dir.path().join("appendonlydir");
        fs::remove_dir_all(&own).expect("its files are ours");
        copy(&backup.path().join("appendonlydir"), &own);
        self.launch();
    }

    /// Starts it again on the same files, killing it first if it runs.
    pub fn restart(&mut self) {
        self.kill9();
        self.launch();
    }

    /// Stops the process without ending it: it accepts and does not answer.
    pub fn pause(&self) {
        self.child.iter().for_each(|child| process::pause(child.id()));
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.child.iter().for_each(|child| process::resume(child.id()));
    }

    /// The append-only file that grows.
    fn aof(&self) -> Option<PathBuf> {
        let files = fs::read_dir(self.dir.path().join("appendonlydir")).ok()?;
        let mut names: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        names.retain(|name| name.extension().is_some_and(|end| end == "aof"));
        names.retain(|name| name.to_string_lossy().contains(".incr."));
        names.sort();
        names.pop()
    }

    fn aof_length(&self) -> u64 {
        self.aof().and_then(|file| fs::metadata(file).ok()).map_or(0, |about| about.len())
    }

    /// Brings everything written so far to the disk and remembers it; see the
    /// module's page.
    pub fn sync_point(&self) {
        self.cli(&["CONFIG", "SET", "appendfsync", "always"]);
        self.cli(&["SET", "sync-point", "1"]);
        self.synced.store(self.aof_length(), Ordering::SeqCst);
        self.cli(&["CONFIG", "SET", "appendfsync", self.setup.appendfsync]);
    }

    /// Kills the server and the machine under it: what was not synced is gone.
    pub fn power_loss(&mut self) {
        if self.sampler.is_some() {
            // Answers that are out already may still have to be noted.
            self.pause();
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill9();
        if self.setup.appendfsync == "always" {
            return;
        }
        let Some(aof) = self.aof() else { return };
        let kept = self.synced.load(Ordering::SeqCst).min(self.aof_length());
        let file = fs::OpenOptions::new().write(true).open(aof).expect("the append-only file");
        file.set_len(kept).expect("it is cut");
    }

    /// What was answered before this moment is known to be on disk; `None` if nobody
    /// looks.
    pub fn synced_since(&self) -> Option<Instant> {
        *self.synced_since.lock().expect("nobody panics with it")
    }

    /// How many bytes of the file are known to be on disk.
    pub fn synced_bytes(&self) -> u64 {
        self.synced.load(Ordering::SeqCst)
    }

    fn sample(&mut self, key: &str) {
        let stop = Arc::new(AtomicBool::new(false));
        let marks = Marks { length: self.synced.clone(), since: self.synced_since.clone() };
        let stopped = stop.clone();
        let (url, aof) = (self.url(), self.aof().expect("an append-only file"));
        let (ready, begun) = mpsc::channel();
        let key = key.to_owned();
        let thread = std::thread::spawn(move || {
            let _ = sample(&url, &key, &aof, &stopped, &marks, &ready);
        });
        begun.recv_timeout(PATIENCE).expect("the sampler begins");
        self.sampler = Some(Sampler { stop, thread });
    }

    fn stop_sampler(&mut self) {
        if let Some(Sampler { stop, thread }) = self.sampler.take() {
            stop.store(true, Ordering::SeqCst);
            // Its connection ends with the server, or its wait does.
            if let Some(child) = &mut self.child {
                child.kill().expect("the server is ours to kill");
            }
            thread.join().expect("the sampler ends");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for file in fs::read_dir(from).expect("its files").flatten() {
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

/// How far the file is known to be on disk.
struct Marks {
    length: Arc<AtomicU64>,
    since: Arc<Mutex<Option<Instant>>>,
}

fn sample(
    url: &str,
    key: &str,
    aof: &Path,
    stop: &AtomicBool,
    marks: &Marks,
    ready: &mpsc::Sender<()>,
) -> redis::RedisResult<()> {
    let mut connection = redis::Client::open(url)?.get_connection_with_timeout(PATIENCE)?;
    while !stop.load(Ordering::SeqCst) {
        let asked = Instant::now();
        redis::cmd("INCR").arg(key).query::<i64>(&mut connection)?;
        let (local, _): (u64, u64) =
            redis::cmd("WAITAOF").arg(1).arg(0).arg(0).query(&mut connection)?;
        if local == 1
            && let Ok(about) = fs::metadata(aof)
        {
            marks.length.store(about.len(), Ordering::SeqCst);
            *marks.since.lock().expect("nobody panics with it") = Some(asked);
        }
        let _ = ready.send(());
    }
    Ok(())
}

fn contains(value: &redis::Value, text: &[u8]) -> bool {
    match value {
        redis::Value::BulkString(bytes) => bytes.windows(text.len()).any(|part| part == text),
        redis::Value::Array(items) => items.iter().any(|item| contains(item, text)),
        _ => false,
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "the server's log:\n{log}");
        }
        self.stop_sampler();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_comes_back_with_its_file() {
        let mut server = RedisServer::start(Setup::durable("always"));
        server.cli(&["SET", "a", "1"]);
        server.restart();
        assert_eq!(server.number(&["GET", "a"]), 1);
        server.cli(&["SET", "a", "2"]);
        server.power_loss();
        server.restart();
        assert_eq!(server.number(&["GET", "a"]), 2);
    }

    #[test]
    fn power_loss_costs_what_was_not_synced() {
        let mut server = RedisServer::start(Setup::durable("everysec"));
        server.cli(&["SET", "a", "1"]);
        server.sync_point();
        server.cli(&["SET", "a", "2"]);
        server.power_loss();
        server.restart();
        assert!(server.number(&["GET", "a"]) <= 2);
        if server.sampler.is_none() {
            assert_eq!(server.number(&["GET", "a"]), 1);
        }
    }

    #[test]
    fn a_paused_server_does_not_answer() {
        let server = RedisServer::start(Setup { tcp: true, ..Setup::default() });
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        connection.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        server.pause();
        assert!(redis::cmd("PING").query::<String>(&mut connection).is_err());
        server.resume();
        server.cli(&["PING"]);
    }
}
