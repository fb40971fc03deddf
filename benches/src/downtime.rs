//! How long a writing request has to wait because its session moves.
//!
//! One client writes into the session all the time, one request a millisecond if it
//! can, follows redirects and goes on where they lead. For each move the longest of
//! the requests that overlapped it counts, redirects included, less the median of
//! those that overlapped none: what the move cost the unluckiest request. The
//! figure is the 99th percentile over the moves of a size.
//!
//! A large session takes the processor while it is carried, from everybody. So the same is
//! measured of a bystander: a client of the handler written by hand, at the same pace, which
//! has nothing to do with the session and its nodes but the machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::http::{Client, request};
use crate::moves::fill;
use crate::operator::Way;
use crate::redis::{Redis, Sync};
use crate::report::{Figure, Must, Report, Series, median, quantile};
use crate::serve::Role;
use crate::site::{Site, Tree, path};

/// Bytes, moves.
const SIZES: &[(usize, usize)] =
    &[(1_000, 100), (100_000, 100), (1_000_000, 60), (16_000_000, 40), (64_000_000, 20)];
/// Whose timeline is drawn.
const DRAWN: usize = 16_000_000;
const MUST: f64 = 5.0;
const PACE: Duration = Duration::from_millis(1);
/// Requests before and after a move that are drawn, and let the session rest.
const REST: Duration = Duration::from_millis(60);

/// Measures it if it is asked for.
pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    if !report.wants("downtime_p99") {
        return Ok(());
    }
    let tree = Tree::start(Sync::Everysec).await?;
    let hand = Site::by_hand(Role::RawStore, Some(Redis::start(Sync::Everysec).await?)).await?;
    let (mut line, mut worst) = (Series::new(), Series::new());
    let mut beside = Series::new();
    let mut sizes = serde_json::Map::new();
    let mut moves = 0;
    for (bytes, count) in SIZES {
        report.progress(&format!("{count} moves of {bytes} bytes under constant writes"));
        let seen = of_size(&tree, *bytes, *count, None).await?;
        let p99 = quantile(&seen.waits, 0.99);
        let most = quantile(&seen.waits, 1.0);
        let bystander = of_size(&tree, *bytes, *count, Some(hand.address)).await?;
        let bystander_p99 = quantile(&bystander.waits, 0.99);
        report.progress(&format!(
            "  p99 {p99:.2} ms, longest {most:.2} ms; of a bystander {bystander_p99:.2} ms"
        ));
        // Sizes of plots: far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let size = *bytes as f64;
        line.push((size, p99));
        worst.push((size, most));
        beside.push((size, bystander_p99));
        moves += count;
        sizes.insert(
            bytes.to_string(),
            json!({
                "p99_ms": p99, "longest_ms": most, "median_ms": median(&seen.waits),
                "frozen_p99_ms": quantile(&seen.frozen, 0.99),
                "a_request_otherwise_ms": seen.normal, "moves": count,
                "bystander_p99_ms": bystander_p99,
                "bystander_median_ms": median(&bystander.waits),
                "requests": seen.requests, "worst": {
                    "took_ms": seen.worst.0, "sent_ms": seen.worst.1, "move_ms": seen.worst.2,
                },
            }),
        );
        if *bytes == DRAWN {
            report.series("timeline", seen.timeline);
            report.series("timeline_move", vec![(0.0, 0.0), (seen.drawn_ms, 0.0)]);
        }
    }
    let most = |line: &Series| line.iter().map(|(_, p99)| *p99).fold(0.0, f64::max);
    let (value, baseline) = (most(&line), most(&beside));
    let figure = Figure::value(value, "ms", moves, Sync::Everysec.as_str());
    let figure = figure.against(baseline, value / baseline.max(f64::MIN_POSITIVE));
    report.add("downtime_p99", figure.must(Must::AtMost(MUST)).detail(json!({ "sizes": sizes })));
    report.series("downtime_p99", line);
    report.series("downtime_bystander", beside);
    report.series("downtime_longest", worst);
    Ok(())
}

struct Seen {
    /// What each move cost its unluckiest request, in milliseconds.
    waits: Vec<f64>,
    /// What the target said: from the freeze until it served.
    frozen: Vec<f64>,
    /// A request that met no move.
    normal: f64,
    requests: usize,
    /// The longest request: how long it took, how long after the beginning of which move
    /// it was sent, and how long that took.
    worst: (f64, f64, f64),
    timeline: Series,
    drawn_ms: f64,
}

/// A request, from when to when.
type Asked = (Instant, Instant);

/// Moves a session of this size while a client writes into it; with a bystander that is whose
/// requests are judged, and the session's client only keeps the nodes as they are otherwise:
/// a node that serves nobody copies without a pause.
async fn of_size(
    tree: &Tree,
    bytes: usize,
    moves: usize,
    bystander: Option<SocketAddr>,
) -> Result<Seen> {
    let session = match bystander {
        None => format!("under-{bytes}"),
        Some(_) => format!("beside-{bytes}"),
    };
    fill(tree, &session, bytes).await?;
    let operator = tree.operator()?;
    let stop = Arc::new(AtomicBool::new(false));
    let client = |at, pace| tokio::spawn(write(at, session.clone(), pace, Arc::clone(&stop)));
    let (writer, other) = match bystander {
        None => (client(tree.edge.address, PACE), None),
        Some(hand) => (client(hand, PACE), Some(client(tree.edge.address, PACE * 4))),
    };
    let (mut spans, mut frozen) = (Vec::new(), Vec::new());
    let mut moved = Ok(());
    for number in 0..moves {
        tokio::time::sleep(REST).await;
        let way = if number % 2 == 0 { Way::Up } else { Way::Down };
        let began = Instant::now();
        match operator.shift(&session, way).await {
            Ok(report) => frozen.push(report.downtime_ms),
            Err(error) => {
                moved = Err(error);
                break;
            }
        }
        spans.push((began, Instant::now()));
    }
    tokio::time::sleep(REST).await;
    stop.store(true, Ordering::Relaxed);
    let asked = writer.await??;
    if let Some(other) = other {
        other.await??;
    }
    moved?;
    Ok(judge(&asked, &spans, frozen))
}

