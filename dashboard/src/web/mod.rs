//! The dashboard over HTTP: pages, what changes on them, and what operators do.
//!
//! Who can reach it may look; sessions are named by their hash then, as in logs. Who shows
//! the operators' key sees ids and may act. The peers' key is not here.
//!
//! - `guard`: who is let in, and what browsers are told
//! - `login`: who has shown the key
//! - `act`: what operators do
//! - `events`: what changes while somebody looks

mod act;
mod events;
mod guard;
mod login;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use funicular::http::signature::Secret;
use funicular::peers::operator::{CallError, OperatorClient};
use funicular::session::{NodeName, SessionId};
use funicular::topology::Node;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pages::{Notice, Page, Shown, Viewer, Word, document};
use crate::watch::Watcher;
use crate::watch::view::View;
use act::Wish;
use login::{Logins, Refused};

/// So many pages are told what changes.
const LOOKING: usize = 64;
/// So many actions at once.
const ACTING: usize = 8;
/// A form is not larger than this, in bytes.
const FORM: usize = 16 << 10;
/// How long a page waits for nodes to answer.
const PATIENCE: Duration = Duration::from_millis(1200);
/// What nodes know of a session is asked again after this.
const ASKED_AGAIN: Duration = Duration::from_secs(2);
/// So many sessions are asked about at once.
const ASKED: usize = 32;

const STYLE: &str = include_str!("../../assets/dashboard.css");
const SCRIPT: &str = include_str!("../../assets/dashboard.js");
const ICON: &str = include_str!("../../assets/icon.svg");

/// What a dashboard is made of.
pub struct Settings {
    /// What it shows.
    pub watcher: Watcher,
    /// The nodes that are watched, each with the gateway to call it at.
    pub nodes: Vec<Node>,
    /// How it acts: with a longer patience than the one that watches.
    pub client: OperatorClient,
    /// The operators' key; without one nobody can act.
    pub key: Option<Secret>,
    /// The port it is served at.
    pub port: u16,
    /// Whether it is served on this machine only.
    pub loopback: bool,
    /// Ends the events of open pages.
    pub stop: CancellationToken,
}

/// What is known of a session, by function and hash, and when it was asked.
type Asked = BTreeMap<(String, String), (Instant, Arc<Vec<(NodeName, Word)>>)>;

struct Inner {
    watcher: Watcher,
    nodes: BTreeMap<NodeName, Node>,
    client: OperatorClient,
    logins: Logins,
    loopback: bool,
    stop: CancellationToken,
    looking: Arc<Semaphore>,
    acting: Arc<Semaphore>,
    asked: Mutex<Asked>,
}

