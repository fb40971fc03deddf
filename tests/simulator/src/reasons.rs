//! Why a request may have failed: what went wrong, and when.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// After something went wrong, requests may fail for so long: whoever waits for an
/// answer does so for its own time, and then the nodes ask.
const AFTER: Duration = Duration::from_secs(8);

/// What went wrong, and when.
#[derive(Debug)]
pub struct Reasons {
    began: Instant,
    times: Mutex<Vec<(Duration, Duration)>>,
}

impl Reasons {
    /// Nothing went wrong yet.
    pub fn new() -> Self {
        Self { began: Instant::now(), times: Mutex::default() }
    }

    /// Something goes wrong right now.
    pub fn note(&self) {
        self.lasts(Duration::ZERO);
    }

    /// Something goes wrong for so long.
    pub fn lasts(&self, long: Duration) {
        let now = self.began.elapsed();
        let mut times = self.times.lock();
        match times.last_mut() {
            // Near enough: one time.
            Some((_, until)) if *until + AFTER / 8 >= now => *until = (*until).max(now + long),
            _ => times.push((now, now + long)),
        }
    }

    /// Whether a request that ran from `began` to `ended` had a reason to fail.
    pub fn explain(&self, began: Duration, ended: Duration) -> bool {
        let times = self.times.lock();
        times.iter().any(|(from, until)| *from <= ended && *until + AFTER >= began)
    }
}

impl Default for Reasons {
    fn default() -> Self {
        Self::new()
    }
}
