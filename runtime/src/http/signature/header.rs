//! The header's form. Strict: one way to write it, nothing left over.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Caller, Role, SignatureError};
use crate::peers::WireVersion;
use crate::session::{NodeName, Nonce};

/// Longer headers are not read.
const MAX_HEADER: usize = 512;

/// A header that reads; nothing in it is true before its signature was checked.
pub(super) struct Header<'a> {
    pub(super) version: WireVersion,
    pub(super) key_id: &'a str,
    pub(super) caller: Caller,
    /// Unix ms; answers have none.
    pub(super) time: Option<u64>,
    pub(super) nonce: Nonce,
    pub(super) signature: Vec<u8>,
}

impl<'a> Header<'a> {
    /// Reads a header of a version up to `newest`.
    pub(super) fn parse(text: &'a str, newest: WireVersion) -> Result<Self, SignatureError> {
        use SignatureError::Malformed;

        if text.len() > MAX_HEADER {
            return Err(Malformed("it is too long"));
        }
        let (version, rest) = text.trim().split_once(';').unwrap_or((text, ""));
        let version = version.strip_prefix("v=").ok_or(Malformed("it does not begin with `v=`"))?;
        let known = version.parse().ok().filter(|known| *known <= newest);
        // One way to write it: `02` is none.
        let Some(version) = known.filter(|known: &WireVersion| known.to_string() == version) else {
            let found = version.chars().take(16).collect();
            return Err(SignatureError::UnknownVersion { found, newest });
        };
        let mut parts = rest.split(';').peekable();
        let mut take = |name: &str| {
            let value = parts.peek()?.strip_prefix(name)?.strip_prefix('=')?;
            parts.next();
            Some(value)
        };
        let key_id = take("kid").ok_or(Malformed("`kid` is missing"))?;
        let role = match take("role") {
            Some("peer") => Role::Peer,
            Some("operator") => Role::Operator,
            _ => return Err(Malformed("`role` is neither peer nor operator")),
        };
        let name = take("from").and_then(|name| NodeName::new(name).ok());
        let name = name.ok_or(Malformed("`from` is no node's name"))?;
        let time = match take("t") {
            Some(time) => Some(time.parse().map_err(|_| Malformed("`t` is not a time"))?),
            None => None,
        };
        let nonce = take("n").and_then(|nonce| nonce.parse().ok());
        let nonce = nonce.ok_or(Malformed("`n` is not 32 hexadecimal digits"))?;
        let signature = take("sig").and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let signature = signature.ok_or(Malformed("`sig` is not base64url"))?;
        if parts.next().is_some() {
            return Err(Malformed("something follows `sig`"));
        }
        Ok(Self { version, key_id, caller: Caller { role, name }, time, nonce, signature })
    }
}
