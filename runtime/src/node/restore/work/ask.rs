//! What the others say, and what it comes to that one says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{AT_ONCE, EVERY, FoundSlots, Work};
use crate::node::calls::{read, unreachable};
use crate::node::{Failure, Outcome};
use crate::peers::PeerError;
use crate::peers::messages::{NameAnswer, NameCall, RestoreState};
use crate::protocol::{Named, unconfirmed};
use crate::session::{NodeName, SessionId};

/// How long a node may take to name a page; it waits for its disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the others have, by session.
type NamedSlots = BTreeMap<SessionId, Vec<Named>>;

/// What is made of a node that names nothing.
#[derive(Debug, PartialEq, Eq)]
enum Unheard {
    /// It has to be asked until it answers; why it does not.
    Waits(String),
    /// It does not have the function, as far as anybody on the way can say.
    Absent,
    /// It does not answer.
    Silent,
}

/// A 404 is not signed: a gateway says it too whose function is being deployed anew. Of a
/// node in the line it says nothing about what that has.
fn unheard(node: &NodeName, error: &PeerError, in_line: bool) -> Unheard {
    match error {
        PeerError::NoFunction { .. } if in_line => Unheard::Waits(format!(
            "{node} does not have the function, and may have sessions of it: deploy it there, or \
             go on with `--without {node}`"
        )),
        PeerError::NoFunction { .. } => Unheard::Absent,
        error if in_line => Unheard::Waits(error.to_string()),
        _ => Unheard::Silent,
    }
}

impl Work<'_> {
    /// All other nodes that are asked, and have not failed to answer.
    pub(super) fn others(&self) -> Vec<NodeName> {
        let status = self.node.restore.status.lock();
        let topology = self.node.topology();
        let names = topology.nodes().map(|node| &node.name);
        let asked = names.filter(|name| {
            *name != self.node.here()
                && !self.without.contains(name)
                && !status.unasked.contains(name)
                && !status.absent.contains(name)
        });
        asked.cloned().collect()
    }

    /// What all others have of these sessions. Nodes are not asked at one moment: one that
    /// a session went to after it was asked is asked again.
    pub(super) async fn name_all(&self, found: &FoundSlots) -> Outcome<NamedSlots> {
        let sessions = found.iter().map(|(session, _)| session.clone()).collect();
        let call = NameCall { sessions: Some(sessions), cursor: None };
        let mut named = NamedSlots::new();
        for (by, answer) in self.ask_all(&call).await? {
            take(&mut named, &by, answer)?;
        }
        let mut confirmed = BTreeSet::new();
        for _ in 0..=self.node.topology().nodes().count() {
            let asked = self.others().into_iter().collect();
            let mut again: BTreeMap<NodeName, Vec<SessionId>> = BTreeMap::new();
            for (session, slot) in found {
                let of = named.get(session).map_or(&[][..], Vec::as_slice);
                for (to, epoch) in unconfirmed(slot, self.node.here(), of, &asked) {
                    if confirmed.insert((session, to.clone(), epoch)) {
                        again.entry(to).or_default().push(session.clone());
                    }
                }
            }
            if again.is_empty() {
                return Ok(named);
            }
            for (to, sessions) in again {
                let call = NameCall { sessions: Some(sessions.clone()), cursor: None };
                let Some(answer) = self.ask(&to, &call).await? else { continue };
                for session in &sessions {
                    named.entry(session.clone()).or_default().retain(|named| named.by != to);
                }
                take(&mut named, &to, answer)?;
            }
        }
        let why = "sessions move faster than the nodes can be asked: it is tried again";
        Err(Failure::MoveFailed(why.to_owned()))
    }

    pub(super) async fn ask_all(&self, call: &NameCall) -> Outcome<Vec<(NodeName, NameAnswer)>> {
        let asked = self.others().into_iter().map(|node| async move {
            let answer = self.ask(&node, call).await?;
            Ok::<_, Failure>(answer.map(|answer| (node, answer)))
        });
        let answers = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        answers.try_filter_map(|answer| std::future::ready(Ok(answer))).try_collect().await
    }

    /// Asks a node until it answers. `None`: it cannot have a session of this node, and
    /// does not answer.
    pub(super) async fn ask(
        &self,
        node: &NodeName,
        call: &NameCall,
    ) -> Outcome<Option<NameAnswer>> {
        loop {
            let answer = self.node.post(node, "name-sessions", call, PATIENCE).await;
            let answer = answer.and_then(|answer| read::<NameAnswer>(node, &answer));
            let error = match answer {
                Ok(answer) if answer.node == *node => return Ok(Some(answer)),
                Ok(_) => unreachable(node, "another node answers".to_owned()),
                Err(error) => error,
            };
            let why = match unheard(node, &error, self.line.contains(node)) {
                Unheard::Waits(why) => why,
                other => {
                    let mut status = self.node.restore.status.lock();
                    let names = match other {
                        Unheard::Absent => &mut status.absent,
                        _ => &mut status.unasked,
                    };
                    if !names.contains(node) {
                        names.push(node.clone());
                    }
                    return Ok(None);
                }
            };
            tracing::info!(
                node = %self.node.here(), function = %self.node.config.function, why,
                "the restore waits"
            );
            self.waits(Some(why));
            tokio::time::sleep(EVERY).await;
            self.say().await?;
            if self.node.restore_wish().await?.as_ref() != Some(&self.without) {
                return Err(Failure::MoveFailed("it begins anew without other nodes".to_owned()));
            }
            self.waits(None);
        }
    }

    fn waits(&self, why: Option<String>) {
        let mut status = self.node.restore.status.lock();
        status.state = if why.is_some() { RestoreState::Waiting } else { RestoreState::Asking };
        status.waits_for = why;
    }
}

fn take(named: &mut NamedSlots, by: &NodeName, answer: NameAnswer) -> Outcome<()> {
    for record in answer.named {
        let Some((session, record)) = record.named(by) else {
            let why = format!("what {by} names does not read: bring both to one release");
            return Err(Failure::MoveFailed(why));
        };
        named.entry(session).or_default().push(record);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_a_node_in_the_line_without_the_function_is_waited_for() {
        let node: NodeName = "rome".parse().expect("a name");
        let absent = PeerError::NoFunction { node: node.clone() };
        let Unheard::Waits(why) = unheard(&node, &absent, true) else {
            panic!("an unsigned 404 is no answer");
        };
        assert!(why.contains("deploy it there") && why.contains("`--without rome`"), "{why}");
        assert_eq!(unheard(&node, &absent, false), Unheard::Absent);
        let away = unreachable(&node, "refused".to_owned());
        assert!(matches!(unheard(&node, &away, true), Unheard::Waits(_)));
        assert_eq!(unheard(&node, &away, false), Unheard::Silent);
    }
}
