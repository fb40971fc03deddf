//! `funicular oracle explain (--node N | --url URL)`

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use funicular::session::{FunctionName, NodeName};
use funicular_oracle::daemon::{Explanation, Recorded};
use funicular_oracle::policy::decision::Verdict;

use crate::exit::Failure;
use crate::options::{self, Tree};
use crate::output::{NONE, show, table};

/// How long an oracle may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node, of a tree that runs with `funicular up`
    #[arg(long, value_name = "N", required_unless_present = "url")]
    node: Option<NodeName>,

    /// Where the oracle listens: its port is 8082 unless said
    #[arg(long, value_name = "URL", conflicts_with = "node")]
    url: Option<String>,

    /// This function only
    #[arg(long, value_name = "F")]
    function: Option<FunctionName>,

    /// So many decisions, the latest first
    #[arg(long, value_name = "N", default_value_t = 10)]
    decisions: usize,

    #[command(flatten)]
    tree: Tree,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let mut told = ask(&base(args)?, args.decisions).await?;
    if let Some(wanted) = &args.function {
        told.functions.retain(|verdict| verdict.function == *wanted);
        told.decisions.retain(|recorded| recorded.decision.function == *wanted);
        told.signals.retain(|signal| signal.function.as_ref().is_none_or(|it| it == wanted));
    }
    show(json, &told, || text(&told));
    Ok(())
}

fn base(args: &Args) -> Result<String> {
    match (&args.url, &args.node) {
        (Some(url), _) => Ok(url.trim_end_matches('/').to_owned()),
        (None, Some(name)) => {
            let topology = args.tree.load()?;
            Ok(format!("{}/oracle", options::node(&topology, name)?.gateway))
        }
        (None, None) => Err(Failure::Usage("name --node or --url".to_owned()).into()),
    }
}

async fn ask(base: &str, decisions: usize) -> Result<Explanation> {
    let unavailable = |why: String| {
        Failure::Unavailable(format!(
            "no oracle answers at {base} ({why}); see that it runs, or name another --url"
        ))
    };
    let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let url = format!("{base}/explain?limit={decisions}");
    let answer = http.get(url).send().await.map_err(|e| unavailable(innermost(&e)))?;
    if !answer.status().is_success() {
        return Err(unavailable(format!("status {}", answer.status())).into());
    }
    let body = answer.bytes().await.map_err(|e| unavailable(innermost(&e)))?;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::Unavailable(format!(
            "what {base} answers does not read ({error}); is it an oracle of this release?"
        ))
        .into()
    })
}

/// The innermost reason says most: "connection refused".
fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

fn text(told: &Explanation) -> String {
    let mut out = format!("The oracle of {} is {}.\n", told.node, told.mode);
    for source in &told.sources {
        if let Some(error) = &source.error {
            let _ = writeln!(out, "Source {} says nothing: {error}", source.source);
        }
    }
    let rows: Vec<_> = told
        .signals
        .iter()
        .map(|signal| {
            let function = signal.function.as_ref().map_or("(node)", FunctionName::as_str);
            let value = signal.value.map_or("unknown".to_owned(), |value| format!("{value:.4}"));
            vec![function.to_owned(), signal.signal.clone(), value, format!("{}", signal.age_ms)]
        })
        .collect();
    let _ = writeln!(out, "\n{}", table(&["FUNCTION", "SIGNAL", "VALUE", "AGE MS"], &rows));
    for verdict in &told.functions {
        out.push_str(&function(verdict));
    }
    out.push_str("\nLatest decisions\n");
    if told.decisions.is_empty() {
        out.push_str("  none yet\n");
    }
    for recorded in &told.decisions {
        out.push_str(&decision(recorded));
    }
    out
}

fn function(verdict: &Verdict) -> String {
    let mut out = format!("\n{} is {}: {}\n", verdict.function, verdict.phase, verdict.why);
    let number = |value: Option<f64>| value.map_or(NONE.to_owned(), |value| format!("{value:.3}"));
    let rows: Vec<_> = verdict
        .readings
        .iter()
        .map(|reading| {
            vec![
                reading.rule.clone(),
                number(reading.value),
                number(reading.expected),
                number(Some(reading.onload)),
                number(Some(reading.low)),
                number(Some(reading.high)),
            ]
        })
        .collect();
    let heads = ["RULE", "VALUE", "EXPECTED", "ONLOAD", "LOW", "HIGH"];
    let _ = writeln!(out, "{}", table(&heads, &rows));
    for change in &verdict.would_change {
        let _ = writeln!(out, "  {change}");
    }
    out
}

fn decision(recorded: &Recorded) -> String {
    let mut out = format!("  #{} {}\n", recorded.id, super::line(&recorded.decision));
    let detail =
        if recorded.detail.is_empty() { String::new() } else { format!(": {}", recorded.detail) };
    let _ = writeln!(out, "      {}{detail}", recorded.outcome);
    for other in &recorded.decision.alternatives {
        let _ = writeln!(out, "      not {}: {}", other.what, other.why_not);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_told() {
        let told: Explanation = serde_json::from_value(json!({
            "node": "navigli", "mode": "acting",
            "sources": [{"source": "redis", "error": "it does not answer: gone"}],
            "signals": [{"signal": "cpu", "value": 0.91, "last": 0.9, "age_ms": 12},
                {"function": "cart", "signal": "latency-p99", "last": 0.9, "age_ms": 99}],
            "functions": [{"function": "cart", "phase": "relieving", "since": 0, "why": "it is so",
                "readings": [{"rule": "cpu", "value": 0.91, "expected": 0.7, "high": 0.85,
                    "low": 0.65, "onload": 0.45, "signals": []}],
                "would_change": ["offload stops when cpu falls to 0.65"],
                "wants_here": true, "wants_away": false}],
            "decisions": [{"id": 7, "time_ms": 1, "outcome": "done", "detail": "now at milan",
                "decision": {"at": 1, "function": "cart", "rule": "cpu", "why": "cpu is 0.91",
                    "action": {"do": "offload", "session": "0123456789abcdef", "bytes": 1200},
                    "readings": [],
                    "alternatives": [{"what": "session x", "why_not": "it is pinned"}]}}],
        }))
        .unwrap();
        let text = text(&told);
        for part in [
            "The oracle of navigli is acting.",
            "Source redis says nothing: it does not answer: gone",
            "cart      latency-p99  unknown",
            "cart is relieving: it is so",
            "offload stops when cpu falls to 0.65",
            "#7 cart: offload 0123456789abcdef (1.2 kB) [cpu] cpu is 0.91",
            "done: now at milan",
            "not session x: it is pinned",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
