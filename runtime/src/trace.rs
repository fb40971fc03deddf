//! Where work stands in a trace, and what is passed on: W3C Trace Context
//! (`traceparent`, `tracestate`).
//!
//! Whoever calls a node with these headers has them passed on to every node and function
//! that the call leads to. With the feature `otel` a node also records spans of its own and
//! sends them to a collector, if `OTEL_EXPORTER_OTLP_ENDPOINT` names one; without a
//! collector, or without the feature, it is as if the caller's place were its own.

#[cfg(feature = "otel")]
mod recorded;
#[cfg(not(feature = "otel"))]
#[path = "trace/unrecorded.rs"]
mod recorded;

use std::fmt::Display;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::futures::TaskLocalFuture;

use recorded::Recorded;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");
/// Longer ones are dropped, as the standard allows.
const LONGEST_STATE: usize = 512;

/// A place in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    span: u64,
    flags: u8,
    state: Option<HeaderValue>,
}

tokio::task_local! {
    static CURRENT: Option<Trace>;
}

impl Trace {
    /// What a caller says; none if it says nothing or something else.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&PARENT).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let trace = Self::parse(value.to_str().ok()?)?;
        let state = headers.get(&STATE).filter(|state| state.len() <= LONGEST_STATE);
        Some(Self { state: state.cloned(), ..trace })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = number(parts.next()?, 2)?;
        let (id, span) = (number(parts.next()?, 32)?, number(parts.next()?, 16)?);
        let flags = number(parts.next()?, 2)?;
        // A later version may add something behind.
        let known = version != 0xff && (version != 0 || parts.next().is_none());
        let [span, flags] = [u64::try_from(span).ok()?, u64::try_from(flags).ok()?];
        (known && id != 0 && span != 0).then_some(Self {
            id,
            span,
            flags: u8::try_from(flags).ok()?,
            state: None,
        })
    }

    /// As a `traceparent`.
    fn header(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags)
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.remove(&STATE);
        if let Ok(parent) = HeaderValue::try_from(self.header()) {
            headers.insert(PARENT, parent);
            headers.extend(self.state.clone().map(|state| (STATE, state)));
        }
    }
}

/// Lower-case hexadecimal digits, exactly so many.
fn number(text: &str, digits: usize) -> Option<u128> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (text.len() == digits && hex).then(|| u128::from_str_radix(text, 16).ok())?
}

fn current() -> Option<Trace> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Puts the place where this task stands into the headers of a call, unless they name one.
pub(crate) fn pass_on(headers: &mut HeaderMap) {
    if !headers.contains_key(&PARENT)
        && let Some(trace) = current()
    {
        trace.write(headers);
    }
}

/// The headers that the environment gives a command (`TRACEPARENT`, `TRACESTATE`).
pub(crate) fn of_the_environment() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (variable, name) in [("TRACEPARENT", PARENT), ("TRACESTATE", STATE)] {
        let value = std::env::var(variable).ok();
        headers.extend(value.and_then(|text| Some((name, text.parse().ok()?))));
    }
    match Trace::read(&headers) {
        Some(_) => headers,
        None => HeaderMap::new(),
    }
}

/// Work that goes on where this task stands, in whatever task it runs.
pub(crate) fn carried<F: Future>(work: F) -> TaskLocalFuture<Option<Trace>, F> {
    CURRENT.scope(current(), work)
}

/// What a span is, as others see it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// It answers a call.
    Server,
    /// It is a part of what goes on here.
    Internal,
}

/// A piece of work in a trace. It ends when it is dropped.
pub(crate) struct Span {
    trace: Option<Trace>,
    recorded: Option<Recorded>,
}

impl Span {
    /// Answers a call with these headers.
    pub(crate) fn server(name: &'static str, headers: &HeaderMap) -> Self {
        Self::new(name, Kind::Server, Trace::read(headers))
    }

    /// A part of what this task does.
    pub(crate) fn internal(name: &'static str) -> Self {
        Self::new(name, Kind::Internal, current())
    }

