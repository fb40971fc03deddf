//! Functions that run as processes of their own behind this one's gateway.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};

use super::forward::end_to_end;
use super::router::plain;
use crate::peers::innermost;
use crate::session::FunctionName;

/// Where functions are that another process serves. Each is started with
/// `FUNICULAR_STANDALONE=true`, and so takes requests as the gateway gets them.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    http: reqwest::Client,
    bases: BTreeMap<FunctionName, String>,
}

impl Processes {
    /// `bases` are URLs without a slash at the end, like `http://127.0.0.1:9001`. Fails
    /// only if the HTTP client cannot be made.
    pub fn new(bases: BTreeMap<FunctionName, String>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| format!("the HTTP client could not be made: {error}"))?;
        Ok(Self { http, bases })
    }

    pub(super) fn has(&self, function: &FunctionName) -> bool {
        self.bases.contains_key(function)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &FunctionName> {
        self.bases.keys()
    }

    /// Hands a request over as it is, and the answer back.
    pub(super) async fn pass_on(
        &self,
        function: &FunctionName,
        request: Request<Body>,
    ) -> Response {
        let base = self.bases.get(function).map_or("", String::as_str);
        let (head, body) = request.into_parts();
        let raw = head.uri.path_and_query().map_or("/", |path| path.as_str());
        // A URL is put right when it is read, and signatures are about what was sent.
        let place = reqwest::Url::parse(&format!("{base}{raw}")).ok();
        let Some(place) = place.filter(|place| place.as_str().ends_with(raw)) else {
            let text = "this path cannot be handed on; escape what is special in it\n";
            return plain(StatusCode::BAD_REQUEST, text);
        };
        let sent = self
            .http
            .request(head.method, place)
            .headers(end_to_end(head.headers))
            .body(reqwest::Body::wrap_stream(body.into_data_stream()))
            .send()
            .await;
        match sent {
            Ok(answer) => {
                let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
                let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                response
            }
            Err(error) => {
                let why = innermost(&error);
                let text = format!("the process of {function} does not answer: {why}\n");
                plain(StatusCode::BAD_GATEWAY, &text)
            }
        }
    }
}
