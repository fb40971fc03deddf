//! What there is, as text for scripts and for people without a terminal.

use funicular_dashboard::watch::view::{NodeView, View};

use super::rows;
use super::words::{
    UNKNOWN, age, latency, moves, moving, news, number, oracle, percent, rate, silent,
};
use crate::output::{UNKNOWN as SAID, table};

/// So many of the last moves and decisions are told.
const NEWS: usize = 20;

const HEADS: &[&str] =
    &["NODE", "TAKES", "REQ/S", "P50", "P99", "SESSIONS", "MEMORY", "IN FLIGHT", "MOVES", "ORACLE"];

/// Everything in a view, as far as it fits into lines.
pub(super) fn text(view: &View) -> String {
    let rows: Vec<Vec<String>> = view.nodes.iter().map(row).collect();
    let mut parts = vec![table(HEADS, &rows)];
    let mut part = |lines: Vec<String>| {
        if !lines.is_empty() {
            parts.push(lines.join("\n"));
        }
    };
    let silent = view
        .nodes
        .iter()
        .filter_map(|node| Some(format!("{} is {}", node.name, silent(node, view.at_ms)?)));
    part(silent.collect());
    let on_their_way = rows::moving(view, None).into_iter().filter_map(|(from, row)| {
        let far = moving(row.session.moving.as_ref()?);
        Some(format!("{} of {}: {from} {far}", row.session.id, row.function))
    });
    part(on_their_way.collect());
    let happened = rows::news(view, None);
    let happened = happened.iter().take(NEWS).map(|one| {
        let ago = age(view.at_ms.saturating_sub(one.at_ms()));
        format!("{ago} ago: {}", news(view, one))
    });
    part(happened.collect());
    parts.join("\n\n")
}

fn row(node: &NodeView) -> Vec<String> {
    let load = &node.load;
    let cells = vec![
        format!("{}{}", "  ".repeat(node.depth), node.name),
        node.takes.to_string(),
        rate(load.requests_per_s),
        latency(load, load.latency_p50_us),
        latency(load, load.latency_p99_us),
        number(load.sessions),
        percent(load.memory),
        number(load.in_flight),
        moves(load),
        oracle(node),
    ];
    let said = |cell: String| if cell == UNKNOWN { SAID.to_owned() } else { cell };
    cells.into_iter().map(said).collect()
}
