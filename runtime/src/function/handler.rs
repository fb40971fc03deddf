//! What may stand in a route: the signature decides whether it reads or writes.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use super::request::Request;
use super::response::Response;
use crate::edge_db::{EdgeDb, ReadDb};
use crate::session::{FunctionName, NodeName, SessionId};

/// A handler's future, erased.
pub(crate) type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A value that another node propagated to this session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Propagated {
    /// What was propagated.
    pub value: Bytes,
    /// The node it comes from.
    pub from: NodeName,
    /// The function it was sent to: this one.
    pub function: FunctionName,
    /// The session it was sent from and to: the same id at two nodes.
    pub session: SessionId,
}

impl Propagated {
    /// The value as text; 400 if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.value)
            .map_err(|error| Error::bad_request(format!("the value is not UTF-8 text: {error}")))
    }

    /// The value as JSON; 400 if it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.value).map_err(|error| {
            Error::bad_request(format!("the value is not the JSON that is expected here: {error}"))
        })
    }
}

/// An `async fn(&S, Request, &ReadDb) -> Result<Response>`. Implemented by
/// functions and closures, not by hand.
pub trait ReadHandler<'a, S: 'a>: Send + Sync {
    /// What the handler returns.
    type Fut: Future<Output = Result<Response>> + Send + 'a;
    /// Runs it.
    fn call(&self, state: &'a S, request: Request, db: &'a ReadDb) -> Self::Fut;
}

impl<'a, S, F, Fut> ReadHandler<'a, S> for F
where
    S: 'a,
    F: Fn(&'a S, Request, &'a ReadDb) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Response>> + Send + 'a,
{
    type Fut = Fut;
    fn call(&self, state: &'a S, request: Request, db: &'a ReadDb) -> Fut {
        self(state, request, db)
    }
}

/// An `async fn(&S, Request, &mut EdgeDb) -> Result<Response>`. Implemented by
/// functions and closures, not by hand.
pub trait WriteHandler<'a, S: 'a>: Send + Sync {
    /// What the handler returns.
    type Fut: Future<Output = Result<Response>> + Send + 'a;
    /// Runs it.
    fn call(&self, state: &'a S, request: Request, db: &'a mut EdgeDb) -> Self::Fut;
}

impl<'a, S, F, Fut> WriteHandler<'a, S> for F
where
    S: 'a,
    F: Fn(&'a S, Request, &'a mut EdgeDb) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Response>> + Send + 'a,
{
    type Fut = Fut;
    fn call(&self, state: &'a S, request: Request, db: &'a mut EdgeDb) -> Fut {
        self(state, request, db)
    }
}

/// An `async fn(&S, Propagated, &mut EdgeDb) -> Result<()>`. Implemented by
/// functions and closures, not by hand.
#[diagnostic::on_unimplemented(
    message = "this is not a handler for propagated values to functions of `{S}`",
    label = "expected `async fn(&{S}, Propagated, &mut EdgeDb) -> Result<()>`",
    note = "its future must be `Send`: hold no `Rc`, `RefCell` borrow or lock guard over an `.await`"
)]
pub trait PropagateHandler<'a, S: 'a>: Send + Sync {
    /// What the handler returns.
    type Fut: Future<Output = Result<()>> + Send + 'a;
    /// Runs it.
    fn call(&self, state: &'a S, value: Propagated, db: &'a mut EdgeDb) -> Self::Fut;
}

impl<'a, S, F, Fut> PropagateHandler<'a, S> for F
where
    S: 'a,
    F: Fn(&'a S, Propagated, &'a mut EdgeDb) -> Fut + Send + Sync,
    Fut: Future<Output = Result<()>> + Send + 'a,
{
    type Fut = Fut;
    fn call(&self, state: &'a S, value: Propagated, db: &'a mut EdgeDb) -> Fut {
        self(state, value, db)
    }
}

/// Marks a handler with `&ReadDb`.
#[derive(Debug)]
pub struct Reads;

/// Marks a handler with `&mut EdgeDb`.
#[derive(Debug)]
pub struct Writes;

type ReadFn<S> = dyn for<'a> Fn(&'a S, Request, &'a ReadDb) -> Running<'a, Response> + Send + Sync;
type WriteFn<S> =
    dyn for<'a> Fn(&'a S, Request, &'a mut EdgeDb) -> Running<'a, Response> + Send + Sync;
pub(super) type PropagateFn<S> =
    dyn for<'a> Fn(&'a S, Propagated, &'a mut EdgeDb) -> Running<'a, ()> + Send + Sync;

/// A handler for a route of functions with the state `S`: reads or writes.
pub struct Handler<S>(pub(super) Kind<S>);

pub(super) enum Kind<S> {
    Read(Box<ReadFn<S>>),
    Write(Box<WriteFn<S>>),
}

impl<S> std::fmt::Debug for Handler<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Read(_) => "Handler(&ReadDb)",
            Kind::Write(_) => "Handler(&mut EdgeDb)",
        })
    }
}

/// What [`Routes::on`](super::Routes::on) takes; `Kind` is found by the compiler.
#[diagnostic::on_unimplemented(
    message = "this is not a handler for functions of `{S}`",
    label = "expected `async fn(&{S}, Request, &ReadDb) -> Result<Response>` to read, \
             or `async fn(&{S}, Request, &mut EdgeDb) -> Result<Response>` to write",
    note = "its future must be `Send`: hold no `Rc`, `RefCell` borrow or lock guard over an `.await`"
)]
pub trait IntoHandler<S, Kind> {
    /// Erases the handler's type.
    fn into_handler(self) -> Handler<S>;
}

impl<S, H> IntoHandler<S, Reads> for H
where
    S: 'static,
    H: for<'a> ReadHandler<'a, S> + 'static,
{
    fn into_handler(self) -> Handler<S> {
        Handler(Kind::Read(Box::new(move |state, request, db| {
            Box::pin(self.call(state, request, db))
        })))
    }
}

impl<S, H> IntoHandler<S, Writes> for H
where
    S: 'static,
    H: for<'a> WriteHandler<'a, S> + 'static,
{
    fn into_handler(self) -> Handler<S> {
        Handler(Kind::Write(Box::new(move |state, request, db| {
            Box::pin(self.call(state, request, db))
        })))
    }
}

pub(super) fn propagate_fn<S, H>(handler: H) -> Box<PropagateFn<S>>
where
    S: 'static,
    H: for<'a> PropagateHandler<'a, S> + 'static,
{
    Box::new(move |state, value, db| Box::pin(handler.call(state, value, db)))
}
