//! funicular
mod failpoint;
mod metrics;
pub mod node;
pub mod peers;
pub mod protocol;
pub mod session;
pub mod store;
pub mod topology;
