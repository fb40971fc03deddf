//! Several signals, one value.

use serde::{Deserialize, Serialize};

/// How a rule sees several signals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// The highest of those that are known; unknown if none is.
    #[default]
    Worst,
    /// The mean of those that are known; unknown if none is.
    Mean,
    /// The highest; unknown if any is.
    WorstOfAll,
}

impl Combine {
    /// One value of several, `None` being unknown.
    pub fn of(self, values: &[Option<f64>]) -> Option<f64> {
        let known: Vec<f64> = values.iter().copied().flatten().collect();
        if known.is_empty() || (self == Self::WorstOfAll && known.len() < values.len()) {
            return None;
        }
        Some(match self {
            Self::Worst | Self::WorstOfAll => known.into_iter().fold(f64::NEG_INFINITY, f64::max),
            #[expect(clippy::cast_precision_loss, reason = "a handful of signals")]
            Self::Mean => known.iter().sum::<f64>() / known.len() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_never_a_value() {
        let (a, b, unknown) = (Some(0.2), Some(0.8), None);
        for (rule, values, expected) in [
            (Combine::Worst, vec![a, b, unknown], Some(0.8)),
            (Combine::Worst, vec![a, unknown], Some(0.2)),
            (Combine::Worst, vec![unknown], None),
            (Combine::Worst, vec![], None),
            (Combine::Mean, vec![a, b, unknown], Some(0.5)),
            (Combine::Mean, vec![unknown, unknown], None),
            (Combine::WorstOfAll, vec![a, b], Some(0.8)),
            (Combine::WorstOfAll, vec![a, b, unknown], None),
            (Combine::WorstOfAll, vec![], None),
        ] {
            assert_eq!(rule.of(&values), expected, "{rule:?} {values:?}");
        }
    }
}
