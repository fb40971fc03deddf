//! The runtime's own metrics. One place for their names; `docs/metrics.md`
//! explains them. Sessions are never labels.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use parking_lot::RwLock;

use crate::node::NodeConfig;
use crate::peers::messages::MoveReport;
use crate::session::{FunctionName, NodeName};
use crate::store::Counts;

/// What renders the metrics as Prometheus text. One a process.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Installs the recorder, once a process.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = INSTALLED.get_or_init(|| {
            let recorder = builder().build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed; /metrics stays empty");
            }
            handle
        });
        Self(handle.clone())
    }

    /// `GET /metrics`; also keeps the histograms bounded.
    pub fn router(&self) -> Router {
        let upkeep = self.0.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                upkeep.run_upkeep();
            }
        });
        let handle = self.0.clone();
        Router::new().route("/metrics", get(move || async move { handle.render() }))
    }
}

/// With the buckets that of-watchdog has: dashboards made for it go on working.
fn builder() -> PrometheusBuilder {
    const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let of = Matcher::Full("http_request_duration_seconds".to_owned());
    // The one error there is would be a list without a bucket.
    let builder = PrometheusBuilder::new().set_buckets_for_metric(of, &SECONDS);
    builder.unwrap_or_else(|_| PrometheusBuilder::new())
}

/// Counts one function's requests at one node, under of-watchdog's names. What it
/// counts with is looked up once, not with every request.
pub(crate) struct Requests {
    config: NodeConfig,
    in_flight: OnceLock<Gauge>,
    /// By method and status: a few.
    answered: RwLock<BTreeMap<(&'static str, u16), Answered>>,
}

/// Requests that were answered alike.
struct Answered {
    count: Counter,
    took: Histogram,
}

impl Answered {
    fn one_more(&self, took: Duration) {
        self.count.increment(1);
        self.took.record(took.as_secs_f64());
    }
}

impl Requests {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self { config: config.clone(), in_flight: OnceLock::new(), answered: RwLock::default() }
    }

    /// A client's request is being answered, until what is returned is dropped.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        let gauge = self.in_flight.get_or_init(|| {
            let config = &self.config;
            let labels =
                [("node", config.here.to_string()), ("function_name", config.function.to_string())];
            gauge!("http_requests_in_flight", &labels)
        });
        gauge.increment(1.0);
        InFlight(gauge)
    }

    /// It was answered.
    pub(crate) fn answered(&self, method: &http::Method, code: u16, took: Duration) {
        let key = (standard(method), code);
        if let Some(known) = self.answered.read().get(&key) {
            return known.one_more(took);
        }
        let labels = [
            ("node", self.config.here.to_string()),
            ("function_name", self.config.function.to_string()),
            ("method", key.0.to_owned()),
            ("code", code.to_string()),
        ];
        let new = Answered {
            count: counter!("http_requests_total", &labels),
            took: histogram!("http_request_duration_seconds", &labels),
        };
        new.one_more(took);
        self.answered.write().insert(key, new);
    }
}

/// A client may send any word as a method; a label is one of a few.
fn standard(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// A client's request that is being answered.
pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

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

/// Whether a newer topology is refused.
pub(crate) fn topology_refused(config: &NodeConfig, refused: bool) {
    let labels =
        [("node", config.here.to_string()), ("function_name", config.function.to_string())];
    gauge!("funicular_topology_refused", &labels).set(f64::from(u8::from(refused)));
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
