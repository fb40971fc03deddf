//! What is in Redis: a store that the release before has filled is read by this one, and
//! what this one writes is what the other would have written.

use bytes::Bytes;
use funicular::protocol::{Access, BeginAsk, Event, Reply};
use funicular::session::fields::CHUNK;
use funicular::session::{
    Change, Incarnation, LeaseId, Life, Nonce, OutboxEntry, Page, Pull, Record, SessionId, Transfer,
};
use funicular::store::{
    BeginRequest, Begun, Commit, Committed, SessionStore, Staged, WindowLimits,
};
use funicular_tests::bench::{Bench, Kind, append, connect, node, remember, session, set};
use funicular_tests::redis::RedisServer;
use redis::Value as Found;
use serde_json::{Value, json};

use super::{Golden, assert_golden, golden, hex, unhex};

/// Stands for a moment, which is as long.
const MOMENT: &[u8; 13] = b"{millisecond}";

/// What every session is made by: number, and its text.
fn incarnation(id: &SessionId) -> Incarnation {
    Incarnation(id.as_str().bytes().fold(1, |sum, byte| sum * 31 + u128::from(byte)))
}

async fn turn(bench: &Bench, id: &SessionId, lease: u128) -> Commit {
    let ask = BeginRequest {
        ask: BeginAsk {
            access: Access::Write,
            create: Some(incarnation(id)),
            lease: LeaseId(lease),
            lease_ttl: 1000,
            frozen_reads: false,
            unsettled_writes: None,
        },
        request: None,
        inline_max: 1024,
    };
    let Begun::Run(session) = bench.begin(id, &ask).await else { panic!("it should run") };
    Commit {
        lease: LeaseId(lease),
        life: session.life,
        epoch: session.epoch,
        data: Vec::new(),
        outbox: Vec::new(),
        remember: None,
        max_bytes: 1 << 30,
    }
}

async fn write(bench: &Bench, id: &SessionId, lease: u128, data: Vec<Change>) {
    let commit = Commit { data, ..turn(bench, id, lease).await };
    assert_eq!(bench.commit(id, &commit).await, Committed::Applied);
}

async fn step(bench: &Bench, id: &SessionId, event: &Event) {
    assert_eq!(bench.step(id, event).await, Ok(Reply::Changed), "{id:?} {event:?}");
}

fn transfer() -> Transfer {
    Transfer { to: node("milan"), next_epoch: 2, nonce: Nonce(0xfeed) }
}

/// The source's side of a move, up to its intent.
async fn agreed(bench: &Bench, id: &SessionId) {
    write(bench, id, 1, vec![set("k", "v"), append("list", "first")]).await;
    let life = Life { home: bench.node.clone(), incarnation: incarnation(id) };
    step(bench, id, &Event::Agree { life, transfer: transfer() }).await;
}

async fn freeze(bench: &Bench, id: &SessionId) {
    let wait_until = bench.now().await + 5000;
    step(bench, id, &Event::Freeze { nonce: transfer().nonce, wait_until }).await;
}

/// What some other store has of a session whose home is `navigli`.
async fn elsewhere(id: &SessionId) -> (Pull, Page) {
    let source = Bench::new(Kind::Memory, "navigli").await;
    let message = OutboxEntry {
        id: "00ff-0".into(),
        function: funicular::session::FunctionName::new("cart").unwrap(),
        to: node("italy"),
        from: node("navigli"),
        value: Bytes::from_static(b"a\nb\0"),
    };
    let commit = Commit {
        data: vec![set("name", "Ada"), append("items", "apple")],
        outbox: vec![message],
        remember: remember("r-1", "the answer"),
        ..turn(&source, id, 1).await
    };
    assert_eq!(source.commit(id, &commit).await, Committed::Applied);
    let life = Life { home: source.node.clone(), incarnation: incarnation(id) };
    let transfer = Transfer { to: node("edge"), ..transfer() };
    // Not from home, which has to be told.
    let pull =
        Pull { life: life.clone(), next_epoch: 2, from: node("milan"), nonce: Nonce(0xfeed) };
    step(&source, id, &Event::Agree { life, transfer }).await;
    freeze(&source, id).await;
    let page = source.store.export(id, pull.nonce, None).await.unwrap().unwrap();
    (pull, page)
}

async fn arrive(bench: &Bench, id: &SessionId) -> Pull {
    let (pull, page) = elsewhere(id).await;
    step(bench, id, &Event::OpenPull(pull.clone())).await;
    assert_eq!(bench.store.stage(id, pull.nonce, &page).await.unwrap(), Staged::Complete);
    step(bench, id, &Event::Install { pull: pull.clone() }).await;
    pull
}

