//! The plots of `docs/performance/`.

use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::report::{Measured, Series};

const SIZE: (u32, u32) = (720, 420);
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];

/// A plot: its file, title, axes, and lines with their names.
struct Plot<'a> {
    file: &'a str,
    title: &'a str,
    axes: (&'a str, &'a str),
    lines: Vec<(&'a str, &'a Series)>,
}

/// Draws every plot whose lines were measured; says which files.
pub(crate) fn draw(measured: &Measured, into: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    let mut drawn = Vec::new();
    for (file, title, axes, lines) in [
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
        let lines: Vec<_> = lines
            .iter()
            .filter_map(|(name, key)| Some((*name, measured.series.get(*key)?)))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        if lines.is_empty() {
            continue;
        }
        scaled(&Plot { file, title, axes, lines }, into)?;
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

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn area(path: &Path) -> Result<Area<'_>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(unpainted)?;
    Ok(area)
}

fn unpainted(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("a plot cannot be drawn: {error}")
}

/// From the smallest to the largest, with some room; for logarithmic axes.
fn room(numbers: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for number in numbers.filter(|number| *number > 0.0) {
        least = least.min(number);
        most = most.max(number);
    }
    if most <= 0.0 { 0.1..10.0 } else { least / 1.5..most * 1.5 }
}

type Chart<'a, X, Y> = ChartContext<
    'a,
    SVGBackend<'a>,
    Cartesian2d<<X as AsRangedCoord>::CoordDescType, <Y as AsRangedCoord>::CoordDescType>,
>;

fn chart<'a, X, Y>(
    area: &Area<'a>,
    title: &str,
    axes: (&str, &str),
    x: X,
    y: Y,
) -> Result<Chart<'a, X, Y>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)
        .map_err(unpainted)?;
    chart
        .configure_mesh()
        .x_desc(axes.0)
        .y_desc(axes.1)
        .x_label_formatter(&|number| plain(*number))
        .y_label_formatter(&|number| plain(*number))
        .light_line_style(WHITE)
        .draw()
        .map_err(unpainted)?;
    Ok(chart)
}

/// `1k`, `64M`, `0.5`.
fn plain(number: f64) -> String {
    let trimmed = |number: f64, unit: &str| {
        let text = format!("{number:.2}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match number.abs() {
        size if size >= 1e6 => trimmed(number / 1e6, "M"),
        size if size >= 1e3 => trimmed(number / 1e3, "k"),
        _ => trimmed(number, ""),
    }
}

fn scaled(plot: &Plot<'_>, into: &Path) -> Result<()> {
    let path = into.join(plot.file);
    let area = area(&path)?;
    let all = || plot.lines.iter().flat_map(|(_, line)| line.iter());
    let (x, y) = (room(all().map(|point| point.0)), room(all().map(|point| point.1)));
    let mut chart = chart(&area, plot.title, plot.axes, x.log_scale(), y.log_scale())?;
    for ((name, line), colour) in plot.lines.iter().zip(COLOURS) {
        let points = || line.iter().copied().filter(|point| point.1 > 0.0);
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)))
            .map_err(unpainted)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        let marks = points().map(|point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(marks).map_err(unpainted)?;
    }
    legend(&mut chart)?;
    area.present().map_err(unpainted)
}

fn legend<'a, C: CoordTranslate>(chart: &mut ChartContext<'a, SVGBackend<'a>, C>) -> Result<()> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()
        .map_err(unpainted)
}

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
    area.present().map_err(unpainted)
}
