//! Typed calls to the same function at another node.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Node;
use crate::peers::messages::{Message, MigrateCall, MoveAnswer};
use crate::peers::{PeerAnswer, PeerCall, PeerError, WireVersion};
use crate::session::{FunctionName, NodeName};

impl Node {
    /// Posts `body` to `/_/<endpoint>` of this function at `to`.
    pub(super) async fn post(
        &self,
        to: &NodeName,
        endpoint: &'static str,
        body: &impl Message,
        timeout: Duration,
    ) -> Result<PeerAnswer, PeerError> {
        let answer = self
            .call(to, &self.config.function, |version| {
                let body = body.write(version)?;
                Ok(PeerCall { version, endpoint, query: None, body: body.into(), timeout })
            })
            .await;
        self.note(to, answer.as_ref().err());
        answer
    }

    /// Calls `function` at `to`, with what `write` writes in the version that is spoken
    /// there. A node that was rolled back meanwhile says so, and is called again.
    pub(super) async fn call(
        &self,
        to: &NodeName,
        function: &FunctionName,
        write: impl Fn(WireVersion) -> serde_json::Result<PeerCall> + Send + Sync,
    ) -> Result<PeerAnswer, PeerError> {
        let mut version = self.peers.version(to, function);
        loop {
            let call = write(version).map_err(|error| {
                unreachable(to, format!("the call does not serialize: {error}"))
            })?;
            let answer = self.peers.call(to, function, call).await;
            if !answer.as_ref().is_err_and(PeerError::in_another_version) {
                return answer;
            }
            let older = self.peers.version(to, function);
            if older >= version {
                return answer;
            }
            version = older;
        }
    }

    /// Remembers for a moment that a node does not answer, or that it does.
    pub(super) fn note(&self, node: &NodeName, error: Option<&PeerError>) {
        let mut silent = self.silent.lock();
        if error.is_some_and(PeerError::unreachable) {
            self.meters.no_answer(node);
            // Short enough to keep what is promised once the node is back.
            let until = Instant::now() + self.config.recovery_interval / 4;
            silent.insert(node.clone(), until);
        } else {
            silent.remove(node);
        }
    }

    /// Work in the background passes over a node that has just not answered, so that
    /// it holds nobody up who waits for another one.
    pub(super) fn pass_over(&self, node: &NodeName) -> Result<(), PeerError> {
        let until = self.silent.lock().get(node).copied();
        match until {
            Some(until) if until > Instant::now() => {
                Err(unreachable(node, "it did not answer a moment ago".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The same for a call whose outcome is noted: of a node that did not answer one finds out
    /// at a time, and nobody else waits for it until then.
    pub(super) fn try_again(&self, node: &NodeName) -> Result<(), PeerError> {
        self.pass_over(node)?;
        if let Some(until) = self.silent.lock().get_mut(node) {
            *until = Instant::now() + self.config.recovery_interval / 4;
        }
        Ok(())
    }

    /// A `migrate-session` call whose answer must name what was asked, or it is none.
    pub(super) async fn migrate(
        &self,
        to: &NodeName,
        call: &MigrateCall,
    ) -> Result<MoveAnswer, PeerError> {
        let answer = self.post(to, "migrate-session", call, self.config.peer_timeout).await?;
        let answer: MoveAnswer = read(to, &answer)?;
        if answer.session != call.session || answer.epoch != call.epoch || answer.node != *to {
            return Err(unreachable(to, "the answer is to another question".to_owned()));
        }
        Ok(answer)
    }
}

/// Reads a JSON answer.
pub(super) fn read<T: DeserializeOwned>(
    from: &NodeName,
    answer: &PeerAnswer,
) -> Result<T, PeerError> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| unreachable(from, format!("its answer does not read: {error}")))
}

pub(super) fn unreachable(node: &NodeName, why: String) -> PeerError {
    PeerError::Unreachable { node: node.clone(), why }
}
