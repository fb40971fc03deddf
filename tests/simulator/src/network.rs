//! Messages: they take time, get lost, come twice or late, and do not pass where the
//! tree is cut in two.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use funicular::edge_db::Caller;
use funicular::function::{Error, Request, Response, Result};
use funicular::node::{Answer, Call, Failure, Node};
use funicular::peers::{PeerAnswer, PeerCall, PeerError, Peers};
use funicular::session::{FunctionName, NodeName, RequestId, SessionId, SessionToken};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{World, count};

/// A handler's call to another function follows so many redirects.
const HOPS: usize = 4;
/// How long it waits for each answer.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(8);

/// What is done at a node with a call; a call that comes twice is done twice.
pub type Deed<T> = Arc<dyn Fn(Node) -> BoxFuture<'static, T> + Send + Sync>;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fate {
    Well,
    /// It does not arrive; `at_once` says whether the sender notices.
    Lost {
        at_once: bool,
    },
    /// Its answer does not arrive.
    Unanswered {
        at_once: bool,
    },
    Twice,
    /// It arrives when nobody waits any more.
    Late,
}

/// Ends the work for a caller that is gone, if the connection tells.
struct Listening<T>(Option<JoinHandle<T>>);

impl<T> Drop for Listening<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl World {
    fn fate(&self, from: Option<usize>, to: usize) -> Fate {
        let astray = *self.astray.lock();
        let at_once = |world: &Self| world.chance.hits(500);
        if from.is_some_and(|from| !self.connected(from, to)) || self.chance.hits(astray.lost) {
            return Fate::Lost { at_once: at_once(self) };
        }
        if self.chance.hits(astray.unanswered) {
            return Fate::Unanswered { at_once: at_once(self) };
        }
        match (self.chance.hits(astray.twice), self.chance.hits(astray.late)) {
            (true, _) => Fate::Twice,
            (_, true) => Fate::Late,
            _ => Fate::Well,
        }
    }

    fn trip(&self) -> Duration {
        match self.chance.hits(100) {
            true => self.chance.millis(5, 40),
            false => self.chance.millis(0, 3),
        }
    }

    /// The work at the node, in its process.
    fn work<T: Send + 'static>(
        self: &Arc<Self>,
        to: usize,
        f: usize,
        after: Duration,
        deed: &Deed<T>,
    ) -> JoinHandle<Option<T>> {
        let (world, deed) = (Arc::clone(self), Arc::clone(deed));
        tokio::spawn(async move {
            tokio::time::sleep(after + world.slowness(to)).await;
            let process = world.process(to)?;
            let work = deed(process.nodes[f].clone());
            tokio::select! {
                biased;
                () = process.gone.cancelled() => None,
                answer = work => Some(answer),
            }
        })
    }

    /// Brings a call to a node, and its answer back: nothing, if there is none, at
    /// once or never.
    pub async fn carry<T: Send + 'static>(
        self: &Arc<Self>,
        (from, to, f): (Option<usize>, usize, usize),
        what: &'static str,
        deed: Deed<T>,
    ) -> Option<T> {
        let fate = self.fate(from, to);
        count(&self.counters.messages);
        self.trace.step((from, to, f, what, fate), || {
            let from = from.map_or("a client", |from| self.plan.sites[from].as_str());
            format!("{from} → {}/{f} {what}: {fate:?}", self.plan.sites[to])
        });
        if fate != Fate::Well {
            self.reasons.note();
        }
        match fate {
            Fate::Well => {}
            Fate::Twice => {
                count(&self.counters.messages_repeated);
                drop(self.work(to, f, self.trip() * 20, &deed));
            }
            Fate::Lost { at_once } => {
                count(&self.counters.messages_lost);
                return lost(at_once).await;
            }
            Fate::Unanswered { at_once } => {
                count(&self.counters.messages_lost);
                let work = self.work(to, f, self.trip(), &deed);
                if at_once {
                    let _ = work.await;
                }
                return lost(at_once).await;
            }
            Fate::Late => {
                count(&self.counters.messages_repeated);
                drop(self.work(to, f, self.chance.millis(500, 9000), &deed));
                return lost(false).await;
            }
        }
        let work = self.work(to, f, self.trip(), &deed);
        // A proxy in between may not tell the node that the caller is gone.
        let answer = match self.chance.hits(500) {
            true => {
                let mut listening = Listening(Some(work));
                let answer = listening.0.as_mut()?.await;
                listening.0 = None;
                answer
            }
            false => work.await,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(stopped) => {
                self.trace.fault(format!("{what} panics: {stopped}"));
                None
            }
        };
        tokio::time::sleep(self.trip() + self.slowness(to)).await;
        if from.is_some_and(|from| !self.connected(from, to)) {
            return lost(self.chance.hits(500)).await;
        }
        self.trace.step((from, to, f, what, answer.is_some()), || {
            let said = if answer.is_some() { "answers" } else { "is gone" };
            format!("{}/{f} {said} to {what}", self.plan.sites[to])
        });
        answer
    }

    /// A request to a session at a site.
    pub async fn invoke(
        self: &Arc<Self>,
        (from, to, f): (Option<usize>, usize, usize),
        session: &SessionId,
        request_id: Option<&RequestId>,
        token: Option<&SessionToken>,
        request: &Request,
    ) -> Option<std::result::Result<Answer, Failure>> {
        let (session, request_id) = (session.clone(), request_id.cloned());
        let (token, request) = (token.cloned(), request.clone());
        let deed: Deed<_> = Arc::new(move |node: Node| {
            let call = Call {
                session: session.clone(),
                request_id: request_id.clone(),
                token: token.clone(),
                from_peer: from.is_some(),
                timeout: None,
                request: request.clone(),
            };
            Box::pin(async move { node.invoke(call).await })
        });
        self.carry((from, to, f), "request", deed).await
    }

    /// An internal call.
    pub async fn post(
        self: &Arc<Self>,
        (from, to, f): (usize, usize, usize),
        call: PeerCall,
    ) -> Option<std::result::Result<PeerAnswer, PeerError>> {
        let what = call.endpoint;
        let name = self.plan.sites[from].clone();
        let deed: Deed<_> = Arc::new(move |node: Node| {
            let (name, call) = (name.clone(), call.clone());
            Box::pin(async move { funicular::testing::answer(&node, &name, call).await })
        });
        self.carry((Some(from), to, f), what, deed).await
    }
}

