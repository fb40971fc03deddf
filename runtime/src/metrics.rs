//! The runtime's own metrics. One place for their names; `docs/metrics.md`
//! explains them. Sessions are never labels.
//!
//! What counts with every request is looked up once (`counter!` and the like allocate);
//! without a recorder it counts nothing.
//!
//! - `requests`: clients' requests, under of-watchdog's names
//! - `node`: sessions, moves, messages, other nodes
//! - `store`: the way to Redis

mod node;
mod requests;
mod store;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::RwLock;

use crate::session::{FunctionName, NodeName};

pub(crate) use node::{Meters, Moving, Stands};
pub(crate) use requests::Requests;
pub use store::StoreMeter;

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

/// The buckets that of-watchdog has: dashboards made for it go on working.
const REQUEST_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// A store on the same machine answers in a fraction of a millisecond.
const STORE_SECONDS: [f64; 10] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

fn builder() -> PrometheusBuilder {
    let full = |name: &str| Matcher::Full(name.to_owned());
    // The one error there is would be a list without a bucket.
    PrometheusBuilder::new()
        .set_buckets_for_metric(full("http_request_duration_seconds"), &REQUEST_SECONDS)
        .and_then(|it| it.set_buckets_for_metric(full("funicular_wait_seconds"), &REQUEST_SECONDS))
        .and_then(|it| it.set_buckets_for_metric(full("funicular_store_seconds"), &STORE_SECONDS))
        .unwrap_or_else(|_| PrometheusBuilder::new())
}

/// The labels that everything of one function at one node has.
type Labels = Vec<(&'static str, String)>;

fn labels(node: &NodeName, function: &FunctionName) -> Labels {
    vec![("node", node.to_string()), ("function_name", function.to_string())]
}

/// What is counted apart by one more label, which takes few values: each is looked up once.
#[derive(Debug)]
struct By<K, H>(RwLock<BTreeMap<K, H>>);

impl<K, H> Default for By<K, H> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Ord + Clone, H> By<K, H> {
    fn with(&self, key: &K, make: impl FnOnce() -> H, count: impl FnOnce(&H)) {
        if let Some(known) = self.0.read().get(key) {
            return count(known);
        }
        count(self.0.write().entry(key.clone()).or_insert_with(make));
    }
}
