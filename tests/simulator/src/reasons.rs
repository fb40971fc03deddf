//! Why a request may have failed: what went wrong, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use funicular::session::SessionId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// After something went wrong, requests may fail for so long: whoever waits for an
/// answer does so for its own time, and then the nodes ask.
const AFTER: Duration = Duration::from_secs(8);

/// A session that clients name: a function's number and an id.
type Called = (usize, SessionId);
/// From and to.
type Time = (Duration, Duration);

/// What went wrong, and when.
#[derive(Debug)]
pub struct Reasons {
    began: Instant,
    times: Mutex<Vec<Time>>,
    /// When handlers called a session.
    calls: Mutex<BTreeMap<Called, Vec<Time>>>,
}

/// A handler's call goes on until this is dropped.
#[derive(Debug)]
pub struct Calling<'a> {
    reasons: &'a Reasons,
    called: Called,
    began: Duration,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let mut calls = self.reasons.calls.lock();
        let ended = self.reasons.began.elapsed();
        if let Some(times) = calls.get_mut(&self.called)
            && let Some(open) = times.iter_mut().find(|time| **time == (self.began, Duration::MAX))
        {
            open.1 = ended;
        }
    }
}

impl Reasons {
    /// Nothing went wrong yet.
    pub fn new() -> Self {
        Self { began: Instant::now(), times: Mutex::default(), calls: Mutex::default() }
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

    /// A handler calls a session.
    pub fn calling(&self, f: usize, id: &SessionId) -> Calling<'_> {
        let (called, began) = ((f, id.clone()), self.began.elapsed());
        let mut calls = self.calls.lock();
        calls.entry(called.clone()).or_default().push((began, Duration::MAX));
        drop(calls);
        Calling { reasons: self, called, began }
    }

    /// Whether two functions' sessions of an id called each other between `began` and
    /// `ended`: each holds its own turn and waits for the other's, and whoever is in line
    /// behind them waits as well.
    pub fn crossed(&self, id: &SessionId, began: Duration, ended: Duration) -> bool {
        let calls = self.calls.lock();
        let times = |f| calls.get(&(f, id.clone())).into_iter().flatten();
        times(0).any(|(from, to)| {
            times(1).any(|(other_from, other_to)| {
                let (from, to) = (*from.max(other_from), *to.min(other_to));
                from <= to && from <= ended && to >= began
            })
        })
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
