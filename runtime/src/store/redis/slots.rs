//! Which master of a cluster has which slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::Value;

use super::address::Address;
use super::cluster::Member;
use super::keys::Keys;
use super::reply::{self, Parts, corrupt};
use crate::store::StoreResult;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// The slot of a key: its hash tag decides, if it has one.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS
}

/// The owners of all slots at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Map {
    /// For each slot its owner's place among the members; [`SLOTS`] where there is none.
    owners: Vec<u16>,
    members: Vec<Arc<Member>>,
    /// A key that belongs to each of them.
    sync: BTreeMap<Address, String>,
}

impl Map {
    pub(super) fn new(
        owned: &[(u16, u16, Address)],
        member: impl Fn(&Address) -> Arc<Member>,
        keys: &Keys,
    ) -> Self {
        let mut map = Self { owners: vec![SLOTS; usize::from(SLOTS)], ..Self::default() };
        for (first, last, address) in owned {
            let place = map.place(&member(address));
            for slot in *first..=(*last).min(SLOTS - 1) {
                map.owners[usize::from(slot)] = place;
            }
        }
        map.find_sync_keys(keys);
        map
    }

    fn place(&mut self, member: &Arc<Member>) -> u16 {
        let known = self.members.iter().position(|known| known.address == member.address);
        let place = known.unwrap_or_else(|| {
            self.members.push(Arc::clone(member));
            self.members.len() - 1
        });
        u16::try_from(place).unwrap_or(SLOTS)
    }

    /// Tries numbers until every master has one in a slot of its own.
    fn find_sync_keys(&mut self, keys: &Keys) {
        for number in 0..u32::from(SLOTS) * 16 {
            if self.sync.len() == self.members.len() {
                return;
            }
            let key = keys.sync_at(number);
            if let Some(owner) = self.owner(slot_of(&key)) {
                let address = owner.address.clone();
                self.sync.entry(address).or_insert(key);
            }
        }
    }

    /// The same, with one slot elsewhere.
    pub(super) fn with(&self, slot: u16, member: &Arc<Member>) -> Self {
        let mut map = self.clone();
        let place = map.place(member);
        if let Some(owner) = map.owners.get_mut(usize::from(slot)) {
            *owner = place;
        }
        map
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Member>> {
        self.members.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// How many slots nobody has.
    pub(super) fn without_master(&self) -> usize {
        (0..SLOTS).filter(|slot| self.owner(*slot).is_none()).count()
    }

    pub(super) fn masters(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter()
    }

    pub(super) fn sync_key(&self, address: &Address) -> Option<&str> {
        self.sync.get(address).map(String::as_str)
    }
}

/// Reads the answer of `CLUSTER SLOTS`: first and last slot, and their master.
pub(super) fn slots(answer: Value, asked: &Address) -> StoreResult<Vec<(u16, u16, Address)>> {
    let slot = |value| u16::try_from(reply::number(value)?).map_err(corrupt);
    let mut found = Vec::new();
    for range in Parts::new(answer)? {
        let mut range = Parts::new(range)?;
        let (first, last) = (slot(range.value()?)?, slot(range.value()?)?);
        let mut master = Parts::new(range.value()?)?;
        let host = match master.text()? {
            // It does not know its own, or is told to keep it to itself.
            host if host.is_empty() || host == "?" => asked.host.clone(),
            host => host,
        };
        found.push((first, last, Address { host, port: slot(master.value()?)? }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_of_the_hash_tag() {
        // From the specification of Redis Cluster.
        assert_eq!(slot_of("123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot_of("foo{hash_tag}bar"), slot_of("hash_tag"));
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
        assert_eq!(slot_of("foo{bar}{zap}"), slot_of("bar"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"));
    }

    #[test]
    fn the_masters_are_read() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), bulk("id")]);
        let answer = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(9),
                node(bulk("a"), 1),
                node(bulk("replica"), 2),
            ]),
            Value::Array(vec![Value::Int(10), Value::Int(16_383), node(Value::Nil, 3)]),
        ]);
        let asked = Address { host: "asked".into(), port: 9 };
        let found = slots(answer, &asked).unwrap();
        let names: Vec<_> = found.iter().map(|(a, b, at)| format!("{a}-{b} {at}")).collect();
        assert_eq!(names, ["0-9 a:1", "10-16383 asked:3"]);
    }
}
