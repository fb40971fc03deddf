//! Over HTTP, as a browser meets it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use funicular::http::signature::Keys;
use funicular::session::FunctionName;
use funicular::topology::Topology;
use reqwest::header::HeaderMap as Received;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::watch::{PATIENCE as SHORT, Settings as Watch};

const KEY: &str = "the operators' own secret";
const FORM: &str = "application/x-www-form-urlencoded";

/// A dashboard of one node that nobody is at.
struct Site {
    address: SocketAddr,
    http: reqwest::Client,
    _stop: tokio_util::sync::DropGuard,
}

struct Answer {
    status: u16,
    headers: Received,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn client() -> OperatorClient {
    let keys = Keys { peer: None, operator: Secret::new(KEY.as_bytes()).ok() };
    OperatorClient::new(keys, "dashboard".parse().unwrap(), SHORT).unwrap()
}

async fn serve(router: impl FnOnce(u16) -> Router) -> SocketAddr {
    let listener = funicular::serve::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = CancellationToken::new();
    tokio::spawn(funicular::serve::serve_router(listener, router(address.port()), closing));
    address
}

impl Site {
    async fn open() -> Self {
        Self::open_at("http://127.0.0.1:1", None).await
    }

    /// Its node has this gateway, and these functions if they are named.
    async fn open_at(gateway: &str, functions: Option<Vec<FunctionName>>) -> Self {
        let tree = format!("{{levels: [a], root: {{name: italy, gateway: '{gateway}'}}}}");
        let topology = Arc::new(Topology::parse(&tree).unwrap());
        let watch = Watch { functions, ..Watch::whole_tree(client(), topology) };
        let stop = CancellationToken::new();
        let watcher = Watcher::start(&watch, &stop);
        let settings = |port| Settings {
            watcher,
            nodes: watch.nodes,
            client: client(),
            key: Secret::new(KEY.as_bytes()).ok(),
            port,
            loopback: true,
            stop: stop.clone(),
        };
        let address = serve(|port| router(settings(port))).await;
        let http =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Self { address, http: http.build().unwrap(), _stop: stop.drop_guard() }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.text().await.unwrap() }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.get(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// A form, as our own page sends it unless `headers` say otherwise.
    async fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.post(format!("http://{}{path}", self.address));
        request = request.header("content-type", FORM).body(body.to_owned());
        if headers.iter().all(|(name, _)| *name != "origin") {
            request = request.header("origin", format!("http://{}", self.address));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    async fn sign_in(&self) -> String {
        let answer = self.post("/login", &format!("key={KEY}&back=/node/italy"), &[]).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/node/italy"));
        answer.header("set-cookie").split(';').next().unwrap().to_owned()
    }
}

const OFFLOAD: &str = "action=offload&node=italy&function=cart&back=/";

#[tokio::test]
async fn every_answer_tells_browsers_to_be_strict() {
    let site = Site::open().await;
    for path in ["/", "/node/italy", "/assets/dashboard.js", "/nothing", "/events?page=/nothing"] {
        let answer = site.get(path, &[]).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("x-frame-options"), "DENY");
    }
    assert_eq!(site.get("/", &[]).await.header("cache-control"), "no-store");
    let page = site.get("/", &[]).await.body;
    assert!(page.contains("italy") && page.contains("silent since"), "{page}");
}

#[tokio::test]
async fn g8_the_key_signs_in_and_is_never_shown_again() {
    let site = Site::open().await;
    let cookie = site.sign_in().await;
    assert!(!cookie.contains("secret"));
    let page = site.get("/", &[("cookie", &cookie)]).await.body;
    assert!(page.contains("You are an operator") && !page.contains(KEY), "{page}");
    let out = site.post("/logout", "back=/", &[("cookie", &cookie)]).await;
    assert_eq!(out.status, 303);
    let page = site.get("/", &[("cookie", &cookie)]).await.body;
    assert!(page.contains("Operators' key"), "{page}");
}

#[tokio::test]
async fn g8_a_wrong_key_is_refused_and_soon_not_even_looked_at() {
    let site = Site::open().await;
    for _ in 0..5 {
        let answer = site.post("/login", "key=guess&back=/", &[]).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, ""));
        assert!(
            answer.body.contains("That is not the operators&#39; key")
                || answer.body.contains("That is not the operators' key"),
            "{}",
            answer.body
        );
        assert!(!answer.body.contains("guess"));
    }
    let answer = site.post("/login", &format!("key={KEY}"), &[]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "5"));
}

#[tokio::test]
async fn g8_nobody_acts_without_the_key() {
    let site = Site::open().await;
    for cookie in ["", "funicular-operator=1", "a=b; c"] {
        let answer = site.post("/act", OFFLOAD, &[("cookie", cookie)]).await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.body.contains("Sign in with the operators"), "{}", answer.body);
    }
    let json = [("accept", "application/json")];
    let answer = site.post("/act", OFFLOAD, &json).await;
    let said: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, said["good"].as_bool()), (401, Some(false)));
}

