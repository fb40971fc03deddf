//! A function for `tests/tests/traces.rs`, one process a node.

use std::process::ExitCode;

use funicular::prelude::*;

/// - `POST /log` appends the body
/// - `GET /seen` answers the `traceparent` that the handler sees
/// - `POST /pass?node=` invokes `GET /seen` of another session there, and answers what that
///   one and this one see
fn function() -> Function {
    Function::routes(()).on("POST /log", append).on("GET /seen", seen).on("POST /pass", pass).into()
}

async fn append((): &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    db.add_to_list("log", request.body())?;
    Ok(Response::status(StatusCode::NO_CONTENT))
}

async fn seen((): &(), request: Request, _: &ReadDb) -> Result<Response> {
    Ok(Response::text(request.header("traceparent").unwrap_or_default()))
}

async fn pass((): &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    let node = request.query("node").unwrap_or_default();
    let asked = Request::get("/seen");
    let there = db.hierarchy().invoke(node, "traced", "another", asked).await?;
    let here = request.header("traceparent").unwrap_or_default();
    Ok(Response::text(format!("{} {here}", there.read_text()?)))
}

#[tokio::main]
async fn main() -> ExitCode {
    funicular::serve(function()).await
}
