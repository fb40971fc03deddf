//! What the suites share.
//!
//! - [`redis`]: a private Redis server for a test, with crashes and power loss
//! - [`bench`]: a store on the bench: how a test writes to a session in one line
//! - [`conformance`]: the checks that every store must pass

pub mod bench;
pub mod conformance;
pub mod redis;
