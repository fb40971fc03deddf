//! Idle sessions and old pointers end.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::Instant;

use super::{Failure, Node, Outcome};
use crate::protocol::Event;
use crate::session::{Millis, Record, SessionId};
use crate::store::Durability;

/// Sessions and pointers that one sweep looks at.
const A_SWEEP: usize = 1024;
/// Pointers that are looked at together.
const AT_ONCE: usize = 16;

/// Notices when the wall clock, from which stores tell how long a session was
/// idle, jumps.
struct Clocks {
    wall: SystemTime,
    store: Millis,
    steady: Instant,
    /// Sweeps pause until then.
    paused_until: Option<Instant>,
}

impl Clocks {
    fn new(wall: SystemTime, store: Millis) -> Self {
        Self { wall, store, steady: Instant::now(), paused_until: None }
    }

    /// Whether the clocks agree. After a jump sweeps pause for `ttl`, so that
    /// every session in use is used once by the new clock.
    fn agree(&mut self, ttl: Duration, wall: SystemTime, store: Millis) -> bool {
        let steady = self.steady.elapsed();
        let near = |passed: Duration| passed.abs_diff(steady) < Duration::from_secs(2);
        // The store may be on another machine: its clock is the one that counts.
        let of_store = store.checked_sub(self.store).map(Duration::from_millis);
        let agrees = wall.duration_since(self.wall).is_ok_and(near) && of_store.is_some_and(near);
        if !agrees {
            tracing::warn!("a clock was changed: no session expires for {ttl:?}");
            *self = Self { paused_until: Some(Instant::now() + ttl), ..Self::new(wall, store) };
        }
        self.paused_until.is_none_or(|until| Instant::now() >= until)
    }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Node {
    pub(super) async fn expire_forever(self) {
        let ttl = self.config.session_ttl;
        let shortest = if ttl.is_zero() { self.config.pointer_ttl } else { ttl };
        let every = (shortest.min(self.config.pointer_ttl) / 10)
            .clamp(Duration::from_millis(50), Duration::from_secs(60));
        let mut clocks: Option<Clocks> = None;
        loop {
            tokio::time::sleep(every).await;
            let Ok(now) = self.store.now().await else { continue };
            if self.is_restoring() {
                continue;
            }
            // The wall clock only decides whether to pause.
            let wall = self.machine.wall_clock();
            let clocks = clocks.get_or_insert_with(|| Clocks::new(wall, now));
            if !clocks.agree(ttl.max(self.config.pointer_ttl), wall, now) {
                continue;
            }
            if let Err(failure) = self.sweep(now).await {
                tracing::debug!(
                    node = %self.here(), function = %self.config.function, %failure,
                    "the sweep goes on later"
                );
            }
        }
    }

    async fn sweep(&self, now: Millis) -> Outcome<()> {
        if !self.config.session_ttl.is_zero() {
            let unused_since = now.saturating_sub(millis(self.config.session_ttl));
            self.sweep_sessions(unused_since).await?;
        }
        let before = now.saturating_sub(millis(self.config.pointer_ttl));
        let old = self.store.old_pointers(before, A_SWEEP).await?;
        futures_util::stream::iter(old)
            .for_each_concurrent(AT_ONCE, |session| async move {
                if let Err(failure) = self.age_pointer(&session, before).await {
                    tracing::debug!(
                        node = %self.here(), function = %self.config.function,
                        session = session.log_hash(), %failure, "a pointer stays"
                    );
                }
            })
            .await;
        Ok(())
    }

    async fn sweep_sessions(&self, unused_since: Millis) -> Outcome<()> {
        // Sessions that may not go yet stay at the head of the list: pass them.
        let mut stay = 0;
        loop {
            let limit = stay + A_SWEEP;
            let found = self.store.residents(None, limit).await?;
            let all = found.len() < limit;
            for resident in found.into_iter().skip(stay) {
                if resident.used > unused_since {
                    return Ok(());
                }
                if !self.expire(&resident.session, unused_since).await? {
                    stay += 1;
                }
            }
            if all {
                return Ok(());
            }
        }
    }

    /// Ends a session unless it may not go yet.
    async fn expire(&self, session: &SessionId, unused_since: Millis) -> Outcome<bool> {
        crate::failpoint::reach("owner.expire").await;
        // Rule 3: expiry lets home forget, so it is durable before it is said.
        match self.step(session, &Event::Expire { unused_since }, Durability::Synced).await {
            Ok(_) => {}
            Err(Failure::Refused(_)) => return Ok(false),
            Err(failure) => return Err(failure),
        }
        crate::failpoint::reach("owner.expired").await;
        self.lines.changed(session);
        let (node, session) = (self.clone(), session.clone());
        self.later(async move { node.tell_home_now(&session).await });
        Ok(true)
    }

    /// A pointer away from home goes once home knows an epoch at least as new
    /// (rule 4). One at home is confirmed where it leads: it goes only if that node
    /// knows nothing of the session any more, which an owner forgets last.
    pub(super) async fn age_pointer(&self, session: &SessionId, before: Millis) -> Outcome<()> {
        let snapshot = self.snapshot(session).await?;
        let Some(Record::Moved { life, epoch, to, since }) = &snapshot.slot.record else {
            return Ok(());
        };
        if *since >= before {
            return Ok(());
        }
        let (life, epoch) = (life.clone(), *epoch);
        let event = if life.home == *self.here() {
            self.pass_over(to)?;
            match self.ask_whereabouts(to, session).await? {
                Some(_) => Event::Refresh { life, epoch, to: to.clone() },
                None => Event::HomeExpired { life, epoch },
            }
        } else {
            self.update_home(session, &life, epoch, to, false).await?;
            Event::Age { epoch, since: *since }
        };
        self.step(session, &event, Durability::Eventual).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sweeps_pause_when_the_wall_clock_jumps() {
        let ttl = Duration::from_secs(60);
        let wall = SystemTime::now();
        let mut clocks = Clocks::new(wall, 1000);
        assert!(clocks.agree(ttl, wall, 1000));
        // Tokio's clock runs ahead, the wall clock does not.
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!clocks.agree(ttl, wall, 11_000));
        assert!(!clocks.agree(ttl, wall, 11_000), "it pauses for as long as a session lives");
        let mut clocks = Clocks::new(wall, 1000);
        assert!(!clocks.agree(ttl, wall, 25 * 3_600_000), "the store's clock jumped");
        let mut clocks = Clocks::new(wall, 1000);
        assert!(!clocks.agree(ttl, wall, 0), "or was set back");
    }
}
