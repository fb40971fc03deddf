//! What the exit code says, after sysexits.

use std::process::ExitCode;

use funicular::http::signature::KeyError;
use funicular::topology::TopologyError;

use crate::client::CallError;
use crate::output::note;

pub(crate) const HELP: &str = "\
Exit codes:
  0   done
  1   a node says no
  64  the command is not right
  65  the topology or the secrets are not right
  69  a node does not answer
  130 interrupted (Ctrl-C)";

const REFUSED: u8 = 1;
const USAGE: u8 = 64;
const DATA: u8 = 65;
const UNAVAILABLE: u8 = 69;
/// As shells have it for SIGINT.
const INTERRUPTED: u8 = 130;

/// A failure that no error type of its own stands for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command names something that is not there.
    #[error("{0}")]
    Usage(String),
    /// A file is wrong; what is wrong was printed already, or is the text.
    #[error("{0}")]
    Data(String),
    /// A node was asked and says no.
    #[error("{0}")]
    Refused(String),
    /// Ctrl-C; what goes on without the command is the text.
    #[error("{0}")]
    Interrupted(String),
    /// Some nodes did not answer; what the others said was printed already.
    #[error("{0}")]
    Unavailable(String),
}

/// Prints clap's message; help and version are no failures.
pub(crate) fn of_usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell if this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Prints the one sentence of a failure.
pub(crate) fn of_failure(error: &anyhow::Error) -> ExitCode {
    note(format_args!("funicular: {error:#}"));
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<CallError>() {
        return if error.says_no() { REFUSED } else { UNAVAILABLE };
    }
    if error.is::<TopologyError>() || error.is::<KeyError>() {
        return DATA;
    }
    match error.downcast_ref() {
        Some(Failure::Usage(_)) => USAGE,
        Some(Failure::Data(_)) => DATA,
        Some(Failure::Unavailable(_)) => UNAVAILABLE,
        Some(Failure::Interrupted(_)) => INTERRUPTED,
        Some(Failure::Refused(_)) | None => REFUSED,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use funicular::http::signature::Keys;
    use funicular::topology::Topology;

    use super::*;

    #[test]
    fn every_failure_has_its_code_even_with_more_words_around_it() {
        let faults = Topology::parse("").unwrap_err();
        assert_eq!(code(&faults.clone().into()), DATA);
        assert_eq!(code(&Err::<(), _>(faults).context("at home").unwrap_err()), DATA);
        let keys = Keys::from_dir("no/such/directory".as_ref()).unwrap_err();
        assert_eq!(code(&keys.into()), DATA);
        assert_eq!(code(&Failure::Usage(String::new()).into()), USAGE);
        assert_eq!(code(&Failure::Unavailable(String::new()).into()), UNAVAILABLE);
        assert_eq!(code(&Failure::Interrupted(String::new()).into()), INTERRUPTED);
        assert_eq!(code(&anyhow::anyhow!("anything else")), REFUSED);
    }
}
