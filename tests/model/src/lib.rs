//! The session protocol, explored exhaustively.
//!
//! The core is compiled in from `runtime/src` by its path, without the crate around
//! it: what is checked here is what runs, and it needs nothing above it.
//!
//! - [`store`]: a store that may forget what it was not asked to sync
//! - [`messages`]: what the nodes say to each other
//! - [`world`]: three nodes, what was sent, and what nobody knows: what happened
//! - [`shell`]: what a node does with a message, as the runtime's `node/` does it
//! - [`clients`]: writing requests, repeated by their id
//! - [`actions`]: everything that can happen, within bounds
//! - [`judge`]: what must hold in every state (G1–G4)
//! - [`rest`]: from every state, faults over, everything comes to rest (G7)
//! - [`explore`]: the checker at work, and what it reports
//! - [`scopes`]: the bounds that are explored

#[path = "../../../runtime/src/protocol/mod.rs"]
#[allow(dead_code, unused_imports)]
pub mod protocol;
#[path = "../../../runtime/src/session/mod.rs"]
#[allow(dead_code, unused_imports)]
pub mod session;

pub mod actions;
pub mod clients;
pub mod explore;
pub mod judge;
pub mod messages;
pub mod rest;
pub mod scopes;
pub mod shell;
pub mod store;
pub mod world;
