//! What was measured: the table, `summary.json`, and the series that plots are
//! made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// The rows in the order of the table.
pub(crate) const ROWS: &[&str] = &[
    "invoke_vs_raw",
    "invoke_with_ids",
    "redirect_vs_raw",
    "read_vs_raw",
    "move_1k",
    "move_1m",
    "move_5m",
    "move_1k_always",
    "move_1m_always",
    "move_5m_always",
    "downtime_p99",
    "moves_under_load",
    "crowd",
    "million",
    "million_bare",
    "idle_session_bytes",
    "victims",
];

/// What a figure has to be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Must {
    /// The ratio to the baseline is at least this.
    RatioAtLeast(f64),
    /// The ratio to the baseline is at most this.
    RatioAtMost(f64),
    /// The value is at most this.
    AtMost(f64),
}

/// One line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What was measured, in `unit`.
    pub(crate) value: f64,
    /// The unit of `value` and `baseline`.
    pub(crate) unit: String,
    /// The same of what it is compared with.
    pub(crate) baseline: Option<f64>,
    /// The value by the baseline: the median over the rounds.
    pub(crate) ratio: Option<f64>,
    /// What it has to be, if anything.
    pub(crate) must: Option<Must>,
    /// Whether it is.
    pub(crate) met: Option<bool>,
    /// How many rounds, moves or calls it comes from.
    pub(crate) rounds: usize,
    /// How the stores under it kept what was written.
    pub(crate) durability: String,
    /// What else belongs to it: spread, CPU time, what was counted.
    #[serde(default)]
    pub(crate) detail: serde_json::Value,
}

impl Figure {
    /// A value without a baseline.
    pub(crate) fn value(value: f64, unit: &str, rounds: usize, durability: &str) -> Self {
        Self {
            value,
            unit: unit.to_owned(),
            baseline: None,
            ratio: None,
            must: None,
            met: None,
            rounds,
            durability: durability.to_owned(),
            detail: serde_json::Value::Null,
        }
    }

    /// What it is compared with.
    pub(crate) fn against(mut self, baseline: f64, ratio: f64) -> Self {
        self.baseline = Some(baseline);
        self.ratio = Some(ratio);
        self
    }

    /// What it has to be.
    pub(crate) fn must(mut self, must: Must) -> Self {
        self.must = Some(must);
        self.met = Some(match must {
            Must::RatioAtLeast(least) => self.ratio.is_some_and(|ratio| ratio >= least),
            Must::RatioAtMost(most) => self.ratio.is_some_and(|ratio| ratio <= most),
            Must::AtMost(most) => self.value <= most,
        });
        self
    }

    /// What else belongs to it.
    pub(crate) fn detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = detail;
        self
    }
}

/// Points of one line of a plot.
pub(crate) type Series = Vec<(f64, f64)>;

/// Everything that a run leaves behind.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The table.
    pub(crate) summary: BTreeMap<String, Figure>,
    /// The plots' lines.
    pub(crate) series: BTreeMap<String, Series>,
}

/// A run that is going on.
#[derive(Debug)]
pub(crate) struct Report {
    only: Vec<String>,
    began: Instant,
    new: Vec<String>,
    measured: Measured,
}

/// `target/bench` of the workspace.
pub(crate) fn dir() -> PathBuf {
    workspace().join("target").join("bench")
}

/// The workspace that this was built in.
pub(crate) fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

impl Measured {
    /// The last run's; nothing if there was none.
    pub(crate) fn last() -> Result<Self> {
        let read = |name: &str| std::fs::read(dir().join(name)).ok();
        let (Some(summary), Some(series)) = (read("summary.json"), read("series.json")) else {
            return Ok(Self::default());
        };
        Ok(Self {
            summary: serde_json::from_slice(&summary).context("target/bench/summary.json")?,
            series: serde_json::from_slice(&series).context("target/bench/series.json")?,
        })
    }

    fn write(&self) -> Result<()> {
        std::fs::create_dir_all(dir()).context("target/bench")?;
        let write = |name: &str, json: Vec<u8>| {
            std::fs::write(dir().join(name), json).with_context(|| format!("target/bench/{name}"))
        };
        write("summary.json", serde_json::to_vec_pretty(&self.summary)?)?;
        write("series.json", serde_json::to_vec(&self.series)?)
    }
}

impl Report {
    /// Begins a run of all rows, or of some; the others stay as they were.
    pub(crate) fn open(only: &[String]) -> Result<Self> {
        let only: Vec<String> = only.iter().map(|name| name.trim().to_owned()).collect();
        for name in only.iter().filter(|name| !name.is_empty()) {
            if !ROWS.contains(&name.as_str()) {
                bail!("there is no row {name}; there are {}", ROWS.join(", "));
            }
        }
        let only: Vec<String> = only.into_iter().filter(|name| !name.is_empty()).collect();
        let measured = if only.is_empty() { Measured::default() } else { Measured::last()? };
        Ok(Self { only, began: Instant::now(), new: Vec::new(), measured })
    }

