//! How a session's values and lists are laid out as flat fields.
//!
//! Both stores keep a session as one flat map of fields, so that a page of a
//! move, the tracking of what changed and the accounting of bytes need to know
//! nothing of values and lists:
//!
//! | field | holds |
//! |---|---|
//! | `s` key | a value |
//! | `n` list | the number of items, decimal |
//! | `i` list `\0` index | an item |
//! | `h` field | the number of chunks of a field that was too large |
//! | `c` field `\0` index | one such chunk of at most [`CHUNK`] bytes |
//!
//! The Redis scripts do the same steps in the same order; the conformance
//! suite compares the two.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::changes::Change;

/// No field holds more than this many bytes: larger ones are cut.
pub const CHUNK: usize = 128 * 1024;

/// A session's data, flat.
pub type FieldMap = BTreeMap<String, Bytes>;

/// The field of a value.
pub fn value_field(key: &str) -> String {
    ["s", key].concat()
}

/// The field that counts a list's items.
pub fn count_field(list: &str) -> String {
    ["n", list].concat()
}

/// The field of a list's item.
pub fn item_field(list: &str, index: u64) -> String {
    format!("i{list}\0{index}")
}

/// The field that counts a large field's chunks.
pub fn chunks_field(field: &str) -> String {
    ["h", field].concat()
}

/// The field of one chunk of a large field.
pub fn chunk_field(field: &str, index: u64) -> String {
    format!("c{field}\0{index}")
}

fn number(map: &FieldMap, field: &str) -> u64 {
    map.get(field)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Reads a field, joining its chunks if it was cut.
pub fn get(map: &FieldMap, field: &str) -> Option<Bytes> {
    if let Some(bytes) = map.get(field) {
        return Some(bytes.clone());
    }
    let chunks = number(map, &chunks_field(field));
    if chunks == 0 {
        return None;
    }
    let mut joined = Vec::new();
    for index in 0..chunks {
        joined.extend_from_slice(map.get(&chunk_field(field, index))?);
    }
    Some(joined.into())
}

/// How many items a list has; an absent list has none.
pub fn list_len(map: &FieldMap, list: &str) -> u64 {
    number(map, &count_field(list))
}

/// All items of a list, in order.
pub fn list(map: &FieldMap, list: &str) -> Vec<Bytes> {
    (0..list_len(map, list)).filter_map(|index| get(map, &item_field(list, index))).collect()
}

/// The author's key that a field belongs to, if it starts one (a value or a list).
pub fn key_of(field: &str) -> Option<&str> {
    match field.as_bytes().first()? {
        b's' | b'n' => field.get(1..),
        // A large value has no `s` field; its chunk count stands for it.
        b'h' if field.as_bytes().get(1) == Some(&b's') => field.get(2..),
        _ => None,
    }
}

/// The names of all values and lists, sorted.
pub fn keys<'a>(fields: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    fields.into_iter().filter_map(key_of).map(str::to_owned).collect()
}

/// What an application of changes did to the map.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Fields that were written or removed.
    pub touched: BTreeSet<String>,
    /// Bytes of fields and contents that came.
    pub added: u64,
    /// Bytes of fields and contents that went.
    pub removed: u64,
}

impl Applied {
    fn put(&mut self, map: &mut FieldMap, field: String, value: Bytes) {
        self.added += (field.len() + value.len()) as u64;
        match map.get_mut(&field) {
            Some(old) => {
                self.removed += (field.len() + old.len()) as u64;
                *old = value;
            }
            None => drop(map.insert(field.clone(), value)),
        }
        self.touched.insert(field);
    }

    fn remove(&mut self, map: &mut FieldMap, field: &str) -> bool {
        let Some(old) = map.remove(field) else { return false };
        self.removed += (field.len() + old.len()) as u64;
        self.touched.insert(field.to_owned());
        true
    }

    fn clear(&mut self, map: &mut FieldMap, field: &str) {
        if self.remove(map, field) {
            return;
        }
        for index in 0..number(map, &chunks_field(field)) {
            self.remove(map, &chunk_field(field, index));
        }
        self.remove(map, &chunks_field(field));
    }

    fn write(&mut self, map: &mut FieldMap, field: String, value: &Bytes) {
        if value.len() <= CHUNK {
            // A small value over a small one replaces it in place.
            if !map.contains_key(&field) {
                self.clear(map, &field);
            }
            self.put(map, field, value.clone());
            return;
        }
        self.clear(map, &field);
        let mut chunks = 0_u64;
        for start in (0..value.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(value.len());
            self.put(map, chunk_field(&field, chunks), value.slice(start..end));
            chunks += 1;
        }
        self.put(map, chunks_field(&field), chunks.to_string().into());
    }

    fn clear_list(&mut self, map: &mut FieldMap, list: &str) {
        for index in 0..list_len(map, list) {
            self.clear(map, &item_field(list, index));
        }
        self.remove(map, &count_field(list));
    }
}

