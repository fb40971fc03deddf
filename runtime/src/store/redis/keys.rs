//! What the keys in Redis are called.
//!
//! All keys of one session share a hash tag, so that a script may touch them
//! together in a cluster too: `f:{<function>/<session>}:m` and so on. The
//! function's index is spread over keys of its own: `f:<function>:pending`; in a
//! cluster they share a hash tag too: `f:{<function>}:pending`.

use std::fmt::Write as _;

use redis::{Cmd, RedisWrite as _};

use super::encode::short;
use crate::session::{FunctionName, Millis, NodeName, Nonce, SessionId};

/// The five keys of a session, of a stage, and of what was set aside.
pub(super) const WHOLE: &str = "mdqox";
/// The same with the changes since a copy began, which only a session has.
pub(super) const TRACKED: &str = "mdqoxz";

/// The names of one function's keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// `f:{<function>/`
    sessions: String,
    /// `f:<function>:`, in a cluster `f:{<function>}:`, so that all of it is in one place
    index: String,
}

/// The keys of one session (or of a stage of it), each one letter away.
#[derive(Debug, Clone)]
pub(super) struct SessionKeys(String);

impl Keys {
    pub(super) fn new(prefix: &str, function: &FunctionName) -> Self {
        Self { sessions: format!("{prefix}:{{{function}/"), index: format!("{prefix}:{function}:") }
    }

    /// The names in a cluster.
    pub(super) fn clustered(prefix: &str, function: &FunctionName) -> Self {
        Self { index: format!("{prefix}:{{{function}}}:"), ..Self::new(prefix, function) }
    }

    pub(super) fn session(&self, session: &SessionId) -> SessionKeys {
        let id = session.as_str();
        let mut base = String::with_capacity(self.sessions.len() + id.len() + 16);
        base.push_str(&self.sessions);
        for character in id.chars() {
            match character {
                // A brace of the id's would end the hash tag.
                '{' | '}' | '%' => {
                    let _ = write!(base, "%{:02X}", character as u32);
                }
                _ => base.push(character),
            }
        }
        base.push_str("}:");
        SessionKeys(base)
    }

    /// Matches the meta key of every session of the function, and no other key.
    pub(super) fn pattern(&self) -> String {
        format!("{}*}}:m", self.sessions)
    }

    /// The session whose meta key this is.
    pub(super) fn session_of(&self, meta: &[u8]) -> Option<SessionId> {
        let text = std::str::from_utf8(meta).ok()?;
        let mut rest = text.strip_prefix(&self.sessions)?.strip_suffix("}:m")?;
        let mut id = String::with_capacity(rest.len());
        while let Some((plain, escaped)) = rest.split_once('%') {
            let (code, after) = escaped.split_at_checked(2)?;
            id.push_str(plain);
            id.push(char::from(u8::from_str_radix(code, 16).ok()?));
            rest = after;
        }
        id.push_str(rest);
        SessionId::new(id).ok()
    }

    /// Sessions that may be pending, scored with when they were marked.
    pub(super) fn pending(&self) -> String {
        format!("{}pending", self.index)
    }

    /// The homes of the sessions that are here.
    pub(super) fn homes(&self) -> String {
        format!("{}homes", self.index)
    }

    /// Sessions of one home that are here, scored with when they were used.
    pub(super) fn residents(&self, home: &NodeName) -> String {
        format!("{}residents:{home}", self.index)
    }

    /// Pointers, scored with when they were last confirmed.
    pub(super) fn pointers(&self) -> String {
        format!("{}pointers", self.index)
    }

    /// The function's settings at this node.
    pub(super) fn settings(&self) -> String {
        format!("{}settings", self.index)
    }

    /// Changes whenever a pointer does, see `pointers`.
    pub(super) fn turn(&self) -> String {
        format!("{}turn", self.index)
    }

    /// Written before waiting for the disk, so that there is something to wait for.
    pub(super) fn sync(&self) -> String {
        format!("{}sync", self.index)
    }

    /// The same in a cluster, where each master has one of its own.
    pub(super) fn sync_at(&self, number: u32) -> String {
        let function = self.sessions.trim_end_matches('/');
        format!("{function}:sync/{number}}}")
    }
}

impl SessionKeys {
    /// The keys under which pages of one pull wait.
    pub(super) fn stage(&self, nonce: Nonce) -> Self {
        Self(format!("{}s:{}:", self.0, short(nonce.0)))
    }

    /// The keys of lost+found, named by the moment of setting aside.
    pub(super) fn lost(&self, now: Millis) -> Self {
        Self(format!("{}lost:{now}:", self.0))
    }

    pub(super) fn meta(&self) -> String {
        format!("{}m", self.0)
    }

    /// Adds the keys with these letters to a command.
    pub(super) fn push(&self, cmd: &mut Cmd, letters: &str) {
        for letter in letters.chars() {
            cmd.write_arg_fmt(format_args!("{}{letter}", self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_keys() {
        let keys = Keys::new("f", &FunctionName::new("cart").unwrap());
        for id in ["user-1", "{x}", "a}:m", "100%", "%7B", "*?[a]\\", "}", "%%{{}}"] {
            let session = SessionId::new(id).unwrap();
            let meta = keys.session(&session).meta();
            assert_eq!(keys.session_of(meta.as_bytes()), Some(session));
            // One hash tag, the session's own.
            assert_eq!(meta.matches('}').count(), 1);
            assert_eq!(meta.matches('{').count(), 1);
        }
    }

    #[test]
    fn stages_and_lost_and_found_are_not_sessions() {
        let keys = Keys::new("f", &FunctionName::new("cart").unwrap());
        let session = keys.session(&SessionId::new("s").unwrap());
        assert_eq!(keys.session_of(session.stage(Nonce(1)).meta().as_bytes()), None);
        assert_eq!(keys.session_of(session.lost(1).meta().as_bytes()), None);
    }
}