/// No answer: the connection breaks, or nobody says a word.
async fn lost<T>(at_once: bool) -> Option<T> {
    match at_once {
        true => None,
        false => std::future::pending().await,
    }
}

/// One process's way to the other nodes.
pub struct Link {
    site: usize,
    world: Weak<World>,
    gone: CancellationToken,
}

impl Link {
    /// Of a process at `site`.
    pub fn new(site: usize, world: Weak<World>, gone: CancellationToken) -> Self {
        Self { site, world, gone }
    }

    async fn alive(&self) {
        if self.gone.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Peers for Link {
    async fn call(
        &self,
        to: &NodeName,
        function: &FunctionName,
        call: PeerCall,
    ) -> std::result::Result<PeerAnswer, PeerError> {
        self.alive().await;
        let gone = |why: &str| PeerError::Unreachable { node: to.clone(), why: why.to_owned() };
        let world = self.world.upgrade().ok_or_else(|| gone("the simulation is over"))?;
        let target = world.index(to).ok_or_else(|| gone("the tree has no such node"))?;
        let f = world.plan.functions.iter().position(|known| known == function);
        let f = f.ok_or_else(|| PeerError::NoFunction { node: to.clone() })?;
        let timeout = call.timeout;
        let carried = world.post((self.site, target, f), call);
        let answer = tokio::time::timeout(timeout, carried).await;
        self.alive().await;
        match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(gone("the connection broke")),
            Err(_) => Err(gone("it did not answer in time")),
        }
    }
}

#[async_trait]
impl Caller for Link {
    async fn invoke(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
        request: Request,
        request_id: RequestId,
    ) -> Result<Response> {
        self.alive().await;
        let unavailable = || Error::unavailable("another node did not answer");
        let world = self.world.upgrade().ok_or_else(unavailable)?;
        let f = world.plan.functions.iter().position(|known| known == function);
        let f = f.ok_or_else(unavailable)?;
        let mut target = node.clone();
        let _calling = world.reasons.calling(f, session);
        for _ in 0..HOPS {
            let to = world.index(&target).ok_or_else(unavailable)?;
            let way = (Some(self.site), to, f);
            let carried = world.invoke(way, session, Some(&request_id), None, &request);
            let answer = tokio::time::timeout(INVOKE_TIMEOUT, carried).await;
            self.alive().await;
            match answer.ok().flatten().ok_or_else(unavailable)? {
                Ok(Answer::Response { response, .. }) => return Ok(response),
                Ok(Answer::Error { error, .. }) => {
                    return Ok(Response::status(error.status_code()));
                }
                Ok(Answer::Redirect { to, .. }) => target = to,
                Err(_) => return Ok(Response::status(http::StatusCode::SERVICE_UNAVAILABLE)),
            }
        }
        Err(unavailable())
    }
}
