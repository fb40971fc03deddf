//! How much this node has had to do of late: how long requests waited and took, and which
//! sessions they were for. Two windows, one after the other: what is told covers the last
//! whole one and the one that runs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peers::messages::ActivityStatus;
use crate::session::SessionId;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(5);
/// Requests of so many sessions are told apart in a window.
const SESSIONS: usize = 4096;
/// So many arrivals are remembered, for this long.
const ARRIVALS: usize = 4096;
const REMEMBERED: Duration = Duration::from_secs(900);

/// Each octave in eighths of the same width, from 16 µs up to more than an hour.
const BUCKETS: usize = 224;
const FIRST: u64 = 16;

/// How often something took how long.
#[derive(Debug, Clone)]
struct Times {
    counts: [u32; BUCKETS],
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Times {
    fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(FIRST);
        // The octave, and which eighth of it.
        let octave = micros.ilog2();
        let eighth = (micros >> (octave - 3)) & 7;
        let bucket = (octave - FIRST.ilog2()) as usize * 8 + eighth as usize;
        let bucket = bucket.min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
    }

    /// The upper bound of the bucket that a share of all is in, in microseconds; `None`
    /// if there was nothing.
    fn quantile(windows: [&Self; 2], per_mille: u64) -> Option<u64> {
        let count =
            |bucket: usize| windows.iter().map(|w| u64::from(w.counts[bucket])).sum::<u64>();
        let all: u64 = (0..BUCKETS).map(count).sum();
        let wanted = (all * per_mille).div_ceil(1000);
        let mut seen = 0;
        for bucket in 0..BUCKETS {
            seen += count(bucket);
            if seen >= wanted && all > 0 {
                let (octave, eighth) = (bucket / 8, bucket as u64 % 8);
                return Some((FIRST << octave) / 8 * (9 + eighth));
            }
        }
        None
    }
}

#[derive(Debug, Default)]
struct Window {
    waited: Times,
    took: Times,
    requests: u64,
    sessions: HashMap<SessionId, u32>,
}

#[derive(Debug)]
struct Windows {
    began: Instant,
    now: Window,
    before: Window,
    /// How long the window before was.
    length_before: Duration,
    arrived: BTreeMap<SessionId, Instant>,
}

/// What this node has had to do of late.
#[derive(Debug)]
pub(super) struct Activity(Mutex<Windows>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Windows {
            began: Instant::now(),
            now: Window::default(),
            before: Window::default(),
            length_before: Duration::ZERO,
            arrived: BTreeMap::new(),
        }))
    }

    /// A request of a session, which came at `came`, is answered here and now.
    pub(super) fn answered(
        &self,
        session: &SessionId,
        waited: Duration,
        came: Instant,
        now: Instant,
    ) {
        let took = now.duration_since(came);
        let mut windows = self.0.lock();
        windows.turn(now);
        let window = &mut windows.now;
        window.requests += 1;
        window.waited.note(waited);
        window.took.note(took);
        let room = window.sessions.len() < SESSIONS;
        match window.sessions.get_mut(session) {
            Some(count) => *count = count.saturating_add(1),
            None if room => drop(window.sessions.insert(session.clone(), 1)),
            None => {}
        }
    }

    /// A session came here by a move.
    pub(super) fn arrived(&self, session: &SessionId) {
        let (mut windows, now) = (self.0.lock(), Instant::now());
        let arrived = &mut windows.arrived;
        if arrived.len() >= ARRIVALS {
            arrived.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        }
        if arrived.len() < ARRIVALS || arrived.contains_key(session) {
            arrived.insert(session.clone(), now);
        }
    }

    /// How long ago a session came here, if it was of late.
    pub(super) fn since_arrival(&self, session: &SessionId) -> Option<Duration> {
        let since = self.0.lock().arrived.get(session)?.elapsed();
        (since < REMEMBERED).then_some(since)
    }

    /// Requests of a session of late; `None` if there were too many sessions to tell.
    pub(super) fn requests(&self, session: &SessionId) -> Option<u64> {
        let mut windows = self.0.lock();
        windows.turn(Instant::now());
        let of = |window: &Window| match window.sessions.get(session) {
            Some(count) => Some(u64::from(*count)),
            None => (window.sessions.len() < SESSIONS).then_some(0),
        };
        Some(of(&windows.now)? + of(&windows.before)?)
    }

    /// The sessions with the most requests of late, the first with the most.
    pub(super) fn hottest(&self, most: usize) -> Vec<SessionId> {
        let mut counts: BTreeMap<SessionId, u64> = BTreeMap::new();
        {
            let mut windows = self.0.lock();
            windows.turn(Instant::now());
            for window in [&windows.now, &windows.before] {
                for (session, count) in &window.sessions {
                    *counts.entry(session.clone()).or_default() += u64::from(*count);
                }
            }
        }
        let mut all: Vec<_> = counts.into_iter().collect();
        all.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        all.truncate(most);
        all.into_iter().map(|(session, _)| session).collect()
    }

    /// All of it, for `/_/status`.
    pub(super) fn status(&self) -> ActivityStatus {
        let mut windows = self.0.lock();
        let now = Instant::now();
        windows.turn(now);
        let both = [&windows.now, &windows.before];
        let waited = both.map(|window| &window.waited);
        let took = both.map(|window| &window.took);
        let length = windows.length_before + now.duration_since(windows.began);
        ActivityStatus {
            window_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
            requests: both.iter().map(|window| window.requests).sum(),
            queue_wait_p50_us: Times::quantile(waited, 500),
            queue_wait_p99_us: Times::quantile(waited, 990),
            latency_p50_us: Times::quantile(took, 500),
            latency_p99_us: Times::quantile(took, 990),
        }
    }
}

