//! Protocol steps: load, decide in Rust, write if nothing changed in between.

use redis::{Cmd, Pipeline, Value};

use super::Core;
use super::encode::{self, FIELDS, Raw};
use super::keys::{SessionKeys, WHOLE};
use super::pointers::is_pointer;
use super::reply::{self, Parts, corrupt};
use super::scripts::Script;
use super::sync::Run;
use crate::protocol::{self, Event, Payload, Refusal, Reply, Step};
use crate::session::{Millis, NodeName, Nonce, Record, SessionId, Slot};
use crate::store::{Durability, Promise, Snapshot, StoreError, StoreResult};

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
    run: Option<Run>,
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
        let waits = self.server.promise == Promise::WaitAof;
        let found = self.load(session, None, waits).await?;
        if let Some(run) = found.run {
            self.syncer.wait(&self.keys, &self.scripts, &run).await?;
        }
        Ok(found.snapshot)
    }

    fn load_call(&self, session: &SessionId, stage: Option<Nonce>) -> Cmd {
        let keys = self.keys.session(session);
        let count = 2 + usize::from(stage.is_some());
        let mut cmd = self.scripts.start(Script::Load, count, 256);
        keys.push(&mut cmd, "md");
        if let Some(nonce) = stage {
            keys.stage(nonce).push(&mut cmd, "m");
        }
        cmd
    }

    async fn load(
        &self,
        session: &SessionId,
        stage: Option<Nonce>,
        ask_run: bool,
    ) -> StoreResult<Loaded> {
        let call = self.load_call(session, stage);
        if !ask_run {
            return loaded(self.link.call(&call).await?);
        }
        let mut pipe = Pipeline::with_capacity(2);
        pipe.add_command(call);
        Run::ask(&mut pipe);
        let mut answers = self.link.pipe(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let mut found = loaded(next()?)?;
        found.run = Some(Run::read(next()?)?);
        Ok(found)
    }

    pub(super) async fn step(
        &self,
        session: &SessionId,
        event: &Event,
        durability: Durability,
    ) -> StoreResult<Result<Reply, Refusal>> {
        let wait = durability == Durability::Synced && self.server.promise == Promise::WaitAof;
        let stage = match event {
            Event::Install { pull } => Some(pull.nonce),
            _ => None,
        };
        let mut outdated = false;
        for _ in 0..ATTEMPTS {
            let found = self.load(session, stage, wait).await?;
            let (answer, run) = match self.decide(event, &found) {
                Err(refusal) => (Err(refusal), found.run),
                Ok(step) if step.payload == Payload::Keep && step.slot == found.snapshot.slot => {
                    (Ok(step.reply), found.run)
                }
                Ok(step) => match self.apply(session, event, &found, &step, wait).await? {
                    (Applied::Conflict, _) => {
                        outdated = true;
                        continue;
                    }
                    (Applied::NotStaged, run) => (Err(Refusal::NoSuchMove), run),
                    (Applied::Written, run) => {
                        outdated = false;
                        (Ok(step.reply), run)
                    }
                },
            };
            if outdated {
                // The index was told of something that did not happen.
                self.reindex(session, &found.snapshot.slot);
            }
            // Whatever is said may rest on a write that is not on disk yet, this
            // one or one before it: the answer that nothing changes waits too.
            if let Some(run) = run {
                self.syncer.wait(&self.keys, &self.scripts, &run).await?;
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
        ask_run: bool,
    ) -> StoreResult<(Applied, Option<Run>)> {
        let keys = self.keys.session(session);
        let start = |count| self.scripts.start(Script::Apply, count, 1024);
        let mut pipe = Pipeline::new();
        let marks = step.slot.pending();
        if marks {
            // Marked first: a crash in between leaves a mark too many, never one
            // too few.
            pipe.add_command(self.mark(session));
        }
        let turn = self.keys.turn();
        pipe.add_command(apply_call(start, &keys, event, found, step, Some(&turn)));
        let index = self.index_calls(session, &found.snapshot.slot, &step.slot);
        let told = index.len();
        for call in index {
            pipe.add_command(call);
        }
        if ask_run {
            Run::ask(&mut pipe);
        }
        let mut answers = self.link.pipe(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let marked = if marks { next().is_ok() } else { true };
        let written = match reply::number(next()?)? {
            0 => Applied::Conflict,
            1 => Applied::Written,
            _ => Applied::NotStaged,
        };
        // The index may lag; what it misses is mended.
        (0..told).for_each(|_| drop(next()));
        let run = if ask_run { Some(Run::read(next()?)?) } else { None };
        if !marked {
            self.link.call(&self.mark(session)).await?;
        }
        Ok((written, run))
    }
}

fn loaded(answer: Value) -> StoreResult<Loaded> {
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
    };
    let staged = parts.number()? == 1;
    Ok(Loaded { raw, snapshot, staged, run: None })
}

impl Loaded {
    /// What is known when nothing was asked of a stage.
    pub(super) fn of(raw: Raw, now: Millis) -> StoreResult<Self> {
        let slot = raw.decode().map_err(corrupt)?;
        let snapshot = Snapshot { slot, now, ..Snapshot::default() };
        Ok(Self { raw, snapshot, staged: false, run: None })
    }
}

/// Which fields an outcome depends on: record, pull and a waiting freeze always;
/// what requests change only where the decision looked at it.
fn compared(event: &Event, step: &Step) -> impl Iterator<Item = usize> {
    let volatile: &[usize] = match (event, &step.reply) {
        // It makes the next request wait, whether or not one is there right now.
        (_, Reply::FreezeWaits) => &[],
        (Event::Freeze { .. }, _) => &[encode::L],
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
        Payload::Keep => ("k", "m", None),
        Payload::Drop => ("d", WHOLE, None),
        Payload::Adopt(nonce) => ("a", WHOLE, Some(keys.stage(nonce))),
        Payload::DropStage(nonce) => ("s", "m", Some(keys.stage(nonce))),
        Payload::SetAside => ("l", WHOLE, Some(keys.lost(found.snapshot.now))),
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
    cmd.arg(payload).arg(u8::from(nothing)).arg(u8::from(owned));

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
