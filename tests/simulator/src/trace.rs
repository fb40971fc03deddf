//! What happened, step by step: as a hash, so that two runs can be compared; as lines
//! when somebody wants to look.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// More steps than any run takes: it goes round in circles.
const ENDLESS: u64 = 5_000_000;

/// What a run did wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The step at which it was noticed.
    pub step: u64,
    /// Virtual time since the beginning.
    pub at: Duration,
    /// One sentence.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}, {:?}: {}", self.step, self.at, self.what)
    }
}

#[derive(Default)]
struct State {
    steps: u64,
    hash: DefaultHasher,
    faults: Vec<Fault>,
}

/// The steps of one run.
pub struct Trace {
    began: Instant,
    prints: bool,
    state: Mutex<State>,
    /// The first fault was found: nothing after it means anything.
    pub failed: Notify,
}

impl Trace {
    /// Nothing happened yet. `prints` says whether steps are printed.
    pub fn new(prints: bool) -> Self {
        Self { began: Instant::now(), prints, state: Mutex::default(), failed: Notify::new() }
    }

    /// Virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Something happened; `what` counts towards the hash.
    pub fn step(&self, what: impl Hash, say: impl FnOnce() -> String) {
        let at = self.elapsed();
        let mut state = self.state.lock();
        state.steps += 1;
        (at, what).hash(&mut state.hash);
        if self.prints {
            println!("{:>7} {:>9.3}s  {}", state.steps, at.as_secs_f64(), say());
        }
        let endless = state.steps == ENDLESS;
        drop(state);
        if endless {
            self.fault("the run does not end".to_owned());
        }
    }

    /// A fault was found.
    pub fn fault(&self, what: String) {
        let at = self.elapsed();
        let mut state = self.state.lock();
        let step = state.steps;
        if self.prints {
            println!("{step:>7} {:>9.3}s  FAULT {what}", at.as_secs_f64());
        }
        state.faults.push(Fault { step, at, what });
        drop(state);
        self.failed.notify_one();
    }

    /// What was found so far.
    pub fn faults(&self) -> Vec<Fault> {
        self.state.lock().faults.clone()
    }

    /// How many steps there were, and their hash.
    pub fn sum(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.steps, state.hash.finish())
    }
}
