//! Messages between nodes, pages, tokens and signatures.

use bytes::Bytes;
use funicular::http::signature::{Call, Caller, Keys, NonceCache, PeerKeys, Role, Secret};
use funicular::peers::WireVersion;
use funicular::peers::messages::{
    Elsewhere, Message, MigrateCall, MoveAnswer, MoveReport, OnloadAnswer, OnloadCall, OpenAnswer,
    Phase, PropagateCall, UpdateCall, Whereabouts,
};
use funicular::session::packet::{Copied, Totals, WindowItem};
use funicular::session::{
    Digest, FunctionName, Incarnation, LeaseId, Life, NodeName, Nonce, OutboxEntry, Page, Pull,
    RequestId, SessionId, SessionToken, StoredResponse, Transfer, WindowEntry,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Golden, assert_golden, golden, hex, unhex};

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn session() -> SessionId {
    SessionId::new("ada-{1}").unwrap()
}

fn function() -> FunctionName {
    FunctionName::new("cart").unwrap()
}

fn life() -> Life {
    Life { home: node("navigli"), incarnation: Incarnation(0x0123_4567_89ab_cdef) }
}

fn pull() -> Pull {
    Pull { life: life(), next_epoch: 8, from: node("navigli"), nonce: Nonce(0xfeed) }
}

fn token() -> SessionToken {
    SessionToken {
        session: session(),
        proprietary_location: node("navigli"),
        current_location: node("milan"),
        function: function(),
        epoch: 8,
        incarnation: Some(life().incarnation),
        v: 1,
    }
}

fn migrate(phase: Phase) -> MigrateCall {
    MigrateCall::of_pull(session(), &pull(), node("milan"), phase)
}

/// Every call of a move.
fn migrates() -> Vec<(&'static str, MigrateCall)> {
    let transfer = Transfer { to: node("milan"), next_epoch: 8, nonce: Nonce(0xfeed) };
    vec![
        ("open", migrate(Phase::Open)),
        ("copy", migrate(Phase::Copy)),
        ("copy, on", MigrateCall { cursor: Some("c::3:9:0".to_owned()), ..migrate(Phase::Copy) }),
        (
            "freeze, since",
            MigrateCall { since: Some("w::7:9:0".to_owned()), ..migrate(Phase::Freeze) },
        ),
        (
            "freeze, on",
            MigrateCall { cursor: Some("d:4:0:0:17".to_owned()), ..migrate(Phase::Freeze) },
        ),
        ("done", migrate(Phase::Done)),
        ("ask", MigrateCall::of_transfer(session(), &life(), &transfer)),
        ("closed", migrate(Phase::Closed)),
        ("agreed", migrate(Phase::Agreed)),
    ]
}

fn move_answer() -> MoveAnswer {
    MoveAnswer { session: session(), epoch: 8, node: node("milan"), installed: true, agreed: false }
}

fn report() -> MoveReport {
    MoveReport {
        token: token(),
        accepted_by: node("milan"),
        bytes: 4096,
        took_ms: 2.5,
        downtime_ms: 0.5,
        rounds: 2,
    }
}

/// Messages as a version writes them, each of which is read as it was kept.
struct Messages {
    version: WireVersion,
    written: Golden,
}

impl Messages {
    fn calls<T: Message + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        message: &T,
        plain: impl Fn(T) -> T,
    ) {
        let written = message.write(self.version).unwrap();
        let read = plain(serde_json::from_slice(&written).unwrap());
        assert_eq!(&read, message, "{name}");
        self.written.insert(name.to_owned(), serde_json::from_slice(&written).unwrap());
    }

    fn call<T: Message + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        message: &T,
    ) {
        self.calls(name, message, |read| read);
    }

    /// Answers are the same in both.
    fn answer<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        message: &T,
    ) {
        let written = serde_json::to_value(message).unwrap();
        assert_eq!(&serde_json::from_value::<T>(written.clone()).unwrap(), message, "{name}");
        self.written.insert(format!("answer to {name}"), written);
    }
}

/// What is written is what was kept, and so what is read is what was kept, too.
#[test]
fn messages_are_those_of_their_version() {
    for version in [WireVersion::V1, WireVersion::V2] {
        let mut all = Messages { version, written: Golden::new() };
        for (name, call) in migrates() {
            // Only version 1 says it there.
            all.calls(name, &call, |read| MigrateCall { v: None, ..read });
        }
        all.call("offload-session", &token());
        let onload = OnloadCall {
            location: node("navigli"),
            max_sessions: 3,
            max_bytes: u64::MAX,
            session: Some(session()),
        };
        all.call("onload-session", &onload);
        for (name, expired) in [("moved", false), ("expired", true)] {
            let name = format!("update-session, {name}");
            all.call(&name, &UpdateCall { token: token(), expired });
        }
        let value = PropagateCall {
            id: "0123-0".to_owned(),
            function: function(),
            session: session(),
            from: node("navigli"),
            value: "AP8=".to_owned(),
        };
        all.call("receive-propagate", &value);

        let opened = OpenAnswer { bytes: 4096, fields: 3, schema: 1, window: 2, copies: true };
        all.answer("open", &opened);
        all.answer("done, ask, closed", &move_answer());
        all.answer("agreed", &MoveAnswer { agreed: true, installed: false, ..move_answer() });
        all.answer("offload-session", &report());
        all.answer("onload-session", &OnloadAnswer { tokens: vec![token()] });
        all.answer("receive-propagate, elsewhere", &Elsewhere { location: node("milan") });
        let whereabouts = Whereabouts {
            offloaded: true,
            location: node("milan"),
            state: "moved".to_owned(),
            token: token(),
            pointer_age: Some(17),
            keys: None,
            bytes: None,
        };
        all.answer("test-function", &whereabouts);
        assert_golden(version.number(), "messages.json", &all.written);
    }
}

