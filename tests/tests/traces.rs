//! One trace over a client's request, the redirect and the move: real processes that send
//! their spans to a collector, of which this has what it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use funicular::http::signature::{Role, SIGNATURE_HEADER};
use funicular_tests::client::Client;
use funicular_tests::operator::unix_ms;
use funicular_tests::ports::Port;
use funicular_tests::tree::{Store, Tree, until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use reqwest::Method;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// A span as it came.
#[derive(Debug, Clone)]
struct Span {
    service: String,
    node: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    notes: BTreeMap<String, String>,
}

/// Takes what OTLP over HTTP brings (`POST /v1/traces`, protobuf).
struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let taken = Arc::clone(&spans);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = Arc::clone(&taken);
                tokio::spawn(async move { take(BufReader::new(stream), &taken).await });
            }
        });
        Self { port, spans }
    }

    async fn of(&self, trace: &str) -> Vec<Span> {
        let spans = self.spans.lock().await;
        spans.iter().filter(|span| span.trace == trace).cloned().collect()
    }
}

async fn take(mut stream: BufReader<TcpStream>, to: &Mutex<Vec<Span>>) {
    loop {
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
            let header = line.trim().to_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if first.is_empty() {
                first = std::mem::take(&mut line);
            }
            line.clear();
        }
        if first.is_empty() {
            return;
        }
        assert_eq!(first.trim(), "POST /v1/traces HTTP/1.1");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("a body");
        let request = ExportTraceServiceRequest::decode(&*body).expect("protobuf");
        to.lock().await.extend(spans(request));
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn notes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        other => format!("{other:?}"),
    };
    let noted = attributes.into_iter();
    noted.filter_map(|it| Some((it.key, text(it.value?.value?)))).collect()
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut found = Vec::new();
    for process in request.resource_spans {
        let about = notes(process.resource.map(|it| it.attributes).unwrap_or_default());
        for span in process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            found.push(Span {
                service: about["service.name"].clone(),
                node: about["funicular.node"].clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                notes: notes(span.attributes),
            });
        }
    }
    found
}

async fn traced(collector: u16) -> Tree {
    Tree::line(Store::Memory)
        .function("traced")
        .set("TEST_PROGRAM", "traced")
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{collector}"))
        .set("OTEL_BSP_SCHEDULE_DELAY", "50")
        .start()
        .await
}

