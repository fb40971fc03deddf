//! The HTTP surface.
//!
//! - [`signature`]: who may make internal calls, and whose answers count

pub mod signature;
