//! `GET /_/health` and `GET /_/ready`, as of-watchdog answers them; unsigned.

use axum::response::Response;
use http::StatusCode;

use crate::http::router::plain;
use crate::http::service::Service;

/// 200 while the process serves, 503 once it was told to end.
pub(super) fn health(service: &Service) -> Response {
    match service.healthy() {
        true => plain(StatusCode::OK, "OK"),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, "lock file not found"),
    }
}

/// 200 when a request would be taken: 429 at `max_inflight`, 503 without a store.
pub(super) async fn ready(service: &Service) -> Response {
    if !service.healthy() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "leaving");
    }
    if !service.node.has_capacity() {
        return plain(StatusCode::TOO_MANY_REQUESTS, "max_inflight is reached");
    }
    match service.node.ready().await {
        true => plain(StatusCode::OK, "OK"),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer"),
    }
}
