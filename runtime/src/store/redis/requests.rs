//! Requests: begin, commit, and what they do in between.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, RedisWrite as _, Value};
use tokio::time::Instant;

use super::Core;
use super::encode::{self, short};
use super::keys::TRACKED;
use super::marks;
use super::recent::{Seen, after};
use super::reply::{self, Parts, corrupt};
use super::scripts::Script;
use crate::protocol::Access;
use crate::session::fields::{CHUNK, FieldMap};
use crate::session::{Change, LeaseId, Millis, OutboxEntry, RequestId, SessionId, WindowEntry};
use crate::store::{
    BeginRequest, Begun, Commit, Committed, Read, ReadGuard, Session, StoreError, StoreResult,
};

/// Lengths of time reach Lua as doubles; nothing this long is meant exactly.
const LONGEST: Millis = 1 << 50;

pub(super) fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(LONGEST).min(LONGEST)
}

impl Core {
    pub(super) async fn begin(
        &self,
        session: &SessionId,
        request: &BeginRequest,
    ) -> StoreResult<Begun> {
        if let Some(begun) = self.pointed(session).await? {
            return Ok(begun);
        }
        if let Some(begun) = self.read_again(session, request).await? {
            return Ok(begun);
        }
        let call = self.begin_call(Script::Begin, session, request);
        let began = Instant::now();
        let answer = match self.at(session).call(&call).await {
            // The connection had just broken. A read is the same when it is asked again.
            Err(StoreError::Unavailable(_))
                if request.ask.access == Access::Read
                    && began.elapsed() < self.options.response_timeout / 2 =>
            {
                self.at(session).call(&call).await
            }
            answer => answer,
        };
        match answer {
            Err(StoreError::Full) => self.begin_full(session, request).await,
            answer => self.begun(session, request, answer?),
        }
    }

    /// A full store still serves what it has; it creates nothing.
    async fn begin_full(&self, session: &SessionId, request: &BeginRequest) -> StoreResult<Begun> {
        let mut known = request.clone();
        known.ask.create = None;
        let call = self.begin_call(Script::BeginFull, session, &known);
        let answer = self.at(session).call(&call).await?;
        match self.begun(session, request, answer)? {
            Begun::Other { slot, .. }
                if slot.record.is_none() && slot.pull.is_none() && request.ask.create.is_some() =>
            {
                Err(StoreError::Full)
            }
            begun => Ok(begun),
        }
    }

    fn begin_call(&self, script: Script, session: &SessionId, request: &BeginRequest) -> Cmd {
        let ask = &request.ask;
        let mut cmd = self.scripts.call(script, &self.keys.session(session), "mdq");
        cmd.arg(if ask.access == Access::Write { "w" } else { "r" });
        cmd.arg(short(ask.lease.0)).arg(ask.lease_ttl.min(LONGEST));
        match ask.create {
            Some(incarnation) => cmd.arg(encode::owned(1, incarnation)),
            None => cmd.arg(""),
        };
        cmd.arg(self.scope.here.as_str());
        cmd.arg(u8::from(ask.frozen_reads));
        match ask.unsettled_writes {
            Some(epoch) => cmd.arg(epoch),
            None => cmd.arg(""),
        };
        cmd.arg(request.inline_max);
        cmd.arg(request.request.as_ref().map_or("", RequestId::as_str));
        cmd
    }

    fn begun(
        &self,
        session: &SessionId,
        request: &BeginRequest,
        answer: Value,
    ) -> StoreResult<Begun> {
        let mut parts = Parts::new(answer)?;
        match parts.number()? {
            0 => {
                let now = parts.number()?;
                let slot = reply::raw(parts.value()?)?.decode().map_err(corrupt)?;
                self.recent.forget(session);
                self.note_pointer(session, &slot, now);
                Ok(Begun::Other { slot, now })
            }
            1 => {
                let created = parts.number()? == 1;
                let now = parts.number()?;
                let record = parts.text()?;
                let (state, life, epoch) =
                    encode::head(&record, &parts.text()?).map_err(corrupt)?;
                if created {
                    self.appeared(session, &life.home, now);
                }
                let version = parts.number()?;
                let bytes = parts.number()?;
                let data = match parts.value()? {
                    Value::Nil => None,
                    _ if bytes > request.inline_max => None,
                    found => Some(Arc::new(reply::fields(found)?)),
                };
                let last = parts.text()?;
                let last = if last.is_empty() { None } else { Some(encode::long(&last)) };
                let last = last.transpose().map_err(corrupt)?.map(LeaseId);
                let run = Session { life, epoch, version, bytes, data, last, created };
                self.recent.forget(session);
                if state == 'O' && run.data.is_some() {
                    let lease = (request.ask.access == Access::Write).then_some(request.ask.lease);
                    let state = Session { created: false, ..run.clone() };
                    self.see(session, Seen::new(state, Instant::now(), lease));
                }
                Ok(Begun::Run(run))
            }
            _ => {
                let stored = reply::bytes(parts.value()?)?.unwrap_or_default();
                let (_, life, epoch) =
                    encode::head(&parts.text()?, &parts.text()?).map_err(corrupt)?;
                Ok(Begun::Replay { entry: reply::window_entry(&stored)?, life, epoch })
            }
        }
    }

