//! A writing request in a session that this process remembers (ADR 0017).
//!
//! Its handler runs right away, on what is remembered and without the lease, and what
//! it leaves is committed in one round trip if the session still is what it was then.
//! If it is not, nothing has happened, and the request goes the usual way.
//!
//! This is for handlers that compute and answer. One that waits for anything takes the
//! lease before it goes on, so that it is not run in vain while sessions move and
//! replicas write; and no call to another node leaves before that.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::SetOnce;
use tokio::time::Instant;

use super::enter::{Entered, Entering};
use super::invoke::{Answer, Call, digest};
use super::lines::Place as Line;
use super::run::{Remember, replay};
use super::{Failure, Node, Outcome};
use crate::edge_db::{EdgeDb, Place};
use crate::failpoint::reach;
use crate::function::{Error, Matched, Response};
use crate::session::{Changes, LeaseId};
use crate::store::{Commit, Committed, Session, StoreError};

/// A handler has ended, and what it would change.
type Ended = (Result<Response, Error>, Changes);

/// What came of asking for the lease.
enum Leased {
    /// The session is what the handler has seen.
    Same(LeaseId),
    /// It is not.
    Changed,
    /// The request is answered without its handler.
    Answered(Box<Answer>),
}

impl Node {
    /// Runs a request on what is remembered of its session; `None`: it has to go the
    /// usual way, and nothing has happened.
    pub(super) async fn write_at_once(
        &self,
        call: &Call,
        matched: &Matched,
        entering: &Entering<'_>,
        line: &Line,
    ) -> Outcome<Option<Answer>> {
        let Some(session) = self.store.recall(entering.session) else { return Ok(None) };
        if self.is_of_another(entering, &session.life) {
            return Ok(None);
        }
        let gate = Arc::new(SetOnce::new());
        let running = self.handle(call, matched, &session, Arc::clone(&gate));
        let mut running = pin!(AssertUnwindSafe(running).catch_unwind());
        let first = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
        match first {
            Poll::Ready(Ok((outcome, changes))) if !changes.outbox.is_empty() => {
                // Messages leave with the lease's commit.
                let ended = std::future::ready(Ok((outcome, changes)));
                Box::pin(self.end_late(call, entering, line, &session, &gate, ended)).await
            }
            Poll::Ready(Ok(ended)) => self.end_at_once(call, entering.until, &session, ended).await,
            // What it has seen may be outdated.
            Poll::Ready(Err(_)) => Ok(None),
            Poll::Pending => {
                let running = async move { running.await.map_err(|_| Failure::HandlerPanicked) };
                Box::pin(self.end_late(call, entering, line, &session, &gate, running)).await
            }
        }
    }

    /// Runs the handler on a session's data; no call to another node leaves before the
    /// gate is open.
    async fn handle(
        &self,
        call: &Call,
        matched: &Matched,
        session: &Session,
        gate: Arc<SetOnce<()>>,
    ) -> Ended {
        let place = self.place(session, &call.session, call.request_id.clone());
        let mut db = EdgeDb::new(self.reader(call, session), Place { gate: Some(gate), ..place });
        reach("handler.begin").await;
        let outcome = self.function.run_write(matched, call.prepared(), &mut db).await;
        reach("handler.end").await;
        (outcome, db.into_changes())
    }

    /// The handler waits for something, or sends something: it takes the lease, goes on,
    /// and commits as a turn.
    async fn end_late(
        &self,
        call: &Call,
        entering: &Entering<'_>,
        line: &Line,
        session: &Session,
        gate: &SetOnce<()>,
        running: impl Future<Output = Outcome<Ended>>,
    ) -> Outcome<Option<Answer>> {
        let lease = match self.lease(call, entering, line, session).await? {
            Leased::Same(lease) => lease,
            Leased::Changed => return Ok(None),
            Leased::Answered(answer) => return Ok(Some(*answer)),
        };
        let kept = self.leases.keep(entering.session, lease);
        let _ = gate.set(());
        let ended = match self.timed(call.timeout, async { Ok(running.await) }).await {
            Ok(ended) => ended.unwrap_or_else(|error| Ok((Err(error), Changes::default()))),
            Err(failure) => Err(failure),
        };
        let answer = self.end_with(call, session, lease, ended).await;
        drop(kept);
        // A freeze may be waiting for this turn to end.
        self.lines.changed(entering.session);
        answer.map(Some)
    }

