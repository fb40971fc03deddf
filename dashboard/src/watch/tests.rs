//! Answers in, views and events out.

use std::collections::BTreeSet;
use std::sync::Arc;

use funicular::peers::messages::{DrainState, NodeStatus, OffloadStatus};
use funicular::session::{FunctionName, NodeName, SessionId};
use funicular::topology::Topology;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::answers::{FunctionAnswer, NodeAnswer, OracleSaid};
use super::assemble::Memory;
use super::view::{Cause, Load, Reach, Takes, View, What};
use super::{LEAST, Pace, Shared};

const TREE: &str = "
levels: [country, city, district]
root:
  name: italy
  gateway: http://italy.test
  children:
    - name: milan
      gateway: http://milan.test
      children:
        - name: navigli
          gateway: http://navigli.test
";

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn cart() -> FunctionName {
    "cart".parse().unwrap()
}

fn hash(session: &str) -> String {
    SessionId::new(session).unwrap().log_hash()
}

fn memory() -> Memory {
    let topology = Arc::new(Topology::parse(TREE).unwrap());
    let watched: BTreeSet<_> = topology.nodes().map(|node| node.name.clone()).collect();
    Memory::new(topology, watched)
}

/// A status as a node writes it, with changes.
fn status(node: &str, changes: Value) -> NodeStatus {
    let mut status = json!({
        "node": node, "function": "cart", "replica": "r1", "version": "0.1.0", "wire_version": 2,
        "sessions": 0, "pending": 0, "in_flight": 0, "moves": 0, "leaving": 0, "waiting": 0,
        "status": "accept", "promise": "memory", "barred": [], "store": "ok",
        "activity": {"window_ms": 5000, "requests": 0}, "moved": [],
    });
    let (all, Value::Object(changes)) = (status.as_object_mut().unwrap(), changes) else {
        panic!("changes are an object")
    };
    all.extend(changes);
    serde_json::from_value(status).unwrap()
}

fn session(id: &str, bytes: u64) -> Value {
    json!({"session": id, "home": "navigli", "bytes": bytes, "idle_ms": 5, "requests": 10})
}

fn came(number: u64, id: &str, from: &str, ago_ms: u64) -> Value {
    json!({
        "number": number, "session": id, "home": "navigli", "from": from, "epoch": number + 2,
        "bytes": 100, "took_ms": 1.5, "downtime_ms": 0.5, "ago_ms": ago_ms,
    })
}

/// The node answers, its function `cart` with a status.
fn says(node: &str, at_ms: u64, changes: Value) -> NodeAnswer {
    let status = Ok(Box::new(status(node, changes)));
    let cart = FunctionAnswer { function: cart(), sessions: 64, status };
    NodeAnswer { node: name(node), asked_ms: at_ms, at_ms, functions: Ok(vec![cart]), oracle: None }
}

fn with_oracle(answer: NodeAnswer, said: Value) -> NodeAnswer {
    let said: OracleSaid = serde_json::from_value(said).unwrap();
    NodeAnswer { oracle: Some(Ok(said)), ..answer }
}

fn oracle(decisions: &Value) -> Value {
    json!({
        "node": "navigli", "mode": "acting",
        "sources": [{"source": "redis", "error": "it hangs"}, {"source": "status"}],
        "signals": [{"signal": "memory", "value": 0.25, "last": 0.3, "age_ms": 1}],
        "functions": [
            {"function": "cart", "phase": "holding", "since": 0, "why": "w", "would_change": ["c"]},
            {"function": "cdn", "phase": "calm", "since": 0, "why": "w", "would_change": []},
        ],
        "decisions": decisions,
    })
}

fn decision(id: u64, time_ms: u64, session: &str, outcome: &str) -> Value {
    json!({
        "id": id, "time_ms": time_ms, "outcome": outcome, "detail": "",
        "decision": {
            "at": 0, "function": "cart", "rule": "cpu", "why": "cpu is 0.9",
            "action": {"do": "offload", "session": hash(session), "bytes": 100},
            "readings": [], "alternatives": [],
        },
    })
}

