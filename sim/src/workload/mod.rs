//! Who calls what, when, from where: the same for every policy.
//!
//! - [`generated`]: a day, a flash crowd, clients that roam
//! - [`csv`](mod@csv): invocations a minute, from a file

pub mod csv;
pub mod generated;

use funicular::session::FunctionName;

use crate::tree::Index;

/// Seconds since the beginning.
pub type Second = u32;
/// A session's number, in the order in which sessions begin.
pub type Session = u32;

/// Requests a second, in billionths: whole numbers, so that adding and taking away leaves
/// nothing.
pub type Rate = u64;
/// One request a second.
pub const ONE: f64 = 1e9;

/// A session, as its client uses it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// When it begins.
    pub start: Second,
    /// When its client sends the last request.
    pub end: Second,
    /// The edge where its client is at the beginning.
    pub edge: Index,
    /// Which stream it is part of.
    pub stream: u32,
    /// Its requests, at a level of 1 of its stream.
    pub rate: Rate,
    /// Bytes of its data.
    pub bytes: u32,
}

/// A client goes elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roam {
    /// When.
    pub at: Second,
    /// Whose session.
    pub session: Session,
    /// The edge where the client is from then on.
    pub edge: Index,
}

/// Sessions of one function that rise and fall together.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Which function.
    pub function: u32,
    /// Its level, minute by minute; none: always 1.
    pub levels: Option<Vec<f64>>,
}

impl Stream {
    /// Its level in a minute.
    pub fn level(&self, minute: u32) -> f64 {
        match &self.levels {
            None => 1.0,
            Some(levels) => levels.get(minute as usize).copied().unwrap_or(0.0),
        }
    }
}

/// Everything that clients do.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// One line that says what it is.
    pub name: String,
    /// How long it is, in seconds.
    pub seconds: Second,
    /// The functions' names.
    pub functions: Vec<FunctionName>,
    /// What rises and falls together.
    pub streams: Vec<Stream>,
    /// The sessions, by their beginning.
    pub sessions: Vec<Plan>,
    /// The sessions by their end.
    pub ends: Vec<Session>,
    /// Who goes elsewhere, by time.
    pub roams: Vec<Roam>,
}

impl Workload {
    /// Puts sessions in order. Roams name sessions by their place in `plans`.
    fn new(
        name: String,
        seconds: Second,
        functions: Vec<FunctionName>,
        streams: Vec<Stream>,
        plans: &[Plan],
        mut roams: Vec<Roam>,
    ) -> Self {
        let mut order: Vec<Session> = (0..plans.len() as Session).collect();
        order.sort_by_key(|number| (plans[*number as usize].start, *number));
        let sessions: Vec<Plan> = order.iter().map(|number| plans[*number as usize]).collect();
        let mut place = vec![0; order.len()];
        for (now, before) in order.iter().enumerate() {
            place[*before as usize] = now as Session;
        }
        for roam in &mut roams {
            roam.session = place[roam.session as usize];
        }
        roams.sort_by_key(|roam| (roam.at, roam.session));
        let mut ends: Vec<Session> = (0..sessions.len() as Session).collect();
        ends.sort_by_key(|number| (sessions[*number as usize].end, *number));
        Self { name, seconds, functions, streams, sessions, ends, roams }
    }

    /// Whether any stream changes its level in a minute.
    pub fn has_levels(&self) -> bool {
        self.streams.iter().any(|stream| stream.levels.is_some())
    }
}
