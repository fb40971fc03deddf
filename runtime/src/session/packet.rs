//! Pages of a session on the wire, and the draft's `SessionData`.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::changes::OutboxEntry;
use super::fields::{self, FieldMap};
use super::ids::{Millis, RequestId};
use super::window::WindowEntry;

/// The version of the page's form that this build writes, and the newest that it reads: a
/// page is asked for in a call whose version both sides know, and comes in the form of it.
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

/// How far a copy has come while the session is being served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Whether everything was brought once: from here on only what changed.
    pub walked: bool,
    /// So many changes since the copy began are on this page or one before it.
    pub at: u64,
    /// So many there have been.
    pub changes: u64,
}

/// One page of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The first of a copy or of a session: what was staged before it goes.
    #[serde(default)]
    pub first: bool,
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
    /// On a page of a copy: how far it has come.
    #[serde(default)]
    pub copied: Option<Copied>,
    /// On the last page: the oldest request id that the window has. Older ones that a
    /// copy brought have left it since.
    #[serde(default)]
    pub oldest: Option<RequestId>,
    /// On the last page: what all pages add up to.
    pub totals: Option<Totals>,
}

/// A page did not read: it was damaged, or a newer node wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the session page does not read: {0}")]
pub struct BadPage(String);

/// The body is compressed (a length of four bytes, then an LZ4 block).
const COMPRESSED: u16 = 1;
/// Version, flags, checksum.
const HEAD: usize = 12;
/// A page that is smaller travels as it is: its call costs more than its bytes.
const WORTH_IT: usize = 16 * 1024;
/// A sample is compressed first: so many pieces of so many bytes.
const SAMPLE: (usize, usize) = (4, 4096);
/// No LZ4 block grows to more than this many times its size.
const LZ4_MOST: usize = 256;

impl Page {
    /// Two bytes of flags, two of version, eight of checksum (xxh3 of what follows),
    /// then MessagePack with names.
    pub fn encode(&self) -> Vec<u8> {
        self.written(HEAD).map_or_else(Vec::new, |out| headed(out, 0))
    }

    /// The same, compressed if a sample says that it pays. Only for a reader that
    /// said that it can.
    pub fn encode_small(&self) -> Vec<u8> {
        let Some(plain) = self.written(HEAD) else { return Vec::new() };
        if !compresses(&plain[HEAD..]) {
            return headed(plain, 0);
        }
        let body = &plain[HEAD..];
        let most = lz4_flex::block::get_maximum_output_size(body.len());
        let mut out = vec![0; HEAD + 4 + most];
        let Ok(size) = lz4_flex::block::compress_into(body, &mut out[HEAD + 4..]) else {
            return headed(plain, 0);
        };
        out.truncate(HEAD + 4 + size);
        out[HEAD..HEAD + 4].copy_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
        headed(out, COMPRESSED)
    }

    /// The body, after `head` bytes that are left free.
    fn written(&self, head: usize) -> Option<Vec<u8>> {
        let contents: usize =
            self.fields.iter().map(|(name, content)| name.len() + content.len() + 16).sum();
        let mut out = Vec::with_capacity(head + contents + self.window.len() * 256 + 1024);
        out.resize(head, 0);
        // A struct of bytes, strings and numbers always serializes.
        rmp_serde::encode::write_named(&mut out, self).ok()?;
        Some(out)
    }