    /// The handler ended without waiting for anything.
    async fn end_at_once(
        &self,
        call: &Call,
        until: Instant,
        session: &Session,
        (outcome, changes): Ended,
    ) -> Outcome<Option<Answer>> {
        let good = outcome.as_ref().is_ok_and(|response| response.status_code().as_u16() < 400);
        if !good && call.request_id.is_some() {
            // The window may know the id, and that comes first.
            return Ok(None);
        }
        if !good {
            // Its answer counts if it has seen the session as it is.
            return match self.store.is_current(&call.session, session).await {
                Ok(current) => Ok(current.then(|| self.answered(call, session, outcome))),
                // The usual way waits for it.
                Err(StoreError::Restarted) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        let Ok(response) = &outcome else { return Ok(None) };
        let commit = Commit {
            lease: LeaseId(self.machine.random()),
            life: session.life.clone(),
            epoch: session.epoch,
            data: changes.data,
            outbox: Vec::new(),
            remember: self.remember(call, response),
            max_bytes: self.config.max_session_bytes,
        };
        if !self.commit_at_once(call, session, &commit, until).await? {
            return Ok(None);
        }
        reach("handler.committed").await;
        Ok(Some(self.answered(call, session, outcome)))
    }

    /// Takes the lease for a handler that has begun without it.
    async fn lease(
        &self,
        call: &Call,
        entering: &Entering<'_>,
        line: &Line,
        seen: &Session,
    ) -> Outcome<Leased> {
        match self.enter(entering, line).await? {
            Entered::Run { session, lease } if session.is_same_state(seen) => {
                Ok(Leased::Same(lease))
            }
            Entered::Run { lease, .. } => {
                self.release(entering.session, lease).await;
                Ok(Leased::Changed)
            }
            Entered::Redirect { to, token } => {
                Ok(Leased::Answered(Box::new(Answer::Redirect { to, token })))
            }
            Entered::Replay { entry, token } => replay(&entry, digest(&call.request), token)
                .map(|answer| Leased::Answered(Box::new(answer))),
        }
    }

    /// The handler ended while the request held the lease.
    async fn end_with(
        &self,
        call: &Call,
        session: &Session,
        lease: LeaseId,
        ended: Outcome<Ended>,
    ) -> Outcome<Answer> {
        let remember = match &ended {
            Ok((Ok(response), _)) => self.remember(call, response),
            _ => None,
        };
        let (outcome, changes) = match ended {
            Ok((outcome, changes)) => (Ok(outcome), changes),
            Err(failure) => (Err(failure), Changes::default()),
        };
        let outcome =
            self.end_turn(&call.session, session, lease, outcome, changes, remember).await?;
        Ok(self.answered(call, session, outcome))
    }

    fn answered(&self, call: &Call, session: &Session, outcome: Result<Response, Error>) -> Answer {
        let token = self.token(&call.session, &session.life, session.epoch, self.here());
        match outcome {
            Ok(response) => Answer::Response { response, token, replayed: false },
            Err(error) => self.failed(error, token),
        }
    }

    fn remember(&self, call: &Call, response: &Response) -> Option<Remember> {
        let id = call.request_id.clone()?;
        Some((id, digest(&call.request), self.stored(response)))
    }

    /// Commits what ran on a remembered state; `false`: it does not count, and nothing
    /// was written. Repeated while its outcome is not known.
    async fn commit_at_once(
        &self,
        call: &Call,
        session: &Session,
        commit: &Commit,
        until: Instant,
    ) -> Outcome<bool> {
        let id = &call.session;
        let mut in_doubt = false;
        let mut pause = Duration::from_millis(5);
        loop {
            match self.store.commit_at_once(id, session, commit).await {
                Ok(Some(_)) => return Ok(true),
                Ok(None) | Err(StoreError::Restarted) if !in_doubt => return Ok(false),
                // It may have been applied, and another one since: the long way knows
                // more of the past, and applies nothing without the lease.
                Ok(None) => {
                    return match self.store.commit(id, commit).await {
                        Ok(Committed::Applied | Committed::AlreadyCommitted) => Ok(true),
                        _ => Err(Failure::OutcomeUnknown),
                    };
                }
                Err(StoreError::Restarted) => self.store_restarted(),
                Err(StoreError::Unavailable(why)) => {
                    tracing::warn!(
                        node = %self.here(), function = %self.config.function,
                        session = id.log_hash(), why, "a commit is repeated"
                    );
                    in_doubt = true;
                }
                Err(_) if in_doubt => return Err(Failure::OutcomeUnknown),
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= until {
                return Err(Failure::OutcomeUnknown);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use crate::prelude::*;
    use crate::testing;

    /// Counts how often its handlers ran, and lets one of them wait.
    #[derive(Clone, Default)]
    struct Counting {
        runs: Arc<AtomicUsize>,
        gate: Arc<Notify>,
    }

    impl Counting {
        fn function(&self) -> Function {
            Function::routes(self.clone())
                .on("POST /add", Self::add)
                .on("POST /slowly", Self::slowly)
                .on("GET /all", Self::all)
                .into()
        }

        fn runs(&self) -> usize {
            self.runs.load(Ordering::SeqCst)
        }

        async fn add(&self, request: Request, db: &mut EdgeDb) -> Result<Response> {
            self.runs.fetch_add(1, Ordering::SeqCst);
            if db.list_len("all").await? >= 3 {
                return Err(Error::conflict("it is full"));
            }
            db.add_to_list("all", request.into_body())?;
            Ok(Response::status(StatusCode::CREATED))
        }

        async fn slowly(&self, request: Request, db: &mut EdgeDb) -> Result<Response> {
            self.runs.fetch_add(1, Ordering::SeqCst);
            self.gate.notified().await;
            db.add_to_list("all", request.into_body())?;
            Ok(Response::status(StatusCode::CREATED))
        }

        async fn all(&self, _: Request, db: &ReadDb) -> Result<Response> {
            Response::json(&db.list_len("all").await?)
        }
    }

    #[tokio::test]
    async fn g3_a_handler_that_does_not_wait_runs_once() {
        let counting = Counting::default();
        let session = testing::session(counting.function()).await;
        for turn in 1..=5 {
            let status = session.post("/add", turn).await.status();
            assert_eq!(status, if turn <= 3 { StatusCode::CREATED } else { StatusCode::CONFLICT });
            assert_eq!(counting.runs(), turn);
        }
        assert_eq!(session.get("/all").await.json::<usize>(), 3);
    }

    #[tokio::test]
    async fn g1_a_handler_that_waits_holds_the_lease_and_a_move_waits_for_it() {
        let counting = Counting::default();
        let session = testing::session(counting.function()).await;
        assert_eq!(session.post("/add", 1).await.status(), StatusCode::CREATED);
        let waits = tokio::spawn({
            let session = session.clone();
            async move { session.post("/slowly", 2).await.status() }
        });
        while counting.runs() < 2 {
            tokio::task::yield_now().await;
        }
        let moves = tokio::spawn({
            let session = session.clone();
            async move { session.offload().await }
        });
        // Long enough for a move that waits for nobody.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(!moves.is_finished());
        counting.gate.notify_one();
        assert_eq!(waits.await.unwrap(), StatusCode::CREATED);
        assert_eq!(moves.await.unwrap(), "region");
        // It ran once, before the move: nothing was taken back and done again.
        assert_eq!(counting.runs(), 2);
        assert_eq!(session.get("/all").await.json::<usize>(), 2);
    }

    #[tokio::test]
    async fn g3_a_repeated_request_is_answered_and_not_run() {
        let counting = Counting::default();
        let session = testing::session(counting.function()).await;
        assert_eq!(session.post("/add", 1).await.status(), StatusCode::CREATED);
        for _ in 0..3 {
            let request = Request::post("/add").json(&2).unwrap().request_id("r").unwrap();
            assert_eq!(session.request(request).await.status(), StatusCode::CREATED);
        }
        assert_eq!(session.get("/all").await.json::<usize>(), 2);
    }
}
