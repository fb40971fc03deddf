//! Where a session is, as far as anyone knows.

use super::{Node, Outcome};
use crate::peers::messages::Whereabouts;
use crate::peers::{PeerCall, PeerError};
use crate::protocol::Event;
use crate::session::{Epoch, Life, Millis, NodeName, Record, SessionId, SessionToken};
use crate::store::Durability;

/// Where a client's token leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// A node says that it knows the session, and where it is.
    At(NodeName),
    /// Home says that it is here.
    Here,
    /// Nobody who answers knows it; home creates it.
    Home(NodeName),
    /// Neither the place nor home answers.
    Nobody,
}

impl Node {
    /// What this node says of a session that it knows.
    pub(super) fn token_of(&self, session: &SessionId, record: &Record) -> SessionToken {
        let at = match record {
            Record::Moved { to, .. } => to,
            _ => self.here(),
        };
        self.token(session, record.life(), record.epoch(), at)
    }

    pub(super) async fn ask_whereabouts(
        &self,
        of: &NodeName,
        session: &SessionId,
    ) -> Result<Option<Whereabouts>, PeerError> {
        // Visible ASCII, but `&`, `#`, `+` and `%` mean something in a query.
        let query = format!("session={}", crate::peers::query_value(session.as_str()));
        let call = |version| {
            Ok(PeerCall {
                version,
                endpoint: "test-function",
                query: Some(query.clone()),
                body: bytes::Bytes::new(),
                timeout: self.config.peer_timeout,
            })
        };
        match self.call(of, &self.config.function, call).await {
            Ok(answer) => super::calls::read(of, &answer).map(Some),
            Err(error) if error.code() == Some("no-such-session") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows a client's token: asks the place it names and home. The token
    /// itself is never believed, and changes no record (G8).
    pub(super) async fn follow_hint(&self, token: &SessionToken) -> Hint {
        let home = &token.proprietary_location;
        let place = Some(&token.current_location).filter(|place| *place != home);
        let (mut answered, mut here, mut pointed) = (false, false, None);
        for place in place.into_iter().chain([home]) {
            if place == self.here() || self.admit(place).is_err() {
                continue;
            }
            match self.ask_whereabouts(place, &token.session).await {
                // A session of another home has the same id, and is not meant.
                Ok(Some(found)) if found.token.proprietary_location == *home => {
                    here |= place == home && found.location == *self.here();
                    if found.location != *self.here() && self.admit(&found.location).is_ok() {
                        if place == home || found.location == *place {
                            return Hint::At(found.location);
                        }
                        // A pointer away from home may have outlived the session:
                        // home's word counts more.
                        pointed = Some(found.location);
                    }
                }
                Ok(_) => answered |= place == home,
                Err(error) => tracing::debug!(
                    node = %self.here(), function = %self.config.function,
                    session = token.session.log_hash(), %error, "a hint did not help"
                ),
            }
        }
        if here {
            return Hint::Here;
        }
        if answered || home == self.here() || self.topology().node(home).is_none() {
            return Hint::Home(home.clone());
        }
        pointed.map_or(Hint::Nobody, Hint::At)
    }

    /// Where a pointer leads. Away from home an old pointer asks home first, so
    /// that redirects end: epochs only grow along the way. `None` if home was asked in
    /// vain: then it leads where it leads by now.
    pub(super) async fn resolve_pointer(
        &self,
        session: &SessionId,
        life: &Life,
        epoch: Epoch,
        to: &NodeName,
        age: Millis,
    ) -> Option<NodeName> {
        let fresh = u64::try_from(self.config.pointer_fresh.as_millis()).unwrap_or(u64::MAX);
        if life.home == *self.here() || life.home == *to || age < fresh {
            return Some(to.clone());
        }
        match self.ask_home(session, life, epoch).await {
            Ok(Some((known, place))) if place != *self.here() => {
                let event = Event::Refresh { life: life.clone(), epoch: known, to: place.clone() };
                if let Err(failure) = self.step(session, &event, Durability::Eventual).await {
                    tracing::debug!(
                        node = %self.here(), function = %self.config.function,
                        session = session.log_hash(), epoch, %failure,
                        "a pointer stays as it is"
                    );
                }
                Some(place)
            }
            _ => None,
        }
    }

    /// Whether home may send requests of `life` here, or did so within `pointer_fresh`:
    /// this node's pointer leads to `to` under `epoch`, and home has not known that, or
    /// something newer, for long. Such a request carries no more than the session's id.
    pub(super) async fn home_may_lead_here(
        &self,
        session: &SessionId,
        life: &Life,
        epoch: Epoch,
        to: &NodeName,
    ) -> bool {
        let home = &life.home;
        // A pointer that leads home is no older than what home knows; and from a home
        // that was given up nobody comes.
        if home == to || self.is_barred(home) {
            return false;
        }
        let found = match self.pass_over(home) {
            Ok(()) => self.ask_whereabouts(home, session).await,
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(Some(found)) if found.token.incarnation == Some(life.incarnation) => found,
            // It has ended: home leads nobody anywhere.
            Ok(_) => return false,
            Err(error) => {
                tracing::debug!(
                    node = %self.here(), function = %self.config.function,
                    session = session.log_hash(), epoch, %error,
                    "what home knows is not known"
                );
                return true;
            }
        };
        let told = if found.token.epoch < epoch {
            // The owner is at it too; home's answer is all that the next offer waits for.
            self.update_home(session, life, epoch, to, false).await.map(drop)
        } else if found.location == *home {
            // It came home past this node, nobody knows here when: from now on this
            // pointer says so, and counts.
            let (epoch, to) = (found.token.epoch, home.clone());
            let event = Event::Refresh { life: life.clone(), epoch, to };
            self.step(session, &event, Durability::Eventual).await.map(drop)
        } else {
            let fresh = u64::try_from(self.config.pointer_fresh.as_millis()).unwrap_or(u64::MAX);
            // A home of an earlier version does not say since when.
            return found.location == *self.here()
                || found.pointer_age.is_some_and(|age| age < fresh);
        };
        if let Err(failure) = told {
            tracing::debug!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), %failure, "home has not been told yet"
            );
        }
        true
    }

