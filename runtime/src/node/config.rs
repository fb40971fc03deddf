//! What a node can be told about itself.

use std::time::Duration;

use crate::peers::WireVersion;
use crate::session::{FunctionName, NodeName};

/// The settings of one function at one node. `docs/configuration.md` lists the
/// environment variables behind them.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// This node.
    pub here: NodeName,
    /// This function.
    pub function: FunctionName,
    /// Names the backup that this node's store was last put back to, if it ever was: a
    /// store without this label is not served before it was restored.
    pub restored: Option<String>,
    /// How long a request waits for a busy session before 503.
    pub session_wait: Duration,
    /// How long reads go on at the source after a freeze.
    pub leaving_reads: Duration,
    /// Within this time after the nodes are back, every session has one owner.
    pub recovery_interval: Duration,
    /// A pointer younger than this is followed without asking home.
    pub pointer_fresh: Duration,
    /// A pointer away from home may go after this time.
    pub pointer_ttl: Duration,
    /// An idle session expires after this time; zero means never.
    pub session_ttl: Duration,
    /// How long a lease holds when its process stops renewing it.
    pub lease_ttl: Duration,
    /// How long a handler may run.
    pub exec_timeout: Duration,
    /// How long a freeze waits for the running request.
    pub freeze_wait: Duration,
    /// How long one internal call may take.
    pub peer_timeout: Duration,
    /// How long a client may send nothing in the middle of a request.
    pub read_timeout: Duration,
    /// Largest request body, in bytes.
    pub max_body: usize,
    /// Largest session, in bytes of fields and contents.
    pub max_session_bytes: u64,
    /// Most sessions here at once.
    pub max_sessions: u64,
    /// Most new sessions a second.
    pub creation_rate: u32,
    /// Most requests at once, running or waiting; zero means no limit.
    pub max_inflight: usize,
    /// Most handlers that run for clients at once, others wait; zero means no limit.
    pub max_running: usize,
    /// Most requests that wait for one session.
    pub max_waiting: usize,
    /// Sessions up to this many bytes are read together with their record.
    pub inline_max: u64,
    /// Bodies up to this many bytes are kept for a repeat.
    pub replay_body_max: usize,
    /// Most moves to this node at once.
    pub max_moves_in: usize,
    /// Most moves away from this node at once.
    pub max_moves_out: usize,
    /// Most moves at once between this node and each other one, in each direction.
    pub max_moves_pair: usize,
    /// Most moves that wait for one of those places, in each direction.
    pub max_moves_waiting: usize,
    /// Sessions above this many bytes are copied before they are frozen.
    pub precopy_min: u64,
    /// The newest version of the internal calls that the node speaks.
    pub wire_version: WireVersion,
}

impl NodeConfig {
    /// The defaults for `function` at `here`.
    pub fn new(here: NodeName, function: FunctionName) -> Self {
        Self {
            here,
            function,
            restored: None,
            session_wait: Duration::from_secs(5),
            leaving_reads: Duration::from_secs(1),
            recovery_interval: Duration::from_secs(2),
            pointer_fresh: Duration::from_secs(10),
            pointer_ttl: Duration::from_secs(3600),
            session_ttl: Duration::from_secs(24 * 3600),
            lease_ttl: Duration::from_millis(1500),
            exec_timeout: Duration::from_secs(30),
            freeze_wait: Duration::from_secs(2),
            peer_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(30),
            max_body: 64 * 1024 * 1024,
            max_session_bytes: 256 * 1024 * 1024,
            max_sessions: 1_000_000,
            creation_rate: 10_000,
            max_inflight: 0,
            max_running: 0,
            max_waiting: 1024,
            inline_max: 16 * 1024,
            replay_body_max: 4096,
            max_moves_in: 16,
            max_moves_out: 16,
            max_moves_pair: 8,
            max_moves_waiting: 256,
            precopy_min: 64 * 1024,
            wire_version: WireVersion::NEWEST,
        }
    }

    /// What these settings leave open, and what to do about it: for the log.
    pub(crate) fn caveat(&self) -> Option<&'static str> {
        let unbounded = self.max_running != 0 && self.max_inflight == 0;
        unbounded.then_some(
            "max_running without max_inflight: all requests of the last session_wait may wait in \
             memory with their bodies: set max_inflight",
        )
    }

    /// How long a move may be silent before its source asks.
    pub(crate) fn ask_after(&self) -> Duration {
        self.recovery_interval / 2
    }

    /// How often the node looks for sessions in doubt.
    pub(crate) fn recovery_tick(&self) -> Duration {
        (self.recovery_interval / 8).max(Duration::from_millis(20))
    }
}
