//! Signed calls to nodes, as the operator at this command line.

use anyhow::Result;
use funicular::http::signature::Keys;
use funicular::peers::operator::PATIENCE;
pub(crate) use funicular::peers::operator::{CallError, OperatorClient as Client};
use funicular::session::NodeName;

/// A client that signs with the operators' key.
pub(crate) fn open(keys: Keys) -> Result<Client> {
    Client::new(keys, NodeName::new("cli")?, PATIENCE).map_err(anyhow::Error::msg)
}

#[cfg(test)]
pub(crate) mod tests;
