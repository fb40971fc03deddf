//! A view to show.

use serde_json::json;

use crate::watch::view::View;

/// What somebody might call a session to break a page.
pub(crate) const NASTY: &str = "<script>alert(1)</script>";

/// Three nodes: `navigli` with the session `ada` and [`NASTY`], which came from `milan` for an
/// oracle's reason; `milan` is silent, `italy` is not asked.
pub(crate) fn view() -> View {
    let hash = |id: &str| id.parse::<funicular::session::SessionId>().expect("an id").log_hash();
    let session = |id: &str| {
        json!({
            "id": id, "hash": hash(id), "home": "navigli", "bytes": 1200, "rate": 2.5,
            "idle_ms": 0, "arrived_ms": null, "moving": null,
        })
    };
    let load = json!({"in_flight": 1, "requests_per_s": 12.0, "sessions": 2});
    let unknown = json!({});
    let node = |name: &str, parent: Option<&str>, depth: usize| {
        json!({
            "name": name, "parent": parent, "level": "level", "depth": depth,
            "gateway": format!("http://{name}.test"), "entry": false, "watched": true,
            "reach": {"is": "not-asked"}, "asked_ms": null, "functions": [], "load": unknown,
            "oracle": {"reach": {"is": "not-asked"}, "mode": null, "functions": [],
                       "signals": [], "silent": []},
            "takes": "unknown",
        })
    };
    let mut milan = node("milan", Some("italy"), 1);
    milan["reach"] = json!({"is": "silent", "since_ms": 3_723_000, "why": "it is <gone>"});
    let mut navigli = node("navigli", Some("milan"), 2);
    navigli["reach"] = json!({"is": "answers"});
    navigli["load"] = load.clone();
    navigli["takes"] = json!("accept");
    navigli["functions"] = json!([{
        "name": "cart", "reach": {"is": "answers"}, "version": "0.1.0", "status": "accept",
        "load": load, "store": "ok", "drain": null, "restoring": false, "pending": 0,
        "copies": [], "listed": [session("ada"), session(NASTY)], "listed_all": true,
    }]);
    let view = json!({
        "number": 1, "at_ms": 3_724_000, "moves_missed": 0, "events": [],
        "nodes": [node("italy", None, 0), milan, navigli],
        "moves": [{
            "number": 0, "at_ms": 3_723_000, "function": "cart", "id": NASTY,
            "hash": hash(NASTY), "home": "navigli", "from": "milan", "to": "navigli", "up": false,
            "epoch": 3, "bytes": 1200, "took_ms": 1.5, "downtime_ms": 0.5,
            "cause": {"by": "oracle", "node": "navigli", "rule": "cpu", "why": "cpu <is> 0.1"},
        }],
        "decisions": [{
            "number": 0, "node": "navigli", "at_ms": 3_722_000, "function": "cart",
            "action": "onload", "session": hash(NASTY), "rule": "cpu", "why": "cpu <is> 0.1",
            "outcome": "done", "detail": "",
        }],
    });
    serde_json::from_value(view).expect("a view")
}
