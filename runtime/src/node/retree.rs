//! The tree changes while the node is at work.
//!
//! A tree is refused that would leave a session behind: one that lacks this node, a
//! node that is home of a session here or that a pointer here leads to, or one in
//! which a session that is here could not come back down to its home.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::retire::{ALL, EVER};
use super::{Node, Outcome};
use crate::peers::messages::TopologyStatus;
use crate::session::{NodeName, Record, SessionId, Slot};
use crate::topology::{Change, Topology};

/// Records that are looked at at once.
const AT_ONCE: usize = 32;

impl Node {
    /// Replaces the tree, unless a session would be left behind: the error says which
    /// node it is about and what to do. The same tree again is no change.
    pub async fn change_topology(&self, new: Arc<Topology>) -> Result<bool, String> {
        let old = self.topology();
        let changed = match *old == *new {
            true => Ok(false),
            false => self.change_tree(&old, new).await.map(|()| true),
        };
        self.refuse_topology(changed.as_ref().err().cloned());
        if let Ok(true) = changed {
            // Whoever waits for a node that was not there may find it now.
            self.wake.notify_one();
        }
        changed
    }

    async fn change_tree(&self, old: &Arc<Topology>, new: Arc<Topology>) -> Result<(), String> {
        let here = self.here();
        let Some(change) = old.change(&new, here) else {
            return Err(format!(
                "it lacks `{here}`, this node: run `funicular retire {here}` first, then take the \
                 function away here"
            ));
        };
        self.leaves_nothing_behind(&change).await?;
        *self.topology.write() = new;
        // What came in while it was being looked for, from now on nothing does; and what
        // the index has lost.
        let nothing = match self.leaves_nothing_behind(&change).await {
            Ok(()) => self.no_record_is_left_behind(&change).await,
            behind => behind,
        };
        if nothing.is_err() {
            *self.topology.write() = Arc::clone(old);
        }
        nothing
    }

    /// A newer tree does not even read.
    pub fn topology_unreadable(&self, why: String) {
        self.refuse_topology(Some(why));
    }

    fn refuse_topology(&self, why: Option<String>) {
        self.meters.topology_refused(why.is_some());
        *self.topology_refused.lock() = why;
    }

    pub(super) fn topology_status(&self) -> TopologyStatus {
        let topology = self.topology();
        TopologyStatus {
            digest: topology.digest().to_owned(),
            nodes: topology.nodes().count() as u64,
            refused: self.topology_refused.lock().clone(),
        }
    }

    async fn leaves_nothing_behind(&self, change: &Change) -> Result<(), String> {
        if *change == Change::default() {
            return Ok(());
        }
        match self.left_behind(change).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(why),
            // What is here cannot be known: nothing changes.
            Err(failure) => {
                Err(format!("whether it leaves a session behind is not known: {failure}"))
            }
        }
    }

    /// Why a change would leave a session behind, if it would.
    async fn left_behind(&self, change: &Change) -> Outcome<Option<String>> {
        for home in &change.removed {
            if !self.store.residents(Some(std::slice::from_ref(home)), 1).await?.is_empty() {
                return Ok(Some(lacks_home(home)));
            }
        }
        for home in &change.severed {
            if !self.store.residents(Some(std::slice::from_ref(home)), 1).await?.is_empty() {
                return Ok(Some(self.severs(home)));
            }
        }
        if change.removed.is_empty() {
            return Ok(None);
        }
        let mut named = self.store.pending(ALL).await?;
        named.extend(self.store.old_pointers(EVER, ALL).await?);
        let found = stream::iter(named)
            .map(|session| self.names_removed(session, &change.removed))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| std::future::ready(Ok(found)));
        futures_util::pin_mut!(found);
        Ok(found.try_next().await?.map(|name| lacks_place(&name)))
    }

    /// The same by the records themselves.
    async fn no_record_is_left_behind(&self, change: &Change) -> Result<(), String> {
        if *change == Change::default() {
            return Ok(());
        }
        let mut cursor = None;
        loop {
            let page = self.store.walk(cursor).await.map_err(|failure| {
                format!("whether it leaves a session behind is not known: {failure}")
            })?;
            for (_, slot) in &page.found {
                if let Some(why) = self.record_left_behind(slot, change) {
                    return Err(why);
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    fn record_left_behind(&self, slot: &Slot, change: &Change) -> Option<String> {
        if let Some(record) = slot.record.as_ref().filter(|record| record.holds_data()) {
            let home = &record.life().home;
            if change.removed.contains(home) {
                return Some(lacks_home(home));
            }
            if change.severed.contains(home) {
                return Some(self.severs(home));
            }
        }
        let named = names(slot).into_iter().find(|name| change.removed.contains(name));
        named.map(lacks_place)
    }

    fn severs(&self, home: &NodeName) -> String {
        let here = self.here();
        format!(
            "`{home}` does not stand below `{here}` in it, and sessions of that home are here: \
             bring them back with `funicular onload --node {home}` first"
        )
    }

    async fn names_removed(
        &self,
        session: SessionId,
        removed: &[NodeName],
    ) -> Outcome<Option<NodeName>> {
        let snapshot = self.snapshot(&session).await?;
        let named = names(&snapshot.slot).into_iter().find(|name| removed.contains(name));
        Ok(named.cloned())
    }
}

fn lacks_home(home: &NodeName) -> String {
    format!(
        "it lacks `{home}`, the home of sessions that are here: run `funicular retire {home}` \
         first, or put the node back"
    )
}

fn lacks_place(name: &NodeName) -> String {
    format!(
        "it lacks `{name}`, where sessions of this node are or came from: bring them back \
         (`funicular retire {name}` does), or put the node back"
    )
}

/// The nodes that a session needs to be in the tree.
pub(super) fn names(slot: &Slot) -> Vec<&NodeName> {
    let mut names = Vec::new();
    if let Some(pull) = &slot.pull {
        names.extend([&pull.from, &pull.life.home]);
    }
    match &slot.record {
        Some(Record::Owned { life, intent, unsettled, .. }) => {
            names.push(&life.home);
            names.extend(intent.as_ref().map(|transfer| &transfer.to));
            names.extend(unsettled);
        }
        Some(Record::Migrating { life, transfer, .. }) => names.extend([&life.home, &transfer.to]),
        Some(Record::Moved { life, to, .. }) => names.extend([&life.home, to]),
        Some(Record::Expired { life, .. }) => names.push(&life.home),
        None => {}
    }
    names
}
