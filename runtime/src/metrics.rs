//! The runtime's own metrics. One place for their names; `docs/metrics.md`
//! explains them. Sessions are never labels.

use metrics::{counter, gauge, histogram};

use crate::node::NodeConfig;
use crate::peers::messages::MoveReport;
use crate::session::{FunctionName, NodeName};
use crate::store::Counts;

/// A session arrived.
pub(crate) fn moved(config: &NodeConfig, from: &NodeName, report: &MoveReport) {
    let labels = [
        ("node", config.here.to_string()),
        ("function_name", config.function.to_string()),
        ("from", from.to_string()),
    ];
    counter!("funicular_moves_total", &labels).increment(1);
    counter!("funicular_moved_bytes_total", &labels).increment(report.bytes);
    histogram!("funicular_move_duration_seconds", &labels).record(report.took_ms / 1000.0);
    histogram!("funicular_move_downtime_seconds", &labels).record(report.downtime_ms / 1000.0);
}

/// How many sessions there are.
pub(crate) fn counted(config: &NodeConfig, counts: Counts) {
    let labels =
        [("node", config.here.to_string()), ("function_name", config.function.to_string())];
    // Gauges are floating point; counts stay far below 2^52.
    #[allow(clippy::cast_precision_loss)]
    {
        gauge!("funicular_sessions", &labels).set(counts.resident as f64);
        gauge!("funicular_sessions_pending", &labels).set(counts.pending as f64);
    }
}

/// A propagated value was dropped because its receiver cannot take it.
pub(crate) fn undeliverable(config: &NodeConfig, to: &FunctionName) {
    let labels = [
        ("node", config.here.to_string()),
        ("function_name", config.function.to_string()),
        ("to", to.to_string()),
    ];
    counter!("funicular_undeliverable_total", &labels).increment(1);
}
