//! Secrets, and the keys derived from them for one function.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::Role;
use crate::session::FunctionName;

/// The secret all nodes share.
pub const PEER_KEY: &str = "session-peer-key";
/// Secrets that are accepted while the peers' secret is rotated, one a line: the one
/// before, the one to come.
pub const PREVIOUS_PEER_KEY: &str = "session-peer-key-previous";
/// The secret of operators, the oracle and the dashboard.
pub const OPERATOR_KEY: &str = "session-operator-key";

/// How keys are derived: calls of all versions are signed with the same.
const DERIVATION: u32 = 1;

/// Shorter secrets are refused, in bytes.
pub const MIN_SECRET: usize = 16;

/// A secret as it stands in its file, without the whitespace around it. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes the content of a secret file; less than [`MIN_SECRET`] bytes are refused
    /// with the length that was found.
    pub fn new(content: &[u8]) -> Result<Self, usize> {
        let trimmed = content.trim_ascii();
        if trimmed.len() < MIN_SECRET { Err(trimmed.len()) } else { Ok(Self(trimmed.into())) }
    }

    /// Whether this is what somebody gives for it, whitespace around it aside. How long that
    /// takes does not tell how much of it is right.
    pub fn is(&self, given: &[u8]) -> bool {
        let tag = |secret: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&Sha256::digest(secret)).ok()?;
            mac.update(b"funicular: is this the secret?");
            Some(mac)
        };
        let (Some(ours), Some(theirs)) = (tag(&self.0), tag(given.trim_ascii())) else {
            return false;
        };
        theirs.verify(&ours.finalize().into_bytes()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What nodes sign with, and what they accept while keys rotate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerKeys {
    /// Signs, and is accepted.
    pub current: Secret,
    /// Are accepted only.
    pub previous: Vec<Secret>,
}

/// The secrets one process holds: a node has the peers', a tool the operators'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Of the nodes.
    pub peer: Option<PeerKeys>,
    /// Of operators.
    pub operator: Option<Secret>,
}

/// Why secrets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is none at all.
    #[error(
        "{0:?} holds neither `session-peer-key` nor `session-operator-key`; \
         create the secrets, or name the directory they are in"
    )]
    None(PathBuf),
    /// A file is there and cannot be read.
    #[error("the secret {path:?} cannot be read: {error}; let this user read it")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A secret that could be guessed.
    #[error(
        "the secret {path:?} has {length} bytes and needs at least {MIN_SECRET}; \
         make one with `openssl rand -hex 32`"
    )]
    TooShort {
        /// Which file.
        path: PathBuf,
        /// How many bytes it has, whitespace around them not counted.
        length: usize,
    },
    /// The rotation is half done.
    #[error(
        "{0:?} holds `session-peer-key-previous` but no `session-peer-key`; \
         put the new key in place first"
    )]
    OnlyPrevious(PathBuf),
    /// One key for two roles.
    #[error(
        "the peers' and the operators' secret in {0:?} are the same; \
         give operators one of their own, so that a tool cannot speak as a node"
    )]
    Same(PathBuf),
}

impl Keys {
    /// Reads `session-peer-key`, `session-peer-key-previous` and
    /// `session-operator-key` from a directory; each may be missing, but not all.
    pub fn from_dir(dir: &Path) -> Result<Self, KeyError> {
        let current = read(dir, PEER_KEY)?;
        let previous = read_lines(dir, PREVIOUS_PEER_KEY)?;
        let operator = read(dir, OPERATOR_KEY)?;
        let peer = match (current, previous) {
            (Some(current), previous) => Some(PeerKeys { current, previous }),
            (None, previous) if previous.is_empty() => None,
            (None, _) => return Err(KeyError::OnlyPrevious(dir.to_owned())),
        };
        if peer.is_none() && operator.is_none() {
            return Err(KeyError::None(dir.to_owned()));
        }
        if let (Some(peer), Some(operator)) = (&peer, &operator)
            && (&peer.current == operator || peer.previous.contains(operator))
        {
            return Err(KeyError::Same(dir.to_owned()));
        }
        Ok(Self { peer, operator })
    }

    /// Derives the keys of one function. Worth keeping where many calls follow.
    pub fn for_function(&self, function: &FunctionName) -> FunctionKeys {
        let derive = |role, secret: &Secret| Key::derive(role, function, secret);
        let mut keys = Vec::new();
        if let Some(peer) = &self.peer {
            // The first of a role signs.
            keys.push(derive(Role::Peer, &peer.current));
            keys.extend(peer.previous.iter().map(|secret| derive(Role::Peer, secret)));
        }
        keys.extend(self.operator.iter().map(|secret| derive(Role::Operator, secret)));
        FunctionKeys { function: function.clone(), keys: keys.into() }
    }
}

fn read(dir: &Path, name: &str) -> Result<Option<Secret>, KeyError> {
    let path = dir.join(name);
    let Some(content) = content(&path)? else { return Ok(None) };
    Secret::new(&content).map(Some).map_err(|length| KeyError::TooShort { path, length })
}

/// One secret a line; empty lines count for nothing, but a file without any secret
/// is refused.
fn read_lines(dir: &Path, name: &str) -> Result<Vec<Secret>, KeyError> {
    let path = dir.join(name);
    let Some(content) = content(&path)? else { return Ok(Vec::new()) };
    let lines = content.trim_ascii().split(|byte| *byte == b'\n');
    let lines =
        lines.filter(|line| !line.trim_ascii().is_empty() || content.trim_ascii().is_empty());
    lines
        .map(Secret::new)
        .collect::<Result<_, _>>()
        .map_err(|length| KeyError::TooShort { path, length })
}

fn content(path: &Path) -> Result<Option<Vec<u8>>, KeyError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeyError::Unreadable { path: path.to_owned(), error }),
    }
}

/// The keys that sign and check the calls of one function. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FunctionKeys {
    pub(super) function: FunctionName,
    keys: Arc<[Key]>,
}

impl FunctionKeys {
    /// The key that signs for a role.
    pub(super) fn signing(&self, role: Role) -> Option<&Key> {
        self.keys.iter().find(|key| key.role == role)
    }

    /// The short names of a role's keys, which every signature carries: the one that
    /// signs first, then those that are accepted only.
    pub fn ids(&self, role: Role) -> Vec<String> {
        let of_role = self.keys.iter().filter(|key| key.role == role);
        of_role.map(|key| key.id.clone()).collect()
    }

    /// The key that a header names.
    pub(super) fn named(&self, role: Role, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.role == role && key.id == id)
    }
}

/// One derived key.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) role: Role,
    /// A short hash of the key: tells keys apart while they rotate.
    pub(super) id: String,
    mac: Hmac<Sha256>,
}

impl Key {
    fn derive(role: Role, function: &FunctionName, secret: &Secret) -> Self {
        // Neither a role nor a function's name contains the separator.
        let info = format!("funicular/{DERIVATION}/{}/{function}", role.as_str());
        let mut key = [0_u8; 32];
        #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes")]
        Hkdf::<Sha256>::new(None, &secret.0).expand(info.as_bytes(), &mut key).expect("32 bytes");
        let hash = Sha256::new().chain_update(b"funicular key id").chain_update(key).finalize();
        let id = hash.iter().take(8).fold(0_u64, |id, byte| (id << 8) | u64::from(*byte));
        let id = format!("{id:016x}");
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mac = Hmac::new_from_slice(&key).expect("a key");
        Self { role, id, mac }
    }

    /// The MAC over parts, each with its length, so that no part can lend bytes
    /// to the next.
    pub(super) fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.role.as_str(), self.id)
    }
}
