//! What changes on a page while somebody looks at it (server-sent events).
//!
//! `fragments`: a JSON object of elements by id, those that changed. `said`: what happened, as
//! one sentence, for who does not see the page. `beat`: nothing, every [`BEAT`], since a page
//! cannot tell a server that has gone from one that has nothing to say.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Inner;
use crate::pages::{Page, Shown, fragments};
use crate::watch::view::View;

/// No more often than this is a page changed.
const PACE: Duration = Duration::from_millis(150);
/// The script knows it too: without three of them the connection is lost.
const BEAT: Duration = Duration::from_secs(2);
/// So many events are said at once; the rest is counted.
const SAID: usize = 3;

/// What one page has been told so far.
struct Telling {
    inner: Arc<Inner>,
    page: Page,
    headers: HeaderMap,
    views: watch::Receiver<Arc<View>>,
    stop: CancellationToken,
    sent: BTreeMap<&'static str, String>,
    said: Option<u64>,
    waiting: Vec<Event>,
    beat: Interval,
    _place: OwnedSemaphorePermit,
}

/// What a page is told, from now on.
pub(super) fn of(
    inner: &Arc<Inner>,
    page: Page,
    headers: HeaderMap,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let mut views = inner.watcher.subscribe();
    // The first is told at once.
    views.mark_changed();
    let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let telling = Telling {
        page,
        headers,
        views,
        stop: inner.stop.clone(),
        inner: Arc::clone(inner),
        sent: BTreeMap::new(),
        said: None,
        waiting: Vec::new(),
        beat,
        _place: place,
    };
    stream::unfold(telling, async |mut telling| {
        let event = telling.next().await?;
        Some((Ok(event), telling))
    })
}

impl Telling {
    /// Waits for something to tell; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop() {
                return Some(event);
            }
            if !self.sent.is_empty() {
                tokio::time::sleep(PACE).await;
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                // Without data it would be none to a browser.
                _ = self.beat.tick() => return Some(Event::default().event("beat").data("-")),
                changed = self.views.changed() => changed.ok()?,
            }
            let view = Arc::clone(&self.views.borrow_and_update());
            self.look(&view).await;
        }
    }

    async fn look(&mut self, view: &View) {
        let viewer = self.inner.onlooker(&self.headers);
        let words = self.inner.words(&self.page, view, viewer).await;
        let shown =
            Shown { page: &self.page, view, viewer, words: words.as_deref().map(Vec::as_slice) };
        let mut changed = BTreeMap::new();
        for fragment in fragments(shown) {
            if self.sent.get(fragment.id) != Some(&fragment.html) {
                changed.insert(fragment.id, fragment.html.clone());
                self.sent.insert(fragment.id, fragment.html);
            }
        }
        if let Some(sentence) = self.news(view) {
            self.waiting.push(Event::default().event("said").data(sentence));
        }
        if !changed.is_empty() {
            // Strings by strings can always be written.
            let data = serde_json::to_string(&changed).unwrap_or_default();
            self.waiting.push(Event::default().event("fragments").data(data));
        }
    }

    /// What happened since the last time, in the order in which it did.
    fn news(&mut self, view: &View) -> Option<String> {
        let last = view.events.first().map_or(0, |event| event.number);
        // What was before the page was opened is on it.
        let told = self.said.replace(last)?;
        let new: Vec<_> = view.events.iter().take_while(|event| event.number > told).collect();
        let more = new.len().saturating_sub(SAID);
        let mut words: Vec<_> = new.iter().rev().map(|event| event.what.to_string()).collect();
        words.truncate(SAID);
        if more > 0 {
            words.push(format!("and {more} more"));
        }
        (!words.is_empty()).then(|| words.join(". "))
    }
}
