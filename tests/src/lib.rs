//! What the suites share.
//!
//! - [`redis`]: a private Redis server for a test, with crashes and power loss
//! - [`tree`]: a tree of real processes, each node with its own Redis or memory
//! - [`client`]: a client as people write them: follows 307, repeats safely
//! - [`probe`]: a function that does whatever a test has to provoke
//! - [`operator`]: signed calls, right ones and wrong ones

pub mod client;
pub mod operator;
pub mod probe;
pub mod redis;
pub mod tree;
