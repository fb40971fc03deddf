//! Clients: they follow redirects, remember tokens or do not, wander, and repeat what
//! was not answered with the same request id.

use std::sync::Arc;
use std::time::Duration;

use funicular::function::Request;
use funicular::node::{Answer, Failure};
use funicular::peers::PeerError;
use funicular::session::{Life, RequestId, SessionId, SessionToken};
use funicular::store::StoreError;
use http::StatusCode;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::function::{Token, listed};
use crate::shadow::Seen;
use crate::world::{World, count};

/// A client follows so many redirects of one request.
const HOPS: usize = 20;
/// A request is repeated so often.
const REPEATS: usize = 40;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(9);

/// A session as clients name it: its id in a function, and where it begins.
#[derive(Debug, Clone)]
pub struct Named {
    pub f: usize,
    pub id: SessionId,
    pub home: usize,
}

/// One client in one session.
pub struct Client {
    world: Arc<World>,
    chance: Chance,
    session: Named,
    /// Whether it sends the tokens that it was given.
    remembers: bool,
    token: Option<SessionToken>,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Read,
    Append,
    Send,
    Call,
    Refuse,
}

/// How one attempt ended.
enum Ended {
    Answered(Answer, usize),
    Failed(Failure),
    Nothing,
    Round,
}

impl Client {
    /// A client of `session`.
    pub fn new(world: Arc<World>, chance: Chance, session: Named) -> Self {
        let remembers = chance.hits(600);
        Self { world, chance, session, remembers, token: None }
    }

    /// Makes requests until `until`, and one to the end.
    pub async fn run(mut self, until: Instant) {
        loop {
            let pause = self.chance.millis(0, self.world.plan.pause);
            tokio::time::sleep(pause).await;
            if Instant::now() >= until {
                return;
            }
            let aim = self.aim();
            self.request(aim).await;
        }
    }

    fn aim(&self) -> Aim {
        let two = self.world.plan.functions.len() > 1;
        match self.chance.between(0, 99) {
            0..45 => Aim::Append,
            45..85 => Aim::Read,
            85..92 if two => Aim::Send,
            92..96 if two => Aim::Call,
            96..98 => Aim::Refuse,
            _ => Aim::Append,
        }
    }

    fn built(&self, aim: Aim, token: Token) -> Request {
        // A read that takes its time sees no two writes in between, or is run again: of a
        // session that is read bit by bit, and always written, it would get nowhere.
        let bits = aim == Aim::Read && self.world.plan.config.inline_max < 1024;
        let rest = match self.chance.hits(60) && !bits {
            true => self.chance.between(1, 250).to_string(),
            false => "0".to_owned(),
        };
        let path = match aim {
            Aim::Read => "/log".to_owned(),
            Aim::Append => "/append".to_owned(),
            Aim::Send => "/send".to_owned(),
            Aim::Refuse => "/refuse".to_owned(),
            Aim::Call => format!("/call/{}", self.chance.pick(&self.world.plan.sites)),
        };
        match aim {
            Aim::Read => Request::get(path).query("rest", &rest).into(),
            _ => Request::post(path).query("rest", &rest).text(token.to_string()).into(),
        }
    }

    async fn request(&mut self, aim: Aim) {
        let world = Arc::clone(&self.world);
        let token = world.number();
        let request = self.built(aim, token);
        let id = RequestId::new(format!("r{token}")).ok().filter(|_| aim != Aim::Read);
        let began = world.trace.elapsed();
        if aim == Aim::Refuse {
            world.shadow.refused((self.session.f, self.session.id.clone(), token));
        }
        count(&world.counters.requests);
        for attempt in 0..REPEATS {
            let tried = world.trace.elapsed();
            let ended = self.attempt(&request, id.as_ref()).await;
            let named = (self.session.f, self.session.id.as_str());
            world.trace.step((named, token, attempt, ended.hashed()), || {
                format!("{} {aim:?} {token}, attempt {attempt}: {}", named.1, ended.said())
            });
            let refused = match ended {
                Ended::Answered(Answer::Response { response, token: at, .. }, _) => {
                    self.answered(aim, token, began, &at, &response);
                    return;
                }
                Ended::Answered(Answer::Error { error, .. }, _) => match error.status_code() {
                    StatusCode::CONFLICT if aim == Aim::Refuse => return,
                    StatusCode::SERVICE_UNAVAILABLE if aim == Aim::Call => Some(error.to_string()),
                    _ => {
                        world.trace.fault(format!("a handler failed: {error}"));
                        return;
                    }
                },
                Ended::Answered(Answer::Redirect { .. }, hops) => {
                    world.trace.fault(format!("G4: {} redirects and no end", hops + 1));
                    return;
                }
                Ended::Failed(failure) => {
                    if !may_happen(&failure) {
                        world.trace.fault(format!("{} was answered {failure:?}", named.1));
                        return;
                    }
                    Some(failure.to_string())
                }
                Ended::Nothing => None,
                Ended::Round => {
                    world.trace.fault(format!("G4: {} goes round in circles", named.1));
                    return;
                }
            };
            let ended = world.trace.elapsed();
            let crossed = world.reasons.crossed(&self.session.id, tried, ended);
            if !crossed && !world.reasons.explain(tried, ended) {
                let why = refused.unwrap_or_else(|| "no answer".to_owned());
                world.trace.fault(format!("G5: {} failed for no reason: {why}", named.1));
                return;
            }
            count(&world.counters.repeated_requests);
            if !self.remembers || self.chance.hits(300) {
                self.token = None;
            }
            let most = 20_u64 << attempt.min(6);
            tokio::time::sleep(self.chance.millis(most / 2, most)).await;
        }
        count(&world.counters.failed_requests);
    }

