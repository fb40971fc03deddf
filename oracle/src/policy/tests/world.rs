//! A node with sessions that load it, and a node above it, in virtual time.

use std::collections::{BTreeMap, VecDeque};

use funicular::peers::messages::OffloadStatus;
use funicular::session::{FunctionName, Millis, NodeName, SessionId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::duration::Span;
use crate::policy::decision::{Action, Decision, Verdict};
use crate::policy::settings::{PolicySettings, RelievedBy, Rule};
use crate::policy::view::{FunctionView, Functions, SessionView};
use crate::policy::{Input, Memory, decide};
use crate::signals::{Board, Combine, Sample, SignalName, Smoothing};

pub(super) const TICK: Millis = 1_000;

/// One session of the world.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) rate: f64,
    pub(super) bytes: u64,
    pub(super) here: bool,
    moved: Option<Millis>,
}

/// A move that was made: when, which session, whether up, how many bytes.
pub(super) type Move = (Millis, SessionId, bool, u64);

pub(super) struct World {
    pub(super) now: Millis,
    pub(super) settings: PolicySettings,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) status: OffloadStatus,
    /// Load that no session brings.
    pub(super) base: f64,
    pub(super) noise: f64,
    /// The signal tells the most of so many ticks.
    pub(super) window: usize,
    /// Whether the policy is told how many requests each session gets.
    pub(super) tells_rates: bool,
    /// Whether sessions are listed to the policy only once it has asked for them.
    pub(super) lists_on_demand: bool,
    /// Whether the source of the signal speaks.
    pub(super) speaks: bool,
    pub(super) moves: Vec<Move>,
    pub(super) decisions: Vec<Decision>,
    pub(super) verdict: Option<Verdict>,
    last: VecDeque<f64>,
    board: Board,
    memory: Memory,
    chance: StdRng,
}

pub(super) fn cart() -> FunctionName {
    FunctionName::new("cart").unwrap()
}

pub(super) fn cpu() -> SignalName {
    SignalName::new("cpu").unwrap()
}

pub(super) fn id(index: usize) -> SessionId {
    SessionId::new(format!("s{index:04}")).unwrap()
}

pub(super) fn rule() -> Rule {
    Rule {
        name: "cpu".to_owned(),
        signals: vec![cpu()],
        combine: Combine::Worst,
        high: 0.8,
        low: 0.6,
        onload: 0.4,
        relieved_by: RelievedBy::Requests,
    }
}

pub(super) fn settings() -> PolicySettings {
    PolicySettings {
        rules: vec![rule()],
        cooldown: Span::secs(20),
        dwell: Span::secs(60),
        interval: Span::secs(10),
        moves: 4,
        bytes: 1_000_000,
        ..PolicySettings::default()
    }
}

impl World {
    /// Sessions by their rate (a share of the node's capacity) and bytes.
    pub(super) fn new(settings: PolicySettings, sessions: &[(f64, u64)]) -> Self {
        settings.check().unwrap();
        let sessions = sessions.iter().enumerate().map(|(index, (rate, bytes))| {
            (id(index), Session { rate: *rate, bytes: *bytes, here: true, moved: None })
        });
        Self {
            now: 0,
            settings,
            sessions: sessions.collect(),
            status: OffloadStatus::Accept,
            base: 0.0,
            noise: 0.0,
            window: 1,
            last: VecDeque::new(),
            tells_rates: true,
            lists_on_demand: false,
            speaks: true,
            moves: Vec::new(),
            decisions: Vec::new(),
            verdict: None,
            board: Board::new(Smoothing { time_constant: 5_000, stale_after: 15_000 }),
            memory: Memory::new(0),
            chance: StdRng::seed_from_u64(7),
        }
    }

    pub(super) fn load(&self) -> f64 {
        let here = self.sessions.values().filter(|session| session.here);
        self.base + here.map(|session| session.rate).sum::<f64>()
    }

    pub(super) fn here(&self) -> usize {
        self.sessions.values().filter(|session| session.here).count()
    }

    fn view(&self) -> FunctionView {
        let of = |(id, session): (&SessionId, &Session)| SessionView {
            session: id.clone(),
            at: (!session.here).then(|| NodeName::new("milan").unwrap()),
            bytes: session.bytes,
            rate: self.tells_rates.then_some(session.rate),
            idle: 0,
            arrived: session.moved.map(|at| self.now - at),
            pinned: self.settings.pins(&cart(), id.as_str()),
        };
        let (here, away): (Vec<_>, Vec<_>) =
            self.sessions.iter().partition(|(_, session)| session.here);
        let sessions = here.len() as u64;
        let wanted = |wants: fn(&Verdict) -> bool| {
            let listed = !self.lists_on_demand || self.verdict.as_ref().is_some_and(wants);
            if listed { usize::MAX } else { 0 }
        };
        let (listed, listed_away) =
            (wanted(|verdict| verdict.wants_here), wanted(|verdict| verdict.wants_away));
        FunctionView {
            status: self.status,
            above: true,
            held: None,
            priority: 0,
            sessions,
            rate: None,
            here: here.into_iter().take(listed).map(of).collect(),
            away: away.into_iter().take(listed_away).map(of).collect(),
        }
    }

    /// One tick of the oracle, and what it does takes effect.
    pub(super) fn tick(&mut self) {
        self.now += TICK;
        if self.speaks {
            let noise = self.noise * (self.chance.random::<f64>() * 2.0 - 1.0);
            self.last.push_front((self.load() + noise).max(0.0));
            self.last.truncate(self.window);
            let told = self.last.iter().copied().fold(0.0, f64::max);
            let signal = &self.settings.rules[0].signals[0];
            self.board.take(self.now, &[Sample::of_node(signal, told)]);
        }
        let functions: Functions = [(cart(), self.view())].into();
        let input = Input {
            now: self.now,
            board: &self.board,
            functions: &functions,
            settings: &self.settings,
            seed: 11,
        };
        let memory = std::mem::replace(&mut self.memory, Memory::new(0));
        let (outcome, memory) = decide(&input, memory);
        self.memory = memory;
        self.verdict = outcome.verdicts.into_iter().next();
        for decision in outcome.decisions {
            let up = match &decision.action {
                Action::SetStatus { status } => {
                    self.status = *status;
                    None
                }
                Action::Offload { session, .. } => Some((session.clone(), true)),
                Action::Onload { session, .. } => Some((session.clone(), false)),
            };
            if let Some((id, up)) = up {
                let session = self.sessions.get_mut(&id).expect("a session that there is");
                assert_eq!(session.here, up, "it moves from where it is");
                session.here = !up;
                session.moved = Some(self.now);
                self.moves.push((self.now, id, up, session.bytes));
            }
            self.decisions.push(decision);
        }
    }

    pub(super) fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    pub(super) fn statuses(&self) -> usize {
        let set = |decision: &&Decision| matches!(decision.action, Action::SetStatus { .. });
        self.decisions.iter().filter(set).count()
    }
}
