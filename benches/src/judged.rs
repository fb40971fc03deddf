//! Two thousand moves under load, with a judge: every acknowledged write has to be
//! in its session once, where its client was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::downtime::Writer;
use crate::http::{Client, request};
use crate::operator::{Operator, Way};
use crate::redis::Sync;
use crate::report::{Figure, Must, Report};
use crate::site::{Tree, path};

const MOVES: usize = 2_000;
const SESSIONS: usize = 64;
const CLIENTS: usize = 8;
const MOVERS: usize = 2;

/// Measures it if it is asked for.
pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    if !report.wants("moves_under_load") {
        return Ok(());
    }
    report.progress(&format!("{MOVES} moves under {CLIENTS} clients, with a judge"));
    let tree = Tree::start(Sync::Everysec).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(number, tree.edge.address, Arc::clone(&stop)));
    }
    let began = std::time::Instant::now();
    let (done, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut movers = JoinSet::new();
    for number in 0..MOVERS {
        let (done, refused) = (Arc::clone(&done), Arc::clone(&refused));
        movers.spawn(shift(tree.operator()?, number, done, refused));
    }
    while let Some(mover) = movers.join_next().await {
        mover??;
    }
    let elapsed = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut seen = Seen::default();
    while let Some(client) = clients.join_next().await {
        seen.join(client??);
    }
    let (mut lost, mut repeated) = (0, 0);
    for (session, told) in &seen.told {
        let log = read(tree.edge.address, session).await?;
        let verdict = judge(&log, told);
        lost += verdict.0;
        repeated += verdict.1;
    }
    let moves = done.load(Ordering::Relaxed);
    // Counts: far below 2^52.
    #[allow(clippy::cast_precision_loss)]
    let value = (lost + repeated + seen.failed.len()) as f64;
    let figure = Figure::value(value, "faults", moves, Sync::Everysec.as_str());
    report.add(
        "moves_under_load",
        figure.must(Must::AtMost(0.0)).detail(json!({
            "lost": lost, "repeated": repeated, "failed": seen.failed.len(),
            "first_failures": seen.failed.iter().take(5).collect::<Vec<_>>(),
            "writes": seen.told.values().map(Vec::len).sum::<usize>(),
            "moves": moves, "moves_refused": refused.load(Ordering::Relaxed),
            "seconds": elapsed, "sessions": SESSIONS, "clients": CLIENTS,
        })),
    );
    Ok(())
}

fn session(number: usize) -> String {
    format!("judged-{number}")
}

/// A client's writes as it was told of them: text and position.
type Told = Vec<(String, usize)>;

/// What clients were told.
#[derive(Default)]
struct Seen {
    told: BTreeMap<String, Told>,
    failed: Vec<String>,
}

impl Seen {
    fn join(&mut self, other: Self) {
        for (session, told) in other.told {
            self.told.entry(session).or_default().extend(told);
        }
        self.failed.extend(other.failed);
    }
}

/// Acknowledged texts that are not where they were said to be; texts that are there
/// more than once.
fn judge(log: &[String], told: &Told) -> (usize, usize) {
    let lost = told.iter().filter(|(text, place)| log.get(*place) != Some(text)).count();
    let distinct: BTreeSet<&String> = log.iter().collect();
    (lost, log.len() - distinct.len())
}

async fn client(number: usize, edge: SocketAddr, stop: Arc<AtomicBool>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut writer = Writer { at: edge, clients: Vec::new(), session: String::new() };
    for turn in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // In an order of its own, beginning at the edge each time.
        writer.session = session((turn * (2 * number + 1)) % SESSIONS);
        writer.at = edge;
        let text = format!("client {number}, write {turn}");
        match writer.write("/log", Bytes::from(text.clone())).await {
            Ok(position) => {
                let position = std::str::from_utf8(&position)?.parse()?;
                seen.told.entry(writer.session.clone()).or_default().push((text, position));
            }
            Err(error) => {
                seen.failed.push(format!("{error:#}"));
                writer.clients.clear();
            }
        }
    }
    Ok(seen)
}

/// Moves sessions of its own up and down; whoever is refused is asked again later.
async fn shift(
    operator: Operator,
    number: usize,
    done: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
) -> Result<()> {
    let own: Vec<String> = (number..SESSIONS).step_by(MOVERS).map(session).collect();
    let mut at_root = vec![false; own.len()];
    for turn in (0..own.len()).cycle() {
        if done.load(Ordering::Relaxed) >= MOVES {
            break;
        }
        let way = if at_root[turn] { Way::Down } else { Way::Up };
        match operator.shift(&own[turn], way).await {
            Ok(_) => {
                at_root[turn] = !at_root[turn];
                done.fetch_add(1, Ordering::Relaxed);
            }
            // No client has been there yet, for one.
            Err(error) => {
                let before = refused.fetch_add(1, Ordering::Relaxed);
                anyhow::ensure!(before < MOVES, "moves are refused: {error:#}");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }
    Ok(())
}

/// The session's log, wherever it is.
async fn read(edge: SocketAddr, session: &str) -> Result<Vec<String>> {
    let mut at = edge;
    for _ in 0..20 {
        let mut request = request(Method::GET, &path("/log"), Bytes::new())?;
        request.headers_mut().insert("x-session", HeaderValue::from_str(session)?);
        let answer = Client::open(at).await?.send(request).await?;
        match answer.status() {
            StatusCode::TEMPORARY_REDIRECT => at = crate::downtime::leads_to(&answer)?,
            StatusCode::OK => return Ok(serde_json::from_slice(answer.body())?),
            status => anyhow::bail!("reading {session}: {status}"),
        }
    }
    anyhow::bail!("redirects that do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_and_what_is_there_twice_is_counted() {
        let log = ["a", "b", "b", "c"].map(String::from);
        let told = |list: &[(&str, usize)]| -> Told {
            list.iter().map(|(text, place)| ((*text).to_owned(), *place)).collect()
        };
        assert_eq!(judge(&log, &told(&[("a", 0), ("c", 3)])), (0, 1));
        assert_eq!(judge(&log[..2], &told(&[("a", 0), ("c", 3), ("b", 0)])), (2, 0));
    }
}
