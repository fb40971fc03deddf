//! What one request changes, gathered until it commits.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::{FunctionName, NodeName};

/// One change to a session's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a value.
    Set {
        /// The value's name.
        key: String,
        /// Its new content.
        value: Bytes,
    },
    /// Removes a value and the list of the same name.
    Delete {
        /// The name.
        key: String,
    },
    /// Appends to a list, creating it.
    Append {
        /// The list's name.
        list: String,
        /// The new item.
        value: Bytes,
    },
    /// Removes a list.
    ClearList {
        /// The list's name.
        list: String,
    },
}

/// A message that a commit sends to another node: durable with the commit,
/// delivered at least once, taken once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// The commit's lease id and the entry's index: `<32 hex>-<index>`.
    pub id: String,
    /// The receiving function.
    pub function: FunctionName,
    /// The receiving node.
    pub to: NodeName,
    /// The node on which the commit happened.
    pub from: NodeName,
    /// The value, at most `max_body` bytes.
    pub value: Bytes,
}

/// Everything one request changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Data, in the order of the calls.
    pub data: Vec<Change>,
    /// Messages to other nodes.
    pub outbox: Vec<OutboxEntry>,
}

impl Changes {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.outbox.is_empty()
    }
}