/// Brings sessions into every state that there is.
async fn fill(bench: &Bench) {
    let owned = session("owned-{1}");
    let mut data = vec![set("name", "Ada"), set("photo", Bytes::from_static(&[0xff, 0]))];
    data.extend([append("items", "apple"), append("items", "pear")]);
    data.push(set("large", "x".repeat(CHUNK + 10)));
    write(bench, &owned, 1, data).await;
    let commit = turn(bench, &owned, 2).await;
    let message = OutboxEntry {
        id: "02-0".into(),
        function: funicular::session::FunctionName::new("cart").unwrap(),
        to: node("root"),
        from: node("edge"),
        value: Bytes::from_static(b"a\nb\0"),
    };
    let remember = remember("r-1", "the answer");
    let commit = Commit { outbox: vec![message], remember, ..commit };
    assert_eq!(bench.commit(&owned, &commit).await, Committed::Applied);

    turn(bench, &session("leased"), 3).await;

    let copied = session("copied");
    agreed(bench, &copied).await;
    bench.store.copy(&copied, transfer().nonce, None).await.unwrap().unwrap();
    write(bench, &copied, 4, vec![set("k", "w")]).await;

    let frozen = session("frozen");
    agreed(bench, &frozen).await;
    freeze(bench, &frozen).await;

    let moved = session("moved");
    agreed(bench, &moved).await;
    freeze(bench, &moved).await;
    let life = Life { home: bench.node.clone(), incarnation: incarnation(&moved) };
    step(bench, &moved, &Event::Done { life, epoch: 2, to: node("milan") }).await;

    arrive(bench, &session("arrived")).await;

    let expired = session("expired");
    arrive(bench, &expired).await;
    step(bench, &expired, &Event::Settled { epoch: 2 }).await;
    step(bench, &expired, &Event::Told { epoch: 2 }).await;
    for message in bench.store.outbox(&expired, 9).await.unwrap() {
        bench.store.delivered(&expired, &message.id).await.unwrap();
    }
    let unused_since = bench.now().await + 60_000;
    step(bench, &expired, &Event::Expire { unused_since }).await;

    let pulled = session("pulled");
    let (pull, page) = elsewhere(&pulled).await;
    step(bench, &pulled, &Event::OpenPull(pull.clone())).await;
    let first = Page { totals: None, oldest: None, next: Some("w:1:0:0:".into()), ..page };
    assert_eq!(bench.store.stage(&pulled, pull.nonce, &first).await.unwrap(), Staged::More);

    let lost = session("lost");
    arrive(bench, &lost).await;
    let to = node("navigli");
    step(bench, &lost, &Event::Superseded { epoch: 2, by_epoch: 3, to }).await;

    bench.store.set_setting("status", Some("reject")).await.unwrap();
    bench.store.set_setting("barred:milan", Some("lost")).await.unwrap();
}

/// A value as text, if it is one; moments are marked, and what repeats is said briefly.
fn show(bytes: &[u8]) -> Value {
    let mut shown = bytes.to_vec();
    let mut at = 0;
    while at + MOMENT.len() <= shown.len() {
        let run = shown[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if run == MOMENT.len() && shown[at] == b'1' {
            shown[at..at + run].copy_from_slice(MOMENT);
        }
        at += run.max(1);
    }
    if shown.len() > 1000 && shown.iter().all(|byte| *byte == shown[0]) {
        return json!({"times": shown.len(), "text": String::from_utf8_lossy(&shown[..1])});
    }
    match String::from_utf8(shown) {
        Ok(text) => text.into(),
        Err(error) => json!({"hex": hex(error.as_bytes())}),
    }
}

/// The value that [`show`] shows, with `now` for its moments.
fn value(shown: &Value, now: u64) -> Vec<u8> {
    let mut bytes = match shown {
        Value::String(text) => text.clone().into_bytes(),
        shown if shown["hex"].is_string() => unhex(&shown["hex"]),
        shown => {
            let times = usize::try_from(shown["times"].as_u64().unwrap()).unwrap();
            return shown["text"].as_str().unwrap().repeat(times).into_bytes();
        }
    };
    let now = now.to_string();
    assert_eq!(now.len(), MOMENT.len());
    while let Some(at) = bytes.windows(MOMENT.len()).position(|part| part == MOMENT) {
        bytes[at..at + MOMENT.len()].copy_from_slice(now.as_bytes());
    }
    bytes
}

fn texts(found: Found) -> Vec<Value> {
    let Found::Array(parts) = found else { panic!("a list: {found:?}") };
    parts.into_iter().map(|part| show(&redis::from_redis_value::<Vec<u8>>(part).unwrap())).collect()
}

/// Everything in a Redis.
fn dump(server: &RedisServer) -> Golden {
    let keys: Vec<Vec<u8>> = redis::from_redis_value(server.cli(&["KEYS", "*"])).unwrap();
    let mut all = Golden::new();
    for key in keys {
        let key = String::from_utf8(key).unwrap();
        let kind: String = redis::from_redis_value(server.cli(&["TYPE", &key])).unwrap();
        let read: &[&str] = match kind.as_str() {
            "string" => &["MGET", &key],
            "hash" => &["HGETALL", &key],
            "list" => &["LRANGE", &key, "0", "-1"],
            "zset" => &["ZRANGE", &key, "0", "-1", "WITHSCORES"],
            "set" => &["SMEMBERS", &key],
            other => panic!("{key}: {other}"),
        };
        let mut content = texts(server.cli(read));
        // Neither hashes nor sets have an order, and scores are moments.
        let item = match kind.as_str() {
            "hash" | "zset" => 2,
            "set" => 1,
            _ => content.len(),
        };
        let mut items: Vec<_> = content.chunks(item).map(<[Value]>::to_vec).collect();
        items.sort_by_key(|item| item[0].to_string());
        content = items.concat();
        if key.ends_with(":turn") {
            content = vec!["random".into()];
        }
        // A moment is in the name of what was set aside.
        let key = show(key.as_bytes()).as_str().unwrap().to_owned();
        all.insert(key, json!({ kind: content }));
    }
    all
}

/// Puts everything into a Redis.
fn restore(server: &RedisServer, all: &Golden, now: u64) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for (key, kept) in all {
        let (kind, content) = kept.as_object().unwrap().iter().next().unwrap();
        let mut content: Vec<_> =
            content.as_array().unwrap().iter().map(|shown| value(shown, now)).collect();
        let write = match kind.as_str() {
            "string" => "SET",
            "hash" => "HSET",
            "list" => "RPUSH",
            "set" => "SADD",
            _ => {
                content.chunks_mut(2).for_each(|pair| pair.swap(0, 1));
                "ZADD"
            }
        };
        let key = value(&key.as_str().into(), now);
        redis::cmd(write).arg(key).arg(content).query::<()>(&mut connection).unwrap();
    }
}