    /// What home knows of a life, if that is at least as new as `epoch`.
    async fn ask_home(
        &self,
        session: &SessionId,
        life: &Life,
        epoch: Epoch,
    ) -> Outcome<Option<(Epoch, NodeName)>> {
        if self.is_barred(&life.home) {
            return Ok(None);
        }
        let found = self.ask_whereabouts(&life.home, session).await?;
        Ok(found.and_then(|found| {
            let same = found.token.incarnation == Some(life.incarnation)
                && found.token.proprietary_location == life.home;
            (same && found.token.epoch >= epoch).then_some((found.token.epoch, found.location))
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::node::{NodeConfig, Parts, ThisMachine};
    use crate::peers::{PeerAnswer, Peers};
    use crate::session::{FunctionName, Incarnation};
    use crate::store::memory::MemoryStore;
    use crate::store::{StoreScope, WindowLimits};
    use crate::topology::Topology;

    const TREE: &str = "
levels: [country, region, city]
root:
  name: italy
  gateway: http://italy.test
  children:
    - name: milan
      gateway: http://milan.test
      children:
        - name: navigli
          gateway: http://navigli.test
";

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn token(at: &str) -> SessionToken {
        SessionToken {
            session: SessionId::new("s").unwrap(),
            proprietary_location: name("navigli"),
            current_location: name(at),
            function: FunctionName::new("cart").unwrap(),
            epoch: 2,
            incarnation: Some(Incarnation(1)),
            v: 1,
        }
    }

    /// Milan has a pointer to Italy; navigli, home, knows nothing, or does not answer.
    #[derive(Default)]
    struct Pointer {
        home_answers: bool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Peers for Pointer {
        async fn call(
            &self,
            to: &NodeName,
            _: &FunctionName,
            _: PeerCall,
        ) -> Result<PeerAnswer, PeerError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if to.as_str() == "milan" {
                let found = Whereabouts {
                    offloaded: true,
                    location: name("italy"),
                    state: "moved".to_owned(),
                    token: token("italy"),
                    pointer_age: None,
                    keys: None,
                    bytes: None,
                };
                let body = serde_json::to_vec(&found).unwrap().into();
                return Ok(PeerAnswer { status: 200, body });
            }
            if !self.home_answers {
                return Err(crate::node::calls::unreachable(to, "away".to_owned()));
            }
            Err(PeerError::Refused {
                node: to.clone(),
                status: 404,
                code: "no-such-session".to_owned(),
                message: String::new(),
                retry_after: None,
                refusal: None,
            })
        }
    }

    fn node(here: &str, peers: Arc<Pointer>) -> Node {
        let function = FunctionName::new("cart").unwrap();
        let scope = StoreScope {
            function: function.clone(),
            here: name(here),
            window: WindowLimits::default(),
        };
        Node::new(Parts {
            config: NodeConfig::new(name(here), function),
            function: crate::Function::routes(()).into(),
            store: Arc::new(MemoryStore::new(scope)),
            peers,
            caller: None,
            machine: Arc::new(ThisMachine),
            topology: Arc::new(Topology::parse(TREE).unwrap()),
        })
    }

    async fn hint(here: &str, home_answers: bool) -> Hint {
        let peers = Arc::new(Pointer { home_answers, ..Pointer::default() });
        node(here, peers).follow_hint(&token("milan")).await
    }

    #[tokio::test]
    async fn g4_a_pointer_that_outlived_its_session_leads_home_and_not_in_circles() {
        assert_eq!(hint("navigli", true).await, Hint::Home(name("navigli")));
        assert_eq!(hint("italy", true).await, Hint::Home(name("navigli")));
        // While home is away, the pointer is all there is.
        assert_eq!(hint("italy", false).await, Hint::Nobody);
    }

    #[tokio::test]
    async fn a_home_that_is_the_place_as_well_is_asked_once() {
        let peers = Arc::new(Pointer { home_answers: true, ..Pointer::default() });
        let ended = node("italy", peers.clone()).follow_hint(&token("navigli")).await;
        assert_eq!(ended, Hint::Home(name("navigli")));
        assert_eq!(peers.asked.load(Ordering::Relaxed), 1);
    }
}
