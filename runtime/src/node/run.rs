//! A handler runs, and what it changed is committed: all of it or nothing.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::claim::Claim;
use super::enter::{Entered, Met};
use super::invoke::{Answer, Call, digest};
use super::lines::Place as Line;
use super::{Failure, Node, Outcome};
use crate::edge_db::{EdgeDb, Place, Reader};
use crate::failpoint::reach;
use crate::function::{Error, Matched, Response};
use crate::in_time::within;
use crate::session::{
    Changes, Digest, LeaseId, RequestId, SessionId, SessionToken, StoredResponse, WindowEntry,
};
use crate::store::{Commit, Committed, ReadGuard, Session, StoreError};

/// What is kept of a request with an id.
pub(super) type Remember = (RequestId, Digest, StoredResponse);

impl Node {
    /// A writing request whose turn it is; it came at `came`.
    pub(super) async fn write_in_turn(
        &self,
        call: &mut Call,
        matched: &Matched,
        line: &Line,
        claim: &Claim,
        came: Instant,
    ) -> Outcome<Answer> {
        let (until, met) = (came + self.config.session_wait, Met::new(came));
        let entering = call.entering(until, &met, claim);
        if !claim.lacks_seat()
            && let Some(answer) = self.write_at_once(call, matched, &entering, line).await?
        {
            return Ok(answer);
        }
        // Boxed, as all that is rare: what is not takes less room.
        Box::pin(self.write_with_lease(call, matched, line, claim, (until, &met))).await
    }

    /// The request takes the lease, runs, and commits.
    async fn write_with_lease(
        &self,
        call: &mut Call,
        matched: &Matched,
        line: &Line,
        claim: &Claim,
        (until, met): (Instant, &Met),
    ) -> Outcome<Answer> {
        let entering = call.entering(until, met, claim);
        let (session, lease) = match self.enter(&entering, line).await? {
            Entered::Run { session, lease } => (session, lease),
            Entered::Redirect { to, token } => return Ok(Answer::Redirect { to, token }),
            Entered::Replay { entry, token } => {
                return replay(&entry, digest(&call.request), token);
            }
        };
        let token = self.token(&call.session, &session.life, session.epoch, self.here());
        let remember = call.request_id.clone().map(|id| (id, digest(&call.request)));
        let request = call.take_prepared();
        let outcome = self
            .in_session(&call.session, &session, lease, remember, async |db| {
                let running = self.function.run_write(matched, request, db);
                self.timed(call.timeout, running).await
            })
            .await?;
        Ok(match outcome {
            Ok(response) => Answer::Response { response, token, replayed: false },
            Err(error) => self.failed(error, token),
        })
    }

    /// Runs `handler` with the lease, then commits or releases.
    pub(super) async fn in_session(
        &self,
        id: &SessionId,
        session: &Session,
        lease: LeaseId,
        remember: Option<(RequestId, Digest)>,
        handler: impl AsyncFnOnce(&mut EdgeDb) -> Outcome<Result<Response, Error>>,
    ) -> Outcome<Result<Response, Error>> {
        let kept = self.leases.keep(id, lease);
        let reader = Reader {
            store: std::sync::Arc::clone(&self.store),
            session: id.clone(),
            guard: ReadGuard::Lease(lease),
            inline: session.data.clone(),
        };
        let request_id = remember.as_ref().map(|(id, _)| id.clone());
        let mut db = EdgeDb::new(reader, self.place(session, id, request_id));
        reach("handler.begin").await;
        let outcome = handler(&mut db).await;
        reach("handler.end").await;
        let stored = |(id, digest): (RequestId, Digest)| match &outcome {
            Ok(Ok(response)) => Some((id, digest, self.stored(response))),
            _ => None,
        };
        let remember = remember.and_then(stored);
        let changes = db.into_changes();
        let outcome = self.end_turn(id, session, lease, outcome, changes, remember).await;
        drop(kept);
        // A freeze may be waiting for this turn to end.
        self.lines.changed(id);
        outcome
    }

    /// A handler that held the lease has ended: commits what it changed, or nothing.
    pub(super) async fn end_turn(
        &self,
        id: &SessionId,
        session: &Session,
        lease: LeaseId,
        outcome: Outcome<Result<Response, Error>>,
        changes: Changes,
        remember: Option<Remember>,
    ) -> Outcome<Result<Response, Error>> {
        match outcome {
            Ok(Ok(response)) if response.status_code().as_u16() < 400 => {
                self.commit(id, session, lease, changes, remember).await.map(|()| Ok(response))
            }
            nothing_to_write => {
                self.release(id, lease).await;
                match nothing_to_write {
                    Ok(Err(error)) if error.is_stale_read() => Err(Failure::LeaseLost),
                    other => store_failure(other),
                }
            }
        }
    }