    /// Checks version and checksum, and reads.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPage> {
        let (Some(head), Some(sum), Some(body)) =
            (bytes.first_chunk::<4>(), bytes.get(4..HEAD), bytes.get(HEAD..))
        else {
            return Err(BadPage("it is shorter than its head".into()));
        };
        let [flags, version] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        if u32::from(version) > PAGE_VERSION || flags & !COMPRESSED != 0 {
            return Err(BadPage(format!(
                "version {version}.{flags} is newer than this node reads"
            )));
        }
        if xxhash_rust::xxh3::xxh3_64(body).to_be_bytes() != sum {
            return Err(BadPage("its checksum does not fit".into()));
        }
        let read =
            |body: &[u8]| rmp_serde::from_slice(body).map_err(|error| BadPage(error.to_string()));
        if flags & COMPRESSED == 0 {
            return read(body);
        }
        let (size, block) =
            body.split_first_chunk().ok_or_else(|| BadPage("it has no length".into()))?;
        let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
        if size > block.len().saturating_mul(LZ4_MOST) {
            return Err(BadPage(format!("{} bytes do not hold {size}", block.len())));
        }
        let plain =
            lz4_flex::block::decompress(block, size).map_err(|error| BadPage(error.to_string()))?;
        read(&plain)
    }

    /// Adds the page that follows, so that both travel as one.
    pub fn append(&mut self, next: Self) {
        if !self.removed.is_empty() {
            // A reader sets fields before it removes some.
            let back: BTreeSet<&str> = next.fields.iter().map(|(field, _)| &**field).collect();
            self.removed.retain(|field| !back.contains(&**field));
        }
        self.fields.extend(next.fields);
        self.removed.extend(next.removed);
        self.window.extend(next.window);
        self.outbox.extend(next.outbox);
        (self.next, self.copied) = (next.next, next.copied);
        (self.oldest, self.totals) = (next.oldest, next.totals);
    }

    /// Bytes that it brings, about.
    pub fn size(&self) -> usize {
        let fields = self.fields.iter().map(|(field, content)| field.len() + content.len());
        let kept = |item: &WindowItem| {
            item.id.as_str().len() + item.entry.response.body.as_ref().map_or(0, Bytes::len) + 128
        };
        let sent = self.outbox.iter().map(|entry| entry.id.len() + entry.value.len() + 128);
        fields.sum::<usize>()
            + self.removed.iter().map(String::len).sum::<usize>()
            + self.window.iter().map(kept).sum::<usize>()
            + sent.sum::<usize>()
    }
}

fn headed(mut out: Vec<u8>, flags: u16) -> Vec<u8> {
    let sum = xxhash_rust::xxh3::xxh3_64(&out[HEAD..]);
    out[..2].copy_from_slice(&flags.to_be_bytes());
    out[2..4].copy_from_slice(&u16::try_from(PAGE_VERSION).unwrap_or(u16::MAX).to_be_bytes());
    out[4..HEAD].copy_from_slice(&sum.to_be_bytes());
    out
}

/// Whether a sample from all over the body shrinks by a fifth or more.
fn compresses(body: &[u8]) -> bool {
    let (pieces, length) = SAMPLE;
    if body.len() < WORTH_IT {
        return false;
    }
    let step = (body.len() - length) / (pieces - 1);
    let sample = (0..pieces).map(|piece| &body[piece * step..piece * step + length]);
    let small: usize = sample.map(|piece| lz4_flex::block::compress(piece).len()).sum();
    small * 5 <= pieces * length * 4
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
    fn g2_a_page_is_compressed_where_that_pays_and_reads_the_same() {
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|i| i.wrapping_mul(0x9E37_79B9).rotate_left(i % 31).to_le_bytes()[1])
            .collect();
        for (content, smaller) in [
            (Bytes::from("a line of a log\n".repeat(10_000)), true),
            (Bytes::from(noise), false),
            (Bytes::from("short".repeat(100)), false),
        ] {
            let page = Page { fields: vec![("sx".into(), content)], ..Page::default() };
            let (plain, mut small) = (page.encode(), page.encode_small());
            assert_eq!(small.len() < plain.len() / 2, smaller);
            assert_eq!(Page::decode(&small), Ok(page));
            let last = small.len() - 1;
            small[last] ^= 1;
            assert!(Page::decode(&small).is_err());
        }
    }

    #[test]
    fn g2_pages_put_together_bring_what_each_would() {
        let field = |name: &str, content: &'static str| (name.to_owned(), content.into());
        let first = Page {
            first: true,
            fields: vec![field("a", "1"), field("b", "1")],
            removed: vec!["gone".into(), "back".into()],
            next: Some("1".into()),
            ..Page::default()
        };
        let second = Page {
            fields: vec![field("b", "2"), field("back", "2")],
            removed: vec!["a".into()],
            next: Some("2".into()),
            ..Page::default()
        };
        let brought = |pages: &[&Page]| {
            let mut map = FieldMap::new();
            for page in pages {
                map.extend(page.fields.iter().cloned());
                page.removed.iter().for_each(|field| drop(map.remove(field)));
            }
            map
        };
        let mut both = first.clone();
        both.append(second.clone());
        assert_eq!(brought(&[&both]), brought(&[&first, &second]));
        assert_eq!((both.first, both.next), (true, second.next));
    }

    #[test]
    fn g8_a_page_that_lies_about_its_size_takes_no_memory() {
        let mut lie = vec![0; HEAD];
        lie.extend(u32::MAX.to_le_bytes());
        lie.extend([0; 64]);
        assert!(Page::decode(&headed(lie, COMPRESSED)).is_err());
        assert!(Page::decode(&headed(vec![0; HEAD + 3], COMPRESSED)).is_err());
        assert!(Page::decode(&headed(vec![0; HEAD + 3], 2)).is_err());
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
