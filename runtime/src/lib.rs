//! funicular
pub mod session;
