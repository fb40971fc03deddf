//! For tests: decisions, and a node whose functions answer as those of Funicular do.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use funicular::http::signature::{Call, Keys, NonceCache, SIGNATURE_HEADER, Secret};
use funicular::peers::messages::NodeStatus;
use funicular::peers::operator::OperatorClient;
use funicular::session::NodeName;
use funicular::topology::{Node, Topology};
use parking_lot::Mutex;
use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::policy::decision::{Action, Decision};

pub(crate) fn decision(function: &str, action: Action) -> Decision {
    Decision {
        at: 0,
        function: function.parse().unwrap(),
        action,
        rule: "cpu".to_owned(),
        why: String::new(),
        readings: Vec::new(),
        alternatives: Vec::new(),
    }
}

pub(crate) fn offload(function: &str) -> Decision {
    decision(function, Action::Offload { session: "ada".parse().unwrap(), bytes: 100 })
}

pub(crate) fn onload(function: &str) -> Decision {
    decision(function, Action::Onload { session: "ada".parse().unwrap(), from: None, bytes: 100 })
}

/// A node `milan` with its gateway.
pub(crate) struct Site {
    pub(crate) server: MockServer,
    listed: Arc<Mutex<Vec<String>>>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let (server, listed) = (MockServer::start().await, Arc::default());
        let lists = Lists(Arc::clone(&listed));
        Mock::given(path("/system/functions")).respond_with(lists).mount(&server).await;
        Self { server, listed }
    }

    pub(crate) fn node(&self) -> Node {
        let gateway = self.server.uri();
        let tree = format!("{{levels: [a], root: {{name: milan, gateway: '{gateway}'}}}}");
        Topology::parse(&tree).unwrap().root().clone()
    }

    /// From now on the gateway lists these.
    pub(crate) fn lists(&self, functions: &[&str]) {
        *self.listed.lock() = functions.iter().map(ToString::to_string).collect();
    }

    /// It has a function that tells its status.
    pub(crate) async fn has(&self, function: &'static str) {
        let at = path(format!("/function/{function}/_/status"));
        Mock::given(at).respond_with(Ours(function)).mount(&self.server).await;
    }

    /// It has a function of somebody else, which answers with this status whatever it is asked.
    pub(crate) async fn has_anothers(&self, function: &str, status: u16) {
        let at = path(format!("/function/{function}/_/status"));
        let says = ResponseTemplate::new(status).set_body_string("figlet");
        Mock::given(at).respond_with(says).mount(&self.server).await;
    }

    /// How often something was asked for.
    pub(crate) async fn asked(&self, path: &str) -> usize {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().filter(|request| request.url.path() == path).count()
    }
}

pub(crate) fn client(patience: Duration) -> OperatorClient {
    OperatorClient::new(keys(), "oracle".parse().unwrap(), patience).unwrap()
}

/// Waits for something, for as long as a slow machine may need.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.expect(what);
}

fn keys() -> Keys {
    Keys { peer: None, operator: Secret::new(b"the operators' own secret").ok() }
}

/// What a function at `milan` tells of itself.
pub(crate) fn node_status(function: &str) -> NodeStatus {
    let status = json!({
        "node": "milan", "function": function, "version": "0.0.0", "wire_version": 1,
        "sessions": 3, "pending": 0, "in_flight": 0, "moves": 0, "status": "accept",
        "promise": "", "barred": [], "store": "ok",
    });
    serde_json::from_value(status).unwrap()
}

struct Lists(Arc<Mutex<Vec<String>>>);

impl Respond for Lists {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let listed: Vec<_> = self.0.lock().iter().map(|name| json!({ "name": name })).collect();
        ResponseTemplate::new(200).set_body_json(listed)
    }
}

struct Ours(&'static str);

impl Respond for Ours {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let here = NodeName::new("milan").unwrap();
        let call = Call {
            method: request.method.as_str(),
            path: "/_/status",
            query: request.url.query().unwrap_or_default(),
            body: &request.body,
            ..Call::to(&here)
        };
        let keys = keys().for_function(&self.0.parse().unwrap());
        let header = request.headers.get(SIGNATURE_HEADER).map(|value| value.to_str().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = u64::try_from(now).unwrap();
        let verified = keys.verify(header, &call, now, &NonceCache::default()).unwrap();
        let body = serde_json::to_vec(&node_status(self.0)).unwrap();
        let signature = verified.sign_answer(&here, 200, &body);
        ResponseTemplate::new(200).insert_header(SIGNATURE_HEADER, signature).set_body_bytes(body)
    }
}