    /// Remembers a session, if it is worth it.
    pub(super) fn see(&self, session: &SessionId, seen: Seen) {
        if seen.is_small() {
            let weight = seen.weight();
            self.recent.put(session, Arc::new(seen), weight);
        }
    }

    pub(super) async fn commit(
        &self,
        session: &SessionId,
        commit: &Commit,
    ) -> StoreResult<Committed> {
        // The state in which the lease was taken, if nobody has looked since: another look
        // may be an older one that was answered late.
        let seen = self.recent.get(session).filter(|seen| seen.lease == Some(commit.lease));
        // Until it is known what became of it, nothing is.
        self.recent.forget(session);
        let committed = self.commit_anew(session, commit).await?;
        if committed == Committed::Applied
            && let Some(seen) = seen
            && let Some((after, _)) = after(&seen.session, commit)
        {
            self.see(session, Seen::new(after, seen.touched, None));
        }
        Ok(committed)
    }

    /// A commit of which nothing is known beforehand.
    async fn commit_anew(&self, session: &SessionId, commit: &Commit) -> StoreResult<Committed> {
        match self.commit_with(Script::Commit, session, commit).await {
            Err(StoreError::Full) if shrinks(commit) => {
                self.commit_with(Script::CommitFull, session, commit).await
            }
            committed => committed,
        }
    }

    async fn commit_with(
        &self,
        script: Script,
        session: &SessionId,
        commit: &Commit,
    ) -> StoreResult<Committed> {
        let cmd = self.commit_call(script, session, commit);
        if commit.outbox.is_empty() {
            return committed(self.at(session).call(&cmd).await?);
        }
        let change = marks::Change { cmd, marks: true, index: Vec::new(), witness: false };
        committed(self.change(session, change).await?.0)
    }

    fn commit_call(&self, script: Script, session: &SessionId, commit: &Commit) -> Cmd {
        let values = commit.data.iter().map(|change| content(change).map_or(0, Bytes::len));
        let sent = commit.outbox.iter().map(|entry| entry.value.len() + 256);
        let size = values.sum::<usize>() + sent.sum::<usize>() + commit.data.len() * 32 + 1024;
        let mut cmd = self.scripts.start(script, TRACKED.len(), size);
        self.keys.session(session).push(&mut cmd, TRACKED);
        cmd.arg(short(commit.lease.0));
        cmd.arg(encode::owned(commit.epoch, commit.life.incarnation));
        cmd.arg(commit.life.home.as_str()).arg(commit.max_bytes.min(LONGEST));
        match &commit.remember {
            Some((id, digest, response)) => {
                let value = reply::window_value(commit.lease, digest, response);
                cmd.arg(id.as_str()).arg(value);
            }
            None => {
                cmd.arg("").arg("");
            }
        }
        cmd.arg(self.scope.window.entries).arg(millis(self.scope.window.age));
        cmd.arg(commit.outbox.len());
        for entry in &commit.outbox {
            cmd.arg(reply::outbox_value(entry));
        }
        for change in &commit.data {
            push_change(&mut cmd, change);
        }
        cmd
    }

    pub(super) async fn release(&self, session: &SessionId, lease: LeaseId) -> StoreResult<()> {
        let mut cmd = self.scripts.call(Script::Lease, &self.keys.session(session), "m");
        cmd.arg(short(lease.0)).arg("");
        self.at(session).call(&cmd).await.map(drop)
    }

    pub(super) async fn renew(
        &self,
        session: &SessionId,
        lease: LeaseId,
        ttl: Duration,
    ) -> StoreResult<bool> {
        let mut cmd = self.scripts.call(Script::Lease, &self.keys.session(session), "m");
        cmd.arg(short(lease.0)).arg(millis(ttl));
        Ok(reply::number(self.at(session).call(&cmd).await?)? == 1)
    }

