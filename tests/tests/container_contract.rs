//! What OpenFaaS asks of a function's container, of an image that is built from the
//! template as `faas-cli` builds it, with another user than the image's own and a root
//! that is read-only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use funicular_tests::client::{Answer, Client};
use funicular_tests::containers::single::{NODE, Single};
use funicular_tests::containers::{docker, image};
use funicular_tests::reach::Reach;
use funicular_tests::tree::until;
use reqwest::Method;
use tokio::task::JoinSet;

fn client(single: &Single, session: &str) -> Client {
    Client::new(Reach::gateway(single, NODE), session)
}

/// Begins a request that takes so long, and waits until `running` are at work.
async fn begin_slow(
    single: &Single,
    requests: &mut JoinSet<Answer>,
    (session, ms, running): (&str, u64, u64),
) {
    let mut client = client(single, session);
    let path = format!("/slow?ms={ms}");
    requests.spawn(async move { client.send(Method::POST, &path, "slow").await });
    until("the request runs", async || single.operator().status(NODE).await.in_flight >= running)
        .await;
}

#[tokio::test]
async fn it_is_small_and_nobody_is_root() {
    let image = image::of_author();
    let about = docker(&["image", "inspect", "--format", "{{.Size}} {{.Config.User}}", &image]);
    let (size, user) = about.split_once(' ').expect("size and user");
    let size: u64 = size.parse().expect("a size");
    println!("{image}: {} kB", size / 1000);
    assert!(size < 60_000_000, "{image} has {size} bytes");
    assert_eq!(user, "1000:1000");
    let who = docker(&["run", "--rm", "--entrypoint", "id", &image]);
    assert!(who.contains("uid=1000(app) gid=1000(app)"), "{who}");
    let held = docker(&["run", "--rm", "--entrypoint", "ls", &image, "/usr/local/bin/"]);
    assert_eq!(held, "function");
}

#[tokio::test]
async fn it_is_healthy_ready_locked_and_measured() {
    let single = Single::start(&image::of_author(), &[]).await;
    assert_eq!(single.exec(&["id", "-u"]), Ok("12000".to_owned()));
    single.exec(&["touch", "/here"]).expect_err("the root is read-only");
    assert_eq!(single.exec(&["cat", "/tmp/.lock"]), Ok(String::new()));
    assert_eq!(single.status("/_/health").await, Some(200));

    let mut client = client(&single, "ada");
    assert_eq!(client.send(Method::POST, "/log", "one").await.expect(200).text(), "0");
    assert_eq!(client.send(Method::GET, "/log", "").await.expect(200).text(), "[\"one\"]");
    client.send(Method::POST, "/fail", "no").await.expect(409);
    let held = single.operator().whereabouts(NODE, "ada").await.expect("it is here");
    assert_eq!(held.state, "owned");

    let metrics = single.metrics().await;
    for (method, code) in [("POST", "200"), ("GET", "200"), ("POST", "409")] {
        let count = |line: &&str| {
            line.starts_with("http_requests_total{")
                && line.contains(&format!("method=\"{method}\""))
                && line.contains(&format!("code=\"{code}\""))
                && line.ends_with(" 1")
        };
        assert!(metrics.lines().any(|line| count(&line)), "{method} {code}: {metrics}");
    }
    for name in ["http_requests_in_flight{", "http_request_duration_seconds_bucket{"] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}: {metrics}");
    }
}

#[tokio::test]
async fn without_its_store_it_is_healthy_and_not_ready() {
    let single = Single::start(&image::of_author(), &[("store_timeout", "500ms")]).await;
    docker(&["kill", &single.redis()]);
    until("it is not ready", async || single.status("/_/ready").await == Some(503)).await;
    assert_eq!(single.status("/_/health").await, Some(200));
    docker(&["start", &single.redis()]);
    until("it is ready again", async || single.status("/_/ready").await == Some(200)).await;
}

