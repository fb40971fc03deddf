//! What the file must not say: each refusal is a sentence with what to do.

use std::collections::BTreeMap;

use funicular::config::ConfigError;

use super::file::{FileSettings, Size, SourceSettings};
use crate::duration::Span;

impl FileSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |why: &str| Err(ConfigError(why.to_owned()));
        self.policy.check().map_err(|wrong| ConfigError(wrong.0))?;
        let mut lengths = vec![self.tick, self.actions.timeout];
        lengths.extend(paces(&self.sources).iter().flat_map(|pace| [pace.every, pace.timeout]));
        if lengths.iter().any(|length| length.as_millis() < 10) {
            return wrong("tick, every and timeout are at least 10ms");
        }
        self.is_known_in_between()?;
        only_one_says(&self.sources)?;
        if self.actions.tries == 0 || self.actions.at_once == 0 {
            return wrong("tries and at_once are at least 1");
        }
        if self.actions.lease.as_millis() < 1000 {
            return wrong("lease is at least 1s");
        }
        Ok(())
    }

    /// From one answer of a source to the next its signals stay known, though it takes all its
    /// time or is heard at the next tick only: what is unknown in between is never smoothed.
    fn is_known_in_between(&self) -> Result<(), ConfigError> {
        let stale = self.signals.stale_after;
        for Pace { source, every, timeout } in paces(&self.sources) {
            let gap = Span(every.0.saturating_add(timeout.max(self.tick).0));
            if gap > stale {
                return Err(ConfigError(format!(
                    "signals.stale_after is {stale}, and from one answer of sources.{source} to \
                     the next it may take {gap} (every, and timeout or tick): its signals would \
                     be unknown in between; ask it more often, or make stale_after longer"
                )));
            }
        }
        Ok(())
    }
}

/// How often a source is asked, and how long its answer may take.
struct Pace {
    source: &'static str,
    every: Span,
    timeout: Span,
}

/// Those of all sources that are asked.
fn paces(sources: &SourceSettings) -> Vec<Pace> {
    let SourceSettings { status, redis, machine, prometheus, metrics_server } = sources;
    let mut paces = vec![Pace { source: "status", every: status.every, timeout: status.timeout }];
    let mut add = |source, every, timeout| paces.push(Pace { source, every, timeout });
    if redis.enabled {
        add("redis", redis.every, redis.timeout);
    }
    if machine.enabled {
        // Files are read at once.
        add("machine", machine.every, Span::millis(10));
    }
    if let Some(prometheus) = prometheus {
        add("prometheus", prometheus.every, prometheus.timeout);
    }
    if let Some(server) = metrics_server {
        add("metrics_server", server.every, server.timeout);
    }
    paces
}

/// Who says a signal, and how that is ended; empty: it is not.
#[derive(Clone, Copy)]
struct Says {
    who: &'static str,
    remedy: &'static str,
}

/// Of a signal that two sources say the later one of a tick would not count.
fn only_one_says(sources: &SourceSettings) -> Result<(), ConfigError> {
    let mut known: BTreeMap<(&str, &str), Says> = BTreeMap::new();
    for (of, signal, says) in signals(sources) {
        let Some(first) = known.insert((of, signal), says) else { continue };
        let remedies: Vec<_> =
            [first.remedy, says.remedy].into_iter().filter(|text| !text.is_empty()).collect();
        let remedy = match remedies.as_slice() {
            [one, other] if one != other => format!("{one}, or {other}"),
            [one, ..] => (*one).to_owned(),
            [] => "switch one off".to_owned(),
        };
        return Err(ConfigError(format!(
            "`{signal}` of {of} is said by {} and by {}, and only one of them would count: {remedy}",
            first.who, says.who
        )));
    }
    Ok(())
}

/// Every signal that is asked for: of what, its name, who says it.
fn signals(sources: &SourceSettings) -> Vec<(&'static str, &str, Says)> {
    const NODE: &str = "the node";
    const FUNCTION: &str = "a function";
    let mut all = Vec::new();
    let mut add = |of, names: &[&'static str], who, remedy| {
        all.extend(names.iter().map(|name| (of, *name, Says { who, remedy })));
    };
    let status = ["in-flight", "requests", "queue-wait", "latency-p50", "latency-p99", "sessions"];
    add(FUNCTION, &status, "sources.status", "");
    if sources.redis.enabled {
        let names = ["redis-memory", "redis-bytes", "redis-key-bytes"];
        add(NODE, &names, "sources.redis", "switch redis off with `redis: {enabled: false}`");
    }
    if sources.machine.enabled {
        let remedy = "switch machine off with `machine: {enabled: false}`";
        add(NODE, &["cpu", "memory"], "sources.machine", remedy);
    }
    if let Some(server) = &sources.metrics_server {
        let who = "sources.metrics_server";
        add(FUNCTION, &["pod-cpu", "pod-memory"], who, "leave metrics_server out");
        if let Some(size) = server.pod {
            add(FUNCTION, shares(size), who, "leave metrics_server.pod out");
        }
        if let Some(node) = &server.node {
            add(NODE, shares(node.size), who, "leave metrics_server.node out");
        }
    }
    let queries = sources.prometheus.iter().flat_map(|prometheus| &prometheus.queries);
    for query in queries {
        let of = if query.function_label.is_some() { FUNCTION } else { NODE };
        let says =
            Says { who: "a query of sources.prometheus", remedy: "give the query another name" };
        all.push((of, query.signal.as_str(), says));
    }
    all
}

/// What is a share of something is said where there is some of it.
fn shares(size: Size) -> &'static [&'static str] {
    match (size.cpus > 0.0, size.memory > 0.0) {
        (true, true) => &["cpu", "memory"],
        (true, false) => &["cpu"],
        (false, true) => &["memory"],
        (false, false) => &[],
    }
}
