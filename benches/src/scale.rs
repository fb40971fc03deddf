//! The store with a million sessions: what a request costs, what a session costs,
//! and how long it takes to choose whom to move.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use funicular::protocol::{Access, BeginAsk};
use funicular::session::{Change, FunctionName, Incarnation, LeaseId, NodeName, SessionId};
use funicular::store::redis::{RedisOptions, RedisStore};
use funicular::store::{
    BeginRequest, Begun, Commit, Committed, SessionStore, StoreScope, WindowLimits,
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::redis::{Redis, Sync};
use crate::report::{Figure, Must, Report, Series, median, quantile};
use crate::site::cpu;

const ROWS: &[&str] = &["million", "million_bare", "idle_session_bytes", "victims"];
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const VICTIMS: usize = 100;
const AT_ONCE: usize = 32;
const ROUND: Duration = Duration::from_millis(500);
const VALUE: usize = 100;

/// Measures what is asked for.
pub(crate) async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    if !report.wants_any(ROWS) {
        return Ok(());
    }
    let durability = Sync::Everysec.as_str();
    let few = Stock::open().await?;
    few.fill(0, FEW).await?;
    let many = Stock::open().await?;
    let before = many.redis.used_memory().await?;
    report.progress(&format!("creating {MANY} sessions"));
    let mut throughput = Series::new();
    let (mut filled, mut next) = (0, FEW / 10);
    while filled < MANY {
        many.fill(filled, next).await?;
        (filled, next) = (next, next * 10);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(many.requests(filled).await?.requests);
        }
        // Sessions: far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        throughput.push((filled as f64, median(&seen)));
        report.progress(&format!("  {filled} sessions: {:.0} requests/s", median(&seen)));
    }
    report.series("throughput", throughput);
    if report.wants("million") {
        report.add("million", million(&few, &many, rounds).await?.must(Must::RatioAtMost(1.2)));
    }
    if report.wants("million_bare") {
        report.add("million_bare", million_bare(&few, &many, rounds).await?);
    }
    if report.wants("idle_session_bytes") {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let data = many.bytes_of_one().await?;
        // Bytes and sessions: far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let each = (many.redis.used_memory().await? - before) / MANY as f64;
        let figure = Figure::value(each - data, "B", MANY, durability);
        let detail = json!({"used_memory_each": each, "data_each": data});
        report.add("idle_session_bytes", figure.must(Must::AtMost(600.0)).detail(detail));
    }
    if report.wants("victims") {
        let mut took = Vec::new();
        for _ in 0..21 {
            let began = Instant::now();
            let found = many.store.residents(None, VICTIMS).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
            if found.len() != VICTIMS {
                bail!("{} victims instead of {VICTIMS}", found.len());
            }
        }
        let figure = Figure::value(median(&took), "ms", took.len(), durability);
        let detail = json!({"longest_ms": quantile(&took, 1.0)});
        report.add("victims", figure.must(Must::AtMost(10.0)).detail(detail));
    }
    Ok(())
}

/// Microseconds that a begin and its commit take of the store, among many sessions
/// and among few.
async fn million(few: &Stock, many: &Stock, rounds: usize) -> Result<Figure> {
    let mut pair = Pair::default();
    for round in 0..rounds {
        // Who goes first is the second the next time.
        if round % 2 == 0 {
            let one = many.requests(MANY).await?;
            pair.add(one, few.requests(FEW).await?);
        } else {
            let other = few.requests(FEW).await?;
            pair.add(many.requests(MANY).await?, other);
        }
    }
    Ok(pair.figure())
}

/// What Redis takes for bare commands on the same keys, in as many round trips: what the memory
/// of so many sessions costs whoever asks for it. The clients take longer than Redis here, so
/// that its processor time is what tells.
async fn million_bare(few: &Stock, many: &Stock, rounds: usize) -> Result<Figure> {
    let mut pair = Pair::default();
    for round in 0..rounds {
        if round % 2 == 0 {
            let one = many.bare(MANY).await?;
            pair.add(one, few.bare(FEW).await?);
        } else {
            let other = few.bare(FEW).await?;
            pair.add(many.bare(MANY).await?, other);
        }
    }
    Ok(pair.of_redis())
}

/// What rounds found among many and among few sessions.
#[derive(Default)]
struct Pair {
    many: Vec<f64>,
    few: Vec<f64>,
    ratios: Vec<f64>,
    redis_many: Vec<f64>,
    redis_few: Vec<f64>,
}

impl Pair {
    fn add(&mut self, many: Rate, few: Rate) {
        self.many.push(1e6 / many.requests);
        self.few.push(1e6 / few.requests);
        self.ratios.push(few.requests / many.requests);
        self.redis_many.push(many.redis_us);
        self.redis_few.push(few.redis_us);
    }

    /// Microseconds a request, as whoever asks sees it.
    fn figure(&self) -> Figure {
        self.of(&self.many, &self.few, median(&self.ratios)).detail(json!({
            "redis_us": median(&self.redis_many),
            "redis_baseline_us": median(&self.redis_few),
        }))
    }

    /// Microseconds of Redis' processor time a request.
    fn of_redis(&self) -> Figure {
        let rounds = self.redis_many.iter().zip(&self.redis_few);
        let ratios: Vec<f64> = rounds.map(|(many, few)| many / few).collect();
        self.of(&self.redis_many, &self.redis_few, median(&ratios))
    }

