//! Everything under `/_/`. All of it is signed, except health and ready; so are
//! the answers.

mod drain;
mod force_offload;
mod force_onload;
mod health;
mod migrate_session;
mod name_sessions;
mod offload_session;
mod onload_session;
mod receive_propagate;
mod recover;
mod restore;
mod retire;
mod set_offload_status;
mod status;
mod test_function;
mod update_session;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::failure;
use super::problem::{self, Problem};
use super::router::Incoming;
use super::service::Service;
use super::signature::{FunctionKeys, Role, SIGNATURE_HEADER};
use crate::node::{Failure, Node};
use crate::session::NodeName;
use crate::trace::Span;

/// An endpoint's answer, before it is signed.
pub(super) struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    retry_after: Option<HeaderValue>,
}

impl Reply {
    fn json(status: StatusCode, value: &impl Serialize) -> Self {
        // The messages are structs of strings and numbers: they serialize.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self { status, content_type: "application/json", body: body.into(), retry_after: None }
    }

    fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    fn page(body: Vec<u8>) -> Self {
        let content_type = "application/vnd.funicular.page";
        Self { status: StatusCode::OK, content_type, body: body.into(), retry_after: None }
    }

    fn problem(problem: &Problem) -> Self {
        let (head, body) = problem.response().into_parts();
        Self {
            status: head.status,
            content_type: problem::CONTENT_TYPE,
            body,
            retry_after: head.headers.get(header::RETRY_AFTER).cloned(),
        }
    }

    fn response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

/// An endpoint's result.
type Answered = Result<Reply, Refused>;

/// Why an endpoint does not do what it was asked.
enum Refused {
    Failure(Failure),
    Problem(Problem),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// A checked call.
struct Signed<'a> {
    node: &'a Node,
    keys: Arc<FunctionKeys>,
    role: Role,
    from: &'a NodeName,
    incoming: &'a Incoming,
}

impl Signed<'_> {
    /// The calling node; an operator is none.
    fn peer(&self) -> Result<&NodeName, Problem> {
        match self.role {
            Role::Peer => Ok(self.from),
            Role::Operator => Err(Problem::wrong_role("nodes of the topology")),
        }
    }

    /// The call's content: the body, or where there is none the query.
    fn content<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let read = if self.incoming.body.is_empty() {
            serde_json::from_value(from_query(self.incoming.query.as_deref().unwrap_or_default()))
        } else {
            serde_json::from_slice(&self.incoming.body)
        };
        read.map_err(|error| {
            Problem::bad_request(format!("the call does not read ({error}); see docs/protocol.md"))
        })
    }
}

/// The query form of the draft: `?session=…&status=…`.
fn from_query(query: &str) -> Value {
    let mut members = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = name.starts_with("max_").then(|| value.parse::<u64>().ok()).flatten();
        let value = number.map_or_else(|| Value::from(value.into_owned()), Value::from);
        members.insert(name.into_owned(), value);
    }
    Value::Object(members)
}

pub(super) async fn dispatch(service: &Service, endpoint: &str, incoming: &Incoming) -> Response {
    match endpoint {
        "health" => return health::health(service),
        "ready" => return health::ready(service).await,
        _ => {}
    }
    let verified = match service.verify(incoming) {
        Ok(verified) => verified,
        Err(error) => {
            tracing::warn!(
                node = %service.node.here(), function = %service.node.config().function,
                endpoint, %error, "a call was refused"
            );
            return Problem::unauthorized(&error).response().map(Body::from);
        }
    };
    let caller = verified.caller();
    let signed = Signed {
        node: &service.node,
        keys: service.keys(),
        role: caller.role,
        from: &caller.name,
        incoming,
    };
    let mut span = Span::server(name(endpoint), &incoming.headers);
    span.note("faas.name", &service.node.config().function);
    span.note("funicular.node", service.node.here());
    span.note("funicular.caller", &caller.name);
    let reply = match span.within(route(endpoint, &signed)).await {
        Ok(reply) => reply,
        Err(Refused::Problem(problem)) => Reply::problem(&problem),
        Err(Refused::Failure(failed)) => Reply::problem(&failure::problem(&service.node, &failed)),
    };
    span.note("http.response.status_code", reply.status.as_u16());
    let signature = verified.sign_answer(service.node.here(), reply.status.as_u16(), &reply.body);
    let mut response = reply.response();
    if let Ok(value) = HeaderValue::from_str(&signature) {
        response.headers_mut().insert(SIGNATURE_HEADER, value);
    }
    response
}

/// What the answer to a call is called in a trace.
fn name(endpoint: &str) -> &'static str {
    const NAMED: [&str; 7] = [
        "offload-session",
        "onload-session",
        "update-session",
        "migrate-session",
        "receive-propagate",
        "force-offload",
        "force-onload",
    ];
    NAMED.into_iter().find(|name| *name == endpoint).unwrap_or("call")
}

async fn route(endpoint: &str, call: &Signed<'_>) -> Answered {
    let reads = ["test-function", "status"].contains(&endpoint);
    let method = &call.incoming.method;
    if *method != Method::POST && !(reads && *method == Method::GET) {
        let allowed = if reads { vec![Method::GET, Method::POST] } else { vec![Method::POST] };
        return Err(Problem::method_not_allowed(&allowed).into());
    }
    // A store that was put back is no witness of anything.
    if !["status", "restore"].contains(&endpoint) {
        call.node.serves().await?;
    }
    match endpoint {
        "offload-session" => offload_session::handle(call).await,
        "onload-session" => onload_session::handle(call).await,
        "update-session" => update_session::handle(call).await,
        "migrate-session" => migrate_session::handle(call).await,
        "receive-propagate" => receive_propagate::handle(call).await,
        "force-offload" => force_offload::handle(call).await,
        "force-onload" => force_onload::handle(call).await,
        "set-offload-status" => set_offload_status::handle(call).await,
        "test-function" => test_function::handle(call).await,
        "drain" => drain::handle(call).await,
        "retire" => retire::handle(call).await,
        "restore" => restore::handle(call).await,
        "name-sessions" => name_sessions::handle(call).await,
        "recover" => recover::handle(call).await,
        "status" => status::handle(call).await,
        other => Err(Problem::no_such_route(&format!("/_/{other}")).into()),
    }
}
