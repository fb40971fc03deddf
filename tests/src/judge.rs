//! Judges a session's history: from what was sent, what was answered and the log
//! at the end, whether every write took effect exactly once, in an order that fits
//! all answers.
//!
//! The session is a list that writes append a text of their own to, so the log at
//! the end *is* the one order in which they took effect. It is linearizable if
//! every answer fits it and no write stands before another that had been answered
//! before it was sent.

use std::collections::HashMap;
use std::time::Instant;

/// What the writer knows of its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, at this position.
    Acked(usize),
    /// An answer says that nothing was written.
    Refused,
    /// No answer, or one that leaves it open: it took effect once or never.
    Unknown,
}

/// A write as its writer saw it. A repeat with the same request id is the same write.
#[derive(Debug, Clone)]
pub struct Write {
    /// What it appends; no other write appends the same.
    pub text: String,
    /// When it was sent first.
    pub began: Instant,
    /// When its writer learned the outcome, or gave up.
    pub ended: Instant,
    /// What its writer knows.
    pub outcome: Outcome,
}

/// A read of the whole log.
#[derive(Debug, Clone)]
pub struct Read {
    /// When it was sent.
    pub began: Instant,
    /// When it was answered.
    pub ended: Instant,
    /// What it saw.
    pub seen: Vec<String>,
}

/// All that was done to one session.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In any order.
    pub writes: Vec<Write>,
    /// In any order.
    pub reads: Vec<Read>,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledged, and not in the log.
    Lost(String),
    /// In the log more than once.
    Twice(String),
    /// In the log, though an answer said that nothing was written.
    Refused(String),
    /// In the log, and nobody sent it.
    Invented(String),
    /// In the log at another position than the answer said.
    Elsewhere {
        /// The write.
        text: String,
        /// What the answer said.
        said: usize,
        /// Where it is.
        is: usize,
    },
    /// The first was answered before the second was sent, and stands behind it.
    OutOfOrder(String, String),
    /// A read saw something that was never the log.
    NeverSo(Vec<String>),
    /// A read did not see a write that was answered before the read was sent.
    OldRead {
        /// The write.
        missed: String,
        /// How many the read saw.
        saw: usize,
    },
}

impl History {
    /// Everything that does not fit `log`, the session's list at the end.
    pub fn judge(&self, log: &[String]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (place, text) in log.iter().enumerate() {
            if places.insert(text, place).is_some() {
                faults.push(Fault::Twice(text.clone()));
            }
        }
        let mut sent: HashMap<&str, &Write> = HashMap::new();
        for write in &self.writes {
            assert!(sent.insert(&write.text, write).is_none(), "{} was sent twice", write.text);
        }
        for text in log.iter().filter(|text| !sent.contains_key(text.as_str())) {
            faults.push(Fault::Invented(text.clone()));
        }
        for write in &self.writes {
            let text = || write.text.clone();
            match (write.outcome, places.get(write.text.as_str())) {
                (Outcome::Acked(_), None) => faults.push(Fault::Lost(text())),
                (Outcome::Acked(said), Some(is)) if said != *is => {
                    faults.push(Fault::Elsewhere { text: text(), said, is: *is });
                }
                (Outcome::Refused, Some(_)) => faults.push(Fault::Refused(text())),
                _ => {}
            }
        }
        self.judge_order(&places, &mut faults);
        for read in &self.reads {
            self.judge_read(read, log, &places, &mut faults);
        }
        faults
    }

    /// Walks through sends and answers in time; whoever is sent now stands behind
    /// everybody who was answered.
    fn judge_order(&self, places: &HashMap<&str, usize>, faults: &mut Vec<Fault>) {
        let known = |write: &&Write| places.contains_key(write.text.as_str());
        let mut sent: Vec<&Write> = self.writes.iter().filter(known).collect();
        let mut answered: Vec<&Write> = sent.clone();
        answered.retain(|write| matches!(write.outcome, Outcome::Acked(_)));
        sent.sort_by_key(|write| write.began);
        answered.sort_by_key(|write| write.ended);
        let mut answered = answered.into_iter().peekable();
        let mut last: Option<&Write> = None;
        let place = |write: &Write| places[write.text.as_str()];
        for write in sent {
            while let Some(done) = answered.next_if(|done| done.ended < write.began) {
                if last.is_none_or(|last| place(last) < place(done)) {
                    last = Some(done);
                }
            }
            if let Some(last) = last.filter(|last| place(last) > place(write)) {
                faults.push(Fault::OutOfOrder(last.text.clone(), write.text.clone()));
            }
        }
    }

