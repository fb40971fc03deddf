use funicular::metrics::Exporter;
use funicular::serve::serve_router;

use super::*;
use crate::duration::Span;
use crate::settings::{ActionSettings, StatusSettings};
use crate::sources::Source;
use crate::sources::status::Roster;
use crate::testing::{Site, client, until};

/// An oracle of `milan` that looks all the time.
fn parts(site: &Site) -> Parts {
    let pace = Span::millis(20);
    let file = FileSettings { tick: pace, ..FileSettings::default() };
    let client = client(Duration::from_secs(30));
    let (place, roster) = ((site.node(), Vec::new()), Roster::Gateway(None));
    let settings = StatusSettings { every: pace, list_every: pace, ..StatusSettings::default() };
    let policy = Arc::new(file.policy.clone());
    let status = Arc::new(Status::new(client.clone(), place, roster, settings, policy));
    let source = Arc::clone(&status) as Arc<dyn Source>;
    let actions = Actions::new(client, site.node(), Lease::Alone, ActionSettings::default());
    Parts {
        here: site.node().name,
        sources: vec![Paced { source, every: pace, timeout: Span::secs(30) }],
        status,
        actions,
        lease: Lease::Alone,
        file,
        observe: false,
        record: None,
    }
}

/// What `/metrics` says of `cart`'s phase, if anything.
async fn phase(url: &str) -> Option<String> {
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let of = |line: &&str| line.starts_with("funicular_oracle_phase{") && line.contains("\"cart\"");
    Some(text.lines().find(of)?.rsplit_once(' ')?.1.to_owned())
}

#[tokio::test]
async fn a_function_that_is_gone_has_no_phase_any_more() {
    let site = Site::start().await;
    site.has("cart").await;
    site.has("cdn").await;
    site.lists(&["cart", "cdn"]);
    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let router = Exporter::install().router();
    tokio::spawn(serve_router(listener, router, stop.clone()));
    let (_oracle, running) = Oracle::start(parts(&site), stop.clone());
    until("cart is calm", async || phase(&url).await.as_deref() == Some("0")).await;
    site.lists(&["cdn"]);
    until("cart has no phase", async || phase(&url).await.as_deref() == Some("NaN")).await;
    // It comes back.
    site.lists(&["cart", "cdn"]);
    until("cart is calm again", async || phase(&url).await.as_deref() == Some("0")).await;
    stop.cancel();
    running.await.unwrap();
}