fn entry(id: &str) -> WindowItem {
    let response = StoredResponse {
        status: 201,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: Some(Bytes::from_static(b"\0\xffmade")),
    };
    let entry = WindowEntry { digest: Digest([7; 32]), lease: LeaseId(9), at: 0, response };
    WindowItem { id: RequestId::new(id).unwrap(), age: 1234, entry }
}

fn pages() -> Vec<(&'static str, Page)> {
    let message = OutboxEntry {
        id: "00ff-0".into(),
        function: function(),
        to: node("italy"),
        from: node("navigli"),
        value: Bytes::from_static(b"a\nb\0"),
    };
    let totals = Totals { fields: 2, bytes: 90, version: 5, window: 1, outbox: 1, idle: 77 };
    vec![
        (
            "of a copy",
            Page {
                first: true,
                fields: vec![("sname".into(), "Ada".into()), ("nlist".into(), "0".into())],
                removed: vec!["sgone".into()],
                window: vec![entry("r-1")],
                next: Some("c::1:1:0".into()),
                copied: Some(Copied { walked: true, at: 2, changes: 3 }),
                ..Page::default()
            },
        ),
        (
            "the last",
            Page {
                fields: vec![("slog".into(), "line\n".repeat(8000).into())],
                window: vec![entry("r-1"), entry("r-2")],
                outbox: vec![message],
                oldest: Some(RequestId::new("r-1").unwrap()),
                totals: Some(totals),
                ..Page::default()
            },
        ),
    ]
}

#[test]
fn g2_pages_are_those_of_the_release_before() {
    let mut written = Golden::new();
    for (name, page) in pages() {
        // A plain one of forty kilobytes says no more than its checksum does.
        if name == "of a copy" {
            written.insert(name.to_owned(), hex(&page.encode()));
        }
        written.insert(format!("{name}, compressed"), hex(&page.encode_small()));
    }
    assert_golden(1, "pages.json", &written);
    let golden = golden(1, "pages.json");
    for (name, page) in pages() {
        assert_eq!(Page::decode(&unhex(&golden[&format!("{name}, compressed")])).unwrap(), page);
        if let Some(plain) = golden.get(name) {
            assert_eq!(Page::decode(&unhex(plain)).unwrap(), page);
        }
    }
}

#[test]
fn g8_tokens_are_those_of_the_release_before() {
    let written = [("token".to_owned(), Value::from(token().encode()))].into();
    assert_golden(1, "tokens.json", &written);
    let golden = golden(1, "tokens.json");
    assert_eq!(SessionToken::decode(golden["token"].as_str().unwrap()).unwrap(), token());
}

fn keys() -> Keys {
    let secret = |text: &str| Secret::new(text.as_bytes()).unwrap();
    Keys {
        peer: Some(PeerKeys {
            current: secret("the peers' key of golden messages"),
            previous: Vec::new(),
        }),
        operator: Some(secret("the operators' key of golden messages")),
    }
}

#[test]
fn g8_signatures_are_those_of_their_version() {
    const TIME: u64 = 1_700_000_000_000;
    let keys = keys().for_function(&function());
    let milan = node("milan");
    for version in [WireVersion::V1, WireVersion::V2] {
        let mut written = Golden::new();
        let invoked = Call { session: "ada-{1}", request_id: "r-1", ..Call::to(&milan) };
        for (role, name, call) in [
            (
                Role::Peer,
                "navigli",
                Call {
                    method: "POST",
                    path: "/_/migrate-session",
                    body: b"{}",
                    ..Call::to(&milan)
                },
            ),
            (
                Role::Peer,
                "navigli",
                Call {
                    method: "GET",
                    path: "/_/test-function",
                    query: "session=a%20b",
                    ..Call::to(&milan)
                },
            ),
            (
                Role::Peer,
                "navigli",
                Call {
                    method: "PUT",
                    path: "/items/1",
                    query: "x=1&y",
                    body: b"\0\xff",
                    ..invoked
                },
            ),
            (
                Role::Operator,
                "cli",
                Call {
                    method: "POST",
                    path: "/_/force-offload",
                    body: b"{\"session\":\"s\"}",
                    ..Call::to(&milan)
                },
            ),
        ] {
            let caller = Caller { role, name: node(name) };
            let signed = keys.sign_in(version, &caller, &call, TIME, Nonce(0xfeed)).unwrap();
            let seen = NonceCache::default();
            let checked = keys.verify(Some(signed.header()), &call, TIME + 9, &seen).unwrap();
            let body = b"{\"ok\":true}";
            let answer = checked.sign_answer(&milan, 200, body);
            signed.check_answer(Some(&answer), 200, body).unwrap();
            let mut exchange = json!({"call": signed.header(), "answer": answer});
            if version > WireVersion::V1 {
                let redirect = checked.sign_response(&milan, 307, "http://italy:8080/x", b"");
                exchange["redirect"] = redirect.into();
            }
            written.insert(format!("{} {}", call.method, call.path), exchange);
        }
        assert_golden(version.number(), "signatures.json", &written);
    }
}
