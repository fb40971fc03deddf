//! The dashboard of `up`: of all nodes, with their oracles.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use funicular::http::signature::{Keys, OPERATOR_KEY};
use funicular::peers::operator::{self, OperatorClient};
use funicular::serve::{bind, serve_router};
use funicular::session::NodeName;
use funicular::topology::Topology;
use funicular_dashboard::watch::{self, OracleAt, Watcher};
use funicular_dashboard::web;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::output::say;

/// Where it is unless said.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// What `up` takes about the dashboard.
#[derive(Args)]
#[group(id = "dashboard-options")]
pub(super) struct Options {
    /// Where the dashboard is served; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    dashboard: Option<SocketAddr>,

    /// Without a dashboard
    #[arg(long, conflicts_with = "dashboard")]
    no_dashboard: bool,
}

/// Where a dashboard will be.
pub(super) struct Place(TcpListener, SocketAddr);

impl Options {
    /// Takes its port. One that was asked for has to be there; without the usual one there is
    /// no dashboard, and that is said.
    pub(super) async fn listen(&self) -> Result<Option<Place>> {
        if self.no_dashboard {
            return Ok(None);
        }
        match (self.dashboard, bind(self.dashboard.unwrap_or(USUAL)).await) {
            (_, Ok(listener)) => {
                let at = listener.local_addr()?;
                Ok(Some(Place(listener, at)))
            }
            (Some(_), Err(error)) => {
                Err(Failure::Unavailable(format!("the dashboard: {error}")).into())
            }
            (None, Err(error)) => {
                say(format_args!(
                    "there is no dashboard: {error} with --dashboard 127.0.0.1:PORT, or say \
                     --no-dashboard\n"
                ));
                Ok(None)
            }
        }
    }
}

impl Place {
    /// Begins to watch and to serve.
    pub(super) fn open(
        self,
        topology: &Arc<Topology>,
        keys: &Keys,
        oracles: BTreeMap<NodeName, OracleAt>,
        (stop, closing): (&CancellationToken, &CancellationToken),
    ) -> Result<JoinHandle<()>> {
        let Self(listener, at) = self;
        // It has no use for the peers' key.
        let keys = Keys { peer: None, operator: keys.operator.clone() };
        let name = NodeName::new("dashboard")?;
        let client = |patience| {
            OperatorClient::new(keys.clone(), name.clone(), patience).map_err(anyhow::Error::msg)
        };
        let seen = watch::Settings::whole_tree(client(watch::PATIENCE)?, Arc::clone(topology));
        let seen = watch::Settings { oracles, ..seen };
        let acting = client(operator::PATIENCE)?;
        let router = web::router(web::Settings {
            watcher: Watcher::start(&seen, stop),
            nodes: seen.nodes,
            client: acting,
            key: keys.operator.clone(),
            port: at.port(),
            loopback: at.ip().is_loopback(),
            stop: stop.clone(),
        });
        Ok(tokio::spawn(serve_router(listener, router, closing.clone())))
    }

    /// Where it is, and with what to sign in.
    pub(super) fn sentence(&self, secrets: &Path) -> String {
        let key = secrets.join(OPERATOR_KEY);
        format!("dashboard at http://{}; the key to act there is in {}", self.1, key.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_was_asked_for_has_to_be_there() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let asked = Options { dashboard: taken.local_addr().ok(), no_dashboard: false };
        let error = asked.listen().await.err().unwrap().to_string();
        assert!(error.contains("dashboard") && error.contains("another port"), "{error}");
        let free = Options { dashboard: "127.0.0.1:0".parse().ok(), no_dashboard: false };
        let place = free.listen().await.unwrap().unwrap();
        assert!(place.sentence(Path::new("keys")).contains("keys/session-operator-key"));
        // Here or elsewhere: the usual one is taken.
        let _usual = bind(USUAL).await;
        let usual = Options { dashboard: None, no_dashboard: false };
        assert!(usual.listen().await.unwrap().is_none());
        let none = Options { dashboard: None, no_dashboard: true };
        assert!(none.listen().await.unwrap().is_none());
    }
}
