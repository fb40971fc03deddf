//! Pages: a frozen session's way out, a pulled one's way in.

use redis::Value;

use super::Core;
use super::encode::short;
use super::keys::WHOLE;
use super::reply::{self, Parts, corrupt};
use super::scripts::Script;
use crate::session::packet::{PAGE_BYTES, Totals, WindowItem};
use crate::session::{Millis, Nonce, Page, SessionId};
use crate::store::{Staged, StoreResult};

/// Enough for a page. A look at the data may bring a few chunks more, and
/// those still have to fit under [`PAGE_BYTES`].
const ENOUGH: usize = 1024 * 1024;

impl Core {
    pub(super) async fn export(
        &self,
        session: &SessionId,
        nonce: Nonce,
        cursor: Option<&str>,
    ) -> StoreResult<Option<Page>> {
        // `d` and where HSCAN goes on, `w` or `o` and a position.
        let (section, place) = match cursor.and_then(|cursor| cursor.split_at_checked(1)) {
            Some((section @ ("d" | "w" | "o"), place)) if place.parse::<u64>().is_ok() => {
                (section, place)
            }
            Some(_) => return Err(corrupt("the cursor of an export is not one of this store's")),
            None => ("d", "0"),
        };
        let mut cmd = self.scripts.call(Script::Export, &self.keys.session(session), WHOLE);
        cmd.arg(short(nonce.0)).arg(section).arg(place).arg(ENOUGH).arg(PAGE_BYTES);
        match self.at(session).call(&cmd).await? {
            Value::Nil => Ok(None),
            answer => page(answer).map(Some),
        }
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
        cmd.arg(short(nonce.0));
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

fn page(answer: Value) -> StoreResult<Page> {
    let mut parts = Parts::new(answer)?;
    let now = parts.number()?;
    let fields = reply::pairs(parts.value()?)?;
    let mut listed = Parts::new(parts.value()?)?;
    let mut window = Vec::with_capacity(listed.size_hint().0 / 2);
    while let Some(id) = listed.next() {
        let (id, entry) = reply::window_item(id, listed.value()?)?;
        window.push(WindowItem { id, age: now.saturating_sub(entry.at), entry });
    }
    let outbox =
        Parts::new(parts.value()?)?.map(reply::outbox_entry).collect::<StoreResult<_>>()?;
    let next = format!("{}{}", parts.text()?, parts.text()?);
    let totals = totals(parts.value()?, now)?;
    let next = totals.is_none().then_some(next);
    Ok(Page { fields, removed: Vec::new(), window, outbox, next, totals })
}

fn totals(answer: Value, now: Millis) -> StoreResult<Option<Totals>> {
    let mut parts = Parts::new(answer)?;
    if parts.size_hint().0 == 0 {
        return Ok(None);
    }
    Ok(Some(Totals {
        fields: parts.number()?,
        bytes: parts.number()?,
        version: parts.number()?,
        window: parts.number()?,
        outbox: parts.number()?,
        idle: now.saturating_sub(parts.number()?),
    }))
}
