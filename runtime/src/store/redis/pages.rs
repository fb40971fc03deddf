//! Pages: a copied or frozen session's way out, a pulled one's way in.

use redis::{Cmd, Pipeline, Value};

use super::Core;
use super::encode::short;
use super::keys::{TRACKED, WHOLE};
use super::reply::{self, Parts, corrupt};
use super::scripts::Script;
use crate::protocol::Refusal;
use crate::session::packet::{Copied, PAGE_BYTES, Totals, WindowItem};
use crate::session::{Millis, Nonce, Page, RequestId, SessionId};
use crate::store::cursor::{Cursor, Section};
use crate::store::{Staged, StoreResult};

/// Enough for a page of a frozen session, whose requests wait anyway.
const ENOUGH: usize = 512 * 1024;
/// The same of one that is served meanwhile: the script that reads it holds all requests
/// up, and so does the one that writes it elsewhere.
const LITTLE: usize = 128 * 1024;

/// Most fields, entries and messages of a page, for the same reason.
const FIELDS: usize = 1000;

impl Core {
    /// Where a page starts; from the start without a cursor.
    fn page_call(
        &self,
        session: &SessionId,
        nonce: Nonce,
        frozen: bool,
        cursor: Option<&Cursor>,
    ) -> Cmd {
        let mut cmd = self.scripts.call(Script::Export, &self.keys.session(session), TRACKED);
        cmd.arg(short(nonce.0)).arg(u8::from(frozen));
        match cursor {
            Some(Cursor { section, version, changes, window, at }) => {
                let version = version.map_or_else(String::new, |version| version.to_string());
                cmd.arg(section.letter().to_string()).arg(version);
                cmd.arg(*changes).arg(*window).arg(at)
            }
            None => cmd.arg("").arg("").arg(0).arg(0).arg("0"),
        };
        cmd.arg(if frozen { ENOUGH } else { LITTLE }).arg(PAGE_BYTES).arg(FIELDS);
        cmd
    }

    pub(super) async fn copy(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        let at = match cursor.map(Cursor::read).transpose() {
            Ok(at) => at,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let call = self.page_call(session, nonce, false, at.as_ref());
        if at.is_some() {
            return page(self.at(session).call(&call).await?, false);
        }
        let mut track = self.scripts.call(Script::Track, &self.keys.session(session), "mz");
        track.arg(short(nonce.0));
        let mut pipe = Pipeline::with_capacity(2);
        pipe.add_command(track);
        pipe.add_command(call);
        let mut answers = self.at(session).pipe(&pipe).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        next()?;
        page(next()?, true)
    }

    pub(super) async fn export(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Result<Page, Refusal>> {
        let at = match cursor.map(Cursor::read).transpose() {
            Ok(at) => at,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let call = self.page_call(session, nonce, true, at.as_ref());
        page(self.at(session).call(&call).await?, at.is_none())
    }

    pub(super) async fn stage(
        &self,
        session: &SessionId,
        nonce: Nonce,
        page: &Page,
    ) -> StoreResult<Staged> {
        let fields = page.fields.iter().map(|(field, content)| field.len() + content.len() + 32);
        let sent = page.outbox.iter().map(|entry| entry.value.len() + 256);
        let size = fields.sum::<usize>() + sent.sum::<usize>() + page.window.len() * 256 + 1024;
        let keys = self.keys.session(session);
        let mut cmd = self.scripts.start(Script::Stage, 1 + WHOLE.len(), size);
        keys.push(&mut cmd, "m");
        keys.stage(nonce).push(&mut cmd, WHOLE);
        cmd.arg(short(nonce.0)).arg(u8::from(page.first));
        cmd.arg(page.fields.len());
        for (field, content) in &page.fields {
            cmd.arg(field).arg(&content[..]);
        }
        cmd.arg(page.removed.len()).arg(&page.removed);
        cmd.arg(page.window.len());
        for WindowItem { id, age, entry } in &page.window {
            cmd.arg(id.as_str()).arg(*age);
            cmd.arg(reply::window_value(entry.lease, &entry.digest, &entry.response));
        }
        cmd.arg(page.outbox.len());
        for entry in &page.outbox {
            cmd.arg(&entry.id).arg(reply::outbox_value(entry));
        }
        if let Some(totals) = &page.totals {
            cmd.arg(page.oldest.as_ref().map_or("", RequestId::as_str));
            cmd.arg(totals.fields).arg(totals.bytes).arg(totals.version);
            cmd.arg(totals.window).arg(totals.outbox).arg(totals.idle);
        }
        Ok(match reply::number(self.at(session).call(&cmd).await?)? {
            0 => Staged::Closed,
            1 => Staged::More,
            2 => Staged::Complete,
            _ => Staged::Mismatch,
        })
    }
}

/// Reads a page, or why there is none.
fn page(answer: Value, first: bool) -> StoreResult<Result<Page, Refusal>> {
    match answer {
        Value::Int(0) => return Ok(Err(Refusal::NoSuchMove)),
        Value::Int(1) => return Ok(Err(Refusal::NoSuchCopy)),
        _ => {}
    }
    let mut parts = Parts::new(answer)?;
    parts.number()?;
    let now = parts.number()?;
    let fields = reply::pairs(parts.value()?)?;
    let removed = Parts::new(parts.value()?)?.map(reply::text).collect::<StoreResult<_>>()?;
    let mut listed = Parts::new(parts.value()?)?;
    let mut window = Vec::with_capacity(listed.size_hint().0 / 2);
    while let Some(id) = listed.next() {
        let (id, entry) = reply::window_item(id, listed.value()?)?;
        window.push(WindowItem { id, age: now.saturating_sub(entry.at), entry });
    }
    let outbox =
        Parts::new(parts.value()?)?.map(reply::outbox_entry).collect::<StoreResult<_>>()?;
    let next = cursor(&mut parts)?;
    let copied = copied(parts.value()?)?;
    let (oldest, totals) = totals(parts.value()?, now)?;
    let next = totals.is_none().then(|| next.write());
    Ok(Ok(Page { first, fields, removed, window, outbox, next, copied, oldest, totals }))
}

fn cursor(parts: &mut Parts) -> StoreResult<Cursor> {
    let section = parts.text()?;
    let version = parts.text()?;
    Ok(Cursor {
        section: Section::of(&section).ok_or_else(|| corrupt("the section of a page"))?,
        version: match version.as_str() {
            "" => None,
            version => Some(version.parse().map_err(corrupt)?),
        },
        changes: parts.number()?,
        window: parts.number()?,
        at: parts.text()?,
    })
}

fn copied(answer: Value) -> StoreResult<Option<Copied>> {
    let mut parts = Parts::new(answer)?;
    if parts.size_hint().0 == 0 {
        return Ok(None);
    }
    let walked = parts.number()? == 1;
    Ok(Some(Copied { walked, at: parts.number()?, changes: parts.number()? }))
}

fn totals(answer: Value, now: Millis) -> StoreResult<(Option<RequestId>, Option<Totals>)> {
    let mut parts = Parts::new(answer)?;
    if parts.size_hint().0 == 0 {
        return Ok((None, None));
    }
    let oldest = match parts.text()?.as_str() {
        "" => None,
        id => Some(RequestId::new(id).map_err(corrupt)?),
    };
    let totals = Totals {
        fields: parts.number()?,
        bytes: parts.number()?,
        version: parts.number()?,
        window: parts.number()?,
        outbox: parts.number()?,
        idle: now.saturating_sub(parts.number()?),
    };
    Ok((oldest, Some(totals)))
}