#[tokio::test]
async fn g8_a_page_from_elsewhere_cannot_act_for_an_operator() {
    let site = Site::open().await;
    let cookie = site.sign_in().await;
    for path in ["/act", "/login", "/logout"] {
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
            let headers = [("cookie", cookie.as_str()), ("origin", origin)];
            let answer = site.post(path, OFFLOAD, &headers).await;
            assert_eq!(answer.status, 403, "{path} {origin}");
        }
        let headers = [("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")];
        assert_eq!(site.post(path, OFFLOAD, &headers).await.status, 403);
        assert_eq!(site.get(path, &[("cookie", &cookie)]).await.status, 405);
    }
    let page = site.get("/", &[("cookie", &cookie)]).await.body;
    assert!(page.contains("You are an operator"), "{page}");
}

#[tokio::test]
async fn g8_a_name_of_somebody_else_is_not_served_here() {
    let site = Site::open().await;
    for path in ["/", "/events?page=/", "/assets/dashboard.js"] {
        assert_eq!(site.get(path, &[("host", "evil.example:8080")]).await.status, 421);
    }
    let port = site.address.port();
    assert_eq!(site.get("/", &[("host", &format!("localhost:{port}"))]).await.status, 200);
}

#[tokio::test]
async fn without_a_script_what_became_of_it_is_on_the_next_page() {
    let site = Site::open().await;
    let cookie = site.sign_in().await;
    let headers = [("cookie", cookie.as_str())];
    let answer = site.post("/act", OFFLOAD, &headers).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
    let page = site.get("/", &headers).await.body;
    assert!(page.contains("does not answer"), "{page}");
    // Once.
    let page = site.get("/", &headers).await.body;
    let notice = page.split_once("id=\"notice\"").unwrap().1.split_once("</p>").unwrap().0;
    assert!(!notice.contains("does not answer"), "{notice}");
    // Wherever the form wants to lead.
    let away = "action=offload&node=italy&function=cart&back=https://evil.example/";
    assert_eq!(site.post("/act", away, &headers).await.header("location"), "/");
}

#[tokio::test]
async fn what_changes_is_told_to_who_looks() {
    let site = Site::open().await;
    let url = format!("http://{}/events?page=/", site.address);
    let mut answer = site.http.get(url).send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "text/event-stream");
    let mut text = String::new();
    // The tree at once, and once more when it is known that nobody answers.
    while !text.contains("silent since") {
        let chunk = answer.chunk().await.unwrap().expect("it goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.contains("event: fragments"), "{text}");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let fragments: Value = serde_json::from_str(data).unwrap();
    assert!(fragments["tree"].as_str().unwrap().starts_with("<section"), "{fragments}");
}

#[tokio::test]
async fn who_looks_hears_a_beat_while_nothing_changes() {
    let site = Site::open().await;
    let url = format!("http://{}/events?page=/", site.address);
    let mut answer = site.http.get(url).send().await.unwrap();
    // From now on whoever waits for a time has it at once.
    tokio::time::pause();
    let beats = async {
        let mut text = String::new();
        while text.matches("event: beat\ndata: ").count() < 3 {
            let chunk = answer.chunk().await.unwrap().expect("it goes on");
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), beats).await.expect("it beats");
}

#[tokio::test]
async fn what_was_begun_is_done_though_the_browser_goes_away() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let answer = Arc::new(Notify::new());
    let waits = Arc::clone(&answer);
    // Functions that say nothing of themselves and answer an operator only when they are let.
    let functions = move |uri: Uri| async move {
        if uri.path().ends_with("/drain") {
            tell.send(uri.path().to_owned()).unwrap();
            waits.notified().await;
        }
        StatusCode::SERVICE_UNAVAILABLE
    };
    let gateway = serve(|_| Router::new().fallback(functions)).await;
    let names = ["cart", "cdn"].map(|name| name.parse().unwrap()).to_vec();
    let site = Site::open_at(&format!("http://{gateway}"), Some(names)).await;
    let cookie = site.sign_in().await;
    let page = site.get("/", &[("cookie", &cookie)]).await.body;
    assert!(page.contains("1 node"), "{page}");
    let form = "action=drain&node=italy&function=*&back=/";
    let headers = [("cookie", cookie.as_str())];
    tokio::select! {
        answer = site.post("/act", form, &headers) => panic!("{}", answer.body),
        first = told.recv() => assert_eq!(first.unwrap(), "/function/cart/_/drain"),
    }
    answer.notify_one();
    let second = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
    assert_eq!(second.expect("it is done to its end").unwrap(), "/function/cdn/_/drain");
    answer.notify_one();
}
