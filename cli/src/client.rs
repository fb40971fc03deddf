//! Signed calls to nodes, as the operator at this command line.

use std::time::Duration;

use anyhow::Result;
use funicular::http::signature::Keys;
use funicular::peers::operator::PATIENCE;
pub(crate) use funicular::peers::operator::{CallError, OperatorClient as Client};
use funicular::session::NodeName;

/// A client that signs with the operators' key.
pub(crate) fn open(keys: Keys) -> Result<Client> {
    patient(keys, PATIENCE)
}

/// The same, which waits so long for an answer.
pub(crate) fn patient(keys: Keys, patience: Duration) -> Result<Client> {
    Client::new(keys, NodeName::new("cli")?, patience).map_err(anyhow::Error::msg)
}

#[cfg(test)]
pub(crate) mod tests;