/// Applies `changes` in order.
pub fn apply(map: &mut FieldMap, changes: &[Change]) -> Applied {
    let mut applied = Applied::default();
    for change in changes {
        match change {
            Change::Set { key, value } => applied.write(map, value_field(key), value),
            Change::Delete { key } => {
                applied.clear(map, &value_field(key));
                applied.clear_list(map, key);
            }
            Change::Append { list, value } => {
                let length = list_len(map, list);
                applied.write(map, item_field(list, length), value);
                applied.put(map, count_field(list), (length + 1).to_string().into());
            }
            Change::ClearList { list } => applied.clear_list(map, list),
        }
    }
    applied
}

/// No application of `changes` adds more bytes than this.
pub fn most(changes: &[Change]) -> u64 {
    // Field names, chunk numbers and counts on top of names and contents.
    const NAMES: usize = 64;
    let each = |name: &str, value: &Bytes| {
        let chunks = value.len() / CHUNK + 2;
        (value.len() + chunks * (name.len() + NAMES)) as u64
    };
    let one = |change: &Change| match change {
        Change::Set { key, value } => each(key, value),
        Change::Append { list, value } => each(list, value),
        Change::Delete { .. } | Change::ClearList { .. } => 0,
    };
    changes.iter().map(one).sum()
}

/// The bytes a map holds: fields and contents.
pub fn size(map: &FieldMap) -> u64 {
    map.iter().map(|(field, value)| (field.len() + value.len()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(key: &str, value: impl Into<Bytes>) -> Change {
        Change::Set { key: key.into(), value: value.into() }
    }

    #[test]
    fn large_values_are_cut_and_joined() {
        let mut map = FieldMap::new();
        let big: Bytes = (0..CHUNK * 2 + 7).map(|i| u8::try_from(i % 251).unwrap()).collect();
        apply(&mut map, &[set("film", big.clone())]);
        assert!(map.values().all(|value| value.len() <= CHUNK));
        assert_eq!(get(&map, "sfilm"), Some(big));
        assert_eq!(keys(map.keys().map(String::as_str)), BTreeSet::from(["film".to_owned()]));
        apply(&mut map, &[set("film", "small")]);
        assert_eq!(map.len(), 1);
        apply(&mut map, &[Change::Delete { key: "film".into() }]);
        assert!(map.is_empty());
    }

    #[test]
    fn a_value_and_a_list_may_share_a_name_and_go_together() {
        let mut map = FieldMap::new();
        let append = Change::Append { list: "x".into(), value: "1".into() };
        apply(&mut map, &[set("x", "v"), append.clone(), append]);
        assert_eq!(get(&map, "sx"), Some("v".into()));
        assert_eq!(list(&map, "x").len(), 2);
        apply(&mut map, &[Change::Delete { key: "x".into() }]);
        assert!(map.is_empty());
    }

    fn change() -> impl Strategy<Value = Change> {
        let key = "[ab\0]{1,2}";
        let value = prop_oneof![
            Just(Bytes::new()),
            Just(Bytes::from_static(b"small")),
            Just(Bytes::from(vec![7; CHUNK + 1])),
        ];
        prop_oneof![
            (key, value.clone()).prop_map(|(key, value)| Change::Set { key, value }),
            (key, value).prop_map(|(list, value)| Change::Append { list, value }),
            key.prop_map(|key| Change::Delete { key }),
            key.prop_map(|list| Change::ClearList { list }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_flat_map_says_what_a_plain_model_says(changes in proptest::collection::vec(change(), 0..12)) {
            let mut map = FieldMap::new();
            let mut values: BTreeMap<String, Bytes> = BTreeMap::new();
            let mut lists: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
            let mut bytes = 0;
            for change in &changes {
                let before = map.clone();
                let applied = apply(&mut map, std::slice::from_ref(change));
                bytes = bytes + applied.added - applied.removed;
                prop_assert!(applied.added <= most(std::slice::from_ref(change)));
                for field in before.keys().chain(map.keys()) {
                    let changed = before.get(field) != map.get(field);
                    prop_assert!(!changed || applied.touched.contains(field));
                }
                match change.clone() {
                    Change::Set { key, value } => { values.insert(key, value); }
                    Change::Append { list, value } => lists.entry(list).or_default().push(value),
                    Change::Delete { key } => { values.remove(&key); lists.remove(&key); }
                    Change::ClearList { list } => { lists.remove(&list); }
                }
            }
            prop_assert_eq!(bytes, size(&map));
            for key in ["a", "b", "ab", "a\0", "\0", "\0\0"] {
                prop_assert_eq!(get(&map, &value_field(key)), values.get(key).cloned());
                prop_assert_eq!(list(&map, key), lists.get(key).cloned().unwrap_or_default());
            }
            let names: BTreeSet<String> = values.keys().chain(lists.keys()).cloned().collect();
            prop_assert_eq!(keys(map.keys().map(String::as_str)), names);
        }
    }
}
