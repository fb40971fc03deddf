//! Into the session: run, replay, redirect, or wait.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use super::claim::Claim;
use super::lines::Place as Line;
use super::locate::Hint;
use super::{Failure, Node, Outcome};
use crate::protocol::{self, Access, Begin, BeginAsk, Busy};
use crate::session::{
    Epoch, Incarnation, LeaseId, Life, Millis, NodeName, Record, RequestId, SessionId,
    SessionToken, WindowEntry,
};
use crate::store::{BeginRequest, Begun, Session, StoreError};

/// Where a session that is not there may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creates {
    /// At entry nodes, for clients.
    AtEntry,
    /// Anywhere: a propagated value was sent to this very node.
    Anywhere,
}

/// The session of another home that a request found here first, and where it was: the
/// request keeps to it, for another one of its id may come while it waits (ADR 28).
#[derive(Debug)]
pub(super) struct Met {
    /// When the request came to this node.
    came: Instant,
    first: OnceLock<SessionToken>,
}

impl Met {
    /// A request that came at `came` has found nothing yet.
    pub(super) fn new(came: Instant) -> Self {
        Self { came, first: OnceLock::new() }
    }

    /// A session was found at `here`; the first one counts. What has its home here stays
    /// known here, for as long as there is any.
    pub(super) fn note(&self, token: SessionToken, here: &NodeName) {
        if token.proprietary_location != *here {
            let _ = self.first.set(token);
        }
    }
}

/// A request in front of its session.
pub(super) struct Entering<'a> {
    pub session: &'a SessionId,
    pub access: Access,
    pub request: Option<&'a RequestId>,
    pub token: Option<&'a SessionToken>,
    pub creates: Creates,
    pub met: &'a Met,
    pub claim: &'a Claim,
    pub until: Instant,
}

/// What becomes of it.
pub(super) enum Entered {
    Run { session: Session, lease: LeaseId },
    Replay { entry: WindowEntry, token: SessionToken },
    Redirect { to: NodeName, token: Option<SessionToken> },
}

/// What a turn of the loop learned for the next.
#[derive(Default)]
struct Learned {
    /// The source of the arrival under this epoch is quiet.
    quiet: Option<Epoch>,
    /// A token's hint was followed, and led to creating here.
    create: bool,
    /// The token names a session that there is no more.
    void: bool,
    /// Home does not know more than the pointer here, or does not answer.
    asked_home: bool,
}

impl Node {
    /// Waits for the session, as long as the request may.
    pub(super) async fn enter(&self, entering: &Entering<'_>, line: &Line) -> Outcome<Entered> {
        self.enter_with(entering, line, self.learned(entering)).await
    }

