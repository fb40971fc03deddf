//! The HTTP surface.
//!
//! - [`problem`]: errors as `application/problem+json`
//! - [`signature`]: who may make internal calls, and whose answers count

pub mod problem;
pub mod signature;
