//! Keeps the leases of running handlers alive: one task for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::session::{LeaseId, SessionId};
use crate::store::SessionStore;

/// The leases that this process holds.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<BTreeMap<LeaseId, (SessionId, Instant)>>,
}

/// A lease is renewed until this is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    leases: Arc<Leases>,
    lease: LeaseId,
}

impl Leases {
    pub(super) fn keep(self: &Arc<Self>, session: &SessionId, lease: LeaseId) -> Kept {
        self.held.lock().insert(lease, (session.clone(), Instant::now()));
        Kept { leases: Arc::clone(self), lease }
    }

    /// Renews what was not renewed for a third of `ttl`, forever.
    pub(super) async fn renew_all(self: Arc<Self>, store: Arc<dyn SessionStore>, ttl: Duration) {
        let third = ttl / 3;
        loop {
            tokio::time::sleep(third / 2).await;
            let due: Vec<(LeaseId, SessionId)> = {
                let held = self.held.lock();
                let due = held.iter().filter(|(_, (_, renewed))| renewed.elapsed() >= third);
                due.map(|(lease, (session, _))| (*lease, session.clone())).collect()
            };
            let renewals = due.iter().map(|(lease, session)| store.renew(session, *lease, ttl));
            let results = futures_util::future::join_all(renewals).await;
            let mut held = self.held.lock();
            for ((lease, _), result) in due.iter().zip(results) {
                match result {
                    Ok(true) => {
                        if let Some((_, renewed)) = held.get_mut(lease) {
                            *renewed = Instant::now();
                        }
                    }
                    // Lost: the commit will say so.
                    Ok(false) => {
                        held.remove(lease);
                    }
                    // Tried again at the next turn.
                    Err(_) => {}
                }
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.leases.held.lock().remove(&self.lease);
    }
}