    async fn enter_with(
        &self,
        entering: &Entering<'_>,
        line: &Line,
        mut learned: Learned,
    ) -> Outcome<Entered> {
        let mut pause = Duration::from_millis(1);
        loop {
            let changed = line.changed();
            let failure = match self.attempt(entering, &mut learned).await? {
                Ok(entered) if self.admits(entering.claim, &entered) => return Ok(entered),
                Ok(entered) => {
                    self.wait_for_seat(entering, line, &entered).await?;
                    continue;
                }
                Err(failure) => failure,
            };
            entering.claim.give_back();
            let left = entering.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failure);
            }
            let _ = tokio::time::timeout(pause.min(left), changed).await;
            pause = (pause * 2).min(Duration::from_millis(25));
            if entering.access == Access::Write {
                self.stand(entering.claim, line, entering.until).await?;
            }
        }
    }

    /// The same for a request that as a rule need not wait: it stands in no line until it
    /// has to.
    pub(super) async fn enter_at_once(&self, entering: &Entering<'_>) -> Outcome<Entered> {
        let mut learned = self.learned(entering);
        let entered = match self.attempt(entering, &mut learned).await? {
            Ok(entered) if self.admits(entering.claim, &entered) => return Ok(entered),
            entered => entered,
        };
        let line = self.lines.stand(entering.session);
        Box::pin(async {
            match &entered {
                Ok(entered) => self.wait_for_seat(entering, &line, entered).await?,
                Err(_) => entering.claim.give_back(),
            }
            self.enter_with(entering, &line, learned).await
        })
        .await
    }

    fn learned(&self, entering: &Entering<'_>) -> Learned {
        // It may have ended while the request stood in line.
        self.note_predecessor(entering);
        let create = entering.met.first.get().is_none() && self.creates_at_once(entering);
        Learned { create, ..Learned::default() }
    }

    /// One try; the inner error is why it has to be made again.
    async fn attempt(
        &self,
        entering: &Entering<'_>,
        learned: &mut Learned,
    ) -> Outcome<Result<Entered, Failure>> {
        let request = self.begin_request(entering, learned);
        match self.store.begin(entering.session, &request).await {
            // The store answered late: the frozen session's last reads are over.
            Ok(Begun::Run(_))
                if request.ask.frozen_reads && !self.reads_go_on(entering.session) =>
            {
                Ok(Err(self.still_busy()))
            }
            Ok(Begun::Run(session)) => {
                let lease = request.ask.lease;
                self.note_predecessor(entering);
                let Some(token) = self.means_another(entering, learned, &session.life) else {
                    self.created(&session);
                    return Ok(Ok(Entered::Run { session, lease }));
                };
                if entering.access == Access::Write {
                    self.release(entering.session, lease).await;
                }
                entering.claim.give_back();
                let entered = Box::pin(self.find_another(token, &session.life, learned)).await?;
                Ok(entered.ok_or_else(|| self.still_busy()))
            }
            Ok(Begun::Replay { entry, life, epoch }) => {
                let token = self.token(entering.session, &life, epoch, self.here());
                Ok(Ok(Entered::Replay { entry, token }))
            }
            Ok(Begun::Other { slot, now }) => {
                // Other nodes may have to be asked: nobody waits for a seat meanwhile.
                entering.claim.give_back();
                self.note_predecessor(entering);
                if let Some(record) = &slot.record {
                    entering.met.note(self.token_of(entering.session, record), self.here());
                    learned.create &= entering.met.first.get().is_none();
                }
                let (_, outcome) = protocol::begin(&slot, self.here(), now, &request.ask);
                let epoch = slot.record.as_ref().map_or(0, Record::epoch);
                let entered = Box::pin(self.not_now(entering, learned, outcome, epoch, now));
                Ok(entered.await?.ok_or_else(|| self.still_busy()))
            }
            Err(StoreError::Restarted) if self.is_restoring() => Err(Failure::Restoring),
            Err(StoreError::Restarted) => {
                self.store_restarted();
                Ok(Err(StoreError::Restarted.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn reads_go_on(&self, session: &SessionId) -> bool {
        self.local.reads_go_on(session, self.config.leaving_reads)
    }

    fn begin_request(&self, entering: &Entering<'_>, learned: &Learned) -> BeginRequest {
        let frozen_reads = entering.access == Access::Read && self.reads_go_on(entering.session);
        BeginRequest {
            ask: BeginAsk {
                access: entering.access,
                create: learned.create.then(|| Incarnation(self.machine.random())),
                lease: LeaseId(self.machine.random()),
                lease_ttl: u64::try_from(self.config.lease_ttl.as_millis()).unwrap_or(u64::MAX),
                frozen_reads,
                unsettled_writes: learned.quiet,
            },
            request: entering.request.cloned(),
            inline_max: self.config.inline_max,
        }
    }

    /// Neither run nor replay: where to send the request, or `None` to wait.
    async fn not_now(
        &self,
        entering: &Entering<'_>,
        learned: &mut Learned,
        outcome: Begin,
        epoch: Epoch,
        now: Millis,
    ) -> Outcome<Option<Entered>> {
        // A pointer of another home's session leads away from the one that is meant.
        let other = match &outcome {
            Begin::Redirect { life, .. } | Begin::Expired { life, .. } => {
                self.means_another(entering, learned, life).map(|token| (token, life))
            }
            _ => None,
        };
        if let Some((token, life)) = other {
            return self.find_another(token, life, learned).await;
        }
        match outcome {
            // It became free in between.
            Begin::Run { .. } => Ok(None),
            Begin::Busy(Busy::Unsettled) => {
                let quiet =
                    self.local.source_is_quiet(entering.session, epoch, self.config.leaving_reads);
                learned.quiet = quiet.then_some(epoch);
                Ok(None)
            }
            Begin::Busy(_) => Ok(None),
            Begin::Redirect { life, epoch, to, since } => {
                let age = now.saturating_sub(since);
                let to = match learned.asked_home {
                    true => Some(to),
                    false => self.resolve_pointer(entering.session, &life, epoch, &to, age).await,
                };
                // Asking may have taken long: the pointer is read again.
                let Some(to) = to else {
                    learned.asked_home = true;
                    return Ok(None);
                };
                self.redirect(entering.session, &life, epoch, to).map(Some)
            }
            Begin::Expired { life, epoch } => {
                // Once home has acknowledged, home is where it begins anew.
                match self.tell_home(entering.session).await {
                    Ok(()) => {
                        let home = life.home.clone();
                        self.redirect(entering.session, &life, epoch, home).map(Some)
                    }
                    Err(_) => Ok(None),
                }
            }
            Begin::Unknown => self.unknown(entering, learned).await,
        }
    }

    fn redirect(
        &self,
        session: &SessionId,
        life: &Life,
        epoch: Epoch,
        to: NodeName,
    ) -> Outcome<Entered> {
        // G8: a redirect only ever names a node of the topology, nor a lost one.
        if self.topology().node(&to).is_none() || self.is_barred(&to) {
            return Err(Failure::MoveFailed(format!(
                "the session is at {to}, which this node does not reach any more; \
                 an operator has to bring {to} back or restore the session"
            )));
        }
        let token = self.token(session, life, epoch, &to);
        Ok(Entered::Redirect { to, token: Some(token) })
    }

    /// Nothing is known here: a token may help, an entry node may create.
    async fn unknown(
        &self,
        entering: &Entering<'_>,
        learned: &mut Learned,
    ) -> Outcome<Option<Entered>> {
        // Its home may have sent the request here before it heard that the session has
        // ended, and begins it anew.
        if !self.may_create(entering)
            && let Some(ended) = self.predecessors.last(entering.session)
        {
            entering.met.note(ended, self.here());
        }
        if let Some(token) = self.elsewhere(entering).or_else(|| self.met(entering)) {
            let to = match self.follow_hint(token).await {
                Hint::At(place) => place,
                Hint::Home(home) if home == *self.here() => {
                    return self.allow_creation(entering, learned).map(|()| None);
                }
                Hint::Home(home) => self.creating(home)?,
                // It is not: it is on its way, or home has not heard yet. Sending
                // the client there would send it back here.
                Hint::Here => return Ok(None),
                Hint::Nobody => return Err(self.still_busy()),
            };
            return Ok(Some(Entered::Redirect { to, token: None }));
        }
        self.allow_creation(entering, learned).map(|()| None)
    }

    /// A home that may create what it does not know.
    fn creating(&self, home: NodeName) -> Outcome<NodeName> {
        match self.topology().node(&home).is_some_and(|node| node.entry) {
            true => Ok(home),
            false => Err(self.unknown_session()),
        }
    }

    /// The session that the request means, if its home is another than the one that is here,
    /// or was: both have the same id, and the request is none of this one's.
    fn means_another<'a>(
        &self,
        entering: &Entering<'a>,
        learned: &Learned,
        here: &Life,
    ) -> Option<&'a SessionToken> {
        let means = match self.elsewhere(entering) {
            // The session that was met may have its home here by now (ADR 22).
            None if here.home == *self.here() => None,
            None => self.met(entering),
            token => token,
        };
        means.filter(|token| !learned.void && token.proprietary_location != here.home)
    }

    /// What the request found here first, if its home is in the tree still.
    fn met<'a>(&self, entering: &Entering<'a>) -> Option<&'a SessionToken> {
        let met = entering.met.first.get();
        met.filter(|met| self.topology().node(&met.proprietary_location).is_some())
    }

    /// A request that came when another session of its id was here means that one.
    fn note_predecessor(&self, entering: &Entering<'_>) {
        if let Some(token) = self.predecessors.at(entering.session, entering.met.came) {
            entering.met.note(token, self.here());
        }
    }

    /// Whether the request is meant for a session of another home than this one.
    pub(super) fn is_of_another(&self, entering: &Entering<'_>, here: &Life) -> bool {
        self.note_predecessor(entering);
        self.means_another(entering, &Learned::default(), here).is_some()
    }

    /// Where that other session is; `None` to wait, or to run here after all.
    async fn find_another(
        &self,
        token: &SessionToken,
        life: &Life,
        learned: &mut Learned,
    ) -> Outcome<Option<Entered>> {
        let to = match self.follow_hint(token).await {
            Hint::At(place) => place,
            // A node holds one life per key, and creates none while it has another: this
            // one was that session's, and got another home (`Rehome`).
            Hint::Here if life.home == *self.here() => {
                learned.void = true;
                return Ok(None);
            }
            // It is on its way, or home has not heard yet.
            Hint::Here => return Ok(None),
            Hint::Home(home) if home == *self.here() => {
                learned.void = true;
                return Ok(None);
            }
            Hint::Home(home) => self.creating(home)?,
            Hint::Nobody => return Err(self.still_busy()),
        };
        Ok(Some(Entered::Redirect { to, token: None }))
    }

    fn allow_creation(&self, entering: &Entering<'_>, learned: &mut Learned) -> Outcome<()> {
        if !self.may_create(entering) {
            return Err(self.unknown_session());
        }
        self.has_room(0)?;
        if self.creations.check().is_err() {
            return Err(Failure::TooManyNewSessions);
        }
        learned.create = true;
        Ok(())
    }

    fn unknown_session(&self) -> Failure {
        let topology = self.topology();
        let entries = topology.entry_nodes().into_iter().map(|node| node.name.clone());
        Failure::UnknownSession { entries: entries.take(16).collect() }
    }

    /// The token, if it names another place than this one, within the tree.
    fn elsewhere<'a>(&self, entering: &Entering<'a>) -> Option<&'a SessionToken> {
        entering.token.filter(|token| {
            let here = self.here();
            let named = token.session == *entering.session
                && token.function == self.config.function
                && self.topology().node(&token.proprietary_location).is_some()
                && self.topology().node(&token.current_location).is_some();
            named && (token.current_location != *here || token.proprietary_location != *here)
        })
    }

    fn may_create(&self, entering: &Entering<'_>) -> bool {
        match entering.creates {
            Creates::AtEntry => self.is_entry(),
            Creates::Anywhere => true,
        }
    }

    /// Whether the first `begin` may create, so that a new session costs no
    /// round trip more than an old one.
    fn creates_at_once(&self, entering: &Entering<'_>) -> bool {
        self.may_create(entering)
            && self.elsewhere(entering).is_none()
            && self.has_room(0).is_ok()
            && !self.creations_exhausted.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Counts a creation; past the rate, the next ones have to ask first.
    fn created(&self, session: &Session) {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        if session.created {
            self.resident.fetch_add(1, relaxed);
            self.creations_exhausted.store(self.creations.check().is_err(), relaxed);
        }
    }
}