fn sessions_at(view: &View, node: &str) -> Vec<String> {
    let listed = &view.node(&name(node)).unwrap().functions[0].listed;
    listed.as_ref().unwrap().iter().map(|session| session.id.to_string()).collect()
}

#[test]
fn before_anybody_answered_there_is_the_tree_and_nothing_is_known() {
    let view = memory().view(1);
    let nodes: Vec<_> = view.nodes.iter().map(|node| (node.name.as_str(), node.depth)).collect();
    assert_eq!(nodes, [("italy", 0), ("milan", 1), ("navigli", 2)]);
    let milan = view.node(&name("milan")).unwrap();
    assert_eq!(
        (&milan.reach, milan.load, milan.takes),
        (&Reach::NotAsked, Load::default(), Takes::Unknown)
    );
    assert_eq!(milan.parent, Some(name("italy")));
}

#[test]
fn what_functions_say_is_added_up() {
    let mut memory = memory();
    let mut answer = says(
        "navigli",
        1,
        json!({
            "sessions": 2, "in_flight": 3, "status": "reject",
            "listed": [session("a", 100), session("b", 20)],
            "activity": {"window_ms": 5000, "requests": 50, "latency_p50_us": 10, "latency_p99_us": 90},
        }),
    );
    let mut cdn = status(
        "navigli",
        json!({"function": "cdn", "sessions": 1, "in_flight": 4, "listed": [session("c", 3)]}),
    );
    cdn.function = "cdn".parse().unwrap();
    let cdn =
        FunctionAnswer { function: cdn.function.clone(), sessions: 64, status: Ok(Box::new(cdn)) };
    if let Ok(functions) = &mut answer.functions {
        functions.push(cdn);
    }
    memory.take(answer);
    let view = memory.view(1);
    let navigli = view.node(&name("navigli")).unwrap();
    let Load { in_flight, requests_per_s, latency_p99_us, sessions, bytes, memory: share, .. } =
        navigli.load;
    assert_eq!((in_flight, sessions, bytes), (Some(7), Some(3), Some(123)));
    assert_eq!((requests_per_s, latency_p99_us, share), (Some(10.0), Some(90), None));
    assert_eq!(navigli.takes, Takes::Mixed);
    let listed = navigli.functions[0].listed.as_ref().unwrap();
    assert_eq!((listed[0].hash.clone(), listed[0].rate), (hash("a"), Some(2.0)));
    assert!(navigli.functions[0].listed_all);
}

#[test]
fn what_is_unknown_is_not_zero() {
    let mut memory = memory();
    // More sessions than are listed; a store that does not answer; a node of an older release.
    memory.take(says("navigli", 1, json!({"sessions": 200, "listed": [session("a", 100)]})));
    memory.take(says("milan", 1, json!({"store": "it does not answer"})));
    memory.take(says("italy", 1, json!({"activity": null, "moved": null})));
    let view = memory.view(1);
    let load = |node: &str| view.node(&name(node)).unwrap().load;
    assert_eq!((load("navigli").sessions, load("navigli").bytes), (Some(200), None));
    assert_eq!((load("milan").sessions, load("milan").bytes), (None, None));
    assert_eq!((load("italy").requests_per_s, load("italy").sessions), (None, Some(0)));
}

#[test]
fn while_a_store_does_not_answer_its_sessions_are_unknown_and_its_node_answers() {
    let mut memory = memory();
    memory.take(says("milan", 1, json!({"sessions": 1, "listed": [session("a", 100)]})));
    memory.take(says("milan", 2, json!({"store": "the store does not answer", "listed": []})));
    let view = memory.view(2);
    let milan = view.node(&name("milan")).unwrap();
    assert_eq!((&milan.reach, &milan.functions[0].listed), (&Reach::Answers, &None));
    assert!(view.events.is_empty());
    memory.take(says("milan", 3, json!({"sessions": 1, "listed": [session("a", 100)]})));
    assert_eq!(sessions_at(&memory.view(3), "milan"), ["a"]);
}

