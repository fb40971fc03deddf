//! The last known value of each signal.

use std::collections::BTreeMap;

use funicular::session::{FunctionName, Millis};
use serde::{Deserialize, Serialize};

use super::{Sample, SignalName, Smoothing};

/// What a signal is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The smoothed value.
    pub value: f64,
    /// The last value that its source gave.
    pub last: f64,
    /// When it gave it, on the caller's clock.
    pub at: Millis,
}

/// All signals of a node. Time comes in with every call and never runs backwards.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Board {
    smoothing: Smoothing,
    /// The node's own first, then those of functions.
    known: BTreeMap<(Option<FunctionName>, SignalName), Known>,
}

impl Board {
    /// An empty board.
    pub fn new(smoothing: Smoothing) -> Self {
        Self { smoothing, known: BTreeMap::new() }
    }

    /// Takes what a source said. What is no number is as good as nothing said.
    pub fn take(&mut self, now: Millis, samples: &[Sample]) {
        for sample in samples.iter().filter(|sample| sample.value.is_finite()) {
            let key = (sample.function.clone(), sample.signal.clone());
            let before = self.known.get(&key).copied();
            let before = before.filter(|known| self.is_fresh(known, now));
            let value = before.map_or(sample.value, |before| {
                let weight = self.weight(now.saturating_sub(before.at));
                before.value + (sample.value - before.value) * weight
            });
            self.known.insert(key, Known { value, last: sample.value, at: now });
        }
    }

    /// How much a new value counts after `passed` milliseconds: 1 − e^(−t/τ).
    fn weight(&self, passed: Millis) -> f64 {
        if self.smoothing.time_constant == 0 {
            return 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a few minutes")]
        let times = passed as f64 / self.smoothing.time_constant as f64;
        1.0 - (-times).exp()
    }

    fn is_fresh(&self, known: &Known, now: Millis) -> bool {
        now.saturating_sub(known.at) <= self.smoothing.stale_after
    }

    /// A signal as a function sees it: its own, or else the node's. `None`: unknown.
    pub fn get(&self, function: &FunctionName, signal: &SignalName, now: Millis) -> Option<Known> {
        let of = |function| self.known.get(&(function, signal.clone())).copied();
        let own = of(Some(function.clone())).filter(|known| self.is_fresh(known, now));
        own.or_else(|| of(None)).filter(|known| self.is_fresh(known, now))
    }

    /// Whether a function has such a signal of its own.
    pub fn is_own(&self, function: &FunctionName, signal: &SignalName, now: Millis) -> bool {
        let own = self.known.get(&(Some(function.clone()), signal.clone()));
        own.is_some_and(|known| self.is_fresh(known, now))
    }

    /// Everything that was ever heard, with whether it is still known.
    pub fn all(
        &self,
        now: Millis,
    ) -> impl Iterator<Item = (Option<&FunctionName>, &SignalName, Known, bool)> {
        self.known.iter().map(move |((function, signal), known)| {
            (function.as_ref(), signal, *known, self.is_fresh(known, now))
        })
    }

    /// Forgets what is unknown for a while, so that functions that were removed go.
    pub fn forget_old(&mut self, now: Millis) {
        let limit = self.smoothing.stale_after.saturating_mul(10);
        self.known.retain(|_, known| now.saturating_sub(known.at) <= limit);
    }

    /// By how much an effect from `passed` milliseconds ago is still to come in a
    /// smoothed signal: 1 at once, 0 long after.
    pub fn to_come(&self, passed: Millis) -> f64 {
        1.0 - self.weight(passed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cart() -> FunctionName {
        FunctionName::new("cart").unwrap()
    }

    fn cpu() -> SignalName {
        SignalName::new("cpu").unwrap()
    }

    fn board() -> Board {
        Board::new(Smoothing { time_constant: 10_000, stale_after: 15_000 })
    }

    #[test]
    fn a_value_counts_for_two_thirds_after_the_time_constant() {
        let mut board = board();
        board.take(0, &[Sample::of_node(&cpu(), 0.0)]);
        board.take(10_000, &[Sample::of_node(&cpu(), 1.0)]);
        let known = board.get(&cart(), &cpu(), 10_000).unwrap();
        assert!((known.value - 0.632).abs() < 0.001, "{known:?}");
        assert!((known.last - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_silent_source_is_unknown_and_begins_anew() {
        let mut board = board();
        board.take(0, &[Sample::of_node(&cpu(), 0.9)]);
        assert!(board.get(&cart(), &cpu(), 15_000).is_some());
        assert_eq!(board.get(&cart(), &cpu(), 15_001), None);
        board.take(20_000, &[Sample::of_node(&cpu(), 0.1)]);
        assert!((board.get(&cart(), &cpu(), 20_000).unwrap().value - 0.1).abs() < f64::EPSILON);
        board.forget_old(400_000);
        assert_eq!(board.all(400_000).count(), 0);
    }

    #[test]
    fn a_functions_own_signal_goes_before_the_nodes() {
        let mut board = board();
        board.take(0, &[Sample::of_node(&cpu(), 0.9), Sample::of(&cart(), &cpu(), 0.2)]);
        assert!((board.get(&cart(), &cpu(), 0).unwrap().value - 0.2).abs() < f64::EPSILON);
        let other = FunctionName::new("cdn").unwrap();
        assert!((board.get(&other, &cpu(), 0).unwrap().value - 0.9).abs() < f64::EPSILON);
        // The function's own is silent: the node's counts again.
        board.take(16_000, &[Sample::of_node(&cpu(), 0.9)]);
        assert!(board.get(&cart(), &cpu(), 16_000).unwrap().value > 0.8);
    }

    #[test]
    fn what_is_no_number_was_not_said() {
        let mut board = board();
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        board.take(0, &bad.map(|value| Sample::of_node(&cpu(), value)));
        assert_eq!(board.get(&cart(), &cpu(), 0), None);
    }

    proptest! {
        /// However samples come, the smoothed value stays between the lowest and the
        /// highest of them, and the way they were cut up in time does not matter much.
        #[test]
        fn smoothing_stays_within_what_was_said(
            samples in proptest::collection::vec((0u64..5_000, 0.0f64..1.0), 1..60),
        ) {
            let mut board = board();
            let (mut now, mut low, mut high) = (0, f64::MAX, f64::MIN);
            for (step, value) in samples {
                now += step;
                (low, high) = (low.min(value), high.max(value));
                board.take(now, &[Sample::of_node(&cpu(), value)]);
                let known = board.get(&cart(), &cpu(), now).unwrap();
                prop_assert!(known.value >= low - 1e-9 && known.value <= high + 1e-9);
            }
        }
    }
}