impl Windows {
    /// Begins a new window when one is over.
    fn turn(&mut self, now: Instant) {
        let passed = now.duration_since(self.began);
        if passed < WINDOW {
            return;
        }
        let ended = std::mem::take(&mut self.now);
        self.before = if passed < 2 * WINDOW { ended } else { Window::default() };
        self.length_before = passed.min(2 * WINDOW);
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SessionId {
        SessionId::new(name).unwrap()
    }

    fn answered(activity: &Activity, name: &str, took: Duration) {
        let now = Instant::now();
        activity.answered(&id(name), Duration::ZERO, now - took, now);
    }

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_right_within_a_quarter_of_an_octave() {
        let activity = Activity::new();
        for millis in 1..=100 {
            answered(&activity, "a", Duration::from_millis(millis));
        }
        let status = activity.status();
        assert_eq!(status.requests, 100);
        let near = |us: Option<u64>, millis: u64| {
            let us = us.unwrap();
            us >= millis * 1000 && us <= millis * 1200
        };
        assert!(near(status.latency_p50_us, 50), "{status:?}");
        assert!(near(status.latency_p99_us, 99), "{status:?}");
        assert!(status.queue_wait_p99_us.unwrap() < 20, "{status:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_long_ago_is_forgotten() {
        let activity = Activity::new();
        answered(&activity, "a", Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(activity.status().requests, 1);
        assert_eq!(activity.requests(&id("a")), Some(1));
        tokio::time::advance(Duration::from_secs(11)).await;
        let status = activity.status();
        assert_eq!((status.requests, status.latency_p99_us), (0, None));
        assert_eq!(activity.requests(&id("a")), Some(0));
        assert!(activity.hottest(9).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_hottest_come_first_and_what_cannot_be_told_is_not_zero() {
        let activity = Activity::new();
        let long = Duration::from_millis(9);
        for name in ["b", "a", "b", "c", "b", "a"] {
            answered(&activity, name, long);
        }
        assert_eq!(activity.hottest(2), [id("b"), id("a")]);
        for index in 0..SESSIONS {
            answered(&activity, &format!("s{index}"), long);
        }
        assert_eq!(activity.requests(&id("b")), Some(3));
        assert_eq!(activity.requests(&id("another")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_arrival_is_remembered_for_a_while() {
        let activity = Activity::new();
        activity.arrived(&id("a"));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(activity.since_arrival(&id("a")), Some(Duration::from_secs(10)));
        assert_eq!(activity.since_arrival(&id("b")), None);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(activity.since_arrival(&id("a")), None);
    }
}
