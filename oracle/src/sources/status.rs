//! The functions themselves: which there are, from the gateway, and how they are, from their
//! `/_/status`.
//!
//! Signals of each function: `in-flight` (requests that run or wait), `requests` a second,
//! `queue-wait` and `latency-p50`, `latency-p99` in seconds (of the last seconds; `queue-wait`
//! is what 99 of 100 requests waited at most for their turn), `sessions`. A function that
//! nobody called kept nobody waiting: its times are zero. They are unknown while it has
//! requests and answers none.
//!
//! It also tells the policy which sessions might move, when the policy wants to know.

mod others;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use funicular::peers::messages::{ActivityStatus, NodeStatus, SessionStatus};
use funicular::peers::operator::{CallError, ListedFunction, OperatorClient};
use funicular::session::FunctionName;
use funicular::topology::Node;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Source, SourceError, signal};
use crate::policy::settings::{PolicySettings, matches_any};
use crate::policy::view::{FunctionView, Functions, SessionView};
use crate::settings::StatusSettings;
use crate::signals::Sample;
use others::Others;

/// Label or annotation: the function's sessions never move.
pub const PIN: &str = "com.funicular.pin";
/// Label or annotation: a number; lower gives its sessions away first.
pub const PRIORITY: &str = "com.funicular.priority";
/// Annotation: sessions that never move, between commas.
pub const PINNED_SESSIONS: &str = "com.funicular.pinned-sessions";

/// What the policy wants to know of a function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// Sessions that are here.
    pub here: bool,
    /// Sessions that are above and could come home.
    pub away: bool,
}

/// The functions of one node.
pub struct Status {
    client: OperatorClient,
    here: Node,
    above: Vec<Node>,
    roster: Roster,
    settings: StatusSettings,
    policy: Arc<PolicySettings>,
    state: Mutex<State>,
}

/// Who says which functions there are.
#[derive(Debug, Clone)]
pub enum Roster {
    /// The node's gateway, which may ask for a user and a password.
    Gateway(Option<(String, String)>),
    /// The settings.
    Named(Vec<FunctionName>),
}

#[derive(Default)]
struct State {
    listed: Option<(Instant, Vec<ListedFunction>)>,
    wants: BTreeMap<FunctionName, Wants>,
    /// When nobody was found away, so that not everybody above is asked all the time.
    nobody_away: BTreeMap<FunctionName, Instant>,
    views: BTreeMap<FunctionName, (Instant, FunctionView)>,
    others: Others,
}

impl Status {
    /// The functions of node `here`, below the nodes `above`.
    pub fn new(
        client: OperatorClient,
        (here, above): (Node, Vec<Node>),
        roster: Roster,
        settings: StatusSettings,
        policy: Arc<PolicySettings>,
    ) -> Self {
        Self { client, here, above, roster, settings, policy, state: Mutex::default() }
    }

    /// From now on it tells what the policy wants to know.
    pub fn want(&self, wants: BTreeMap<FunctionName, Wants>) {
        self.state.lock().wants = wants;
    }

    /// The functions that have answered within `fresh`.
    pub fn functions(&self, fresh: Duration) -> Functions {
        let state = self.state.lock();
        let known = state.views.iter().filter(|(_, (at, _))| at.elapsed() <= fresh);
        known.map(|(function, (_, view))| (function.clone(), view.clone())).collect()
    }

    /// The functions that the gateway has; for a while those that it had.
    async fn listed(&self) -> Result<Vec<ListedFunction>, SourceError> {
        let login = match &self.roster {
            Roster::Gateway(login) => login.as_ref(),
            Roster::Named(names) => return Ok(names.iter().map(unlabelled).collect()),
        };
        let known = self.state.lock().listed.clone();
        if let Some((at, listed)) = &known
            && at.elapsed() < self.settings.list_every.0
        {
            return Ok(listed.clone());
        }
        let login = login.map(|(user, password)| (user.as_str(), password.as_str()));
        match self.client.listed(&self.here, login).await {
            Ok(listed) => {
                self.state.lock().listed = Some((Instant::now(), listed.clone()));
                Ok(listed)
            }
            Err(error) => match known {
                Some((_, listed)) => {
                    tracing::warn!(%error, "the list of functions may be old");
                    Ok(listed)
                }
                None => Err(failed(&error)),
            },
        }
    }

