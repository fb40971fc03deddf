//! A slot as the fields of the meta hash: short texts, so that Redis keeps the
//! hash as one compact list (values of at most 64 bytes).
//!
//! `lua/prelude.lua` lists the fields; what scripts look into has a fixed place:
//! the state letter first in `r`, ids of 22 characters last in `n` and `p` and
//! first in `l`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{RedisWrite, ToRedisArgs};

use crate::session::{
    Epoch, Incarnation, Lease, LeaseId, Life, Millis, NodeName, Nonce, Pull, Record, Slot, Transfer,
};

/// The fields of a slot, in the order in which scripts return them.
pub(super) const FIELDS: [&str; 14] =
    ["r", "h", "n", "t", "s", "u", "k", "p", "g", "f", "w", "l", "a", "x"];

/// Characters of a random id in its short form.
pub(super) const SHORT: usize = 22;

const R: usize = 0;
const H: usize = 1;
const N: usize = 2;
const T: usize = 3;
const S: usize = 4;
const U: usize = 5;
const K: usize = 6;
const P: usize = 7;
const G: usize = 8;
const F: usize = 9;
const W: usize = 10;
pub(super) const L: usize = 11;
pub(super) const A: usize = 12;
pub(super) const X: usize = 13;

/// The texts of a slot's fields, in the order of [`FIELDS`]; empty is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Raw(pub(super) [String; 14]);

/// A random id in 22 characters.
pub(super) fn short(id: u128) -> Short {
    let mut text = [0; SHORT];
    // 16 bytes are 22 characters: they always fit.
    let _ = URL_SAFE_NO_PAD.encode_slice(id.to_be_bytes(), &mut text);
    Short(text)
}

/// A random id in its short form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short([u8; SHORT]);

impl Short {
    fn as_str(&self) -> &str {
        // It is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Short {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ToRedisArgs for Short {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        out.write_arg(&self.0);
    }
}

/// Reads the short form of an id.
pub(super) fn long(text: &str) -> Result<u128, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| format!("id {text:?}: {e}"))?;
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| format!("id {text:?} is not 16 bytes"))?;
    Ok(u128::from_be_bytes(bytes))
}

/// Epoch and incarnation, as they follow the state letter in `r`.
pub(super) fn tenure(epoch: Epoch, incarnation: Incarnation) -> Tenure {
    Tenure { state: "", epoch, incarnation }
}

/// The `r` of an owned session.
pub(super) fn owned(epoch: Epoch, incarnation: Incarnation) -> Tenure {
    Tenure { state: "O", epoch, incarnation }
}

/// What `r` says, or its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenure {
    state: &'static str,
    epoch: Epoch,
    incarnation: Incarnation,
}

impl fmt::Display for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, epoch, incarnation } = self;
        write!(f, "{state}{epoch} {}", short(incarnation.0))
    }
}

impl ToRedisArgs for Tenure {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

/// The state letter, life and epoch that `r` and `h` say.
pub(super) fn head(r: &str, h: &str) -> Result<(char, Life, Epoch), String> {
    let bad = || format!("record {r:?}");
    let state = r.chars().next().ok_or_else(bad)?;
    let (epoch, incarnation) = r.get(1..).and_then(|text| text.split_once(' ')).ok_or_else(bad)?;
    let life = Life { home: name(h)?, incarnation: Incarnation(long(incarnation)?) };
    Ok((state, life, number(epoch)?))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("number {text:?}"))
}

fn name(text: &str) -> Result<NodeName, String> {
    NodeName::new(text).map_err(|error| error.to_string())
}

fn optional<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

impl Raw {
    /// Writes a slot as texts.
    pub(super) fn encode(slot: &Slot) -> Self {
        let mut raw = Self::default();
        let fields = &mut raw.0;
        if let Some(record) = &slot.record {
            encode_record(fields, record);
        }
        if let Some(Pull { life, next_epoch, from, nonce }) = &slot.pull {
            fields[P] = format!("{} {}", tenure(*next_epoch, life.incarnation), short(nonce.0));
            fields[G] = life.home.to_string();
            fields[F] = from.to_string();
        }
        if let Some(lease) = &slot.lease {
            fields[L] = format!("{}{}", short(lease.id.0), lease.until);
        }
        if let Some(until) = slot.freeze_until {
            fields[W] = until.to_string();
        }
        if slot.used > 0 {
            fields[A] = slot.used.to_string();
        }
        if slot.outbox > 0 {
            fields[X] = slot.outbox.to_string();
        }
        raw
    }

    /// Reads a slot; the error says which part does not read.
    pub(super) fn decode(&self) -> Result<Slot, String> {
        let fields = &self.0;
        Ok(Slot {
            record: decode_record(fields)?,
            pull: decode_pull(fields)?,
            lease: optional(&fields[L], decode_lease)?,
            freeze_until: optional(&fields[W], number)?,
            used: optional(&fields[A], number)?.unwrap_or(0),
            outbox: optional(&fields[X], number)?.unwrap_or(0),
        })
    }
}

fn encode_transfer(fields: &mut [String; 14], transfer: &Transfer) {
    fields[N] = format!("{} {}", transfer.next_epoch, short(transfer.nonce.0));
    fields[T] = transfer.to.to_string();
}

