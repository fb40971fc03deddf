//! `funicular oracle explain`, `funicular oracle replay`

mod explain;
mod replay;

use anyhow::Result;
use clap::Subcommand;
use funicular_oracle::policy::decision::{Action, Decision};

use crate::output::size;

#[derive(Subcommand)]
pub(crate) enum Oracle {
    /// Say what the oracle of a node sees, what it decided, and what would have to change
    Explain(explain::Args),
    /// Play a recorded trace through the policy and print what it would have done
    Replay(replay::Args),
}

pub(crate) async fn run(command: &Oracle, json: bool) -> Result<()> {
    match command {
        Oracle::Explain(args) => explain::run(args, json).await,
        Oracle::Replay(args) => replay::run(args, json),
    }
}

/// A decision in one line.
fn line(decision: &Decision) -> String {
    let what = match &decision.action {
        Action::SetStatus { .. } => decision.action.name().to_owned(),
        Action::Offload { session, bytes } => format!("offload {session} ({})", size(*bytes)),
        Action::Onload { session, from, bytes } => {
            let from = from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
            format!("onload {session}{from} ({})", size(*bytes))
        }
    };
    format!("{}: {what} [{}] {}", decision.function, decision.rule, decision.why)
}