    pub(super) async fn read(
        &self,
        session: &SessionId,
        guard: &ReadGuard,
        read: &Read,
    ) -> StoreResult<Option<FieldMap>> {
        let mut cmd = self.scripts.call(Script::Read, &self.keys.session(session), "md");
        match guard {
            ReadGuard::Lease(lease) => {
                cmd.arg(short(lease.0)).arg("").arg("").arg("").arg("");
            }
            ReadGuard::Version { life, epoch, version, frozen } => {
                cmd.arg("").arg(encode::tenure(*epoch, life.incarnation));
                cmd.arg(life.home.as_str()).arg(*version).arg(u8::from(*frozen));
            }
        }
        match read {
            Read::Value(key) => cmd.arg("v").arg(key),
            Read::List(list) => cmd.arg("l").arg(list),
            Read::ListLen(list) => cmd.arg("n").arg(list),
            Read::Keys => cmd.arg("k").arg(""),
        };
        found(self.at(session).call(&cmd).await?)
    }

    fn peek(&self, session: &SessionId, what: &str) -> Cmd {
        let mut cmd = self.scripts.call(Script::Peek, &self.keys.session(session), "mdqx");
        cmd.arg(what);
        cmd
    }

    pub(super) async fn remembered(
        &self,
        session: &SessionId,
        request: &RequestId,
    ) -> StoreResult<Option<WindowEntry>> {
        let mut cmd = self.peek(session, "w");
        cmd.arg(request.as_str());
        let stored = reply::bytes(self.at(session).call(&cmd).await?)?;
        stored.map(|stored| reply::window_entry(&stored)).transpose()
    }

    pub(super) async fn dump(&self, session: &SessionId) -> StoreResult<Option<FieldMap>> {
        found(self.at(session).call(self.peek(session, "d").arg("")).await?)
    }

    pub(super) async fn outbox(
        &self,
        session: &SessionId,
        limit: usize,
    ) -> StoreResult<Vec<OutboxEntry>> {
        let answer = self.at(session).call(self.peek(session, "o").arg(limit)).await?;
        Parts::new(answer)?.map(reply::outbox_entry).collect()
    }

    pub(super) async fn delivered(&self, session: &SessionId, entry: &str) -> StoreResult<()> {
        let mut cmd = self.scripts.call(Script::Delivered, &self.keys.session(session), "mx");
        cmd.write_arg_fmt(format_args!("{entry}{}", reply::AFTER_ID));
        self.at(session).call(&cmd).await.map(drop)
    }
}

fn found(answer: Value) -> StoreResult<Option<FieldMap>> {
    match answer {
        Value::Nil => Ok(None),
        found => reply::fields(found).map(Some),
    }
}

/// Whether a commit takes no memory that the store does not have.
fn shrinks(commit: &Commit) -> bool {
    commit.outbox.is_empty()
        && commit.remember.is_none()
        && commit.data.iter().all(|change| content(change).is_none())
}

fn content(change: &Change) -> Option<&Bytes> {
    match change {
        Change::Set { value, .. } | Change::Append { value, .. } => Some(value),
        Change::Delete { .. } | Change::ClearList { .. } => None,
    }
}

fn push_change(cmd: &mut Cmd, change: &Change) {
    let (small, large, name, value) = match change {
        Change::Set { key, value } => ("s", "S", key, value),
        Change::Append { list, value } => ("a", "A", list, value),
        Change::Delete { key } => {
            cmd.arg("d").arg(key);
            return;
        }
        Change::ClearList { list } => {
            cmd.arg("c").arg(list);
            return;
        }
    };
    if value.len() <= CHUNK {
        cmd.arg(small).arg(name).arg(&value[..]);
        return;
    }
    cmd.arg(large).arg(name).arg(value.len().div_ceil(CHUNK));
    for chunk in value.chunks(CHUNK) {
        cmd.arg(chunk);
    }
}

fn committed(answer: Value) -> StoreResult<Committed> {
    match answer {
        Value::Int(1) => Ok(Committed::Applied),
        Value::Int(2) => Ok(Committed::AlreadyCommitted),
        Value::Int(3) => Ok(Committed::LeaseLost),
        answer => {
            let mut parts = Parts::new(answer)?;
            parts.number()?;
            Ok(Committed::TooLarge { bytes: parts.number()? })
        }
    }
}
