//! What a handler is asked.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use crate::edge_db::IntoValue;
use crate::session::{RequestId, SessionId};

/// Headers that belong to one session's request and its way here.
const OF_THE_SESSION: [&str; 8] = [
    "x-session",
    "x-session-token",
    "x-session-request-id",
    "x-session-forward",
    "idempotency-key",
    "host",
    "content-length",
    "transfer-encoding",
];

/// One request to a function, its body read in full.
///
/// A handler receives it; to send one to another session, or in a test, build
/// it with [`Request::get`], [`Request::post`] and the like.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Shared, because a request may have to be run again.
    head: Arc<Head>,
    body: Bytes,
    params: Vec<(String, String)>,
    session: Option<SessionId>,
    id: Option<RequestId>,
    pairs: OnceLock<Vec<(String, String)>>,
}

#[derive(Debug, Clone, Default)]
struct Head {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Request {
    /// A request as it arrived: `path` is what follows the function's prefix
    /// (empty means `/`), `query` has no `?`.
    pub(crate) fn new(
        method: Method,
        path: impl Into<String>,
        query: Option<String>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        let mut path = path.into();
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        let query = query.filter(|query| !query.is_empty());
        Self {
            head: Arc::new(Head { method, path, query, headers }),
            body,
            params: Vec::new(),
            session: None,
            id: None,
            pairs: OnceLock::new(),
        }
    }

    pub(crate) fn with_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    pub(crate) fn with_request_id(mut self, id: Option<RequestId>) -> Self {
        self.id = id;
        self
    }

    pub(super) fn with_params(mut self, params: &[(String, String)]) -> Self {
        self.params = params.to_vec();
        self
    }

    /// The request as it is sent on: one that a handler received keeps nothing of
    /// the session and the id it came with.
    pub(crate) fn into_outgoing(mut self) -> Self {
        if self.session.take().is_some() {
            self.id = None;
            self.params.clear();
        }
        let headers = &mut self.head_mut().headers;
        for name in OF_THE_SESSION {
            headers.remove(name);
        }
        self
    }

    /// The query as it was sent, without `?`.
    pub(crate) fn raw_query(&self) -> Option<&str> {
        self.head.query.as_deref()
    }

    fn head_mut(&mut self) -> &mut Head {
        Arc::make_mut(&mut self.head)
    }

    /// Starts a request to send: `path` may carry a query (`/items?all=1`).
    pub fn builder(method: Method, path: impl AsRef<str>) -> RequestBuilder {
        let (path, query) = match path.as_ref().split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path.as_ref(), None),
        };
        RequestBuilder(Self::new(method, path, query, HeaderMap::new(), Bytes::new()))
    }

    /// Starts a GET request to send.
    pub fn get(path: impl AsRef<str>) -> RequestBuilder {
        Self::builder(Method::GET, path)
    }

    /// Starts a POST request to send.
    pub fn post(path: impl AsRef<str>) -> RequestBuilder {
        Self::builder(Method::POST, path)
    }

    /// Starts a PUT request to send.
    pub fn put(path: impl AsRef<str>) -> RequestBuilder {
        Self::builder(Method::PUT, path)
    }

    /// Starts a PATCH request to send.
    pub fn patch(path: impl AsRef<str>) -> RequestBuilder {
        Self::builder(Method::PATCH, path)
    }

    /// Starts a DELETE request to send.
    pub fn delete(path: impl AsRef<str>) -> RequestBuilder {
        Self::builder(Method::DELETE, path)
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The path after the function's prefix, as sent: `/items/3`.
    pub fn path(&self) -> &str {
        &self.head.path
    }

    /// The body, in full.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body, in full, without a copy.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// The body as text; 400 if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body)
            .map_err(|error| Error::bad_request(format!("the body is not UTF-8 text: {error}")))
    }

    /// The body as JSON; 400 with a sentence if it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if self.body.is_empty() {
            return Err(Error::bad_request("the body is empty where JSON is expected"));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::bad_request(format!("the body is not the JSON that is expected here: {error}"))
        })
    }

    /// A parameter of the route, decoded: `n` of `/items/{n}`. A name that the
    /// route does not have is the author's mistake: 500.
    pub fn param(&self, name: &str) -> Result<&str> {
        pair(&self.params, name)
            .ok_or_else(|| Error::internal(format!("this route has no parameter `{{{name}}}`")))
    }

    /// A parameter of the route as a number or any other type; 400 if it does
    /// not read as one.
    pub fn parse_param<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.param(name)?;
        text.parse().map_err(|error| {
            Error::bad_request(format!("`{text}` does not do as `{name}` in the path: {error}"))
        })
    }

    /// The first value of this name in the query, decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.pairs.get_or_init(|| {
            let query = self.head.query.as_deref().unwrap_or_default();
            form_urlencoded::parse(query.as_bytes()).into_owned().collect()
        });
        pair(pairs, name)
    }

    /// A header, if it was sent and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The session's id (`X-session`): in a handler always there, empty in a
    /// request that is still to be sent.
    pub fn session(&self) -> &str {
        self.session.as_ref().map_or("", SessionId::as_str)
    }

    /// The request's own id (`X-session-request-id`), if the client gave one.
    pub fn request_id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }
}

