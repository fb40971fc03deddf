//! Errors as `application/problem+json` (RFC 9457): a stable code, one sentence
//! of what to do, and a page in `docs/errors/`.

mod code;
mod conflicts;
mod each;
mod of;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::protocol::Refusal;
pub use code::Code;

/// The media type of problems.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An error answer. Made by one constructor a code.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// What programs go by; `None` for an author's own errors.
    pub code: Option<Code>,
    /// One sentence: what is wrong here, and what to do.
    pub detail: String,
    /// When to try again; sent as `Retry-After` in whole seconds, rounded up.
    pub retry_after: Option<Duration>,
    /// More members of the body.
    pub extra: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this code.
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code: Some(code),
            detail: detail.into(),
            retry_after: None,
            extra: Map::new(),
            headers: Vec::new(),
        }
    }

    /// A problem without a code of ours: what a function's author answers.
    pub fn plain(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: None,
            detail: detail.into(),
            retry_after: None,
            extra: Map::new(),
            headers: Vec::new(),
        }
    }

    /// The same problem, to be tried again after `wait`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same problem with one more member in its body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The few words of its kind.
    pub fn title(&self) -> &'static str {
        match self.code {
            Some(code) => code.title(),
            None => self.status.canonical_reason().unwrap_or("Error"),
        }
    }

    /// The body, JSON.
    pub fn body(&self) -> Bytes {
        let mut body = Map::new();
        let page = self.code.map_or_else(|| "about:blank".to_owned(), Code::page);
        body.insert("type".into(), page.into());
        body.insert("title".into(), self.title().into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.as_str().into());
        if let Some(code) = self.code {
            body.insert("code".into(), code.as_str().into());
        }
        for (name, value) in &self.extra {
            // The members above are not an extension's to replace.
            body.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        json!(body).to_string().into()
    }

    /// The whole answer: status, headers, body.
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        headers.extend(self.headers.iter().cloned());
        response
    }
}

/// At least one, so that nobody comes back at once.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

/// A problem that another node sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Received {
    /// Its code; a newer release may send one that this one does not know.
    pub code: Option<String>,
    /// The few words of its kind.
    #[serde(default)]
    pub title: String,
    /// What is wrong there, and what to do.
    #[serde(default)]
    pub detail: String,
    /// All other members.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Received {
    /// Reads the body of an error answer; `None` if it is no problem.
    pub fn read(body: &[u8]) -> Option<Self> {
        let received: Self = serde_json::from_slice(body).ok()?;
        (received.code.is_some() || !received.title.is_empty()).then_some(received)
    }

    /// What the protocol said, if it was the protocol.
    pub fn refusal(&self) -> Option<Refusal> {
        serde_json::from_value(Value::Object(self.extra.clone())).ok()
    }

    /// Its code, if this release knows it.
    pub fn known(&self) -> Option<Code> {
        self.code.as_deref().and_then(Code::parse)
    }
}
