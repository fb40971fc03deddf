//! Clients that keep their connections, ask one thing after another, and measure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderValue, Method, StatusCode};
use tokio::task::JoinSet;

use crate::http::{Client, request};
use crate::site::path;

/// How many connections ask at once.
pub(crate) const CONNECTIONS: usize = 32;
/// Asked before anything counts.
const WARM_UP: Duration = Duration::from_millis(150);

/// What is asked, again and again.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Who is asked.
    pub(crate) address: SocketAddr,
    /// How.
    pub(crate) method: Method,
    /// What, after `/function/<fn>`.
    pub(crate) path: &'static str,
    /// In which sessions, in turn; each connection has its own.
    pub(crate) sessions: Arc<Vec<HeaderValue>>,
    /// With which body.
    pub(crate) body: Bytes,
    /// Whether every request has an id of its own.
    pub(crate) ids: bool,
    /// What has to be answered.
    pub(crate) expect: StatusCode,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Answers that counted.
    pub(crate) requests: u64,
    /// All answers, those while warming up included.
    pub(crate) asked: u64,
    /// Over this time.
    pub(crate) elapsed: Duration,
    /// How long each took, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Measured {
    /// Answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        // Far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let requests = self.requests as f64;
        requests / self.elapsed.as_secs_f64()
    }
}

/// Names of sessions, as headers.
pub(crate) fn sessions(prefix: &str, count: usize) -> Result<Arc<Vec<HeaderValue>>> {
    let name = |index| Ok(HeaderValue::from_str(&format!("{prefix}-{index}"))?);
    Ok(Arc::new((0..count).map(name).collect::<Result<_>>()?))
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

impl Load {
    /// Asks once in every session.
    pub(crate) async fn once(&self) -> Result<()> {
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let load = self.clone();
            tasks.spawn(async move {
                let mut client = Client::open(load.address).await?;
                for session in load.sessions.iter().skip(number).step_by(CONNECTIONS) {
                    load.ask(&mut client, session).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Asks for a while.
    pub(crate) async fn run(&self, lasting: Duration) -> Result<Measured> {
        let from = Instant::now() + WARM_UP;
        let until = from + lasting;
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            tasks.spawn(self.clone().work(number, from, until));
        }
        let mut all = Measured { requests: 0, asked: 0, elapsed: lasting, latency: histogram()? };
        while let Some(done) = tasks.join_next().await {
            let (latency, asked) = done??;
            all.asked += asked;
            all.requests += latency.len();
            all.latency.add(&latency)?;
        }
        Ok(all)
    }

    async fn work(
        self,
        number: usize,
        from: Instant,
        until: Instant,
    ) -> Result<(Histogram<u64>, u64)> {
        let mut client = Client::open(self.address).await?;
        let mut asked = 0;
        let mut latency = histogram()?;
        let own = || self.sessions.iter().skip(number).step_by(CONNECTIONS);
        let mut session = own();
        loop {
            let next = match session.next() {
                Some(next) => next,
                None => {
                    session = own();
                    session.next().context("fewer sessions than connections")?
                }
            };
            let began = Instant::now();
            self.ask(&mut client, next).await?;
            asked += 1;
            let ended = Instant::now();
            if ended >= until {
                return Ok((latency, asked));
            }
            if began >= from {
                let micros = u64::try_from((ended - began).as_micros())?;
                latency.saturating_record(micros.max(1));
            }
        }
    }

    async fn ask(&self, client: &mut Client, session: &HeaderValue) -> Result<()> {
        let mut request = request(self.method.clone(), &path(self.path), self.body.clone())?;
        request.headers_mut().insert("x-session", session.clone());
        if self.ids {
            let id = HeaderValue::from_str(&format!("{:032x}", rand::random::<u128>()))?;
            request.headers_mut().insert("x-session-request-id", id);
        }
        let answer = client.send(request).await?;
        if answer.status() != self.expect {
            let said = String::from_utf8_lossy(answer.body());
            bail!("{} {}: {} {said}", self.method, self.path, answer.status());
        }
        Ok(())
    }
}
