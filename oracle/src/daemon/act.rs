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
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let todo = stream::unfold(todo, async |mut todo| Some((todo.recv().await?, todo)));
            let (actions, state, told) = (&actions, &shared, &told);
            todo.for_each_concurrent(at_once, async |(id, decision)| {
                // What has not begun when the oracle ends is left to the next one.
                if !state.lock().ending {
                    one(actions, state, told, id, &decision).await;
                }
            })
            .await;
        });
        Self { to_do: Some(to_do), state, task }
    }

    /// Has something done.
    pub(super) fn perform(&self, id: u64, decision: Decision) {
        let function = decision.function.clone();
        if self.to_do.as_ref().is_some_and(|to_do| to_do.try_send((id, decision)).is_ok()) {
            *self.state.lock().under_way.entry(function).or_default() += 1;
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
    let (word, sentence) = match &outcome {
        Ok(Done::Done(sentence)) => ("done", sentence.clone()),
        Ok(Done::GoesOn(sentence)) => ("goes-on", sentence.clone()),
        Err(error) => ("failed", error.to_string()),
    };
    let node = told.lock().outcome(id, word, sentence.clone());
    metrics::acted(&node, decision, word);
    let (function, action) = (&decision.function, decision.action.name());
    let session = decision.action.moves().map(|(session, _)| session.log_hash());
    let session = session.unwrap_or_default();
    match &outcome {
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
    if let (Err(_), Some(direction)) = (&outcome, direction) {
        state.failures.push((function.clone(), direction));
    }
}
