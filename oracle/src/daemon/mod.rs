//! The oracle at work: sources are asked, each on its own; every tick the policy decides on
//! what they said; what it decides is done on the side. Nothing that hangs holds up a tick.
//!
//! - `gather`: sources, each asked at its own pace
//! - `act`: what was decided is done · `lines`: a few of each function at once
//! - `record`: what is seen is written down
//! - `told`: what the oracle tells of itself
//! - `http`: to whom

mod act;
mod gather;
mod http;
mod lines;
mod record;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use funicular::session::{FunctionName, Millis, NodeName};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use gather::Paced;
pub use told::{Explanation, Mode, Recorded, SignalTold, SourceTold};

use crate::actions::Actions;
use crate::lease::Lease;
use crate::metrics;
use crate::policy::decision::{Decision, Verdict};
use crate::policy::view::Functions;
use crate::policy::{Input, Memory, Outcome, decide};
use crate::settings::FileSettings;
use crate::signals::{Board, Sample};
use crate::sources::status::{Status, Wants};
use crate::trace::{self, Head};
use lines::Limits;
use record::Recorder;
use told::Told;

/// So many decisions of a function may wait; a budget is far below that.
const WAITING: usize = 4096;
/// How long what is under way may take when the oracle ends.
const ENDING: Duration = Duration::from_secs(5);

/// What an oracle is made of.
pub struct Parts {
    /// The node it watches.
    pub here: NodeName,
    /// Where signals come from, `status` among them.
    pub sources: Vec<Paced>,
    /// The functions, which say which sessions there are.
    pub status: Arc<Status>,
    /// How it acts.
    pub actions: Actions,
    /// Whether it may act.
    pub lease: Lease,
    /// Its settings.
    pub file: FileSettings,
    /// Decides without acting.
    pub observe: bool,
    /// Where to write what is seen.
    pub record: Option<PathBuf>,
}

/// A running oracle. Cheap to clone.
#[derive(Clone)]
pub struct Oracle {
    told: Arc<Mutex<Told>>,
}

impl Oracle {
    /// Starts one; it ends with `stop`, and then what is returned does.
    pub fn start(parts: Parts, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let told = Arc::new(Mutex::new(Told::new(parts.here.clone())));
        let oracle = Self { told: Arc::clone(&told) };
        (oracle, tokio::spawn(run(parts, told, stop)))
    }

    /// What it knows and what it decided of late.
    pub fn explain(&self) -> Explanation {
        self.told.lock().explanation()
    }

    /// `GET /decisions`, `/explain` and `/healthz`.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone())
    }
}

async fn run(parts: Parts, told: Arc<Mutex<Told>>, stop: CancellationToken) {
    let (samples, said) = mpsc::channel(1024);
    let gathering = gather::start(&parts.sources, &samples);
    let keeping = tokio::spawn(keep(parts.lease.clone(), parts.file.actions.lease.0 / 3));
    let limits = Limits {
        at_once: parts.file.actions.at_once,
        waiting: WAITING,
        patience: parts.file.signals.stale_after.0,
    };
    let seed = rand::random();
    let recorder =
        parts.record.as_deref().and_then(|path| Recorder::start(path, &head(&parts, seed)));
    let acting = act::Acting::start(parts.actions, limits, Arc::clone(&told));
    let mut ticking = Ticking {
        began: Instant::now(),
        board: Board::new(parts.file.signals.into()),
        memory: Memory::new(0),
        seed,
        mode: Mode::StandingBy,
        here: parts.here,
        status: parts.status,
        lease: parts.lease.clone(),
        file: parts.file,
        observe: parts.observe,
        told,
        said,
        acting,
        recorder,
    };
    let mut clock = tokio::time::interval(ticking.file.tick.0);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = clock.tick() => ticking.tick(),
        }
    }
    gathering.abort_all();
    keeping.abort();
    ticking.acting.end(ENDING).await;
    parts.lease.release().await;
    if let Some(recorder) = ticking.recorder {
        recorder.end(ENDING).await;
    }
}

/// What a trace of this oracle begins with.
fn head(parts: &Parts, seed: u64) -> Head {
    Head {
        trace: trace::VERSION,
        node: parts.here.clone(),
        smoothing: parts.file.signals.into(),
        policy: parts.file.policy.clone(),
        seed,
    }
}