    async fn ask(
        &self,
        node: &Node,
        function: &FunctionName,
        query: &[(&str, &str)],
    ) -> Result<NodeStatus, CallError> {
        self.client.get(node, function, "status", query).await?.read()
    }

    /// Those that are to be asked, and what one of those said that are left alone.
    fn ours<'a>(
        &self,
        listed: &'a [ListedFunction],
    ) -> (Vec<&'a ListedFunction>, Option<SourceError>) {
        let (mut ours, mut said) = (Vec::new(), None);
        let (state, now) = (self.state.lock(), Instant::now());
        for function in listed {
            match state.others.left_alone(&function.name, now) {
                Some(error) => said = Some(error.clone()),
                None => ours.push(function),
            }
        }
        (ours, said)
    }

    /// One function: its signals; its view is kept for the policy.
    async fn one(&self, listed: &ListedFunction) -> Result<Vec<Sample>, SourceError> {
        let function = &listed.name;
        let wants = self.state.lock().wants.get(function).copied().unwrap_or_default();
        let most = self.settings.sessions.to_string();
        let query = [("max_sessions", most.as_str())];
        let query = if wants.here { &query[..] } else { &[] };
        let status = match self.ask(&self.here, function, query).await {
            Ok(status) => status,
            Err(error) => {
                // Other functions of OpenFaaS answer this as they like, and it is work for them.
                tracing::debug!(%function, %error, "no status");
                let said = failed(&error);
                let mut state = self.state.lock();
                if error.is_of_another() && !state.views.contains_key(function) {
                    state.others.note(function, said.clone(), Instant::now());
                }
                return Err(said);
            }
        };
        if status.node != self.here.name || status.function != *function {
            let why = format!("it is {} at {}", status.function, status.node);
            return Err(SourceError::Nonsense(why));
        }
        let away = if wants.away { self.away(listed).await } else { Vec::new() };
        let view = self.view(listed, &status, away);
        let samples = samples(&status)?;
        self.state.lock().views.insert(function.clone(), (Instant::now(), view));
        Ok(samples)
    }

    /// Sessions above that have their home at or below this node. A node that does not
    /// answer has none for now.
    async fn away(&self, listed: &ListedFunction) -> Vec<SessionView> {
        let function = &listed.name;
        let asked = self.state.lock().nobody_away.get(function).copied();
        if asked.is_some_and(|at| at.elapsed() < self.policy.interval.0) {
            return Vec::new();
        }
        let most = self.settings.sessions.to_string();
        let query = [("max_sessions", most.as_str()), ("below", self.here.name.as_str())];
        let all =
            self.above.iter().map(async |node| (node, self.ask(node, function, &query).await));
        let mut found = Vec::new();
        for (node, answer) in join_all(all).await {
            match answer {
                Ok(status) => found.extend(status.listed.iter().map(|session| SessionView {
                    at: Some(node.name.clone()),
                    ..self.session(listed, session, status.activity)
                })),
                Err(error) => tracing::debug!(node = %node.name, %function, %error, "not known"),
            }
        }
        let mut state = self.state.lock();
        match found.is_empty() {
            true => state.nobody_away.insert(function.clone(), Instant::now()),
            false => state.nobody_away.remove(function),
        };
        found
    }

    fn view(
        &self,
        listed: &ListedFunction,
        status: &NodeStatus,
        away: Vec<SessionView>,
    ) -> FunctionView {
        let held = if said(listed, PIN).is_some_and(|text| text == "true") {
            Some(format!("it is pinned ({PIN})"))
        } else if status.drain.is_some() {
            Some("it is being drained".to_owned())
        } else if status.store != "ok" {
            Some(format!("its store does not answer as it should: {}", status.store))
        } else {
            None
        };
        let labelled = said(listed, PRIORITY).and_then(|text| text.parse().ok());
        let set = self.policy.priority.get(&listed.name).copied();
        let here = status.listed.iter();
        FunctionView {
            status: status.status,
            above: !self.above.is_empty(),
            held,
            priority: set.or(labelled).unwrap_or(0),
            sessions: status.sessions,
            rate: status.activity.and_then(|activity| rate(activity.requests, activity)),
            here: here.map(|session| self.session(listed, session, status.activity)).collect(),
            away,
        }
    }

    fn session(
        &self,
        listed: &ListedFunction,
        session: &SessionStatus,
        activity: Option<ActivityStatus>,
    ) -> SessionView {
        let id = session.session.as_str();
        let patterns = said(listed, PINNED_SESSIONS).unwrap_or_default();
        let patterns: Vec<_> = patterns.split(',').map(|text| text.trim().to_owned()).collect();
        let rate = session.requests.zip(activity).and_then(|(count, all)| rate(count, all));
        SessionView {
            session: session.session.clone(),
            at: None,
            bytes: session.bytes,
            rate,
            idle: session.idle_ms,
            arrived: session.arrived_ms,
            pinned: matches_any(&patterns, id) || self.policy.pins(&listed.name, id),
        }
    }
}

