//! Clients that write and read and never repeat themselves, whatever they are
//! answered: what they saw is judged at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::judge::{History, Outcome, Read, Write};
use crate::reach::Reach;

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Seen>,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Said {
    /// When it was asked for.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Its status; 0 if there was none.
    pub status: u16,
    /// The problem's code, if it is one.
    pub code: String,
    /// Whether it says when to try again.
    pub retry_after: bool,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// By session.
    pub histories: BTreeMap<String, History>,
    /// All answers.
    pub said: Vec<Said>,
}

/// What an answer to a write says of it.
pub fn outcome(answer: &reqwest::Result<Answer>) -> Outcome {
    match answer {
        Ok(answer) if answer.status == 200 => {
            Outcome::Acked(answer.text().parse().expect("a position"))
        }
        Ok(answer) if code(answer) != "outcome-unknown" => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

/// The code of a problem; empty if there is none.
pub fn code(answer: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}

impl Load {
    /// Lets `clients` loose on the sessions; they enter at `node`. Each takes the
    /// sessions in turn, and after two writes reads once.
    pub fn start(tree: &dyn Reach, node: &str, sessions: &[String], clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = Client::new(tree.gateway(node), "any");
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (client, sessions) = (client.clone(), sessions.to_vec());
            tasks.spawn(work(number, client, sessions, Arc::clone(&stop)));
        }
        Self { stop, clients: tasks }
    }

    /// Lets every client end what it is at, and returns what they saw.
    pub async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        while let Some(seen) = self.clients.join_next().await {
            let seen = seen.expect("no client panics");
            for (session, history) in seen.histories {
                let known = all.histories.entry(session).or_default();
                known.writes.extend(history.writes);
                known.reads.extend(history.reads);
            }
            all.said.extend(seen.said);
        }
        all
    }
}

async fn work(number: usize, client: Client, sessions: Vec<String>, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    for turn in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let session = &sessions[(number + turn) % sessions.len()];
        let mut client = client.session(session);
        let history = seen.histories.entry(session.clone()).or_default();
        let began = Instant::now();
        let answer = if turn % 3 == 2 {
            let answer = client.try_send(Method::GET, "/log", "".into(), &[]).await;
            if let Ok(answer) = &answer
                && answer.status == 200
            {
                let read = Read { began, ended: Instant::now(), seen: answer.json() };
                history.reads.push(read);
            }
            answer
        } else {
            let text = format!("{number}/{turn}");
            let answer = client.try_send(Method::POST, "/log", text.clone().into(), &[]).await;
            let write = Write { text, began, ended: Instant::now(), outcome: outcome(&answer) };
            history.writes.push(write);
            answer
        };
        seen.said.push(Said {
            began,
            took: began.elapsed(),
            status: answer.as_ref().map_or(0, |answer| answer.status),
            code: answer.as_ref().map_or_else(ToString::to_string, code),
            retry_after: answer.is_ok_and(|answer| answer.headers.contains_key("retry-after")),
        });
        tokio::time::sleep(PAUSE).await;
    }
    seen
}

impl Seen {
    /// How many answers there were of each status and code.
    pub fn answers(&self) -> BTreeMap<(u16, &str), usize> {
        let mut counts = BTreeMap::new();
        for said in &self.said {
            *counts.entry((said.status, said.code.as_str())).or_default() += 1;
        }
        counts
    }
}
