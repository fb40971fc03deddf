//! G2, G3, G5, G6 while large sessions move: they are copied while they are served.

use std::time::{Duration, Instant};

use funicular::peers::messages::MoveReport;
use funicular_tests::client::Client;
use funicular_tests::judge::{History, Outcome, Write};
use funicular_tests::on_each_store;
use funicular_tests::tree::{Store, Tree, until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;

const MB: usize = 1_000_000;
const SESSION: &str = "large";

/// Bytes that no compression makes smaller.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Fills a session with so many values of so many bytes.
async fn fill(client: &mut Client, values: usize, bytes: usize) {
    for number in 0..values {
        let value = noise(bytes, number as u64);
        client.send(Method::PUT, &format!("/value/{number}"), value).await.expect(204);
    }
}

/// Every value is what it was.
async fn check(client: &mut Client, values: usize, bytes: usize) {
    for number in 0..values {
        let value = client.send(Method::GET, &format!("/value/{number}"), "").await.expect(200);
        assert!(value.body == noise(bytes, number as u64), "value {number}");
    }
}

/// Writes without a pause until it is told to stop; says what it saw and its slowest
/// request.
async fn write_constantly(
    mut client: Client,
    prefix: &'static str,
    stop: watch::Receiver<bool>,
) -> (History, Duration) {
    client.remembers = true;
    let (mut history, mut slowest) = (History::default(), Duration::ZERO);
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        let text = format!("{prefix}{number}");
        let began = Instant::now();
        let id = [("x-session-request-id", text.as_str())];
        let answer = client.send_with(Method::POST, "/log", text.clone(), &id).await.expect(200);
        assert_eq!(answer.header("x-session-replayed"), "");
        let ended = Instant::now();
        slowest = slowest.max(ended - began);
        let outcome = Outcome::Acked(answer.text().parse().expect("a position"));
        history.writes.push(Write { text, began, ended, outcome });
    }
    (history, slowest)
}

/// Moves the session up to milan, or down to navigli, and waits until it is there.
/// The report, unless the move took so long that its caller was sent away (202).
async fn moves(tree: &Tree, up: bool) -> Option<MoveReport> {
    let operator = tree.operator();
    let (endpoint, to) = if up { ("force-offload", "milan") } else { ("force-onload", "navigli") };
    let moved = operator.post("navigli", endpoint, &json!({"session": SESSION})).await;
    assert!([200, 202].contains(&moved.status), "{}", moved.body);
    let deadline = Instant::now() + Duration::from_secs(120);
    while operator.whereabouts(to, SESSION).await.is_none_or(|known| known.offloaded) {
        assert!(Instant::now() < deadline, "it does not come to {to}: {}", moved.body);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let report = if up { &moved.body } else { &moved.body["moved"][0] };
    let report: Option<MoveReport> = serde_json::from_value(report.clone()).ok();
    if let Some(report) = &report {
        assert!(report.rounds > 0, "it was copied: {report:?}");
    }
    report
}

/// A client writes constantly to one session of 64 MB, which moves up and down
/// twenty times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_g5_a_writer_notices_no_move_of_64_mb() {
    let tree = Tree::line(Store::Redis("everysec")).start().await;
    let mut client = Client::new(tree.gateway("navigli"), SESSION);
    fill(&mut client, 16, 4 * MB).await;
    let (stop, stopped) = watch::channel(false);
    let writer = tokio::spawn(write_constantly(client.clone(), "w", stopped));
    let mut reports: Vec<MoveReport> = Vec::new();
    for round in 0..20 {
        reports.extend(moves(&tree, round % 2 == 0).await);
    }
    stop.send_replace(true);
    let (history, slowest) = writer.await.expect("the writer saw no error");
    let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(history.judge(&log), []);
    check(&mut client, 16, 4 * MB).await;
    println!("{} writes, the slowest took {slowest:?}", log.len());
    for MoveReport { accepted_by, took_ms, downtime_ms, rounds, .. } in reports {
        println!(
            "to {accepted_by}: {took_ms:.0} ms, {rounds} rounds, {downtime_ms:.1} ms downtime"
        );
    }
}

