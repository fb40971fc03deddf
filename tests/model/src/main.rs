//! Explores the protocol and prints what was found: `funicular-model` all scopes,
//! `funicular-model SCOPE…` those named (`"crashes moves=1"` with other bounds).
//! `--until PROPERTY` ends each at the first fault of that property, `--within SECONDS`
//! after a while at the latest.
//!
//! Ends with 1 if something is not well, 2 if it does not understand.

use std::process::ExitCode;
use std::time::Duration;

use funicular_model::actions::Scope;
use funicular_model::explore::explore_within;
use funicular_model::scopes::{LARGE, SMALL};
use funicular_model::world::Omission;

fn main() -> ExitCode {
    let mut scopes = Vec::new();
    let mut until = None;
    // A day.
    let mut within = 24 * 3600;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--until" {
            until = words.next();
            continue;
        }
        if word == "--within" {
            within = words.next().and_then(|text| text.parse().ok()).unwrap_or(within);
            continue;
        }
        match word.parse::<Scope>() {
            Ok(scope) => scopes.push(scope),
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::from(2);
            }
        }
    }
    if scopes.is_empty() {
        scopes = SMALL.iter().chain(LARGE).copied().collect();
    }
    let mut well = true;
    for scope in scopes {
        let at_most = Duration::from_secs(within);
        let report = explore_within(scope, Omission::default(), until.as_deref(), at_most);
        print!("{report}");
        well &= report.is_well();
    }
    ExitCode::from(u8::from(!well))
}
