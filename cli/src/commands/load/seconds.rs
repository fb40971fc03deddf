//! What came of requests, counted: how many, how long they took, what was wrong.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::json;

use super::clients::{Answered, Outcome};

/// Over the lines of people.
pub(super) const HEAD: &str =
    " SECOND  CLIENTS  REQUESTS/S    P50 MS    P99 MS    MOST MS  REDIRECTED  ERRORS";

/// So many kinds of what is wrong are told apart.
const KINDS: usize = 32;

/// Counts of a second, or of all of them.
pub(super) struct Counts {
    /// Of good answers, in microseconds.
    took: Histogram<u64>,
    redirected: u64,
    odd: u64,
    kinds: BTreeMap<String, (u64, String)>,
}

impl Counts {
    pub(super) fn new() -> Result<Self> {
        // From a microsecond to ten minutes, three digits.
        let took = Histogram::new_with_bounds(1, 600_000_000, 3).context("no histogram")?;
        Ok(Self { took, redirected: 0, odd: 0, kinds: BTreeMap::new() })
    }

    pub(super) fn add(&mut self, answer: &Answered) {
        match &answer.outcome {
            Outcome::Good { redirected } => {
                let micros = u64::try_from(answer.took.as_micros()).unwrap_or(u64::MAX);
                self.took.saturating_record(micros.max(1));
                self.redirected += u64::from(*redirected);
            }
            Outcome::Odd { what, detail } => {
                self.odd += 1;
                if self.kinds.len() < KINDS || self.kinds.contains_key(what) {
                    let kind = self.kinds.entry(what.clone()).or_default();
                    kind.0 += 1;
                    kind.1.clone_from(detail);
                }
            }
        }
    }

    /// Good answers.
    pub(super) fn good(&self) -> u64 {
        self.took.len()
    }

    /// In milliseconds; `None`: there was no good answer.
    #[expect(clippy::cast_precision_loss, reason = "three digits")]
    fn quantile(&self, share: f64) -> Option<f64> {
        (self.good() > 0).then(|| self.took.value_at_quantile(share) as f64 / 1000.0)
    }

    /// One line about `name`, which took `lasting`: for people, or as JSON.
    #[expect(clippy::cast_precision_loss, reason = "counts of a load")]
    pub(super) fn line(&self, name: &str, lasting: Duration, clients: u32, json: bool) -> String {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        let a_second = self.good() as f64 / lasting.as_secs_f64().max(1e-9);
        if json {
            return json!({
                "second": name.parse::<u64>().ok(),
                "clients": clients,
                "requests": self.good(),
                "requests_per_second": a_second,
                "p50_ms": p50,
                "p99_ms": p99,
                "most_ms": most,
                "redirected": self.redirected,
                "errors": self.odd,
                "kinds": self.kinds.iter().map(|(what, (count, _))| (what, count))
                    .collect::<BTreeMap<_, _>>(),
            })
            .to_string();
        }
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        format!(
            "{name:>7}{clients:>9}{a_second:>12.0}{:>10}{:>10}{:>11}{:>12}{:>8}",
            ms(p50),
            ms(p99),
            ms(most),
            self.redirected,
            self.odd
        )
    }

    /// What was wrong, a line each.
    pub(super) fn problems(&self) -> String {
        let mut out = String::new();
        for (what, (count, detail)) in &self.kinds {
            let _ = writeln!(out, "{count} × {what}: {detail}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(millis: u64, redirected: bool) -> Answered {
        let took = Duration::from_millis(millis);
        Answered { took, outcome: Outcome::Good { redirected } }
    }

    #[test]
    fn answers_are_counted_and_errors_do_not_make_it_look_quick() {
        let mut counts = Counts::new().unwrap();
        for millis in 1..=100 {
            counts.add(&good(millis, millis > 90));
        }
        let outcome = Outcome::Odd { what: "503 busy".into(), detail: "repeat it".into() };
        counts.add(&Answered { took: Duration::from_micros(3), outcome });
        let told: serde_json::Value =
            serde_json::from_str(&counts.line("7", Duration::from_secs(2), 5, true)).unwrap();
        assert_eq!((told["second"].as_u64(), told["requests"].as_u64()), (Some(7), Some(100)));
        assert_eq!((told["redirected"].as_u64(), told["errors"].as_u64()), (Some(10), Some(1)));
        assert_eq!(told["requests_per_second"], 50.0);
        let near = |name: &str, millis: f64| {
            (told[name].as_f64().unwrap() - millis).abs() <= millis / 100.0
        };
        assert!(near("p50_ms", 50.0) && near("p99_ms", 99.0) && near("most_ms", 100.0), "{told}");
        assert_eq!(counts.problems(), "1 × 503 busy: repeat it\n");
    }

    #[test]
    fn lines_stand_below_their_heads() {
        let mut counts = Counts::new().unwrap();
        let none = counts.line("1", Duration::from_secs(1), 0, false);
        counts.add(&good(12_345, false));
        let one = counts.line("all", Duration::from_secs(1), 10_000, false);
        assert_eq!((none.len(), one.len()), (HEAD.len(), HEAD.len()), "\n{HEAD}\n{none}\n{one}");
        assert!(none.contains(" - "), "{none}");
    }
}
