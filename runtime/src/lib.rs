//! funicular
pub mod protocol;
pub mod session;
pub mod store;
pub mod topology;
