//! funicular
pub mod protocol;
pub mod session;
