//! Stateful functions for OpenFaaS hierarchies whose sessions move between
//! nodes in milliseconds.
pub mod config;
pub mod edge_db;
mod failpoint;
pub mod function;
pub mod http;
pub mod metrics;
pub mod node;
pub mod offloadable;
pub mod peers;
pub mod protocol;
pub mod serve;
pub mod session;
pub mod store;
pub mod testing;
pub mod topology;

pub use edge_db::{EdgeDb, Hierarchy, ReadDb};
pub use function::{Error, Function, Propagated, Request, Response, Result};
pub use offloadable::{Offloadable, ReadOnly};
pub use serve::serve;

/// Everything a function's author needs.
pub mod prelude {
    pub use bytes::Bytes;
    pub use http::{Method, StatusCode};

    pub use crate::edge_db::{EdgeDb, ReadDb};
    pub use crate::function::{Error, Function, Propagated, Request, Response, Result};
    pub use crate::offloadable::{Offloadable, ReadOnly};
}
