//! What nodes refuse each other, and operators: one constructor a code, all 409.

use super::each::SOON;
use super::{Code, Problem};
use crate::session::{Epoch, NodeName};

impl Problem {
    /// 409: the record is at a newer epoch than the message.
    pub fn stale_epoch(epoch: Epoch) -> Self {
        Self::new(
            Code::StaleEpoch,
            format!(
                "the session is at epoch {epoch} here, past what the message speaks of; \
                     ask where it is now"
            ),
        )
        .with("epoch", epoch)
    }

    /// 409: the id belongs to another session here.
    pub fn other_life() -> Self {
        Self::new(
            Code::OtherLife,
            "another session of the same id lives here or has its home here; \
             move this one to another node",
        )
    }

    /// 409: the session is on its way already.
    pub fn move_open() -> Self {
        Self::new(
            Code::MoveOpen,
            "another move of this session is under way; wait until it has ended",
        )
        .retry_after(SOON)
    }

    /// 409: the last move has not been acknowledged yet.
    pub fn unsettled() -> Self {
        Self::new(
            Code::Unsettled,
            "the node that this session came from has not acknowledged its move yet; \
             try again in a moment",
        )
        .retry_after(SOON)
    }

    /// 409: the message names a move that is over, or never was.
    pub fn no_such_move() -> Self {
        Self::new(
            Code::NoSuchMove,
            "the move that the message names is not open here; begin a new one",
        )
    }

    /// 409: what changed since a copy is not known (any more).
    pub fn no_such_copy() -> Self {
        Self::new(
            Code::NoSuchCopy,
            "what changed since that copy is not known here any more; begin the copy again",
        )
    }

    /// 409: the session is elsewhere; `to` is where, as far as is known.
    pub fn not_owner(to: Option<&NodeName>) -> Self {
        match to {
            Some(to) => Self::new(
                Code::NotOwner,
                format!("the session is at `{to}` as far as is known here; ask there"),
            )
            .with("location", to.as_str()),
            None => Self::new(Code::NotOwner, "the session is not here; ask its home where it is"),
        }
    }

    /// 409: the session cannot go now.
    pub fn in_use() -> Self {
        Self::new(
            Code::InUse,
            "the session is in use, or others still have to be told of it; try again in a moment",
        )
        .retry_after(SOON)
    }

    /// 409: the session went on without this node.
    pub fn superseded(epoch: Epoch) -> Self {
        Self::new(
            Code::Superseded,
            format!(
                "the session went on without this node and is at epoch {epoch}; what this node \
                 still had is kept in lost+found"
            ),
        )
        .with("epoch", epoch)
    }

    /// 409: the root was told to drain.
    pub fn root_stays() -> Self {
        Self::new(
            Code::RootStays,
            "the root cannot be drained, there is no node above it to take its sessions; drain \
             another node, or put a node above this one in the topology",
        )
    }

    /// 409: a restore is not begun, or not with these nodes; `why` says what to do.
    pub fn restore_refused(why: &str) -> Self {
        Self::new(Code::RestoreRefused, why.to_owned())
    }

    /// 409: sessions were asked down to a node that sends its own away.
    pub fn draining(here: &NodeName) -> Self {
        Self::new(
            Code::Draining,
            format!(
                "`{here}` is being drained and takes no sessions; end that with \
                 `funicular drain {here} --stop` first"
            ),
        )
    }

    /// 409: `set-offload-status reject` at the root.
    pub fn root_accepts() -> Self {
        Self::new(
            Code::RootAccepts,
            "the root has nobody to pass sessions on to; set its children to `reject` or `accept` \
             instead, or bound the root with `max_sessions`",
        )
    }

    /// 409: the session's schema is newer than the function here.
    pub fn older_schema(session: u32, here: u32) -> Self {
        Self::new(
            Code::OlderSchema,
            format!(
                "the session has schema {session} and the function here reads up to {here}; \
                 deploy the newer function here"
            ),
        )
        .with("session_schema", here)
    }
}
