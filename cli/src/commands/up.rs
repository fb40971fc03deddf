//! `funicular up`: a whole tree in one process, on this machine.

mod dashboard;
mod oracle;
mod own;
mod redis;
mod settings;
mod signals;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use funicular::Function;
use funicular::config::{ConfigError, StoreChoice};
use funicular::http;
use funicular::http::signature::Keys;
use funicular::serve::{Assembled, Assembly, bind, serve_router, start_logging};
use funicular::session::{FunctionName, NodeName};
use funicular::store::WindowLimits;
use funicular::topology::Topology;
use funicular_dashboard::watch::OracleAt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::output::say;
use crate::{options, secrets};
use signals::Signals;

/// Where sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Store {
    /// In this process: nothing to install, gone when it ends.
    Memory,
    /// In one redis-server a node, started and stopped by this command.
    Redis,
    /// In a Redis or a cluster that is there; each node has keys of its own.
    Shared(String),
}

impl Store {
    /// The URL that all nodes share, if they do.
    fn shared(&self) -> Option<String> {
        match self {
            Self::Shared(url) => Some(url.clone()),
            Self::Memory | Self::Redis => None,
        }
    }
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "redis" => Ok(Self::Redis),
            url if url.contains("://") => Ok(Self::Shared(url.to_owned())),
            _ => Err("give memory, redis, or a URL such as redis+cluster://host:port".to_owned()),
        }
    }
}

impl Display for Store {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Self::Memory => "memory",
            Self::Redis => "one redis-server a node",
            Self::Shared(_) => "one Redis for all nodes",
        })
    }
}

/// What `up` takes.
#[derive(Args)]
pub(crate) struct Up {
    /// The topology: a file or the text itself; every gateway on this machine
    /// [default: $`FUNICULAR_TOPOLOGY`, else topology/examples/italy.yaml]
    #[arg(long, value_name = "F")]
    topology: Option<String>,

    /// Where sessions are kept: in `memory`, in one `redis` server a node that this
    /// starts, or in the Redis or cluster of a URL (redis+cluster://host:port,…)
    #[arg(long, value_name = "memory|redis|URL", default_value = "memory")]
    store: Store,

    /// The redis-server to run, with `--store redis`
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis_server: PathBuf,

    /// Run a function of one's own on every node, as a process: the directory of its
    /// crate, which is built, or a program. Goes before an example of the same name
    #[arg(long, value_name = "NAME=DIR")]
    function: Vec<own::Own>,

    /// A setting of the functions (docs/configuration.md), at one node or at all:
    /// `navigli:max_running=4`, `session_ttl=1h`
    #[arg(long, value_name = "[NODE:]NAME=VALUE")]
    set: Vec<settings::Set>,

    /// Where keys, and with `--store redis` the data, are kept; created if missing
    #[arg(long, value_name = "DIR", default_value = ".funicular")]
    dir: PathBuf,

    #[command(flatten)]
    oracle: oracle::Options,

    #[command(flatten)]
    dashboard: dashboard::Options,
}

impl Up {
    /// Runs until Ctrl-C, SIGTERM or the end of its terminal.
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.serve())
    }

    /// The author's own functions, built.
    async fn programs(&self) -> Result<BTreeMap<FunctionName, PathBuf>> {
        let mut programs = BTreeMap::new();
        for own in &self.function {
            if programs.insert(own.name.clone(), own.program().await?).is_some() {
                return Err(Failure::Usage(format!("`{}` is given twice", own.name)).into());
            }
        }
        Ok(programs)
    }

    async fn serve(self) -> Result<()> {
        // Before the first process is started: whatever comes from now on ends them all.
        let mut signals = Signals::hear()?;
        if std::env::var_os("FUNICULAR_LOG").is_some() {
            start_logging();
        }
        let mut running = Running::default();
        let started = tokio::select! {
            started = self.start(&mut running) => started,
            () = signals.next() => {
                let why = "ended before it was ready, and so has all that had begun";
                Err(Failure::Interrupted(why.to_owned()).into())
            }
        };
        if started.is_ok() {
            say("ready");
            signals.next().await;
            say("stopping");
        }
        running.stop().await;
        started
    }

    /// Starts everything; what runs is in `running` from its first moment.
    async fn start(&self, running: &mut Running) -> Result<()> {
        let programs = self.programs().await?;
        let (text, topology) = tree::load(self.topology.as_deref(), &self.dir)?;
        settings::check(&self.set, &topology)?;
        let addresses = tree::addresses(&topology)?;
        // Every port before anything else: a taken one leaves nothing behind.
        let mut listeners = BTreeMap::new();
        for (node, address) in &addresses {
            listeners.insert(node.clone(), listen(node, *address).await?);
        }
        let dashboard = self.dashboard.listen().await?;
        let keys = secrets::open(&self.dir)?;
        if self.store == Store::Redis {
            running.stores.start(&self.redis_server, &self.dir, addresses.keys()).await?;
        }
        // Not before it is certain that no other tree runs from here.
        tree::remember(&self.dir, &text)?;
        let site = Site {
            topology: Arc::new(topology),
            keys,
            store: self.store.clone(),
            urls: running.stores.urls(),
            set: self.set.clone(),
        };
        let common = self.oracle.open(&site.keys, &running.watching)?;
        let watched = self.nodes(&site, &programs, listeners, common.as_ref(), running).await?;
        let mut names: BTreeSet<FunctionName> = programs.into_keys().collect();
        names.extend(functions().iter().filter_map(|(name, _)| FunctionName::new(name).ok()));
        tree::print(&site.topology, &names, &site.store.to_string(), common.is_some());
        if let Some(place) = dashboard {
            say(place.sentence(&self.dir));
            let until = (&running.watching, &running.closing);
            running.servers.push(place.open(&site.topology, &site.keys, watched, until)?);
        }
        Ok(())
    }

    /// Starts the nodes; gives their oracles.
    async fn nodes(
        &self,
        site: &Site,
        programs: &BTreeMap<FunctionName, PathBuf>,
        listeners: BTreeMap<NodeName, TcpListener>,
        common: Option<&oracle::Common>,
        running: &mut Running,
    ) -> Result<BTreeMap<NodeName, OracleAt>> {
        let dir = self.dir.canonicalize()?;
        let given = own::Site { topology: dir.join(tree::KEPT), secrets: dir };
        let mut watched = BTreeMap::new();
        for (node, listener) in listeners {
            let place = site.place(&node);
            let mut bases = BTreeMap::new();
            for (name, program) in programs {
                let base = running.own.start((name, program), &given, &place).await?;
                bases.insert(name.clone(), base);
            }
            let processes = http::Processes::new(bases).map_err(Failure::Unavailable)?;
            let functions = site.assemble(&node, |name| !programs.contains_key(name)).await?;
            let services: Vec<_> = functions.iter().map(|one| one.service.clone()).collect();
            running.assembled.extend(functions);
            let mut router = http::gateway(services, processes);
            if let Some(common) = common {
                let url = site.urls.get(&node).cloned().or_else(|| site.store.shared());
                let store = (url, place.prefix);
                let oracle = running.oracles.start(common, &site.topology, &node, store).await?;
                if let Some(oracle) = oracle {
                    let told = oracle.router();
                    router = axum::Router::new().nest("/oracle", told).fallback_service(router);
                    watched.insert(node.clone(), funicular_oracle::dashboard::here(oracle));
                }
            }
            let server = serve_router(listener, router, running.closing.clone());
            running.servers.push(tokio::spawn(server));
        }
        Ok(watched)
    }
}

