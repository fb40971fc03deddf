//! What a request needs to run: its session's turn in this process if it writes, and a seat
//! if it is a client's. It does not keep the one while it waits for the other, so nobody waits
//! in a circle: a call of a handler that has a seat never stands behind somebody who waits
//! for one. Nor does it keep its seat while its session is busy (ADR 32).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::enter::{Entered, Entering};
use super::invoke::Call;
use super::lines::{First, NoTurn, Place as Line, Turn};
use super::seats::{Seat, Ticket};
use super::{Failure, Node, Outcome};
use crate::protocol::Access;
use crate::session::{Record, SessionId};
use crate::store::StoreError;

/// Whoever waits for a seat looks at its session no more often than this, and keeps the seat
/// no longer than this while its session's turn is another one's.
const AT_LEAST: Duration = Duration::from_millis(50);
/// It looks as often as this though it hears of no change: a replica may have made one.
const AT_MOST: Duration = Duration::from_millis(250);

/// What a request has of what it needs.
#[derive(Debug)]
pub(super) struct Claim {
    access: Access,
    /// `None`: it needs no seat.
    ticket: Option<Ticket>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// The first of its session's clients: only one of them waits for a seat.
    first: Option<First>,
    turn: Option<Turn>,
    seat: Option<Seat>,
    waited: Duration,
}

impl Claim {
    /// A request that needs no seat, as another function's does: whoever calls has one, and
    /// waits for it.
    pub(super) fn without_seat(access: Access) -> Self {
        Self { access, ticket: None, held: Mutex::default() }
    }

    /// Whether it needs a seat at all.
    pub(super) fn needs_seat(&self) -> bool {
        self.ticket.is_some()
    }

    /// Whether it still needs one.
    pub(super) fn lacks_seat(&self) -> bool {
        self.needs_seat() && self.held.lock().seat.is_none()
    }

    /// It does not run, now: somebody else may.
    pub(super) fn give_back(&self) {
        let seat = self.held.lock().seat.take();
        drop(seat);
    }

    /// Mostly it needs no seat and nobody is before it: then it does not wait.
    fn takes_turn_at_once(&self, line: &Line) -> bool {
        if self.needs_seat() || self.access == Access::Read {
            return false;
        }
        let mut held = self.held.lock();
        if held.turn.is_none() {
            held.turn = line.turn_at_once();
        }
        held.turn.is_some()
    }

    /// How long it stood in line.
    pub(super) fn waited(&self) -> Duration {
        self.held.lock().waited
    }
}

impl Node {
    /// What a call needs.
    pub(super) fn claim(&self, call: &Call, access: Access) -> Claim {
        let ticket = if call.from_peer { None } else { self.seats.ticket() };
        Claim { ticket, ..Claim::without_seat(access) }
    }

    /// Whether a request may run that could: it has a seat, or one is free.
    pub(super) fn admits(&self, claim: &Claim, entered: &Entered) -> bool {
        let runs = matches!(entered, Entered::Run { .. });
        !runs || !claim.lacks_seat() || self.sits_down(claim)
    }

    fn sits_down(&self, claim: &Claim) -> bool {
        let seat = self.seats.try_take();
        let got = seat.is_some();
        claim.held.lock().seat = seat;
        got
    }

    /// Waits for what a request lacks. It has no seat afterwards if it needs none: its
    /// session is elsewhere.
    pub(super) async fn stand(&self, claim: &Claim, line: &Line, until: Instant) -> Outcome<()> {
        if claim.takes_turn_at_once(line) {
            return Ok(());
        }
        let began = Instant::now();
        let outcome = self.stand_in_line(claim, line, until).await;
        claim.held.lock().waited += began.elapsed();
        outcome
    }

    /// A request could run and has no seat: what it found may be elsewhere by the time that
    /// it has one.
    pub(super) async fn wait_for_seat(
        &self,
        entering: &Entering<'_>,
        line: &Line,
        entered: &Entered,
    ) -> Outcome<()> {
        if let Entered::Run { lease, .. } = entered
            && entering.access == Access::Write
        {
            self.release(entering.session, *lease).await;
        }
        if Instant::now() >= entering.until {
            return Err(self.still_busy());
        }
        self.stand(entering.claim, line, entering.until).await
    }

    async fn stand_in_line(&self, claim: &Claim, line: &Line, until: Instant) -> Outcome<()> {
        let Some(ticket) = claim.ticket else {
            return self.take_turn(claim, line, self.config.max_waiting, until).await;
        };
        let first = claim.access == Access::Read || claim.held.lock().first.is_some();
        if !first {
            let first = line.first(self.config.max_waiting, until).await;
            claim.held.lock().first = Some(first.map_err(|none| self.no_turn(&none))?);
        }
        let mut patience = AT_LEAST;
        loop {
            self.take_turn(claim, line, usize::MAX, until).await?;
            if !claim.lacks_seat() || self.sits_down(claim) {
                return Ok(());
            }
            let turn = claim.held.lock().turn.take();
            drop(turn);
            let seat = self.seat(ticket, line, until).await?;
            let led_away = seat.is_none();
            claim.held.lock().seat = seat;
            let now = Instant::now();
            let soon = if led_away { until } else { until.min(now + patience) };
            match self.take_turn(claim, line, usize::MAX, soon).await {
                Err(_) if soon < until => claim.give_back(),
                outcome => return outcome,
            }
            // Longer each time, so that it is its turn some day.
            patience *= 2;
        }
    }

    async fn take_turn(
        &self,
        claim: &Claim,
        line: &Line,
        most: usize,
        until: Instant,
    ) -> Outcome<()> {
        if claim.access == Access::Read || claim.held.lock().turn.is_some() {
            return Ok(());
        }
        let turn = line.turn(most, until).await.map_err(|none| self.no_turn(&none))?;
        claim.held.lock().turn = Some(turn);
        Ok(())
    }

    fn no_turn(&self, none: &NoTurn) -> Failure {
        match none {
            NoTurn::Full => Failure::LineFull,
            NoTurn::Late => self.still_busy(),
        }
    }

    /// Waits for a seat; `None`: the session is elsewhere.
    async fn seat(&self, ticket: Ticket, line: &Line, until: Instant) -> Outcome<Option<Seat>> {
        let Some(mut waiting) = self.seats.wait(ticket) else { return Ok(None) };
        loop {
            let changed = line.changed();
            let began = Instant::now();
            let late = began >= until;
            let look = async {
                let gone = self.has_gone(line.session()).await;
                if !gone && !late {
                    let _ = timeout_at(until.min(began + AT_MOST), changed).await;
                    sleep_until(until.min(began + AT_LEAST)).await;
                }
                gone
            };
            tokio::select! {
                biased;
                Some(seat) = waiting.seat() => return Ok(Some(seat)),
                gone = look => match gone {
                    true => return Ok(None),
                    // Late, it has looked once more.
                    false if late => return Err(self.still_busy()),
                    false => {}
                }
            }
        }
    }

    /// Whether a session is known to be at another node.
    async fn has_gone(&self, session: &SessionId) -> bool {
        match self.store.snapshot(session).await {
            Ok(known) => matches!(known.slot.record, Some(Record::Moved { .. })),
            Err(error) => {
                if matches!(error, StoreError::Restarted) {
                    self.store_restarted();
                }
                false
            }
        }
    }
}
