//! One oracle a node under `up`, as tasks of this process.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use funicular::http::signature::Keys;
use funicular::session::NodeName;
use funicular::topology::Topology;
use funicular_oracle::assemble::assemble;
use funicular_oracle::daemon::Oracle;
use funicular_oracle::duration::Span;
use funicular_oracle::settings::{FileSettings, Settings, above};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// What `up` takes about oracles.
#[derive(Args)]
pub(super) struct Options {
    /// Without oracles: sessions move when they are told to
    #[arg(long)]
    no_oracle: bool,

    /// Oracles decide and do nothing; see `funicular oracle explain --node N`
    #[arg(long, conflicts_with = "no_oracle")]
    observe: bool,

    /// Rules and limits of the oracles (docs/oracle.md)
    #[arg(long, value_name = "FILE", conflicts_with = "no_oracle")]
    oracle_config: Option<PathBuf>,
}

/// What the nodes of one machine are judged by: they share its CPUs and its memory, so that
/// moving sessions among them would change neither.
fn defaults() -> FileSettings {
    let mut file = FileSettings::default();
    file.policy.rules.retain(|rule| ["queue-wait", "latency"].contains(&rule.name.as_str()));
    file.policy.cooldown = Span::secs(15);
    file.sources.machine.enabled = false;
    // Six nodes with three functions each are asked all the time.
    file.sources.status.every = Span::secs(2);
    file
}

/// The oracles that run.
#[derive(Default)]
pub(super) struct Oracles {
    running: Vec<JoinHandle<()>>,
}

/// What all oracles of one `up` share; none: there are no oracles.
pub(super) struct Common {
    file: FileSettings,
    observe: bool,
    keys: Keys,
    stop: CancellationToken,
}

impl Options {
    /// Reads the settings.
    pub(super) fn open(&self, keys: &Keys, stop: &CancellationToken) -> Result<Option<Common>> {
        if self.no_oracle {
            return Ok(None);
        }
        let file = match &self.oracle_config {
            Some(path) => FileSettings::load(path).map_err(|error| Failure::Data(error.0))?,
            None => defaults(),
        };
        let keys = Keys { peer: None, operator: keys.operator.clone() };
        Ok(Some(Common { file, observe: self.observe, keys, stop: stop.clone() }))
    }
}

impl Oracles {
    /// Starts the oracle of a node.
    pub(super) async fn start(
        &mut self,
        common: &Common,
        topology: &Topology,
        node: &NodeName,
        store: (Option<String>, String),
    ) -> Result<Option<Oracle>> {
        let Some(here) = topology.node(node) else { return Ok(None) };
        let settings = Settings {
            here: here.clone(),
            above: above(topology, node),
            keys: common.keys.clone(),
            login: None,
            functions: None,
            store: store.0,
            prefix: store.1,
            file: common.file.clone(),
            observe: common.observe,
            record: None,
            // There is one for all nodes.
            dashboard: None,
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 0,
        };
        let parts = assemble(settings).await.map_err(|error| Failure::Data(error.0))?;
        let (oracle, running) = Oracle::start(parts, common.stop.clone());
        self.running.push(running);
        Ok(Some(oracle))
    }

    /// Waits until they have ended.
    pub(super) async fn stop(self) {
        for one in self.running {
            let _ = one.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_shares_moves_nothing() {
        let file = defaults();
        file.policy.check().unwrap();
        let names: Vec<_> = file.policy.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["queue-wait", "latency"]);
    }

    #[test]
    fn there_is_one_unless_it_is_not_wanted() {
        let stop = CancellationToken::new();
        let mut options = Options { no_oracle: true, observe: false, oracle_config: None };
        assert!(options.open(&Keys::default(), &stop).unwrap().is_none());
        options.no_oracle = false;
        assert!(options.open(&Keys::default(), &stop).unwrap().is_some());
        options.oracle_config = Some("/nowhere.yaml".into());
        assert!(options.open(&Keys::default(), &stop).is_err());
    }
}
