//! The dashboard of an oracle's node, beside what the oracle answers itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use funicular::config::ConfigError;
use funicular::http::signature::Keys;
use funicular::peers::operator::{self, OperatorClient};
use funicular::session::NodeName;
use funicular_dashboard::watch::answers::OracleSaid;
use funicular_dashboard::watch::{self, OracleAt, Watcher};
use funicular_dashboard::web;
use tokio_util::sync::CancellationToken;

use crate::daemon::{Explanation, Oracle};
use crate::settings::{Settings, Shows};

/// So many decisions are shown.
const DECISIONS: usize = 64;

/// An oracle of this process, for a dashboard of this process.
pub fn here(oracle: Oracle) -> OracleAt {
    OracleAt::Here(Arc::new(move || said(oracle.explain())))
}

/// As `/explain` says it.
fn said(mut explanation: Explanation) -> Option<OracleSaid> {
    explanation.decisions.truncate(DECISIONS);
    serde_json::from_value(serde_json::to_value(explanation).ok()?).ok()
}

/// What is needed to open a dashboard once there is an oracle.
pub struct Plan {
    here: NodeName,
    shows: Shows,
    keys: Keys,
    watch: watch::Settings,
    acting: OperatorClient,
}

impl Plan {
    /// From an oracle's settings; `None`: there is none.
    pub fn of(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let Some(shows) = settings.dashboard.clone() else { return Ok(None) };
        let here = settings.here.name.clone();
        let keys = settings.keys.clone();
        let name = NodeName::new("dashboard").map_err(|bad| ConfigError(bad.to_string()))?;
        let client = |patience| {
            OperatorClient::new(keys.clone(), name.clone(), patience).map_err(ConfigError)
        };
        let login = settings.login.iter().map(|login| (here.clone(), login.clone()));
        let watch = watch::Settings {
            nodes: shows.nodes.clone(),
            logins: login.collect(),
            functions: settings.functions.clone(),
            // Where those of other nodes are is not known here.
            oracles: BTreeMap::new(),
            ..watch::Settings::whole_tree(client(watch::PATIENCE)?, Arc::clone(&shows.topology))
        };
        let acting = client(operator::PATIENCE)?;
        Ok(Some(Self { here, shows, keys, watch, acting }))
    }

    /// Begins to watch; what is answered is served at `/`.
    pub fn open(
        mut self,
        oracle: Oracle,
        at: SocketAddr,
        stop: &CancellationToken,
    ) -> axum::Router {
        self.watch.oracles.insert(self.here, here(oracle));
        web::router(web::Settings {
            watcher: Watcher::start(&self.watch, stop),
            nodes: self.shows.nodes,
            client: self.acting,
            key: self.keys.operator,
            port: at.port(),
            loopback: at.ip().is_loopback(),
            stop: stop.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use funicular::session::SessionId;

    use super::*;
    use crate::daemon::{Mode, Recorded, SignalTold, SourceTold};
    use crate::policy::decision::{Action, Decision, Phase, Verdict};

    #[test]
    fn a_dashboard_reads_what_an_oracle_says() {
        let session = SessionId::new("ada").unwrap();
        let decision = Decision {
            at: 1,
            function: "cart".parse().unwrap(),
            action: Action::Offload { session, bytes: 10 },
            rule: "cpu".to_owned(),
            why: "cpu is 0.9".to_owned(),
            readings: Vec::new(),
            alternatives: Vec::new(),
        };
        let recorded = Recorded {
            id: 3,
            time_ms: 5,
            decision,
            outcome: "done".to_owned(),
            detail: String::new(),
        };
        let verdict = Verdict {
            function: "cart".parse().unwrap(),
            phase: Phase::Relieving,
            since: 1,
            readings: Vec::new(),
            why: "why".to_owned(),
            would_change: vec!["change".to_owned()],
            wants_here: true,
            wants_away: false,
        };
        let error = Some("it hangs".to_owned());
        let said = said(Explanation {
            node: "navigli".parse().unwrap(),
            mode: Mode::StandingBy,
            sources: vec![SourceTold { source: "redis".to_owned(), error }],
            signals: vec![SignalTold {
                function: None,
                signal: "cpu".to_owned(),
                value: Some(0.9),
                last: 0.8,
                age_ms: 1,
            }],
            functions: vec![verdict],
            decisions: vec![recorded],
        });
        let said = said.unwrap();
        assert_eq!(
            (said.mode.as_str(), said.functions[0].phase.as_str()),
            ("standing-by", "relieving")
        );
        assert_eq!(
            (said.signals[0].value, said.sources[0].error.as_deref()),
            (Some(0.9), Some("it hangs"))
        );
        let what = &said.decisions[0].decision;
        assert_eq!((what.action.word(), what.action.session.as_deref()), ("offload", Some("ada")));
    }
}
