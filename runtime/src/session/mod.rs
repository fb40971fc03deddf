//! Plain types: what a session is, what a node's store knows of it, and what
//! travels between nodes. No I/O, no clock, no randomness.
//!
//! - [`ids`]: the names things go by (session, node, function, epoch, …)
//! - [`token`]: the `SessionToken` clients and nodes exchange
//! - [`record`]: what one node knows of a session (`Owned`, `Migrating`, …)
//! - [`fields`]: how values and lists are laid out as flat fields
//! - [`changes`]: what one request changes
//! - [`window`]: the deduplication window's entries
//! - [`packet`]: pages of a session on the wire

pub mod changes;
pub mod fields;
pub mod ids;
pub mod packet;
pub mod record;
pub mod token;
pub mod window;

pub use changes::{Change, Changes, OutboxEntry};
pub use ids::{
    Epoch, FunctionName, Incarnation, InvalidId, LeaseId, Millis, NodeName, Nonce, RequestId,
    SessionId, SessionKey,
};
pub use packet::{Page, SessionData};
pub use record::{Lease, Life, Pull, Record, Slot, Transfer};
pub use token::SessionToken;
pub use window::{Digest, StoredResponse, WindowEntry};