fn pair<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A request that is being put together, to be sent with
/// [`Hierarchy::invoke`](crate::Hierarchy::invoke) or in a test. Everything that
/// takes a request takes it as it is.
#[derive(Debug, Clone)]
pub struct RequestBuilder(Request);

impl RequestBuilder {
    /// Sets the body to `value` as JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        self.body("application/json", body)
    }

    /// Sets the body to a text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.body = text.into().into();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        self.0.head_mut().headers.insert(CONTENT_TYPE, text);
        self
    }

    /// Sets the body and its content type.
    pub fn body(mut self, content_type: &str, body: impl IntoValue) -> Result<Self> {
        self.0.body = body.into_value();
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    /// Sets a header; fails where HTTP does not allow the name or the value.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let name = HeaderName::try_from(name)?;
        self.0.head_mut().headers.insert(name, HeaderValue::try_from(value)?);
        Ok(self)
    }

    /// Adds a pair to the query, encoding both.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let query = self.0.head_mut().query.take().unwrap_or_default();
        let mut query = form_urlencoded::Serializer::new(query);
        self.0.head_mut().query = Some(query.append_pair(name, value).finish());
        self
    }

    /// Gives the request an id: sent again with the same one, it takes effect
    /// once. ([`Hierarchy::invoke`](crate::Hierarchy::invoke) gives its own.)
    pub fn request_id(mut self, id: &str) -> Result<Self> {
        self.0.id = Some(RequestId::new(id)?);
        Ok(self)
    }
}

impl From<RequestBuilder> for Request {
    fn from(builder: RequestBuilder) -> Self {
        builder.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn a_request_is_read_as_it_was_built() {
        let request: Request = Request::post("/items?sort=name")
            .query("q", "a b&c")
            .header("X-Kind", "test")
            .unwrap()
            .json(&serde_json::json!({"sku": "apple"}))
            .unwrap()
            .into();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.path(), "/items");
        assert_eq!(request.query("sort"), Some("name"));
        assert_eq!(request.query("q"), Some("a b&c"));
        assert_eq!(request.query("p"), None);
        assert_eq!(request.header("x-kind"), Some("test"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.json::<serde_json::Value>().unwrap()["sku"], "apple");
        assert_eq!(request.raw_query(), Some("sort=name&q=a+b%26c"));
    }

    #[test]
    fn what_does_not_read_is_a_400_with_a_sentence() {
        let status = |error: Error| error.status_code();
        let empty: Request = Request::post("").into();
        assert_eq!(empty.path(), "/");
        assert_eq!(status(empty.json::<u8>().unwrap_err()), StatusCode::BAD_REQUEST);
        let raw: Request = Request::post("/").body("image/png", vec![0xff]).unwrap().into();
        assert_eq!(status(raw.text().unwrap_err()), StatusCode::BAD_REQUEST);
        assert_eq!(status(raw.json::<u8>().unwrap_err()), StatusCode::BAD_REQUEST);
        let routed = raw.with_params(&[("n".into(), "x".into())]);
        let error = routed.parse_param::<usize>("n").unwrap_err();
        assert_eq!(error.status_code(), StatusCode::BAD_REQUEST);
        assert!(error.to_string().contains("`x`"), "{error}");
        assert_eq!(status(routed.param("m").unwrap_err()), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn a_request_that_http_does_not_allow_is_not_built() {
        assert!(Request::get("/").header("a b", "x").is_err());
        assert!(Request::get("/").header("a", "x\ny").is_err());
        assert!(Request::get("/").request_id("").is_err());
    }
}