    /// Bounds a handler in time, and catches its panics.
    pub(super) async fn timed<T>(
        &self,
        shorter: Option<Duration>,
        running: impl Future<Output = Result<T, Error>>,
    ) -> Outcome<Result<T, Error>> {
        let most = shorter.unwrap_or(Duration::MAX).min(self.config.exec_timeout);
        let caught = AssertUnwindSafe(running).catch_unwind();
        match within(most, caught).await {
            Some(Ok(result)) => Ok(result),
            Some(Err(_)) => Err(Failure::HandlerPanicked),
            None => Err(Failure::HandlerTimeout),
        }
    }

    pub(super) async fn release(&self, session: &SessionId, lease: LeaseId) {
        // If the store does not hear it, the lease runs out.
        if let Err(error) = self.store.release(session, lease).await {
            tracing::debug!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), %error, "a lease was left to run out"
            );
        }
    }

    async fn commit(
        &self,
        id: &SessionId,
        session: &Session,
        lease: LeaseId,
        changes: Changes,
        remember: Option<Remember>,
    ) -> Outcome<()> {
        let mut outbox = changes.outbox;
        for (index, entry) in outbox.iter_mut().enumerate() {
            entry.id = format!("{lease}-{index}");
        }
        let sends = !outbox.is_empty();
        if let Err(failure) = self.may_send(id, &outbox).await {
            self.release(id, lease).await;
            return Err(failure);
        }
        let commit = Commit {
            lease,
            life: session.life.clone(),
            epoch: session.epoch,
            data: changes.data,
            outbox,
            remember,
            max_bytes: self.config.max_session_bytes,
        };
        self.commit_until_known(id, &commit).await?;
        reach("handler.committed").await;
        if sends {
            let node = self.clone();
            let id = id.clone();
            self.later(async move { node.look_after(&id).await });
        }
        Ok(())
    }

    /// Repeats a commit whose outcome is not known: the lease's id tells the
    /// store whether it has seen it.
    async fn commit_until_known(&self, id: &SessionId, commit: &Commit) -> Outcome<()> {
        let until = Instant::now() + self.config.session_wait;
        let mut in_doubt = false;
        let mut pause = Duration::from_millis(5);
        loop {
            match self.store.commit(id, commit).await {
                Ok(Committed::Applied | Committed::AlreadyCommitted) => return Ok(()),
                Ok(Committed::LeaseLost) if in_doubt => return Err(Failure::OutcomeUnknown),
                Ok(Committed::LeaseLost) => return Err(Failure::LeaseLost),
                Ok(Committed::TooLarge { bytes }) => {
                    let max = commit.max_bytes;
                    return Err(Failure::SessionTooLarge { bytes, max });
                }
                Err(StoreError::Restarted) => self.store_restarted(),
                Err(StoreError::Unavailable(why)) => {
                    tracing::warn!(
                        node = %self.here(), function = %self.config.function,
                        session = id.log_hash(), why, "a commit is repeated"
                    );
                    in_doubt = true;
                }
                Err(error) => {
                    self.release(id, commit.lease).await;
                    return Err(error.into());
                }
            }
            if Instant::now() >= until {
                return Err(match in_doubt {
                    true => Failure::OutcomeUnknown,
                    false => StoreError::Restarted.into(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Where a handler runs, for its handle.
    pub(super) fn place(
        &self,
        session: &Session,
        id: &SessionId,
        request: Option<RequestId>,
    ) -> Place {
        Place {
            here: self.here().clone(),
            home: session.life.home.clone(),
            function: self.config.function.clone(),
            session: id.clone(),
            topology: self.topology(),
            caller: self.caller.clone(),
            machine: std::sync::Arc::clone(&self.machine),
            request,
            gate: None,
        }
    }

    pub(super) fn stored(&self, response: &Response) -> StoredResponse {
        let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let small = response.body().len() <= self.config.replay_body_max;
        StoredResponse {
            status: response.status_code().as_u16(),
            headers: response.headers().iter().filter_map(text).collect(),
            body: small.then(|| response.body().clone()),
        }
    }
}

/// A handler that failed because the store did: the store's failure is the answer.
pub(super) fn store_failure(
    outcome: Outcome<Result<Response, Error>>,
) -> Outcome<Result<Response, Error>> {
    let failed = outcome.as_ref().ok().and_then(|result| result.as_ref().err());
    match failed.and_then(Error::store_error) {
        Some(store) => Err(store.clone().into()),
        None => outcome,
    }
}

/// A repeated request gets the first response, if it is the same request.
pub(super) fn replay(entry: &WindowEntry, digest: Digest, token: SessionToken) -> Outcome<Answer> {
    if entry.digest != digest {
        return Err(Failure::RequestIdReused);
    }
    let stored = &entry.response;
    let status = http::StatusCode::from_u16(stored.status).unwrap_or(http::StatusCode::OK);
    let Some(body) = &stored.body else {
        return Err(Failure::ReplyNotKept { status: stored.status });
    };
    let mut headers = http::HeaderMap::new();
    for (name, value) in &stored.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            headers.append(name, value);
        }
    }
    let response = Response::from_parts(status, headers, body.clone());
    Ok(Answer::Response { response, token, replayed: true })
}
