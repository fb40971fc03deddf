//! The session token: who owns a session, as far as its bearer knows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::ids::{Epoch, FunctionName, Incarnation, InvalidId, NodeName, SessionId};

/// The version of the token's form that this build writes. Clients carry tokens to nodes
/// of the release before, so that one has to read it too: it takes the next number, and
/// passes over members that it does not know.
pub const TOKEN_VERSION: u32 = 1;

/// Where a session lives, as JSON, base64 in the header `X-session-token`.
///
/// From a client it is a hint and changes no record (G8); between nodes it
/// travels in signed calls and names the life and epoch meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionToken {
    /// The session's id.
    pub session: SessionId,
    /// Home: where it was created. Constant.
    pub proprietary_location: NodeName,
    /// The node that holds it now.
    pub current_location: NodeName,
    /// The function whose state it is. Constant.
    pub function: FunctionName,
    /// The owner's epoch.
    #[serde(default)]
    pub epoch: Epoch,
    /// Tells this life of the id from others. A client may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Version of this form; the first where none is said.
    #[serde(default = "first_version")]
    pub v: u32,
}

fn first_version() -> u32 {
    1
}

impl SessionToken {
    /// The header's form: base64 of the JSON.
    pub fn encode(&self) -> String {
        // A struct of strings and numbers always serializes.
        let mut json = Vec::with_capacity(256);
        let _ = serde_json::to_writer(&mut json, self);
        STANDARD.encode(json)
    }

    /// Reads the header's form; also takes the JSON itself, as the draft sends it.
    pub fn decode(text: &str) -> Result<Self, InvalidId> {
        let bad = |why: String| InvalidId::new("X-session-token", why);
        if text.len() > 4096 {
            return Err(bad("longer than 4096 characters".into()));
        }
        let json = if text.trim_start().starts_with('{') {
            text.as_bytes().to_vec()
        } else {
            STANDARD.decode(text.trim()).map_err(|e| bad(format!("not base64: {e}")))?
        };
        let token: Self =
            serde_json::from_slice(&json).map_err(|e| bad(format!("not a session token: {e}")))?;
        if token.v > TOKEN_VERSION + 1 {
            return Err(bad(format!("version {} is newer than this node reads", token.v)));
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_drafts_token_and_its_own() {
        let draft = r#"{"session":"s","proprietaryLocation":"navigli","currentLocation":"milan","function":"cart"}"#;
        let token = SessionToken::decode(draft).unwrap();
        assert_eq!(token.current_location.as_str(), "milan");
        assert_eq!(SessionToken::decode(&token.encode()).unwrap(), token);
        assert!(SessionToken::decode("!!").is_err());
        assert!(SessionToken::decode(&"A".repeat(5000)).is_err());
    }
}
