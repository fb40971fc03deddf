//! Functions with one handler: the trait of the draft and its read-only twin.

use std::future::Future;

use http::Method;

use crate::edge_db::{EdgeDb, ReadDb};
use crate::function::{
    Erased, Error, Matched, NoRoute, Propagated, Request, Response, Result, Running,
};
use crate::protocol::Access;

/// A function with one handler that may write, for every method and path.
/// Implement it with plain `async fn`s and serve it with
/// [`Function::offloadable`](crate::Function::offloadable):
///
/// ```
/// use funicular::prelude::*;
///
/// struct Greeter;
///
/// impl Offloadable for Greeter {
///     async fn handle_offload(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
///         let before = db.get_text("name").await?.unwrap_or_default();
///         db.set("name", req.text()?)?;
///         Ok(Response::text(format!("Hello. Before you came {before:?}.")))
///     }
/// }
///
/// pub fn function() -> Function {
///     Function::offloadable(Greeter)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Offloadable`",
    label = "this type has no `handle_offload`",
    note = "write `impl Offloadable for {Self} {{ async fn handle_offload(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {{ … }} }}`"
)]
pub trait Offloadable: Send + Sync + 'static {
    /// Answers a request; nothing else runs in the session meanwhile. What it
    /// writes takes effect together with its answer: all of it, or, after an
    /// error or a status of 400 or more, none.
    fn handle_offload(
        &self,
        request: Request,
        db: &mut EdgeDb,
    ) -> impl Future<Output = Result<Response>> + Send;

    /// Takes a value that the session of the same id propagated from another
    /// node; each value arrives once. Unless given, values are refused.
    fn handle_propagate(
        &self,
        value: Propagated,
        db: &mut EdgeDb,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (value, db);
        async { Err(Error::not_found("this function takes no propagated values")) }
    }
}

/// A function with one handler that only reads, for every method and path. Its
/// requests wait for nobody and run any number at once. Serve it with
/// [`Function::read_only`](crate::Function::read_only).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `ReadOnly`",
    label = "this type has no `handle_read`",
    note = "write `impl ReadOnly for {Self} {{ async fn handle_read(&self, req: Request, db: &ReadDb) -> Result<Response> {{ … }} }}`"
)]
pub trait ReadOnly: Send + Sync + 'static {
    /// Answers a request. It sees one version of the session; should that
    /// change underneath it, it runs again.
    fn handle_read(
        &self,
        request: Request,
        db: &ReadDb,
    ) -> impl Future<Output = Result<Response>> + Send;
}

/// Erases an [`Offloadable`].
pub(crate) struct Offload<T>(pub(crate) T);

impl<T: Offloadable> Erased for Offload<T> {
    fn resolve(&self, _: &Method, _: &str) -> Result<Matched, NoRoute> {
        Ok(Matched::only(Access::Write))
    }

    fn read<'a>(&'a self, _: &Matched, _: Request, _: &'a ReadDb) -> Running<'a, Response> {
        crate::function::wrong_access()
    }

    fn write<'a>(
        &'a self,
        _: &Matched,
        request: Request,
        db: &'a mut EdgeDb,
    ) -> Running<'a, Response> {
        Box::pin(self.0.handle_offload(request, db))
    }

    fn propagated<'a>(&'a self, value: Propagated, db: &'a mut EdgeDb) -> Running<'a, ()> {
        Box::pin(self.0.handle_propagate(value, db))
    }
}

/// Erases a [`ReadOnly`].
pub(crate) struct Read<T>(pub(crate) T);

impl<T: ReadOnly> Erased for Read<T> {
    fn resolve(&self, _: &Method, _: &str) -> Result<Matched, NoRoute> {
        Ok(Matched::only(Access::Read))
    }

    fn read<'a>(&'a self, _: &Matched, request: Request, db: &'a ReadDb) -> Running<'a, Response> {
        Box::pin(self.0.handle_read(request, db))
    }

    fn write<'a>(&'a self, _: &Matched, _: Request, _: &'a mut EdgeDb) -> Running<'a, Response> {
        crate::function::wrong_access()
    }

    fn propagated<'a>(&'a self, _: Propagated, _: &'a mut EdgeDb) -> Running<'a, ()> {
        crate::function::takes_no_values()
    }
}
