//! The parts of an oracle, from its settings.

use std::sync::Arc;

use funicular::config::ConfigError;
use funicular::peers::operator::OperatorClient;
use funicular::session::NodeName;

use crate::actions::Actions;
use crate::daemon::{Paced, Parts};
use crate::lease::{Allowance, Lease};
use crate::settings::{Settings, SourceSettings};
use crate::sources::Source;
use crate::sources::machine::{Machine, MachineSource};
use crate::sources::prometheus::Prometheus;
use crate::sources::redis::Redis;
use crate::sources::status::{Roster, Status};

/// Puts everything together; asks nobody yet but the file system.
pub async fn assemble(settings: Settings) -> Result<Parts, ConfigError> {
    let Settings { here, above, keys, store, prefix, file, observe, record, .. } = settings;
    let roster = settings.functions.map_or(Roster::Gateway(settings.login), Roster::Named);
    let name = NodeName::new("oracle").map_err(|bad| ConfigError(bad.to_string()))?;
    let asking = OperatorClient::new(keys.clone(), name.clone(), file.sources.status.timeout.0);
    let asking = asking.map_err(ConfigError)?;
    let acting = OperatorClient::new(keys, name, file.actions.timeout.0).map_err(ConfigError)?;
    let lease = match &store {
        None => Lease::Alone,
        Some(url) => {
            let allowance = Allowance { moves: file.policy.moves, interval: file.policy.interval };
            Lease::shared(url, &prefix, file.actions.lease.0, allowance).map_err(ConfigError)?
        }
    };
    let policy = Arc::new(file.policy.clone());
    let place = (here.clone(), above);
    let status = Arc::new(Status::new(asking, place, roster, file.sources.status, policy));
    let mut sources = sources(&file.sources, store.as_deref()).await?;
    sources.push(Paced {
        source: Arc::clone(&status) as Arc<dyn Source>,
        every: file.sources.status.every,
        // It asks functions one by one within this, and nodes above them.
        timeout: crate::duration::Span(file.sources.status.timeout.0 * 3),
    });
    let actions = Actions::new(acting, here.clone(), lease.clone(), file.actions);
    Ok(Parts { here: here.name, sources, status, actions, lease, file, observe, record })
}

async fn sources(
    settings: &SourceSettings,
    store: Option<&str>,
) -> Result<Vec<Paced>, ConfigError> {
    let mut sources = Vec::new();
    let mut add = |source: Arc<dyn Source>, every, timeout| {
        sources.push(Paced { source, every, timeout });
    };
    let machine = &settings.machine;
    if machine.enabled {
        let look = Machine { proc: machine.proc.clone(), cgroup: machine.cgroup.clone() };
        add(Arc::new(MachineSource::new(look)), machine.every, machine.every);
    }
    let redis = &settings.redis;
    if let Some(url) = store.filter(|_| redis.enabled) {
        let source = Redis::new(url, redis.timeout.0).map_err(ConfigError)?;
        add(Arc::new(source), redis.every, redis.timeout);
    }
    if let Some(prometheus) = &settings.prometheus {
        let queries = prometheus.queries.clone();
        let source = Prometheus::new(&prometheus.url, queries, prometheus.timeout.0);
        add(Arc::new(source.map_err(ConfigError)?), prometheus.every, prometheus.timeout);
    }
    if let Some(server) = &settings.metrics_server {
        let source = metrics_server(server.clone()).await?;
        add(source, server.every, server.timeout);
    }
    Ok(sources)
}

#[cfg(feature = "kubernetes")]
async fn metrics_server(
    settings: crate::settings::MetricsServer,
) -> Result<Arc<dyn Source>, ConfigError> {
    let patience = settings.timeout.0;
    let source = crate::sources::metrics_server::MetricsServerSource::infer(settings, patience);
    Ok(Arc::new(source.await.map_err(ConfigError)?))
}

#[cfg(not(feature = "kubernetes"))]
#[expect(clippy::unused_async, reason = "it is where there is Kubernetes")]
async fn metrics_server(_: crate::settings::MetricsServer) -> Result<Arc<dyn Source>, ConfigError> {
    Err(ConfigError(
        "sources.metrics_server needs an oracle that was built with the feature `kubernetes`"
            .to_owned(),
    ))
}
