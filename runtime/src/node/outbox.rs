//! Messages that commits send to other nodes: durable with the commit, delivered
//! at least once, taken once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::Digest as _;
use tokio::time::Instant;

use super::calls::read;
use super::enter::{Creates, Entered, Entering};
use super::{Failure, Node, Outcome};
use crate::failpoint::reach;
use crate::function::{Propagated, Response};
use crate::peers::messages::{Elsewhere, PropagateCall};
use crate::peers::{PeerCall, PeerError};
use crate::protocol::Access;
use crate::session::{Digest, NodeName, OutboxEntry, RequestId, SessionId};

/// Entries of one session that are delivered in one go.
const A_GO: usize = 64;
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
    pub(super) async fn deliver_now(&self, session: &SessionId) {
        if let Err(failure) = self.deliver(session).await {
            tracing::debug!(node = %self.here(), %failure, "a message waits in the outbox");
            self.wake.notify_one();
        }
    }

    /// Delivers what waits in a session's outbox. Only its owner does.
    pub(super) async fn deliver(&self, session: &SessionId) -> Outcome<()> {
        let mut first_failure = None;
        for entry in self.store.outbox(session, A_GO).await? {
            reach("outbox.deliver").await;
            match self.send(session, &entry).await {
                Ok(()) => {}
                // It can never be taken: waiting would keep the session for ever.
                Err(error) if is_final(&error) => {
                    tracing::error!(
                        node = %self.here(), to = %entry.to, function = %entry.function, %error,
                        "a propagated value is dropped: its receiver cannot take it"
                    );
                    crate::metrics::undeliverable(&self.config, &entry.function);
                }
                Err(error) => {
                    first_failure.get_or_insert(error);
                    continue;
                }
            }
            reach("outbox.delivered").await;
            self.store.delivered(session, &entry.id).await?;
        }
        first_failure.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn send(&self, session: &SessionId, entry: &OutboxEntry) -> Result<(), PeerError> {
        let body = PropagateCall {
            id: entry.id.clone(),
            function: entry.function.clone(),
            session: session.clone(),
            from: entry.from.clone(),
            value: STANDARD.encode(&entry.value),
        };
        let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
        let mut to = entry.to.clone();
        for _ in 0..HOPS {
            let call = PeerCall {
                endpoint: "receive-propagate",
                query: None,
                body: body.clone(),
                timeout: self.config.peer_timeout + self.config.session_wait,
            };
            let answer = self.peers.call(&to, &entry.function, call).await?;
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
        let until = Instant::now() + self.config.session_wait;
        let line = self.lines.stand(&call.session);
        let _turn =
            line.turn(self.config.max_waiting, until).await.map_err(|_| self.still_busy())?;
        let entering = Entering {
            session: &call.session,
            access: Access::Write,
            request: Some(&id),
            token: None,
            creates: Creates::Anywhere,
            until,
        };
        let (session, lease) = match self.enter(&entering, &line).await? {
            Entered::Run { session, lease } => (session, lease),
            Entered::Replay { .. } => return Ok(Received::Taken),
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
            Ok(_) => Ok(Received::Taken),
            Err(error) if error.status_code().is_client_error() => {
                Err(Failure::NotTaken(error.sentence().to_owned()))
            }
            Err(error) => Err(Failure::MoveFailed(error.sentence().to_owned())),
        }
    }
}

/// Whether a repeat would get the same answer for ever.
fn is_final(error: &PeerError) -> bool {
    // An unsigned 404 is no reason: a gateway says so while a function is deployed.
    matches!(error.code(), Some("not-taken" | "bad-request" | "too-large"))
}
