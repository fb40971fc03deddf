//! Where a page of a move starts. A node hands it back as it got it.

use crate::protocol::Refusal;

/// The part of a session that a page goes on with, in the order of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    /// All fields, once.
    Walk,
    /// Fields that changed since the copy began.
    Changes,
    /// The deduplication window.
    Window,
    /// The outbox.
    Outbox,
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) section: Section,
    /// The version of the frozen data that the pages before are of. Without one they
    /// are of a copy, and what changed since has to be known.
    pub(super) version: Option<u64>,
    /// Changes of fields up to this one have been sent.
    pub(super) changes: u64,
    /// Entries of the window up to this one have been sent, counted from the first
    /// that it had when the copy began.
    pub(super) window: u64,
    /// Where in a walk or in the outbox.
    pub(super) at: String,
}

impl Section {
    pub(super) fn letter(self) -> char {
        match self {
            Self::Walk => 'd',
            Self::Changes => 'c',
            Self::Window => 'w',
            Self::Outbox => 'o',
        }
    }

    pub(super) fn of(letter: &str) -> Option<Self> {
        Some(match letter {
            "d" => Self::Walk,
            "c" => Self::Changes,
            "w" => Self::Window,
            "o" => Self::Outbox,
            _ => return None,
        })
    }
}

impl Cursor {
    /// The start of a walk.
    pub(super) fn start() -> Self {
        Self { section: Section::Walk, version: None, changes: 0, window: 0, at: String::new() }
    }

    /// Reads a cursor. One that does not read is not one of ours: some other release
    /// wrote it, and the pages have to be asked for from the start.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let read = || {
            let mut parts = text.splitn(5, ':');
            let section = Section::of(parts.next()?)?;
            let version = match parts.next()? {
                "" => None,
                version => Some(version.parse().ok()?),
            };
            let (changes, window) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Self { section, version, changes, window, at: parts.next()?.to_owned() })
        };
        read().ok_or(Refusal::NoSuchCopy)
    }

    pub(super) fn write(&self) -> String {
        let Self { section, version, changes, window, at } = self;
        let version = version.map_or_else(String::new, |version| version.to_string());
        format!("{}:{version}:{changes}:{window}:{at}", section.letter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g2_a_cursor_survives_its_text() {
        for section in [Section::Walk, Section::Changes, Section::Window, Section::Outbox] {
            for version in [None, Some(0), Some(7)] {
                let at = "s:a:\0".to_owned();
                let cursor = Cursor { section, version, changes: 3, window: 9, at };
                assert_eq!(Cursor::read(&cursor.write()), Ok(cursor));
            }
        }
        for text in ["", "d", "x::0:0:", "d::0:0", "d:a:0:0:", "d::-1:0:", "w12"] {
            assert_eq!(Cursor::read(text), Err(Refusal::NoSuchCopy), "{text:?}");
        }
    }
}
