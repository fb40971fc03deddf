//! What a function is: routes with handlers, or one handler for everything.
//!
//! The signature of a handler decides what it may do: one with `&ReadDb` reads,
//! one with `&mut EdgeDb` writes.
//!
//! ```
//! use funicular::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Item { sku: String, count: u32 }
//!
//! pub struct Cart { max_items: usize }
//!
//! impl Cart {
//!     async fn list(&self, _req: Request, db: &ReadDb) -> Result<Response> {
//!         Response::json(&db.get_list_json::<Item>("items").await?)
//!     }
//!
//!     async fn add(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
//!         let item: Item = req.json()?;
//!         if db.list_len("items").await? >= self.max_items {
//!             return Err(Error::conflict("the cart is full"));
//!         }
//!         db.add_to_list_json("items", &item)?;
//!         Ok(Response::status(StatusCode::CREATED))
//!     }
//! }
//!
//! pub fn function() -> Function {
//!     Function::routes(Cart { max_items: 100 })
//!         .on("GET /items", Cart::list)
//!         .on("POST /items", Cart::add)
//!         .into()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cart = funicular::testing::session(function()).await;
//! let apples = serde_json::json!({"sku": "apple", "count": 2});
//! assert_eq!(cart.post("/items", apples).await.status(), StatusCode::CREATED);
//! assert_eq!(cart.get("/items").await.text(), r#"[{"sku":"apple","count":2}]"#);
//! # }
//! ```
//!
//! - [`Request`], [`Response`], [`Error`]: what goes in and comes out
//! - [`handler`]: which signatures may stand in a route
//! - `routes`: from method and path to handler
//!
//! A handler may run more than once for one request: when the session changes or moves
//! under it, when it fails, or when a client repeats a request. What it writes through its handle takes effect once, and so do its messages
//! and its calls to other functions; whatever else it does in the world it has to be
//! able to do twice.
//!
//! For a function with one handler there are
//! [`Offloadable`] and [`ReadOnly`]. The node
//! sees none of the author's types: it asks a [`Function`] which access a request
//! needs, and runs it.

use std::sync::Arc;

use http::Method;

use crate::edge_db::{EdgeDb, ReadDb};
use crate::offloadable::{Offload, Offloadable, Read, ReadOnly};
use crate::protocol::Access;

mod error;
pub mod handler;
mod request;
mod response;
mod routes;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use handler::Propagated;
pub use request::{Request, RequestBuilder};
pub use response::Response;
pub use routes::Routes;

pub(crate) use error::Failure;
pub(crate) use handler::Running;

/// A function, ready to be served. Clones are cheap and share its state.
#[derive(Clone)]
pub struct Function {
    erased: Arc<dyn Erased>,
    faults: Arc<[String]>,
    schema: u32,
}

/// A function without the author's types.
pub(crate) trait Erased: Send + Sync {
    fn resolve(&self, method: &Method, path: &str) -> Result<Matched, NoRoute>;
    fn read<'a>(
        &'a self,
        matched: &Matched,
        request: Request,
        db: &'a ReadDb,
    ) -> Running<'a, Response>;
    fn write<'a>(
        &'a self,
        matched: &Matched,
        request: Request,
        db: &'a mut EdgeDb,
    ) -> Running<'a, Response>;
    fn propagated<'a>(&'a self, value: Propagated, db: &'a mut EdgeDb) -> Running<'a, ()>;
}

/// What a request needs, and which handler will run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Whether the handler reads or writes.
    pub access: Access,
    handler: usize,
    params: Vec<(String, String)>,
}

impl Matched {
    /// For a function with one handler.
    pub(crate) fn only(access: Access) -> Self {
        Self { access, handler: 0, params: Vec::new() }
    }
}

/// Why no handler runs a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// No route takes this path.
    NotFound,
    /// Routes take this path with these methods, for the header `Allow`.
    MethodNotAllowed(Vec<Method>),
}

impl Function {
    /// Starts a function of routes; handlers get a reference to `state`, one
    /// value for all sessions.
    pub fn routes<S: Send + Sync + 'static>(state: S) -> Routes<S> {
        Routes::new(state)
    }

    /// A function with one handler that writes, for every method and path.
    pub fn offloadable(handler: impl Offloadable) -> Self {
        Self::build(Offload(handler), Vec::new())
    }

    /// A function with one handler that reads, for every method and path.
    pub fn read_only(handler: impl ReadOnly) -> Self {
        Self::build(Read(handler), Vec::new())
    }

    fn build(erased: impl Erased + 'static, faults: Vec<String>) -> Self {
        Self { erased: Arc::new(erased), faults: faults.into(), schema: 0 }
    }

    /// States the version of the data that this function keeps in a session
    /// (default 0). A session is never moved to a node whose function states a
    /// lower one than where it comes from.
    #[must_use]
    pub fn session_schema(mut self, version: u32) -> Self {
        self.schema = version;
        self
    }

    /// The version that [`Function::session_schema`] stated.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// Whether the function can be served; else, one sentence a fault.
    pub fn check(&self) -> Result<(), String> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults.join("\n")) }
    }

    /// Which handler runs a request of this method and path.
    pub(crate) fn resolve(&self, method: &Method, path: &str) -> Result<Matched, NoRoute> {
        self.erased.resolve(method, if path.is_empty() { "/" } else { path })
    }

    /// Runs a request whose access is `Read`.
    pub(crate) async fn run_read(
        &self,
        matched: &Matched,
        request: Request,
        db: &ReadDb,
    ) -> Result<Response> {
        let request = request.with_params(&matched.params);
        let answer = self.erased.read(matched, request, db).await;
        settle(answer, db).and_then(Response::checked)
    }

    /// Runs a request whose access is `Write`. What it changed is in `db`,
    /// to be committed if the answer is a response below 400.
    pub(crate) async fn run_write(
        &self,
        matched: &Matched,
        request: Request,
        db: &mut EdgeDb,
    ) -> Result<Response> {
        let request = request.with_params(&matched.params);
        let answer = self.erased.write(matched, request, db).await;
        settle(answer, db).and_then(Response::checked)
    }

    /// Runs the handler of propagated values; writes, as above.
    pub(crate) async fn run_propagate(&self, value: Propagated, db: &mut EdgeDb) -> Result<()> {
        let answer = self.erased.propagated(value, db).await;
        settle(answer, db)
    }
}

/// A handler that swallowed a failed read worked with data that is not the
/// session's: the failure is the answer, whatever the handler said.
fn settle<T>(answer: Result<T>, db: &ReadDb) -> Result<T> {
    match db.failure() {
        Some(failure) => Err(failure.into_error()),
        None => answer,
    }
}

/// The answer of a function without a handler for propagated values.
pub(crate) fn takes_no_values<'a>() -> Running<'a, ()> {
    Box::pin(std::future::ready(Err(Error::not_found("this function takes no propagated values"))))
}

/// The answer to a request that is run with another access than it resolved to.
pub(crate) fn wrong_access<'a, T: Send + 'a>() -> Running<'a, T> {
    Box::pin(std::future::ready(Err(Error::internal(
        "a handler was run with the wrong access: a fault of the runtime",
    ))))
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function")
            .field("schema", &self.schema)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}
