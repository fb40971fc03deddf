//! Clients that go on through whatever happens, and a record of what they saw.
//!
//! All of them enter at one node, follow redirects, and work on one session of
//! the function `probe`:
//!
//! - *writers* append a line each time, under a request id, and repeat it until
//!   it is acknowledged
//! - one *plain writer* appends without an id and never repeats: a line without
//!   a good answer may or may not be there
//! - one *reader* reads the log, which must hold whatever was acknowledged before

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::reach::Reach;

/// How long a writer repeats one line.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(15);

/// An answer that was neither 2xx nor a redirect, or none at all.
#[derive(Debug, Clone)]
pub struct Odd {
    /// The node that was asked.
    pub node: &'static str,
    /// What came of it.
    pub what: String,
    /// When it was asked, and when that ended.
    pub during: (Instant, Instant),
}

/// What one client saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its acknowledged lines and the positions it was told, in order.
    pub acknowledged: Vec<(String, usize)>,
    /// Its lines that may or may not be there.
    pub unknown: Vec<String>,
    /// Whatever was not well.
    pub odd: Vec<Odd>,
    /// How many requests were answered well.
    pub good: usize,
}

/// Clients at work.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

/// What every client of a traffic knows.
#[derive(Debug, Clone)]
struct Common {
    client: Client,
    nodes: Arc<BTreeMap<String, &'static str>>,
    stop: Arc<AtomicBool>,
    /// The log is at least this long: a line before this position was acknowledged.
    length: Arc<AtomicUsize>,
}

impl Traffic {
    /// Lets `writers` writers, a plain writer and a reader loose on `session`,
    /// entering at `node`.
    pub fn start(tree: &dyn Reach, node: &str, session: &str, writers: usize) -> Self {
        let nodes = tree.names().into_iter().map(|name| (tree.base(name), name)).collect();
        let common = Common {
            client: Client::new(tree.gateway(node), session),
            nodes: Arc::new(nodes),
            stop: Arc::default(),
            length: Arc::default(),
        };
        let mut clients: Vec<_> =
            (0..writers).map(|n| tokio::spawn(common.clone().write(format!("w{n}")))).collect();
        clients.push(tokio::spawn(common.clone().write_plain()));
        clients.push(tokio::spawn(common.clone().read()));
        Self { stop: common.stop, clients }
    }

    /// Lets every client end what it is at, and returns what they saw.
    pub async fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        let mut seen = Vec::new();
        for client in self.clients {
            seen.push(client.await.expect("no client panics"));
        }
        seen
    }
}

impl Common {
    /// One request; what came of it, if it was well.
    async fn ask(
        &mut self,
        seen: &mut Seen,
        (method, path, body): (Method, &str, &str),
        id: Option<&str>,
    ) -> Option<String> {
        let began = Instant::now();
        let headers: Vec<_> = id.iter().map(|id| ("x-session-request-id", *id)).collect();
        let (url, outcome) =
            self.client.attempt(method, path, body.to_owned().into(), &headers).await;
        let what = match outcome {
            Ok(answer) if (200..300).contains(&answer.status) => {
                seen.good += 1;
                return Some(answer.text().to_owned());
            }
            Ok(answer) => format!("{} {:?}", answer.status, answer.body),
            Err(error) => format!("{error:?}"),
        };
        let at = self.nodes.iter().find(|(base, _)| url.starts_with(&format!("{base}/")));
        let node = at.map_or("nowhere", |(_, node)| node);
        seen.odd.push(Odd { node, what, during: (began, Instant::now()) });
        None
    }

    fn acknowledge(&self, seen: &mut Seen, line: String, answer: &str) {
        let position = answer.parse().expect("a position");
        self.length.fetch_max(position + 1, Ordering::SeqCst);
        seen.acknowledged.push((line, position));
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    async fn write(mut self, name: String) -> Seen {
        let mut seen = Seen::default();
        let mut number = 0;
        while self.goes_on() {
            let line = format!("{name}-{number}");
            let began = Instant::now();
            let answer = loop {
                let request = (Method::POST, "/log", line.as_str());
                if let Some(answer) = self.ask(&mut seen, request, Some(&line)).await {
                    break answer;
                }
                assert!(began.elapsed() < PATIENCE, "{line}: {:?}", seen.odd.last());
                tokio::time::sleep(PAUSE).await;
            };
            self.acknowledge(&mut seen, line, &answer);
            number += 1;
            tokio::time::sleep(PAUSE).await;
        }
        seen
    }

    async fn write_plain(mut self) -> Seen {
        let mut seen = Seen::default();
        let mut number = 0;
        while self.goes_on() {
            let line = format!("plain-{number}");
            match self.ask(&mut seen, (Method::POST, "/log", line.as_str()), None).await {
                Some(answer) => self.acknowledge(&mut seen, line, &answer),
                None => seen.unknown.push(line),
            }
            number += 1;
            tokio::time::sleep(PAUSE).await;
        }
        seen
    }

    async fn read(mut self) -> Seen {
        let mut seen = Seen::default();
        while self.goes_on() {
            let at_least = self.length.load(Ordering::SeqCst);
            if let Some(answer) = self.ask(&mut seen, (Method::GET, "/log", ""), None).await {
                let log: Vec<String> = serde_json::from_str(&answer).expect("a log");
                assert!(log.len() >= at_least, "an old read: {} of {at_least}", log.len());
            }
            tokio::time::sleep(PAUSE).await;
        }
        seen
    }
}

/// Checks a log against what was seen: every acknowledged line once, where its
/// writer was told, the lines of one writer in order, and none that nobody wrote.
pub fn check(log: &[String], seen: &[Seen]) {
    let mut left: BTreeSet<&str> = BTreeSet::new();
    for line in log {
        assert!(left.insert(line), "{line} is in the log twice: {log:?}");
    }
    for client in seen {
        let mut before = None;
        for (line, position) in &client.acknowledged {
            assert_eq!(log.get(*position), Some(line), "acknowledged at {position}: {log:?}");
            assert!(before < Some(*position), "{line} is before its predecessor: {log:?}");
            before = Some(*position);
            left.remove(line.as_str());
        }
        for line in &client.unknown {
            left.remove(line.as_str());
        }
    }
    assert!(left.is_empty(), "nobody was told of {left:?}");
}
