//! A tree of three nodes that answer, signed, what a test tells them to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use funicular::http::signature::{Call, FunctionKeys, NonceCache, SIGNATURE_HEADER, Secret};
use funicular::peers::operator::Answer;
use funicular::session::FunctionName;
use funicular::topology::Topology;
use serde_json::{Value, json};
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;

const NAMES: [&str; 3] = ["italy", "milan", "navigli"];

/// The mocked nodes: italy, below it milan, below that navigli.
pub(crate) struct Nodes {
    servers: BTreeMap<&'static str, MockServer>,
    keys: Keys,
    stopped: std::sync::Mutex<Vec<&'static str>>,
}

pub(crate) fn function(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

/// The token of session `s1`, created at navigli.
pub(crate) fn token(location: &str, epoch: u64) -> Value {
    json!({
        "session": "s1", "proprietaryLocation": "navigli", "currentLocation": location,
        "function": "cart", "epoch": epoch, "v": 1,
    })
}

fn keys(secret: &str) -> Keys {
    let operator = Secret::new(secret.as_bytes()).unwrap();
    Keys { peer: None, operator: Some(operator) }
}

const SECRET: &str = "the operators' own secret";

impl Nodes {
    pub(crate) async fn start() -> Self {
        let mut servers = BTreeMap::new();
        for name in NAMES {
            servers.insert(name, MockServer::start().await);
        }
        Self { servers, keys: keys(SECRET), stopped: std::sync::Mutex::default() }
    }

    pub(crate) fn client(&self) -> Client {
        open(self.keys.clone()).unwrap()
    }

    pub(crate) fn topology(&self) -> Topology {
        let url = |name: &'static str| {
            // Nothing listens on port 1.
            let stopped = self.stopped.lock().unwrap().contains(&name);
            if stopped { "http://127.0.0.1:1".to_owned() } else { self.servers[name].uri() }
        };
        let [italy, milan, navigli] = NAMES.map(url);
        Topology::parse(&format!(
            "{{levels: [a, b, c], root: {{name: italy, gateway: '{italy}', children: [\
             {{name: milan, gateway: '{milan}', children: [\
             {{name: navigli, gateway: '{navigli}'}}]}}]}}}}"
        ))
        .unwrap()
    }

    /// From now on the tree has this node where nobody answers.
    pub(crate) fn stops(&self, node: &'static str) {
        self.stopped.lock().unwrap().push(node);
    }

    /// The node's gateway lists these functions.
    pub(crate) async fn lists(&self, node: &str, functions: &[&str]) {
        let list: Vec<Value> = functions.iter().map(|name| json!({ "name": name })).collect();
        Mock::given(method("GET"))
            .and(path("/system/functions"))
            .respond_with(ResponseTemplate::new(200).set_body_json(list))
            .mount(&self.servers[node])
            .await;
    }

    /// The node's gateway lists these functions and one that is none of Funicular's,
    /// `figlet`, which answers whatever it is sent.
    pub(crate) async fn lists_figlet_and(&self, node: &str, functions: &[&str]) {
        let mut all = vec!["figlet"];
        all.extend(functions);
        all.sort_unstable();
        self.lists(node, &all).await;
        Mock::given(path_regex("^/function/figlet(/|$)"))
            .respond_with(ResponseTemplate::new(200).set_body_string("a large letter"))
            .mount(&self.servers[node])
            .await;
    }

    /// What a node's function was sent, other than questions.
    pub(crate) async fn posts(&self, node: &str, function: &str) -> usize {
        let requests = self.servers[node].received_requests().await.unwrap();
        let begin = format!("/function/{function}/");
        let posts = requests.iter().filter(|one| one.method.as_str() == "POST");
        posts.filter(|one| one.url.path().starts_with(&begin)).count()
    }

    /// The gateway cannot reach the function.
    pub(crate) async fn is_silent(&self, node: &str, function: &str) {
        Mock::given(path_regex(format!("^/function/{function}/")))
            .respond_with(ResponseTemplate::new(502).set_body_string("Can't reach service"))
            .mount(&self.servers[node])
            .await;
    }

    /// A function's endpoint checks the call's signature and signs this answer.
    pub(crate) async fn answers(
        &self,
        node: &'static str,
        function_name: &str,
        verb: &str,
        endpoint: &str,
        status: u16,
        body: &Value,
    ) {
        let signing = self.signing(node, function_name, endpoint, status, vec![body.to_string()]);
        signing.mount(verb, function_name, &self.servers[node]).await;
    }

    /// A call is answered with this, and not before that time has passed.
    pub(crate) async fn answers_late(
        &self,
        node: &'static str,
        function_name: &str,
        verb: &str,
        endpoint: &str,
        (body, after): (&Value, Duration),
    ) {
        let mut signing = self.signing(node, function_name, endpoint, 200, vec![body.to_string()]);
        signing.after = after;
        signing.mount(verb, function_name, &self.servers[node]).await;
    }

    fn signing(
        &self,
        node: &'static str,
        function_name: &str,
        endpoint: &str,
        status: u16,
        bodies: Vec<String>,
    ) -> Signing {
        Signing {
            node: NodeName::new(node).unwrap(),
            keys: self.keys.for_function(&function(function_name)),
            endpoint: endpoint.to_owned(),
            query: String::new(),
            status,
            bodies,
            next: AtomicUsize::new(0),
            after: Duration::ZERO,
        }
    }

    /// Replicas of a function answer in turn with what their status is; the gateway counts
    /// `ready` of them.
    pub(crate) async fn replicas(
        &self,
        node: &'static str,
        function_name: &str,
        ready: usize,
        statuses: &[Value],
    ) {
        let list = json!([{ "name": function_name, "availableReplicas": ready }]);
        Mock::given(method("GET"))
            .and(path("/system/functions"))
            .respond_with(ResponseTemplate::new(200).set_body_json(list))
            .mount(&self.servers[node])
            .await;
        let statuses = statuses.iter().map(Value::to_string).collect();
        let signing = self.signing(node, function_name, "/_/status", 200, statuses);
        signing.mount("GET", function_name, &self.servers[node]).await;
    }

    /// One answer to a GET with a query, which has to be signed as it is sent.
    pub(crate) async fn answers_at(
        &self,
        node: &'static str,
        function_name: &str,
        endpoint: &str,
        status: u16,
        body: Value,
    ) {
        let (endpoint, query) = endpoint.split_once('?').unwrap();
        let mut signing =
            self.signing(node, function_name, endpoint, status, vec![body.to_string()]);
        signing.query = query.to_owned();
        signing.mount("GET", function_name, &self.servers[node]).await;
    }

    /// What was sent last to a node.
    pub(crate) async fn last_body(&self, node: &str) -> Value {
        let requests = self.servers[node].received_requests().await.unwrap();
        serde_json::from_slice(&requests.last().unwrap().body).unwrap()
    }
}

