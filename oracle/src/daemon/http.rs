//! What the oracle answers, to whoever can reach it: no session's id, and nothing to do.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::{Explanation, Oracle, Recorded};

/// So many decisions are told unless said.
const DEFAULT: usize = 50;

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

pub(super) fn router(oracle: Oracle) -> Router {
    Router::new()
        .route("/healthz", get(async || "OK"))
        .route("/decisions", get(decisions))
        .route("/explain", get(explain))
        .with_state(oracle)
}

async fn decisions(
    State(oracle): State<Oracle>,
    Query(asked): Query<Limit>,
) -> Json<Vec<Recorded>> {
    let mut decisions = oracle.explain().decisions;
    decisions.truncate(asked.limit.unwrap_or(DEFAULT));
    Json(decisions)
}

async fn explain(State(oracle): State<Oracle>, Query(asked): Query<Limit>) -> Json<Explanation> {
    let mut explanation = oracle.explain();
    explanation.decisions.truncate(asked.limit.unwrap_or(DEFAULT));
    Json(explanation)
}
