//! Topology and secrets, read again when their files change: no restart.
//!
//! Files are read again every now and then, not watched: what Kubernetes mounts is
//! swapped by links, what an editor saves is another file, and some file systems tell
//! nobody. What does not read, or would leave a session behind, changes nothing; the
//! log and `status` say why.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

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
    let mut watcher = Watcher {
        service,
        sources,
        retry: Retry::default(),
        topology: Seen::default(),
        keys: Seen::default(),
    };
    loop {
        tokio::time::sleep(watcher.sources.every).await;
        watcher.look().await;
    }
}

struct Watcher {
    service: Service,
    sources: Sources,
    /// Not before then is a tree judged again that was refused: that is a look at every
    /// record of the node.
    retry: Retry,
    topology: Seen,
    keys: Seen,
}

/// The longest pause between two attempts, unless one takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// When what was refused is tried again: ever later, and never so often that a node does
/// little else.
#[derive(Debug, Default)]
struct Retry {
    attempts: u32,
    at: Option<Instant>,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now >= at)
    }

    /// An attempt was refused; one look at the file comes every `every`.
    fn refused(&mut self, every: Duration, began: Instant, now: Instant) {
        let doubled = every.saturating_mul(1 << self.attempts.min(16));
        let took = now.saturating_duration_since(began);
        let pause = doubled.min(LONGEST).max(took * 10);
        self.attempts += 1;
        self.at = Some(now + pause);
    }
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
        let same = self.topology.text.as_ref() == Some(&text);
        if same && (self.topology.complaint.is_none() || !self.retry.is_due(Instant::now())) {
            return;
        }
        if !same {
            self.retry = Retry::default();
        }
        let began = Instant::now();
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
            Err(why) => {
                self.retry.refused(self.sources.every, began, Instant::now());
                self.topology.complain("topology", why);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_tried_ever_later_and_costs_a_tenth_of_the_time_at_most() {
        let every = Duration::from_secs(2);
        let mut retry = Retry::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let now = Instant::now();
            assert!(retry.is_due(now));
            retry.refused(every, now, now);
            assert!(!retry.is_due(now));
            pauses.push(retry.at.unwrap().duration_since(now).as_secs());
            tokio::time::advance(retry.at.unwrap() - now).await;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(30)).await;
        retry.refused(every, began, Instant::now());
        assert!(!retry.is_due(Instant::now() + Duration::from_secs(299)));
        assert!(retry.is_due(Instant::now() + Duration::from_secs(300)));
    }
}
