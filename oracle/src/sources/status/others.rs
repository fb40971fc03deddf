//! Functions of the gateway that are not of Funicular: each question is an invocation of
//! theirs, and so they are left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use funicular::session::FunctionName;
use tokio::time::Instant;

use crate::sources::SourceError;

/// For so long. Another may have been deployed under its name by then.
pub(super) const LEFT_ALONE: Duration = Duration::from_secs(600);

/// Those that are known, with what they said and when.
#[derive(Default)]
pub(super) struct Others(BTreeMap<FunctionName, (Instant, SourceError)>);

impl Others {
    /// Notes one that has answered, and not as a function of Funicular does.
    pub(super) fn note(&mut self, function: &FunctionName, said: SourceError, now: Instant) {
        self.0.insert(function.clone(), (now, said));
    }

    /// What a function said, if it is not to be asked now.
    pub(super) fn left_alone(&self, function: &FunctionName, now: Instant) -> Option<&SourceError> {
        let (at, said) = self.0.get(function)?;
        (now.saturating_duration_since(*at) < LEFT_ALONE).then_some(said)
    }

    /// Forgets those that have gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&FunctionName) -> bool) {
        self.0.retain(|name, _| is_there(name));
    }
}
