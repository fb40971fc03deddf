//! This node is the target of a move: it opens a pull, fetches the session,
//! installs it and settles with the source.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::calls::read;
use super::machine::seed;
use super::{Failure, Node, Outcome};
use crate::failpoint::reach;
use crate::metrics::Moving;
use crate::peers::messages::{MigrateCall, MoveReport, OpenAnswer, Phase};
use crate::peers::{PeerAnswer, PeerError};
use crate::protocol::{self, Event, Refusal};
use crate::session::{Epoch, Life, NodeName, Nonce, Page, Pull, Record, SessionId, SessionToken};
use crate::store::{Durability, Staged};
use crate::trace::{self, Span};

/// How often the source is told again at once; then the recovery loop goes on.
const SETTLE_TRIES: usize = 3;

/// Pages that turn out to be of different versions are asked for again, this often.
const BEGINNINGS: usize = 3;

/// The moments of a move, as its target sees them.
struct Moments {
    began: Instant,
    frozen: Option<Instant>,
    serving: Option<Instant>,
    bytes: u64,
    rounds: u32,
}

impl Node {
    /// Pulls the session that `token` names from where the token says it is.
    pub(super) async fn pull(&self, token: &SessionToken) -> Outcome<MoveReport> {
        let (session, from) = (token.session.log_hash(), &token.current_location);
        let (node, function, epoch) = (self.here(), &self.config.function, token.epoch + 1);
        let mut span = Span::internal("move");
        span.note("funicular.node", node);
        span.note("funicular.from", from);
        span.note("funicular.session", &session);
        span.note("funicular.epoch", epoch);
        let outcome = span.within(self.pull_once(token)).await;
        match &outcome {
            Ok(report) => {
                let MoveReport { bytes, took_ms, downtime_ms, rounds, .. } = *report;
                span.note("funicular.bytes", bytes);
                span.note("funicular.downtime_ms", downtime_ms);
                tracing::info!(
                    %node, %function, session, epoch, %from, bytes, took_ms, downtime_ms, rounds,
                    "the move is done"
                );
            }
            Err(failure) => {
                let reason = failure.reason();
                span.failed(failure);
                self.meters.move_failed(Moving::Here, reason);
                tracing::info!(
                    %node, %function, session, epoch, %from, reason, %failure,
                    "the move came to nothing"
                );
            }
        }
        outcome
    }

    async fn pull_once(&self, token: &SessionToken) -> Outcome<MoveReport> {
        let Some(incarnation) = token.incarnation else {
            return Err(Failure::BadCall("the token names no incarnation".to_owned()));
        };
        if token.current_location == *self.here() {
            return Err(Failure::BadCall("the session is here already".to_owned()));
        }
        let pull = Pull {
            life: Life { home: token.proprietary_location.clone(), incarnation },
            next_epoch: token.epoch + 1,
            from: token.current_location.clone(),
            nonce: Nonce(self.machine.random()),
        };
        self.admit(&pull.from)?;
        let _places = self.may_arrive(&pull.from).await?;
        // The wish may have come while this move waited for its place.
        if self.is_draining() {
            return Err(Failure::Draining);
        }
        let Some(_pulling) = self.local.pull(&token.session, pull.nonce) else {
            return Err(Failure::Refused(Refusal::MoveOpen));
        };
        let mut moments =
            Moments { began: Instant::now(), frozen: None, serving: None, bytes: 0, rounds: 0 };
        let session = &token.session;
        tracing::info!(
            node = %self.here(), function = %self.config.function, session = session.log_hash(),
            epoch = pull.next_epoch, from = %pull.from, "a move begins"
        );
        let before = self.leave_redirects_alone(session, &pull.life).await?;
        self.step(session, &Event::OpenPull(pull.clone()), Durability::Synced).await?;
        if let Err(failure) = self.fetch(session, &pull, &mut moments).await {
            self.give_up(session, &pull).await;
            return Err(failure);
        }
        // Requests that are here already mean the other session.
        let leaving = before.map(|before| self.predecessors.leaves(before));
        trace::step("install", self.install(session, &pull)).await?;
        drop(leaving);
        moments.serving = Some(Instant::now());
        self.lines.changed(session);
        let settling = self.settle(session, &pull.life, pull.next_epoch, &pull.from, SETTLE_TRIES);
        Span::internal("settle").within(settling).await;
        let node = self.clone();
        let told = session.clone();
        // Home learns it at once; should that fail, the recovery loop goes on.
        self.later(async move {
            Span::internal("tell home").within(node.tell_home_now(&told)).await;
        });
        Ok(self.report(session, &pull, &moments))
    }

