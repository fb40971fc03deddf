//! Reading what Redis answers.

use bytes::Bytes;
use redis::Value;

use super::encode::{FIELDS, Raw, SHORT, short};
use crate::session::fields::FieldMap;
use crate::session::{
    Digest, LeaseId, Millis, OutboxEntry, RequestId, StoredResponse, WindowEntry,
};
use crate::store::{StoreError, StoreResult};

/// What was found does not read.
pub(super) fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(what.to_string())
}

/// The parts of an array, one by one.
#[derive(Debug)]
pub(super) struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    pub(super) fn new(value: Value) -> StoreResult<Self> {
        match value {
            Value::Array(parts) | Value::Set(parts) => Ok(Self(parts.into_iter())),
            Value::Map(pairs) => {
                let parts: Vec<_> = pairs.into_iter().flat_map(<[Value; 2]>::from).collect();
                Ok(Self(parts.into_iter()))
            }
            other => Err(corrupt(format_args!("expected a list, found {}", kind(&other)))),
        }
    }

    pub(super) fn value(&mut self) -> StoreResult<Value> {
        self.0.next().ok_or_else(|| corrupt("an answer of Redis is too short"))
    }

    pub(super) fn text(&mut self) -> StoreResult<String> {
        text(self.value()?)
    }

    pub(super) fn number(&mut self) -> StoreResult<u64> {
        number(self.value()?)
    }
}

impl Iterator for Parts {
    type Item = Value;
    fn next(&mut self) -> Option<Value> {
        self.0.next()
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    }
}

/// A text; nothing is the empty text.
pub(super) fn text(value: Value) -> StoreResult<String> {
    match value {
        Value::Nil => Ok(String::new()),
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(corrupt),
        Value::SimpleString(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        Value::VerbatimString { text, .. } => Ok(text),
        other => Err(corrupt(format_args!("expected a text, found {}", kind(&other)))),
    }
}

/// A number that a script says, which may be below zero.
pub(super) fn signed(value: Value) -> StoreResult<i64> {
    match value {
        Value::Int(number) => Ok(number),
        other => Err(corrupt(format_args!("not a whole number: {other:?}"))),
    }
}

pub(super) fn number(value: Value) -> StoreResult<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(corrupt),
        // Scores are whole milliseconds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Value::Double(number) if number >= 0.0 => Ok(number as u64),
        Value::BulkString(digits) => std::str::from_utf8(&digits)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| corrupt("expected a number")),
        other => Err(corrupt(format_args!("expected a number, found {}", kind(&other)))),
    }
}

/// Bytes without a copy; `None` for nothing.
pub(super) fn bytes(value: Value) -> StoreResult<Option<Bytes>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        other => Err(corrupt(format_args!("expected bytes, found {}", kind(&other)))),
    }
}

/// Names and contents that come in turn.
pub(super) fn pairs(value: Value) -> StoreResult<Vec<(String, Bytes)>> {
    let mut parts = Parts::new(value)?;
    let mut found = Vec::with_capacity(parts.size_hint().0 / 2);
    while let Some(name) = parts.next() {
        let content = bytes(parts.value()?)?.ok_or_else(|| corrupt("a field without content"))?;
        found.push((text(name)?, content));
    }
    Ok(found)
}

pub(super) fn fields(value: Value) -> StoreResult<FieldMap> {
    Ok(pairs(value)?.into_iter().collect())
}

/// The texts of a slot.
pub(super) fn raw(value: Value) -> StoreResult<Raw> {
    raw_from(&mut Parts::new(value)?)
}

/// The texts of a slot, at the start of more.
pub(super) fn raw_from(parts: &mut Parts) -> StoreResult<Raw> {
    let mut raw = Raw::default();
    for place in 0..FIELDS.len() {
        raw.0[place] = parts.text()?;
    }
    Ok(raw)
}

/// A window entry as a commit hands it to the script: the lease, for the script
/// to look at, then the entry, whose time the script puts in front.
pub(super) fn window_value(lease: LeaseId, digest: &Digest, response: &StoredResponse) -> Vec<u8> {
    let mut value = short(lease.0).as_ref().to_vec();
    // The same form as `WindowEntry::encode`, without a copy of the response.
    // Bytes, strings and numbers always serialize.
    let _ = rmp_serde::encode::write(&mut value, &(digest, lease, 0_u64, response));
    value
}

const STAMP: usize = 13;

/// Reads a window entry as the script keeps it: time, lease, entry.
pub(super) fn window_entry(stored: &[u8]) -> StoreResult<WindowEntry> {
    let bad = || corrupt("a window entry is too short");
    let (stamp, rest) = stored.split_at_checked(STAMP).ok_or_else(bad)?;
    let at: Millis = std::str::from_utf8(stamp)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| corrupt("the time of a window entry"))?;
    let entry = WindowEntry::decode(rest.get(SHORT..).ok_or_else(bad)?).map_err(corrupt)?;
    Ok(WindowEntry { at, ..entry })
}

/// A window entry with its id, as pages carry it.
pub(super) fn window_item(id: Value, entry: Value) -> StoreResult<(RequestId, WindowEntry)> {
    let id = RequestId::new(text(id)?).map_err(corrupt)?;
    let stored = bytes(entry)?.ok_or_else(|| corrupt("a request id without its entry"))?;
    Ok((id, window_entry(&stored)?))
}

/// What separates an outbox entry's id from the entry.
pub(super) const AFTER_ID: char = '\n';

/// An outbox entry as it is kept: its id, for the script to look at, then all of it.
pub(super) fn outbox_value(entry: &OutboxEntry) -> Vec<u8> {
    let mut value = Vec::with_capacity(entry.value.len() + entry.id.len() * 2 + 160);
    value.extend_from_slice(entry.id.as_bytes());
    value.push(AFTER_ID as u8);
    // Bytes and strings always serialize.
    let _ = rmp_serde::encode::write(&mut value, entry);
    value
}

/// Reads what [`outbox_value`] wrote.
pub(super) fn outbox_entry(value: Value) -> StoreResult<OutboxEntry> {
    let stored = bytes(value)?.unwrap_or_default();
    let end = stored.iter().position(|byte| *byte == AFTER_ID as u8);
    let start = end.map_or(0, |end| end + 1);
    rmp_serde::from_slice(&stored[start..])
        .map_err(|error| corrupt(format_args!("an outbox entry: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{FunctionName, NodeName};

    #[test]
    fn g3_a_window_entry_survives_its_stored_form() {
        let entry = WindowEntry {
            digest: Digest([7; 32]),
            lease: LeaseId(9),
            at: 1_700_000_000_123,
            response: StoredResponse {
                status: 201,
                headers: vec![("x".into(), "y".into())],
                body: Some(Bytes::from_static(b"\0\xff")),
            },
        };
        let mut stored = b"1700000000123".to_vec();
        stored.extend(window_value(entry.lease, &entry.digest, &entry.response));
        assert_eq!(window_entry(&stored).unwrap(), entry);
        assert!(window_entry(b"17").is_err());
    }

    #[test]
    fn g2_an_outbox_entry_survives_its_stored_form() {
        let entry = OutboxEntry {
            id: "00ff-0".into(),
            function: FunctionName::new("cart").unwrap(),
            to: NodeName::new("milan").unwrap(),
            from: NodeName::new("brera").unwrap(),
            value: Bytes::from_static(b"a\nb"),
        };
        let stored = Value::BulkString(outbox_value(&entry));
        assert_eq!(outbox_entry(stored).unwrap(), entry);
    }
}