/// All of it, at `/`.
pub fn router(settings: Settings) -> Router {
    let Settings { watcher, nodes, client, key, port, loopback, stop } = settings;
    let inner = Arc::new(Inner {
        watcher,
        nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
        client,
        logins: Logins::new(key, port),
        loopback,
        stop,
        looking: Arc::new(Semaphore::new(LOOKING)),
        acting: Arc::new(Semaphore::new(ACTING)),
        asked: Mutex::default(),
    });
    Router::new()
        .route("/", get(page))
        .route("/node/{name}", get(page))
        .route("/session/{function}/{hash}", get(page))
        .route("/events", get(tell))
        .route("/login", post(sign_in))
        .route("/logout", post(sign_out))
        .route("/act", post(act))
        .route("/assets/dashboard.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route(
            "/assets/dashboard.js",
            get(async || asset("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route("/assets/icon.svg", get(async || asset("image/svg+xml", ICON)))
        .layer(DefaultBodyLimit::max(FORM))
        .layer(middleware::from_fn_with_state(Arc::clone(&inner), guarded))
        .with_state(inner)
}

/// Every request comes through here.
async fn guarded(State(inner): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut response = if inner.loopback && !guard::names_this_machine(headers) {
        let why = "This is served on this machine only: call it by 127.0.0.1 or localhost.\n";
        plain(StatusCode::MISDIRECTED_REQUEST, why)
    } else if !request.method().is_safe() && !guard::is_own(headers) {
        let why = "This was not sent by a page of this dashboard: open it and use its buttons.\n";
        plain(StatusCode::FORBIDDEN, why)
    } else {
        next.run(request).await
    };
    guard::protect(response.headers_mut());
    response
}

async fn page(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(page) = Page::at(uri.path()) else {
        return plain(StatusCode::NOT_FOUND, "There is no such page; begin at /.\n");
    };
    let notice = inner.logins.left(&headers);
    inner.show(StatusCode::OK, &page, &headers, notice.as_ref()).await
}

async fn tell(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap) -> Response {
    let query = uri.query().unwrap_or_default();
    let mut fields = form_urlencoded::parse(query.as_bytes());
    let named = fields.find(|(name, _)| name == "page");
    let Some(page) = named.and_then(|(_, path)| Page::at(&path)) else {
        return plain(StatusCode::BAD_REQUEST, "Name a page: /events?page=/.\n");
    };
    let Ok(place) = Arc::clone(&inner.looking).try_acquire_owned() else {
        let why = "Too many pages are open; close one, or reload by hand.\n";
        return plain(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    Sse::new(events::of(&inner, page, headers, place)).into_response()
}

async fn sign_in(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let form = read_form(&body);
    let back = back(&form);
    let key = field(&form, "key").unwrap_or_default();
    let (status, text) = match inner.logins.open(key) {
        Ok(cookie) => {
            tracing::info!("an operator signed in at the dashboard");
            return redirect(&back, Some(&cookie));
        }
        Err(Refused::Wrong) => {
            tracing::warn!("a wrong key was given at the dashboard");
            let text = "That is not the operators' key. It is in the file session-operator-key \
                        of the secrets; nothing was changed.";
            (StatusCode::FORBIDDEN, text.to_owned())
        }
        Err(Refused::Later(wait)) => {
            let seconds = wait.as_secs() + 1;
            let text = format!(
                "There were too many wrong keys: this one was not looked at. Try again in {seconds} s."
            );
            (StatusCode::TOO_MANY_REQUESTS, text)
        }
    };
    let notice = Notice { good: false, text };
    let mut response = inner.show(status, &back, &headers, Some(&notice)).await;
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

async fn sign_out(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let cookie = inner.logins.close(&headers);
    redirect(&back(&read_form(&body)), Some(&cookie))
}

/// With a script the answer is a sentence, as JSON; without one the page is shown again.
async fn act(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let scripted = headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json");
    let form = read_form(&body);
    let back = back(&form);
    let (status, notice) = inner.act(&headers, &form).await;
    if scripted {
        let said = serde_json::json!({ "good": notice.good, "text": notice.text });
        return (status, [(header::CONTENT_TYPE, "application/json")], said.to_string())
            .into_response();
    }
    if status == StatusCode::UNAUTHORIZED {
        return inner.show(status, &back, &headers, Some(&notice)).await;
    }
    inner.logins.leave(&headers, notice);
    redirect(&back, None)
}

impl Inner {
    fn viewer(&self, headers: &HeaderMap) -> Viewer {
        Viewer { operator: self.logins.is_operator(headers), may_sign_in: self.logins.possible() }
    }

    /// Who looks at a page that is open.
    fn onlooker(&self, headers: &HeaderMap) -> Viewer {
        let operator = self.logins.is_still_operator(headers);
        Viewer { operator, may_sign_in: self.logins.possible() }
    }

    async fn show(
        &self,
        status: StatusCode,
        page: &Page,
        headers: &HeaderMap,
        notice: Option<&Notice>,
    ) -> Response {
        let view = self.watcher.fresh(PATIENCE).await;
        let viewer = self.viewer(headers);
        let words = self.words(page, &view, viewer).await;
        let shown = Shown { page, view: &view, viewer, words: words.as_deref().map(Vec::as_slice) };
        let html = document(shown, notice);
        (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
    }

    async fn act(
        self: &Arc<Self>,
        headers: &HeaderMap,
        form: &[(String, String)],
    ) -> (StatusCode, Notice) {
        let failed = |status, text: &str| (status, Notice { good: false, text: text.to_owned() });
        if !self.logins.is_operator(headers) {
            let text = "Sign in with the operators' key first; nothing was done.";
            return failed(StatusCode::UNAUTHORIZED, text);
        }
        let wish = match Wish::read(form, &self.watcher.latest()) {
            Ok(wish) => wish,
            Err(why) => {
                let text = format!("Nothing was done: {why}.");
                return failed(StatusCode::UNPROCESSABLE_ENTITY, &text);
            }
        };
        let Some(node) = self.nodes.get(&wish.node).cloned() else {
            return failed(StatusCode::NOT_FOUND, "Nothing was done: there is no such node.");
        };
        let Ok(place) = Arc::clone(&self.acting).try_acquire_owned() else {
            let text = "Nothing was done: too much is under way; try again.";
            return failed(StatusCode::TOO_MANY_REQUESTS, text);
        };
        // Once begun it is done to its end and logged, whether or not the browser waits for it.
        let inner = Arc::clone(self);
        let doing = tokio::spawn(async move {
            let _place = place;
            let notice = wish.perform(&inner.client, &node).await;
            tracing::info!(
                node = %wish.node, action = ?wish.action, good = notice.good,
                session = wish.session.map(|id| id.log_hash()).unwrap_or_default(),
                "an operator acted at the dashboard"
            );
            notice
        });
        let Ok(notice) = doing.await else {
            let text = "What became of it is not known: look where things are.";
            return failed(StatusCode::INTERNAL_SERVER_ERROR, text);
        };
        let status = if notice.good { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
        (status, notice)
    }

    /// What nodes know of the session that a page is about, for operators; asked at most every
    /// [`ASKED_AGAIN`].
    async fn words(
        &self,
        page: &Page,
        view: &View,
        viewer: Viewer,
    ) -> Option<Arc<Vec<(NodeName, Word)>>> {
        let Page::Session(function, hash) = page else { return None };
        let id = view.id_of(function, hash).filter(|_| viewer.operator)?;
        let key = (function.to_string(), hash.clone());
        if let Some((at, words)) = self.asked.lock().get(&key)
            && at.elapsed() < ASKED_AGAIN
        {
            return Some(Arc::clone(words));
        }
        let watched = view.nodes.iter().filter_map(|node| self.nodes.get(&node.name));
        let words = watched.map(async |node| (node.name.clone(), self.word(node, page, id).await));
        let words = Arc::new(join_all(words).await);
        let mut asked = self.asked.lock();
        asked.retain(|_, (at, _)| at.elapsed() < ASKED_AGAIN);
        if asked.len() < ASKED {
            asked.insert(key, (Instant::now(), Arc::clone(&words)));
        }
        Some(words)
    }

    async fn word(&self, node: &Node, page: &Page, id: &SessionId) -> Word {
        let Page::Session(function, _) = page else { return Ok(None) };
        let query = [("session", id.as_str())];
        let asking = self.client.get(node, function, "test-function", &query);
        // A node that hangs must not hold up the others' words.
        let Ok(answer) = tokio::time::timeout(PATIENCE, asking).await else {
            return Err("it does not answer in time".to_owned());
        };
        match answer.and_then(|answer| answer.read()) {
            Ok(known) => Ok(Some(known)),
            Err(CallError::Refused { code, .. }) if code == "no-such-session" => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read_form(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
}

/// Where to go afterwards: one of our own pages, whatever the form says.
fn back(form: &[(String, String)]) -> Page {
    field(form, "back").and_then(Page::at).unwrap_or(Page::Tree)
}

fn redirect(to: &Page, cookie: Option<&str>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    let mut set = |name, value: &str| {
        // Paths and cookies of ours are visible ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::LOCATION, &to.path());
    if let Some(cookie) = cookie {
        set(header::SET_COOKIE, cookie);
    }
    response
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (headers, text).into_response()
}