#[tokio::test]
async fn max_inflight_sheds() {
    let single = Single::start(&image::of_author(), &[("max_inflight", "2")]).await;
    let mut requests = JoinSet::new();
    begin_slow(&single, &mut requests, ("a", 3000, 1)).await;
    begin_slow(&single, &mut requests, ("b", 3000, 2)).await;
    let refused = client(&single, "c").send(Method::POST, "/log", "x").await.expect(429);
    assert_eq!(refused.code(), "too-many-requests");
    assert_eq!(single.status("/_/ready").await, Some(429));
    assert_eq!(single.status("/_/health").await, Some(200));
    for answer in requests.join_all().await {
        answer.expect(200);
    }
    assert_eq!(single.status("/_/ready").await, Some(200));
    client(&single, "c").send(Method::POST, "/log", "x").await.expect(200);
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_ended_and_writes_nothing() {
    let single = Single::start(&image::of_author(), &[("exec_timeout", "700ms")]).await;
    let mut client = client(&single, "ada");
    let ended = client.send(Method::POST, "/slow?ms=60000", "late").await.expect(504);
    assert_eq!(ended.code(), "handler-timeout");
    assert_eq!(client.send(Method::GET, "/log", "").await.text(), "[]");
    client.send(Method::POST, "/slow?ms=300", "x").await.expect(200);
    let shorter = [("x-timeout", "100ms")];
    client.send_with(Method::POST, "/slow?ms=300", "y", &shorter).await.expect(504);
    let longer = [("x-timeout", "1m")];
    client.send_with(Method::POST, "/slow?ms=60000", "z", &longer).await.expect(504);
    assert_eq!(client.send(Method::GET, "/log", "").await.text(), "[\"x\"]");
}

/// As a gateway does it: new requests come until health says no, and what is under way
/// by then is answered.
#[tokio::test]
async fn g5_sigterm_under_load_fails_no_request() {
    let settings = [("healthcheck_interval", "2s"), ("write_timeout", "20s")];
    let single = Single::start(&image::of_author(), &settings).await;
    let mut slow = JoinSet::new();
    begin_slow(&single, &mut slow, ("slow", 4000, 1)).await;

    let unhealthy = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for number in 0..8 {
        let (mut client, unhealthy) = (client(&single, &format!("s{number}")), unhealthy.clone());
        load.spawn(async move {
            let mut acknowledged = 0;
            while !unhealthy.load(Ordering::SeqCst) {
                let answer = client.send(Method::POST, "/log", format!("{acknowledged}")).await;
                assert_eq!(answer.expect(200).text(), acknowledged.to_string());
                acknowledged += 1;
            }
            acknowledged
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    docker(&["kill", "--signal", "TERM", single.name()]);
    until("it is unhealthy", async || single.status("/_/health").await == Some(503)).await;
    single.exec(&["cat", "/tmp/.lock"]).expect_err("the lock is gone at once");
    let late = client(&single, "late").send(Method::POST, "/log", "late").await.expect(200);
    unhealthy.store(true, Ordering::SeqCst);
    assert_eq!(late.text(), "0");
    let served = load.join_all().await;
    assert!(served.iter().all(|count| *count > 0), "{served:?}");
    for answer in slow.join_all().await {
        answer.expect(200);
    }
    assert_eq!(single.ended().await, 0);
    assert!(began.elapsed() >= Duration::from_secs(2), "it serves for healthcheck_interval");
    println!("{} requests answered, none refused", served.iter().sum::<usize>());
}

#[tokio::test]
async fn wrong_settings_end_it_with_64_and_a_sentence() {
    let single = Single::launch(&image::of_author(), &[("exec_timeout", "soon")]);
    assert_eq!(single.ended().await, 64);
    assert!(single.log().contains("a duration is like"), "{}", single.log());
    let single = Single::launch(&image::of_author(), &[("FUNICULAR_SECRETS", "/nowhere")]);
    assert_eq!(single.ended().await, 64);
    assert!(single.log().contains("create the secrets"), "{}", single.log());
}
