//! Two replicas of a function, one Redis: each remembers sessions that the other one
//! changes, and runs handlers on what it remembers. Nothing is lost, twice, or answered
//! from what is outdated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use funicular::http::signature::{Keys, PeerKeys, Secret};
use funicular::node::{Answer, Call, NodeConfig};
use funicular::prelude::*;
use funicular::serve::{Assembled, Assembly};
use funicular::session::{FunctionName, NodeName, RequestId, SessionId};
use funicular::store::WindowLimits;
use funicular::topology::Topology;
use funicular_tests::redis::{RedisServer, Setup};

/// How often handlers ran.
#[derive(Clone, Default)]
struct Log(Arc<AtomicUsize>);

impl Log {
    async fn append(&self, request: Request, db: &mut EdgeDb) -> Result<Response> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let at = db.list_len("log").await?;
        db.add_to_list("log", request.into_body())?;
        Ok(Response::text(at.to_string()))
    }

    async fn take(&self, _: Request, db: &mut EdgeDb) -> Result<Response> {
        if db.get("taken").await?.is_some() {
            return Err(Error::conflict("it is taken"));
        }
        db.set("taken", "yes")?;
        Ok(Response::text("taken"))
    }

    async fn give(&self, _: Request, db: &mut EdgeDb) -> Result<Response> {
        let taken = db.get("taken").await?.is_some();
        db.delete("taken")?;
        Ok(Response::text(taken.to_string()))
    }

    async fn all(&self, _: Request, db: &ReadDb) -> Result<Response> {
        let log = db.get_list("log").await?;
        let lines: Vec<_> = log.iter().map(|line| String::from_utf8_lossy(line)).collect();
        Response::json(&lines)
    }
}

async fn replica(server: &RedisServer, log: &Log) -> Assembled {
    let topology = "levels: [site]\nroot:\n  name: edge\n  gateway: http://edge.test\n";
    let secret = |text: &str| Secret::new(text.as_bytes()).expect("a secret");
    let peer = PeerKeys { current: secret(&"k".repeat(40)), previous: Vec::new() };
    let function = FunctionName::new("log").expect("a name");
    let assembly = Assembly {
        node: NodeConfig::new(NodeName::new("edge").expect("a name"), function),
        function: Function::routes(log.clone())
            .on("POST /log", Log::append)
            .on("POST /take", Log::take)
            .on("POST /give", Log::give)
            .on("GET /log", Log::all)
            .into(),
        store: funicular::config::StoreChoice::Redis { url: server.url(), prefix: "f".into() },
        store_timeout: Duration::from_secs(2),
        window: WindowLimits::default(),
        topology: Arc::new(Topology::parse(topology).expect("a tree")),
        keys: Keys { peer: Some(peer), operator: None },
    };
    assembly.start().await.expect("it starts")
}

/// One request, repeated while the session is busy.
async fn send(at: &Assembled, request: impl Into<Request>, id: Option<&str>) -> (u16, String) {
    let request = request.into();
    loop {
        let call = Call {
            session: SessionId::new("s").expect("an id"),
            request_id: id.map(|id| RequestId::new(id).expect("an id")),
            token: None,
            from_peer: false,
            timeout: None,
            request: request.clone(),
        };
        match at.service.node().invoke(call).await {
            Ok(Answer::Response { response, .. }) => {
                let text = String::from_utf8(response.body().to_vec()).expect("text");
                return (response.status_code().as_u16(), text);
            }
            Ok(Answer::Error { error, .. }) => {
                return (error.status_code().as_u16(), error.sentence().to_owned());
            }
            // Until the first look at the store is over.
            other => eprintln!("again after {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn post(path: &str) -> funicular::function::RequestBuilder {
    Request::post(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g2_two_replicas_that_remember_lose_nothing_of_each_other() {
    let server = RedisServer::start(Setup::durable("everysec"));
    let log = Log::default();
    let replicas = [Arc::new(replica(&server, &log).await), Arc::new(replica(&server, &log).await)];
    let writers = (0..6).map(|writer| {
        let at = Arc::clone(&replicas[writer % 2]);
        tokio::spawn(async move {
            let mut told = Vec::new();
            for turn in 0..50 {
                let line = format!("{writer}-{turn}");
                let id = (turn % 3 == 0).then_some(line.as_str());
                let (status, at) = send(&at, post("/log").text(line.clone()), id).await;
                assert_eq!(status, 200);
                told.push((at.parse::<usize>().expect("a position"), line));
            }
            told
        })
    });
    let mut told = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        told.extend(writer.await.expect("it ends"));
    }
    told.sort();
    let (_, all) = send(&replicas[0], Request::get("/log"), None).await;
    let all: Vec<String> = serde_json::from_str(&all).expect("a list");
    assert_eq!(all, told.into_iter().map(|(_, line)| line).collect::<Vec<_>>());
    // What was outdated ran again, and no handler's work counted twice.
    assert!(log.0.load(Ordering::SeqCst) >= 300);
    assert_eq!(all.len(), 300);
}

#[tokio::test]
async fn g1_a_refusal_is_not_answered_from_what_is_outdated() {
    let server = RedisServer::start(Setup::durable("everysec"));
    let log = Log::default();
    let (one, other) = (replica(&server, &log).await, replica(&server, &log).await);
    for _ in 0..5 {
        assert_eq!(send(&one, post("/take"), None).await.0, 200);
        // This replica remembers that it is taken, the next one too.
        assert_eq!(send(&one, post("/take"), None).await.0, 409);
        assert_eq!(send(&other, post("/take"), None).await.0, 409);
        assert_eq!(send(&other, post("/give"), None).await.0, 200);
        assert_eq!(send(&one, post("/take"), None).await.0, 200);
        assert_eq!(send(&other, post("/take"), None).await.0, 409);
        assert_eq!(send(&one, post("/give"), None).await.0, 200);
    }
}

#[tokio::test]
async fn g3_a_repeat_at_another_replica_takes_effect_once() {
    let server = RedisServer::start(Setup::durable("everysec"));
    let log = Log::default();
    let (one, other) = (replica(&server, &log).await, replica(&server, &log).await);
    for turn in 0..10 {
        let id = format!("r{turn}");
        for at in [&one, &other, &one] {
            let answer = send(at, post("/log").text(id.clone()), Some(&id)).await;
            assert_eq!(answer, (200, turn.to_string()));
        }
    }
    let (_, all) = send(&other, Request::get("/log"), None).await;
    assert_eq!(serde_json::from_str::<Vec<String>>(&all).expect("a list").len(), 10);
}

#[tokio::test]
async fn g2_a_restarted_redis_is_waited_for_whatever_is_remembered() {
    let mut server = RedisServer::start(Setup::durable("always"));
    let log = Log::default();
    let one = replica(&server, &log).await;
    for turn in 0..3 {
        let line = format!("{turn}");
        let answer = send(&one, post("/log").text(line.clone()), Some(&line)).await;
        assert_eq!(answer, (200, line));
        server.restart();
    }
    let (_, all) = send(&one, Request::get("/log"), None).await;
    assert_eq!(all, r#"["0","1","2"]"#);
}
