//! Reading a session.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::hierarchy::Hierarchy;
use super::overlay::Overlay;
use super::source::Source;
use super::{Place, Reader};
use crate::function::{Error, Failure, Result};
use crate::session::{FunctionName, NodeName, SessionId};

/// A session's data, to read. All reads of one request see one version of it.
///
/// Values and lists go by names of 1 to 1,024 bytes of text; a value and a list
/// may share one. Where a name is longer or empty, every method answers 400;
/// where the store does not answer, 503.
pub struct ReadDb {
    pub(super) source: Source,
    pub(super) overlay: Overlay,
    pub(super) place: Place,
    pub(super) calls: AtomicU64,
}

impl ReadDb {
    /// For one request.
    pub(crate) fn new(reader: Reader, place: Place) -> Self {
        Self {
            source: Source::new(reader),
            overlay: Overlay::default(),
            place,
            calls: AtomicU64::new(0),
        }
    }

    /// The first failure of a read.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.source.failure().cloned()
    }

    /// A value, `None` if there is none of this name.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_name(key)?;
        match self.overlay.value(key) {
            Some(value) => Ok(value.clone()),
            None => self.source.value(key).await,
        }
    }

    /// A value as text; 500 if it is not UTF-8.
    pub async fn get_text(&self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.get(key).await? else { return Ok(None) };
        match String::from_utf8(value.into()) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                Err(Error::internal(format!("the value `{key}` is not text")).caused_by(error))
            }
        }
    }

    /// A value that was stored as JSON; 500 if it does not read as a `T`.
    pub async fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.get(key).await? {
            Some(value) => from_json("value", key, &value).map(Some),
            None => Ok(None),
        }
    }

    /// All items of a list, in the order they were added; none if there is no
    /// such list.
    pub async fn get_list(&self, list: &str) -> Result<Vec<Bytes>> {
        check_name(list)?;
        let Some(edit) = self.overlay.list(list) else { return self.source.list(list).await };
        let mut items = if edit.cleared { Vec::new() } else { self.source.list(list).await? };
        items.extend(edit.appended.iter().cloned());
        Ok(items)
    }

    /// All items of a list that were stored as JSON; 500 if one does not read
    /// as a `T`.
    pub async fn get_list_json<T: DeserializeOwned>(&self, list: &str) -> Result<Vec<T>> {
        let items = self.get_list(list).await?;
        items.iter().map(|item| from_json("list", list, item)).collect()
    }

    /// How many items a list has.
    pub async fn list_len(&self, list: &str) -> Result<usize> {
        check_name(list)?;
        let edit = self.overlay.list(list);
        let stored = match edit {
            Some(edit) if edit.cleared => 0,
            _ => self.source.list_len(list).await?,
        };
        let stored = usize::try_from(stored).unwrap_or(usize::MAX);
        Ok(stored.saturating_add(edit.map_or(0, |edit| edit.appended.len())))
    }

    /// The names of all values and lists, sorted.
    pub async fn keys(&self) -> Result<Vec<String>> {
        let stored = self.source.names().await?;
        Ok(self.overlay.names(stored).into_iter().collect())
    }

    /// The node where this request runs.
    pub fn location(&self) -> &NodeName {
        &self.place.here
    }

    /// The node where the session was created.
    pub fn home(&self) -> &NodeName {
        &self.place.home
    }

    /// The session's id.
    pub fn session(&self) -> &SessionId {
        &self.place.session
    }

    /// The function's name.
    pub fn function(&self) -> &FunctionName {
        &self.place.function
    }

    /// The other nodes, and calls to them.
    pub fn hierarchy(&self) -> Hierarchy<'_> {
        Hierarchy::new(self)
    }
}

impl std::fmt::Debug for ReadDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { here, function, session, .. } = &self.place;
        write!(f, "ReadDb({function}/#{} at {here})", session.log_hash())
    }
}

/// The longest name of a value or list, in bytes.
const MAX_NAME: usize = 1024;

pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::bad_request(format!(
            "the name of a value or list has 1 to {MAX_NAME} bytes, not {}",
            name.len()
        )));
    }
    Ok(())
}

fn from_json<T: DeserializeOwned>(what: &str, name: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        Error::internal(format!("the {what} `{name}` does not hold the JSON that is expected"))
            .caused_by(error)
    })
}
