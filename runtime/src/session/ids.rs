//! The names things go by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Milliseconds on one store's own clock (or lengths of time, where said).
/// Never compared between machines.
pub type Millis = u64;

/// The fencing token of a life: an epoch names one owner, ever.
pub type Epoch = u64;

/// An identifier was refused; the text says why and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct InvalidId {
    /// Which identifier, in the words of the caller ("X-session", "node name").
    pub what: &'static str,
    /// What is wrong and what is allowed.
    pub why: String,
}

impl InvalidId {
    pub(crate) fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self { what, why: why.into() }
    }
}

fn visible_ascii(text: &str) -> bool {
    text.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// Checks and wraps `text`.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map_err(|why| InvalidId::new($what, why))?;
                Ok(Self(text.into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
    };
}

text_id!(
    /// The arbitrary string in the header `X-session`: 1–256 visible ASCII
    /// characters. Hashed in logs, never in a path, never a metric label.
    SessionId,
    "X-session",
    |text| {
        if text.is_empty() || text.len() > 256 || !visible_ascii(text) {
            return Err(format!(
                "a session id is 1 to 256 visible ASCII characters (this one has {} bytes)",
                text.len()
            ));
        }
        // What a proxy or a file system would read as something else is
        // refused too, though the id is never put into a path.
        let slash = |bytes: &[u8]| bytes.eq_ignore_ascii_case(b"%2f");
        if text.contains("../") || text.as_bytes().windows(3).any(slash) {
            return Err("a session id does not contain `../` or `%2F`".to_owned());
        }
        Ok(())
    }
);

impl SessionId {
    /// A short stable hash to write into logs instead of the id.
    pub fn log_hash(&self) -> String {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(self.0.as_bytes()))
    }
}

/// Names of nodes and functions go into URLs, so they are DNS labels, as in
/// OpenFaaS: `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, at most 63 characters.
fn dns_label(text: &str) -> Result<(), String> {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if bytes.len() <= 63 && inner && edge(bytes.first()) && edge(bytes.last()) {
        Ok(())
    } else {
        Err(format!("{text:?} is not 1 to 63 lower-case letters, digits and inner hyphens"))
    }
}

text_id!(
    /// One node of the tree, as `LOCATION_ID` names it.
    NodeName,
    "node name",
    dns_label
);

text_id!(
    /// A function, as OpenFaaS names it.
    FunctionName,
    "function name",
    dns_label
);

text_id!(
    /// `X-session-request-id` or `Idempotency-Key`: 1–128 visible ASCII characters.
    RequestId,
    "X-session-request-id",
    |text| {
        if text.is_empty() || text.len() > 128 || !visible_ascii(text) {
            Err(format!(
                "a request id is 1 to 128 visible ASCII characters, usually a UUID \
                 (this one has {} bytes)",
                text.len()
            ))
        } else {
            Ok(())
        }
    }
);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub u128);

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(hex(self.0, &mut [0; 32]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(hex(self.0, &mut [0; 32]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(InvalidId::new($what, "expected 32 hexadecimal digits"));
                }
                u128::from_str_radix(text, 16)
                    .map(Self)
                    .map_err(|error| InvalidId::new($what, error.to_string()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

/// 32 digits. Every token has them, and to format a number takes several times as long.
fn hex(id: u128, digits: &mut [u8; 32]) -> &str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

random_id!(
    /// Random, given when a session is created; tells one life of a session id
    /// from the next. Only equality counts.
    Incarnation,
    "incarnation"
);
random_id!(
    /// Random, names one attempt of a target to pull one session.
    Nonce,
    "nonce"
);
random_id!(
    /// Random, names one exclusive turn of a writing request.
    LeaseId,
    "lease id"
);

/// The key of a session at a node: function and session id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// The function whose state it is.
    pub function: FunctionName,
    /// The client's id.
    pub session: SessionId,
}

impl SessionKey {
    /// Puts the two together.
    pub fn new(function: FunctionName, session: SessionId) -> Self {
        Self { function, session }
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/#{}", self.function, self.session.log_hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g8_session_ids_that_could_be_misread_are_refused() {
        for bad in ["", "a b", "a\n", "a\tb", "é", "../x", "a%2Fb", "a%2fb", &"x".repeat(257)] {
            assert!(SessionId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "user-1", "{x}", "a:b|c", "100%", &"x".repeat(256)] {
            assert!(SessionId::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        assert!(NodeName::new("milan-2").is_ok());
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", &"a".repeat(64)] {
            assert!(NodeName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn random_ids_survive_their_text() {
        for id in [0, 0x1f, 0xfedc_ba98_7654_3210, u128::MAX].map(Incarnation) {
            assert_eq!(id.to_string(), format!("{:032x}", id.0));
            assert_eq!(id.to_string().parse::<Incarnation>(), Ok(id));
        }
        assert!("1f".parse::<Incarnation>().is_err());
        assert!("+0000000000000000000000000000001".parse::<Incarnation>().is_err());
    }
}
