//! Requests in sessions whose data this process has seen: one short question, asked
//! together with others.

use std::time::Duration;

use tokio::time::Instant;

use super::Core;
use super::encode::{owned, short};
use super::recent::{Seen, after};
use super::reply;
use super::together::{Question, Said};
use crate::protocol::Access;
use crate::session::SessionId;
use crate::store::{BeginRequest, Begun, Commit, Committed, Session, StoreError, StoreResult};

/// How often at most the store is told that a session is in use.
const TOUCH: Duration = Duration::from_secs(1);

/// What `lua/together.lua` says besides 1.
const REFUSED: Said = 0;
const BEFORE: Said = -1;
/// Something is damaged; the long way says what.
const BROKEN: Said = -2;

/// A commit that touches more fields goes the long way.
const MOST_TOUCHED: usize = 128;

impl Core {
    pub(super) fn recall(&self, session: &SessionId) -> Option<Session> {
        self.recent.get(session).map(|seen| seen.session.clone())
    }

    /// A read of what was seen; `None` if that does not hold any more, or the long way
    /// has to be gone anyway.
    pub(super) async fn read_again(
        &self,
        session: &SessionId,
        request: &BeginRequest,
    ) -> StoreResult<Option<Begun>> {
        let plain = request.ask.access == Access::Read && request.request.is_none();
        if !plain || request.ask.frozen_reads {
            return Ok(None);
        }
        let Some(seen) = self.recent.get(session) else { return Ok(None) };
        // Once a second the long way notes that the session is read.
        if seen.session.bytes > request.inline_max || seen.touched.elapsed() >= TOUCH {
            return Ok(None);
        }
        let current = match self.watched(session, &seen).await {
            Some(current) => current,
            None => self.is_current(session, &seen.session).await?,
        };
        Ok(current.then(|| Begun::Run(seen.session.clone())))
    }

    pub(super) async fn is_current(
        &self,
        session: &SessionId,
        recalled: &Session,
    ) -> StoreResult<bool> {
        let mut question = Question::new(self.keys.session(session), "m", 128);
        state(&mut question, "r", recalled);
        match self.ask(session, question).await {
            Ok(said) => Ok(said == 1),
            // The long way knows what still goes.
            Err(StoreError::Unavailable(_) | StoreError::Full) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn commit_at_once(
        &self,
        session: &SessionId,
        recalled: &Session,
        commit: &Commit,
    ) -> StoreResult<Option<Committed>> {
        let Some((after, touched)) = after(recalled, commit) else { return Ok(None) };
        if after.bytes > commit.max_bytes && after.bytes > recalled.bytes {
            return Ok(None);
        }
        // Lua takes them as arguments of one call.
        if touched.len() > MOST_TOUCHED {
            return Ok(None);
        }
        let content = |field: &str| after.data.as_deref().and_then(|data| data.get(field));
        let set = || touched.iter().filter_map(|field| Some((field, content(field)?)));
        let size = set().map(|(field, content)| field.len() + content.len());
        let kept = commit.remember.as_ref().and_then(|(.., kept)| kept.body.as_ref());
        let size = size.sum::<usize>() + kept.map_or(0, bytes::Bytes::len) + 512;
        let told = self.recent.get(session).map(|seen| seen.touched);
        let told = told.filter(|told| told.elapsed() < TOUCH);
        let (kind, letters) = if commit.remember.is_some() { ("i", "mdqo") } else { ("w", "md") };
        let mut question = Question::new(self.keys.session(session), letters, size);
        state(&mut question, kind, recalled);
        question.arg(short(commit.lease.0)).text(after.version);
        match after.bytes == recalled.bytes {
            true => question.arg(""),
            false => question.text(after.bytes),
        };
        question.arg(if told.is_none() { "1" } else { "" });
        let count = set().count();
        question.text(count as u64 * 2).text((touched.len() - count) as u64);
        for (field, content) in set() {
            question.arg(field).arg(content);
        }
        for field in touched.iter().filter(|field| content(field).is_none()) {
            question.arg(field);
        }
        if let Some((id, digest, response)) = &commit.remember {
            question.arg(id.as_str());
            question.arg(reply::window_value(commit.lease, digest, response));
        }
        match self.ask(session, question).await {
            Ok(REFUSED | BROKEN) | Err(StoreError::Full) => {
                self.recent.forget(session);
                Ok(None)
            }
            Ok(BEFORE) => Ok(Some(Committed::AlreadyCommitted)),
            Ok(_) => {
                let told = told.unwrap_or_else(Instant::now);
                self.see(session, Seen::new(after, told, None));
                Ok(Some(Committed::Applied))
            }
            Err(error) => Err(error),
        }
    }
}

/// What names the state: the record and who committed last.
fn state(question: &mut Question, kind: &str, recalled: &Session) {
    question.arg(kind).text(owned(recalled.epoch, recalled.life.incarnation));
    match recalled.last {
        Some(last) => question.arg(short(last.0)),
        None => question.arg(""),
    };
}
