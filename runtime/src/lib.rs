//! funicular
pub mod protocol;
pub mod session;
pub mod topology;
