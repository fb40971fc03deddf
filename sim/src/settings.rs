//! What the model is told of machines, networks and requests. `docs/simulation.md` says
//! where each number comes from.

use serde::{Deserialize, Serialize};

/// Machines, networks and requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Requests that an edge can run at once.
    pub edge_servers: f64,
    /// A node one level further up has so many times as much of everything. The root has as
    /// much as it needs.
    pub widening: f64,
    /// What an edge's store may hold, in bytes.
    pub edge_memory: f64,
    /// From a client to its edge and back, in milliseconds.
    pub access_ms: f64,
    /// From an edge to the node above and back, in milliseconds; twice as long on each level
    /// further up.
    pub hop_ms: f64,
    /// From the nodes below the root to it and back, in milliseconds.
    pub root_ms: f64,
    /// What a link carries for a move, in bytes a second.
    pub bandwidth: f64,
    /// How long a request runs, in milliseconds, in the mean.
    pub service_ms: f64,
    /// Bytes of a request and its response.
    pub request_bytes: f64,
    /// A request that would wait for longer, in seconds, is refused.
    pub patience: f64,
    /// An idle session expires after so many seconds.
    pub session_ttl: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            edge_servers: 4.0,
            widening: 4.0,
            edge_memory: 256e6,
            access_ms: 5.0,
            hop_ms: 8.0,
            root_ms: 40.0,
            bandwidth: 12.5e6,
            service_ms: 20.0,
            request_bytes: 4096.0,
            patience: 10.0,
            session_ttl: 86_400,
        }
    }
}

impl Settings {
    /// Whether this makes sense; the first thing that does not is the error.
    pub fn check(&self) -> Result<(), String> {
        let above_zero = [
            ("edge-servers", self.edge_servers),
            ("widening", self.widening),
            ("edge-memory", self.edge_memory),
            ("bandwidth", self.bandwidth),
            ("service-ms", self.service_ms),
            ("patience", self.patience),
        ];
        for (name, value) in above_zero {
            if !value.is_finite() || value <= 0.0 {
                return Err(format!("{name} is a number above zero, not {value}"));
            }
        }
        let lengths = [
            ("access-ms", self.access_ms),
            ("hop-ms", self.hop_ms),
            ("root-ms", self.root_ms),
            ("request-bytes", self.request_bytes),
        ];
        for (name, value) in lengths {
            if !value.is_finite() || value < 0.0 {
                return Err(format!("{name} is a number, zero or above, not {value}"));
            }
        }
        Ok(())
    }
}