    /// Whether a row is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Whether everything is.
    pub(crate) fn wants_all(&self) -> bool {
        self.only.is_empty()
    }

    /// Whether one of these is.
    pub(crate) fn wants_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wants(name))
    }

    /// Says what goes on.
    pub(crate) fn progress(&self, what: &str) {
        eprintln!("{:>6.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Notes a figure.
    pub(crate) fn add(&mut self, name: &str, figure: Figure) {
        self.progress(&format!("  {}", line(name, &figure).trim_end()));
        self.new.push(name.to_owned());
        self.measured.summary.insert(name.to_owned(), figure);
    }

    /// Notes a plot's line.
    pub(crate) fn series(&mut self, name: &str, points: Series) {
        self.measured.series.insert(name.to_owned(), points);
    }

    /// Prints the table and writes everything down; a failure says that a row is
    /// not what it has to be.
    pub(crate) fn close(self) -> Result<ExitCode> {
        println!("\n{}", HEADER.trim_end());
        for name in ordered(&self.measured.summary) {
            if self.new.contains(&name) {
                println!("{}", line(&name, &self.measured.summary[&name]).trim_end());
            }
        }
        self.measured.write()?;
        let missed: Vec<&String> = self
            .new
            .iter()
            .filter(|name| self.measured.summary[*name].met == Some(false))
            .collect();
        println!(
            "\n{} s; target/bench/summary.json{}",
            self.began.elapsed().as_secs(),
            if missed.is_empty() { "; all met" } else { "" }
        );
        for name in missed {
            println!("not met: {name}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The names of a summary: those of the table first, in its order.
pub(crate) fn ordered(summary: &BTreeMap<String, Figure>) -> Vec<String> {
    let known =
        ROWS.iter().map(|name| (*name).to_owned()).filter(|name| summary.contains_key(name));
    let others = summary.keys().filter(|name| !ROWS.contains(&name.as_str())).cloned();
    known.chain(others).collect()
}

const HEADER: &str = concat!(
    "name                        value unit         baseline  ratio  must     met  durability",
    "\n",
    "--------------------- ----------- --------- ----------- ------  -------  ---  ----------"
);

fn line(name: &str, figure: &Figure) -> String {
    let optional = |number: Option<f64>| number.map_or(String::new(), short);
    let ratio = figure.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    format!(
        "{name:<21} {:>11} {:<9} {:>11} {ratio:>6}  {:<7}  {:<3}  {}",
        short(figure.value),
        figure.unit,
        optional(figure.baseline),
        must(figure),
        met(figure),
        figure.durability
    )
}

/// What a figure has to be, in a few characters.
pub(crate) fn must(figure: &Figure) -> String {
    match figure.must {
        None => String::new(),
        Some(Must::RatioAtLeast(least)) => format!("≥ {least:.2}"),
        Some(Must::RatioAtMost(most)) => format!("≤ {most:.1}×"),
        Some(Must::AtMost(most)) => format!("≤ {most}"),
    }
}

/// Whether it is.
pub(crate) fn met(figure: &Figure) -> &'static str {
    match figure.met {
        None => "",
        Some(true) => "yes",
        Some(false) => "NO",
    }
}

/// A number with as many digits as one reads.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 || number.fract() == 0.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// The middle of some numbers; 0 of none.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    quantile(numbers, 0.5)
}

/// The number that this share of them does not exceed; 0 of none.
pub(crate) fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return 0.0;
    }
    if (share - 0.5).abs() < f64::EPSILON && sorted.len().is_multiple_of(2) {
        let middle = sorted.len() / 2;
        return f64::midpoint(sorted[middle - 1], sorted[middle]);
    }
    // A place among a few thousand.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let place = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[place - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_end_of_numbers() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((quantile(&hundred, 0.99) - 99.0).abs() < 1e-9);
        assert!((quantile(&[5.0], 0.99) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_must_is_judged_by_what_it_speaks_of() {
        let figure = || Figure::value(8.0, "x", 1, "none").against(10.0, 0.8);
        assert_eq!(figure().must(Must::RatioAtLeast(0.8)).met, Some(true));
        assert_eq!(figure().must(Must::RatioAtLeast(0.9)).met, Some(false));
        assert_eq!(figure().must(Must::RatioAtMost(0.7)).met, Some(false));
        assert_eq!(figure().must(Must::AtMost(8.0)).met, Some(true));
        assert_eq!(
            Figure::value(1.0, "x", 1, "none").must(Must::RatioAtLeast(0.1)).met,
            Some(false)
        );
    }
}
