//! Serves a function as one process: its own watchdog.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::http::Request;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{ConfigError, Environment, Settings, StoreChoice};
use crate::function::Function;
use crate::http;
use crate::metrics;
use crate::node::{Background, Node, NodeConfig, Parts, ThisMachine};
use crate::peers::HttpPeers;
use crate::reload;
use crate::store::memory::MemoryStore;
use crate::store::redis::{RedisOptions, RedisStore};
use crate::store::{SessionStore, StoreScope, WindowLimits};
use crate::topology::Topology;
use crate::trace;

/// Exit code for wrong settings (`EX_USAGE`).
const WRONG_SETTINGS: u8 = 64;
/// Exit code for a port or a store that is not there (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;

/// Serves `function` with the settings of the environment until SIGTERM or
/// Ctrl-C. The whole of a function's `main`:
///
/// ```no_run
/// # fn function() -> funicular::Function { funicular::Function::routes(()).into() }
/// #[tokio::main]
/// async fn main() -> std::process::ExitCode {
///     funicular::serve(function()).await
/// }
/// ```
pub async fn serve(function: Function) -> ExitCode {
    start_logging();
    let settings = match Settings::read(&Environment) {
        Ok(settings) => settings,
        Err(error) => return say(&error.0, WRONG_SETTINGS),
    };
    if let Err(faults) = function.check() {
        return say(&faults, WRONG_SETTINGS);
    }
    let (name, node) = (settings.node.function.to_string(), settings.node.here.to_string());
    if let Err(error) = trace::start(&name, &node) {
        return say(&error, WRONG_SETTINGS);
    }
    let stop = CancellationToken::new();
    let signals = stop.clone();
    tokio::spawn(async move {
        terminated().await;
        signals.cancel();
    });
    let outcome = run(function, settings, stop).await;
    trace::finish().await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say(&error.0, UNAVAILABLE),
    }
}

fn say(what: &str, code: u8) -> ExitCode {
    tracing::error!("{what}");
    ExitCode::from(code)
}

/// Log lines as `FUNICULAR_LOG` (a filter like `info` or `funicular=debug`) and
/// `FUNICULAR_LOG_FORMAT` (`text` or `json`) say. Twice is once.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FUNICULAR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It would be said where nothing can be written any more, and that panics.
    let lines = lines.log_internal_errors(false);
    let _ = match std::env::var("FUNICULAR_LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().try_init(),
        _ => lines.try_init(),
    };
}

/// SIGTERM, or Ctrl-C.
pub async fn terminated() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt => {}
            }
        }
        Err(_) => {
            let _ = interrupt.await;
        }
    }
}

/// A function at a node, put together and at work until dropped.
#[derive(Debug)]
pub struct Assembled {
    /// What HTTP serves.
    pub service: http::Service,
    background: Background,
}

impl Assembled {
    /// Ends the node's background work once its last message is out.
    pub async fn stop(self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.service.node().drained()).await;
        drop(self.background);
    }
}

/// The parts that make a function at a node.
#[derive(Debug)]
pub struct Assembly {
    /// The node's settings.
    pub node: NodeConfig,
    /// The function.
    pub function: Function,
    /// Where sessions are kept.
    pub store: StoreChoice,
    /// How long the store may take to answer.
    pub store_timeout: Duration,
    /// How the deduplication window is kept.
    pub window: WindowLimits,
    /// The tree.
    pub topology: Arc<Topology>,
    /// The secrets.
    pub keys: crate::http::signature::Keys,
}

impl Assembly {
    /// Connects the store, makes the node, recovers what is in doubt and starts it.
    pub async fn start(self) -> Result<Assembled, ConfigError> {
        let scope = StoreScope {
            function: self.node.function.clone(),
            here: self.node.here.clone(),
            window: self.window,
        };
        let store: Arc<dyn SessionStore> = match &self.store {
            StoreChoice::Memory => Arc::new(MemoryStore::new(scope)),
            StoreChoice::Redis { url, prefix } => {
                let options = RedisOptions {
                    response_timeout: self.store_timeout,
                    prefix: prefix.clone(),
                    ..RedisOptions::default()
                };
                let store = RedisStore::connect(url, options, scope).await;
                Arc::new(store.map_err(|error| ConfigError(error.to_string()))?)
            }
        };
        let peers = HttpPeers::new(self.node.here.clone(), self.keys, Arc::clone(&self.topology))
            .map_err(ConfigError)?;
        let peers = Arc::new(peers.speaking(self.node.wire_version));
        tracing::info!(
            node = %self.node.here, function = %self.node.function,
            promise = ?store.promise(), "the store is there"
        );
        if let Some(caveat) = store.promise().caveat() {
            tracing::warn!(node = %self.node.here, "{caveat}");
        }
        if let Some(caveat) = self.node.caveat() {
            tracing::warn!(node = %self.node.here, function = %self.node.function, "{caveat}");
        }
        let node = Node::new(Parts {
            config: self.node,
            function: self.function,
            store,
            peers: Arc::clone(&peers) as _,
            caller: Some(Arc::clone(&peers) as _),
            machine: Arc::new(ThisMachine),
            topology: self.topology,
        });
        let background = node.start();
        Ok(Assembled { service: http::Service::new(node, peers), background })
    }
}

