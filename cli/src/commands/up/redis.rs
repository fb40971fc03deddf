//! One redis-server a node, on a socket of its own, for as long as `up` runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use funicular::session::NodeName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::exit::Failure;

/// How long a server may take to come up (it reads its file first).
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest name that a socket may have on every system.
const LONGEST_NAME: usize = 103;

/// The servers that run.
#[derive(Default)]
pub(super) struct Servers {
    running: BTreeMap<NodeName, (Child, PathBuf)>,
    /// Keeps others out of the directory for as long as this is there.
    lock: Option<File>,
}

impl Servers {
    /// Starts one a node, with its data below `dir`. Broken off, it leaves here what runs.
    pub(super) async fn start(
        &mut self,
        program: &Path,
        dir: &Path,
        nodes: impl Iterator<Item = &NodeName>,
    ) -> Result<()> {
        self.lock = Some(lock(dir)?);
        for node in nodes {
            let home = dir.join("redis").join(node.as_str());
            std::fs::create_dir_all(&home)
                .with_context(|| format!("{} cannot be created", home.display()))?;
            let home = home.canonicalize()?;
            end_orphan(node, &home.join("socket")).await?;
            let child = spawn(program, &home)?;
            self.running.insert(node.clone(), (child, home.join("socket")));
        }
        for (node, (child, socket)) in &mut self.running {
            comes_up(node, child, socket).await?;
        }
        Ok(())
    }

    /// The URL of each node's server.
    pub(super) fn urls(&self) -> BTreeMap<NodeName, String> {
        let url = |socket: &Path| format!("redis+unix://{}", socket.display());
        self.running.iter().map(|(node, (_, socket))| (node.clone(), url(socket))).collect()
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
        drop(self.lock);
    }
}

/// Two servers on the same files would spoil them: one `up` a directory.
fn lock(dir: &Path) -> Result<File> {
    let dir = dir.join("redis");
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("{} cannot be created", dir.display()))?;
    let lock = File::create(dir.join("lock"))?;
    lock.try_lock().map_err(|_| {
        Failure::Unavailable(format!(
            "another `funicular up` keeps its data in {}; stop it, or name another directory \
             with --dir",
            dir.display()
        ))
    })?;
    Ok(lock)
}

/// Ends a server that an `up` left behind when it was killed: with the lock held,
/// there is nobody else whose it could be.
async fn end_orphan(node: &NodeName, socket: &Path) -> Result<()> {
    if socket.as_os_str().len() > LONGEST_NAME {
        let why = format!("{} is too long for a socket; choose a shorter --dir", socket.display());
        return Err(Failure::Data(why).into());
    }
    let began = Instant::now();
    while let Ok(mut orphan) = UnixStream::connect(socket).await {
        let _ = orphan.write_all(b"SHUTDOWN NOSAVE\r\n").await;
        // It answers with the end of the connection, or not at all yet.
        let _ = tokio::time::timeout(Duration::from_millis(100), orphan.read(&mut [0; 64])).await;
        if began.elapsed() > PATIENCE {
            let why = format!(
                "a redis-server of {node} from before still runs at {}; stop it",
                socket.display()
            );
            return Err(Failure::Unavailable(why).into());
        }
    }
    Ok(())
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
        // Ctrl-C is for `up` alone: it ends its servers last.
        .process_group(0)
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