/// What runs, as far as it was started.
#[derive(Default)]
struct Running {
    stores: redis::Servers,
    own: own::Processes,
    assembled: Vec<Assembled>,
    oracles: oracle::Oracles,
    servers: Vec<JoinHandle<()>>,
    watching: CancellationToken,
    closing: CancellationToken,
}

impl Running {
    /// Ends all of it: who acts first, the stores last.
    async fn stop(self) {
        self.watching.cancel();
        self.oracles.stop().await;
        self.closing.cancel();
        for server in self.servers {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), server).await;
        }
        self.own.stop().await;
        for one in self.assembled {
            one.stop().await;
        }
        self.stores.stop().await;
    }
}

/// The example functions that every node serves.
fn functions() -> Vec<(&'static str, Function)> {
    vec![
        ("cart", cart::function()),
        ("cdn", cdn::function()),
        ("empty", empty::function()),
        ("work", work::function()),
    ]
}

async fn listen(node: &NodeName, address: SocketAddr) -> Result<TcpListener> {
    bind(address).await.map_err(|error| Failure::Unavailable(format!("{node}: {error}")).into())
}

/// What the nodes of one `up` share.
struct Site {
    topology: Arc<Topology>,
    keys: Keys,
    store: Store,
    /// Of each node's own redis-server.
    urls: BTreeMap<NodeName, String>,
    set: Vec<settings::Set>,
}

impl Site {
    fn store_of(&self, node: &NodeName) -> StoreChoice {
        let (url, prefix) = match &self.store {
            Store::Shared(url) => (Some(url.clone()), node.as_str()),
            _ => (self.urls.get(node).cloned(), "f"),
        };
        let prefix = prefix.to_owned();
        url.map_or(StoreChoice::Memory, |url| StoreChoice::Redis { url, prefix })
    }

    /// The same for a process of its own.
    fn place(&self, node: &NodeName) -> own::Place {
        let (store, prefix) = match self.store_of(node) {
            StoreChoice::Memory => ("memory".to_owned(), "f".to_owned()),
            StoreChoice::Redis { url, prefix } => (url, prefix),
        };
        own::Place { node: node.clone(), store, prefix, set: settings::at(&self.set, node) }
    }

    /// The example functions, as far as they are wanted.
    async fn assemble(
        &self,
        node: &NodeName,
        wanted: impl Fn(&FunctionName) -> bool,
    ) -> Result<Vec<Assembled>> {
        let mut assembled = Vec::new();
        for (name, function) in functions() {
            let name = FunctionName::new(name).context("a function's name")?;
            if !wanted(&name) {
                continue;
            }
            let store = self.store_of(node);
            let assembly = Assembly {
                node: settings::config(&self.set, node, &name)?,
                function,
                store,
                store_timeout: std::time::Duration::from_secs(2),
                window: WindowLimits::default(),
                topology: Arc::clone(&self.topology),
                keys: self.keys.clone(),
            };
            let started = assembly.start().await;
            assembled.push(
                started
                    .map_err(|ConfigError(why)| Failure::Unavailable(format!("{node}: {why}")))?,
            );
        }
        Ok(assembled)
    }
}
