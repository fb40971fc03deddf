//! Spans, recorded and sent to a collector with OTLP over HTTP.

use std::error::Error;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use tokio::runtime::Handle;

use super::{Kind, Trace};

/// Where spans are sent to; one a process.
static INSTALLED: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A span that is being recorded.
pub(super) struct Recorded(Span);

/// The way to the collector: connections belong to the runtime that made them, whichever
/// thread sends.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: Handle,
    /// The last batch was not taken: said once, not with every batch.
    fails: AtomicBool,
}

impl Sender {
    fn note(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let why = match outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answers {}", answer.status())),
            Err(error) => Some(innermost(error.as_ref())),
        };
        match (self.fails.swap(why.is_some(), Ordering::Relaxed), why) {
            (false, Some(why)) => tracing::warn!(why, "spans are not taken, and are dropped"),
            (true, None) => tracing::info!("spans are taken again"),
            _ => {}
        }
    }
}

/// "connection refused" says more than "error sending request".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = answer.headers().clone();
            }
            let body = answer.bytes().await?;
            Ok::<_, HttpError>(response.body(body)?)
        });
        let outcome = sent.await?;
        self.note(&outcome);
        outcome
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn install(service: &str, node: &str) -> Result<(), String> {
    let mut named = false;
    for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
        let Some(endpoint) = variable(name) else { continue };
        if !endpoint.starts_with("http://") {
            return Err(format!(
                "{name} is {endpoint:?}: write http://host:4318, without TLS; a collector that \
                 wants TLS needs one beside this process"
            ));
        }
        named = true;
    }
    let off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value == "true");
    if !named || off || INSTALLED.get().is_some() {
        return Ok(());
    }
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()
        .map_err(|error| format!("the HTTP client for spans could not be made: {error}"))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender {
            http,
            runtime: Handle::current(),
            fails: AtomicBool::new(false),
        })
        .with_protocol(Protocol::HttpBinary)
        .build()
        .map_err(|error| {
            format!("no spans can be sent: {error}; see OTEL_EXPORTER_OTLP_ENDPOINT")
        })?;
    let mut resource =
        Resource::builder().with_attribute(KeyValue::new("funicular.node", node.to_owned()));
    if variable("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service.to_owned());
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    let tracer = provider.tracer("funicular");
    let _ = INSTALLED.set((provider, tracer));
    Ok(())
}

pub(super) async fn finish() {
    // It waits for a thread that waits for this runtime.
    let sent = tokio::task::spawn_blocking(|| {
        INSTALLED.get().map(|(provider, _)| provider.shutdown_with_timeout(Duration::from_secs(2)))
    });
    if let Ok(Some(Err(error))) = sent.await {
        tracing::warn!(%error, "the last spans were not sent");
    }
}

pub(super) fn start(name: &'static str, kind: Kind, parent: Option<&Trace>) -> Option<Recorded> {
    let (_, tracer) = INSTALLED.get()?;
    let kind = match kind {
        Kind::Server => SpanKind::Server,
        Kind::Internal => SpanKind::Internal,
    };
    let context = parent.map_or_else(Context::new, |parent| {
        Context::new().with_remote_span_context(remote(parent))
    });
    let builder = tracer.span_builder(name).with_kind(kind);
    Some(Recorded(tracer.build_with_context(builder, &context)))
}

fn remote(trace: &Trace) -> SpanContext {
    let state = trace.state.as_ref().and_then(|state| state.to_str().ok()?.parse().ok());
    SpanContext::new(
        TraceId::from(trace.id),
        SpanId::from(trace.span),
        TraceFlags::new(trace.flags),
        true,
        state.unwrap_or(TraceState::NONE),
    )
}

impl Recorded {
    /// The place that it is, for what is called from it.
    pub(super) fn trace(&self) -> Trace {
        let context = self.0.span_context();
        let state = context.trace_state().header();
        Trace {
            id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
            state: (!state.is_empty()).then(|| state.parse().ok()).flatten(),
        }
    }

    /// Whether it was chosen to be sent.
    pub(super) fn is_seen(&self) -> bool {
        self.0.is_recording()
    }

    pub(super) fn note(&mut self, name: &'static str, value: String) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    pub(super) fn failed(&mut self, why: String) {
        self.0.set_status(Status::error(why));
    }
}