/// Both processes' memory stays as it is while 256 MB go through them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g6_256_mb_move_through_little_memory() {
    const MOST: u64 = 32 * 1024 * 1024;
    let mut tree = Tree::line(Store::Redis("no")).start().await;
    let mut client = Client::new(tree.gateway("navigli"), SESSION);
    fill(&mut client, 64, 4 * MB).await;
    // What the requests took is not counted.
    tree.site("navigli").restart().await;
    tree.operator().settled(SESSION, Duration::from_secs(10)).await;
    let mut before = Vec::new();
    for node in ["navigli", "milan"] {
        let site = tree.site(node);
        site.forget_peak();
        before.push((node, site.memory().0));
    }
    println!("{:?}", moves(&tree, true).await);
    for (node, before) in before {
        let (_, peak) = tree.site(node).memory();
        println!("{node}: {} KiB before, {} KiB at most", before / 1024, peak / 1024);
        assert!(peak < before + MOST, "{node}: {before} bytes before, {peak} at most");
    }
    check(&mut client, 8, 4 * MB).await;
}

on_each_store! {
    g2_a_hundred_thousand_keys_move
    g5_a_copy_outlives_an_outage_of_its_link
}

async fn g2_a_hundred_thousand_keys_move(store: Store) {
    let tree = Tree::line(store).start().await;
    let mut client = Client::new(tree.gateway("navigli"), SESSION);
    for from in (0..100_000).step_by(5000) {
        let path = format!("/many?from={from}&count=5000");
        client.send(Method::POST, &path, "").await.expect(204);
    }
    let (stop, stopped) = watch::channel(false);
    let writer = tokio::spawn(write_constantly(client.clone(), "w", stopped));
    println!("{:?}", moves(&tree, true).await);
    stop.send_replace(true);
    let (history, _) = writer.await.expect("the writer saw no error");
    let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(history.judge(&log), []);
    for key in (0..100_000).step_by(9999) {
        let kept = client.send(Method::GET, &format!("/value/many-{key}"), "").await.expect(200);
        assert_eq!(kept.text(), key.to_string());
    }
    let known = tree.operator().whereabouts("milan", SESSION).await.expect("it is there");
    assert_eq!(known.keys, Some(100_000 + log.len() as u64 + 1));
}

/// The link is away for seconds in the middle of a copy, which goes on afterwards
/// where it was: nothing is carried twice, and clients of the source notice nothing.
async fn g5_a_copy_outlives_an_outage_of_its_link(store: Store) {
    const BYTES: usize = 20 * MB;
    let tree = Tree::line(store).with_links().start().await;
    let mut client = Client::new(tree.gateway("navigli"), SESSION);
    fill(&mut client, 20, MB).await;
    let (stop, stopped) = watch::channel(false);
    let writer = tokio::spawn(write_constantly(client.clone(), "w", stopped));
    let operator = tree.operator();
    let held = tree.hold("navigli", "source.copying");
    let moving = operator.begin("navigli", "force-offload", &json!({"session": SESSION}));
    held.reached().await;
    held.release();
    until("the copy has come some way", async || {
        let copies = operator.status("milan").await.copies;
        copies.first().is_some_and(|copy| copy.copied > BYTES as u64 / 10)
    })
    .await;
    tree.link("navigli").cut();
    let status = operator.status("milan").await;
    let [copy] = &status.copies[..] else { panic!("{status:?}") };
    assert!(copy.copied < BYTES as u64, "{copy:?}");
    assert_eq!((copy.from.as_str(), copy.round), ("navigli", 0));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let [later] = &operator.status("milan").await.copies[..] else { panic!("it was given up") };
    assert!(later.copied >= copy.copied, "{later:?}");
    tree.link("navigli").mend();
    let mut copied = 0;
    until("it is at milan", async || {
        for copy in operator.status("milan").await.copies {
            copied = copied.max(copy.copied);
        }
        operator.whereabouts("milan", SESSION).await.is_some_and(|known| !known.offloaded)
    })
    .await;
    let _ = moving.await;
    assert!(copied < BYTES as u64 * 5 / 4, "{copied} bytes were carried for {BYTES}");
    stop.send_replace(true);
    let (history, _) = writer.await.expect("the writer saw no error");
    let log: Vec<String> = client.send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(history.judge(&log), []);
    check(&mut client, 20, MB).await;
}
