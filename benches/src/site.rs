//! The processes under load: a tree of nodes, each with its own Redis, and handlers
//! written by hand beside the same kind of Redis.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::http;
use crate::operator::Operator;
use crate::redis::{Redis, Sync};
use crate::serve::{FUNCTION, Role};

/// How long a process may take to serve.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that serves, and the Redis beside it if it has one.
#[derive(Debug)]
pub(crate) struct Site {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its Redis.
    pub(crate) redis: Option<Redis>,
}

/// A free port of the loopback.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn spawn(role: Role, settings: &[(&str, String)]) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["serve", role.as_str()])
        .env("FUNICULAR_LOG", std::env::var("FUNICULAR_LOG").unwrap_or("error".into()))
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{} does not start", role.as_str()))
}

impl Site {
    /// Starts a handler written by hand.
    pub(crate) async fn by_hand(role: Role, redis: Option<Redis>) -> Result<Self> {
        let address = free_port()?;
        let settings = [
            ("BENCH_ADDRESS", address.to_string()),
            ("BENCH_REDIS", redis.as_ref().map_or(String::new(), Redis::url)),
        ];
        let child = spawn(role, &settings)?;
        let mut site = Self { child, address, redis };
        site.ready("/_/ready").await?;
        Ok(site)
    }

    async fn ready(&mut self, path: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Ok(mut client) = http::Client::open(self.address).await
                && let Ok(answer) = client.get(path).await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                bail!("a process at {} does not serve", self.address);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// CPU time that the process has taken so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    /// CPU time that its Redis has taken so far.
    pub(crate) fn redis_cpu(&self) -> Duration {
        self.redis.as_ref().map_or(Duration::ZERO, |redis| cpu(redis.pid()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of all threads of a process; zero where the system does not say.
pub(crate) fn cpu(pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let of = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(of).sum())
}

/// An edge below a root, each a process with a Redis of its own.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Creates sessions.
    pub(crate) edge: Site,
    /// Takes them.
    pub(crate) root: Site,
    dir: TempDir,
}

/// The edge's name.
pub(crate) const EDGE: &str = "edge";
/// The root's name.
pub(crate) const ROOT: &str = "root";

impl Tree {
    /// Starts both.
    pub(crate) async fn start(sync: Sync) -> Result<Self> {
        Self::start_with(sync, |_| Vec::new()).await
    }

    /// Starts both, each with settings of its own besides.
    pub(crate) async fn start_with(
        sync: Sync,
        more: impl Fn(&str) -> Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("funicular-bench-").tempdir()?;
        for (name, secret) in [
            ("session-peer-key", "the peers' key of a benchmark 0123456789"),
            ("session-operator-key", "the operators' key of a benchmark 0123456789"),
        ] {
            std::fs::write(dir.path().join(name), secret)?;
        }
        let (edge, root) = (free_port()?, free_port()?);
        let topology = dir.path().join("topology.yaml");
        std::fs::write(
            &topology,
            format!(
                "levels: [country, city]\nroot:\n  name: {ROOT}\n  gateway: http://{root}\n  \
                 children:\n    - name: {EDGE}\n      gateway: http://{edge}\n"
            ),
        )?;
        let node = async |name: &'static str, address: SocketAddr| -> Result<Site> {
            let redis = Redis::start(sync).await?;
            let tmp = dir.path().join(name);
            std::fs::create_dir_all(&tmp)?;
            let mut settings = vec![
                ("FUNICULAR_FUNCTION", FUNCTION.to_owned()),
                ("LOCATION_ID", name.to_owned()),
                ("FUNICULAR_TOPOLOGY", topology.display().to_string()),
                ("FUNICULAR_SECRETS", dir.path().display().to_string()),
                ("FUNICULAR_STORE", redis.url()),
                ("FUNICULAR_STANDALONE", "true".to_owned()),
                ("address", "127.0.0.1".to_owned()),
                ("port", address.port().to_string()),
                ("metrics_port", free_port()?.port().to_string()),
                ("creation_rate", "1000000".to_owned()),
                ("TMPDIR", tmp.display().to_string()),
            ];
            settings.extend(more(name));
            let child = spawn(Role::Function, &settings)?;
            let mut site = Site { child, address, redis: Some(redis) };
            site.ready("/_/ready").await?;
            Ok(site)
        };
        let (edge, root) = (node(EDGE, edge).await?, node(ROOT, root).await?);
        Ok(Self { edge, root, dir })
    }

    /// Starts the oracle of the edge with these settings (YAML).
    pub(crate) async fn oracle(&self, settings: &str) -> Result<Site> {
        let address = free_port()?;
        let config = self.dir.path().join("oracle.yaml");
        std::fs::write(&config, settings)?;
        let settings = [
            ("LOCATION_ID", EDGE.to_owned()),
            ("FUNICULAR_TOPOLOGY", self.dir.path().join("topology.yaml").display().to_string()),
            ("FUNICULAR_SECRETS", self.dir.path().display().to_string()),
            ("FUNICULAR_STORE", self.edge.redis.as_ref().map_or(String::new(), Redis::url)),
            ("ORACLE_CONFIG", config.display().to_string()),
            ("ORACLE_FUNCTIONS", FUNCTION.to_owned()),
            ("ORACLE_ADDRESS", address.ip().to_string()),
            ("ORACLE_PORT", address.port().to_string()),
        ];
        let child = spawn(Role::Oracle, &settings)?;
        let mut site = Site { child, address, redis: None };
        site.ready("/healthz").await?;
        Ok(site)
    }

    /// Whoever moves sessions here.
    pub(crate) fn operator(&self) -> Result<Operator> {
        Operator::new(self.dir.path(), self.edge.address)
    }
}

/// The path of something of the function, at any node.
pub(crate) fn path(rest: &str) -> String {
    format!("/function/{FUNCTION}{rest}")
}
