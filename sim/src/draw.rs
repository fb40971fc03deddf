//! A report as plots.

use std::path::Path;

use funicular_plots::{Plot, Scale, Series, Unpainted, lines};

use crate::report::{Outcome, Point, Report};

type Pick = fn(&Point) -> Option<f64>;

/// Draws a report's plots into a directory that is there; says which files. Their names begin
/// with `prefix`.
pub fn draw(report: &Report, into: &Path, prefix: &str) -> Result<Vec<String>, Unpainted> {
    let plots: [(&str, &str, &str, Scale, Pick); 5] = [
        ("latency-p50", "Half of the requests took no longer", "ms", Scale::Logarithmic, |point| {
            point.figures.p50_ms
        }),
        ("latency-p99", "99 of 100 took no longer", "ms", Scale::Logarithmic, |point| {
            point.figures.p99_ms
        }),
        ("at-edge", "Served at an edge", "% of the requests", Scale::Linear, |point| {
            (point.figures.requests > 0.0).then_some(point.figures.at_edge * 100.0)
        }),
        ("moves", "Sessions that moved", "a minute", Scale::Linear, |point| {
            Some(point.figures.moves() as f64 / (f64::from(point.lasts) / 60.0))
        }),
        ("traffic", "Traffic times distance", "GB times links, a minute", Scale::Linear, |point| {
            Some(point.figures.gb_hops() / (f64::from(point.lasts) / 60.0))
        }),
    ];
    let mut drawn = Vec::new();
    for (name, title, unit, scale, pick) in plots {
        let series: Vec<(&str, Series)> =
            report.outcomes.iter().map(|it| (it.policy.name(), line(it, pick))).collect();
        let file = format!("{prefix}{name}.svg");
        let plot = Plot {
            file: &file,
            title,
            axes: ("hours", unit),
            scales: (Scale::Linear, scale),
            marks: false,
            lines: series.iter().map(|(name, line)| (*name, line)).collect(),
        };
        lines(&plot, into)?;
        drawn.push(file);
    }
    Ok(drawn)
}

fn line(outcome: &Outcome, pick: Pick) -> Series {
    let point = |point: &Point| Some((f64::from(point.at) / 3600.0, pick(point)?));
    outcome.series.iter().filter_map(point).collect()
}
