//! What was decided is done on the side, a few at once, in the order of the decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use funicular::session::FunctionName;
use funicular::trace;
use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::told::Told;
use crate::actions::{Actions, Done};
use crate::metrics;
use crate::policy::Direction;
use crate::policy::decision::{Action, Decision};

/// So many decisions may wait; a budget is far below that.
const WAITING: usize = 4096;

/// The work, and how it stands.
pub(super) struct Acting {
    to_do: Option<mpsc::Sender<(u64, Decision)>>,
    state: Arc<Mutex<State>>,
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    under_way: BTreeMap<FunctionName, usize>,
    failures: Vec<(FunctionName, Direction)>,
    ending: bool,
}

impl Acting {
    pub(super) fn start(actions: Actions, at_once: usize, told: Arc<Mutex<Told>>) -> Self {
        let (to_do, todo) = mpsc::channel::<(u64, Decision)>(WAITING);
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, tells) = (Arc::clone(&state), Arc::clone(&told));
        let task = tokio::spawn(async move {
            let todo = stream::unfold(todo, async |mut todo| Some((todo.recv().await?, todo)));
            let (actions, state, told) = (&actions, &shared, &tells);
            todo.for_each_concurrent(at_once, async |(id, decision)| {
                // What has not begun when the oracle ends is left to the next one.
                if !state.lock().ending {
                    one(actions, state, told, id, &decision).await;
                }
            })
            .await;
        });
        Self { to_do: Some(to_do), state, told, task }
    }

    /// Has something done. What finds no room to wait has failed, and is told as that.
    pub(super) fn perform(&self, id: u64, decision: Decision) {
        let function = decision.function.clone();
        let Some(to_do) = &self.to_do else { return };
        // Counted first: it may be done before this goes on.
        *self.state.lock().under_way.entry(function).or_default() += 1;
        if let Err(full) = to_do.try_send((id, decision)) {
            let (id, decision) = full.into_inner();
            let why = format!("{WAITING} decisions are waiting to be done already");
            ended(&self.state, &self.told, id, &decision, &Err(why));
        }
    }

    /// How many actions of each function are not done yet.
    pub(super) fn under_way(&self) -> Vec<(FunctionName, usize)> {
        let state = self.state.lock();
        let some = state.under_way.iter().filter(|(_, count)| **count > 0);
        some.map(|(function, count)| (function.clone(), *count)).collect()
    }

    /// Moves that failed since the last time.
    pub(super) fn failures(&self) -> Vec<(FunctionName, Direction)> {
        std::mem::take(&mut self.state.lock().failures)
    }

    /// Waits a while for what is under way.
    pub(super) async fn end(mut self, patience: Duration) {
        self.state.lock().ending = true;
        self.to_do = None;
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn one(
    actions: &Actions,
    state: &Mutex<State>,
    told: &Mutex<Told>,
    id: u64,
    decision: &Decision,
) {
    let outcome = trace::step(decision.action.name(), actions.perform(decision)).await;
    let outcome = outcome.map_err(|error| error.to_string());
    ended(state, told, id, decision, &outcome);
}

/// Tells what became of a decision.
fn ended(
    state: &Mutex<State>,
    told: &Mutex<Told>,
    id: u64,
    decision: &Decision,
    outcome: &Result<Done, String>,
) {
    let (word, sentence) = match outcome {
        Ok(Done::Done(sentence)) => ("done", sentence),
        Ok(Done::GoesOn(sentence)) => ("goes-on", sentence),
        Err(error) => ("failed", error),
    };
    let node = told.lock().outcome(id, word, sentence.clone());
    metrics::acted(&node, decision, word);
    let (function, action) = (&decision.function, decision.action.name());
    let session = decision.action.moves().map(|(session, _)| session.log_hash());
    let session = session.unwrap_or_default();
    match outcome {
        Ok(_) => tracing::info!(%node, %function, session, action, "{sentence}"),
        Err(error) => tracing::warn!(%node, %function, session, action, %error, "not done"),
    }
    let mut state = state.lock();
    if let Some(count) = state.under_way.get_mut(function) {
        *count = count.saturating_sub(1);
    }
    let direction = match decision.action {
        Action::SetStatus { .. } => None,
        Action::Offload { .. } => Some(Direction::Up),
        Action::Onload { .. } => Some(Direction::Down),
    };
    if let (Err(_), Some(direction)) = (outcome, direction) {
        state.failures.push((function.clone(), direction));
    }
}

#[cfg(test)]
mod tests {
    use funicular::session::NodeName;

    use super::*;
    use crate::policy::decision::{Action, Decision};
    use crate::trace::{Replay, Tick};

    /// Some move, as the policy decides it.
    fn decision() -> Decision {
        let head = r#"{"trace": 1, "node": "milan", "policy": {"cooldown": "5s", "dwell": "10s",
            "rules": [{"name": "cpu", "signals": ["cpu"], "high": 0.8, "low": 0.6, "onload": 0.4}]}}"#;
        let tick = r#"{"at": 1000, "samples": [{"signal": "cpu", "value": 0.9}], "functions":
            {"cart": {"status": "accept", "above": true, "sessions": 1,
            "here": [{"session": "a", "bytes": 100, "idle": 5}]}}}"#;
        let mut replay = Replay::new(serde_json::from_str(head).unwrap(), None);
        let tick: Tick = serde_json::from_str(tick).unwrap();
        replay.tick(tick.clone()).unwrap();
        let later = Tick { at: 7000, functions: None, ..tick };
        let decided = replay.tick(later).unwrap().decisions;
        decided.into_iter().find(|it| matches!(it.action, Action::Offload { .. })).unwrap()
    }

    #[tokio::test]
    async fn what_finds_no_room_to_wait_is_told_as_failed() {
        let told = Arc::new(Mutex::new(Told::new(NodeName::new("milan").unwrap())));
        let (to_do, _nobody_reads) = mpsc::channel(1);
        let acting = Acting {
            to_do: Some(to_do),
            state: Arc::default(),
            told: Arc::clone(&told),
            task: tokio::spawn(async {}),
        };
        let decision = decision();
        for _ in 0..2 {
            let id = told.lock().record(&decision, super::super::Mode::Acting);
            acting.perform(id, decision.clone());
        }
        assert_eq!(acting.under_way(), [(decision.function.clone(), 1)]);
        assert_eq!(acting.failures(), [(decision.function, Direction::Up)]);
        let outcomes: Vec<_> = told
            .lock()
            .explanation()
            .decisions
            .iter()
            .map(|recorded| recorded.outcome.clone())
            .collect();
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "failed").count(), 1);
    }
}
