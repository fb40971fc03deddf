//! For tests: decisions, and a node that takes calls.

use std::time::Duration;

use funicular::http::signature::{Keys, Secret};
use funicular::peers::operator::OperatorClient;
use funicular::topology::{Node, Topology};
use wiremock::MockServer;

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
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self { server: MockServer::start().await }
    }

    pub(crate) fn node(&self) -> Node {
        let gateway = self.server.uri();
        let tree = format!("{{levels: [a], root: {{name: milan, gateway: '{gateway}'}}}}");
        Topology::parse(&tree).unwrap().root().clone()
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
