//! The tree: a line a node.

use funicular_dashboard::watch::view::{Load, NodeView, Reach, Takes};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{FAINT, HEAD, PLAIN, Scene, Theme, bar, cell, chosen as style_of_chosen, window};
use crate::commands::top::rows::{self, NodeRow};
use crate::commands::top::state::Focus;
use crate::commands::top::words::{latency, moves, number, oracle, percent, rate};

/// Before the name: which node is chosen.
const MARK: usize = 2;
/// Names are at least and at most so long.
const NAME: (usize, usize) = (8, 30);
const BAR: usize = 6;

/// A column; the first ones stay when there is little room.
struct Column {
    head: &'static str,
    width: usize,
    right: bool,
    cell: fn(&Cells<'_>) -> (String, Style),
}

/// What the cells of a line are made from.
struct Cells<'a> {
    node: &'a NodeView,
    load: Load,
    takes: Takes,
    /// The most requests a second of any node.
    busiest: f64,
    theme: Theme,
}

const fn column(
    head: &'static str,
    width: usize,
    right: bool,
    cell: fn(&Cells<'_>) -> (String, Style),
) -> Column {
    Column { head, width, right, cell }
}

const COLUMNS: &[Column] = &[
    column("TAKES", 7, false, |of| match (&of.node.reach, of.takes) {
        (Reach::Silent { .. }, _) => ("silent".to_owned(), of.theme.bad()),
        (_, Takes::Accept) => ("accept".to_owned(), of.theme.good()),
        (_, Takes::Unknown) => ("unknown".to_owned(), FAINT),
        (_, takes) => (takes.to_string(), of.theme.going()),
    }),
    column("LOAD", BAR, false, |of| {
        let share = of.load.requests_per_s.map(|it| if it > 0.0 { it / of.busiest } else { 0.0 });
        (bar(share, BAR), of.theme.good())
    }),
    column("REQ/S", 5, true, |of| (rate(of.load.requests_per_s), PLAIN)),
    column("P99", 6, true, |of| (latency(&of.load, of.load.latency_p99_us), PLAIN)),
    column("SESS", 5, true, |of| (number(of.load.sessions), PLAIN)),
    column("MEM", 4, true, |of| match of.load.memory {
        Some(share) if share >= 0.85 => (percent(Some(share)), of.theme.bad()),
        share => (percent(share), PLAIN),
    }),
    column("FLIGHT", 6, true, |of| (number(of.load.in_flight), PLAIN)),
    column("MOVES", 7, true, |of| (moves(&of.load), of.theme.going())),
    column("ORACLE", 9, false, |of| match oracle(of.node) {
        phase if phase == "relieving" => (phase, of.theme.bad()),
        phase if phase == "holding" => (phase, of.theme.going()),
        phase => (phase, PLAIN),
    }),
];

fn name_width(rows: &[NodeRow<'_>]) -> usize {
    let lengths = rows.iter().map(|row| row.branch.chars().count() + row.node.name.as_str().len());
    lengths.max().unwrap_or(0).clamp(NAME.0, NAME.1)
}

/// So wide would all columns be.
pub(super) fn width(scene: Scene<'_>) -> u16 {
    let columns: usize = COLUMNS.iter().map(|column| column.width + 1).sum();
    let name = name_width(&rows::nodes(scene.view, scene.state));
    u16::try_from(MARK + name + columns + 1).unwrap_or(u16::MAX)
}

pub(super) fn draw(frame: &mut Frame<'_>, scene: Scene<'_>, area: Rect) {
    let rows = rows::nodes(scene.view, scene.state);
    let name = name_width(&rows);
    let mut left = usize::from(area.width).saturating_sub(MARK + name);
    let columns: Vec<_> = COLUMNS
        .iter()
        .take_while(|column| {
            let fits = left > column.width;
            left = left.saturating_sub(column.width + 1);
            fits
        })
        .collect();
    let heads = columns.iter().map(|it| format!(" {}", cell(it.head, it.width, it.right)));
    let heads =
        format!("{}{}{}", " ".repeat(MARK), cell("NODE", name, false), heads.collect::<String>());
    let mut lines = vec![Line::styled(heads, HEAD)];
    let chosen = rows.iter().position(|row| Some(&row.node.name) == scene.state.node.as_ref());
    let only = scene.state.function.as_ref();
    let rates = scene.view.nodes.iter().filter_map(|node| rows::load(node, only).requests_per_s);
    let busiest = rates.fold(0.0, f64::max);
    for index in window(rows.len(), usize::from(area.height).saturating_sub(1), chosen) {
        let row = &rows[index];
        let is_chosen = chosen == Some(index);
        let mark = if is_chosen { "▸ " } else { "  " };
        let label =
            format!("{mark}{}", cell(&format!("{}{}", row.branch, row.node.name), name, false));
        let of = Cells {
            node: row.node,
            load: rows::load(row.node, only),
            takes: rows::takes(row.node, only),
            busiest,
            theme: scene.theme,
        };
        let mut spans = vec![Span::raw(label)];
        for column in &columns {
            let (text, style) = (column.cell)(&of);
            let text = format!(" {}", cell(&text, column.width, column.right));
            spans.push(Span::styled(text, style));
        }
        let style = match is_chosen {
            true => style_of_chosen(scene.state.focus == Focus::Nodes),
            false => PLAIN,
        };
        lines.push(Line::from(spans).style(style));
    }
    if rows.is_empty() {
        lines.push(Line::styled("  nothing has that", FAINT));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
