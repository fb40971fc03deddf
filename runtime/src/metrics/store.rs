//! The way to Redis.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::labels;
use crate::store::{StoreError, StoreScope};

/// Counts what a store asks of its server. The default counts nothing.
#[derive(Debug, Clone, Default)]
pub struct StoreMeter(Option<Handles>);

#[derive(Debug, Clone)]
struct Handles {
    took: Histogram,
    away: Counter,
    restarted: Counter,
    full: Counter,
    corrupt: Counter,
}

impl StoreMeter {
    pub(crate) fn new(scope: &StoreScope) -> Self {
        let labels = labels(&scope.here, &scope.function);
        let failures = |kind: &str| {
            let mut labels = labels.clone();
            labels.push(("kind", kind.to_owned()));
            counter!("funicular_store_failures_total", &labels)
        };
        Self(Some(Handles {
            took: histogram!("funicular_store_seconds", &labels),
            away: failures("unavailable"),
            restarted: failures("restarted"),
            full: failures("full"),
            corrupt: failures("corrupt"),
        }))
    }

    /// A round trip has ended.
    pub(crate) fn ended<T>(&self, took: Duration, outcome: &Result<T, StoreError>) {
        match (outcome, &self.0) {
            (Ok(_), Some(handles)) => handles.took.record(took.as_secs_f64()),
            (Ok(_), None) => {}
            (Err(error), _) => self.failed(error),
        }
    }

    /// Something failed: a round trip, or a command within one.
    pub(crate) fn failed(&self, error: &StoreError) {
        let Some(handles) = &self.0 else { return };
        match error {
            StoreError::Unavailable(_) => handles.away.increment(1),
            StoreError::Restarted => handles.restarted.increment(1),
            StoreError::Full => handles.full.increment(1),
            StoreError::Corrupt(_) => handles.corrupt.increment(1),
        }
    }
}