/// What this release writes is what the release before it wrote, so that that one reads it
/// after a roll-back.
#[tokio::test]
async fn g2_a_store_is_written_as_by_the_release_before() {
    let bench = Bench::new(Kind::Redis, "edge").await;
    fill(&bench).await;
    let server = bench.server.as_ref().unwrap();
    // The index lags for a moment.
    for _ in 0..200 {
        if super::path(1, "store.json").exists() && dump(server) == golden(1, "store.json") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_golden(1, "store.json", &dump(server));
}

/// What the release before it wrote is read by this one, and goes on.
#[tokio::test]
async fn g2_g7_a_store_of_the_release_before_goes_on() {
    let server = RedisServer::plain();
    let clock: Vec<String> = redis::from_redis_value(server.cli(&["TIME"])).unwrap();
    let now = clock[0].parse::<u64>().unwrap() * 1000;
    restore(&server, &golden(1, "store.json"), now);
    let store = connect(&server, &node("edge"), WindowLimits::default()).await;
    store.recover_restart().await.unwrap();
    let store = std::sync::Arc::new(store);
    let bench = Bench { node: node("edge"), store, server: Some(server), cluster: None };
    let record = async |id: &str| bench.snapshot(&session(id)).await.slot.record;

    let owned = session("owned-{1}");
    let data = bench.dump(&owned).await.unwrap();
    assert_eq!((data["sname"].as_ref(), data["sphoto"].as_ref()), (&b"Ada"[..], &[0xff, 0][..]));
    let large: usize =
        data.iter().filter(|(field, _)| field.starts_with('c')).map(|(_, it)| it.len()).sum();
    assert_eq!(large, CHUNK + 10);
    assert_eq!(bench.store.outbox(&owned, 9).await.unwrap()[0].value, b"a\nb\0"[..]);
    let known = bench.store.remembered(&owned, &funicular_tests::bench::request("r-1")).await;
    assert_eq!(known.unwrap().unwrap().response, funicular_tests::bench::response("the answer"));
    write(&bench, &owned, 9, vec![append("items", "fig")]).await;
    assert_eq!(bench.snapshot(&owned).await.version, 2);

    // A writer that is gone holds nobody up.
    write(&bench, &session("leased"), 9, vec![set("k", "v")]).await;

    // To this release its store looks restarted: whoever had agreed may have frozen.
    for frozen in ["copied", "frozen"] {
        assert!(matches!(record(frozen).await, Some(Record::Migrating { .. })), "{frozen}");
        let id = session(frozen);
        let page = bench.store.export(&id, transfer().nonce, None).await.unwrap().unwrap();
        assert_eq!(page.totals.unwrap().fields, 3);
        let no = Event::Answer { transfer: transfer(), installed: false };
        step(&bench, &id, &no).await;
        write(&bench, &id, 9, vec![set("k", "x")]).await;
    }
    assert!(matches!(record("moved").await, Some(Record::Moved { epoch: 2, .. })));
    assert!(matches!(record("expired").await, Some(Record::Expired { .. })));
    step(&bench, &session("expired"), &Event::ExpiryTold { epoch: 2 }).await;

    let arrived = session("arrived");
    step(&bench, &arrived, &Event::Settled { epoch: 2 }).await;
    write(&bench, &arrived, 9, vec![append("items", "fig")]).await;
    assert_eq!(bench.dump(&arrived).await.unwrap()["nitems"].as_ref(), b"2");

    // Its pull was closed with the restart, and may be opened anew.
    let pulled = session("pulled");
    assert_eq!(bench.snapshot(&pulled).await.slot.pull, None);
    arrive(&bench, &pulled).await;

    assert_eq!(bench.store.setting("status").await.unwrap().as_deref(), Some("reject"));
    assert_eq!(bench.store.setting("barred:milan").await.unwrap().as_deref(), Some("lost"));
}
