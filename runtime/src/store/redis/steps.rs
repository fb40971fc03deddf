//! Protocol steps: load, decide in Rust, write if nothing changed in between.

use redis::{Cmd, Value};

use super::Core;
use super::encode::{self, FIELDS, Raw};
use super::keys::{SessionKeys, WHOLE};
use super::marks::Change;
use super::pointers::is_pointer;
use super::reply::{self, Parts, corrupt};
use super::scripts::Script;
use super::shard::Witness;
use crate::protocol::{self, Event, Payload, Refusal, Reply, Step};
use crate::session::{Millis, NodeName, Nonce, Record, SessionId, Slot};
use crate::store::{Durability, Snapshot, StoreError, StoreResult};

/// The keys of a session with the changes second, as the script takes them.
const ALL: &str = "mzdqox";

/// A session on which others write without a pause is left alone after this
/// many attempts. What requests do to it does not count: it is not compared.
const ATTEMPTS: usize = 64;

/// What was known of a session at one moment.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) raw: Raw,
    pub(super) snapshot: Snapshot,
    /// Whether all pages of the pull that was asked about are there.
    staged: bool,
    witness: Option<Witness>,
}

/// What became of an attempt to write.
enum Applied {
    Written,
    Conflict,
    NotStaged,
}

impl Core {
    pub(super) async fn snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        Ok(self.load(session, None, false).await?.snapshot)
    }

    pub(super) async fn durable_snapshot(&self, session: &SessionId) -> StoreResult<Snapshot> {
        let found = self.load(session, None, self.servers.waits()).await?;
        if let Some(witness) = found.witness {
            witness.on_disk().await?;
        }
        Ok(found.snapshot)
    }

    pub(super) fn load_call(&self, session: &SessionId, stage: Option<Nonce>) -> Cmd {
        let keys = self.keys.session(session);
        let count = 3 + usize::from(stage.is_some());
        let mut cmd = self.scripts.start(Script::Load, count, 256);
        keys.push(&mut cmd, "mdo");
        if let Some(nonce) = stage {
            keys.stage(nonce).push(&mut cmd, "m");
        }
        cmd
    }

    async fn load(
        &self,
        session: &SessionId,
        stage: Option<Nonce>,
        witness: bool,
    ) -> StoreResult<Loaded> {
        let call = self.load_call(session, stage);
        if !witness {
            return loaded(self.at(session).call(&call).await?);
        }
        let (answer, witness) = self.at(session).witnessed(&call).await?;
        Ok(Loaded { witness, ..loaded(answer)? })
    }

    pub(super) async fn step(
        &self,
        session: &SessionId,
        event: &Event,
        durability: Durability,
    ) -> StoreResult<Result<Reply, Refusal>> {
        let wait = durability == Durability::Synced && self.servers.waits();
        let stage = match event {
            Event::Install { pull } => Some(pull.nonce),
            _ => None,
        };
        let mut outdated = false;
        for _ in 0..ATTEMPTS {
            let found = self.load(session, stage, wait).await?;
            let (answer, witness) = match self.decide(event, &found) {
                Err(refusal) => (Err(refusal), found.witness),
                Ok(step) if step.payload == Payload::Keep && step.slot == found.snapshot.slot => {
                    (Ok(step.reply), found.witness)
                }
                Ok(step) => match self.apply(session, event, &found, &step, wait).await? {
                    (Applied::Conflict, _) => {
                        outdated = true;
                        continue;
                    }
                    (Applied::NotStaged, witness) => (Err(Refusal::NoSuchMove), witness),
                    (Applied::Written, witness) => {
                        outdated = false;
                        (Ok(step.reply), witness)
                    }
                },
            };
            if outdated {
                // The index was told of something that did not happen.
                self.reindex(session, &found.snapshot.slot);
            }
            // Whatever is said may rest on a write that is not on disk yet, this
            // one or one before it: the answer that nothing changes waits too.
            if let Some(witness) = witness {
                witness.on_disk().await?;
            }
            return Ok(answer);
        }
        Err(StoreError::Unavailable(format!(
            "others changed the session {ATTEMPTS} times while it was being changed: try again"
        )))
    }

    fn decide(&self, event: &Event, found: &Loaded) -> Result<Step, Refusal> {
        let slot = &found.snapshot.slot;
        if let Event::Install { pull } = event
            && slot.pull.as_ref() == Some(pull)
            && !found.staged
        {
            return Err(Refusal::NoSuchMove);
        }
        protocol::step(slot, &self.scope.here, found.snapshot.now, event)
    }

    async fn apply(
        &self,
        session: &SessionId,
        event: &Event,
        found: &Loaded,
        step: &Step,
        witness: bool,
    ) -> StoreResult<(Applied, Option<Witness>)> {
        let keys = self.keys.session(session);
        let start = |count| self.scripts.start(Script::Apply, count, 1024);
        let change = Change {
            cmd: apply_call(start, &keys, event, found, step, self.turn_key().as_deref()),
            marks: step.slot.pending(),
            index: self.index_calls(session, &found.snapshot.slot, &step.slot),
            witness,
        };
        let (answer, witness) = self.change(session, change).await?;
        let written = match reply::number(answer)? {
            0 => Applied::Conflict,
            1 => Applied::Written,
            _ => Applied::NotStaged,
        };
        Ok((written, witness))
    }
}

