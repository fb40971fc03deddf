//! One redis-server a node, on a socket of its own, for as long as `up` runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use funicular::session::NodeName;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::exit::Failure;

/// How long a server may take to come up (it reads its file first).
const PATIENCE: Duration = Duration::from_secs(20);

/// The servers that run.
#[derive(Default)]
pub(super) struct Servers {
    running: BTreeMap<NodeName, (Child, PathBuf)>,
}

impl Servers {
    /// Starts one a node, with its data below `dir`.
    pub(super) async fn start(
        program: &Path,
        dir: &Path,
        nodes: impl Iterator<Item = &NodeName>,
    ) -> Result<Self> {
        let mut servers = Self::default();
        for node in nodes {
            let home = dir.join("redis").join(node.as_str());
            std::fs::create_dir_all(&home)
                .with_context(|| format!("{} cannot be created", home.display()))?;
            let home = home.canonicalize()?;
            let child = spawn(program, &home)?;
            servers.running.insert(node.clone(), (child, home.join("socket")));
        }
        for (node, (child, socket)) in &mut servers.running {
            comes_up(node, child, socket).await?;
        }
        Ok(servers)
    }

    /// The URL of a node's server, if there is one.
    pub(super) fn url(&self, node: &NodeName) -> Option<String> {
        let (_, socket) = self.running.get(node)?;
        Some(format!("redis+unix://{}", socket.display()))
    }

    /// Ends them, with their files complete.
    pub(super) async fn stop(self) {
        let mut ending = Vec::new();
        for (_, (mut child, _)) in self.running {
            if let Some(id) = child.id() {
                let _ = Command::new("kill").arg(id.to_string()).status().await;
            }
            ending.push(tokio::spawn(async move {
                if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
            }));
        }
        for end in ending {
            let _ = end.await;
        }
    }
}

fn spawn(program: &Path, home: &Path) -> Result<Child> {
    let socket = home.join("socket");
    Command::new(program)
        .args(["--port", "0", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(home)
        .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .args(["--maxmemory-policy", "noeviction", "--daemonize", "no"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::Unavailable(format!(
                "{} cannot be run ({error}); install Redis 7 or newer, name it with \
                 --redis-server, or use --store memory",
                program.display()
            ))
            .into()
        })
}

async fn comes_up(node: &NodeName, child: &mut Child, socket: &Path) -> Result<()> {
    let began = Instant::now();
    loop {
        if UnixStream::connect(socket).await.is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            let why = format!(
                "the redis-server of {node} ended with {status}; is it Redis 7 or newer, and is \
                 its directory {} its own?",
                socket.parent().unwrap_or(socket).display()
            );
            return Err(Failure::Unavailable(why).into());
        }
        if began.elapsed() > PATIENCE {
            let why = format!("the redis-server of {node} does not come up in {PATIENCE:?}");
            return Err(Failure::Unavailable(why).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