    fn judge_read(
        &self,
        read: &Read,
        log: &[String],
        places: &HashMap<&str, usize>,
        faults: &mut Vec<Fault>,
    ) {
        if !log.starts_with(&read.seen) {
            faults.push(Fault::NeverSo(read.seen.clone()));
        }
        for write in &self.writes {
            let Some(place) = places.get(write.text.as_str()) else { continue };
            let acked = matches!(write.outcome, Outcome::Acked(_));
            if acked && write.ended < read.began && *place >= read.seen.len() {
                let (missed, saw) = (write.text.clone(), read.seen.len());
                faults.push(Fault::OldRead { missed, saw });
            }
            if write.began > read.ended && *place < read.seen.len() {
                faults.push(Fault::NeverSo(read.seen.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(base: Instant, ms: u64) -> Instant {
        base + Duration::from_millis(ms)
    }

    /// Writes `a`, `b`, … as (began, ended, outcome); reads as (began, ended, saw).
    fn judge(writes: &[(u64, u64, Outcome)], reads: &[(u64, u64, &str)], log: &str) -> Vec<Fault> {
        let base = Instant::now();
        let texts = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let write = |(text, (began, ended, outcome)): (char, &(u64, u64, Outcome))| Write {
            text: text.into(),
            began: at(base, *began),
            ended: at(base, *ended),
            outcome: *outcome,
        };
        let read = |(began, ended, seen): &(u64, u64, &str)| Read {
            began: at(base, *began),
            ended: at(base, *ended),
            seen: texts(seen),
        };
        let history = History {
            writes: ('a'..).zip(writes).map(write).collect(),
            reads: reads.iter().map(read).collect(),
        };
        history.judge(&texts(log))
    }

    use Outcome::{Acked, Refused, Unknown};

    #[test]
    fn what_fits_is_let_through() {
        let writes = [(0, 9, Acked(1)), (1, 8, Acked(0)), (2, 3, Unknown), (10, 11, Refused)];
        assert_eq!(judge(&writes, &[(10, 11, "ba"), (1, 2, "b"), (0, 1, "")], "ba"), []);
        assert_eq!(judge(&writes, &[(12, 13, "bac")], "bac"), []);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let a = || "a".to_owned();
        let b = || "b".to_owned();
        let one = [(0, 1, Acked(0))];
        assert_eq!(judge(&one, &[], ""), [Fault::Lost(a())]);
        assert!(judge(&one, &[], "aa").contains(&Fault::Twice(a())));
        assert_eq!(judge(&one, &[], "ax"), [Fault::Invented("x".into())]);
        assert_eq!(judge(&[(0, 1, Refused)], &[], "a"), [Fault::Refused(a())]);
        let said = Fault::Elsewhere { text: a(), said: 1, is: 0 };
        assert_eq!(judge(&[(0, 1, Acked(1))], &[], "a"), [said]);
        let two = [(0, 1, Acked(1)), (2, 3, Acked(0))];
        assert_eq!(judge(&two, &[], "ba"), [Fault::OutOfOrder(a(), b())]);
    }

    #[test]
    fn reads_see_what_was_there() {
        let one = [(0, 1, Acked(0)), (5, 6, Acked(1))];
        let old = Fault::OldRead { missed: "a".into(), saw: 0 };
        assert_eq!(judge(&one, &[(2, 3, "")], "ab"), [old]);
        assert!(matches!(judge(&one, &[(2, 3, "ab")], "ab")[..], [Fault::NeverSo(_)]));
        assert!(matches!(judge(&one, &[(7, 8, "ba")], "ab")[..], [Fault::NeverSo(_)]));
    }
}