    /// Refuses a session while requests for another one of its id may be on their way
    /// here: they carry no more than the id. It is for them, not for the protocol:
    /// a pointer that appears after this look is as good as none. Returns what the pointer
    /// says that is not needed any more.
    async fn leave_redirects_alone(
        &self,
        session: &SessionId,
        coming: &Life,
    ) -> Outcome<Option<SessionToken>> {
        let known = self.snapshot(session).await?;
        let fresh = u64::try_from(self.config.pointer_fresh.as_millis()).unwrap_or(u64::MAX);
        let Some(pointer @ Record::Moved { life, epoch, to, .. }) = &known.slot.record else {
            return Ok(None);
        };
        if life.home == coming.home {
            return Ok(None);
        }
        let needed = protocol::pointer_is_needed(&known.slot, known.now, coming, fresh)
            || self.home_may_lead_here(session, life, *epoch, to).await;
        match needed {
            true => Err(Failure::Refused(Refusal::OtherLife)),
            false => Ok(Some(self.token_of(session, pointer))),
        }
    }

    /// Opens the move at the source and brings all pages into the stage.
    async fn fetch(&self, session: &SessionId, pull: &Pull, moments: &mut Moments) -> Outcome<()> {
        reach("target.opened").await;
        let mut call =
            MigrateCall::of_pull(session.clone(), pull, self.here().clone(), Phase::Open);
        let opening = self.ask_source(pull, &call, self.config.peer_timeout);
        let answer = trace::step("open", opening).await?;
        let opened: OpenAnswer = read(&pull.from, &answer)?;
        let ours = self.function.schema();
        if opened.schema > ours {
            return Err(Failure::SchemaTooNew { theirs: opened.schema, ours });
        }
        self.has_room(opened.bytes)?;
        moments.bytes = opened.bytes;
        reach("target.agreed").await;
        if let Some(copy) = self.copy_ahead(session, pull, &opened).await? {
            moments.rounds = copy.rounds;
            call.since = Some(copy.since);
        }
        call.phase = Phase::Freeze;
        moments.frozen = Some(Instant::now());
        trace::step("freeze", self.fetch_frozen(session, pull, call, moments)).await
    }

    /// Freezes the session at its source and brings the pages that are left.
    async fn fetch_frozen(
        &self,
        session: &SessionId,
        pull: &Pull,
        mut call: MigrateCall,
        moments: &mut Moments,
    ) -> Outcome<()> {
        let mut anew = BEGINNINGS;
        loop {
            let timeout = self.config.peer_timeout + self.config.freeze_wait;
            let answer = match self.ask_source(pull, &call, timeout).await {
                // Its store was restarted: all pages anew, of what it has now.
                Err(error) if error.refusal() == Some(&Refusal::NoSuchCopy) && anew > 0 => {
                    anew -= 1;
                    (call.cursor, call.since) = (None, None);
                    continue;
                }
                answer => answer?,
            };
            let page = Page::decode(&answer.body)
                .map_err(|bad| super::calls::unreachable(&pull.from, bad.to_string()))?;
            reach("target.frozen").await;
            if let Some(totals) = &page.totals {
                moments.bytes = totals.bytes;
            }
            match self.page(self.store.stage(session, pull.nonce, &page)).await? {
                Staged::Complete => break,
                Staged::More if page.next.is_some() => call.cursor = page.next,
                Staged::Closed => return Err(Failure::Refused(Refusal::NoSuchMove)),
                // A copy that walked a session in the middle of a change of its store's
                // slots may have passed fields over: all pages anew, of what is frozen.
                Staged::Mismatch if call.since.is_some() => {
                    tracing::warn!(
                        node = %self.here(), function = %self.config.function,
                        session = session.log_hash(), epoch = pull.next_epoch, from = %pull.from,
                        "a copy does not add up to the session: it is brought again"
                    );
                    (call.cursor, call.since) = (None, None);
                }
                Staged::More | Staged::Mismatch => {
                    let why = "the pages do not add up to the session; the move was given up";
                    return Err(Failure::MoveFailed(why.to_owned()));
                }
            }
        }
        reach("target.staged").await;
        Ok(())
    }