pub(super) fn loaded(answer: Value) -> StoreResult<Loaded> {
    let mut parts = Parts::new(answer)?;
    let now = parts.number()?;
    let raw = reply::raw(parts.value()?)?;
    let slot = raw.decode().map_err(corrupt)?;
    let snapshot = Snapshot {
        slot,
        now,
        version: parts.number()?,
        bytes: parts.number()?,
        fields: parts.number()?,
        window: parts.number()?,
    };
    let staged = parts.number()? == 1;
    Ok(Loaded { raw, snapshot, staged, witness: None })
}

impl Loaded {
    /// What is known when nothing was asked of a stage.
    pub(super) fn of(raw: Raw, now: Millis) -> StoreResult<Self> {
        let slot = raw.decode().map_err(corrupt)?;
        let snapshot = Snapshot { slot, now, ..Snapshot::default() };
        Ok(Self { raw, snapshot, staged: false, witness: None })
    }
}

/// Which fields an outcome depends on: record, pull and a waiting freeze always;
/// what requests change only where the decision looked at it.
fn compared(event: &Event, step: &Step) -> impl Iterator<Item = usize> {
    let volatile: &[usize] = match (event, &step.reply) {
        // It makes the next request wait, whether or not one is there right now.
        (_, Reply::FreezeWaits) => &[],
        (Event::Freeze { .. } | Event::Rehome { .. }, _) => &[encode::L],
        (Event::Expire { .. }, _) => &[encode::L, encode::A, encode::X],
        _ => &[],
    };
    (0..encode::L).chain(volatile.iter().copied())
}

/// The call that writes a step's outcome; `start` begins it, given the number of keys.
/// `turn` is the key of the pointers' turn, if one command can reach both.
pub(super) fn apply_call(
    start: impl FnOnce(usize) -> Cmd,
    keys: &SessionKeys,
    event: &Event,
    found: &Loaded,
    step: &Step,
    turn: Option<&str>,
) -> Cmd {
    let (payload, letters, others) = match step.payload {
        Payload::Keep => ("k", "mz", None),
        Payload::Drop => ("d", ALL, None),
        Payload::Adopt(nonce) => ("a", ALL, Some(keys.stage(nonce))),
        Payload::DropStage(nonce) => ("s", "mz", Some(keys.stage(nonce))),
        Payload::SetAside => ("l", ALL, Some(keys.lost(found.snapshot.now))),
    };
    let slot = &step.slot;
    // Whoever remembers a pointer has to hear of it.
    let turn = turn.filter(|_| is_pointer(&found.snapshot.slot) || is_pointer(slot));
    let own = letters.len() + others.as_ref().map_or(0, |_| WHOLE.len());
    let mut cmd = start(own + usize::from(turn.is_some()));
    keys.push(&mut cmd, letters);
    if let Some(others) = others {
        others.push(&mut cmd, WHOLE);
    }
    cmd.arg(turn.as_slice());
    let payload = if turn.is_some() { payload.to_ascii_uppercase() } else { payload.to_owned() };
    let nothing = slot.record.is_none() && slot.pull.is_none();
    let owned = matches!(slot.record, Some(Record::Owned { .. }));
    // A target may hold what a restarted store has forgotten.
    let copy_ends = *event == Event::StoreRestarted;
    cmd.arg(payload).arg(u8::from(nothing)).arg(u8::from(owned)).arg(u8::from(copy_ends));

    let old = &found.raw.0;
    let compared: Vec<usize> = compared(event, step).collect();
    cmd.arg(compared.len());
    for place in compared {
        cmd.arg(FIELDS[place]).arg(&old[place]);
    }
    let new = Raw::encode(slot).0;
    // The script sets what it adopts.
    let end = if matches!(step.payload, Payload::Adopt(_)) { encode::A } else { FIELDS.len() };
    let differ: Vec<usize> = (0..end).filter(|place| old[*place] != new[*place]).collect();
    cmd.arg(differ.len());
    for place in differ {
        cmd.arg(FIELDS[place]).arg(&new[place]);
    }
    if turn.is_some() {
        cmd.arg(encode::short(rand::random()));
    }
    cmd
}

/// Where a slot belongs in the index.
pub(super) fn resident(slot: &Slot) -> Option<&NodeName> {
    slot.record.as_ref().filter(|record| record.holds_data()).map(|record| &record.life().home)
}

/// Since when a slot is a pointer.
pub(super) fn pointer(slot: &Slot) -> Option<Millis> {
    match &slot.record {
        Some(Record::Moved { since, .. }) => Some(*since),
        _ => None,
    }
}
