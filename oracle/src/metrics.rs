//! The oracle's own metrics. One place for their names; `docs/metrics.md` explains them.

use funicular::session::{FunctionName, NodeName};
use metrics::{counter, gauge};

use crate::policy::decision::{Decision, Phase};
use crate::signals::SignalName;

/// Something was decided.
pub(crate) fn decided(node: &NodeName, decision: &Decision) {
    let labels = [
        ("node", node.to_string()),
        ("function_name", decision.function.to_string()),
        ("action", decision.action.name().to_owned()),
        ("rule", decision.rule.clone()),
    ];
    counter!("funicular_oracle_decisions_total", &labels).increment(1);
}

/// Something was done, or not.
pub(crate) fn acted(node: &NodeName, decision: &Decision, outcome: &'static str) {
    let labels = [
        ("node", node.to_string()),
        ("function_name", decision.function.to_string()),
        ("action", decision.action.name().to_owned()),
        ("outcome", outcome.to_owned()),
    ];
    counter!("funicular_oracle_actions_total", &labels).increment(1);
}

/// How a function stands; not a number while nobody judges it here.
pub(crate) fn stands(node: &NodeName, function: &FunctionName, phase: Option<Phase>) {
    let labels = [("node", node.to_string()), ("function_name", function.to_string())];
    let phase = match phase {
        None => f64::NAN,
        Some(Phase::Calm) => 0.0,
        Some(Phase::Holding) => 1.0,
        Some(Phase::Relieving) => 2.0,
    };
    gauge!("funicular_oracle_phase", &labels).set(phase);
}

/// What a signal is; not a number while it is unknown.
pub(crate) fn signal(
    node: &NodeName,
    function: Option<&FunctionName>,
    signal: &SignalName,
    value: Option<f64>,
) {
    let labels = [
        ("node", node.to_string()),
        ("function_name", function.map_or_else(String::new, ToString::to_string)),
        ("signal", signal.to_string()),
    ];
    gauge!("funicular_oracle_signal", &labels).set(value.unwrap_or(f64::NAN));
}

/// A source said nothing.
pub(crate) fn silent(node: &NodeName, source: &'static str) {
    let labels = [("node", node.to_string()), ("source", source.to_owned())];
    counter!("funicular_oracle_source_errors_total", &labels).increment(1);
}

/// Whether a source speaks.
pub(crate) fn speaks(node: &NodeName, source: &'static str, speaks: bool) {
    let labels = [("node", node.to_string()), ("source", source.to_owned())];
    gauge!("funicular_oracle_source_speaks", &labels).set(f64::from(u8::from(speaks)));
}

/// Whether this oracle may act.
pub(crate) fn acting(node: &NodeName, acting: bool) {
    let labels = [("node", node.to_string())];
    gauge!("funicular_oracle_acting", &labels).set(f64::from(u8::from(acting)));
}
