//! From the socket to an endpoint or the handler, and back.
//!
//! The body is read in full before anything else, so that any answer, 307 and
//! errors included, goes out after it: gateways break answers that overtake a
//! body.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body;
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::problem::Problem;
use super::processes::Processes;
use super::service::Service;
use super::{client_call, endpoints};
use crate::in_time::within;
use crate::session::FunctionName;

/// A request with its whole body; path and query as they were sent, without
/// `/function/<fn>`.
pub(super) struct Incoming {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// One function at `/`, as a watchdog serves it behind a gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Single {
    service: Service,
    /// Taken off the path.
    prefix: Option<Arc<str>>,
}

impl Single {
    /// With `prefixed`, `/function/<fn>` before the path is taken off, for a function that
    /// is reached without a gateway.
    pub fn new(service: Service, prefixed: bool) -> Self {
        let prefix = || format!("/function/{}", service.node.config().function).into();
        Self { prefix: prefixed.then(prefix), service }
    }

    /// Answers one request.
    pub async fn serve<B>(&self, request: Request<B>) -> Response
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let path = request.uri().path();
        let stripped = self.prefix.as_ref().and_then(|prefix| path.strip_prefix(&**prefix));
        let path = match stripped {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        };
        let path = path.to_owned();
        serve(&self.service, path, request).await
    }
}

/// Serves several functions at `/function/<fn>/…`, as a gateway does: those of this
/// process, and before them those of others.
pub fn gateway(services: impl IntoIterator<Item = Service>, processes: Processes) -> Router {
    let by_name: BTreeMap<FunctionName, Service> = services
        .into_iter()
        .map(|service| (service.node.config().function.clone(), service))
        .collect();
    let functions = Functions { by_name, processes };
    Router::new().fallback(at_gateway).with_state(Arc::new(functions))
}

struct Functions {
    by_name: BTreeMap<FunctionName, Service>,
    processes: Processes,
}

impl Functions {
    fn names(&self) -> BTreeSet<&FunctionName> {
        self.by_name.keys().chain(self.processes.names()).collect()
    }
}

async fn at_gateway(State(all): State<Arc<Functions>>, request: Request<body::Body>) -> Response {
    let functions = &all.by_name;
    let path = request.uri().path();
    if path == "/healthz" {
        return plain(StatusCode::OK, "OK");
    }
    if path == "/system/functions" && *request.method() == Method::GET {
        return listing(&all);
    }
    let named = path.strip_prefix("/function/").map(|rest| match rest.split_once('/') {
        Some((name, rest)) => (name, format!("/{rest}")),
        None => (rest, "/".to_owned()),
    });
    let named = named.and_then(|(name, rest)| Some((FunctionName::new(name).ok()?, rest)));
    if let Some((name, _)) = &named
        && all.processes.has(name)
    {
        return all.processes.pass_on(name, request).await;
    }
    let found = named.and_then(|(name, rest)| Some((functions.get(&name)?.clone(), rest)));
    match found {
        Some((service, path)) => serve(&service, path, request).await,
        None => {
            // The body first, as everywhere.
            let _ = request.into_body().collect().await;
            let names: Vec<_> = all.names().into_iter().map(FunctionName::as_str).collect();
            plain(
                StatusCode::NOT_FOUND,
                &format!("no such function; there are /function/{}\n", names.join(", /function/")),
            )
        }
    }
}

/// OpenFaaS's own list of functions, as far as tools read it.
fn listing(all: &Functions) -> Response {
    let here = all.by_name.values().next().map(|service| service.node.here().clone());
    let list: Vec<_> = all
        .names()
        .into_iter()
        .map(|name| {
            serde_json::json!({
                "name": name,
                "namespace": "openfaas-fn",
                "replicas": 1,
                "availableReplicas": 1,
                "labels": {"com.funicular.location": here},
            })
        })
        .collect();
    let mut response = Response::new(body::Body::from(serde_json::Value::from(list).to_string()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(body::Body::from(text.to_owned()));
    *response.status_mut() = status;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    response
}

async fn serve<B>(service: &Service, path: String, request: Request<B>) -> Response
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let (head, body) = request.into_parts();
    let config = service.node.config();
    let body = match read_body(body, config.max_body, config.read_timeout).await {
        Ok(body) => body,
        Err(problem) => return client_call::varies(problem.response().map(body::Body::from)),
    };
    let incoming = Incoming {
        query: head.uri.query().map(str::to_owned),
        method: head.method,
        path,
        headers: head.headers,
        body,
    };
    match incoming.path.strip_prefix("/_/") {
        Some(endpoint) => Box::pin(endpoints::dispatch(service, endpoint, &incoming)).await,
        None => client_call::handle(service, incoming).await,
    }
}

/// Reads a body in full. One that is too large is read to its end too, a while.
async fn read_body<B>(mut body: B, max: usize, idle: Duration) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    const PATIENCE: usize = 4;
    // Most bodies come in one piece, or are none.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut read = 0_usize;
    loop {
        // Which a body without any says beforehand.
        if body.is_end_stream() {
            break;
        }
        let frame = within(idle, body.frame()).await.ok_or_else(|| {
            Problem::bad_request("the body stopped arriving; send the request again")
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Problem::bad_request(format!("the body broke off ({error}); send the request again"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        read = read.saturating_add(data.len());
        if read <= max {
            if read == data.len() {
                first = data;
                continue;
            }
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        } else if read > max.saturating_mul(PATIENCE) {
            break;
        }
    }
    if read > max {
        return Err(Problem::too_large(max as u64));
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}
