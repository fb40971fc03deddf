//! Functions made of routes.

use http::Method;

use super::error::Result;
use super::handler::{
    Handler, IntoHandler, Kind, PropagateFn, PropagateHandler, Propagated, Running, propagate_fn,
};
use super::request::Request;
use super::response::Response;
use super::{Erased, Function, Matched, NoRoute};
use crate::edge_db::{EdgeDb, ReadDb};
use crate::protocol::Access;

/// The methods a route may name. `OPTIONS` is answered by the node, from them.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A function that is being put together, route by route; `into()` ends it.
/// Made by [`Function::routes`].
pub struct Routes<S> {
    state: S,
    handlers: Vec<Handler<S>>,
    methods: Vec<(Method, matchit::Router<usize>)>,
    propagated: Option<Box<PropagateFn<S>>>,
    schema: u32,
    faults: Vec<String>,
}

impl<S: Send + Sync + 'static> Routes<S> {
    pub(super) fn new(state: S) -> Self {
        Self {
            state,
            handlers: Vec::new(),
            methods: Vec::new(),
            propagated: None,
            schema: 0,
            faults: Vec::new(),
        }
    }

    /// Adds a route: a method, a space, a path, and who handles it. In the path,
    /// `{n}` takes one segment and `{*rest}`, at the end, all that follow; the
    /// handler asks for them with [`Request::param`]. A route for `GET` serves
    /// `HEAD` too.
    ///
    /// A pattern that does not read, or that takes the same requests as an
    /// earlier one, is reported by [`Function::check`] and when the function is
    /// to start.
    #[must_use]
    pub fn on<K>(mut self, pattern: &str, handler: impl IntoHandler<S, K>) -> Self {
        match self.insert(pattern) {
            Ok(()) => self.handlers.push(handler.into_handler()),
            Err(why) => self.faults.push(format!("route {pattern:?}: {why}")),
        }
        self
    }

    /// Says who handles values that other nodes propagate to a session; one
    /// handler a function.
    #[must_use]
    pub fn on_propagate<H>(mut self, handler: H) -> Self
    where
        H: for<'a> PropagateHandler<'a, S> + 'static,
    {
        if self.propagated.replace(propagate_fn(handler)).is_some() {
            self.faults.push("on_propagate was called twice; a function has one".to_owned());
        }
        self
    }

    /// States the version of the data that this function keeps in a session
    /// (default 0). A session is never moved to a node whose function states a
    /// lower one than where it comes from.
    #[must_use]
    pub fn session_schema(mut self, version: u32) -> Self {
        self.schema = version;
        self
    }

    fn insert(&mut self, pattern: &str) -> Result<(), String> {
        let (method, path) = pattern
            .split_once(' ')
            .ok_or("write a method, a space and a path, as in \"GET /items/{n}\"")?;
        let path = path.trim();
        let method = METHODS
            .into_iter()
            .find(|known| known.as_str() == method)
            .ok_or_else(|| format!("{method:?} is not GET, HEAD, POST, PUT, PATCH or DELETE"))?;
        if !path.starts_with('/') {
            return Err("the path begins with a slash".to_owned());
        }
        if path == "/_" || path.starts_with("/_/") {
            return Err("paths under /_/ belong to the platform".to_owned());
        }
        let index = self.methods.iter().position(|(known, _)| *known == method);
        let index = index.unwrap_or_else(|| {
            self.methods.push((method, matchit::Router::new()));
            self.methods.len() - 1
        });
        let router = &mut self.methods[index].1;
        router.insert(path, self.handlers.len()).map_err(|fault| fault.to_string())
    }
}

impl<S> Routes<S> {
    fn find(&self, method: &Method, path: &str) -> Option<Matched> {
        let (_, router) = self.methods.iter().find(|(known, _)| known == method)?;
        let found = router.at(path).ok()?;
        let params = found.params.iter().map(|(name, text)| (name.to_owned(), decode(text)));
        let access = match self.handlers.get(*found.value)?.0 {
            Kind::Read(_) => Access::Read,
            Kind::Write(_) => Access::Write,
        };
        Some(Matched { access, handler: *found.value, params: params.collect() })
    }
}

/// Text that does not decode stays as it was sent.
fn decode(text: &str) -> String {
    match percent_encoding::percent_decode_str(text).decode_utf8() {
        Ok(decoded) => decoded.into_owned(),
        Err(_) => text.to_owned(),
    }
}

impl<S: Send + Sync + 'static> Erased for Routes<S> {
    fn resolve(&self, method: &Method, path: &str) -> Result<Matched, NoRoute> {
        let found = self.find(method, path);
        let found = match found {
            None if *method == Method::HEAD => self.find(&Method::GET, path),
            found => found,
        };
        if let Some(matched) = found {
            return Ok(matched);
        }
        let mut allowed: Vec<Method> =
            METHODS.into_iter().filter(|other| self.find(other, path).is_some()).collect();
        if allowed.is_empty() {
            return Err(NoRoute::NotFound);
        }
        if allowed.contains(&Method::GET) && !allowed.contains(&Method::HEAD) {
            allowed.push(Method::HEAD);
        }
        Err(NoRoute::MethodNotAllowed(allowed))
    }

    fn read<'a>(
        &'a self,
        matched: &Matched,
        request: Request,
        db: &'a ReadDb,
    ) -> Running<'a, Response> {
        match self.handlers.get(matched.handler) {
            Some(Handler(Kind::Read(handler))) => handler(&self.state, request, db),
            _ => super::wrong_access(),
        }
    }

    fn write<'a>(
        &'a self,
        matched: &Matched,
        request: Request,
        db: &'a mut EdgeDb,
    ) -> Running<'a, Response> {
        match self.handlers.get(matched.handler) {
            Some(Handler(Kind::Write(handler))) => handler(&self.state, request, db),
            _ => super::wrong_access(),
        }
    }

    fn propagated<'a>(&'a self, value: Propagated, db: &'a mut EdgeDb) -> Running<'a, ()> {
        match &self.propagated {
            Some(handler) => handler(&self.state, value, db),
            None => super::takes_no_values(),
        }
    }
}

impl<S: Send + Sync + 'static> From<Routes<S>> for Function {
    fn from(mut routes: Routes<S>) -> Self {
        if routes.handlers.is_empty() && routes.propagated.is_none() && routes.faults.is_empty() {
            routes.faults.push("it has no routes: add one with .on(\"GET /\", …)".to_owned());
        }
        let (schema, faults) = (routes.schema, std::mem::take(&mut routes.faults));
        Self::build(routes, faults).session_schema(schema)
    }
}

impl<S> std::fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Routes({} handlers)", self.handlers.len())
    }
}
