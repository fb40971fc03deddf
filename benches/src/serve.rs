//! What is measured, and what it is measured against: handlers that one would
//! write by hand, with axum and two bare commands to Redis.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use clap::ValueEnum;
use funicular::config::Environment;
use funicular::prelude::*;
use funicular_oracle::run as oracle;
use funicular_oracle::settings::Settings;
use http::HeaderMap;
use http::header::LOCATION;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::net::TcpListener;

/// What the function is called.
pub(crate) const FUNCTION: &str = "bench";

/// A process under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// A function of ours at one node.
    Function,
    /// The oracle of one node.
    Oracle,
    /// By hand: `HGET` and `HSET` for a write, `HGET` for a read.
    RawStore,
    /// By hand: 307, whatever is asked.
    RawRedirect,
}

impl Role {
    /// As on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Oracle => "oracle",
            Self::RawStore => "raw-store",
            Self::RawRedirect => "raw-redirect",
        }
    }
}

/// Serves until it is killed.
pub(crate) async fn serve(role: Role) -> ExitCode {
    let outcome = match role {
        Role::Function => return funicular::serve(function()).await,
        Role::Oracle => match Settings::read(&Environment) {
            Ok(settings) => return oracle::serve(settings).await,
            Err(error) => Err(error.into()),
        },
        Role::RawStore => raw_store().await,
        Role::RawRedirect => raw_redirect().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench {}: {error:#}", role.as_str());
            ExitCode::FAILURE
        }
    }
}

/// - `POST /value` replaces a value with the body and answers the old one's length
/// - `GET /value` answers the value
/// - `POST /fill?key=&bytes=&each=` writes so many random bytes
/// - `POST /work?ms=` takes so long, and counts
/// - `POST /log` appends the body and answers its position, `GET /log` all of it
fn function() -> Function {
    Function::routes(())
        .on("POST /value", replace)
        .on("GET /value", value)
        .on("POST /fill", fill)
        .on("POST /work", work)
        .on("POST /log", append)
        .on("GET /log", log)
        .into()
}

async fn replace((): &(), request: Request, db: &mut EdgeDb) -> funicular::Result<Response> {
    let old = db.get("value").await?.map_or(0, |old| old.len());
    db.set("value", request.into_body())?;
    Ok(Response::text(old.to_string()))
}

async fn value((): &(), _: Request, db: &ReadDb) -> funicular::Result<Response> {
    let value = db.get("value").await?.unwrap_or_default();
    Ok(Response::bytes("application/octet-stream", value))
}

async fn fill((): &(), request: Request, db: &mut EdgeDb) -> funicular::Result<Response> {
    let number = |name: &str| -> usize {
        request.query(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let (mut left, each) = (number("bytes"), number("each").max(1));
    let key = request.query("key").unwrap_or_default().to_owned();
    let mut index = 0_usize;
    while left > 0 {
        let mut value = vec![0_u8; each.min(left)];
        rand::fill(&mut value[..]);
        left -= value.len();
        db.set(&format!("{key}-{index}"), value)?;
        index += 1;
    }
    Ok(Response::text("filled"))
}

async fn work((): &(), request: Request, db: &mut EdgeDb) -> funicular::Result<Response> {
    let ms = request.query("ms").and_then(|text| text.parse().ok()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    let count = db.get_json::<u64>("count").await?.unwrap_or(0) + 1;
    db.set_json("count", &count)?;
    Response::json(&count)
}

async fn append((): &(), request: Request, db: &mut EdgeDb) -> funicular::Result<Response> {
    let position = db.list_len("log").await?;
    db.add_to_list("log", request.into_body())?;
    Ok(Response::text(position.to_string()))
}

async fn log((): &(), _: Request, db: &ReadDb) -> funicular::Result<Response> {
    let items = db.get_list("log").await?;
    let texts: Vec<_> = items.iter().map(|item| String::from_utf8_lossy(item)).collect();
    Response::json(&texts)
}

fn setting(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

async fn listen(router: Router) -> Result<()> {
    use axum::serve::ListenerExt as _;
    let listener = TcpListener::bind(setting("BENCH_ADDRESS")?).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router.route("/_/ready", get(|| async {}))).await?)
}

fn session(headers: &HeaderMap) -> &[u8] {
    headers.get("x-session").map_or(b"", |session| session.as_bytes())
}

type Failed = (StatusCode, String);

#[allow(clippy::needless_pass_by_value)] // As `map_err` hands it over.
fn failed(error: redis::RedisError) -> Failed {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

async fn raw_store() -> Result<()> {
    let client = redis::Client::open(setting("BENCH_REDIS")?)?;
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(Duration::from_secs(2)));
    let manager = client.get_connection_manager_with_config(config).await?;
    let router = Router::new().route("/function/bench/value", post(raw_replace).get(raw_value));
    listen(router.with_state(manager)).await
}

async fn raw_replace(
    State(mut redis): State<ConnectionManager>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, Failed> {
    let key = session(&headers);
    let mut read = redis::cmd("HGET");
    let old: Option<Vec<u8>> =
        read.arg(key).arg("value").query_async(&mut redis).await.map_err(failed)?;
    let mut write = redis::cmd("HSET");
    write.arg(key).arg("value").arg(&body[..]);
    let () = write.query_async(&mut redis).await.map_err(failed)?;
    Ok(old.map_or(0, |old| old.len()).to_string())
}

async fn raw_value(
    State(mut redis): State<ConnectionManager>,
    headers: HeaderMap,
) -> Result<Vec<u8>, Failed> {
    let mut read = redis::cmd("HGET");
    let value: Option<Vec<u8>> =
        read.arg(session(&headers)).arg("value").query_async(&mut redis).await.map_err(failed)?;
    Ok(value.unwrap_or_default())
}

async fn raw_redirect() -> Result<()> {
    let redirect = || async {
        let place = "http://127.0.0.1:1/function/bench/value";
        (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, place)])
    };
    listen(Router::new().route("/function/bench/value", post(redirect).get(redirect))).await
}
