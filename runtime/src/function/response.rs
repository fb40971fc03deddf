//! What a handler answers.

use bytes::Bytes;
use http::header::{self, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use crate::edge_db::IntoValue;

/// What the server says of the connection and the body's length: not the
/// handler's to set, and not to be passed on from another node's answer.
const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// An answer: status, headers and body. With a status of 400 or more, the
/// request writes nothing, as with an [`Error`].
#[derive(Debug, Clone)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    fault: Option<String>,
}

impl Response {
    fn new(status: StatusCode, body: Bytes) -> Self {
        Self { status, headers: HeaderMap::new(), body, fault: None }
    }

    /// 200 with `value` as JSON; fails if it has no JSON form.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        Ok(Self::bytes("application/json", serde_json::to_vec(value)?))
    }

    /// 200 with a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into())
    }

    /// 200 with any content.
    pub fn bytes(content_type: impl AsRef<str>, body: impl IntoValue) -> Self {
        Self::new(StatusCode::OK, body.into_value()).header(CONTENT_TYPE.as_str(), content_type)
    }

    /// A status without a body.
    pub fn status(status: StatusCode) -> Self {
        Self::new(status, Bytes::new())
    }

    /// A response as it came from another node.
    pub(crate) fn from_parts(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Self {
        for name in &FRAMING {
            headers.remove(name);
        }
        Self { status, headers, body, fault: None }
    }

    /// Sets a header. One that HTTP does not allow, or that is the server's to
    /// set (`Content-Length`), makes the answer a 500, with the reason in the log.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) if !FRAMING.contains(&name) => {
                self.headers.insert(name, value);
            }
            _ => self.fault = Some(format!("the header {name:?}: {value:?} cannot be set")),
        }
        self
    }

    /// The same answer with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The status.
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Reads the body as JSON, for the answer of another session; 500 if it
    /// is something else.
    pub fn read_json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Reads the body as text, for the answer of another session; 500 if it
    /// is not UTF-8.
    pub fn read_text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    /// Refuses a response whose headers could not be set.
    pub(super) fn checked(self) -> Result<Self> {
        match &self.fault {
            None => Ok(self),
            Some(fault) => Err(Error::from(fault.clone())),
        }
    }

    pub(crate) fn into_parts(self) -> (StatusCode, HeaderMap, Bytes) {
        (self.status, self.headers, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_what_it_holds() {
        let response = Response::json(&[1, 2]).unwrap().with_status(StatusCode::CREATED);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.read_json::<Vec<u8>>().unwrap(), [1, 2]);
        let (status, _, body) = response.checked().unwrap().into_parts();
        assert_eq!((status, body), (StatusCode::CREATED, "[1,2]".into()));
    }

    #[test]
    fn a_header_that_is_not_http_is_an_error_and_no_panic() {
        let response = Response::text("x").header("Location", "a\r\nSet-Cookie: b");
        let error = response.checked().unwrap_err();
        assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.to_string().contains("Cookie"));
        assert!(Response::text("x").header("a b", "c").checked().is_err());
        assert!(Response::text("x").header("Content-Length", "7").checked().is_err());
    }
    #[test]
    fn another_nodes_answer_is_passed_on_without_its_framing() {
        let mut headers = HeaderMap::new();
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let passed_on = Response::from_parts(StatusCode::OK, headers, "x".into());
        assert_eq!(passed_on.headers().len(), 1);
        assert!(passed_on.checked().is_ok());
    }
}
