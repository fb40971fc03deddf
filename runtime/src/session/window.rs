//! Entries of the deduplication window: the request ids a session remembers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::{LeaseId, Millis};

/// SHA-256 over what makes a request the same request: method, path, query, body.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x}{:02x}…", self.0[0], self.0[1])
    }
}

/// A response as the window keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers set by the handler.
    pub headers: Vec<(String, String)>,
    /// The body; `None` if it was larger than the window keeps.
    pub body: Option<Bytes>,
}

/// What the window knows of one request id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowEntry {
    /// What the request was.
    pub digest: Digest,
    /// Which turn committed it.
    pub lease: LeaseId,
    /// When, on the store's clock. A session that moves takes the age along,
    /// not the time.
    pub at: Millis,
    /// The first response.
    pub response: StoredResponse,
}

impl WindowEntry {
    /// The form in which stores keep it.
    pub fn encode(&self) -> Vec<u8> {
        // A struct of bytes, strings and numbers always serializes.
        rmp_serde::to_vec(self).unwrap_or_default()
    }

    /// Reads the stores' form.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        rmp_serde::from_slice(bytes).map_err(|e| format!("a window entry does not read: {e}"))
    }
}
