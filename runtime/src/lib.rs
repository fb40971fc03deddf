//! Stateful functions for OpenFaaS hierarchies, whose sessions move between nodes
//! in milliseconds, lose nothing and show their clients no error.
//!
//! A function keeps state per *session*. The session lives on one node of a tree
//! (edge → middle → root), moves up when its node is loaded and down when there is
//! room, and every client is sent by HTTP 307 to where it lives now.
//!
//! # Writing a function
//!
//! ```
//! use funicular::prelude::*;
//!
//! async fn greet(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
//!     let visits: u32 = db.get_json("visits").await?.unwrap_or(0) + 1;
//!     db.set_json("visits", &visits)?;
//!     Ok(Response::text(format!("Hello, {}! Visit {visits}.", request.session())))
//! }
//!
//! pub fn function() -> Function {
//!     Function::routes(()).on("POST /hello", greet).into()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let ada = funicular::testing::session(function()).id("ada").await;
//! ada.request(Request::post("/hello")).await;
//! let answer = ada.request(Request::post("/hello")).await;
//! assert_eq!(answer.text(), "Hello, ada! Visit 2.");
//! # }
//! ```
//!
//! and its `main` is `funicular::serve(function()).await`. What a handler may do is
//! in its signature: `&ReadDb` reads, `&mut EdgeDb` writes. Everything it writes is
//! committed together with its response, or not at all. See [`prelude`] for what an
//! author needs, [`testing`] for tests without a server.
//!
//! # A map of the house
//!
//! Arrows only point down.
//!
//! | for authors | |
//! |---|---|
//! | [`function`], [`offloadable`] | requests, responses, routes, handlers |
//! | [`edge_db`] | a session's data in a handler's hands; the other nodes |
//! | [`testing`] | a function under test, on real nodes in memory |
//!
//! | the process | |
//! |---|---|
//! | [`serve`](mod@serve) | a function as a process: its own watchdog |
//! | [`config`] | environment variables and secrets |
//! | [`reload`] | topology and secrets, read again when they change |
//! | [`http`] | router, endpoints, problems, signatures |
//! | [`metrics`] | what a process counts |
//! | [`trace`] | where work stands in a trace, and what is passed on |
//!
//! | the node | |
//! |---|---|
//! | [`node`] | requests, moves, recovery: the I/O around the protocol |
//! | [`peers`] | the other nodes: messages and signed HTTP |
//! | [`store`] | where sessions are kept: memory or Redis |
//!
//! | the core, without I/O | |
//! |---|---|
//! | [`protocol`] | what a record does with each event |
//! | [`session`] | tokens, records, data, pages |
//! | [`topology`] | the tree: file format and questions |
//!
//! `docs/protocol.md` tells how a session lives and moves, with pictures.

/// What a function allocates with, if it asks for the feature `mimalloc`.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod config;
pub mod edge_db;
mod failpoint;
pub mod function;
pub mod http;
mod in_time;
pub mod metrics;
pub mod node;
pub mod offloadable;
pub mod peers;
pub mod protocol;
pub mod reload;
pub mod serve;
pub mod session;
pub mod store;
pub mod testing;
pub mod topology;
pub mod trace;

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
