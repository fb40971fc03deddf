//! Requests a second, against handlers written by hand.
//!
//! Ours and theirs are asked in turn, in short rounds, so that whatever else the
//! machine does meets both. CPU time a request says the same without the noise.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use crate::load::{self, CONNECTIONS, Load, Measured};
use crate::operator::Way;
use crate::redis::{Redis, Sync};
use crate::report::{Figure, Must, Report, median};
use crate::serve::Role;
use crate::site::{Site, Tree, cpu};

const WRITES: &[&str] = &["invoke_vs_raw", "invoke_with_ids", "read_vs_raw"];
const ROUND: Duration = Duration::from_secs(1);
const SESSIONS: usize = 1024;
const MOVED: usize = 256;
const DURABILITY: &str = "everysec";

/// Measures what is asked for.
pub(crate) async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    if report.wants_any(WRITES) {
        let tree = Tree::start(Sync::Everysec).await?;
        let redis = Redis::start(Sync::Everysec).await?;
        let hand = Site::by_hand(Role::RawStore, Some(redis)).await?;
        let ours = value(&tree.edge, Method::POST)?;
        let theirs = Load { address: hand.address, ..ours.clone() };
        ours.once().await?;
        theirs.once().await?;
        let pair = Pair { ours: (&ours, &tree.edge), theirs: (&theirs, &hand) };
        if report.wants("invoke_vs_raw") {
            report.progress("one read and one write a request");
            let figure = pair.compare(rounds).await?.must(Must::RatioAtLeast(0.8));
            report.add("invoke_vs_raw", figure);
        }
        if report.wants("invoke_with_ids") {
            report.progress("the same, each request with an id of its own; the baseline has none");
            let ours = Load { ids: true, ..ours.clone() };
            let pair = Pair { ours: (&ours, &tree.edge), ..pair };
            report.add("invoke_with_ids", pair.compare(rounds).await?);
        }
        if report.wants("read_vs_raw") {
            report.progress("read-only requests");
            let ours = value(&tree.edge, Method::GET)?;
            let theirs = Load { address: hand.address, ..ours.clone() };
            let pair = Pair { ours: (&ours, &tree.edge), theirs: (&theirs, &hand) };
            let figure = pair.compare(rounds).await?.must(Must::RatioAtLeast(0.9));
            report.add("read_vs_raw", figure);
        }
    }
    if report.wants("redirect_vs_raw") {
        report.progress("redirects");
        let tree = Tree::start(Sync::Everysec).await?;
        let hand = Site::by_hand(Role::RawRedirect, None).await?;
        let create =
            Load { sessions: load::sessions("s", MOVED)?, ..value(&tree.edge, Method::POST)? };
        create.once().await?;
        let operator = tree.operator()?;
        for session in create.sessions.iter() {
            operator.shift(session.to_str()?, Way::Up).await?;
        }
        let ours = Load { expect: StatusCode::TEMPORARY_REDIRECT, ..create };
        let theirs = Load { address: hand.address, ..ours.clone() };
        let pair = Pair { ours: (&ours, &tree.edge), theirs: (&theirs, &hand) };
        let figure = pair.compare(rounds).await?.must(Must::RatioAtLeast(0.5));
        report.add("redirect_vs_raw", figure);
    }
    Ok(())
}

fn value(site: &Site, method: Method) -> Result<Load> {
    let body = match method {
        Method::POST => Bytes::from_static(&[b'x'; 100]),
        _ => Bytes::new(),
    };
    Ok(Load {
        address: site.address,
        method,
        path: "/value",
        sessions: load::sessions("s", SESSIONS)?,
        body,
        ids: false,
        expect: StatusCode::OK,
    })
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    ours: (&'a Load, &'a Site),
    theirs: (&'a Load, &'a Site),
}

/// What one side did over all rounds.
#[derive(Default)]
struct Side {
    per_second: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// CPU time a request: clients, server, Redis; in microseconds.
    cpu: [Vec<f64>; 3],
}

impl Side {
    async fn round(&mut self, (load, site): (&Load, &Site)) -> Result<()> {
        let spent = || [cpu(std::process::id()), site.cpu(), site.redis_cpu()];
        let before = spent();
        let measured: Measured = load.run(ROUND).await?;
        let after = spent();
        self.per_second.push(measured.per_second());
        // Microseconds and a second's requests: far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let quantile = |share| measured.latency.value_at_quantile(share) as f64;
        self.p50.push(quantile(0.5));
        self.p99.push(quantile(0.99));
        #[allow(clippy::cast_precision_loss)]
        let requests = measured.asked as f64;
        for ((all, before), after) in self.cpu.iter_mut().zip(before).zip(after) {
            all.push(after.saturating_sub(before).as_secs_f64() * 1e6 / requests);
        }
        Ok(())
    }

    fn detail(&self) -> serde_json::Value {
        let [clients, server, redis] =
            self.cpu.each_ref().map(|all| (median(all) * 10.0).round() / 10.0);
        json!({
            "p50_us": median(&self.p50),
            "p99_us": median(&self.p99),
            "cpu_us": {"clients": clients, "server": server, "redis": redis},
        })
    }
}

impl Pair<'_> {
    async fn compare(&self, rounds: usize) -> Result<Figure> {
        let (mut ours, mut theirs) = (Side::default(), Side::default());
        for round in 0..rounds {
            // Whoever is first may meet a machine that has rested.
            if round % 2 == 0 {
                ours.round(self.ours).await?;
                theirs.round(self.theirs).await?;
            } else {
                theirs.round(self.theirs).await?;
                ours.round(self.ours).await?;
            }
        }
        let each = ours.per_second.iter().zip(&theirs.per_second);
        let ratios: Vec<f64> = each.map(|(ours, theirs)| ours / theirs).collect();
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(0.0, f64::max);
        let detail = json!({
            "ours": ours.detail(),
            "baseline": theirs.detail(),
            "connections": CONNECTIONS,
            "ratios": [lowest, highest],
        });
        Ok(Figure::value(median(&ours.per_second), "req/s", rounds, DURABILITY)
            .against(median(&theirs.per_second), median(&ratios))
            .detail(detail))
    }
}
