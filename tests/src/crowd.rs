//! Clients who keep a node busy, and may not see anything of what is done about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::Method;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::reach::Reach;
use crate::tree::until;

/// Clients with a session each that never pause.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Crowd {
    /// Lets so many come to a node; each posts to `path` again and again.
    pub fn start(tree: &dyn Reach, node: &str, clients: usize, path: &'static str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let base = Client::new(tree.gateway(node), "nobody");
        let clients = (0..clients).map(|index| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let mut client = base.session(&format!("session-{index}"));
            tokio::spawn(async move {
                let mut odd = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let sent = client.try_send(Method::POST, path, "x".into(), &[]).await;
                    match sent {
                        Ok(answer) if answer.status == 200 => {
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        other => odd.push(format!("{other:?}")),
                    }
                }
                odd
            })
        });
        let clients = clients.collect();
        Self { stop, answered, clients }
    }

    /// Waits until so many more requests were answered.
    pub async fn goes_on(&self, requests: usize) {
        let until_then = self.answered.load(Ordering::SeqCst) + requests;
        until("requests are answered", async || self.answered.load(Ordering::SeqCst) >= until_then)
            .await;
    }

    /// How many requests were answered.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Ends it; no client may have seen an error. Says how many requests were answered.
    pub async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            let odd = client.await.expect("no client panics");
            assert!(odd.is_empty(), "{odd:?}");
        }
        self.answered.load(Ordering::SeqCst)
    }
}
