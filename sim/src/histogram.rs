//! Times by how often they were seen, a sixteenth of an octave apart.

/// Steps within an octave.
const STEPS: u32 = 4;
/// The shortest time that is told apart: 2⁻¹⁴ s, a sixteenth of a millisecond.
const LEAST: f64 = 1.0 / 16_384.0;
/// Up to 2⁷ s.
const BUCKETS: usize = (21 << STEPS) + 1;

/// Times in seconds, weighted.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    weights: Box<[f64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { weights: Box::new([0.0; BUCKETS]) }
    }
}

impl Histogram {
    /// Counts `weight` requests that took `seconds`.
    pub fn add(&mut self, seconds: f64, weight: f64) {
        self.weights[bucket(seconds)] += weight;
    }

    /// Takes all of another one in.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.weights.iter_mut().zip(other.weights.iter()) {
            *mine += theirs;
        }
    }

    /// How much was counted.
    pub fn total(&self) -> f64 {
        self.weights.iter().sum()
    }

    /// The time that a share of all took at most, in seconds; `None` without any.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.total();
        if total <= 0.0 {
            return None;
        }
        let wanted = total * share;
        let mut below = 0.0;
        for (index, weight) in self.weights.iter().enumerate() {
            if *weight > 0.0 && below + weight >= wanted {
                let within = ((wanted - below) / weight).clamp(0.0, 1.0);
                return Some(edge(index) + (edge(index + 1) - edge(index)) * within);
            }
            below += weight;
        }
        Some(edge(BUCKETS))
    }
}

/// The exponent and the first bits of the fraction are the bucket's number.
fn bucket(seconds: f64) -> usize {
    let number = |value: f64| value.to_bits() >> (52 - STEPS);
    let above = number(seconds.max(LEAST)) - number(LEAST);
    usize::try_from(above).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// Where a bucket begins.
fn edge(index: usize) -> f64 {
    let first = LEAST.to_bits() >> (52 - STEPS);
    f64::from_bits((first + index as u64) << (52 - STEPS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_of_them_took_no_longer() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=1000 {
            histogram.add(f64::from(millis) / 1000.0, 2.0);
        }
        let within = |share, expected: f64| {
            let found = histogram.quantile(share).unwrap();
            assert!((found / expected - 1.0).abs() < 0.07, "{share}: {found}");
        };
        within(0.5, 0.5);
        within(0.99, 0.99);
        assert!((histogram.total() - 2000.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn a_time_is_within_its_bucket(seconds in 0.0001f64..100.0) {
            let index = bucket(seconds);
            prop_assert!(edge(index) <= seconds && seconds < edge(index + 1));
            prop_assert!(edge(index + 1) / edge(index) <= 1.0626);
        }
    }
}
