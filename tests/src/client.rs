//! A client as people write them: follows 307 itself, so that a test can see
//! every hop, and repeats a request with the same id when told that it may.

use std::time::{Duration, Instant};

use bytes::Bytes;
use funicular::session::SessionToken;
use reqwest::Method;

/// A client of one session.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    session: String,
    /// Where its next request goes first, without a slash at the end.
    pub base: String,
    /// Whether it goes on where the last redirect led.
    pub remembers: bool,
}

/// An answer with the way to it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The last status.
    pub status: u16,
    /// The last body.
    pub body: Bytes,
    /// The last headers.
    pub headers: reqwest::header::HeaderMap,
    /// Where the redirects led, in order.
    pub hops: Vec<String>,
    /// From the first byte to the last.
    pub took: Duration,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// A header as text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The token that came along.
    pub fn token(&self) -> SessionToken {
        SessionToken::decode(self.header("x-session-token")).expect("a token")
    }

    /// The code of the problem that it is.
    pub fn code(&self) -> String {
        let problem: serde_json::Value = self.json();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The answer, which has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {:?}", self.body, self.hops);
        self
    }
}

impl Client {
    /// A client of `session` that knows one gateway: `…/function/<fn>`.
    pub fn new(base: impl Into<String>, session: &str) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a client");
        Self { http, session: session.to_owned(), base: base.into(), remembers: false }
    }

    /// The same client for another session: connections are shared.
    #[must_use]
    pub fn session(&self, session: &str) -> Self {
        Self { session: session.to_owned(), ..self.clone() }
    }

    /// Sends a request and follows redirects, as `curl -L` does.
    pub async fn send(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send_with(method, path, body, &[]).await
    }

    /// The same with more headers.
    pub async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.try_send(method, path, body.into(), headers).await.expect("an answer")
    }

    /// The same; no answer is an error.
    pub async fn try_send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        self.attempt(method, path, body, headers).await.1
    }

    /// The same, and says which URL was asked last.
    pub async fn attempt(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> (String, reqwest::Result<Answer>) {
        let mut last = format!("{}{path}", self.base);
        let outcome = self.walk(&mut last, (method, path, body), headers).await;
        (last, outcome)
    }

    /// Follows redirects; `url` is where it has got to.
    async fn walk(
        &mut self,
        url: &mut String,
        (method, path, body): (Method, &str, Bytes),
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        let began = Instant::now();
        let mut hops = Vec::new();
        loop {
            let mut request = self
                .http
                .request(method.clone(), &*url)
                .header("x-session", &self.session)
                .body(body.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send().await?;
            if answer.status().as_u16() == 307 && hops.len() < 20 {
                let place = answer.headers()["location"].to_str().expect("a place").to_owned();
                if self.remembers
                    && let Some(base) = place.strip_suffix(path)
                {
                    base.clone_into(&mut self.base);
                }
                url.clone_from(&place);
                hops.push(place);
                continue;
            }
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let body = answer.bytes().await?;
            return Ok(Answer { status, body, headers, hops, took: began.elapsed() });
        }
    }

    /// A write that takes effect exactly once: repeated with the same id while
    /// nobody answers, or 503, 429 or 423 say that it may be. Fails after `at_most`.
    pub async fn write_once(
        &mut self,
        path: &str,
        body: &str,
        id: &str,
        at_most: Duration,
    ) -> Answer {
        let began = Instant::now();
        loop {
            let headers = [("x-session-request-id", id)];
            let sent = self.try_send(Method::POST, path, body.to_owned().into(), &headers).await;
            match sent {
                Ok(answer) if ![503, 429, 423].contains(&answer.status) => return answer,
                outcome => assert!(began.elapsed() < at_most, "{path} {id}: {outcome:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