/// Answers as a node does.
struct Signing {
    node: NodeName,
    keys: FunctionKeys,
    endpoint: String,
    query: String,
    status: u16,
    /// One answer after the other, and again from the first.
    bodies: Vec<String>,
    next: AtomicUsize,
    /// How long it takes.
    after: Duration,
}

impl Signing {
    async fn mount(self, verb: &str, function: &str, server: &MockServer) {
        Mock::given(method(verb))
            .and(path(format!("/function/{function}{}", self.endpoint)))
            .respond_with(self)
            .mount(server)
            .await;
    }
}

impl Respond for Signing {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let call = Call {
            method: request.method.as_str(),
            path: &self.endpoint,
            query: &self.query,
            body: &request.body,
            ..Call::to(&self.node)
        };
        let turn = self.next.fetch_add(1, Ordering::SeqCst);
        let body = &self.bodies[turn % self.bodies.len()];
        let header = request.headers.get(SIGNATURE_HEADER).map(|value| value.to_str().unwrap());
        match self.keys.verify(header, &call, unix_ms(), &NonceCache::default()) {
            Ok(verified) => ResponseTemplate::new(self.status)
                .set_delay(self.after)
                .insert_header(
                    SIGNATURE_HEADER,
                    verified.sign_answer(&self.node, self.status, body.as_bytes()),
                )
                .set_body_string(body),
            Err(error) => {
                let problem = funicular::http::problem::Problem::unauthorized(&error);
                ResponseTemplate::new(401).set_body_bytes(problem.body())
            }
        }
    }
}

async fn status(nodes: &Nodes, client: &Client) -> Result<Answer, CallError> {
    let topology = nodes.topology();
    let milan = topology.node(&NodeName::new("milan").unwrap()).unwrap();
    client.get(milan, &function("cart"), "status", &[]).await
}

