//! Versions of the internal calls, and which one another node is spoken to in.
//!
//! A release speaks its own version and the one before. The signature of a call names
//! the call's version; the answer is of the same. Who calls speaks the newest that both
//! know: it begins with its own, and where that is not read it asks the other what it
//! speaks ([`HttpPeers`](super::HttpPeers) does that), and keeps to it for a while.
//!
//! Pure: the time is an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::{FunctionName, NodeName};

/// For how long a node is spoken to in an older version before its own is tried again:
/// it may have been upgraded. Each try costs two more calls.
pub const REMEMBERED: Duration = Duration::from_secs(60);

/// A version of the internal calls that this release speaks.
///
/// Version 2 differs from version 1 in this: signatures cover the session and the request
/// id of an invoked call, its answer is signed, with the place that a redirect leads to,
/// and no call says its version anywhere but in its signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WireVersion {
    /// The one before.
    V1,
    /// This release's own.
    #[default]
    V2,
}

impl WireVersion {
    /// The version of the release before, which every node that this one may meet reads.
    pub const OLDEST: Self = Self::V1;
    /// This release's own version.
    pub const NEWEST: Self = Self::V2;

    /// Its number, as it is sent.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version of this number, if this release speaks it.
    pub fn of(number: u32) -> Option<Self> {
        [Self::V1, Self::V2].into_iter().find(|version| version.number() == number)
    }

    /// The newest version that a node of this one and a node that speaks up to `theirs`
    /// have in common, if they have any: each speaks its own and the one before.
    pub fn in_common(self, theirs: u32) -> Option<Self> {
        let common = Self::of(theirs.min(self.number()))?;
        (common.number() + 1 >= theirs).then_some(common)
    }
}

impl fmt::Display for WireVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl FromStr for WireVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (oldest, newest) = (Self::OLDEST, Self::NEWEST);
        let number = text.parse().ok().and_then(Self::of);
        number.ok_or_else(|| format!("this release speaks {oldest} and {newest}"))
    }
}

/// A function at a node: each may be of another release.
type Whom = (NodeName, FunctionName);

/// Which version others are spoken to in.
#[derive(Debug)]
pub struct Versions {
    ours: WireVersion,
    remembered: Duration,
    /// Those that are spoken to in an older one than ours, and until when. No more than
    /// there are functions in the tree: what gets in here has said so, signed.
    older: BTreeMap<Whom, (WireVersion, Instant)>,
}

impl Versions {
    /// For a node that speaks `ours`, and remembers an older one for so long.
    pub fn new(ours: WireVersion, remembered: Duration) -> Self {
        Self { ours, remembered, older: BTreeMap::new() }
    }

    /// The version to speak to a function at a node.
    pub fn with(&self, node: &NodeName, function: &FunctionName, now: Instant) -> WireVersion {
        let known = self.older.get(&(node.clone(), function.clone()));
        known.filter(|(_, until)| now < *until).map_or(self.ours, |(version, _)| *version)
    }

    /// A function at a node says that it speaks up to `theirs`. The version to speak to
    /// it from now on, if there is one in common.
    pub fn learned(
        &mut self,
        node: &NodeName,
        function: &FunctionName,
        theirs: u32,
        now: Instant,
    ) -> Option<WireVersion> {
        self.older.retain(|_, (_, until)| now < *until);
        let whom = (node.clone(), function.clone());
        let common = self.ours.in_common(theirs);
        match common {
            Some(version) if version < self.ours => {
                self.older.insert(whom, (version, now + self.remembered));
            }
            _ => {
                self.older.remove(&whom);
            }
        }
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milan() -> NodeName {
        NodeName::new("milan").unwrap()
    }

    fn function(name: &str) -> FunctionName {
        FunctionName::new(name).unwrap()
    }

    #[test]
    fn releases_next_to_each_other_have_a_version_in_common() {
        use WireVersion::{V1, V2};
        for (ours, theirs, common) in [
            (V2, 0, None),
            (V2, 1, Some(V1)),
            (V2, 2, Some(V2)),
            (V2, 3, Some(V2)),
            (V2, 4, None),
            (V1, 1, Some(V1)),
            (V1, 2, Some(V1)),
            (V1, 3, None),
        ] {
            assert_eq!(ours.in_common(theirs), common, "{ours} and {theirs}");
        }
    }

    #[test]
    fn every_version_has_a_number_that_reads() {
        for version in [WireVersion::OLDEST, WireVersion::NEWEST] {
            assert_eq!(WireVersion::of(version.number()), Some(version));
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert_eq!("3".parse::<WireVersion>().unwrap_err(), "this release speaks 1 and 2");
        assert_eq!(WireVersion::OLDEST.number() + 1, WireVersion::NEWEST.number());
    }

    #[test]
    fn an_older_node_is_spoken_to_in_its_own_version_for_a_while() {
        let (cart, cdn) = (function("cart"), function("cdn"));
        let mut versions = Versions::new(WireVersion::V2, REMEMBERED);
        let now = Instant::now();
        assert_eq!(versions.with(&milan(), &cart, now), WireVersion::V2);
        assert_eq!(versions.learned(&milan(), &cart, 1, now), Some(WireVersion::V1));
        // Another function there may be of another release.
        assert_eq!(versions.with(&milan(), &cdn, now), WireVersion::V2);
        let last = now + REMEMBERED - Duration::from_millis(1);
        assert_eq!(versions.with(&milan(), &cart, last), WireVersion::V1);
        assert_eq!(versions.with(&milan(), &cart, now + REMEMBERED), WireVersion::V2);
    }

    #[test]
    fn an_upgrade_and_a_roll_back_are_noticed_whenever_they_come() {
        let cart = function("cart");
        let mut versions = Versions::new(WireVersion::V2, REMEMBERED);
        let now = Instant::now();
        for (theirs, spoken) in [(1, WireVersion::V1), (2, WireVersion::V2), (1, WireVersion::V1)] {
            assert_eq!(versions.learned(&milan(), &cart, theirs, now), Some(spoken));
            assert_eq!(versions.with(&milan(), &cart, now), spoken);
        }
        // Too far apart: nothing is remembered, for nothing can be said.
        assert_eq!(versions.learned(&milan(), &cart, 0, now), None);
        assert_eq!(versions.with(&milan(), &cart, now), WireVersion::V2);
    }

    #[test]
    fn what_is_remembered_is_no_more_than_what_was_learned_lately() {
        let mut versions = Versions::new(WireVersion::V2, REMEMBERED);
        let mut now = Instant::now();
        for number in 0..1000 {
            now += REMEMBERED / 10;
            versions.learned(&milan(), &function(&format!("f{number}")), 1, now);
        }
        assert!(versions.older.len() <= 10, "{}", versions.older.len());
    }
}