#[test]
fn while_a_store_does_not_answer_nothing_that_it_holds_is_told() {
    let mut memory = memory();
    let mut say = |store: &str, state: &str| {
        let drain = json!({"state": state, "moved": 3, "left": 0, "failing": 0});
        memory.take(says("milan", 1, json!({"store": store, "drain": drain})));
        let milan = memory.view(1).node(&name("milan")).unwrap().clone();
        let function = milan.functions[0].clone();
        let drain = function.drain.unwrap();
        ((function.status, milan.takes, function.pending), (drain.state, drain.moved, drain.left))
    };
    let unknown = (None, Takes::Unknown, None);
    let away = "the store does not answer";
    // Whether it is empty is in doubt; that it goes on is not.
    assert_eq!(say(away, "empty"), (unknown, (None, 3, None)));
    assert_eq!(say(away, "moving"), (unknown, (Some(DrainState::Moving), 3, None)));
    let known = (Some(OffloadStatus::Accept), Takes::Accept, Some(0));
    assert_eq!(say("ok", "empty"), (known, (Some(DrainState::Empty), 3, Some(0))));
}

#[test]
fn what_a_node_takes_is_unknown_while_that_of_one_function_is() {
    let mut memory = memory();
    let mut takes = |cdn: Value| {
        let mut answer = says("milan", 1, json!({}));
        let status = Ok(Box::new(status("milan", cdn)));
        let cdn = FunctionAnswer { function: "cdn".parse().unwrap(), sessions: 64, status };
        answer.functions.as_mut().unwrap().push(cdn);
        memory.take(answer);
        memory.view(1).node(&name("milan")).unwrap().takes
    };
    assert_eq!(takes(json!({})), Takes::Accept);
    assert_eq!(takes(json!({"store": "it does not answer"})), Takes::Unknown);
    assert_eq!(takes(json!({"status": "reject"})), Takes::Mixed);
}

#[test]
fn a_node_that_falls_silent_is_unknown_since_then_and_that_is_news() {
    let mut memory = memory();
    memory.take(says("milan", 10, json!({"sessions": 1, "listed": [session("a", 1)]})));
    let silent = |at_ms| NodeAnswer {
        node: name("milan"),
        asked_ms: at_ms,
        at_ms,
        functions: Err("connection refused".to_owned()),
        oracle: Some(Err("nobody".to_owned())),
    };
    memory.take(silent(20));
    memory.take(silent(30));
    let view = memory.view(30);
    let milan = view.node(&name("milan")).unwrap();
    let since = Reach::Silent { since_ms: 20, why: "connection refused".to_owned() };
    assert_eq!((&milan.reach, milan.load, milan.takes), (&since, Load::default(), Takes::Unknown));
    assert_eq!((&milan.functions[0].reach, &milan.functions[0].listed), (&since, &None));
    assert_eq!((milan.asked_ms, milan.oracle.mode.clone()), (Some(30), None));
    memory.take(says("milan", 40, json!({})));
    let view = memory.view(40);
    assert!(view.node(&name("milan")).unwrap().reach.answers());
    let news: Vec<_> =
        view.events.iter().map(|event| (event.number, event.what.to_string())).collect();
    let told = [
        (2, "milan answers again".to_owned()),
        (1, "milan does not answer: connection refused".to_owned()),
    ];
    assert_eq!(news, told);
}

