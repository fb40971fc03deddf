//! Who should take a session, or give one back.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::calls::read;
use super::moves::COME_AGAIN;
use super::{Failure, Node, Outcome};
use crate::failpoint::reach;
use crate::metrics::Moving;
use crate::peers::PeerError;
use crate::peers::messages::{
    MoveReport, OffloadStatus, OnloadAnswer, OnloadCall, OnloadReport, StatusChange, StillMoving,
    Whereabouts,
};
use crate::protocol::Refusal;
use crate::session::{NodeName, Record, SessionId, SessionToken};
use crate::trace;

/// How long a move may take before its caller gets 202 and a place to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node that is to choose tries so many sessions until one can go.
const CANDIDATES: usize = 64;

/// What came of an offload.
#[derive(Debug, Clone)]
pub(crate) enum Offload {
    /// The session moved.
    Moved(MoveReport),
    /// It goes on.
    Moving(StillMoving),
}

impl Node {
    /// `force-offload`: moves a session of this node to an ancestor; without a
    /// session, the least recently used one.
    pub(crate) async fn force_offload(&self, session: Option<SessionId>) -> Outcome<Offload> {
        if self.topology().parent(self.here()).is_none() {
            let why =
                format!("{} is the root: there is nobody above it to offload to", self.here());
            return Err(Failure::BadCall(why));
        }
        match session {
            Some(session) => self.offload_one(&session).await,
            None => {
                let mut last = Failure::NoSuchSession;
                for resident in self.store.residents(None, CANDIDATES).await? {
                    match self.offload_one(&resident.session).await {
                        Err(failure) if concerns_one_session(&failure) => last = failure,
                        outcome => return outcome,
                    }
                }
                Err(last)
            }
        }
    }

