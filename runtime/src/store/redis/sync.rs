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

    /// Its id.
    pub(super) fn name(&self) -> &str {
        &self.0
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
    pub(super) async fn wait(&self, key: &str, scripts: &Scripts, run: &Run) -> StoreResult<()> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        let outcome = match &*last {
            Some(done) if done.up_to >= ticket => done.outcome.clone(),
            _ => {
                let up_to = self.asked.load(Ordering::SeqCst);
                let outcome = self.to_disk(key, scripts).await;
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

    async fn to_disk(&self, key: &str, scripts: &Scripts) -> StoreResult<Run> {
        let mut write = scripts.start(Script::Index, 1, 64);
        write.arg(key).arg("incr");
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
    key: &str,
    scripts: &Scripts,
    timeout_ms: u64,
) -> StoreResult<Run> {
    let mut write = scripts.recovering(Script::Index, 1);
    write.arg(key).arg("incr");
    let mut pipe = Pipeline::with_capacity(3);
    pipe.add_command(write);
    pipe.cmd("WAITAOF").arg(1).arg(0).arg(timeout_ms);
    Run::ask(&mut pipe);
    read(tie.pipe(&pipe).await?)
}

/// How long the first of three waits may take, and each of the others.
const WAITS: [u64; 3] = [3000, 500, 500];

/// Whether `WAITAOF` is answered only when the disk has what was written.
///
/// Some servers (Redis 7.4, Valkey 8) answer it at once unless a sync is under way.
/// With `everysec` a server begins a sync at most once a second, so that three
/// writes, each waited for, take two seconds or more.
pub(super) async fn keeps_its_word(link: &Link, key: &str, scripts: &Scripts) -> StoreResult<bool> {
    let began = Instant::now();
    for limit in WAITS {
        let mut write = scripts.recovering(Script::Index, 1);
        write.arg(key).arg("incr");
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A server that takes a moment for each `WAITAOF`, and counts them.
    struct Slow {
        waits: Arc<AtomicUsize>,
        url: String,
    }

    /// `local` is how many disks it says have the write, `run` who it says it is.
    fn slow(local: u32, run: &'static str) -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}/?protocol=resp3", listener.local_addr().unwrap());
        let waits = Arc::new(AtomicUsize::new(0));
        let counted = waits.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || serve(stream, local, run, &counted));
            }
        });
        Slow { waits, url }
    }

    fn serve(stream: TcpStream, local: u32, run: &str, waits: &AtomicUsize) -> Option<()> {
        let mut input = BufReader::new(stream.try_clone().ok()?);
        let mut output = stream;
        loop {
            let words = read_call(&mut input)?;
            let answer = match words.first()?.as_str() {
                "HELLO" => "%1\r\n+server\r\n+redis\r\n".to_owned(),
                "SET" => "-OOM command not allowed\r\n".to_owned(),
                "EVALSHA" => ":1\r\n".to_owned(),
                "WAITAOF" => {
                    waits.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(50));
                    format!("*2\r\n:{local}\r\n:0\r\n")
                }
                "INFO" => {
                    let text = format!("# Server\r\nrun_id:{run}\r\n");
                    format!("${}\r\n{text}\r\n", text.len())
                }
                _ => "+OK\r\n".to_owned(),
            };
            output.write_all(answer.as_bytes()).ok()?;
        }
    }

    fn read_call(input: &mut impl BufRead) -> Option<Vec<String>> {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
        let mut words = Vec::new();
        for _ in 0..count {
            line.clear();
            input.read_line(&mut line).ok()?;
            let size: usize = line.trim().strip_prefix('$')?.parse().ok()?;
            let mut word = vec![0; size + 2];
            input.read_exact(&mut word).ok()?;
            word.truncate(size);
            words.push(String::from_utf8(word).ok()?);
        }
        Some(words)
    }

    async fn wait(server: &Slow, waiters: usize, run: &str) -> Vec<StoreResult<()>> {
        let client = redis::Client::open(server.url.as_str()).unwrap();
        let options = RedisOptions::default();
        let link = Link::open(client, &options).await.unwrap();
        let syncer = Syncer::new(&link, &options);
        let scripts = Scripts::new("cart");
        let run = Run(run.to_owned());
        let all = (0..waiters).map(|_| syncer.wait("f:cart:sync", &scripts, &run));
        futures_util::future::join_all(all).await
    }

    #[tokio::test]
    async fn a_command_that_fails_among_others_is_counted() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let scope = crate::store::StoreScope {
            function: "cart".parse().unwrap(),
            here: "milan".parse().unwrap(),
            window: crate::store::WindowLimits::default(),
        };
        let meter = crate::metrics::StoreMeter::new(&scope);
        let options = RedisOptions { meter, ..RedisOptions::default() };
        let client = redis::Client::open(slow(1, "one").url.as_str()).unwrap();
        let link = Link::open(client, &options).await.unwrap();
        let mut pipe = Pipeline::new();
        pipe.cmd("PING").cmd("SET").arg("a").arg(1).cmd("SET").arg("b").arg(1);
        let answers = link.pipe(&pipe).await.unwrap();
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 2);
        let told = recorder.handle().render();
        let full = told.lines().find(|line| line.contains("kind=\"full\"")).unwrap();
        assert!(full.ends_with(" 1"), "{told}");
    }

    #[tokio::test]
    async fn g6_those_who_wait_at_once_wait_together() {
        let server = slow(1, "one");
        let outcomes = wait(&server, 50, "one").await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        // The first may have begun before the others asked.
        assert!(server.waits.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn g2_what_is_not_on_disk_is_not_said_to_be() {
        for outcome in wait(&slow(0, "one"), 3, "one").await {
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn g2_another_run_does_not_answer_for_this_one() {
        for outcome in wait(&slow(1, "restarted"), 3, "one").await {
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        }
    }
}
