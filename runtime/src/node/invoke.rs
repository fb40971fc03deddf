//! A client's request, from the line to the answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::Digest as _;
use tokio::time::Instant;

use super::claim::Claim;
use super::detached::Detached;
use super::enter::{Creates, Entered, Entering, Met};
use super::run::store_failure;
use super::{Failure, Node, Outcome};
use crate::edge_db::{ReadDb, Reader};
use crate::function::{Error, Matched, NoRoute, Request, Response};
use crate::protocol::Access;
use crate::session::{Digest, NodeName, RequestId, SessionId, SessionToken};
use crate::store::{ReadGuard, Session};

/// A request as the node gets it.
#[derive(Debug)]
pub struct Call {
    /// `X-session`.
    pub session: SessionId,
    /// `X-session-request-id`; without one there is no protection against repeats.
    pub request_id: Option<RequestId>,
    /// `X-session-token`: a hint, never believed.
    pub token: Option<SessionToken>,
    /// Another node's function calls: the session may be created at any node.
    pub from_peer: bool,
    /// `X-Timeout`: shortens the handler's time for this call.
    pub timeout: Option<Duration>,
    /// What the handler gets.
    pub request: Request,
}

impl Call {
    pub(super) fn creates(&self) -> Creates {
        if self.from_peer { Creates::Anywhere } else { Creates::AtEntry }
    }

    /// A writing request in front of its session, for as long as it may wait.
    pub(super) fn entering<'a>(
        &'a self,
        until: Instant,
        met: &'a Met,
        claim: &'a Claim,
    ) -> Entering<'a> {
        Entering {
            session: &self.session,
            access: Access::Write,
            request: self.request_id.as_ref(),
            token: self.token.as_ref(),
            creates: self.creates(),
            met,
            claim,
            until,
        }
    }

    /// The request with what the handler may ask of it.
    pub(super) fn prepared(&self) -> Request {
        self.prepare(self.request.clone())
    }

    /// The same, when it is not needed again.
    pub(super) fn take_prepared(&mut self) -> Request {
        let taken = std::mem::take(&mut self.request);
        self.prepare(taken)
    }

    fn prepare(&self, request: Request) -> Request {
        request.with_session(self.session.clone()).with_request_id(self.request_id.clone())
    }
}

/// What the node answers.
#[derive(Debug)]
pub enum Answer {
    /// The handler's response.
    Response {
        /// Status, headers, body.
        response: Response,
        /// Where the session is.
        token: SessionToken,
        /// It is the first response to a repeated request.
        replayed: bool,
    },
    /// The handler's error; nothing was written.
    Error {
        /// Status and sentence.
        error: Error,
        /// Where the session is.
        token: SessionToken,
    },
    /// The session is elsewhere.
    Redirect {
        /// The node to ask.
        to: NodeName,
        /// The same as a token, if this node knows the session.
        token: Option<SessionToken>,
    },
}

/// What a path of the function takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Methods {
    /// There is no such path.
    None,
    /// One handler takes them all.
    Any,
    /// These, `OPTIONS` not counted.
    These(Vec<http::Method>),
}

