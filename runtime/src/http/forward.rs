//! `X-session-forward: 1`: the node proxies instead of redirecting, for clients
//! that cannot send their body again.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, StatusCode, header};

use super::problem::Problem;
use super::router::Incoming;
use super::service::Service;
use crate::peers::{OF_A_FUNCTION, innermost, whole};
use crate::session::{NodeName, SessionToken};

/// How many nodes a request may be forwarded over.
const HOPS: u32 = 8;
const HOPS_HEADER: HeaderName = HeaderName::from_static("x-session-hops");

/// Headers of one connection, not of the request.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    header::TE,
];

pub(super) async fn to(
    service: &Service,
    to: &NodeName,
    incoming: Incoming,
    token: Option<&SessionToken>,
) -> Result<Response, Problem> {
    let hops = incoming.headers.get(&HOPS_HEADER);
    let hops: u32 = hops.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    if hops >= HOPS {
        return Err(Problem::busy(service.node.config().session_wait));
    }
    let topology = service.node.topology();
    let node = topology.node(to).ok_or_else(|| Problem::peer_unreachable(to))?;
    let function = &service.node.config().function;
    let mut url = format!("{}/function/{function}{}", node.peer_url(), incoming.path);
    if let Some(query) = &incoming.query {
        url.push('?');
        url.push_str(query);
    }
    // What a URL means as a path is not always what it says: `..` and its encodings
    // would lead out of the function.
    let raw_path = format!("/function/{function}{}", incoming.path);
    let place = reqwest::Url::parse(&url).ok().filter(|place| {
        place.path().ends_with(&raw_path) && place.query() == incoming.query.as_deref()
    });
    let Some(place) = place else {
        return Err(Problem::bad_request(
            "a request with this path or query cannot be forwarded; send it without \
             `X-session-forward`, or escape what is special in it",
        ));
    };
    let mut headers = end_to_end(incoming.headers);
    headers.insert(HOPS_HEADER, (hops + 1).into());
    if let Some(value) = token.and_then(|token| token.encode().parse().ok()) {
        headers.insert("x-session-token", value);
    }
    let config = service.node.config();
    let answer = service
        .peers
        .http()
        .request(incoming.method, place)
        .headers(headers)
        .body(incoming.body)
        .timeout(config.exec_timeout + config.session_wait)
        .send()
        .await
        .map_err(|error| lost(to, &error))?;
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = end_to_end(answer.headers().clone());
    let body = whole(answer, OF_A_FUNCTION).await.map_err(|why| {
        tracing::debug!(%to, why, "the answer to a forwarded request was lost");
        Problem::outcome_unknown()
    })?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A request that never left is safe to repeat; of one that did, nobody knows.
fn lost(to: &NodeName, error: &reqwest::Error) -> Problem {
    tracing::debug!(%to, why = innermost(error), "a forwarded request was lost");
    if error.is_connect() { Problem::peer_unreachable(to) } else { Problem::outcome_unknown() }
}

pub(super) fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers
}
