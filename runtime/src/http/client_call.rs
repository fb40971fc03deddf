//! A client's request: `G/function/<fn>/<path>` with `X-session`.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Collected};

use super::problem::Problem;
use super::router::Incoming;
use super::service::Service;
use super::signature::{Role, SIGNATURE_HEADER, Verified};
use super::{digest, failure, forward};
use crate::function::Request;
use crate::node::{Answer, Call, Methods};
use crate::peers::{WireVersion, followed};
use crate::session::{InvalidId, NodeName, RequestId, SessionId, SessionToken};
use crate::trace::Span;

pub(super) const SESSION: HeaderName = HeaderName::from_static("x-session");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-session-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TOKEN: HeaderName = HeaderName::from_static("x-session-token");
const REPLAYED: HeaderName = HeaderName::from_static("x-session-replayed");
const FORWARD: HeaderName = HeaderName::from_static("x-session-forward");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

pub(super) async fn handle(service: &Service, incoming: Incoming) -> Response {
    let mut span = Span::server("request", &incoming.headers);
    let session = span.is_recorded().then(|| hash(&incoming.headers));
    let response = span.within(answered(service, incoming, &span)).await;
    if let Some(session) = session {
        describe(&mut span, service, &session, &response);
    }
    response
}

/// The hash of the session that a request names, as it is in logs.
fn hash(headers: &HeaderMap) -> String {
    let session = text(headers, &SESSION).and_then(|text| SessionId::new(text).ok());
    session.map(|session| session.log_hash()).unwrap_or_default()
}

/// Notes in a span which request it was and what became of it.
fn describe(span: &mut Span, service: &Service, session: &str, response: &Response) {
    let headers = response.headers();
    let status = response.status();
    let outcome = match status {
        _ if headers.contains_key(&REPLAYED) => "replayed",
        StatusCode::TEMPORARY_REDIRECT => "redirected",
        _ if headers.contains_key(&TOKEN) => "ran",
        _ => "refused",
    };
    span.note("faas.name", &service.node.config().function);
    span.note("funicular.node", service.node.here());
    span.note("funicular.session", session);
    span.note("funicular.outcome", outcome);
    span.note("http.response.status_code", status.as_u16());
    let token = text(headers, &TOKEN).and_then(|text| SessionToken::decode(text).ok());
    if let Some(token) = token {
        span.note("funicular.epoch", token.epoch);
        span.note("funicular.at", token.current_location);
    }
    if status.is_server_error() {
        span.failed(status);
    }
}

async fn answered(service: &Service, mut incoming: Incoming, span: &Span) -> Response {
    let began = tokio::time::Instant::now();
    let method = incoming.method.clone();
    let _in_flight = service.requests.begin();
    let signer = signed_by(service, &incoming);
    span.write(&mut incoming.headers);
    let response = match signer {
        Ok(caller) => {
            let from_peer = caller.as_ref().is_some_and(|it| it.caller().role == Role::Peer);
            let response = match answer(service, incoming, from_peer).await {
                Ok(response) => response,
                Err(problem) => refused(service, &problem),
            };
            match caller.filter(|caller| caller.version() > WireVersion::V1) {
                Some(caller) => Box::pin(signed(service, &caller, response)).await,
                None => response,
            }
        }
        Err(problem) => refused(service, &problem),
    };
    service.requests.answered(&method, response.status().as_u16(), began.elapsed());
    varies(response)
}

fn refused(service: &Service, problem: &Problem) -> Response {
    if let Some(code) = problem.code {
        service.requests.refused(code);
    }
    problem.response().map(Body::from)
}

/// Caches between here and the client must not give one session's answer to another.
pub(super) fn varies(mut response: Response) -> Response {
    // A forwarded answer says so already.
    let said = response.headers().get_all(header::VARY).iter().any(|value| {
        let mut names = value.to_str().unwrap_or_default().split(',').map(str::trim);
        names.any(|name| name == "*" || name.eq_ignore_ascii_case(SESSION.as_str()))
    });
    if !said {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("X-session"));
    }
    response
}

async fn answer(
    service: &Service,
    mut incoming: Incoming,
    from_peer: bool,
) -> Result<Response, Problem> {
    if incoming.method == Method::OPTIONS
        && let Some(options) = options(service, &incoming)?
    {
        return Ok(options);
    }
    if !digest::fits(&incoming.headers, &incoming.body) {
        return Err(Problem::digest_mismatch());
    }
    let forwards = text(&incoming.headers, &FORWARD) == Some("1");
    let call = call(&mut incoming, from_peer, forwards)?;
    match service.node.invoke(call).await {
        Ok(Answer::Response { response, token, replayed }) => {
            let (status, headers, body) = response.into_parts();
            let mut answer = Response::new(Body::from(body));
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            if replayed {
                answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            }
            Ok(with_token(answer, Some(&token)))
        }
        Ok(Answer::Error { error, token }) => {
            let problem = Problem::plain(error.status_code(), error.sentence());
            Ok(with_token(problem.response().map(Body::from), Some(&token)))
        }
        Ok(Answer::Redirect { to, token }) if forwards => {
            Box::pin(forward::to(service, &to, incoming, token.as_ref())).await
        }
        Ok(Answer::Redirect { to, token }) => redirect(service, &to, &incoming, token.as_ref()),
        Err(failed) => Err(failure::problem(&service.node, &failed)),
    }
}