    /// Sends a request, and follows it.
    async fn attempt(&mut self, request: &Request, id: Option<&RequestId>) -> Ended {
        let f = self.session.f;
        let mut at = self.first();
        for hop in 0..HOPS {
            let token = self.token.clone().filter(|_| self.remembers);
            let way = (None, at, f);
            let sent = self.world.invoke(way, &self.session.id, id, token.as_ref(), request);
            let Ok(answer) = tokio::time::timeout(PATIENCE, sent).await else {
                return Ended::Nothing;
            };
            match answer {
                Some(Ok(Answer::Redirect { to, token })) => {
                    self.token = token.or(self.token.take());
                    let Some(next) = self.world.index(&to) else { return Ended::Round };
                    at = next;
                }
                Some(Ok(answer)) => return Ended::Answered(answer, hop),
                Some(Err(failure)) => return Ended::Failed(failure),
                None => return Ended::Nothing,
            }
        }
        Ended::Round
    }

    /// Whom it asks first: home, the place it remembers, or any edge it has come to.
    fn first(&self) -> usize {
        let known = self.token.as_ref().filter(|_| self.remembers);
        match known.and_then(|token| self.world.index(&token.current_location)) {
            Some(_) if self.chance.hits(200) => *self.chance.pick(&self.world.plan.edges),
            Some(place) if self.chance.hits(700) => place,
            _ => self.session.home,
        }
    }

    fn answered(
        &mut self,
        aim: Aim,
        token: Token,
        began: Duration,
        at: &SessionToken,
        response: &funicular::Response,
    ) {
        let world = &self.world;
        let home = &world.plan.sites[self.session.home];
        let Some(incarnation) = at.incarnation else { return };
        if at.proprietary_location != *home {
            let other = &at.proprietary_location;
            let id = &self.session.id;
            world.trace.fault(format!("rule 5: {id} of {home} was served in {other}'s session"));
            return;
        }
        if aim == Aim::Send {
            let targets = response.headers().get("x-targets").and_then(|text| text.to_str().ok());
            let targets = targets.and_then(|text| text.parse().ok()).unwrap_or(0);
            world.shadow.sent(token, targets);
        }
        let seen = Seen {
            began,
            ended: world.trace.elapsed(),
            list: listed(response.body()),
            wrote: (aim != Aim::Read).then_some(token),
        };
        let life = Life { home: home.clone(), incarnation };
        world.shadow.saw((self.session.f, self.session.id.clone(), life), seen);
        self.token = Some(at.clone());
    }
}

/// Whether a node in trouble may answer so.
fn may_happen(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Busy { .. }
            | Failure::OutcomeUnknown
            | Failure::LeaseLost
            | Failure::UnknownSession { .. }
            | Failure::MoveFailed(_)
            | Failure::Store(StoreError::Unavailable(_) | StoreError::Restarted)
            | Failure::Peer(PeerError::Unreachable { .. })
    )
}

impl Ended {
    fn hashed(&self) -> (u8, u16, Vec<u8>) {
        match self {
            Self::Answered(Answer::Response { response, .. }, hops) => {
                let hops = u8::try_from(*hops).unwrap_or(u8::MAX);
                (hops, response.status_code().as_u16(), response.body().to_vec())
            }
            Self::Answered(..) => (1, 0, Vec::new()),
            Self::Failed(_) => (2, 0, Vec::new()),
            Self::Nothing => (3, 0, Vec::new()),
            Self::Round => (4, 0, Vec::new()),
        }
    }

    fn said(&self) -> String {
        match self {
            Self::Answered(Answer::Response { response, token, replayed }, hops) => format!(
                "{} {:?} by {} under epoch {}, {hops} redirects{}",
                response.status_code(),
                listed(response.body()),
                token.current_location,
                token.epoch,
                if *replayed { ", replayed" } else { "" }
            ),
            Self::Answered(answer, _) => format!("{answer:?}"),
            Self::Failed(failure) => format!("failed: {failure}"),
            Self::Nothing => "no answer".to_owned(),
            Self::Round => "round in circles".to_owned(),
        }
    }
}