    /// A call to the source, repeated while it cannot be reached: every phase may
    /// be asked again.
    async fn ask_source(
        &self,
        pull: &Pull,
        call: &MigrateCall,
        timeout: Duration,
    ) -> Result<PeerAnswer, PeerError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_times(4)
            .with_jitter()
            .with_jitter_seed(seed(&*self.machine));
        (|| self.post(&pull.from, "migrate-session", call, timeout))
            .retry(backoff)
            .when(PeerError::unreachable)
            .await
    }

    async fn install(&self, session: &SessionId, pull: &Pull) -> Outcome<()> {
        let event = Event::Install { pull: pull.clone() };
        let outcome = self.step(session, &event, Durability::Synced).await;
        // Whether or not the store said yes in time: it may be here.
        self.local.arrived(session, pull.next_epoch);
        outcome?;
        tracing::info!(
            node = %self.here(), function = %self.config.function, session = session.log_hash(),
            epoch = pull.next_epoch, from = %pull.from, "installed"
        );
        reach("target.installed").await;
        Ok(())
    }

    /// Closes a pull, so that nothing of it can install. If the store does not
    /// answer, the source's question or the recovery loop closes it.
    async fn give_up(&self, session: &SessionId, pull: &Pull) {
        let event = Event::ClosePull { nonce: pull.nonce };
        if let Err(failure) = self.step(session, &event, Durability::Synced).await {
            tracing::warn!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), epoch = pull.next_epoch, %failure,
                "a pull could not be closed yet"
            );
            return;
        }
        self.lines.changed(session);
        // The source need not ask: it may offer the session to the next one at once.
        let call = MigrateCall::of_pull(session.clone(), pull, self.here().clone(), Phase::Closed);
        if let Err(error) = self.migrate(&pull.from, &call).await {
            tracing::debug!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), epoch = pull.next_epoch, %error,
                "the source will ask"
            );
        }
    }

    /// Tells the source that the session is here, until it acknowledges; after a
    /// few tries the recovery loop goes on.
    pub(super) async fn settle(
        &self,
        session: &SessionId,
        life: &Life,
        epoch: Epoch,
        from: &NodeName,
        tries: usize,
    ) {
        // `done` names the epoch; which attempt it was does not matter any more.
        let nonce = Nonce(0);
        let pull = Pull { life: life.clone(), next_epoch: epoch, from: from.clone(), nonce };
        let call = MigrateCall::of_pull(session.clone(), &pull, self.here().clone(), Phase::Done);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(10))
            .with_max_times(tries)
            .with_jitter()
            .with_jitter_seed(seed(&*self.machine));
        let acknowledged =
            (|| self.migrate(from, &call)).retry(backoff).when(PeerError::unreachable).await;
        let outcome = match acknowledged {
            Ok(_) => {
                reach("target.done").await;
                let event = Event::Settled { epoch };
                self.step(session, &event, Durability::Synced).await.map(drop)
            }
            Err(error) => match error.refusal() {
                Some(Refusal::Superseded { epoch: by_epoch }) => {
                    self.superseded(session, epoch, *by_epoch, from).await
                }
                _ => {
                    tracing::debug!(
                        node = %self.here(), function = %self.config.function,
                        session = session.log_hash(), epoch, %error, "not settled yet"
                    );
                    return;
                }
            },
        };
        match outcome {
            Ok(()) => self.local.settled(session),
            Err(failure) => tracing::debug!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), epoch, %failure, "not settled yet"
            ),
        }
        self.lines.changed(session);
        reach("target.settled").await;
    }

    /// `by` says that the session went on without this node, under an epoch newer
    /// than the one that this node owns it under.
    pub(super) async fn superseded(
        &self,
        session: &SessionId,
        epoch: Epoch,
        by_epoch: Epoch,
        by: &NodeName,
    ) -> Outcome<()> {
        tracing::warn!(
            node = %self.here(), function = %self.config.function, session = session.log_hash(),
            epoch, by_epoch, %by,
            "the session went on without this node; its data is kept in lost+found"
        );
        let event = Event::Superseded { epoch, by_epoch, to: by.clone() };
        self.step(session, &event, Durability::Synced).await?;
        self.lines.changed(session);
        Ok(())
    }

    fn report(&self, session: &SessionId, pull: &Pull, moments: &Moments) -> MoveReport {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let downtime = match (moments.frozen, moments.serving) {
            (Some(frozen), Some(serving)) => serving - frozen,
            _ => Duration::ZERO,
        };
        let report = MoveReport {
            token: self.token(session, &pull.life, pull.next_epoch, self.here()),
            accepted_by: self.here().clone(),
            bytes: moments.bytes,
            took_ms: ms(moments.began.elapsed()),
            downtime_ms: ms(downtime),
            rounds: moments.rounds,
        };
        self.meters.moved(&pull.from, &report);
        self.activity.arrived(session);
        self.arrivals.note(&pull.from, &report);
        report
    }

    /// Whether another session of this size may come.
    pub(super) fn has_room(&self, bytes: u64) -> Outcome<()> {
        let resident = self.resident.load(std::sync::atomic::Ordering::Relaxed);
        if resident >= self.config.max_sessions || bytes > self.config.max_session_bytes {
            return Err(Failure::NoRoom);
        }
        Ok(())
    }
}
