//! What a node takes from the machine under it: chance and the time of day.
//!
//! The steady clock is tokio's, which a test can stop. With that, a node does the
//! same thing twice if it is given the same [`Machine`], stores and peers twice: a
//! simulation can be replayed.

use std::time::{Duration, SystemTime};

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use tokio::time::Instant;

/// Chance and the time of day.
pub trait Machine: Send + Sync + 'static {
    /// 128 bits that nobody guesses and that never come twice: for incarnations,
    /// nonces, leases and ids, and to spread repeats.
    fn random(&self) -> u128;

    /// What the wall clock says; it may be set. Only expiry looks at it, to notice
    /// just that.
    fn wall_clock(&self) -> SystemTime;
}

/// The machine that this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn random(&self) -> u128 {
        rand::random()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The low half of what the machine draws, to seed what wants no more.
pub(super) fn seed(machine: &dyn Machine) -> u64 {
    u64::try_from(machine.random() & u128::from(u64::MAX)).unwrap_or_default()
}

/// How fast sessions may be created.
pub(super) type Rate = RateLimiter<NotKeyed, InMemoryState, Steady, NoOpMiddleware<Duration>>;

/// Tokio's clock for the rate of creations, counted from when it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steady(Instant);

impl Steady {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Steady {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