/// Keeps the right to act, or waits for it.
async fn keep(lease: Lease, every: Duration) {
    let mut complained = false;
    loop {
        match lease.hold().await {
            Ok(_) => complained = false,
            Err(error) if !complained => {
                tracing::warn!(%error, "the node's Redis does not say who may act");
                complained = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(every).await;
    }
}

/// Everything that a tick needs.
struct Ticking {
    began: Instant,
    board: Board,
    memory: Memory,
    seed: u64,
    mode: Mode,
    here: NodeName,
    status: Arc<Status>,
    lease: Lease,
    file: FileSettings,
    observe: bool,
    told: Arc<Mutex<Told>>,
    said: mpsc::Receiver<gather::Said>,
    acting: act::Acting,
    recorder: Option<Recorder>,
}

impl Ticking {
    fn tick(&mut self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let samples = self.listen(now);
        for (function, direction) in self.acting.failures() {
            self.memory.failed(now, &function, direction, &self.file.policy);
        }
        let functions = self.functions();
        self.change_mode(now);
        if let Some(recorder) = &mut self.recorder {
            recorder.write(now, samples, &functions);
        }
        let outcome = match self.mode {
            Mode::StandingBy => Outcome::default(),
            Mode::Acting | Mode::Observing => self.decide(now, &functions),
        };
        self.status.want(wants(&outcome));
        self.stand(&outcome.verdicts);
        for decision in &outcome.decisions {
            self.decided(decision);
        }
        let mut told = self.told.lock();
        told.signals(now, &self.board);
        told.verdicts = outcome.verdicts;
    }

    /// Counts how functions stand; one that is not judged any more stands nowhere.
    fn stand(&self, verdicts: &[Verdict]) {
        for before in &self.told.lock().verdicts {
            if verdicts.iter().all(|verdict| verdict.function != before.function) {
                metrics::stands(&self.here, &before.function, None);
            }
        }
        for verdict in verdicts {
            metrics::stands(&self.here, &verdict.function, Some(verdict.phase));
        }
    }

    /// Takes what sources have said since the last tick.
    fn listen(&mut self, now: Millis) -> Vec<Sample> {
        let mut all = Vec::new();
        while let Ok(said) = self.said.try_recv() {
            self.told.lock().heard(&said);
            metrics::speaks(&self.here, said.source, said.what.is_ok());
            match said.what {
                Ok(samples) => all.extend(samples),
                Err(_) => metrics::silent(&self.here, said.source),
            }
        }
        self.board.take(now, &all);
        self.board.forget_old(now);
        for (function, signal, known, fresh) in self.board.all(now) {
            metrics::signal(&self.here, function, signal, fresh.then_some(known.value));
        }
        all
    }

    /// The functions that answer; what is under way for them is waited for.
    fn functions(&self) -> Functions {
        let mut functions = self.status.functions(self.file.signals.stale_after.0);
        for (function, count) in self.acting.under_way() {
            if let Some(view) = functions.get_mut(&function)
                && view.held.is_none()
            {
                view.held = Some(format!("{count} actions are still under way"));
            }
        }
        functions
    }

    fn change_mode(&mut self, now: Millis) {
        let mode = match self.observe {
            true => Mode::Observing,
            false if self.lease.is_held() => Mode::Acting,
            false => Mode::StandingBy,
        };
        if mode != self.mode {
            tracing::info!(node = %self.here, %mode, "the oracle's part");
            // Whatever another one did meanwhile: a cooldown first.
            self.memory = Memory::new(now);
            self.mode = mode;
        }
        self.told.lock().mode = mode;
        metrics::acting(&self.here, mode == Mode::Acting);
    }

    fn decide(&mut self, now: Millis, functions: &Functions) -> Outcome {
        let input = Input {
            now,
            board: &self.board,
            functions,
            settings: &self.file.policy,
            seed: self.seed,
        };
        let memory = std::mem::replace(&mut self.memory, Memory::new(now));
        let (outcome, memory) = decide(&input, memory);
        self.memory = memory;
        outcome
    }

    /// Writes a decision down, and has it done unless this oracle only observes.
    fn decided(&mut self, decision: &Decision) {
        let session = decision.action.moves().map(|(session, _)| session.log_hash());
        tracing::info!(
            node = %self.here,
            function = %decision.function,
            action = decision.action.name(),
            session = session.unwrap_or_default(),
            rule = decision.rule,
            why = decision.why,
            signals = serde_json::to_string(&decision.readings).unwrap_or_default(),
            alternatives = serde_json::to_string(&decision.alternatives).unwrap_or_default(),
            mode = %self.mode,
            "decided"
        );
        metrics::decided(&self.here, decision);
        let id = self.told.lock().record(decision, self.mode);
        if self.mode == Mode::Acting {
            self.acting.perform(id, decision.clone());
        }
    }
}

fn wants(outcome: &Outcome) -> BTreeMap<FunctionName, Wants> {
    let one = |verdict: &Verdict| {
        let wants = Wants { here: verdict.wants_here, away: verdict.wants_away };
        (verdict.function.clone(), wants)
    };
    outcome.verdicts.iter().map(one).collect()
}
