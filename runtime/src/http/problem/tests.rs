use std::collections::BTreeSet;
use std::path::PathBuf;

use http::Method;

use super::*;
use crate::http::signature::SignatureError;
use crate::peers::PeerError;
use crate::session::{InvalidId, NodeName};
use crate::store::StoreError;
use crate::topology::Topology;

fn here() -> NodeName {
    NodeName::new("milan").unwrap()
}

fn tree() -> Topology {
    Topology::parse(include_str!("../../../../topology/examples/italy.yaml")).unwrap()
}

/// One problem from every constructor.
fn every_problem() -> Vec<Problem> {
    let invalid = InvalidId { what: "X-session", why: "too long".into() };
    let second = Duration::from_secs(1);
    let mut problems = vec![
        Problem::reply_not_kept(StatusCode::CREATED),
        Problem::missing_session(),
        Problem::malformed_session(&invalid),
        Problem::malformed_request_id(&invalid),
        Problem::bad_token(&invalid),
        Problem::digest_mismatch(),
        Problem::bad_request("the body is not JSON; send an object"),
        Problem::unsupported_version(3, 2),
        Problem::barred(&here()),
        Problem::unknown_peer(&here()),
        Problem::wrong_role("operators"),
        Problem::no_such_session(&here()),
        Problem::no_such_route("/_/nothing"),
        Problem::no_such_function(&here()),
        Problem::method_not_allowed(&[Method::GET, Method::HEAD]),
        Problem::root_accepts(),
        Problem::root_stays(),
        Problem::restore_refused("the store is served; see `--status`"),
        Problem::draining(&here()),
        Problem::older_schema(2, 1),
        Problem::too_large(1024),
        Problem::session_too_large(2048, 1024),
        Problem::unknown_session(&here(), tree().entry_nodes()),
        Problem::request_id_reused(),
        Problem::not_taken("the value is no number; send one"),
        Problem::lease_lost(),
        Problem::too_many_requests(64),
        Problem::too_many_waiting(1024),
        Problem::too_many_new_sessions(second),
        Problem::too_many_moves(256),
        Problem::handler_failed(),
        Problem::busy(second),
        Problem::restoring(&here()),
        Problem::outcome_unknown(),
        Problem::move_failed("the copy broke off"),
        Problem::handler_timeout(second),
    ];
    problems.extend(refusals().iter().map(Problem::refused));
    problems.extend(
        [
            SignatureError::Unsigned,
            SignatureError::Bad,
            SignatureError::Stale { skew_ms: 90_000 },
            SignatureError::Replayed,
        ]
        .iter()
        .map(Problem::unauthorized),
    );
    let store = [
        StoreError::Unavailable("refused".into()),
        StoreError::Restarted,
        StoreError::Full,
        StoreError::Corrupt("a page".into()),
    ];
    problems.extend(store.iter().map(|error| Problem::store(error, &here())));
    problems.push(Problem::peer(&PeerError::Unreachable { node: here(), why: "timeout".into() }));
    problems
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::OtherLife,
        Refusal::StaleEpoch { epoch: 4 },
        Refusal::Superseded { epoch: 4 },
        Refusal::MoveOpen,
        Refusal::Unsettled,
        Refusal::NoSuchMove,
        Refusal::NoSuchCopy,
        Refusal::NotOwner { to: Some(here()) },
        Refusal::NotOwner { to: None },
        Refusal::InUse,
    ]
}

fn body(problem: &Problem) -> Value {
    serde_json::from_slice(&problem.body()).unwrap()
}

#[test]
fn every_code_has_a_constructor_and_says_what_to_do() {
    let problems = every_problem();
    let made: BTreeSet<Code> = problems.iter().filter_map(|problem| problem.code).collect();
    let all: BTreeSet<Code> = Code::ALL.iter().copied().collect();
    assert_eq!(made, all);
    for problem in problems {
        let code = problem.code.unwrap();
        assert_eq!(problem.status, code.status(), "{code:?}");
        // One sentence: what is wrong, and after that what to do.
        assert!(problem.detail.len() > 30, "{}", problem.detail);
        assert!(!problem.detail.ends_with('.'), "{}", problem.detail);
        assert!(!problem.detail.contains('\n') && !problem.detail.contains("  "));
    }
}

#[test]
fn codes_are_kebab_case_and_different() {
    let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
    for text in texts {
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{text}");
        assert_eq!(Code::parse(text).map(Code::as_str), Some(text));
    }
    assert_eq!(Code::parse("no-such-code"), None);
}

