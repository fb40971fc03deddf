//! `funicular`: look after a tree from the command line.
//!
//! - [`commands`]: one file a command
//! - [`options`]: what several commands take
//! - [`client`]: signed calls to nodes; all HTTP is there
//! - [`faas`]: `faas-cli`, for many nodes at once
//! - [`secrets`]: the keys' files on this machine
//! - [`output`]: tables, sizes, JSON
//! - [`exit`]: what the exit code says

// A closed pipe would end a command in the middle of its work: see `output::say`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod client;
mod commands;
mod exit;
mod faas;
mod options;
mod output;
mod secrets;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

#[derive(Parser)]
#[command(version, about = "Look after a Funicular tree", after_help = exit::HELP)]
struct Cli {
    /// Print JSON for machines
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::of_usage(&error),
    };
    match commands::run(cli.command, cli.json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::of_failure(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