    pub(super) async fn offload_one(&self, session: &SessionId) -> Outcome<Offload> {
        let outcome = trace::step("offload", self.offload_once(session)).await;
        if let Err(failure) = &outcome
            && !matches!(failure, Failure::NoSuchSession | Failure::Refused(_))
        {
            let reason = failure.reason();
            self.meters.move_failed(Moving::Away, reason);
            tracing::debug!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), reason, %failure, "nobody takes the session"
            );
        }
        outcome
    }

    async fn offload_once(&self, session: &SessionId) -> Outcome<Offload> {
        let snapshot = self.snapshot(session).await?;
        let token = match &snapshot.slot.record {
            Some(Record::Owned { life, epoch, .. }) => {
                self.token(session, life, *epoch, self.here())
            }
            Some(Record::Migrating { .. }) => return Err(Refusal::MoveOpen.into()),
            Some(Record::Moved { to, .. }) => {
                return Err(Refusal::NotOwner { to: Some(to.clone()) }.into());
            }
            Some(Record::Expired { .. }) | None => return Err(Failure::NoSuchSession),
        };
        reach("source.offload").await;
        self.offer_upwards(&token).await
    }

    /// Offers a session to each ancestor in turn until one takes it.
    async fn offer_upwards(&self, token: &SessionToken) -> Outcome<Offload> {
        let topology = self.topology();
        let mut refusals = Vec::new();
        for ancestor in topology.ancestors(self.here()) {
            if ancestor.name == token.current_location || self.is_barred(&ancestor.name) {
                continue;
            }
            let timeout = PATIENCE + self.config.peer_timeout;
            let answer = self.post(&ancestor.name, "offload-session", token, timeout).await;
            match answer {
                Ok(answer) if answer.status == 202 => {
                    return Ok(Offload::Moving(read(&ancestor.name, &answer)?));
                }
                Ok(answer) => return Ok(Offload::Moved(read(&ancestor.name, &answer)?)),
                Err(error) if goes_on(&error) => refusals.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        let Some(last) = refusals.pop() else { return Err(Failure::NoRoom) };
        Err(last.into())
    }

    /// `offload-session`: a descendant offers a session.
    pub(crate) async fn offered(&self, from: &NodeName, token: SessionToken) -> Outcome<Offload> {
        self.admit(from)?;
        self.admit(&token.current_location)?;
        if token.function != self.config.function {
            return Err(Failure::BadCall(format!("this is function {}", self.config.function)));
        }
        if !self.topology().in_subtree(self.here(), &token.current_location) {
            let why = format!("{} is not below {}", token.current_location, self.here());
            return Err(Failure::BadCall(why));
        }
        if self.is_draining() || self.offload_status().await? == OffloadStatus::Reject {
            return self.offer_upwards(&token).await;
        }
        self.has_room(0)?;
        let node = self.clone();
        let pulled = self.tasks.spawn(trace::carried(async move { node.pull(&token).await }));
        match tokio::time::timeout(PATIENCE, pulled).await {
            Ok(Ok(report)) => report.map(Offload::Moved),
            Ok(Err(_)) => Err(Failure::MoveFailed("the move was stopped".to_owned())),
            Err(_) => Ok(Offload::Moving(StillMoving { ask: self.here().clone() })),
        }
    }

    /// `onload-session`: a descendant wants sessions whose home lies in its subtree.
    pub(crate) async fn onload_offers(
        &self,
        from: &NodeName,
        call: &OnloadCall,
    ) -> Outcome<OnloadAnswer> {
        self.admit(from)?;
        let topology = self.topology();
        if call.location != *from || !topology.in_subtree(self.here(), from) {
            return Err(Failure::BadCall(format!("{from} is not below {}", self.here())));
        }
        let homes: Vec<NodeName> =
            topology.subtree(from).into_iter().map(|node| node.name.clone()).collect();
        let mut answer = OnloadAnswer::default();
        let candidates = match &call.session {
            Some(session) => vec![session.clone()],
            None => {
                let most = call.max_sessions.saturating_mul(2).clamp(1, 1024);
                let found = self.store.residents(Some(&homes), most).await?;
                found.into_iter().map(|resident| resident.session).collect()
            }
        };
        let mut bytes = 0;
        for session in candidates {
            if answer.tokens.len() >= call.max_sessions {
                break;
            }
            // The index is advisory; the record is not.
            let snapshot = self.snapshot(&session).await?;
            if let Some(Record::Owned { life, epoch, intent: None, unsettled: None, .. }) =
                &snapshot.slot.record
                && homes.contains(&life.home)
                && bytes + snapshot.bytes <= call.max_bytes
            {
                bytes += snapshot.bytes;
                answer.tokens.push(self.token(&session, life, *epoch, self.here()));
            }
        }
        Ok(answer)
    }

    /// `force-onload`: brings sessions home from the ancestors, nearest first.
    pub(crate) async fn force_onload(
        &self,
        session: Option<SessionId>,
        max_sessions: usize,
    ) -> Outcome<OnloadReport> {
        let topology = self.topology();
        let mut report = OnloadReport::default();
        if topology.parent(self.here()).is_none() {
            let why =
                format!("{} is the root: there is nobody above it to onload from", self.here());
            return Err(Failure::BadCall(why));
        }
        if self.is_draining() {
            return Err(Failure::Draining);
        }
        for ancestor in topology.ancestors(self.here()) {
            let wanted = max_sessions - report.moved.len().min(max_sessions);
            if wanted == 0 {
                break;
            }
            if self.is_barred(&ancestor.name) {
                continue;
            }
            let call = OnloadCall {
                location: self.here().clone(),
                max_sessions: wanted,
                max_bytes: u64::MAX,
                session: session.clone(),
            };
            let timeout = self.config.peer_timeout;
            let answer = self.post(&ancestor.name, "onload-session", &call, timeout).await;
            let offers: OnloadAnswer = match answer.and_then(|ok| read(&ancestor.name, &ok)) {
                Ok(offers) => offers,
                // A parent without the function or without an answer is skipped.
                Err(error) => {
                    report.failed.push(error.to_string());
                    continue;
                }
            };
            let pulls = offers.tokens.into_iter().map(|token| self.pull_in_turn(token));
            // No more than have a place: the line is for others.
            let mut pulls = stream::iter(pulls).buffered(self.config.max_moves_in.max(1));
            while let Some(pulled) = pulls.next().await {
                match pulled {
                    Ok(moved) => report.moved.push(moved),
                    Err(failure) => report.failed.push(failure.to_string()),
                }
            }
        }
        if report.moved.is_empty() && session.is_some() {
            return match report.failed.is_empty() {
                true => Err(Failure::NoSuchSession),
                false => Err(Failure::MoveFailed(report.failed.join("; "))),
            };
        }
        Ok(report)
    }

    /// Pulls one of many sessions; one that there is no place for at either end has
    /// time to come again.
    async fn pull_in_turn(&self, token: SessionToken) -> Outcome<MoveReport> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            // In a task of its own: whoever asked may not wait for the end.
            let (node, again) = (self.clone(), token.clone());
            let pulling = trace::carried(async move { node.pull(&again).await });
            let pulled = self.tasks.spawn(pulling).await;
            let stopped = || Err(Failure::MoveFailed("the move was stopped".to_owned()));
            let failure = match pulled.unwrap_or_else(|_| stopped()) {
                Ok(report) => return Ok(report),
                Err(failure) => failure,
            };
            let wait = match &failure {
                Failure::TooManyMoves => COME_AGAIN,
                Failure::Peer(error) if error.code() == Some("too-many-moves") => {
                    error.retry_after().unwrap_or(COME_AGAIN)
                }
                _ => return Err(failure),
            };
            if tokio::time::Instant::now() + wait > until {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// `set-offload-status`.
    pub(crate) async fn set_offload_status(&self, new: OffloadStatus) -> Outcome<StatusChange> {
        if new == OffloadStatus::Reject && self.topology().root().name == *self.here() {
            return Err(Failure::RootAccepts);
        }
        let old = self.offload_status().await?;
        let text = match new {
            OffloadStatus::Accept => "accept",
            OffloadStatus::Reject => "reject",
        };
        self.store.set_setting("status", Some(text)).await?;
        Ok(StatusChange { old, new })
    }

    /// `test-function`: where a session is, as far as this node knows.
    pub(crate) async fn whereabouts(&self, session: &SessionId) -> Outcome<Whereabouts> {
        let snapshot = self.snapshot(session).await?;
        let Some(record) = &snapshot.slot.record else { return Err(Failure::NoSuchSession) };
        let token = self.token_of(session, record);
        let here = record.holds_data();
        Ok(Whereabouts {
            offloaded: token.current_location != *self.here(),
            location: token.current_location.clone(),
            token,
            state: record.state().to_owned(),
            pointer_age: match record {
                Record::Moved { since, .. } => Some(snapshot.now.saturating_sub(*since)),
                _ => None,
            },
            keys: here.then_some(snapshot.fields),
            bytes: here.then_some(snapshot.bytes),
        })
    }
}

/// Whether another session may well be able to go: this one has just left (the
/// index is advice), is moving, or finds another life of its id on its way.
fn concerns_one_session(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::NoSuchSession
            | Failure::Refused(_)
            | Failure::Peer(PeerError::Refused { refusal: Some(_), .. })
    )
}

/// Whether the next ancestor may be asked: this one certainly did not take the
/// session, or cannot be reached (then the source's intent keeps a second one out).
fn goes_on(error: &PeerError) -> bool {
    match error {
        PeerError::Unreachable { .. } | PeerError::NoFunction { .. } => true,
        PeerError::Refused { refusal: Some(refusal), .. } => *refusal == Refusal::OtherLife,
        PeerError::Refused { code, .. } => {
            ["no-room", "barred", "older-schema", "draining", "restoring"].contains(&code.as_str())
        }
    }
}
