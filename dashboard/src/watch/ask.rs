//! The calls: one node after the other is asked by a task of its own.

use std::sync::Arc;
use std::time::Duration;

use funicular::peers::messages::NodeStatus;
use funicular::peers::operator::{CallError, OperatorClient};
use funicular::session::FunctionName;
use funicular::topology::Node;
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::answers::{FunctionAnswer, NodeAnswer, OracleSaid};
use super::{OracleAt, PATIENCE, Pace, Settings, now_ms};

/// So many nodes are asked at once.
const AT_ONCE: usize = 32;
/// So many moves of a function are asked for; the first time, all that it has.
const MOVES: usize = 64;
const ALL_MOVES: usize = 256;
/// So many decisions of an oracle are asked for.
pub(super) const DECISIONS: usize = 64;
/// A larger answer of an oracle is not read, in bytes.
const LARGEST_ANSWER: usize = 4 << 20;

/// What is needed to ask one node.
pub(super) struct Asking {
    node: Node,
    client: OperatorClient,
    http: Option<reqwest::Client>,
    login: Option<(String, String)>,
    named: Option<Vec<FunctionName>>,
    oracle: Option<OracleAt>,
    turns: Arc<Semaphore>,
    listed: Option<(Instant, Vec<Listed>)>,
    sessions_at: Option<Instant>,
}

#[derive(Clone)]
struct Listed {
    name: FunctionName,
    /// It has answered as a function of Funicular does.
    ours: bool,
    /// It has answered, and not as one of Funicular does.
    other: bool,
}

impl Asking {
    /// One for each node.
    pub(super) fn each(settings: &Settings) -> Vec<Self> {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
        let http = http.inspect_err(|error| tracing::error!(%error, "no oracle is asked")).ok();
        let one = |node: &Node| Self {
            node: node.clone(),
            client: settings.client.clone(),
            http: http.clone(),
            login: settings.logins.get(&node.name).cloned(),
            named: settings.functions.clone(),
            oracle: settings.oracles.get(&node.name).cloned(),
            turns: Arc::clone(&turns),
            listed: None,
            sessions_at: None,
        };
        settings.nodes.iter().map(one).collect()
    }

    /// Asks the node for everything that is due.
    pub(super) async fn ask(&mut self, pace: &Pace) -> NodeAnswer {
        let turns = Arc::clone(&self.turns);
        // It is never closed; without a turn the question goes at once.
        let _turn = turns.acquire().await;
        let asked_ms = now_ms();
        let (http, at) = (self.http.clone(), self.oracle.clone());
        let oracle = ask_oracle(http.as_ref(), at.as_ref());
        let (oracle, functions) = tokio::join!(oracle, self.functions(pace));
        NodeAnswer { node: self.node.name.clone(), asked_ms, at_ms: now_ms(), functions, oracle }
    }

    async fn functions(&mut self, pace: &Pace) -> Result<Vec<FunctionAnswer>, String> {
        self.list(pace.list_every).await?;
        let due = self.sessions_at.is_none_or(|at| at.elapsed() >= pace.sessions_every);
        let sessions = if due { pace.sessions.min(1024) } else { 0 };
        if due {
            self.sessions_at = Some(Instant::now());
        }
        let listed = self.listed.iter().flat_map(|(_, listed)| listed);
        let asked: Vec<_> = listed.filter(|function| !function.other).cloned().collect();
        let answers = join_all(asked.iter().map(|one| self.function(one, sessions))).await;
        let mut answered = Vec::new();
        for (function, answer) in asked.into_iter().zip(answers) {
            let known = self.listed.iter_mut().flat_map(|(_, listed)| listed);
            let known = known.filter(|known| known.name == function.name);
            let (ours, other) = match &answer {
                Ok(_) => (true, false),
                Err(error) => (function.ours, !function.ours && error.is_of_another()),
            };
            known.for_each(|known| (known.ours, known.other) = (ours, other));
            if !other {
                let status = answer.map(Box::new).map_err(|error| error.to_string());
                answered.push(FunctionAnswer { function: function.name, sessions, status });
            }
        }
        Ok(answered)
    }

    /// Which functions there are; asked again after a while, and for that while those that
    /// are not of Funicular are left alone.
    async fn list(&mut self, every: Duration) -> Result<(), String> {
        if self.listed.as_ref().is_some_and(|(at, _)| at.elapsed() < every) {
            return Ok(());
        }
        let names = match &self.named {
            Some(names) => names.clone(),
            None => {
                let login = self.login.as_ref();
                let login = login.map(|(user, password)| (user.as_str(), password.as_str()));
                match self.client.listed(&self.node, login).await {
                    Ok(listed) => listed.into_iter().map(|listed| listed.name).collect(),
                    Err(error) => {
                        // The functions may answer though their gateway lists none.
                        return match self.listed {
                            Some(_) => Ok(()),
                            None => Err(error.to_string()),
                        };
                    }
                }
            }
        };
        let before = self.listed.take().map(|(_, listed)| listed).unwrap_or_default();
        let ours = |name: &FunctionName| before.iter().any(|it| it.ours && it.name == *name);
        let listed = names.into_iter().map(|name| Listed { ours: ours(&name), name, other: false });
        self.listed = Some((Instant::now(), listed.collect()));
        Ok(())
    }

    async fn function(&self, function: &Listed, sessions: usize) -> Result<NodeStatus, CallError> {
        let moves = if function.ours { MOVES } else { ALL_MOVES };
        let (sessions, moves) = (sessions.to_string(), moves.to_string());
        let query = [("max_sessions", sessions.as_str()), ("max_moves", moves.as_str())];
        let name = &function.name;
        let status: NodeStatus =
            self.client.get(&self.node, name, "status", &query).await?.read()?;
        if status.node != self.node.name || status.function != *name {
            let why = format!("it is {} at {}", status.function, status.node);
            return Err(CallError::Unreadable { node: self.node.name.clone(), why });
        }
        Ok(status)
    }
}

async fn ask_oracle(
    http: Option<&reqwest::Client>,
    at: Option<&OracleAt>,
) -> Option<Result<OracleSaid, String>> {
    match at? {
        OracleAt::Here(ask) => Some(ask().ok_or_else(|| "what it says does not read".to_owned())),
        OracleAt::Url(url) => Some(call_oracle(http?, url).await),
    }
}

async fn call_oracle(http: &reqwest::Client, base: &str) -> Result<OracleSaid, String> {
    let silent = |error: reqwest::Error| format!("no oracle answers at {base}: {error}");
    let url = format!("{base}/explain?limit={DECISIONS}");
    let mut answer = http.get(url).send().await.map_err(silent)?;
    if !answer.status().is_success() {
        return Err(format!("no oracle answers at {base}: status {}", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST_ANSWER {
            return Err(format!("the oracle at {base} says more than is read"));
        }
    }
    serde_json::from_slice(&body)
        .map_err(|error| format!("what the oracle at {base} says does not read: {error}"))
}