#[test]
fn a_move_is_seen_once_and_takes_its_session_along() {
    let mut memory = memory();
    memory.take(says(
        "navigli",
        1000,
        json!({"sessions": 2, "listed": [session("a", 1), session("b", 1)]}),
    ));
    memory.take(says("milan", 1000, json!({})));
    // The listing of the node it left is older than the move.
    let moved = json!({"sessions": 1, "moved": [came(0, "a", "navigli", 100)]});
    let answer = says("milan", 2000, moved);
    let quick = |mut answer: NodeAnswer| {
        for function in answer.functions.iter_mut().flatten() {
            function.sessions = 0;
        }
        answer
    };
    memory.take(quick(answer.clone()));
    memory.take(quick(answer));
    let view = memory.view(2000);
    assert_eq!(
        (sessions_at(&view, "navigli"), sessions_at(&view, "milan")),
        (vec!["b".into()], vec!["a".into()])
    );
    assert_eq!(view.moves.len(), 1);
    let moved = &view.moves[0];
    assert_eq!((moved.at_ms, moved.up, moved.hash.clone()), (1900, true, hash("a")));
    assert_eq!(view.events.len(), 1);
    assert!(
        matches!(&view.events[0].what, What::Moved { from, to, .. } if *from == name("navigli") && *to == name("milan"))
    );
    assert_eq!(view.id_of(&cart(), &hash("a")).unwrap().as_str(), "a");
    // A listing that is newer than the move has the last word.
    memory.take(says("navigli", 3000, json!({"sessions": 1, "listed": [session("b", 1)]})));
    assert_eq!(sessions_at(&memory.view(3000), "navigli"), ["b"]);
}

#[test]
fn what_was_before_we_looked_is_history_and_no_news() {
    let mut memory = memory();
    memory.take(says(
        "milan",
        9000,
        json!({"moved": [came(7, "a", "navigli", 10), came(6, "b", "italy", 5000)]}),
    ));
    let view = memory.view(9000);
    assert_eq!((view.moves.len(), view.events.len(), view.moves_missed), (2, 0, 0));
    assert_eq!((view.moves[0].hash.clone(), view.moves[1].up), (hash("a"), false));
}

#[test]
fn nor_is_what_was_before_a_node_or_a_replica_first_answered() {
    let mut memory = memory();
    let mut silent = says("milan", 1000, json!({}));
    for function in silent.functions.iter_mut().flatten() {
        function.status = Err("connection refused".to_owned());
    }
    memory.take(silent);
    memory.take(says("milan", 9000, json!({"moved": [came(7, "a", "navigli", 10)]})));
    // Another replica, whose last move was before, and one that came since.
    let moved = json!([came(1, "c", "navigli", 100), came(0, "b", "navigli", 5000)]);
    memory.take(says("milan", 9200, json!({"replica": "r2", "moved": moved})));
    let view = memory.view(9200);
    let news: Vec<_> = view.events.iter().map(|event| &event.what).collect();
    assert!(
        matches!(news[..], [What::Moved { session, .. }, What::Back { .. }] if *session == hash("c")),
        "{news:?}"
    );
    assert_eq!(view.moves.len(), 3);
}

#[test]
fn a_replica_that_ended_is_forgotten_once_another_has_answered_for_long() {
    const HOUR: u64 = 3_600_000;
    let mut memory = memory();
    let say =
        |replica: &str, id: &str| json!({"replica": replica, "moved": [came(0, id, "navigli", 0)]});
    memory.take(says("milan", 1, say("r1", "a")));
    // Nobody answered in between.
    memory.take(says("milan", 2 * HOUR, say("r1", "a")));
    memory.take(says("milan", 2 * HOUR + 1, say("r2", "b")));
    assert_eq!((memory.view(0).moves.len(), memory.replicas()), (2, 2));
    memory.take(says("milan", 3 * HOUR, say("r2", "b")));
    assert_eq!((memory.view(0).moves.len(), memory.replicas()), (2, 1));
}