#[test]
fn a_problem_is_problem_json() {
    let problem = Problem::busy(Duration::from_secs(5));
    let response = problem.response();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(
        body(&problem),
        json!({
            "type": "https://funicular-edge.github.io/errors/busy",
            "title": "The session is busy",
            "status": 503,
            "code": "busy",
            "detail": "the session, or every place to run at its node, was busy for 5000 ms and \
                       nothing ran; repeat the request",
        })
    );
}

#[test]
fn headers_that_a_status_asks_for_are_there() {
    let header = |problem: Problem, name: &str| {
        problem.response().headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let allowed = Problem::method_not_allowed(&[Method::GET, Method::POST]);
    assert_eq!(header(allowed, "allow").as_deref(), Some("GET, POST"));
    let unsigned = Problem::unauthorized(&SignatureError::Unsigned);
    assert_eq!(header(unsigned, "www-authenticate").as_deref(), Some("Funicular-Signature"));
    let after = |ms| Problem::lease_lost().retry_after(Duration::from_millis(ms));
    assert_eq!(header(after(0), "retry-after").as_deref(), Some("1"));
    assert_eq!(header(after(1001), "retry-after").as_deref(), Some("2"));
    assert_eq!(header(Problem::missing_session(), "retry-after"), None);
    for problem in every_problem() {
        let again = matches!(problem.status.as_u16(), 423 | 429 | 503);
        assert!(!again || problem.retry_after.is_some(), "{problem:?}");
    }
}

#[test]
fn an_unknown_session_names_the_entry_nodes() {
    let problem = Problem::unknown_session(&here(), tree().entry_nodes());
    assert_eq!(
        body(&problem)["entry_nodes"][0],
        json!({ "name": "navigli", "gateway": "http://127.0.0.1:8083" })
    );
}

#[test]
fn members_of_ours_are_not_replaced() {
    let problem = Problem::plain(StatusCode::CONFLICT, "the cart is full").with("status", 200);
    let body = body(&problem.clone().with("items", 100));
    assert_eq!(body["status"], 409);
    assert_eq!(body["items"], 100);
    assert_eq!((&body["type"], &body["title"]), (&json!("about:blank"), &json!("Conflict")));
    assert!(body.get("code").is_none());
}

#[test]
fn a_received_problem_reads_back() {
    for problem in every_problem() {
        let received = Received::read(&problem.body()).unwrap();
        assert_eq!(received.known(), problem.code);
        assert_eq!(received.detail, problem.detail);
    }
    for refusal in refusals() {
        let received = Received::read(&Problem::refused(&refusal).body()).unwrap();
        assert_eq!(received.refusal(), Some(refusal));
    }
    assert_eq!(Received::read(&Problem::busy(Duration::ZERO).body()).unwrap().refusal(), None);
    assert_eq!(Received::read(b"Bad gateway"), None);
    assert_eq!(Received::read(b"{}"), None);
}

#[test]
fn another_nodes_refusal_is_passed_on() {
    let refused = |code: &str, refusal| {
        Problem::peer(&PeerError::Refused {
            node: here(),
            status: 507,
            code: code.into(),
            message: "no room left".into(),
            refusal,
            retry_after: None,
        })
    };
    let problem = refused("no-room", None);
    assert_eq!((problem.status.as_u16(), problem.code), (507, Some(Code::NoRoom)));
    assert_eq!(problem.detail, "`milan` says: no room left");
    assert_eq!(refused("of-tomorrow", None).code, None);
    assert_eq!(refused("in-use", Some(Refusal::InUse)).code, Some(Code::InUse));
}

#[test]
fn every_code_has_its_page_and_every_page_its_code() {
    let docs = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors"));
    let index = std::fs::read_to_string(docs.join("README.md")).unwrap();
    let pages: BTreeSet<String> = std::fs::read_dir(&docs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let codes: BTreeSet<String> =
        Code::ALL.iter().map(|code| format!("{}.md", code.as_str())).collect();
    assert_eq!(pages, codes);
    for code in Code::ALL {
        let name = code.as_str();
        let page = std::fs::read_to_string(docs.join(format!("{name}.md"))).unwrap();
        let heading = format!("# `{name}` ({})\n\n{}.\n", code.status().as_u16(), code.title());
        assert!(page.starts_with(&heading), "{name}.md does not start with\n{heading}");
        for part in ["\n## What happened\n", "\n## Is a repeat safe?\n", "\n## What to do\n"] {
            assert!(page.contains(part), "{name}.md lacks {part:?}");
        }
        let row =
            format!("| {} | [`{name}`]({name}.md) | {} |", code.status().as_u16(), code.title());
        assert!(index.contains(&row), "the index lacks the row\n{row}");
    }
    let rows = index.lines().filter(|line| line.contains("](")).count();
    assert_eq!(rows, Code::ALL.len(), "the index has a row a code");
}