#[async_trait]
impl Source for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    async fn read(&self) -> Result<Vec<Sample>, SourceError> {
        let listed = self.listed().await?;
        let (ours, mut failure) = self.ours(&listed);
        let answers = join_all(ours.into_iter().map(|function| self.one(function))).await;
        let mut samples = Vec::new();
        for answer in answers {
            match answer {
                Ok(said) => samples.extend(said),
                Err(error) => failure = Some(error),
            }
        }
        let mut state = self.state.lock();
        let is_listed = |name: &FunctionName| listed.iter().any(|it| it.name == *name);
        state.views.retain(|name, _| is_listed(name));
        state.others.retain(is_listed);
        drop(state);
        // Functions that are not of Funicular have no such status.
        match failure {
            Some(error) if samples.is_empty() => Err(error),
            _ => Ok(samples),
        }
    }
}

fn unlabelled(name: &FunctionName) -> ListedFunction {
    let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
    ListedFunction { name: name.clone(), labels, annotations, replicas: None }
}

fn said<'a>(listed: &'a ListedFunction, name: &str) -> Option<&'a str> {
    listed.labels.get(name).or_else(|| listed.annotations.get(name)).map(String::as_str)
}

/// So many in the time that the activity is about, a second.
#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn rate(count: u64, activity: ActivityStatus) -> Option<f64> {
    (activity.window_ms >= 500).then(|| count as f64 * 1000.0 / activity.window_ms as f64)
}

#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a few seconds")]
fn samples(status: &NodeStatus) -> Result<Vec<Sample>, SourceError> {
    let function = &status.function;
    let mut samples = vec![
        Sample::of(function, &signal("in-flight")?, status.in_flight as f64),
        Sample::of(function, &signal("sessions")?, status.sessions as f64),
    ];
    let Some(activity) = status.activity else { return Ok(samples) };
    // None was answered; those that hang have their times still to come.
    let idle = activity.requests == 0 && status.in_flight == 0;
    for (name, micros) in [
        ("queue-wait", activity.queue_wait_p99_us),
        ("latency-p50", activity.latency_p50_us),
        ("latency-p99", activity.latency_p99_us),
    ] {
        if let Some(micros) = micros.or(idle.then_some(0)) {
            samples.push(Sample::of(function, &signal(name)?, micros as f64 / 1e6));
        }
    }
    if let Some(rate) = rate(activity.requests, activity) {
        samples.push(Sample::of(function, &signal("requests")?, rate));
    }
    Ok(samples)
}

fn failed(error: &CallError) -> SourceError {
    match error {
        CallError::Unreachable { .. } => SourceError::Unreachable(error.to_string()),
        CallError::Unreadable { .. } | CallError::Untrusted { .. } => {
            SourceError::Nonsense(error.to_string())
        }
        _ => SourceError::Refused(error.to_string()),
    }
}
