//! Response times over a growing number of clients at one edge, with its oracle and without.
//!
//! What is measured is waiting, not the processor: a request takes a while at either node, and
//! few run at once at the edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use tokio::task::JoinSet;

use crate::http::{Client, request};
use crate::redis::Sync;
use crate::report::{Figure, Must, Report, Series, quantile};
use crate::site::{EDGE, Tree, path};

/// So many clients, one step after the other.
const STEPS: [usize; 9] = [1, 2, 4, 8, 16, 24, 32, 48, MOST];
const MOST: usize = 64;
/// How long a request takes once it runs, and a client rests.
const WORK: u64 = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// So many run at once.
const AT_EDGE: usize = 4;
const AT_ROOT: usize = 32;
/// Of each step, this passes before anything counts: what clients who have just come wait for,
/// and with an oracle what it takes to do something about it.
const SETTLE_ALONE: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(5);
const COUNTED: Duration = Duration::from_secs(3);

/// The usual times, shortened as much as the steps are; the watermarks are for a function that
/// takes 50 ms.
const ORACLE: &str = "
tick: 250ms
signals: {time_constant: 500ms, stale_after: 10s}
policy:
  rules: [{name: queue-wait, signals: [queue-wait], high: 0.1, low: 0.05, onload: 0.02}]
  cooldown: 3s
  dwell: 10s
  interval: 2s
  moves: 8
sources:
  status: {every: 250ms}
  machine: {enabled: false}
";

/// What one step came to, in milliseconds.
struct Step {
    clients: usize,
    p50: f64,
    p99: f64,
    at_edge: usize,
}

/// Measures both.
pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    if !report.wants("crowd") {
        return Ok(());
    }
    report.progress("crowd: without an oracle");
    let alone = steps(report, None).await?;
    report.progress("crowd: with the oracle of the edge");
    let watched = steps(report, Some(ORACLE)).await?;
    for (name, of) in [("crowd", &watched), ("crowd_alone", &alone)] {
        let line = |pick: fn(&Step) -> f64| -> Series {
            of.iter().map(|step| (of_count(step.clients), pick(step))).collect()
        };
        report.series(&format!("{name}_p50"), line(|step| step.p50));
        report.series(&format!("{name}_p99"), line(|step| step.p99));
    }
    let (Some(with), Some(without)) = (watched.last(), alone.last()) else { return Ok(()) };
    let steps: Vec<_> = watched
        .iter()
        .zip(&alone)
        .map(|(with, without)| {
            serde_json::json!({
                "clients": with.clients, "p50_ms": with.p50, "p99_ms": with.p99,
                "at_edge": with.at_edge,
                "alone_p50_ms": without.p50, "alone_p99_ms": without.p99,
            })
        })
        .collect();
    let figure = Figure::value(with.p99, "ms", STEPS.len(), Sync::Everysec.as_str())
        .against(without.p99, with.p99 / without.p99)
        .must(Must::RatioAtMost(0.5))
        .detail(serde_json::json!({ "steps": steps }));
    report.add("crowd", figure);
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // Dozens.
fn of_count(count: usize) -> f64 {
    count as f64
}

async fn steps(report: &Report, oracle: Option<&str>) -> Result<Vec<Step>> {
    let tree = Tree::start_with(Sync::Everysec, |node| {
        let seats = if node == EDGE { AT_EDGE } else { AT_ROOT };
        vec![("max_running", seats.to_string())]
    })
    .await?;
    let (_oracle, settle) = match oracle {
        Some(settings) => (Some(tree.oracle(settings).await?), SETTLE),
        None => (None, SETTLE_ALONE),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let away: Arc<Vec<AtomicBool>> = Arc::new((0..MOST).map(|_| AtomicBool::default()).collect());
    let (say, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut people = JoinSet::new();
    let mut all = Vec::new();
    for clients in STEPS {
        for number in people.len()..clients {
            let person = Person::open(&tree, number, Arc::clone(&away)).await?;
            people.spawn(person.live(Arc::clone(&stop), say.clone()));
        }
        tokio::time::sleep(settle).await;
        while answers.try_recv().is_ok() {}
        tokio::time::sleep(COUNTED).await;
        let mut took = Vec::new();
        while let Ok(one) = answers.try_recv() {
            took.push(Duration::as_secs_f64(&one) * 1e3);
        }
        if let Some(Ok(ended)) = people.try_join_next() {
            ended.context("a client ended")?;
        }
        let gone = away.iter().filter(|it| it.load(Ordering::Relaxed)).count();
        let at_edge = clients - gone;
        let (p50, p99) = (quantile(&took, 0.5), quantile(&took, 0.99));
        report.progress(&format!(
            "  {clients} clients: median {p50:.0} ms, p99 {p99:.0} ms, {at_edge} of them at the edge"
        ));
        all.push(Step { clients, p50, p99, at_edge });
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = people.join_next().await {
        ended??;
    }
    Ok(all)
}

/// A client with a session, who asks at the edge every time and follows.
struct Person {
    session: HeaderValue,
    edge: Client,
    root: Client,
    root_url: String,
    number: usize,
    /// Who was led elsewhere, the last time.
    away: Arc<Vec<AtomicBool>>,
}

impl Person {
    async fn open(tree: &Tree, number: usize, away: Arc<Vec<AtomicBool>>) -> Result<Self> {
        Ok(Self {
            session: HeaderValue::from_str(&format!("person-{number}"))?,
            edge: Client::open(tree.edge.address).await?,
            root: Client::open(tree.root.address).await?,
            root_url: format!("http://{}/", tree.root.address),
            number,
            away,
        })
    }

    async fn live(
        mut self,
        stop: Arc<AtomicBool>,
        say: tokio::sync::mpsc::UnboundedSender<Duration>,
    ) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            self.ask().await?;
            let _ = say.send(began.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<()> {
        let target = path(&format!("/work?ms={WORK}"));
        let again = || {
            let mut request = request(Method::POST, &target, Bytes::new())?;
            request.headers_mut().insert("x-session", self.session.clone());
            anyhow::Ok(request)
        };
        let mut answer = self.edge.send(again()?).await?;
        let led = answer.status() == StatusCode::TEMPORARY_REDIRECT;
        self.away[self.number].store(led, Ordering::Relaxed);
        if led {
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            if !to.is_some_and(|to| to.starts_with(&self.root_url)) {
                bail!("led to {to:?}");
            }
            answer = self.root.send(again()?).await?;
        }
        if answer.status() != StatusCode::OK {
            bail!("{} {}", answer.status(), String::from_utf8_lossy(answer.body()));
        }
        Ok(())
    }
}