/// Serves a function until `stop`, then drains: unhealthy at once, still serving
/// for `healthcheck_interval`, then up to `write_timeout` for what runs.
pub async fn run(
    function: Function,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), ConfigError> {
    let listener = bind(SocketAddr::new(settings.address, settings.port)).await?;
    // Without a port nobody ever reads them: then nothing is counted.
    let metrics_server = match settings.metrics_port {
        0 => None,
        port => {
            let listener = bind(SocketAddr::new(settings.address, port)).await?;
            Some((listener, metrics::Exporter::install()))
        }
    };
    let assembly = Assembly {
        node: settings.node,
        function,
        store: settings.store,
        store_timeout: settings.store_timeout,
        window: settings.window,
        topology: Arc::new(settings.topology),
        keys: settings.keys,
    };
    let assembled = assembly.start().await?;
    let service = assembled.service.clone();
    let reload = tokio::spawn(reload::watch(service.clone(), settings.sources));
    let closing = CancellationToken::new();
    if let Some((listener, metrics)) = metrics_server {
        let closing = closing.clone();
        tokio::spawn(serve_router(listener, metrics.router(), closing));
    }
    let lock = LockFile::create();
    tracing::info!(
        address = ?listener.local_addr().ok(), node = %service.node().here(),
        function = %service.node().config().function, "serving"
    );
    let single = http::Single::new(service.clone(), settings.standalone);
    let answer = service_fn(move |request| {
        let single = single.clone();
        async move { Ok(single.serve(request).await) }
    });
    let server = tokio::spawn(serve_connections(listener, answer, closing.clone()));
    stop.cancelled().await;
    tracing::info!("leaving: unhealthy from now on, still serving for a while");
    service.leaving();
    reload.abort();
    drop(lock);
    tokio::time::sleep(settings.healthcheck_interval).await;
    closing.cancel();
    if tokio::time::timeout(settings.write_timeout, server).await.is_err() {
        tracing::warn!("requests that still run after write_timeout are broken off");
    }
    assembled.stop().await;
    Ok(())
}

/// Listens at `address`; the error says what to do when the port is taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ConfigError> {
    TcpListener::bind(address).await.map_err(|error| {
        ConfigError(format!(
            "cannot listen at {address} ({error}); stop what listens there or choose another port"
        ))
    })
}

/// Serves a router until `closing`, then finishes the requests that run.
pub async fn serve_router(listener: TcpListener, router: Router, closing: CancellationToken) {
    serve_connections(listener, TowerToHyperService::new(router), closing).await;
}

/// So long after the last connection was accepted none is closed: it may be on its way to
/// send its request, and a gateway does not send that to another one.
const FIRST_BYTES: Duration = Duration::from_millis(500);
/// So many connections may wait to be accepted (Tokio's default).
const BACKLOG: usize = 1024;

/// The same with any service: no layer is between a connection and what answers it.
async fn serve_connections<S>(listener: TcpListener, service: S, closing: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let (open, tasks) = (GracefulShutdown::new(), TaskTracker::new());
    let serve = |stream: TcpStream| {
        let _ = stream.set_nodelay(true);
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
        let connection = open.watch(connection);
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => serve(stream),
            // Of one connection, which is gone.
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again");
                let _ = tokio::time::timeout(Duration::from_secs(1), closing.cancelled()).await;
            }
        }
    }
    // Whom the system has let in by now thinks that he is connected.
    waiting(listener).into_iter().for_each(serve);
    tasks.close();
    if tokio::time::timeout(FIRST_BYTES, tasks.wait()).await.is_err() {
        open.shutdown().await;
    }
}

/// The connections that wait to be accepted; nobody else can connect from now on.
fn waiting(listener: TcpListener) -> Vec<TcpStream> {
    // Tokio may not have heard of them yet.
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, _) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    };
    std::iter::from_fn(accept).take(BACKLOG).collect()
}

fn is_connection_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// `/tmp/.lock` exists while the process is healthy, as of-watchdog has it.
struct LockFile(std::path::PathBuf);

impl LockFile {
    fn create() -> Option<Self> {
        let path = std::env::temp_dir().join(".lock");
        match std::fs::write(&path, b"") {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no lock file; probe /_/health");
                None
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn g5_who_is_connected_when_a_process_leaves_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = CancellationToken::new();
        let router = Router::new().route("/", post(async || "done"));
        let server = tokio::spawn(serve_router(listener, router, closing.clone()));
        let ask = async |stream: &mut TcpStream| {
            let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let mut accepted = TcpStream::connect(address).await.unwrap();
        let mut served = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut served).await.ends_with("done"));
        // Nobody has had the time to accept this one.
        let waits = std::net::TcpStream::connect(address).unwrap();
        closing.cancel();
        while TcpStream::connect(address).await.is_ok() {}
        // It takes its time to send.
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(ask(&mut accepted).await.ends_with("done"));
        waits.set_nonblocking(true).unwrap();
        let mut waits = TcpStream::from_std(waits).unwrap();
        assert!(ask(&mut waits).await.ends_with("done"));
        server.await.unwrap();
    }
}
