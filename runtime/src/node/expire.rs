//! Idle sessions and old pointers end.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Failure, Node, Outcome};
use crate::protocol::Event;
use crate::session::{Millis, Record, SessionId};
use crate::store::Durability;

/// Sessions and pointers that one sweep looks at.
const A_SWEEP: usize = 1024;

/// Notices when the wall clock, from which stores tell how long a session was
/// idle, jumps.
struct Clocks {
    wall: SystemTime,
    steady: Instant,
    /// Sweeps pause until then.
    paused_until: Option<Instant>,
}

impl Clocks {
    fn new() -> Self {
        // The wall clock only decides whether to pause.
        Self { wall: SystemTime::now(), steady: Instant::now(), paused_until: None }
    }

    /// Whether the clocks agree. After a jump sweeps pause for `ttl`, so that
    /// every session in use is used once by the new clock.
    fn agree(&mut self, ttl: Duration) -> bool {
        let steady = self.steady.elapsed();
        let agrees = match self.wall.elapsed() {
            Ok(wall) => wall.abs_diff(steady) < Duration::from_secs(2),
            Err(_) => false,
        };
        if !agrees {
            tracing::warn!("the clock was changed: no session expires for {ttl:?}");
            *self = Self { paused_until: Some(Instant::now() + ttl), ..Self::new() };
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
        let mut clocks = Clocks::new();
        loop {
            tokio::time::sleep(every).await;
            if !clocks.agree(ttl.max(self.config.pointer_ttl)) {
                continue;
            }
            if let Err(failure) = self.sweep().await {
                tracing::debug!(node = %self.here(), %failure, "the sweep goes on later");
            }
        }
    }

    async fn sweep(&self) -> Outcome<()> {
        let now = self.store.now().await?;
        if !self.config.session_ttl.is_zero() {
            let unused_since = now.saturating_sub(millis(self.config.session_ttl));
            for resident in self.store.residents(None, A_SWEEP).await? {
                if resident.used > unused_since {
                    break;
                }
                self.expire(&resident.session, unused_since).await?;
            }
        }
        let before = now.saturating_sub(millis(self.config.pointer_ttl));
        for session in self.store.old_pointers(before, A_SWEEP).await? {
            if let Err(failure) = self.age_pointer(&session, before).await {
                tracing::debug!(node = %self.here(), %failure, "a pointer stays");
            }
        }
        Ok(())
    }

    async fn expire(&self, session: &SessionId, unused_since: Millis) -> Outcome<()> {
        crate::failpoint::reach("owner.expire").await;
        // Rule 3: expiry lets home forget, so it is durable before it is said.
        match self.step(session, &Event::Expire { unused_since }, Durability::Synced).await {
            Ok(_) => {}
            Err(Failure::Refused(_)) => return Ok(()),
            Err(failure) => return Err(failure),
        }
        crate::failpoint::reach("owner.expired").await;
        self.lines.changed(session);
        self.tell_home_now(session).await;
        Ok(())
    }

    /// A pointer away from home goes once home knows an epoch at least as new
    /// (rule 4); one at home is only looked at again later.
    async fn age_pointer(&self, session: &SessionId, before: Millis) -> Outcome<()> {
        let snapshot = self.snapshot(session).await?;
        let Some(Record::Moved { life, epoch, to, since }) = &snapshot.slot.record else {
            return Ok(());
        };
        if *since >= before {
            return Ok(());
        }
        let event = if life.home == *self.here() {
            Event::Refresh { life: life.clone(), epoch: *epoch, to: to.clone() }
        } else {
            self.update_home(session, life, *epoch, to, false).await?;
            Event::Age { epoch: *epoch, since: *since }
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
        let mut clocks = Clocks::new();
        assert!(clocks.agree(ttl));
        // Tokio's clock runs ahead, the wall clock does not.
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!clocks.agree(ttl));
        assert!(!clocks.agree(ttl));
        clocks.wall += Duration::from_secs(59);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!clocks.agree(ttl));
    }
}
