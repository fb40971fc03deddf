//! Another node's store was put back: what this one has of its sessions.

use crate::node::retree::names;
use crate::node::{Failure, Node, Outcome};
use crate::peers::messages::{NameAnswer, NameCall, NamedSession};
use crate::protocol::Event;
use crate::session::{NodeName, SessionId, Slot};
use crate::store::Durability;

/// So many sessions may be asked about at once.
pub(super) const A_CALL: usize = 2048;

impl Node {
    /// `name-sessions`: what is here of some sessions, or a page of all records here that
    /// name the node that asks. It is on disk before it is said, and what is pulled from
    /// there does not install any more: the node may go on with it.
    pub(crate) async fn name_sessions(
        &self,
        from: &NodeName,
        call: NameCall,
    ) -> Outcome<NameAnswer> {
        self.admit(from)?;
        // A store that was restarted may have forgotten steps, and is recovered first.
        self.recovered(|| self.store.counts()).await?;
        let all = call.sessions.is_none();
        let (found, next) = match call.sessions {
            Some(sessions) if sessions.len() > A_CALL => {
                let why = format!("ask about {A_CALL} sessions at a time");
                return Err(Failure::BadCall(why));
            }
            Some(sessions) => {
                let slots = self.store.slots(&sessions).await?;
                (sessions.into_iter().zip(slots).collect(), None)
            }
            None => {
                let page = self.store.walk(call.cursor).await?;
                (page.found, page.next)
            }
        };
        let looked = found.len() as u64;
        let mut named = Vec::new();
        for (session, slot) in found {
            if all && !names(&slot).contains(&from) {
                continue;
            }
            let slot = self.without_pull(from, &session, slot).await?;
            named.extend(NamedSession::of(session, &slot));
        }
        self.store.on_disk().await?;
        Ok(NameAnswer { node: self.here().clone(), named, next, looked })
    }

    async fn without_pull(&self, from: &NodeName, id: &SessionId, slot: Slot) -> Outcome<Slot> {
        let Some(pull) = slot.pull.as_ref().filter(|pull| pull.from == *from) else {
            return Ok(slot);
        };
        let event = Event::ClosePull { nonce: pull.nonce };
        self.step(id, &event, Durability::Eventual).await?;
        self.lines.changed(id);
        // It may have been installed just before.
        Ok(self.snapshot(id).await?.slot)
    }
}
