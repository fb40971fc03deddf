//! What a handler answers when it cannot do what was asked.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use crate::store::StoreError;

/// A handler's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What the client is told when the author's code failed without a sentence of
/// its own.
const FAILED: &str = "the function failed; its log says why";

/// An HTTP status with one sentence for the client. A handler that returns it
/// writes nothing, and the same request may be sent again.
///
/// Every foreign error becomes one through `?`: status 500, its text in the
/// log, none of it in the answer. To say more, say it:
///
/// ```
/// use funicular::prelude::*;
///
/// fn parse(text: &str) -> Result<u32> {
///     text.parse().map_err(|cause| Error::bad_request("`count` is a number").caused_by(cause))
/// }
///
/// assert_eq!(parse("x").unwrap_err().status_code(), StatusCode::BAD_REQUEST);
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    status: StatusCode,
    sentence: Cow<'static, str>,
    cause: Option<Cause>,
    failure: Option<Failure>,
}

/// Why the session's data could not be read. The node acts on it; a handler
/// that swallows the error does not get past it.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The guard does not hold any more: another version, owner or lease.
    Stale,
    /// The store did not do what it was asked.
    Store(StoreError),
}

impl Error {
    /// An error of any status from 400 to 599; every other becomes 500.
    pub fn status(status: StatusCode, sentence: impl Into<Cow<'static, str>>) -> Self {
        let error = status.is_client_error() || status.is_server_error();
        let status = if error { status } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self(Box::new(Inner { status, sentence: sentence.into(), cause: None, failure: None }))
    }

    /// 400: the request is missing something, or does not read.
    pub fn bad_request(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::status(StatusCode::BAD_REQUEST, sentence)
    }

    /// 403: this client may not.
    pub fn forbidden(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::status(StatusCode::FORBIDDEN, sentence)
    }

    /// 404: there is no such thing.
    pub fn not_found(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::status(StatusCode::NOT_FOUND, sentence)
    }

    /// 409: not in the state that the session is in.
    pub fn conflict(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::status(StatusCode::CONFLICT, sentence)
    }

    /// 413: more than this function takes.
    pub fn too_large(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::status(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    }

    /// 500: the function's own fault. The client sees the sentence.
    pub fn internal(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::status(StatusCode::INTERNAL_SERVER_ERROR, sentence)
    }

    /// 503: not now; the client may try again.
    pub fn unavailable(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::status(StatusCode::SERVICE_UNAVAILABLE, sentence)
    }

    /// Adds what goes into the log and not to the client.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The status, always from 400 to 599.
    pub fn status_code(&self) -> StatusCode {
        self.0.status
    }

    /// The sentence for the client.
    pub fn sentence(&self) -> &str {
        &self.0.sentence
    }

    /// What is for the log only.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// Whether a read found its guard not to hold any more: a read-only request
    /// runs again, a writing one has lost its lease.
    pub(crate) fn is_stale_read(&self) -> bool {
        matches!(self.0.failure, Some(Failure::Stale))
    }

    /// What the store answered, if that is why the handler failed.
    pub(crate) fn store_error(&self) -> Option<&StoreError> {
        match &self.0.failure {
            Some(Failure::Store(error)) => Some(error),
            _ => None,
        }
    }
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        let mut error = match &self {
            Self::Stale => Error::unavailable("the session changed while it was read: try again"),
            Self::Store(cause) => {
                Error::unavailable("the session's store did not answer: try again")
                    .caused_by(cause.clone())
            }
        };
        error.0.failure = Some(self);
        error
    }
}

/// Any foreign error, `anyhow::Error` included: 500, its text for the log only.
impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Error {
    fn from(cause: E) -> Self {
        Self::internal(FAILED).caused_by(cause)
    }
}

/// The sentence for the client.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)
    }
}

/// Everything, causes included: for the log.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status.as_u16(), self.0.sentence)?;
        let mut cause = self.0.cause.as_deref().map(|cause| cause as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails() -> Result<u32> {
        Ok("twelve".parse::<u32>()?)
    }

    #[test]
    fn a_foreign_error_is_a_500_whose_text_stays_in_the_log() {
        let error = fails().unwrap_err();
        assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.to_string().contains("digit"));
        assert!(format!("{error:?}").contains("invalid digit"));
    }

    #[test]
    fn an_error_is_never_a_success() {
        let error = Error::status(StatusCode::OK, "fine");
        assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn the_node_knows_why_a_read_failed() {
        assert!(Failure::Stale.into_error().is_stale_read());
        let down = Failure::Store(StoreError::Unavailable("no route".into())).into_error();
        assert!(matches!(down.store_error(), Some(StoreError::Unavailable(_))));
        assert!(!down.to_string().contains("no route"));
        assert!(!Error::conflict("full").is_stale_read());
    }
}