fn encode_record(fields: &mut [String; 14], record: &Record) {
    let letter = match record {
        Record::Owned { intent, unsettled, untold, .. } => {
            if let Some(transfer) = intent {
                encode_transfer(fields, transfer);
            }
            if let Some(from) = unsettled {
                fields[U] = from.to_string();
            }
            if *untold {
                "1".clone_into(&mut fields[K]);
            }
            'O'
        }
        Record::Migrating { transfer, .. } => {
            encode_transfer(fields, transfer);
            'F'
        }
        Record::Moved { to, since, .. } => {
            fields[T] = to.to_string();
            fields[S] = since.to_string();
            'M'
        }
        Record::Expired { .. } => 'X',
    };
    let Life { home, incarnation } = record.life();
    fields[R] = format!("{letter}{}", tenure(record.epoch(), *incarnation));
    fields[H] = home.to_string();
}

fn decode_transfer(fields: &[String; 14]) -> Result<Option<Transfer>, String> {
    optional(&fields[N], |text| {
        let (next_epoch, nonce) = text.split_once(' ').ok_or_else(|| format!("move {text:?}"))?;
        Ok(Transfer {
            to: name(&fields[T])?,
            next_epoch: number(next_epoch)?,
            nonce: Nonce(long(nonce)?),
        })
    })
}

fn decode_record(fields: &[String; 14]) -> Result<Option<Record>, String> {
    if fields[R].is_empty() {
        return Ok(None);
    }
    let (state, life, epoch) = head(&fields[R], &fields[H])?;
    Ok(Some(match state {
        'O' => Record::Owned {
            life,
            epoch,
            intent: decode_transfer(fields)?,
            unsettled: optional(&fields[U], name)?,
            untold: !fields[K].is_empty(),
        },
        'F' => {
            let transfer = decode_transfer(fields)?.ok_or("a frozen record without its move")?;
            Record::Migrating { life, epoch, transfer }
        }
        'M' => Record::Moved { life, epoch, to: name(&fields[T])?, since: number(&fields[S])? },
        'X' => Record::Expired { life, epoch },
        other => return Err(format!("record state {other:?}")),
    }))
}

fn decode_pull(fields: &[String; 14]) -> Result<Option<Pull>, String> {
    optional(&fields[P], |text| {
        let mut parts = text.split(' ');
        let (Some(epoch), Some(incarnation), Some(nonce), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("pull {text:?}"));
        };
        Ok(Pull {
            life: Life { home: name(&fields[G])?, incarnation: Incarnation(long(incarnation)?) },
            next_epoch: number(epoch)?,
            from: name(&fields[F])?,
            nonce: Nonce(long(nonce)?),
        })
    })
}

fn decode_lease(text: &str) -> Result<Lease, String> {
    let (id, until) = text.split_at_checked(SHORT).ok_or_else(|| format!("lease {text:?}"))?;
    let until: Millis = number(until)?;
    Ok(Lease { id: LeaseId(long(id)?), until })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> impl Strategy<Value = NodeName> {
        "[a-z0-9]{1,20}".prop_map(|name| NodeName::new(name).unwrap())
    }

    fn lives() -> impl Strategy<Value = Life> {
        (names(), any::<u128>()).prop_map(|(home, id)| Life { home, incarnation: Incarnation(id) })
    }

    fn transfers() -> impl Strategy<Value = Transfer> {
        (names(), any::<u64>(), any::<u128>()).prop_map(|(to, next_epoch, nonce)| Transfer {
            to,
            next_epoch,
            nonce: Nonce(nonce),
        })
    }

    fn records() -> impl Strategy<Value = Record> {
        let intent = proptest::option::of(transfers());
        let unsettled = proptest::option::of(names());
        prop_oneof![
            (lives(), any::<u64>(), intent, unsettled, any::<bool>()).prop_map(
                |(life, epoch, intent, unsettled, untold)| Record::Owned {
                    life,
                    epoch,
                    intent,
                    unsettled,
                    untold
                }
            ),
            (lives(), any::<u64>(), transfers())
                .prop_map(|(life, epoch, transfer)| Record::Migrating { life, epoch, transfer }),
            (lives(), any::<u64>(), names(), any::<u64>())
                .prop_map(|(life, epoch, to, since)| Record::Moved { life, epoch, to, since }),
            (lives(), any::<u64>()).prop_map(|(life, epoch)| Record::Expired { life, epoch }),
        ]
    }

    fn slots() -> impl Strategy<Value = Slot> {
        let pull = (lives(), any::<u64>(), names(), any::<u128>()).prop_map(
            |(life, next_epoch, from, nonce)| Pull { life, next_epoch, from, nonce: Nonce(nonce) },
        );
        let lease =
            (any::<u128>(), any::<u64>()).prop_map(|(id, until)| Lease { id: LeaseId(id), until });
        (
            proptest::option::of(records()),
            proptest::option::of(pull),
            proptest::option::of(lease),
            proptest::option::of(any::<u64>()),
            any::<u64>(),
            any::<u64>(),
        )
            .prop_map(|(record, pull, lease, freeze_until, used, outbox)| Slot {
                record,
                pull,
                lease,
                freeze_until,
                used,
                outbox,
            })
    }

    proptest! {
        #[test]
        fn g1_a_slot_survives_its_texts(slot in slots()) {
            prop_assert_eq!(Raw::encode(&slot).decode(), Ok(slot));
        }
    }

    #[test]
    fn g1_a_text_that_does_not_read_is_an_error() {
        for (field, text) in [(R, "Z1 x"), (R, "O"), (P, "1 2"), (L, "short"), (W, "soon")] {
            let mut raw = Raw::default();
            raw.0[field] = text.to_owned();
            assert!(raw.decode().is_err(), "{text:?}");
        }
    }
}