/// Who calls, if the call is signed: another node's function (`hierarchy().invoke`). A
/// signature that does not fit is refused.
fn signed_by(service: &Service, incoming: &Incoming) -> Result<Option<Verified>, Problem> {
    if !incoming.headers.contains_key(SIGNATURE_HEADER) {
        return Ok(None);
    }
    service.verify(incoming).map(Some).map_err(|error| Problem::unauthorized(&error))
}

/// The answer, signed for a caller that looks for it.
async fn signed(service: &Service, caller: &Verified, response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    // It is whole already: responses are committed before they are sent.
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let place = followed(head.status, &head.headers);
    let here = service.node.here();
    let signature = caller.sign_response(here, head.status.as_u16(), place, &body);
    if let Ok(value) = HeaderValue::from_str(&signature) {
        head.headers.insert(SIGNATURE_HEADER, value);
    }
    Response::from_parts(head, Body::from(body))
}

/// Which methods a path takes. It is answered wherever it is asked, session or
/// not: browsers ask without one, and take no redirect for an answer. A function
/// that takes every method gets it as a request of its session.
fn options(service: &Service, incoming: &Incoming) -> Result<Option<Response>, Problem> {
    let mut allowed = match service.node.methods(&incoming.path) {
        Methods::None => return Err(Problem::no_such_route(&incoming.path)),
        Methods::Any if incoming.headers.contains_key(&SESSION) => return Ok(None),
        Methods::Any => vec![
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ],
        Methods::These(methods) => methods,
    };
    allowed.push(Method::OPTIONS);
    let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    Ok(Some(response))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads a header as an identifier. Bytes that are not visible ASCII make it malformed,
/// and so does a second one.
fn id<T: FromStr<Err = InvalidId>>(
    headers: &HeaderMap,
    (name, what): (&HeaderName, &'static str),
) -> Result<Option<T>, InvalidId> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(InvalidId { what, why: "it was sent more than once".to_owned() });
    }
    let value = value.to_str().map_err(|_| InvalidId {
        what,
        why: "it has characters that are not visible ASCII".to_owned(),
    })?;
    value.parse().map(Some)
}

/// What the node is called with. The headers go along, unless the request is to be
/// forwarded if need be.
fn call(incoming: &mut Incoming, from_peer: bool, forwards: bool) -> Result<Call, Problem> {
    let headers = &incoming.headers;
    let session: SessionId = id(headers, (&SESSION, "x-session"))
        .map_err(|bad| Problem::malformed_session(&bad))?
        .ok_or_else(Problem::missing_session)?;
    let name = match headers.contains_key(&REQUEST_ID) {
        true => (&REQUEST_ID, "x-session-request-id"),
        false => (&IDEMPOTENCY_KEY, "idempotency-key"),
    };
    let request_id: Option<RequestId> =
        id(headers, name).map_err(|bad| Problem::malformed_request_id(&bad))?;
    let token = text(headers, &TOKEN)
        .map(SessionToken::decode)
        .transpose()
        .map_err(|bad| Problem::bad_token(&bad))?;
    let timeout = text(headers, &TIMEOUT).and_then(seconds);
    let headers = match forwards {
        true => incoming.headers.clone(),
        false => std::mem::take(&mut incoming.headers),
    };
    let request = Request::new(
        incoming.method.clone(),
        &incoming.path,
        incoming.query.clone(),
        headers,
        incoming.body.clone(),
    );
    Ok(Call { session, request_id, token, from_peer, timeout, request })
}

/// `X-Timeout` as Go writes durations: `1s`, `1m30s`.
fn seconds(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

fn with_token(mut response: Response, token: Option<&SessionToken>) -> Response {
    if let Some(token) = token
        && let Ok(value) = HeaderValue::try_from(token.encode())
    {
        response.headers_mut().insert(TOKEN, value);
    }
    response
}

/// 307 to the gateway where the session lives; path and query byte for byte.
fn redirect(
    service: &Service,
    to: &NodeName,
    incoming: &Incoming,
    token: Option<&SessionToken>,
) -> Result<Response, Problem> {
    service.requests.redirected(to);
    let topology = service.node.topology();
    let node = topology.node(to).ok_or_else(|| Problem::peer_unreachable(to))?;
    let function = &service.node.config().function;
    let mut place = format!("{}/function/{function}{}", node.gateway, incoming.path);
    if let Some(query) = &incoming.query {
        place.push('?');
        place.push_str(query);
    }
    let place = HeaderValue::from_str(&place)
        .map_err(|_| Problem::bad_request("the path cannot be redirected; escape it"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, place);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(with_token(response, token))
}
