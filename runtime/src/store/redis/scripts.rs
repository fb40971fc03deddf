//! The Lua scripts. They compare and apply; decisions are made in Rust.
//!
//! Scripts are called by their SHA only, never loaded on the way: a store that
//! does not know them was restarted and has to be recovered first. Each text
//! names function and node, so that several of them can share one Redis and each
//! notices for itself.

use redis::{Cmd, Value};

use super::keys::SessionKeys;
use super::reply::{self, Parts};
use crate::store::StoreResult;

/// A script that requests and protocol steps call by its SHA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Begin,
    BeginFull,
    Commit,
    CommitFull,
    Together,
    Lease,
    Load,
    Apply,
    Read,
    Peek,
    Delivered,
    Stage,
    Export,
    Track,
    Index,
    Setting,
    Turn,
}

const PRELUDE: &str = include_str!("lua/prelude.lua");
/// Runs at any time: frees memory, or has to be written down whatever it costs.
const ANYTIME: &str = "flags=allow-oom";
/// Refused when Redis is out of memory.
const GROWS: &str = "";
const READS: &str = "flags=no-writes";
/// Names no keys: it goes where a scan leads.
const LOOKS_AROUND: &str = "flags=no-writes,allow-cross-slot-keys";

/// In the order of [`Script`].
const TEXTS: [(Script, &str, &str); 17] = [
    (Script::Begin, GROWS, include_str!("lua/begin.lua")),
    (Script::BeginFull, ANYTIME, include_str!("lua/begin.lua")),
    (Script::Commit, GROWS, include_str!("lua/commit.lua")),
    (Script::CommitFull, ANYTIME, include_str!("lua/commit.lua")),
    (Script::Together, GROWS, include_str!("lua/together.lua")),
    (Script::Lease, ANYTIME, include_str!("lua/lease.lua")),
    (Script::Load, READS, include_str!("lua/load.lua")),
    (Script::Apply, ANYTIME, include_str!("lua/apply.lua")),
    (Script::Read, READS, include_str!("lua/read.lua")),
    (Script::Peek, READS, include_str!("lua/peek.lua")),
    (Script::Delivered, ANYTIME, include_str!("lua/delivered.lua")),
    (Script::Stage, GROWS, include_str!("lua/stage.lua")),
    (Script::Export, READS, include_str!("lua/export.lua")),
    (Script::Track, ANYTIME, include_str!("lua/track.lua")),
    (Script::Index, ANYTIME, include_str!("lua/index.lua")),
    (Script::Setting, ANYTIME, include_str!("lua/setting.lua")),
    (Script::Turn, READS, include_str!("lua/turn.lua")),
];

/// One function's scripts at one node.
#[derive(Debug)]
pub(super) struct Scripts {
    /// SHA and text, in the order of [`Script`].
    hot: Vec<(String, String)>,
    /// What these do, under texts of their own.
    recovery: [(Script, String); 3],
    /// Finds what has to be recovered.
    find: String,
}

/// Scripts that do without the prelude, which costs: they run with every request.
const BARE: [Script; 2] = [Script::Together, Script::Turn];

fn text(flags: &str, whose: &str, body: &str) -> String {
    format!("#!lua {flags}\n-- {whose}\n{PRELUDE}\n{body}")
}

impl Scripts {
    /// `whose` names function, node and key prefix.
    pub(super) fn new(whose: &str) -> Self {
        let hot = TEXTS.iter().map(|(script, flags, body)| {
            let text = match BARE.contains(script) {
                true => format!("#!lua {flags}\n-- {whose}\n{body}"),
                false => text(flags, whose, body),
            };
            (redis::Script::new(&text).get_hash().to_owned(), text)
        });
        let recovery = [Script::Apply, Script::Index, Script::Setting].map(|script| {
            let (_, flags, body) = TEXTS[script as usize];
            (script, text(flags, &format!("{whose}, recovering"), body))
        });
        let find = text(LOOKS_AROUND, whose, include_str!("lua/find.lua"));
        Self { hot: hot.collect(), recovery, find }
    }

    /// A call with its keys, ready for arguments; the letters are those of the
    /// session's keys.
    pub(super) fn call(&self, script: Script, keys: &SessionKeys, letters: &str) -> Cmd {
        let mut cmd = self.start(script, letters.len(), 256);
        keys.push(&mut cmd, letters);
        cmd
    }

    /// A call with nothing but its number of keys; `size` is about how many
    /// bytes of keys and arguments follow.
    pub(super) fn start(&self, script: Script, keys: usize, size: usize) -> Cmd {
        let mut cmd = Cmd::with_capacity(32, size + 64);
        cmd.arg("EVALSHA").arg(&self.hot[script as usize].0).arg(keys);
        cmd
    }

    /// Like [`Scripts::start`], for the time before the hot scripts are loaded.
    pub(super) fn recovering(&self, script: Script, keys: usize) -> Cmd {
        let text = self.recovery.iter().find(|(known, _)| *known == script);
        let mut cmd = Cmd::new();
        cmd.arg("EVAL").arg(text.map_or("", |(_, text)| text)).arg(keys);
        cmd
    }

    /// Looks over some keys for sessions that had agreed to a move, or with `pending`
    /// for all about which somebody has to be asked or told something.
    pub(super) fn find(&self, cursor: &str, pattern: &str, count: usize, pending: bool) -> Cmd {
        let mut cmd = Cmd::new();
        cmd.arg("EVAL").arg(&self.find).arg(0).arg(cursor).arg(pattern).arg(count);
        cmd.arg(u8::from(pending));
        cmd
    }

    /// Asks which hot scripts are loaded.
    pub(super) fn exists(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("EXISTS");
        for (sha, _) in &self.hot {
            cmd.arg(sha);
        }
        cmd
    }

    /// Reads the answer to [`Scripts::exists`].
    pub(super) fn all_exist(answer: Value) -> StoreResult<bool> {
        let mut all = true;
        for known in Parts::new(answer)? {
            all &= reply::number(known)? == 1;
        }
        Ok(all)
    }

    /// The commands that load the hot scripts.
    pub(super) fn load(&self) -> Vec<Cmd> {
        let load = |(_, text): &(String, String)| {
            let mut cmd = redis::cmd("SCRIPT");
            cmd.arg("LOAD").arg(text);
            cmd
        };
        self.hot.iter().map(load).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_at_its_place_and_differs() {
        let scripts = Scripts::new("cart at milan");
        for (place, (script, ..)) in TEXTS.iter().enumerate() {
            assert_eq!(*script as usize, place);
        }
        let mut shas: Vec<_> = scripts.hot.iter().map(|(sha, _)| sha).collect();
        shas.sort();
        shas.dedup();
        assert_eq!(shas.len(), TEXTS.len());
    }

    #[test]
    fn g1_functions_and_nodes_notice_a_restart_each_for_itself() {
        let (one, other) = (Scripts::new("cart at milan"), Scripts::new("cart at brera"));
        for (left, right) in one.hot.iter().zip(&other.hot) {
            assert_ne!(left.0, right.0);
        }
    }
}
