use super::others::LEFT_ALONE;
use super::*;
use crate::duration::Span;
use crate::testing::{Site, client, node_status};

fn value(samples: &[Sample], signal: &str) -> Option<f64> {
    samples.iter().find(|sample| sample.signal.as_str() == signal).map(|sample| sample.value)
}

/// The functions that the site's gateway lists, which is asked each time.
fn status_of(site: &Site) -> Status {
    let settings = StatusSettings { list_every: Span::millis(0), ..StatusSettings::default() };
    let place = (site.node(), Vec::new());
    let policy = Arc::new(PolicySettings::default());
    Status::new(client(Duration::from_secs(30)), place, Roster::Gateway(None), settings, policy)
}

#[tokio::test]
async fn a_function_of_another_is_asked_once_though_it_is_listed_each_time() {
    let site = Site::start().await;
    site.has("cart").await;
    site.has_anothers("figlet", 200).await;
    site.has_anothers("nodeinfo", 404).await;
    site.lists(&["cart", "figlet", "nodeinfo"]);
    let source = status_of(&site);
    for _ in 0..5 {
        let samples = source.read().await.unwrap();
        assert_eq!(value(&samples, "sessions"), Some(3.0));
    }
    let mut asked = Vec::new();
    for name in ["cart", "figlet", "nodeinfo"] {
        asked.push(site.asked(&format!("/function/{name}/_/status")).await);
    }
    assert_eq!(asked, [5, 1, 1]);
    // Deployed anew, it may be ours.
    site.lists(&["cart"]);
    source.read().await.unwrap();
    site.lists(&["cart", "figlet"]);
    source.read().await.unwrap();
    assert_eq!(site.asked("/function/figlet/_/status").await, 2);
}

#[tokio::test]
async fn where_no_function_is_ours_the_source_says_so_each_time() {
    let site = Site::start().await;
    site.has_anothers("figlet", 200).await;
    site.lists(&["figlet"]);
    let source = status_of(&site);
    let first = source.read().await.unwrap_err();
    assert_eq!(source.read().await, Err(first));
}

#[tokio::test]
async fn a_function_that_is_away_is_asked_again() {
    let site = Site::start().await;
    site.has_anothers("cart", 503).await;
    site.lists(&["cart"]);
    let source = status_of(&site);
    for _ in 0..3 {
        source.read().await.unwrap_err();
    }
    assert_eq!(site.asked("/function/cart/_/status").await, 3);
}

#[test]
fn another_is_left_alone_for_a_while() {
    let (mut others, now) = (Others::default(), Instant::now());
    let figlet = "figlet".parse().unwrap();
    others.note(&figlet, SourceError::Nonsense("a banner".to_owned()), now);
    assert!(others.left_alone(&figlet, now + LEFT_ALONE - Duration::from_millis(1)).is_some());
    assert!(others.left_alone(&figlet, now + LEFT_ALONE).is_none());
}

#[test]
fn times_are_zero_while_nobody_called_and_unknown_while_all_requests_hang() {
    let told = |requests, in_flight, latency| {
        let mut status = node_status("cart");
        status.in_flight = in_flight;
        status.activity = Some(ActivityStatus {
            window_ms: 5_000,
            requests,
            queue_wait_p99_us: latency,
            latency_p50_us: latency,
            latency_p99_us: latency,
            ..ActivityStatus::default()
        });
        samples(&status).unwrap()
    };
    for (requests, in_flight, latency, expected) in [
        (0, 0, None, Some(0.0)),
        (0, 7, None, None),
        (9, 7, Some(2_000_000), Some(2.0)),
        (9, 0, Some(2_000_000), Some(2.0)),
    ] {
        let samples = told(requests, in_flight, latency);
        for signal in ["queue-wait", "latency-p50", "latency-p99"] {
            let case = (requests, in_flight, signal);
            assert_eq!(value(&samples, signal), expected, "{case:?}");
        }
        assert!(value(&samples, "in-flight").is_some());
    }
}
