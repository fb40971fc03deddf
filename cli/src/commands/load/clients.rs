//! The clients: each has a session, asks at the same place every time, and follows where it
//! is led, as a browser does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, redirect};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a request without any answer is counted as.
const NO_ANSWER: &str = "no answer";
/// A client that got none rests for as long at least.
const UNHEARD: Duration = Duration::from_millis(100);
/// A session is two redirects away at most; one that is on the move may be one more.
const REDIRECTS: usize = 6;
/// So many requests may be unanswered when they are sent at a rate.
const UNANSWERED: usize = 10_000;

/// What is asked.
pub(super) struct What {
    pub(super) url: String,
    pub(super) method: Method,
    pub(super) body: String,
    pub(super) sessions: String,
    pub(super) patience: Duration,
}

/// When.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// A client asks again when it was answered and has rested. They come within `join`.
    Answered { pause: Duration, join: Duration },
    /// One request each time this has passed, in each client's session in turn.
    Rate(Duration),
}

/// What came of one request.
#[derive(Debug)]
pub(super) struct Answered {
    /// From when it was to be sent until its answer was there.
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}

/// Good, or what was wrong.
#[derive(Debug)]
pub(super) enum Outcome {
    Good { redirected: bool },
    Odd { what: String, detail: String },
}

/// Clients at work.
pub(super) struct Clients {
    present: Arc<AtomicU32>,
    stop: CancellationToken,
}

/// What all of them share.
#[derive(Clone)]
struct Shared {
    http: Client,
    what: Arc<What>,
    stop: CancellationToken,
    say: mpsc::UnboundedSender<Answered>,
}

impl Clients {
    /// Starts them. They end after the time, or when they are stopped, each with its last
    /// answer; then nobody says anything any more.
    pub(super) fn start(
        what: What,
        count: u32,
        pace: Pace,
        (began, lasting): (Instant, Duration),
        say: mpsc::UnboundedSender<Answered>,
    ) -> Result<Self> {
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::limited(REDIRECTS))
            .timeout(what.patience)
            .build()
            .context("no client can be made")?;
        for index in [1, count] {
            let name = session(&what.sessions, index);
            HeaderValue::from_str(&name).with_context(|| format!("{name:?} is no session"))?;
        }
        let stop = CancellationToken::new();
        let (present, what) = (Arc::<AtomicU32>::default(), Arc::new(what));
        let shared = Shared { http, what, stop: stop.clone(), say };
        let ending = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(began + lasting).await;
            ending.cancel();
        });
        match pace {
            Pace::Answered { pause, join } => {
                for index in 1..=count {
                    let comes = began + join * (index - 1) / count;
                    let present = Arc::clone(&present);
                    tokio::spawn(shared.clone().one_by_one(index, comes, pause, present));
                }
            }
            Pace::Rate(every) => {
                present.store(count, Ordering::Relaxed);
                tokio::spawn(shared.at_a_rate(count, began, every));
            }
        }
        Ok(Self { present, stop })
    }

    /// How many have come.
    pub(super) fn present(&self) -> u32 {
        self.present.load(Ordering::Relaxed)
    }

    /// Each ends with its last answer.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

fn session(name: &str, index: u32) -> String {
    format!("{name}-{index}")
}

impl Shared {
    async fn one_by_one(
        self,
        index: u32,
        comes: Instant,
        pause: Duration,
        present: Arc<AtomicU32>,
    ) {
        self.unless_stopped(tokio::time::sleep_until(comes)).await;
        present.fetch_add(1, Ordering::Relaxed);
        while !self.stop.is_cancelled() {
            let answered = self.ask(index, Instant::now()).await;
            // Where nobody is, asking at once again and again tells nothing more.
            let pause = if answered { pause } else { pause.max(UNHEARD) };
            self.unless_stopped(tokio::time::sleep(pause)).await;
        }
    }

    async fn unless_stopped(&self, waiting: impl Future<Output = ()>) {
        let _ = self.stop.run_until_cancelled(waiting).await;
    }

    async fn at_a_rate(self, count: u32, began: Instant, every: Duration) {
        let room = Arc::new(Semaphore::new(UNANSWERED));
        let (mut due, mut index) = (began, 0);
        loop {
            self.unless_stopped(tokio::time::sleep_until(due)).await;
            if self.stop.is_cancelled() {
                return;
            }
            index = index % count + 1;
            match Arc::clone(&room).try_acquire_owned() {
                Ok(place) => {
                    let shared = self.clone();
                    tokio::spawn(async move {
                        shared.ask(index, due).await;
                        drop(place);
                    });
                }
                Err(_) => self.tell(due, not_sent()),
            }
            due += every;
        }
    }

    /// Asks in a session; how long it takes counts from when it was due. Whether there was
    /// any answer.
    async fn ask(&self, index: u32, due: Instant) -> bool {
        let outcome = self.answer(index).await;
        let answered = !matches!(&outcome, Outcome::Odd { what, .. } if what == NO_ANSWER);
        self.tell(due, outcome);
        answered
    }

    fn tell(&self, due: Instant, outcome: Outcome) {
        // Nobody listens only when the command has ended.
        let _ = self.say.send(Answered { took: due.elapsed(), outcome });
    }

    async fn answer(&self, index: u32) -> Outcome {
        let what = &self.what;
        let mut request = self
            .http
            .request(what.method.clone(), &what.url)
            .header("x-session", session(&what.sessions, index));
        if !what.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(what.body.clone());
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return no_answer(&error),
        };
        let (status, url) = (answer.status(), answer.url().clone());
        match answer.bytes().await {
            Err(error) => no_answer(&error),
            Ok(_) if status.is_success() => {
                Outcome::Good { redirected: !what.url.starts_with(&origin(&url)) }
            }
            Ok(body) => {
                let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
                let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
                let what = format!("{} {}", status.as_u16(), text("code"));
                Outcome::Odd { what: what.trim_end().to_owned(), detail: text("detail") }
            }
        }
    }
}

fn origin(url: &reqwest::Url) -> String {
    url.origin().ascii_serialization()
}

fn not_sent() -> Outcome {
    let detail = format!("{UNANSWERED} requests wait for their answers");
    Outcome::Odd { what: "not sent".to_owned(), detail }
}

fn no_answer(error: &dyn std::error::Error) -> Outcome {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Outcome::Odd { what: NO_ANSWER.to_owned(), detail: innermost.to_string() }
}