fn judge(asked: &[Asked], spans: &[Asked], frozen: Vec<f64>) -> Seen {
    let ms = |(began, ended): &Asked| (*ended - *began).as_secs_f64() * 1e3;
    let overlaps = |(began, ended): &Asked, span: &Asked| *began <= span.1 && *ended >= span.0;
    let untouched: Vec<f64> =
        asked.iter().filter(|one| !spans.iter().any(|span| overlaps(one, span))).map(ms).collect();
    let normal = median(&untouched);
    let longest = |span: &Asked| {
        let over = asked.iter().filter(|one| overlaps(one, span)).map(ms);
        (over.fold(normal, f64::max) - normal).max(0.0)
    };
    let since =
        |span: &Asked, at: Instant| at.saturating_duration_since(span.0).as_secs_f64() * 1e3;
    let worst = spans.iter().flat_map(|span| {
        let over = asked.iter().filter(|one| overlaps(one, span));
        over.map(move |one| (ms(one), since(span, one.0), ms(span)))
    });
    let worst = worst.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or_default();
    let drawn = spans.get(spans.len() / 2);
    let timeline = drawn.map_or(Series::new(), |span| {
        let around = (span.0.checked_sub(REST).unwrap_or(span.0), span.1 + REST);
        let since = |at: Instant| match at.checked_duration_since(span.0) {
            Some(after) => after.as_secs_f64() * 1e3,
            None => -((span.0 - at).as_secs_f64() * 1e3),
        };
        let near = asked.iter().filter(|one| overlaps(one, &around));
        near.map(|one| (since(one.0), ms(one))).collect()
    });
    Seen {
        waits: spans.iter().map(longest).collect(),
        frozen,
        normal,
        requests: asked.len(),
        worst,
        timeline,
        drawn_ms: drawn.map_or(0.0, ms),
    }
}

async fn write(
    at: SocketAddr,
    session: String,
    pace: Duration,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Asked>> {
    let mut writer = Writer { at, clients: Vec::new(), session };
    let mut asked = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        writer.write("/value", Bytes::from_static(&[b'x'; 100])).await?;
        asked.push((began, Instant::now()));
        tokio::time::sleep(pace.saturating_sub(began.elapsed())).await;
    }
    Ok(asked)
}

/// A client that follows redirects and goes on where they led.
pub(crate) struct Writer {
    /// Whom it asks next.
    pub(crate) at: SocketAddr,
    /// A connection to each node that it has met.
    pub(crate) clients: Vec<(SocketAddr, Client)>,
    /// Its session.
    pub(crate) session: String,
}

impl Writer {
    /// One `POST`; anything but 200 at the end of all redirects is an error.
    pub(crate) async fn write(&mut self, rest: &str, body: Bytes) -> Result<Bytes> {
        for _ in 0..20 {
            let mut request = request(Method::POST, &path(rest), body.clone())?;
            request.headers_mut().insert("x-session", HeaderValue::from_str(&self.session)?);
            let answer = self.client().await?.send(request).await?;
            match answer.status() {
                StatusCode::OK => return Ok(answer.into_body()),
                StatusCode::TEMPORARY_REDIRECT => {
                    self.at = leads_to(&answer)?;
                }
                status => bail!("{rest}: {status} {}", String::from_utf8_lossy(answer.body())),
            }
        }
        bail!("redirects that do not end")
    }

    async fn client(&mut self) -> Result<&mut Client> {
        let known = self.clients.iter().position(|(address, _)| *address == self.at);
        let place = match known {
            Some(place) => place,
            None => {
                self.clients.push((self.at, Client::open(self.at).await?));
                self.clients.len() - 1
            }
        };
        Ok(&mut self.clients[place].1)
    }
}

/// The node that a 307 leads to.
pub(crate) fn leads_to(answer: &http::Response<Bytes>) -> Result<SocketAddr> {
    let place = answer.headers().get(LOCATION).context("307 to nowhere")?;
    let url: http::Uri = place.to_str()?.parse()?;
    Ok(url.authority().context("a place without a host")?.as_str().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_costs_what_its_longest_request_took_more_than_usual() {
        let start = Instant::now() + Duration::from_secs(1);
        let at = |ms: u64| start + Duration::from_millis(ms);
        let asked = [(at(0), at(2)), (at(10), at(12)), (at(20), at(29)), (at(40), at(42))];
        let seen = judge(&asked, &[(at(21), at(25)), (at(35), at(38))], vec![]);
        assert!((seen.normal - 2.0).abs() < 1e-6, "{}", seen.normal);
        assert!((seen.waits[0] - 7.0).abs() < 1e-6, "{:?}", seen.waits);
        assert!(seen.waits[1].abs() < 1e-6, "{:?}", seen.waits);
    }
}
