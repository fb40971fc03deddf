//! Signed calls to the nodes of a tree: right ones, and wrong ones on purpose.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use funicular::http::signature::{Call, Caller, Keys, Role, SIGNATURE_HEADER};
use funicular::peers::messages::{MoveReport, NodeStatus, OnloadReport, Whereabouts};
use funicular::session::{FunctionName, NodeName, Nonce, SessionData};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::reach::Reach;

/// An operator of a tree.
#[derive(Debug)]
pub struct Operator<'a> {
    tree: &'a dyn Reach,
    keys: Keys,
    http: reqwest::Client,
}

/// An answer: status, JSON body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body; null if it is no JSON.
    pub body: Value,
}

impl Answer {
    async fn of(answer: reqwest::Response) -> Self {
        Self { status: answer.status().as_u16(), body: answer.json().await.unwrap_or_default() }
    }

    /// The answer, which has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

/// A value for a query, escaped.
pub fn query_value(text: &str) -> String {
    let url = reqwest::Url::parse_with_params("http://x/", [("v", text)]).expect("a URL");
    url.query().and_then(|query| query.strip_prefix("v=")).unwrap_or_default().to_owned()
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500 million")
}

impl<'a> Operator<'a> {
    /// An operator with the keys of this tree.
    pub fn new(tree: &'a dyn Reach) -> Self {
        let keys = Keys::from_dir(&tree.secrets()).expect("the keys");
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self { tree, keys, http }
    }

    /// The signature of a call, as `role` and `from`, made at `time` (Unix ms).
    pub fn signature(
        &self,
        (role, from): (Role, &str),
        target: &str,
        (method, path, query): (&str, &str, &str),
        body: &[u8],
        time: u64,
    ) -> String {
        let function = FunctionName::new(self.tree.function()).expect("a name");
        let target = NodeName::new(target).expect("a name");
        let caller = Caller { role, name: NodeName::new(from).expect("a name") };
        let call = Call { method, path, query, body, ..Call::to(&target) };
        let nonce = Nonce(rand::random());
        let signed = self.keys.for_function(&function).sign(&caller, &call, time, nonce);
        signed.expect("a key").header().to_owned()
    }

    /// Posts `body` to an endpoint, signed as the operator.
    pub async fn post(&self, node: &str, endpoint: &str, body: &Value) -> Answer {
        self.post_as((Role::Operator, "test"), node, endpoint, body).await
    }

    /// Posts `body` to an endpoint, signed as somebody.
    pub async fn post_as(
        &self,
        caller: (Role, &str),
        node: &str,
        endpoint: &str,
        body: &Value,
    ) -> Answer {
        let path = format!("/_/{endpoint}");
        let body = body.to_string();
        let signature =
            self.signature(caller, node, ("POST", &path, ""), body.as_bytes(), unix_ms());
        self.send(node, endpoint, body, Some(&signature)).await
    }

    /// Posts `body` to an endpoint with any signature.
    pub async fn send(
        &self,
        node: &str,
        endpoint: &str,
        body: String,
        signature: Option<&str>,
    ) -> Answer {
        let url = format!("{}/_/{endpoint}", self.tree.gateway(node));
        let mut request = self.http.post(url).header("content-type", "application/json").body(body);
        if let Some(signature) = signature {
            request = request.header(SIGNATURE_HEADER, signature);
        }
        let answer = request.send().await.expect("an answer");
        Answer::of(answer).await
    }

    /// Calls an endpoint with everything in the query and no body, as the draft does.
    pub async fn by_query(
        &self,
        (node, method): (&str, Method),
        endpoint: &str,
        query: &str,
    ) -> Answer {
        let path = format!("/_/{endpoint}");
        let caller = (Role::Operator, "test");
        let signature =
            self.signature(caller, node, (method.as_str(), &path, query), b"", unix_ms());
        let url = format!("{}{path}?{query}", self.tree.gateway(node));
        let request = self.http.request(method, url).header(SIGNATURE_HEADER, signature);
        let answer = request.header("accept", "application/json").send().await;
        Answer::of(answer.expect("an answer")).await
    }

    /// The data of a session as a node shows it to people; `None` if it is not there.
    pub async fn dump(&self, node: &str, session: &str) -> Option<SessionData> {
        let query = format!("session={}", query_value(session));
        let answer = self.by_query((node, Method::POST), "migrate-session", &query).await;
        match answer.status {
            200 => Some(serde_json::from_value(answer.body).expect("session data")),
            404 => None,
            status => panic!("{node}: {status} {}", answer.body),
        }
    }

