//! How fast Funicular is, against what one would write by hand.
//!
//! `make bench` measures every row of the table, each with its baseline in the same
//! run, and prints it; `make bench ONLY=move_1k,victims` measures a part;
//! `make bench-docs` writes the figures and plots of the last run into `docs/`.
//!
//! - `serve`: the processes under load: a function of ours, and handlers by hand
//! - `redis`, `site`, `operator`: what runs beside them, and how sessions are moved
//! - `load`: clients that keep their connections and measure their requests
//! - `requests`, `moves`, `downtime`, `judged`, `crowd`, `scale`: the rows
//! - `report`, `plots`, `docs`: what is written down

mod crowd;
mod docs;
mod downtime;
mod http;
mod judged;
mod load;
mod moves;
mod operator;
mod plots;
mod redis;
mod report;
mod requests;
mod scale;
mod serve;
mod site;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use report::Report;

/// Measures Funicular against handlers written by hand.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure, print the table, write `target/bench/summary.json`.
    Run {
        /// Only these rows, with commas between them; all of a group are measured
        /// if one is named.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Rounds of a comparison; more of them make its median steadier.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
    },
    /// Write the figures and plots of the last run into `docs/`.
    Docs,
    /// One of the processes under load; started by `run`.
    #[command(hide = true)]
    Serve {
        /// Which.
        role: serve::Role,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Options::parse().what {
        What::Run { only, rounds } => run(&only, rounds.max(1)).await,
        What::Docs => docs::write(),
        What::Serve { role } => return serve::serve(role).await,
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(only: &[String], rounds: usize) -> Result<ExitCode> {
    let mut report = Report::open(only)?;
    requests::measure(&mut report, rounds).await?;
    moves::measure(&mut report).await?;
    downtime::measure(&mut report).await?;
    judged::measure(&mut report).await?;
    crowd::measure(&mut report).await?;
    scale::measure(&mut report, rounds).await?;
    report.close()
}