    fn new(name: &'static str, kind: Kind, parent: Option<Trace>) -> Self {
        match recorded::start(name, kind, parent.as_ref()) {
            Some(recorded) => Self { trace: Some(recorded.trace()), recorded: Some(recorded) },
            None => Self { trace: parent, recorded: None },
        }
    }

    /// Whether anybody will see what is noted.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded.as_ref().is_some_and(Recorded::is_seen)
    }

    /// Notes something about it.
    pub(crate) fn note(&mut self, name: &'static str, value: impl Display) {
        if let Some(recorded) = self.recorded.as_mut().filter(|recorded| recorded.is_seen()) {
            recorded.note(name, value.to_string());
        }
    }

    /// It did not end well.
    pub(crate) fn failed(&mut self, why: impl Display) {
        if let Some(recorded) = self.recorded.as_mut().filter(|recorded| recorded.is_seen()) {
            recorded.failed(why.to_string());
        }
    }

    /// Work that is in it.
    pub(crate) fn within<F: Future>(&self, work: F) -> TaskLocalFuture<Option<Trace>, F> {
        CURRENT.scope(self.trace.clone(), work)
    }

    /// What is called from it by others than this process is called with these headers. Those
    /// of its own caller are that already, unless it is recorded.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if self.is_recorded()
            && let Some(trace) = &self.trace
        {
            trace.write(headers);
        }
    }
}

/// A step of what this task does, as a span; calls to nodes that it makes are in it.
pub async fn step<T, E: Display>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut span = Span::internal(name);
    let outcome = span.within(work).await;
    if let Err(error) = &outcome {
        span.failed(error);
    }
    outcome
}

/// Begins to send spans to the collector that the environment names, if there is one and
/// the process has the feature for it. `service` is its name unless `OTEL_SERVICE_NAME` is
/// set. The error says what is wrong with the environment.
pub fn start(service: &str, node: &str) -> Result<(), String> {
    recorded::install(service, node)
}

/// Sends what has not been sent yet. Call it last.
pub async fn finish() {
    recorded::finish().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(PARENT, parent.parse().unwrap());
        }
        headers.insert(STATE, "vendor=1".parse().unwrap());
        headers
    }

    #[test]
    fn a_traceparent_is_read_as_the_standard_has_it() {
        let trace = Trace::read(&headers(&[SEEN])).unwrap();
        assert_eq!(trace.header(), SEEN);
        assert_eq!(trace.state.unwrap(), "vendor=1");
        // A later version may have more.
        let later = Trace::read(&headers(&[&format!("cc{}-what-ever", &SEEN[2..])])).unwrap();
        assert_eq!(later.header(), SEEN);
        for wrong in [
            "",
            "00",
            &SEEN[..54],
            &format!("{SEEN}-00"),
            &SEEN.to_uppercase(),
            &SEEN.replace("00-", "ff-"),
            &SEEN.replace("b7ad6b7169203331", "0000000000000000"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333+-01",
        ] {
            assert_eq!(Trace::read(&headers(&[wrong])), None, "{wrong}");
        }
        assert_eq!(Trace::read(&headers(&[SEEN, SEEN])), None);
        assert_eq!(Trace::read(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn what_a_caller_says_is_passed_on_from_every_task_that_works_for_it() {
        let span = Span::server("request", &headers(&[SEEN]));
        let passed_on = async || {
            let mut sent = HeaderMap::new();
            pass_on(&mut sent);
            sent
        };
        let (here, elsewhere) = span
            .within(async {
                let elsewhere = tokio::spawn(carried(async move { passed_on().await }));
                (step("step", async { Ok::<_, String>(passed_on().await) }).await, elsewhere.await)
            })
            .await;
        assert_eq!(here.unwrap(), headers(&[SEEN]));
        assert_eq!(elsewhere.unwrap(), headers(&[SEEN]));
        assert!(passed_on().await.is_empty());
        // One's own is left alone.
        let own = SEEN.replace("b7ad", "0001");
        let sent = span.within(async {
            let mut sent = HeaderMap::new();
            sent.insert(PARENT, own.parse().unwrap());
            pass_on(&mut sent);
            sent
        });
        assert_eq!(sent.await[PARENT], *own);
    }
}
