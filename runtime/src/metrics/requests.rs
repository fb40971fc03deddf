//! Clients' requests.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{By, Labels, labels};
use crate::http::problem::Code;
use crate::node::NodeConfig;
use crate::session::NodeName;

/// Counts one function's requests at one node.
pub(crate) struct Requests {
    labels: Labels,
    in_flight: OnceLock<Gauge>,
    /// By method and status: a few.
    answered: By<(&'static str, u16), Answered>,
    refused: By<Code, Counter>,
    redirected: By<NodeName, Counter>,
}

/// Requests that were answered alike.
struct Answered {
    count: Counter,
    took: Histogram,
}

impl Requests {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            labels: labels(&config.here, &config.function),
            in_flight: OnceLock::new(),
            answered: By::default(),
            refused: By::default(),
            redirected: By::default(),
        }
    }

    fn and(&self, more: impl IntoIterator<Item = (&'static str, String)>) -> Labels {
        self.labels.iter().cloned().chain(more).collect()
    }

    /// A client's request is being answered, until what is returned is dropped.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        let gauge = self.in_flight.get_or_init(|| gauge!("http_requests_in_flight", &self.labels));
        gauge.increment(1.0);
        InFlight(gauge)
    }

    /// It was answered.
    pub(crate) fn answered(&self, method: &http::Method, code: u16, took: Duration) {
        let key = (standard(method), code);
        let make = || {
            let labels = self.and([("method", key.0.to_owned()), ("code", code.to_string())]);
            Answered {
                count: counter!("http_requests_total", &labels),
                took: histogram!("http_request_duration_seconds", &labels),
            }
        };
        self.answered.with(&key, make, |alike| {
            alike.count.increment(1);
            alike.took.record(took.as_secs_f64());
        });
    }

    /// It was answered with a problem of this code.
    pub(crate) fn refused(&self, code: Code) {
        let reason = || self.and([("reason", code.as_str().to_owned())]);
        let make = || counter!("funicular_requests_refused_total", &reason());
        self.refused.with(&code, make, |count| count.increment(1));
    }

    /// It was sent to another node.
    pub(crate) fn redirected(&self, to: &NodeName) {
        let labels = || self.and([("to", to.to_string())]);
        let make = || counter!("funicular_redirects_total", &labels());
        self.redirected.with(to, make, |count| count.increment(1));
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
