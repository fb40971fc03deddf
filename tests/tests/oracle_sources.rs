//! The oracle's sources and its lease against the real thing: Redis, Prometheus, nodes. Each
//! source: a value, nothing, an error, a hang, nonsense.

use std::sync::Arc;
use std::time::Duration;

use funicular::http::signature::Keys;
use funicular::peers::operator::OperatorClient;
use funicular::session::NodeName;
use funicular::topology::{Node, Topology};
use funicular_oracle::duration::Span;
use funicular_oracle::lease::{Allowance, Lease, NoPermit};
use funicular_oracle::policy::settings::PolicySettings;
use funicular_oracle::settings::StatusSettings;
use funicular_oracle::signals::{Sample, SignalName};
use funicular_oracle::sources::prometheus::{Prometheus, Query};
use funicular_oracle::sources::redis::Redis;
use funicular_oracle::sources::status::{Roster, Status, Wants};
use funicular_oracle::sources::{Source, SourceError, ask};
use funicular_tests::client::Client;
use funicular_tests::cluster::RedisCluster;
use funicular_tests::prometheus::Prometheus as Server;
use funicular_tests::redis::{RedisServer, Setup};
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_millis(500);

fn value(samples: &[Sample], signal: &str) -> Option<f64> {
    samples.iter().find(|sample| sample.signal.as_str() == signal).map(|sample| sample.value)
}

