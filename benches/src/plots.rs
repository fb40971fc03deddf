//! The plots of `docs/performance/`.

use std::path::Path;

use anyhow::{Context as _, Result};
use funicular_plots::{COLOURS, Plot, Scale, area, chart, legend, lines, unpainted};
use plotters::prelude::*;

use crate::report::{Measured, Series};

/// Draws every plot whose lines were measured; says which files.
pub(crate) fn draw(measured: &Measured, into: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    let mut drawn = Vec::new();
    for (file, title, axes, names) in [
        (
            "move-time.svg",
            "A move, open to settled (median)",
            ("bytes of the session", "ms"),
            &[("everysec", "move_everysec"), ("always", "move_always")][..],
        ),
        (
            "downtime.svg",
            "What a move costs the unluckiest write",
            ("bytes of the session", "ms"),
            &[
                ("99th percentile of the moves", "downtime_p99"),
                ("longest", "downtime_longest"),
                ("99th percentile of a bystander", "downtime_bystander"),
            ],
        ),
        (
            "throughput.svg",
            "Requests a second, by sessions in the store",
            ("sessions", "begin + commit a second"),
            &[("one Redis, 32 at once", "throughput")],
        ),
        (
            "crowd.svg",
            "Response time over a growing number of clients",
            ("clients", "ms"),
            &[
                ("with the oracle, median", "crowd_p50"),
                ("without it, median", "crowd_alone_p50"),
                ("with the oracle, 99th percentile", "crowd_p99"),
                ("without it, 99th percentile", "crowd_alone_p99"),
            ],
        ),
    ] {
        let measured: Vec<_> = names
            .iter()
            .filter_map(|(name, key)| Some((*name, measured.series.get(*key)?)))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        if measured.is_empty() {
            continue;
        }
        let scales = (Scale::Logarithmic, Scale::Logarithmic);
        lines(&Plot { file, title, axes, scales, marks: true, lines: measured }, into)?;
        drawn.push(file.to_owned());
    }
    if let (Some(points), Some(span)) =
        (measured.series.get("timeline"), measured.series.get("timeline_move"))
    {
        timeline(points, span, into)?;
        drawn.push(TIMELINE.to_owned());
    }
    Ok(drawn)
}

const TIMELINE: &str = "timeline.svg";

/// Every request of a client before, during and after a move.
fn timeline(points: &Series, span: &Series, into: &Path) -> Result<()> {
    let path = into.join(TIMELINE);
    let area = area(&path)?;
    let ends = |pick: fn(f64, f64) -> f64, first: f64| points.iter().map(|p| p.0).fold(first, pick);
    let x = ends(f64::min, 0.0)..ends(f64::max, 1.0);
    let most = points.iter().map(|point| point.1).fold(1.0, f64::max) * 1.1;
    let axes = ("ms since the move began", "ms a write took");
    let title = "One client's writes to a session of 16 MB that moves";
    let mut chart = chart(&area, title, axes, x, 0.0..most)?;
    let (from, to) = (span.first().map_or(0.0, |p| p.0), span.last().map_or(0.0, |p| p.0));
    let moving = Rectangle::new([(from, 0.0), (to, most)], COLOURS[2].mix(0.15).filled());
    chart
        .draw_series(std::iter::once(moving))
        .map_err(unpainted)?
        .label("the move, open to settled")
        .legend(|(x, y)| {
            Rectangle::new([(x, y - 4), (x + 16, y + 4)], COLOURS[2].mix(0.15).filled())
        });
    chart
        .draw_series(points.iter().map(|point| Circle::new(*point, 2, COLOURS[0].filled())))
        .map_err(unpainted)?
        .label("a write, redirects included")
        .legend(|(x, y)| Circle::new((x + 8, y), 2, COLOURS[0].filled()));
    legend(&mut chart)?;
    area.present().map_err(unpainted)?;
    Ok(())
}
