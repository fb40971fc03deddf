//! Messages that commits send to other nodes: durable with the commit, delivered
//! at least once, taken once.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::Digest as _;
use tokio::time::Instant;

use super::calls::read;
use super::claim::Claim;
use super::enter::{Creates, Entered, Entering, Met};
use super::{Failure, Node, Outcome};
use crate::failpoint::reach;
use crate::function::{Propagated, Response};
use crate::peers::messages::{Elsewhere, Message as _, PropagateCall};
use crate::peers::{PeerCall, PeerError};
use crate::protocol::Access;
use crate::session::{Digest, NodeName, OutboxEntry, RequestId, SessionId};

/// No session sends more while so many of its messages wait.
const MOST_WAITING: usize = 1024;
/// The code of a refusal that is for good.
const NOT_TAKEN: &str = "not-taken";
/// A message follows its session over at most this many nodes.
const HOPS: usize = 4;

/// What became of a propagated value at its receiver.
#[derive(Debug, Clone)]
pub(crate) enum Received {
    /// It is taken, durably; or was before.
    Taken,
    /// The session is elsewhere.
    Elsewhere(Elsewhere),
}

impl Node {
    /// Delivers what waits in a session's outbox, in order for each receiver; one
    /// that does not answer holds up nobody else. Only the session's owner does.
    pub(super) async fn deliver(&self, session: &SessionId) -> Outcome<()> {
        let mut first_failure = None;
        let mut held_up = BTreeSet::new();
        for entry in self.store.outbox(session, MOST_WAITING).await? {
            let receiver = (entry.to.clone(), entry.function.clone());
            if held_up.contains(&receiver) {
                continue;
            }
            reach("outbox.deliver").await;
            match self.send(session, &entry).await {
                Ok(()) => {
                    self.meters.delivered(&entry.to);
                    self.doubts.lock().delivered(session);
                }
                // It can never be taken: waiting would keep the session for ever.
                Err(error) if is_final(&error) => {
                    tracing::error!(
                        node = %self.here(), function = %self.config.function,
                        session = session.log_hash(), to = %entry.to,
                        to_function = %entry.function, %error,
                        "a propagated value is dropped: its receiver cannot take it"
                    );
                    self.meters.undeliverable(&entry.function);
                }
                Err(error) => {
                    self.meters.delivery_failed(&entry.to);
                    held_up.insert(receiver);
                    first_failure.get_or_insert(error);
                    continue;
                }
            }
            reach("outbox.delivered").await;
            self.store.delivered(session, &entry.id).await?;
        }
        first_failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether a commit may send these messages: each fits a body, and not too many
    /// wait already.
    pub(super) async fn may_send(&self, session: &SessionId, new: &[OutboxEntry]) -> Outcome<()> {
        if new.is_empty() {
            return Ok(());
        }
        // Base64 adds a third, the names around it less than this.
        let room = self.config.max_body.saturating_sub(1024) / 4 * 3;
        if new.iter().any(|entry| entry.value.len() > room) {
            return Err(Failure::ValueTooLarge(room));
        }
        let waiting = self.snapshot(session).await?.slot.outbox;
        if waiting + new.len() as u64 > MOST_WAITING as u64 {
            return Err(self.still_busy());
        }
        Ok(())
    }

    async fn send(&self, session: &SessionId, entry: &OutboxEntry) -> Result<(), PeerError> {
        let body = PropagateCall {
            id: entry.id.clone(),
            function: entry.function.clone(),
            session: session.clone(),
            from: entry.from.clone(),
            value: STANDARD.encode(&entry.value),
        };
        let mut to = entry.to.clone();
        for _ in 0..HOPS {
            if self.is_barred(&to) {
                return Err(PeerError::Refused {
                    node: to,
                    status: 403,
                    code: NOT_TAKEN.to_owned(),
                    message: "it was given up".to_owned(),
                    refusal: None,
                    retry_after: None,
                });
            }
            self.try_again(&to)?;
            let call = |version| {
                let body = body.write(version)?;
                Ok(PeerCall {
                    version,
                    endpoint: "receive-propagate",
                    query: None,
                    body: body.into(),
                    timeout: self.config.peer_timeout + self.config.session_wait,
                })
            };
            let answer = self.call(&to, &entry.function, call).await;
            self.note(&to, answer.as_ref().err());
            let answer = answer?;
            if answer.status != 307 {
                return Ok(());
            }
            to = read::<Elsewhere>(&to, &answer)?.location;
        }
        Err(super::calls::unreachable(&to, "the session moves faster than the message".into()))
    }

    /// `receive-propagate`: runs the handler of propagated values in the session
    /// of the same id, once.
    pub(crate) async fn receive(&self, from: &NodeName, call: &PropagateCall) -> Outcome<Received> {
        self.admit(from)?;
        if call.function != self.config.function {
            return Err(Failure::BadCall(format!("this is function {}", self.config.function)));
        }
        let value = STANDARD
            .decode(&call.value)
            .map_err(|error| Failure::BadCall(format!("the value is not base64: {error}")))?;
        let id = RequestId::new(format!("propagated-{}", call.id))
            .map_err(|bad| Failure::BadCall(bad.to_string()))?;
        let came = Instant::now();
        let until = came + self.config.session_wait;
        let line = self.lines.stand(&call.session);
        let claim = Claim::without_seat(Access::Write);
        self.stand(&claim, &line, until).await.map_err(|_| self.still_busy())?;
        let met = Met::new(came);
        let entering = Entering {
            session: &call.session,
            access: Access::Write,
            request: Some(&id),
            token: None,
            creates: Creates::Anywhere,
            met: &met,
            claim: &claim,
            until,
        };
        let (session, lease) = match self.enter(&entering, &line).await? {
            Entered::Run { session, lease } => (session, lease),
            Entered::Replay { .. } => {
                self.on_disk(&call.session).await?;
                return Ok(Received::Taken);
            }
            Entered::Redirect { to, .. } => {
                return Ok(Received::Elsewhere(Elsewhere { location: to }));
            }
        };
        let digest = Digest(sha2::Sha256::digest(&value).into());
        let propagated = Propagated {
            value: Bytes::from(value),
            from: call.from.clone(),
            session: call.session.clone(),
            function: call.function.clone(),
        };
        let outcome = self
            .in_session(&call.session, &session, lease, Some((id, digest)), async |db| {
                let running = self.function.run_propagate(propagated, db);
                let ended = self.timed(None, running).await?;
                Ok(ended.map(|()| Response::status(http::StatusCode::OK)))
            })
            .await?;
        match outcome {
            // The sender forgets it now (rule 3).
            Ok(_) => self.on_disk(&call.session).await.map(|()| Received::Taken),
            Err(error) if error.status_code().is_client_error() => {
                Err(Failure::NotTaken(error.sentence().to_owned()))
            }
            Err(error) => Err(Failure::MoveFailed(error.sentence().to_owned())),
        }
    }
}

/// Whether a repeat would get the same answer for ever.
fn is_final(error: &PeerError) -> bool {
    // Everything else may pass: a function that is being deployed, a topology that
    // is being rolled out.
    error.code() == Some(NOT_TAKEN)
}