    /// Begins to post `body` to an endpoint, as the operator; the answer may never
    /// come, and nobody has to wait for it.
    pub fn begin(&self, node: &str, endpoint: &str, body: &Value) -> JoinHandle<Option<Answer>> {
        let path = format!("/_/{endpoint}");
        let body = body.to_string();
        let caller = (Role::Operator, "test");
        let signature =
            self.signature(caller, node, ("POST", &path, ""), body.as_bytes(), unix_ms());
        let request = self
            .http
            .post(format!("{}{path}", self.tree.gateway(node)))
            .header("content-type", "application/json")
            .header(SIGNATURE_HEADER, signature)
            .body(body);
        tokio::spawn(async move {
            let answer = request.send().await.ok()?;
            let status = answer.status().as_u16();
            Some(Answer { status, body: answer.json().await.unwrap_or_default() })
        })
    }

    /// Moves a session up and says how it went.
    pub async fn offload(&self, node: &str, session: &str) -> MoveReport {
        let answer = self.post(node, "force-offload", &json!({"session": session})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_value(answer.body).expect("a report")
    }

    /// Moves a session up that may be too large for one answer's patience; says who
    /// has it in the end. Fails after `at_most`.
    pub async fn offload_large(&self, node: &str, session: &str, at_most: Duration) -> String {
        let answer = self.post(node, "force-offload", &json!({"session": session})).await;
        if answer.status == 202 {
            return self.settled(session, at_most).await.to_owned();
        }
        answer.expect(200).body["accepted_by"].as_str().expect("who took it").to_owned()
    }

    /// Brings a session down to a node and says how it went.
    pub async fn onload(&self, node: &str, session: &str) -> MoveReport {
        let answer = self.post(node, "force-onload", &json!({"session": session})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut report: OnloadReport = serde_json::from_value(answer.body).expect("a report");
        assert_eq!(report.moved.len(), 1, "{report:?}");
        report.moved.remove(0)
    }

    /// Whether a node takes sessions from below: `accept` or `reject`.
    pub async fn set_status(&self, node: &str, status: &str) -> Answer {
        self.post(node, "set-offload-status", &json!({"status": status})).await
    }

    /// What a node knows of a session; `None` if nothing.
    pub async fn whereabouts(&self, node: &str, session: &str) -> Option<Whereabouts> {
        let answer = self.post(node, "test-function", &json!({"session": session})).await;
        match answer.status {
            200 => Some(serde_json::from_value(answer.body).expect("whereabouts")),
            404 => None,
            status => panic!("{node}: {status} {}", answer.body),
        }
    }

    /// A node's status.
    pub async fn status(&self, node: &str) -> NodeStatus {
        let answer = self.post(node, "status", &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_value(answer.body).expect("a status")
    }

    /// The nodes whose record of a session is in a state (`owned`, `migrating`, …).
    pub async fn nodes_where(&self, session: &str, state: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        for node in self.tree.names() {
            if let Some(known) = self.whereabouts(node, session).await
                && known.state == state
            {
                found.push(node);
            }
        }
        found
    }

    /// Waits until exactly one node owns the session, no node is in doubt about
    /// any, and says which. Fails after `at_most`.
    pub async fn settled(&self, session: &str, at_most: Duration) -> &'static str {
        let began = std::time::Instant::now();
        loop {
            let seen = self.survey(session).await;
            if let Some((owners, frozen, 0)) = &seen
                && let ([owner], []) = (owners.as_slice(), frozen.as_slice())
            {
                return owner;
            }
            assert!(
                began.elapsed() < at_most,
                "after {at_most:?}: owned by, frozen at, pending (none while a store recovers): \
                 {seen:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Who owns a session, where it is frozen, and how many sessions are in doubt;
    /// `None` while a node or its store does not answer.
    async fn survey(&self, session: &str) -> Option<(Vec<&'static str>, Vec<&'static str>, u64)> {
        let (mut owners, mut frozen, mut pending) = (Vec::new(), Vec::new(), 0);
        for node in self.tree.names() {
            let answer = self.post(node, "test-function", &json!({"session": session})).await;
            match answer.body["state"].as_str() {
                Some("owned") => owners.push(node),
                Some("migrating") => frozen.push(node),
                None if answer.status != 404 => return None,
                _ => {}
            }
            let status = self.status(node).await;
            if status.store != "ok" {
                return None;
            }
            pending += status.pending;
        }
        Some((owners, frozen, pending))
    }
}
