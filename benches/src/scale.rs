//! The store with a million sessions: what a request costs, what a session costs,
//! and how long it takes to choose whom to move.

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

const ROWS: &[&str] = &["million", "idle_session_bytes", "victims"];
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
            seen.push(many.requests(filled).await?);
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
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (one, other) = if round % 2 == 0 {
            let one = many.requests(MANY).await?;
            (one, few.requests(FEW).await?)
        } else {
            let other = few.requests(FEW).await?;
            (many.requests(MANY).await?, other)
        };
        ours.push(1e6 / one);
        theirs.push(1e6 / other);
        ratios.push(other / one);
    }
    Ok(Figure::value(median(&ours), "µs", rounds, Sync::Everysec.as_str())
        .against(median(&theirs), median(&ratios)))
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
    async fn requests(&self, among: usize) -> Result<f64> {
        let until = Instant::now() + ROUND;
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let store = Arc::clone(&self.store);
            tasks.spawn(async move {
                let mut done = 0_u32;
                while Instant::now() < until {
                    // Two requests of one session at once would wait for each other.
                    let number = rand::random_range(0..among);
                    done += u32::from(request(&store, &id(number)?, false).await?);
                }
                anyhow::Ok(done)
            });
        }
        let mut all = 0;
        while let Some(done) = tasks.join_next().await {
            all += done??;
        }
        Ok(f64::from(all) / ROUND.as_secs_f64())
    }

    /// Bytes of fields and contents of a session.
    async fn bytes_of_one(&self) -> Result<f64> {
        let snapshot = self.store.snapshot(&id(MANY / 2)?).await?;
        // Far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        Ok(snapshot.bytes as f64)
    }
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
