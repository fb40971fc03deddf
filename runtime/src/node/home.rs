//! Home always knows where its sessions are: the owner tells it, until it
//! acknowledges.

use super::recover::Working;
use super::{Failure, Node, Outcome};
use crate::failpoint::reach;
use crate::peers::messages::UpdateCall;
use crate::protocol::{Event, Refusal, Reply};
use crate::session::{Epoch, Life, NodeName, Record, SessionId};
use crate::store::Durability;

impl Node {
    /// Tells home where the session is, if home has not acknowledged that yet.
    pub(super) async fn tell_home_now(&self, session: &SessionId) {
        if let Err(failure) = self.tell_home(session).await {
            tracing::debug!(
                node = %self.here(), function = %self.config.function,
                session = session.log_hash(), %failure, "home has not been told yet"
            );
        }
    }

    /// Tells home, and writes down that it knows; one at a time does, for what is written
    /// down later may concern what has come here since.
    pub(super) async fn tell_home(&self, session: &SessionId) -> Outcome<()> {
        let Some(_telling) = Working::begin(&self.telling, session) else {
            return Err(self.still_busy());
        };
        let snapshot = self.durable_snapshot(session).await?;
        match &snapshot.slot.record {
            Some(Record::Owned { life, epoch, untold: true, .. }) => {
                let known = self.update_home(session, life, *epoch, self.here(), false).await?;
                reach("target.told").await;
                if known > *epoch {
                    // An epoch names one owner: it went on without this node.
                    self.superseded(session, *epoch, known, &life.home).await?;
                } else {
                    self.step(session, &Event::Told { epoch: known }, Durability::Eventual).await?;
                }
            }
            Some(Record::Expired { life, epoch }) => {
                self.update_home(session, life, *epoch, self.here(), true).await?;
                self.ended(session, life, *epoch).await?;
                self.lines.changed(session);
            }
            _ => {}
        }
        Ok(())
    }

    /// Home knows that a session ended here. Requests are led here until then, and mean it.
    async fn ended(&self, session: &SessionId, life: &Life, epoch: Epoch) -> Outcome<()> {
        // Another replica may have been told meanwhile, and another session be here.
        let now = self.snapshot(session).await?.slot.record;
        if now != Some(Record::Expired { life: life.clone(), epoch }) {
            return Ok(());
        }
        let leaving = self.predecessors.leaves(self.token(session, life, epoch, &life.home));
        let event = Event::ExpiryTold { epoch };
        if self.step(session, &event, Durability::Eventual).await? == Reply::Unchanged {
            leaving.was_gone();
        }
        Ok(())
    }

    /// Sends `update-session`, and returns the epoch that home knows now. An answer
    /// that it knew a newer one is as good as an acknowledgement.
    pub(super) async fn update_home(
        &self,
        session: &SessionId,
        life: &Life,
        epoch: Epoch,
        at: &NodeName,
        expired: bool,
    ) -> Outcome<Epoch> {
        // A home that was given up is told when it is back: until then its pointer
        // leads here, and is not to be forgotten.
        if self.is_barred(&life.home) {
            return Err(Failure::Barred(life.home.clone()));
        }
        self.try_again(&life.home)?;
        let call = UpdateCall { token: self.token(session, life, epoch, at), expired };
        let timeout = self.config.peer_timeout;
        match self.post(&life.home, "update-session", &call, timeout).await {
            Ok(_) => Ok(epoch),
            Err(error) => match error.refusal() {
                Some(Refusal::StaleEpoch { epoch: known }) if *known >= epoch => Ok(*known),
                _ => Err(error.into()),
            },
        }
    }

    /// `update-session`: an owner says where a session of ours is, or that it ended.
    pub(crate) async fn updated(&self, from: &NodeName, call: &UpdateCall) -> Outcome<()> {
        self.admit(from)?;
        let token = &call.token;
        self.admit(&token.current_location)?;
        if token.proprietary_location != *self.here() {
            let home = &token.proprietary_location;
            return Err(Failure::BadCall(format!("home of this session is {home}")));
        }
        let Some(incarnation) = token.incarnation else {
            return Err(Failure::BadCall("the token names no incarnation".to_owned()));
        };
        let life = Life { home: self.here().clone(), incarnation };
        let event = if call.expired {
            Event::HomeExpired { life, epoch: token.epoch }
        } else {
            Event::HomeUpdate { life, epoch: token.epoch, to: token.current_location.clone() }
        };
        reach("home.update").await;
        // Rule 3: home's acknowledgement lets the owner forget.
        self.step(&token.session, &event, Durability::Synced).await?;
        reach("home.updated").await;
        self.lines.changed(&token.session);
        Ok(())
    }
}
