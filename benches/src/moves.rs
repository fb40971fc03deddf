//! How long a move takes, from open to settled.

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::http::{Client, request};
use crate::operator::Way;
use crate::redis::Sync;
use crate::report::{Figure, Must, Report, Series, median, quantile};
use crate::site::{Tree, path};

/// Row, bytes, moves, must; those without a row are points of the plot.
const SIZES: &[(Option<&str>, usize, usize, f64)] = &[
    (Some("move_1k"), 1_000, 101, 3.0),
    (None, 10_000, 51, 0.0),
    (None, 100_000, 31, 0.0),
    (Some("move_1m"), 1_000_000, 31, 12.0),
    (Some("move_5m"), 5_000_000, 15, 50.0),
    (None, 16_000_000, 7, 0.0),
    (None, 64_000_000, 3, 0.0),
];

/// No value of a filled session is larger than this.
const EACH: usize = 10_000;
/// A request that fills writes at most this many bytes.
const FILL: usize = 4_000_000;

/// Measures what is asked for.
pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    for sync in [Sync::Everysec, Sync::Always] {
        let row = |name: &str| match sync {
            Sync::Everysec => name.to_owned(),
            Sync::Always => format!("{name}_always"),
        };
        let rows: Vec<_> = SIZES.iter().filter_map(|(name, ..)| name.map(row)).collect();
        if !rows.iter().any(|row| report.wants(row)) {
            continue;
        }
        report.progress(&format!("moves, appendfsync {}", sync.as_str()));
        let tree = Tree::start(sync).await?;
        let (mut took, mut downtime) = (Series::new(), Series::new());
        for (name, bytes, moves, must) in SIZES {
            let wanted = name.is_some_and(|name| report.wants(&row(name)));
            if !wanted && !report.wants_all() {
                continue;
            }
            let seen = of_size(&tree, *bytes, *moves).await?;
            // Sizes of plots: far below 2^52.
            #[allow(clippy::cast_precision_loss)]
            let size = *bytes as f64;
            took.push((size, median(&seen.took)));
            downtime.push((size, median(&seen.downtime)));
            if let Some(name) = name {
                let detail = json!({
                    "p99_ms": quantile(&seen.took, 0.99),
                    "downtime_ms": median(&seen.downtime),
                    "operator_waits_ms": median(&seen.call),
                });
                let figure = Figure::value(median(&seen.took), "ms", *moves, sync.as_str());
                report.add(&row(name), figure.must(Must::AtMost(*must)).detail(detail));
            }
        }
        if report.wants_all() {
            report.series(&format!("move_{}", sync.as_str()), took);
            report.series(&format!("quiet_downtime_{}", sync.as_str()), downtime);
        }
    }
    Ok(())
}

/// Milliseconds of each move.
#[derive(Default)]
struct Seen {
    took: Vec<f64>,
    downtime: Vec<f64>,
    call: Vec<f64>,
}

async fn of_size(tree: &Tree, bytes: usize, moves: usize) -> Result<Seen> {
    let session = format!("of-{bytes}");
    fill(tree, &session, bytes).await?;
    let operator = tree.operator()?;
    let mut seen = Seen::default();
    for _ in 0..moves {
        let began = std::time::Instant::now();
        let report = operator.shift(&session, Way::Up).await?;
        seen.call.push(began.elapsed().as_secs_f64() * 1e3);
        seen.took.push(report.took_ms);
        seen.downtime.push(report.downtime_ms);
        operator.shift(&session, Way::Down).await?;
    }
    Ok(seen)
}

/// Creates a session of this size at the edge, of random bytes in values of at
/// most 10 kB.
pub(crate) async fn fill(tree: &Tree, session: &str, bytes: usize) -> Result<()> {
    let mut client = Client::open(tree.edge.address).await?;
    let (mut left, mut part) = (bytes, 0);
    while left > 0 {
        let now = left.min(FILL);
        let place = path(&format!("/fill?key=part-{part}&bytes={now}&each={EACH}"));
        let mut request = request(Method::POST, &place, Bytes::new())?;
        request.headers_mut().insert("x-session", HeaderValue::from_str(session)?);
        let answer = client.send(request).await?;
        if answer.status() != StatusCode::OK {
            bail!("filling: {} {}", answer.status(), String::from_utf8_lossy(answer.body()));
        }
        left -= now;
        part += 1;
    }
    Ok(())
}
