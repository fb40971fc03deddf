//! Waiting until what was written is on disk.
//!
//! `WAITAOF` holds its connection up, for up to a second, so it has one of its
//! own; all who wait at the same time wait once. It speaks only of what its own
//! connection wrote: a small write goes before it. And it says nothing of a
//! restart in between, so the server's run id is compared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keys::Keys;
use super::link::{Link, Tie};
use super::options::{RedisOptions, info};
use super::reply::{self, Parts};
use super::scripts::{Script, Scripts};
use crate::store::{StoreError, StoreResult};

/// One process of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run(String);

impl Run {
    /// Asks for the run; add it last to a pipeline.
    pub(super) fn ask(pipe: &mut Pipeline) {
        pipe.cmd("INFO").arg("server");
    }

    /// Reads the answer.
    pub(super) fn read(answer: Value) -> StoreResult<Self> {
        let text = reply::text(answer)?;
        match info(&text, "run_id") {
            Some(id) => Ok(Self(id.to_owned())),
            None => Err(StoreError::Unavailable("Redis does not name its run".to_owned())),
        }
    }
}

#[derive(Debug)]
struct Last {
    /// Who had asked when this wait began.
    up_to: u64,
    outcome: StoreResult<Run>,
}

/// Lets many wait for the disk together.
#[derive(Debug)]
pub(super) struct Syncer {
    link: Link,
    timeout_ms: u64,
    asked: AtomicU64,
    last: Mutex<Option<Last>>,
}

impl Syncer {
    /// `link` is used for nothing else.
    pub(super) fn new(link: &Link, options: &RedisOptions) -> Self {
        let limit = options.sync_timeout + options.response_timeout;
        Self {
            link: link.with_timeout(limit),
            timeout_ms: super::requests::millis(options.sync_timeout),
            asked: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// Returns when everything that `run` had answered before this call is on disk.
    pub(super) async fn wait(&self, keys: &Keys, scripts: &Scripts, run: &Run) -> StoreResult<()> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        let outcome = match &*last {
            Some(done) if done.up_to >= ticket => done.outcome.clone(),
            _ => {
                let up_to = self.asked.load(Ordering::SeqCst);
                let outcome = self.to_disk(keys, scripts).await;
                *last = Some(Last { up_to, outcome: outcome.clone() });
                outcome
            }
        };
        drop(last);
        match outcome? {
            same if same == *run => Ok(()),
            _ => Err(StoreError::Unavailable(
                "Redis was restarted before the write was on disk".to_owned(),
            )),
        }
    }

    async fn to_disk(&self, keys: &Keys, scripts: &Scripts) -> StoreResult<Run> {
        let mut write = scripts.start(Script::Index, 1, 64);
        write.arg(keys.sync()).arg("incr");
        let mut pipe = Pipeline::with_capacity(3);
        pipe.add_command(write);
        pipe.cmd("WAITAOF").arg(1).arg(0).arg(self.timeout_ms);
        Run::ask(&mut pipe);
        read(self.link.pipe(&pipe).await?)
    }
}

/// The same while recovering, over a connection that ends with the process.
pub(super) async fn to_disk(
    tie: &Tie,
    keys: &Keys,
    scripts: &Scripts,
    timeout_ms: u64,
) -> StoreResult<()> {
    let mut write = scripts.recovering(Script::Index, 1);
    write.arg(keys.sync()).arg("incr");
    let mut pipe = Pipeline::with_capacity(3);
    pipe.add_command(write);
    pipe.cmd("WAITAOF").arg(1).arg(0).arg(timeout_ms);
    Run::ask(&mut pipe);
    read(tie.pipe(&pipe).await?).map(drop)
}

/// How long the first of three waits may take, and each of the others.
const WAITS: [u64; 3] = [3000, 500, 500];

/// Whether `WAITAOF` is answered only when the disk has what was written.
///
/// Some servers (Redis 7.4, Valkey 8) answer it at once unless a sync is under way.
/// With `everysec` a server begins a sync at most once a second, so that three
/// writes, each waited for, take two seconds or more.
pub(super) async fn keeps_its_word(
    link: &Link,
    keys: &Keys,
    scripts: &Scripts,
) -> StoreResult<bool> {
    let began = Instant::now();
    for limit in WAITS {
        let mut write = scripts.recovering(Script::Index, 1);
        write.arg(keys.sync()).arg("incr");
        let mut pipe = Pipeline::with_capacity(2);
        pipe.add_command(write);
        pipe.cmd("WAITAOF").arg(1).arg(0).arg(limit);
        let link = link.with_timeout(Duration::from_millis(limit) + link.timeout());
        let mut answers = link.pipe(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        next()?;
        if Parts::new(next()?)?.number()? == 0 {
            return Ok(true);
        }
    }
    Ok(began.elapsed() >= Duration::from_millis(1900))
}

/// Reads the answers to a write, a wait, and the question for the run.
fn read(answers: Vec<StoreResult<Value>>) -> StoreResult<Run> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
    next()?;
    let waited = next().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    if Parts::new(waited)?.number()? == 0 {
        return Err(StoreError::Unavailable(
            "the write was not on disk in time; it may be later".to_owned(),
        ));
    }
    Run::read(next()?)
}