/// A server that answers everything with the same bytes.
async fn parrot(says: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(read) = stream.read(&mut [0; 4096]).await {
                    if read == 0 || stream.write_all(says).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

/// A server that takes connections and says nothing.
async fn silence() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_tells_its_memory_where_it_has_a_limit() {
    let server = RedisServer::start(Setup { maxmemory: 64 << 20, ..Setup::default() });
    let source = Redis::new(&server.url(), PATIENCE).unwrap();
    let empty = ask(&source, PATIENCE).await.unwrap();
    assert_eq!(value(&empty, "redis-key-bytes"), None);
    let share = value(&empty, "redis-memory").unwrap();
    assert!(share > 0.0 && share < 0.5, "{share}");
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    redis::cmd("SET").arg("x").arg(vec![7_u8; 1 << 20]).exec(&mut connection).unwrap();
    let samples = source.read().await.unwrap();
    assert!(value(&samples, "redis-key-bytes").unwrap() > f64::from(1 << 20));
    let unlimited = RedisServer::start(Setup::default());
    let samples = Redis::new(&unlimited.url(), PATIENCE).unwrap().read().await.unwrap();
    assert_eq!(value(&samples, "redis-memory"), None);
    assert!(value(&samples, "redis-bytes").unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_hangs_or_talks_nonsense_has_no_value() {
    let mut server = RedisServer::start(Setup::default());
    let source = Redis::new(&server.url(), PATIENCE).unwrap();
    source.read().await.unwrap();
    server.kill9();
    let said = source.read().await;
    assert!(matches!(said, Err(SourceError::Unreachable(_))), "{said:?}");
    // It is asked anew, not over what was there before.
    server.restart();
    source.read().await.unwrap();
    let (_listener, port) = silence().await;
    let hangs = Redis::new(&format!("redis://127.0.0.1:{port}"), Duration::from_secs(9)).unwrap();
    assert_eq!(ask(&hangs, PATIENCE).await, Err(SourceError::Late(PATIENCE)));
    let port = parrot(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let nonsense = Redis::new(&format!("redis://127.0.0.1:{port}"), PATIENCE).unwrap();
    assert!(ask(&nonsense, PATIENCE).await.is_err());
}

async fn says(
    server: &Server,
    query: &str,
    label: Option<&str>,
) -> Result<Vec<Sample>, SourceError> {
    let query = Query {
        signal: SignalName::new("load").unwrap(),
        query: query.to_owned(),
        function_label: label.map(str::to_owned),
    };
    Prometheus::new(&server.url(), vec![query], Duration::from_secs(5)).unwrap().read().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_is_asked() {
    let server = Server::start("scrape_configs: []\n", "").await;
    let said = says(&server, "vector(0.25)", None).await.unwrap();
    assert_eq!((said.len(), value(&said, "load")), (1, Some(0.25)));
    assert_eq!(value(&says(&server, "scalar(vector(2))", None).await.unwrap(), "load"), Some(2.0));
    let labelled = "label_replace(vector(3), \"function_name\", \"cart\", \"\", \"\")";
    let said = says(&server, labelled, Some("function_name")).await.unwrap();
    assert_eq!(said[0].function.as_ref().unwrap().as_str(), "cart");
    assert_eq!(says(&server, "nobody_has_this", None).await, Ok(Vec::new()));
    // Nothing divided by nothing.
    assert_eq!(says(&server, "vector(0) / vector(0)", None).await, Ok(Vec::new()));
    let said = says(&server, "sum(", None).await;
    assert!(matches!(&said, Err(SourceError::Refused(why)) if why.contains("parse")), "{said:?}");
}

const INTERVAL: Span = Span::secs(60);

fn allowance(moves: usize) -> Allowance {
    Allowance { moves, interval: INTERVAL }
}

async fn one_acts(url: &str) {
    let lease = |ttl| Lease::shared(url, "f", ttl, allowance(2)).unwrap();
    let (first, second) = (lease(Duration::from_millis(300)), lease(Duration::from_secs(30)));
    assert!(first.hold().await.unwrap() && first.is_held());
    assert!(!second.hold().await.unwrap() && !second.is_held());
    assert_eq!(second.permit(false, INTERVAL.0).await, Err(NoPermit::Another));
    first.permit(true, INTERVAL.0).await.unwrap();
    // The first one dies: its right ends.
    until("the right has ended", async || second.hold().await.unwrap()).await;
    assert!(!first.is_held());
    assert_eq!(first.permit(true, INTERVAL.0).await, Err(NoPermit::Another));
    // What it spent is spent: of two moves one is left.
    second.permit(true, INTERVAL.0).await.unwrap();
    let waits =
        tokio::time::timeout(Duration::from_millis(400), second.permit(true, INTERVAL.0)).await;
    assert!(waits.is_err(), "{waits:?}");
    // Whoever has no more patience than that is told.
    let patience = Duration::from_millis(200);
    assert_eq!(second.permit(true, patience).await, Err(NoPermit::UsedUp));
    second.permit(false, INTERVAL.0).await.unwrap();
    second.release().await;
    assert!(first.hold().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_oracle_has_the_right_to_act_and_the_budget_is_for_all() {
    let server = RedisServer::start(Setup::default());
    one_acts(&server.url()).await;
    let cluster = RedisCluster::start(Setup::default()).await;
    one_acts(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_holder_that_thinks_it_still_is_one_is_refused() {
    let mut server = RedisServer::start(Setup::default());
    let lease =
        || Lease::shared(&server.url(), "f", Duration::from_secs(60), allowance(9)).unwrap();
    let (old, new) = (lease(), lease());
    assert!(old.hold().await.unwrap());
    // Somebody clears the right away, and another takes it.
    let client = redis::Client::open(server.url()).unwrap();
    redis::cmd("DEL")
        .arg("f:{oracle/}:holder")
        .exec(&mut client.get_connection().unwrap())
        .unwrap();
    assert!(new.hold().await.unwrap());
    assert!(old.is_held());
    assert_eq!(old.permit(true, INTERVAL.0).await, Err(NoPermit::Another));
    new.permit(true, INTERVAL.0).await.unwrap();
    server.kill9();
    assert!(matches!(new.permit(true, INTERVAL.0).await, Err(NoPermit::Unknown(_))));
}

fn status_of(tree: &Tree, here: &Node, functions: &[&str]) -> Status {
    let keys = Keys::from_dir(tree.dir()).unwrap();
    let name = NodeName::new("oracle").unwrap();
    let client = OperatorClient::new(keys, name, PATIENCE).unwrap();
    let names = functions.iter().map(|name| name.parse().unwrap()).collect();
    let topology = Topology::parse(tree.topology()).unwrap();
    let above = topology.ancestors(&here.name).into_iter().cloned().collect();
    let place = (here.clone(), above);
    let policy = Arc::new(PolicySettings::default());
    Status::new(client, place, Roster::Named(names), StatusSettings::default(), policy)
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_tell_how_they_are_and_which_sessions_they_have() {
    let mut tree = Tree::line(Store::Memory).start().await;
    let topology = Topology::parse(tree.topology()).unwrap();
    let navigli = topology.node(&NodeName::new("navigli").unwrap()).unwrap().clone();
    let mut client = Client::new(tree.gateway("navigli"), "one");
    client.send(Method::POST, "/slow?ms=30", "x").await.expect(200);
    let source = status_of(&tree, &navigli, &["probe", "of-somebody-else"]);
    let wants = Wants { here: true, away: true };
    source.want([("probe".parse().unwrap(), wants)].into());
    let samples = ask(&source, Duration::from_secs(5)).await.unwrap();
    assert!(value(&samples, "latency-p99").unwrap() >= 0.03, "{samples:?}");
    assert_eq!(value(&samples, "sessions"), Some(1.0));
    assert_eq!(value(&samples, "in-flight"), Some(0.0));
    let functions = source.functions(Duration::from_secs(5));
    let view = functions.values().next().unwrap();
    assert_eq!((view.here.len(), view.away.len(), view.above), (1, 0, true));
    // It moves, and is told as one that may come home.
    let session = serde_json::json!({"session": "one"});
    tree.operator().post("navigli", "force-offload", &session).await.expect(200);
    let source = status_of(&tree, &navigli, &["probe"]);
    source.want([("probe".parse().unwrap(), wants)].into());
    source.read().await.unwrap();
    let functions = source.functions(Duration::from_secs(5));
    let view = functions.values().next().unwrap();
    assert_eq!((view.here.len(), view.away.len()), (0, 1));
    assert_eq!(view.away[0].at.as_ref().unwrap().as_str(), "milan");
    assert!(view.away[0].arrived.is_some());
    // A node above that hangs has none for now; one's own that hangs says nothing.
    tree.site("milan").pause();
    let source = status_of(&tree, &navigli, &["probe"]);
    source.want([("probe".parse().unwrap(), wants)].into());
    source.read().await.unwrap();
    assert!(source.functions(Duration::from_secs(5)).values().all(|view| view.away.is_empty()));
    tree.site("milan").resume();
    tree.site("navigli").pause();
    let said = ask(&source, Duration::from_secs(5)).await;
    assert!(matches!(said, Err(SourceError::Unreachable(_))), "{said:?}");
    tree.site("navigli").resume();
    tree.site("navigli").kill9();
    let said = source.read().await;
    assert!(matches!(said, Err(SourceError::Unreachable(_))), "{said:?}");
    // Somebody else at its place.
    let port = parrot(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let elsewhere = Node { gateway: format!("http://127.0.0.1:{port}"), ..navigli };
    let said = status_of(&tree, &elsewhere, &["probe"]).read().await;
    assert!(matches!(said, Err(SourceError::Nonsense(_))), "{said:?}");
}