#[test]
fn moves_that_came_too_quickly_are_counted_as_missed_and_a_restart_is_none() {
    let mut memory = memory();
    memory.take(says("milan", 1, json!({"moved": [came(0, "a", "navigli", 0)]})));
    memory.take(says("milan", 2, json!({"moved": [came(5, "b", "navigli", 0)]})));
    assert_eq!(memory.view(2).moves_missed, 4);
    memory.take(says("milan", 3, json!({"replica": "r2", "moved": [came(0, "c", "navigli", 0)]})));
    let view = memory.view(3);
    assert_eq!((view.moves_missed, view.moves.len()), (4, 3));
}

#[test]
fn a_move_says_who_asked_for_it_once_that_is_known() {
    let mut memory = memory();
    memory.take(with_oracle(says("navigli", 1, json!({})), oracle(&json!([]))));
    memory.take(says("milan", 1, json!({})));
    memory.take(says("italy", 1, json!({})));
    let moves = json!({"moved": [came(1, "b", "navigli", 5), came(0, "a", "navigli", 10)]});
    memory.take(says("milan", 100, moves));
    let cause = |memory: &mut Memory, id: &str| {
        memory.view(0).moves_of(&cart(), &hash(id)).next().unwrap().cause.clone()
    };
    // Its oracle was asked before that.
    assert_eq!(cause(&mut memory, "a"), Cause::Unknown);
    memory.take(with_oracle(says("navigli", 150, json!({})), oracle(&json!([]))));
    assert_eq!(cause(&mut memory, "a"), Cause::Operator);
    // The oracle's word comes after the move.
    let told = oracle(&json!([decision(0, 80, "a", "waiting")]));
    memory.take(with_oracle(says("navigli", 200, json!({})), told));
    let by = Cause::Oracle { node: name("navigli"), rule: "cpu".into(), why: "cpu is 0.9".into() };
    assert_eq!((cause(&mut memory, "a"), cause(&mut memory, "b")), (by, Cause::Operator));
    // Of milan no oracle is known, and navigli is being drained.
    memory.take(says("italy", 300, json!({"moved": [came(0, "a", "milan", 5)]})));
    assert_eq!(cause(&mut memory, "a"), Cause::Unknown);
    let drain = json!({"drain": {"state": "moving", "moved": 1, "left": 0, "failing": 0}});
    memory.take(says("navigli", 400, drain));
    assert_eq!(cause(&mut memory, "b"), Cause::Drain);
}

#[test]
fn what_an_oracle_only_observed_or_dropped_explains_no_move() {
    for (outcome, is_the_oracles) in [("observed", false), ("dropped", false), ("failed", true)] {
        let mut memory = memory();
        let told = oracle(&json!([decision(0, 80, "a", outcome)]));
        memory.take(with_oracle(says("navigli", 100, json!({})), told));
        memory.take(says("milan", 100, json!({"moved": [came(0, "a", "navigli", 10)]})));
        let cause = memory.view(100).moves[0].cause.clone();
        assert_eq!(matches!(cause, Cause::Oracle { .. }), is_the_oracles, "{outcome}: {cause:?}");
    }
}

#[test]
fn a_move_is_no_operators_where_decisions_may_be_untold() {
    let decided = |from: u64, time_ms: u64| -> Vec<Value> {
        (from..from + 64).rev().map(|id| decision(id, time_ms + id, "x", "done")).collect()
    };
    let mut memory = memory();
    let mut say = |at: u64, decisions: Vec<Value>| {
        let said = oracle(&Value::Array(decisions));
        memory.take(with_oracle(says("navigli", at, json!({})), said));
        let moved = json!({"moved": [came(0, "a", "navigli", at - 100_500)]});
        memory.take(says("milan", at, moved));
        memory.view(at).moves[0].cause.clone()
    };
    // The move is at 100,500. All 64 are new: which were before them?
    assert_eq!(say(100_600, decided(0, 100_400)), Cause::Unknown);
    // They go on where they ended, which does not tell what was before.
    assert_eq!(say(100_700, decided(1, 100_400)), Cause::Unknown);
}

