//! A Redis of one's own, on a unix socket, gone with whoever started it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// How a server syncs its append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Once a second, as Redis does by default.
    Everysec,
    /// With every write.
    Always,
}

impl Sync {
    /// As Redis calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    dir: TempDir,
}

impl Redis {
    /// Starts a server with an append-only file, and waits until it answers.
    pub(crate) async fn start(sync: Sync) -> Result<Self> {
        let program = std::env::var_os("FUNICULAR_REDIS_SERVER");
        let program = program.unwrap_or_else(|| "redis-server".into());
        let dir = tempfile::Builder::new().prefix("funicular-bench-").tempdir()?;
        let socket = dir.path().join("redis.sock");
        let child = Command::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "yes"])
            .args(["--maxmemory-policy", "noeviction", "--appendfsync", sync.as_str()])
            // A rewrite in the middle of a round would be measured with it.
            .args(["--auto-aof-rewrite-percentage", "0"])
            .args(["--logfile", "redis.log", "--daemonize", "no"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(
                "redis-server does not start: install it, or name one in FUNICULAR_REDIS_SERVER",
            )?;
        let this = Self { child, dir };
        let began = Instant::now();
        loop {
            if let Ok(mut connection) = this.connect().await
                && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return Ok(this);
            }
            if began.elapsed() > Duration::from_secs(10) {
                bail!("redis-server does not answer after 10 s");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.dir.path().join("redis.sock").display())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection.
    pub(crate) async fn connect(&self) -> Result<redis::aio::MultiplexedConnection> {
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection().await?)
    }

    /// What `INFO memory` says is used, in bytes.
    pub(crate) async fn used_memory(&self) -> Result<f64> {
        let mut connection = self.connect().await?;
        let text: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await?;
        let used = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.and_then(|digits| digits.trim().parse().ok()).context("INFO memory names no use")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
