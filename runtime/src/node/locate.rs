//! Where a session is, as far as anyone knows.

use super::{Node, Outcome};
use crate::peers::messages::Whereabouts;
use crate::peers::{PeerCall, PeerError};
use crate::protocol::Event;
use crate::session::{Epoch, Life, Millis, NodeName, SessionId, SessionToken};
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
    pub(super) async fn ask_whereabouts(
        &self,
        of: &NodeName,
        session: &SessionId,
    ) -> Result<Option<Whereabouts>, PeerError> {
        // Visible ASCII, but `&`, `#`, `+` and `%` mean something in a query.
        let query = format!("session={}", crate::peers::query_value(session.as_str()));
        let call = PeerCall {
            endpoint: "test-function",
            query: Some(query),
            body: bytes::Bytes::new(),
            timeout: self.config.peer_timeout,
        };
        match self.peers.call(of, &self.config.function, call).await {
            Ok(answer) => super::calls::read(of, &answer).map(Some),
            Err(error) if error.code() == Some("no-such-session") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows a client's token: asks the place it names and home. The token
    /// itself is never believed, and changes no record (G8).
    pub(super) async fn follow_hint(&self, token: &SessionToken) -> Hint {
        let home = &token.proprietary_location;
        let places = [&token.current_location, home];
        let (mut answered, mut here) = (false, false);
        for place in places {
            if place == self.here() || self.admit(place).is_err() {
                continue;
            }
            match self.ask_whereabouts(place, &token.session).await {
                // A session of another home has the same id, and is not meant.
                Ok(Some(found)) if found.token.proprietary_location == *home => {
                    if found.location != *self.here() && self.admit(&found.location).is_ok() {
                        return Hint::At(found.location);
                    }
                    here |= place == home && found.location == *self.here();
                }
                Ok(_) => answered |= place == home,
                Err(error) => tracing::debug!(node = %self.here(), %error, "a hint did not help"),
            }
        }
        if here {
            return Hint::Here;
        }
        match answered || home == self.here() || self.topology().node(home).is_none() {
            true => Hint::Home(home.clone()),
            false => Hint::Nobody,
        }
    }

    /// Where a pointer leads. Away from home an old pointer asks home first, so
    /// that redirects end: epochs only grow along the way.
    pub(super) async fn resolve_pointer(
        &self,
        session: &SessionId,
        life: &Life,
        epoch: Epoch,
        to: &NodeName,
        age: Millis,
    ) -> NodeName {
        let fresh = u64::try_from(self.config.pointer_fresh.as_millis()).unwrap_or(u64::MAX);
        if life.home == *self.here() || life.home == *to || age < fresh {
            return to.clone();
        }
        match self.ask_home(session, life, epoch).await {
            Ok(Some((known, place))) if place != *self.here() => {
                let event = Event::Refresh { life: life.clone(), epoch: known, to: place.clone() };
                if let Err(failure) = self.step(session, &event, Durability::Eventual).await {
                    tracing::debug!(node = %self.here(), %failure, "a pointer stays as it is");
                }
                place
            }
            _ => to.clone(),
        }
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
