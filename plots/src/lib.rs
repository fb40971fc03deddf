//! Plots as SVG: lines, axes, a legend, one look for all of them.
//!
//! [`lines`] draws a whole plot; what is special begins with [`area`] and [`chart`].

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// Width and height of a plot, in pixels.
pub const SIZE: (u32, u32) = (720, 420);
/// The colours of a plot's lines, in their order.
pub const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];

/// Points of one line.
pub type Series = Vec<(f64, f64)>;

/// What lengths an axis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero, or from the least if that is below.
    Linear,
    /// By powers; what is not above zero is not shown.
    Logarithmic,
}

/// A plot: its file's name, title, axes, and lines with their names.
#[derive(Debug)]
pub struct Plot<'a> {
    /// The file.
    pub file: &'a str,
    /// The title.
    pub title: &'a str,
    /// What is written at the axes: below, and beside.
    pub axes: (&'a str, &'a str),
    /// Their scales.
    pub scales: (Scale, Scale),
    /// Whether every point has a mark of its own.
    pub marks: bool,
    /// The lines, at most as many as there are [`COLOURS`].
    pub lines: Vec<(&'a str, &'a Series)>,
}

/// A plot cannot be drawn; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("a plot cannot be drawn: {0}")]
pub struct Unpainted(String);

/// Wraps whatever the drawing library says.
pub fn unpainted(error: impl std::fmt::Display) -> Unpainted {
    Unpainted(error.to_string())
}

/// Where a plot is drawn.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A white plot.
pub fn area(path: &Path) -> Result<Area<'_>, Unpainted> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(unpainted)?;
    Ok(area)
}

/// Axes with a title.
pub type Chart<'a, X, Y> = ChartContext<
    'a,
    SVGBackend<'a>,
    Cartesian2d<<X as AsRangedCoord>::CoordDescType, <Y as AsRangedCoord>::CoordDescType>,
>;

/// Title and axes.
pub fn chart<'a, X, Y>(
    area: &Area<'a>,
    title: &str,
    axes: (&str, &str),
    x: X,
    y: Y,
) -> Result<Chart<'a, X, Y>, Unpainted>
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

/// The names of what was drawn.
pub fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
) -> Result<(), Unpainted> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()
        .map_err(unpainted)
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

/// From the smallest to the largest, with some room.
fn room(scale: Scale, numbers: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let shown = |number: &f64| number.is_finite() && (scale == Scale::Linear || *number > 0.0);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for number in numbers.filter(shown) {
        least = least.min(number);
        most = most.max(number);
    }
    match scale {
        Scale::Logarithmic if most <= 0.0 => 0.1..10.0,
        Scale::Logarithmic => least / 1.5..most * 1.5,
        Scale::Linear if most <= 0.0 => 0.0..1.0,
        Scale::Linear => least.min(0.0)..most * 1.05,
    }
}

/// Draws a plot of lines into a directory.
pub fn lines(plot: &Plot<'_>, into: &Path) -> Result<(), Unpainted> {
    let path = into.join(plot.file);
    let area = area(&path)?;
    let all = || plot.lines.iter().flat_map(|(_, line)| line.iter());
    let x = room(plot.scales.0, all().map(|point| point.0));
    let y = room(plot.scales.1, all().map(|point| point.1));
    let (title, axes) = (plot.title, plot.axes);
    match plot.scales {
        (Scale::Linear, Scale::Linear) => series(chart(&area, title, axes, x, y)?, plot)?,
        (Scale::Linear, Scale::Logarithmic) => {
            series(chart(&area, title, axes, x, y.log_scale())?, plot)?;
        }
        (Scale::Logarithmic, Scale::Linear) => {
            series(chart(&area, title, axes, x.log_scale(), y)?, plot)?;
        }
        (Scale::Logarithmic, Scale::Logarithmic) => {
            series(chart(&area, title, axes, x.log_scale(), y.log_scale())?, plot)?;
        }
    }
    area.present().map_err(unpainted)
}

fn series<'a, X, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    plot: &Plot<'_>,
) -> Result<(), Unpainted>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let shown = |scale, number: f64| scale == Scale::Linear || number > 0.0;
    for ((name, line), colour) in plot.lines.iter().zip(COLOURS) {
        let points = || {
            let drawn = line.iter().copied();
            drawn.filter(|(x, y)| shown(plot.scales.0, *x) && shown(plot.scales.1, *y))
        };
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)))
            .map_err(unpainted)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        if plot.marks {
            let marks = points().map(|point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(marks).map_err(unpainted)?;
        }
    }
    legend(&mut chart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_room_for_what_they_show() {
        let numbers = || [0.0, 2.0, 8.0].into_iter();
        assert_eq!(room(Scale::Linear, numbers()), 0.0..8.4);
        assert_eq!(room(Scale::Logarithmic, numbers()), 2.0 / 1.5..12.0);
        assert_eq!(room(Scale::Linear, std::iter::empty()), 0.0..1.0);
        assert_eq!(room(Scale::Logarithmic, std::iter::empty()), 0.1..10.0);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [(1500.0, "1.5k"), (64e6, "64M"), (0.5, "0.5"), (0.0, "0")] {
            assert_eq!(plain(number), text);
        }
    }
}