    fn of(&self, many: &[f64], few: &[f64], ratio: f64) -> Figure {
        Figure::value(median(many), "µs", self.many.len(), Sync::Everysec.as_str())
            .against(median(few), ratio)
    }
}

/// A store with sessions of one small value each.
struct Stock {
    redis: Redis,
    store: Arc<RedisStore>,
}

fn id(number: usize) -> Result<SessionId> {
    Ok(SessionId::new(format!("session-{number}"))?)
}

impl Stock {
    async fn open() -> Result<Self> {
        let redis = Redis::start(Sync::Everysec).await?;
        let scope = StoreScope {
            function: FunctionName::new("bench")?,
            here: NodeName::new("edge")?,
            window: WindowLimits::default(),
        };
        let store = RedisStore::connect(&redis.url(), RedisOptions::default(), scope).await?;
        store.recover_restart().await?;
        Ok(Self { redis, store: Arc::new(store) })
    }

    /// Creates the sessions with these numbers.
    async fn fill(&self, from: usize, to: usize) -> Result<()> {
        let next = Arc::new(AtomicUsize::new(from));
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE * 4 {
            let (store, next) = (Arc::clone(&self.store), Arc::clone(&next));
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= to {
                        return anyhow::Ok(());
                    }
                    request(&store, &id(number)?, true).await?;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Requests a second in random ones of so many sessions.
    async fn requests(&self, among: usize) -> Result<Rate> {
        let store = &self.store;
        at_once(&self.redis, |until| {
            let store = Arc::clone(store);
            async move {
                let mut done = 0_u32;
                while Instant::now() < until {
                    // Two requests of one session at once would wait for each other.
                    let number = rand::random_range(0..among);
                    done += u32::from(request(&store, &id(number)?, false).await?);
                }
                Ok(done)
            }
        })
        .await
    }

    /// Requests a second that read a session's record and data, then write both, with
    /// nothing to hold them together.
    async fn bare(&self, among: usize) -> Result<Rate> {
        let connection = self.redis.connect().await?;
        at_once(&self.redis, |until| {
            let mut connection = connection.clone();
            async move {
                let mut done = 0_u32;
                while Instant::now() < until {
                    let key = format!("f:{{bench/session-{}}}:", rand::random_range(0..among));
                    let (meta, data) = (format!("{key}m"), format!("{key}d"));
                    let mut look = redis::pipe();
                    look.cmd("HMGET").arg(&meta).arg(&["r", "h", "u", "l", "w", "a", "v", "b"]);
                    look.cmd("HGETALL").arg(&data);
                    let (record, found): (Vec<Option<String>>, HashMap<String, Bytes>) =
                        look.query_async(&mut connection).await?;
                    let (Some(used), false) = (&record[5], found.is_empty()) else {
                        bail!("{meta}: not what the store writes: {record:?} {found:?}");
                    };
                    let mut write = redis::pipe();
                    write.cmd("HSET").arg(&meta).arg("a").arg(used).ignore();
                    write.cmd("HSET").arg(&data).arg("svalue").arg(&[b'x'; VALUE]).ignore();
                    let () = write.query_async(&mut connection).await?;
                    done += 1;
                }
                Ok(done)
            }
        })
        .await
    }

    /// Bytes of fields and contents of a session.
    async fn bytes_of_one(&self) -> Result<f64> {
        let snapshot = self.store.snapshot(&id(MANY / 2)?).await?;
        // Far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        Ok(snapshot.bytes as f64)
    }
}

/// What a round found.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Requests a second.
    requests: f64,
    /// Processor time that Redis took for each, in microseconds.
    redis_us: f64,
}

/// How many of them are done, when so many do them at once for a round.
async fn at_once<F>(redis: &Redis, asker: impl Fn(Instant) -> F) -> Result<Rate>
where
    F: Future<Output = Result<u32>> + Send + 'static,
{
    let before = cpu(redis.pid());
    let until = Instant::now() + ROUND;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        tasks.spawn(asker(until));
    }
    let mut all = 0;
    while let Some(done) = tasks.join_next().await {
        all += done??;
    }
    let all = f64::from(all);
    let took = cpu(redis.pid()).saturating_sub(before);
    let redis_us = took.as_secs_f64() * 1e6 / all.max(1.0);
    Ok(Rate { requests: all / ROUND.as_secs_f64(), redis_us })
}

/// A begin and its commit; whether it ran.
async fn request(store: &RedisStore, session: &SessionId, create: bool) -> Result<bool> {
    let lease = LeaseId(rand::random());
    let ask = BeginAsk {
        access: Access::Write,
        create: create.then(|| Incarnation(rand::random())),
        lease,
        lease_ttl: 1500,
        frozen_reads: false,
        unsettled_writes: None,
    };
    let begun =
        store.begin(session, &BeginRequest { ask, request: None, inline_max: 16_384 }).await?;
    let run = match begun {
        Begun::Run(run) => run,
        // Another of these requests is in this session right now.
        Begun::Other { slot, .. } if slot.lease.is_some() => return Ok(false),
        other => bail!("a request that does not run: {other:?}"),
    };
    let value = Bytes::from_static(&[b'x'; VALUE]);
    let commit = Commit {
        lease,
        life: run.life,
        epoch: run.epoch,
        data: vec![Change::Set { key: "value".to_owned(), value }],
        outbox: Vec::new(),
        remember: None,
        max_bytes: 1 << 30,
    };
    match store.commit(session, &commit).await? {
        Committed::Applied => Ok(true),
        other => bail!("a commit that is not applied: {other:?}"),
    }
}