/// What a gateway answers by itself, unsigned.
async fn gateway_says(nodes: &Nodes, status: u16, body: &str) {
    Mock::given(path("/function/cart/_/status"))
        .respond_with(ResponseTemplate::new(status).set_body_string(body))
        .mount(&nodes.servers["milan"])
        .await;
}

#[tokio::test]
async fn a_signed_answer_is_taken() {
    let nodes = Nodes::start().await;
    nodes.answers("milan", "cart", "GET", "/_/status", 200, &json!({ "sessions": 1 })).await;
    let answer = status(&nodes, &nodes.client()).await.unwrap();
    assert_eq!(answer.read::<Value>().unwrap(), json!({ "sessions": 1 }));
    let unread = answer.read::<Vec<u8>>().unwrap_err();
    assert!(unread.to_string().starts_with("what `milan` answers does not read"), "{unread}");
}

#[tokio::test]
async fn a_nodes_no_is_one_sentence() {
    let nodes = Nodes::start().await;
    let body = json!({ "code": "busy", "detail": "the session was busy; repeat the request" });
    nodes.answers("milan", "cart", "GET", "/_/status", 503, &body).await;
    let error = status(&nodes, &nodes.client()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`milan` says no (busy): the session was busy; repeat the request"
    );
    assert!(error.says_no());
}

#[tokio::test]
async fn another_key_is_explained_by_the_node() {
    let nodes = Nodes::start().await;
    nodes.answers("milan", "cart", "GET", "/_/status", 200, &json!({})).await;
    let stranger = open(keys("another operator's secret")).unwrap();
    let error = status(&nodes, &stranger).await.unwrap_err();
    assert!(error.to_string().starts_with("`milan` says no (bad-signature): "), "{error}");
}

#[tokio::test]
async fn g8_an_answer_that_the_node_did_not_sign_does_not_count() {
    let nodes = Nodes::start().await;
    gateway_says(&nodes, 200, r#"{"sessions":1}"#).await;
    let error = status(&nodes, &nodes.client()).await.unwrap_err();
    assert!(matches!(error, CallError::Untrusted { status: 200, .. }), "{error}");
    assert!(error.is_of_another(), "functions that are not Funicular's do not sign");

    // Nor does another node's: rome answers at milan's address.
    let nodes = Nodes::start().await;
    let impostor = nodes.signing("rome", "cart", "/_/status", 200, vec!["{}".into()]);
    impostor.mount("GET", "cart", &nodes.servers["milan"]).await;
    let error = status(&nodes, &nodes.client()).await.unwrap_err();
    assert!(error.to_string().contains("`LOCATION_ID`"), "{error}");
    assert!(!error.is_of_another(), "it is a node, at the wrong place");
}

#[tokio::test]
async fn what_a_gateway_says_itself_is_told_apart() {
    for (code, body, no, another, part) in [
        (404, "error finding function cart", true, true, "does not have the function `cart`"),
        (502, "Can't reach service for: cart.", false, false, "its gateway answers 502 for `cart`"),
        (500, "exit status 1", false, false, "gave no answer that counts (status 500)"),
        (429, "slowly", false, false, "gave no answer that counts (status 429)"),
        (307, "", false, true, "gave no answer that counts (status 307)"),
    ] {
        let nodes = Nodes::start().await;
        gateway_says(&nodes, code, body).await;
        let error = status(&nodes, &nodes.client()).await.unwrap_err();
        assert_eq!((error.says_no(), error.is_of_another()), (no, another), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_named_with_its_address() {
    let nodes = Nodes::start().await;
    nodes.stops("milan");
    let error = status(&nodes, &nodes.client()).await.unwrap_err().to_string();
    assert!(error.starts_with("`milan` does not answer (http://127.0.0.1:1: "), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_gateway_that_wants_a_password_is_worked_around() {
    let nodes = Nodes::start().await;
    Mock::given(path("/system/functions"))
        .respond_with(ResponseTemplate::new(401))
        .mount(&nodes.servers["milan"])
        .await;
    let topology = nodes.topology();
    let milan = topology.node(&NodeName::new("milan").unwrap()).unwrap();
    let error = nodes.client().functions(milan).await.unwrap_err();
    assert!(error.to_string().contains("name one with --function"), "{error}");
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
