//! Pages of a session on the wire, and the draft's `SessionData`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::changes::OutboxEntry;
use super::fields::{self, FieldMap};
use super::ids::{Millis, RequestId};
use super::window::WindowEntry;

/// The version of the page's form that this build writes.
pub const PAGE_VERSION: u32 = 1;

/// No page of a move carries more than about this many bytes of content:
/// gateways buffer whole bodies.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A request id of the window, with its age instead of a time: two machines'
/// clocks are never compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowItem {
    /// The request id.
    pub id: RequestId,
    /// How long ago it was committed.
    pub age: Millis,
    /// The entry; its `at` is the source's and is replaced by the target.
    pub entry: WindowEntry,
}

/// What a complete transfer must add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Number of fields.
    pub fields: u64,
    /// Bytes of fields and contents.
    pub bytes: u64,
    /// The data's version.
    pub version: u64,
    /// Number of entries in the deduplication window.
    pub window: u64,
    /// Number of outbox entries.
    pub outbox: u64,
    /// How long ago the session was last used.
    pub idle: Millis,
}

/// One page of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Fields with their content.
    pub fields: Vec<(String, Bytes)>,
    /// Fields that a copy brought and that are no more.
    pub removed: Vec<String>,
    /// Part of the deduplication window, oldest first.
    pub window: Vec<WindowItem>,
    /// Part of the outbox.
    pub outbox: Vec<OutboxEntry>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<String>,
    /// On the last page: what all pages add up to.
    pub totals: Option<Totals>,
}

/// A page did not read: it was damaged, or a newer node wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the session page does not read: {0}")]
pub struct BadPage(String);

impl Page {
    /// Four bytes of version, eight of checksum (xxh3), then MessagePack with names.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 12];
        // A struct of bytes, strings and numbers always serializes.
        let _ = rmp_serde::encode::write_named(&mut out, self);
        let sum = xxhash_rust::xxh3::xxh3_64(&out[12..]);
        out[..4].copy_from_slice(&PAGE_VERSION.to_be_bytes());
        out[4..12].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// Checks version and checksum, and reads.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPage> {
        let (Some(version), Some(sum), Some(body)) =
            (bytes.first_chunk::<4>(), bytes.get(4..12), bytes.get(12..))
        else {
            return Err(BadPage("it is shorter than its head".into()));
        };
        let version = u32::from_be_bytes(*version);
        if version > PAGE_VERSION + 1 {
            return Err(BadPage(format!("version {version} is newer than this node reads")));
        }
        if xxhash_rust::xxh3::xxh3_64(body).to_be_bytes() != sum {
            return Err(BadPage("its checksum does not fit".into()));
        }
        rmp_serde::from_slice(body).map_err(|error| BadPage(error.to_string()))
    }
}

/// A session's data as the draft shows it, for people and tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionData {
    /// One entry a value; a list has one entry an item, in order.
    pub session_data: Vec<DataEntry>,
}

/// One value or list item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataEntry {
    /// The author's key.
    pub key: String,
    /// The content: text, or base64 where `encoding` says so.
    pub data: String,
    /// `base64` for content that is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// The position, for an item of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

impl SessionData {
    /// Reads the flat fields back into values and lists.
    pub fn from_fields(map: &FieldMap) -> Self {
        let mut session_data = Vec::new();
        for key in fields::keys(map.keys().map(String::as_str)) {
            if let Some(value) = fields::get(map, &fields::value_field(&key)) {
                session_data.push(DataEntry::new(&key, &value, None));
            }
            for (index, item) in (0_u64..).zip(fields::list(map, &key)) {
                session_data.push(DataEntry::new(&key, &item, Some(index)));
            }
        }
        Self { session_data }
    }
}

impl DataEntry {
    fn new(key: &str, content: &Bytes, index: Option<u64>) -> Self {
        let (data, encoding) = match std::str::from_utf8(content) {
            Ok(text) => (text.to_owned(), None),
            Err(_) => (STANDARD.encode(content), Some("base64".to_owned())),
        };
        Self { key: key.to_owned(), data, encoding, index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Change;

    #[test]
    fn g2_a_damaged_page_is_refused() {
        let page = Page { fields: vec![("sx".into(), "1".into())], ..Page::default() };
        let mut bytes = page.encode();
        assert_eq!(Page::decode(&bytes), Ok(page));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(Page::decode(&bytes).is_err());
        assert!(Page::decode(&bytes[..5]).is_err());
    }

    #[test]
    fn session_data_is_the_drafts() {
        let mut map = FieldMap::new();
        fields::apply(
            &mut map,
            &[
                Change::Set { key: "name".into(), value: "Ada".into() },
                Change::Set { key: "photo".into(), value: Bytes::from_static(&[0xff, 0]) },
                Change::Append { list: "items".into(), value: "apple".into() },
            ],
        );
        let json = serde_json::to_value(SessionData::from_fields(&map)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"session_data": [
                {"key": "items", "data": "apple", "index": 0},
                {"key": "name", "data": "Ada"},
                {"key": "photo", "data": "/wA=", "encoding": "base64"},
            ]})
        );
    }
}
