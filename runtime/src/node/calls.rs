//! Typed calls to the same function at another node.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Node;
use crate::peers::messages::{MigrateCall, MoveAnswer};
use crate::peers::{PeerAnswer, PeerCall, PeerError};
use crate::session::NodeName;

impl Node {
    /// Posts `body` to `/_/<endpoint>` of this function at `to`.
    pub(super) async fn post<T: Serialize + Sync>(
        &self,
        to: &NodeName,
        endpoint: &'static str,
        body: &T,
        timeout: Duration,
    ) -> Result<PeerAnswer, PeerError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| unreachable(to, format!("the call does not serialize: {error}")))?;
        let call = PeerCall { endpoint, query: None, body: Bytes::from(body), timeout };
        self.peers.call(to, &self.config.function, call).await
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