#[test]
fn a_move_is_an_operators_where_all_decisions_of_its_time_are_told() {
    let mut memory = memory();
    let decided = (0..64).rev().map(|id| decision(id, 1000 + id, "x", "done")).collect();
    let said = oracle(&Value::Array(decided));
    memory.take(with_oracle(says("navigli", 100_600, json!({})), said));
    memory.take(says("milan", 100_600, json!({"moved": [came(0, "a", "navigli", 100)]})));
    assert_eq!(memory.view(100_600).moves[0].cause, Cause::Operator);
}

#[test]
fn a_decision_is_news_once_and_its_outcome_is_kept_up_to_date() {
    let mut memory = memory();
    let say =
        |decisions: Value, at: u64| with_oracle(says("navigli", at, json!({})), oracle(&decisions));
    memory.take(say(json!([decision(0, 5, "a", "done")]), 10));
    assert!(memory.view(10).events.is_empty());
    memory.take(say(json!([decision(1, 15, "b", "waiting"), decision(0, 5, "a", "done")]), 20));
    memory.take(say(json!([decision(1, 15, "b", "done"), decision(0, 5, "a", "done")]), 30));
    // An oracle that was started anew counts from the beginning.
    memory.take(say(json!([decision(0, 35, "c", "failed")]), 40));
    let view = memory.view(40);
    let told: Vec<_> = view.decisions.iter().map(|it| (it.at_ms, it.outcome.as_str())).collect();
    assert_eq!(told, [(35, "failed"), (15, "done"), (5, "done")]);
    assert_eq!(view.events.len(), 2);
    let oracle = &view.node(&name("navigli")).unwrap().oracle;
    assert_eq!((oracle.phase(), oracle.silent.len()), (Some("holding"), 1));
    assert_eq!(view.node(&name("navigli")).unwrap().load.memory, Some(0.25));
}

#[test]
fn a_session_that_is_copied_is_on_its_way() {
    let mut memory = memory();
    memory.take(says("navigli", 1, json!({"sessions": 1, "listed": [session("a", 900)]})));
    let copy =
        json!({"session": hash("a"), "from": "navigli", "copied": 300, "bytes": 900, "round": 0});
    memory.take(says("milan", 1, json!({"copies": [copy]})));
    let view = memory.view(1);
    let (node, session) = view.session(&cart(), &hash("a")).unwrap();
    let moving = session.moving.as_ref().unwrap();
    assert_eq!((node.name.as_str(), moving.to.as_str(), moving.copied), ("navigli", "milan", 300));
}

#[test]
fn a_view_is_data_that_can_be_written_and_read() {
    let mut memory = memory();
    memory.take(with_oracle(
        says("navigli", 1, json!({"listed": [session("a", 1)]})),
        oracle(&json!([decision(0, 1, "a", "done")])),
    ));
    memory.take(says("milan", 2, json!({"moved": [came(0, "a", "navigli", 0)]})));
    let view = memory.view(2);
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<View>(&text).unwrap(), view);
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_a_node_be_asked_all_the_time() {
    let shared = Shared {
        views: watch::channel(Arc::new(View::default())).0,
        glanced: Mutex::new(None),
        wake: Notify::new(),
        pace: Pace::default(),
    };
    let began = Instant::now();
    for _ in 0..10 {
        let (woken, asked) = (shared.wake.notified(), Instant::now());
        shared.wake.notify_waiters();
        shared.rest(asked, woken).await;
    }
    assert_eq!(began.elapsed(), LEAST * 10);
    // One that took its time to answer is asked again at once.
    let (woken, asked) = (shared.wake.notified(), Instant::now());
    tokio::time::advance(LEAST * 2).await;
    shared.wake.notify_waiters();
    shared.rest(asked, woken).await;
    assert_eq!(asked.elapsed(), LEAST * 2);
    // And left alone while nobody looks.
    let asked = Instant::now();
    shared.rest(asked, shared.wake.notified()).await;
    assert_eq!(asked.elapsed(), Pace::default().idle_every);
}