/// An order of an operator who is traced.
async fn offload(tree: &Tree, node: &str, session: &str, parent: &str) {
    let body = serde_json::json!({"session": session}).to_string();
    let path = "/_/force-offload";
    let signature = tree.operator().signature(
        (Role::Operator, "test"),
        node,
        ("POST", path, ""),
        body.as_bytes(),
        unix_ms(),
    );
    let call = reqwest::Client::new().post(format!("{}{path}", tree.gateway(node)));
    let call = call.header(SIGNATURE_HEADER, signature).header("traceparent", parent).body(body);
    let answer = call.send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_over_requests_a_redirect_and_a_move() {
    let collector = Collector::start().await;
    let tree = traced(collector.port).await;
    let parent = format!("00-{TRACE}-{CLIENT}-01");
    let traced = [("traceparent", parent.as_str())];
    let mut client = Client::new(tree.gateway("navigli"), "one");
    client.send_with(Method::POST, "/log", "a", &traced).await.expect(204);
    offload(&tree, "navigli", "one", &parent).await;
    let answer = client.send_with(Method::POST, "/pass?node=italy", "b", &traced).await.expect(200);
    assert_eq!(answer.hops.len(), 1);
    let (there, here) = answer.text().split_once(' ').expect("both");

    // And on, past its home, which has to be told.
    offload(&tree, "milan", "one", &parent).await;

    let wanted = 29;
    until("all spans have come", async || collector.of(TRACE).await.len() >= wanted).await;
    let spans = collector.of(TRACE).await;
    assert!(spans.iter().all(|span| span.service == "traced"), "{spans:#?}");
    let of = |node: &str, name: &str| -> Vec<&Span> {
        spans.iter().filter(|span| span.node == node && span.name == name).collect()
    };
    let one = |node: &str, name: &str| -> &Span {
        let found = of(node, name);
        assert_eq!(found.len(), 1, "{name} at {node}: {spans:#?}");
        found[0]
    };
    // Three requests of the client: one ran, one was redirected, and ran elsewhere.
    let [ran, redirected] = of("navigli", "request")[..] else { panic!("{spans:#?}") };
    let elsewhere = one("milan", "request");
    for (span, outcome, status) in
        [(ran, "ran", "204"), (redirected, "redirected", "307"), (elsewhere, "ran", "200")]
    {
        assert_eq!(span.parent, CLIENT, "{span:?}");
        assert_eq!(span.notes["funicular.outcome"], outcome);
        assert_eq!(span.notes["http.response.status_code"], status);
        assert_eq!(span.notes["faas.name"], "traced");
        assert_eq!(span.notes["funicular.session"], ran.notes["funicular.session"]);
    }
    assert_eq!(ran.notes["funicular.epoch"], "1");
    assert_eq!(elsewhere.notes["funicular.epoch"], "2");
    assert_eq!(redirected.notes["funicular.at"], "milan");
    // Each move: an order, an offer, a pull with its steps, each with the answer of the source.
    for (source, target, epoch) in [("navigli", "milan", "2"), ("milan", "italy", "3")] {
        let order = one(source, "force-offload");
        assert_eq!(order.parent, CLIENT);
        let offer = one(source, "offload");
        assert_eq!(offer.parent, order.id);
        let offered = one(target, "offload-session");
        assert_eq!((&offered.parent, &*offered.notes["funicular.caller"]), (&offer.id, source));
        let moved = one(target, "move");
        assert_eq!((&moved.parent, &*moved.notes["funicular.epoch"]), (&offered.id, epoch));
        for name in ["open", "freeze", "install", "settle", "tell home"] {
            assert_eq!(one(target, name).parent, moved.id, "{name}");
        }
        let answered: Vec<_> =
            of(source, "migrate-session").iter().map(|span| &span.parent).collect();
        assert_eq!(answered.len(), 3);
        for name in ["open", "freeze", "settle"] {
            assert!(answered.contains(&&one(target, name).id), "{name}: {spans:#?}");
        }
    }
    assert_eq!(one("navigli", "update-session").parent, one("italy", "tell home").id);
    // What a handler sees is the span that it runs in, and so is what it invokes called with.
    assert_eq!(here, format!("00-{TRACE}-{}-01", elsewhere.id));
    let invoked = one("italy", "request");
    assert_eq!(invoked.parent, elsewhere.id);
    assert_eq!(there, format!("00-{TRACE}-{}-01", invoked.id));
    assert_eq!(spans.len(), wanted, "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_in_no_trace_begins_one_and_one_that_is_not_sampled_is_not_sent() {
    let collector = Collector::start().await;
    let tree = traced(collector.port).await;
    let mut client = Client::new(tree.gateway("navigli"), "one");
    let unseen = format!("00-{TRACE}-{CLIENT}-00");
    let traced = [("traceparent", unseen.as_str()), ("tracestate", "vendor=1")];
    let answer = client.send_with(Method::GET, "/seen", "", &traced).await.expect(200);
    // Nobody records it: it is passed on as it came.
    assert_eq!(answer.text(), unseen);
    let answer = client.send(Method::GET, "/seen", "").await.expect(200);
    let trace = answer.text().split('-').nth(1).expect("a trace").to_owned();
    assert_ne!(trace, TRACE);
    until("it has come", async || !collector.of(&trace).await.is_empty()).await;
    let spans = collector.of(&trace).await;
    assert_eq!((spans.len(), spans[0].parent.as_str()), (1, ""), "{spans:?}");
    assert!(collector.of(TRACE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_and_one_that_cannot_be_is_refused() {
    let nobody = Port::free();
    let mut tree = traced(nobody.number()).await;
    let mut client = Client::new(tree.gateway("navigli"), "one");
    let lost = "spans are not taken";
    until("the log says so", async || {
        client.send(Method::POST, "/log", "a").await.expect(204);
        tree.site("navigli").log().contains(lost)
    })
    .await;
    client.send(Method::POST, "/log", "b").await.expect(204);
    assert_eq!(tree.site("navigli").log().matches(lost).count(), 1);
    let site = tree.site("navigli");
    site.kill9();
    site.set("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example");
    site.launch();
    assert_eq!(site.ended().await, Some(64));
    assert!(site.log().contains("write http://host:4318"), "{}", site.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feature_the_header_goes_on_all_the_same() {
    let tree = Tree::line(Store::Memory).start().await;
    let mut client = Client::new(tree.gateway("navigli"), "one");
    let parent = format!("00-{TRACE}-{CLIENT}-01");
    let traced = [("traceparent", parent.as_str())];
    let path = "/invoke?node=milan&path=/traceparent";
    client.send_with(Method::POST, path, "x", &traced).await.expect(200);
    let mut there = Client::new(tree.gateway("milan"), "one");
    let log: Vec<String> = there.send(Method::GET, "/log", "").await.expect(200).json();
    assert_eq!(log, [parent.as_str()]);
}