/// A request is in flight until this is dropped.
struct InFlight(Node);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// Runs a request in its session, or says where to send it.
    pub async fn invoke(&self, call: Call) -> Outcome<Answer> {
        let came = Instant::now();
        let in_flight = self.take_in()?;
        self.serves().await?;
        let request = &call.request;
        let matched =
            self.function.resolve(request.method(), request.path()).map_err(|none| match none {
                NoRoute::NotFound => Failure::NoRoute(request.path().to_owned()),
                NoRoute::MethodNotAllowed(allowed) => Failure::MethodNotAllowed(allowed),
            })?;
        let session = call.session.clone();
        let mut waited = Duration::ZERO;
        let outcome = match matched.access {
            Access::Read => self.read(call, &matched, &mut waited).await,
            Access::Write => self.write(call, matched, (in_flight, came), &mut waited).await,
        };
        if !matches!(outcome, Ok(Answer::Redirect { .. })) {
            self.activity.answered(&session, waited, came, Instant::now());
        }
        outcome
    }

    /// What a path of the function takes.
    pub(crate) fn methods(&self, path: &str) -> Methods {
        match self.function.resolve(&http::Method::OPTIONS, path) {
            Ok(_) => Methods::Any,
            Err(NoRoute::NotFound) => Methods::None,
            Err(NoRoute::MethodNotAllowed(methods)) => Methods::These(methods),
        }
    }

    /// Whether another request may be taken in (`max_inflight`).
    pub fn has_capacity(&self) -> bool {
        let most = self.config.max_inflight;
        most == 0 || self.in_flight.load(Ordering::Relaxed) < most
    }

    fn take_in(&self) -> Outcome<InFlight> {
        self.taken_in.fetch_add(1, Ordering::Relaxed);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let counted = InFlight(self.clone());
        let most = self.config.max_inflight;
        if most != 0 && before >= most {
            return Err(Failure::TooManyRequests);
        }
        Ok(counted)
    }

    /// A read-only request: no lease, no turn. It waits for a seat, where there is a limit.
    async fn read(&self, call: Call, matched: &Matched, waited: &mut Duration) -> Outcome<Answer> {
        let claim = self.claim(&call, Access::Read);
        let outcome = self.read_with(call, matched, &claim).await;
        *waited = claim.waited();
        if claim.needs_seat() {
            self.meters.waited(*waited);
        }
        outcome
    }

    /// It sees one version throughout, or runs again.
    async fn read_with(&self, mut call: Call, matched: &Matched, claim: &Claim) -> Outcome<Answer> {
        let came = Instant::now();
        let until = came + self.config.session_wait;
        let (mut id, met) = (call.request_id.clone(), Met::new(came));
        loop {
            let entering = Entering {
                session: &call.session,
                access: Access::Read,
                request: None,
                token: call.token.as_ref(),
                creates: call.creates(),
                met: &met,
                claim,
                until,
            };
            let session = match self.enter_at_once(&entering).await? {
                Entered::Run { session, .. } => session,
                Entered::Redirect { to, token } => return Ok(Answer::Redirect { to, token }),
                // Reads are not remembered.
                Entered::Replay { .. } => continue,
            };
            let token = self.token(&call.session, &session.life, session.epoch, self.here());
            let inline = session.data.is_some();
            if !inline && id.is_none() {
                // A run that is repeated makes the same calls.
                id = RequestId::new(format!("{:032x}", self.machine.random())).ok();
            }
            let reader = self.reader(&call, &session);
            let db = ReadDb::new(reader, self.place(&session, &call.session, id.clone()));
            // What is read from memory is never outdated: it runs once.
            let request = if inline { call.take_prepared() } else { call.prepared() };
            let running = self.function.run_read(matched, request, &db);
            match store_failure(self.timed(call.timeout, running).await)? {
                Err(error) if error.is_stale_read() => {
                    if Instant::now() >= until {
                        return Err(self.still_busy());
                    }
                    met.note(token, self.here());
                }
                Err(error) => return Ok(self.failed(error, token)),
                Ok(response) => return Ok(Answer::Response { response, token, replayed: false }),
            }
        }
    }

    /// What a request without the lease reads.
    pub(super) fn reader(&self, call: &Call, session: &Session) -> Reader {
        let frozen = self.local.reads_go_on(&call.session, self.config.leaving_reads);
        let guard = ReadGuard::Version {
            life: session.life.clone(),
            epoch: session.epoch,
            version: session.version,
            frozen,
        };
        Reader {
            store: std::sync::Arc::clone(&self.store),
            session: call.session.clone(),
            guard,
            inline: session.data.clone(),
        }
    }

    /// A writing request: in line, then with the lease.
    async fn write(
        &self,
        mut call: Call,
        matched: Matched,
        (in_flight, came): (InFlight, Instant),
        waited: &mut Duration,
    ) -> Outcome<Answer> {
        let until = came + self.config.session_wait;
        let line = self.lines.stand(&call.session);
        let claim = self.claim(&call, Access::Write);
        let stands = self.stand(&claim, &line, until).await;
        *waited = claim.waited();
        if let Err(failure) = stands {
            self.meters.waited(*waited);
            return Err(failure);
        }
        let node = self.clone();
        // From here on a client that goes away changes nothing: the request runs
        // to its commit, and the session is free for the next one.
        let work = async move {
            let outcome = node.write_in_turn(&mut call, &matched, &line, &claim, came).await;
            let waited = claim.waited();
            node.meters.waited(waited);
            drop((claim, in_flight));
            (outcome, waited)
        };
        let running = Detached::new(&self.tasks, work);
        let Ok((outcome, all)) = running.await else {
            self.meters.waited(*waited);
            return Err(Failure::HandlerPanicked);
        };
        *waited = all;
        outcome
    }

    pub(super) fn still_busy(&self) -> Failure {
        Failure::Busy { retry_after: Duration::from_secs(1).min(self.config.session_wait) }
    }

    /// An author's error; a store's failure behind it is the store's.
    pub(super) fn failed(&self, error: Error, token: SessionToken) -> Answer {
        if let Some(cause) = error.cause() {
            tracing::error!(
                node = %self.here(), function = %self.config.function,
                session = token.session.log_hash(), epoch = token.epoch, %cause,
                "the handler failed"
            );
        }
        Answer::Error { error, token }
    }
}

/// What makes a request the same request, for its id.
pub(super) fn digest(request: &Request) -> Digest {
    let mut hash = sha2::Sha256::new();
    let parts = [
        request.method().as_str().as_bytes(),
        request.path().as_bytes(),
        request.raw_query().unwrap_or_default().as_bytes(),
        request.body(),
    ];
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Digest(hash.finalize().into())
}
