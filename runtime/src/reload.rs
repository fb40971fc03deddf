//! Topology and secrets, read again when their files change: no restart.
//!
//! Files are read again every now and then, not watched: what Kubernetes mounts is
//! swapped by links, what an editor saves is another file, and some file systems tell
//! nobody. What does not read, or would leave a session behind, changes nothing; the
//! log and `status` say why.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::http::Service;
use crate::http::signature::Keys;
use crate::topology::Topology;

/// Where a process reads its topology and its secrets.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The topology's file; none if its text was given.
    pub topology: Option<PathBuf>,
    /// The directory of the secrets.
    pub secrets: PathBuf,
    /// How long between two looks; zero is never.
    pub every: Duration,
}

/// Looks again and again, for as long as it is polled.
pub async fn watch(service: Service, sources: Sources) {
    if sources.every.is_zero() {
        return;
    }
    let mut watcher =
        Watcher { service, sources, topology: Seen::default(), keys: Seen::default() };
    loop {
        tokio::time::sleep(watcher.sources.every).await;
        watcher.look().await;
    }
}

struct Watcher {
    service: Service,
    sources: Sources,
    topology: Seen,
    keys: Seen,
}

/// What was said last of a source, so that it is said once.
#[derive(Default)]
struct Seen {
    text: Option<String>,
    complaint: Option<String>,
}

impl Seen {
    /// Logs a complaint that is new.
    fn complain(&mut self, what: &str, why: String) {
        if self.complaint.as_ref() != Some(&why) {
            tracing::warn!("the new {what} changes nothing: {why}");
            self.complaint = Some(why);
        }
    }
}

impl Watcher {
    async fn look(&mut self) {
        self.look_at_secrets();
        if let Some(path) = self.sources.topology.clone() {
            match tokio::fs::read_to_string(&path).await {
                Ok(text) => self.look_at_topology(text).await,
                // The node goes on with what it has.
                Err(error) => {
                    let why = format!("{} cannot be read: {error}", path.display());
                    self.service.node().topology_unreadable(why.clone());
                    self.topology.complain("topology", why);
                }
            }
        }
    }

    async fn look_at_topology(&mut self, text: String) {
        // What was refused is tried again: sessions come and go.
        if self.topology.complaint.is_none() && self.topology.text.as_ref() == Some(&text) {
            return;
        }
        let outcome = match Topology::parse(&text) {
            Ok(topology) => self.service.set_topology(Arc::new(topology)).await,
            Err(faults) => {
                let why = faults.to_string().replace('\n', "; ");
                self.service.node().topology_unreadable(why.clone());
                Err(why)
            }
        };
        self.topology.text = Some(text);
        match outcome {
            Err(why) => self.topology.complain("topology", why),
            Ok(changed) => {
                self.topology.complaint = None;
                if changed {
                    let status = self.service.node().topology();
                    tracing::info!(
                        nodes = status.nodes().count(),
                        digest = status.digest(),
                        "the topology has changed"
                    );
                }
            }
        }
    }

    fn look_at_secrets(&mut self) {
        // Three small files, most likely in memory.
        match Keys::from_dir(&self.sources.secrets) {
            Ok(keys) if keys.peer.is_none() => {
                self.keys.complain("secrets", "there is no session-peer-key any more".to_owned());
            }
            Ok(keys) => {
                self.keys.complaint = None;
                if self.service.set_keys(keys) {
                    tracing::info!("the secrets have changed");
                }
            }
            Err(error) => self.keys.complain("secrets", error.to_string()),
        }
    }
}
