//! `funicular oracle replay TRACE`

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use funicular_oracle::settings::FileSettings;
use funicular_oracle::trace;

use crate::exit::Failure;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The trace: a file that an oracle recorded, or one of one's own; `-` is standard input
    trace: PathBuf,

    /// With the policy of this file of settings, instead of the trace's own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<()> {
    let shown = args.trace.display().to_string();
    let trace: Box<dyn BufRead> = if shown == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let file = File::open(&args.trace).with_context(|| format!("{shown} cannot be read"))?;
        Box::new(BufReader::new(file))
    };
    let policy = match &args.config {
        Some(path) => {
            let file = FileSettings::load(path).map_err(|error| Failure::Data(error.0))?;
            Some(file.policy)
        }
        None => None,
    };
    let mut out = std::io::stdout().lock();
    let (mut ticks, mut decisions) = (0_usize, 0_usize);
    let played = trace::replay(trace, policy.as_ref(), |_, at, outcome| {
        ticks += 1;
        decisions += outcome.decisions.len();
        for decision in &outcome.decisions {
            let line = if json {
                serde_json::to_string(decision).unwrap_or_default()
            } else {
                #[expect(clippy::cast_precision_loss, reason = "seconds are shown")]
                let seconds = at as f64 / 1000.0;
                format!("{seconds:10.3} s  {}", super::line(decision))
            };
            // A closed pipe (`| head`) is no failure.
            let _ = writeln!(out, "{line}");
        }
    });
    played.map_err(|error| Failure::Data(format!("{shown}: {error}")))?;
    if !json {
        let _ = writeln!(out, "{ticks} ticks, {decisions} decisions");
    }
    Ok(())
}
