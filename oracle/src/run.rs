//! The oracle as a process.

use std::net::SocketAddr;
use std::process::ExitCode;

use funicular::config::{ConfigError, Environment};
use funicular::metrics::Exporter;
use funicular::serve::{bind, serve_router, start_logging, terminated};
use funicular::trace;
use tokio_util::sync::CancellationToken;

use crate::assemble::assemble;
use crate::daemon::Oracle;
use crate::dashboard::Plan;
use crate::settings::Settings;

/// Exit code for wrong settings (`EX_USAGE`).
const WRONG_SETTINGS: u8 = 64;
/// Exit code for a port that is not there (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;

/// What `--help` says.
const HELP: &str = "\
Watches one node of a Funicular tree, decides which sessions move, and says why.

Usage: funicular-oracle [--observe] [--config FILE] [--record FILE]

  --observe      decide without acting (ORACLE_OBSERVE=true)
  --config FILE  rules, sources and limits (ORACLE_CONFIG)
  --record FILE  write what is seen, for `funicular oracle replay` (ORACLE_RECORD)

Everything else is in the environment: LOCATION_ID, FUNICULAR_TOPOLOGY, FUNICULAR_STORE,
FUNICULAR_SECRETS, ORACLE_PORT, ORACLE_DASHBOARD; docs/oracle.md has them all.";

/// The whole of the program: settings, parts, port, oracle, until SIGTERM or Ctrl-C.
pub async fn main() -> ExitCode {
    start_logging();
    let lookup = match arguments(std::env::args().skip(1)) {
        Ok(Some(given)) => given,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return say(&error, WRONG_SETTINGS),
    };
    match Settings::read(&lookup) {
        Ok(settings) => serve(settings).await,
        Err(error) => say(&error, WRONG_SETTINGS),
    }
}

/// The same with settings that were read already.
pub async fn serve(settings: Settings) -> ExitCode {
    let address = SocketAddr::new(settings.address, settings.port);
    let dashboard = match Plan::of(&settings) {
        Ok(dashboard) => dashboard,
        Err(error) => return say(&error, WRONG_SETTINGS),
    };
    let parts = match assemble(settings).await {
        Ok(parts) => parts,
        Err(error) => return say(&error, WRONG_SETTINGS),
    };
    let listener = match bind(address).await {
        Ok(listener) => listener,
        Err(error) => return say(&error, UNAVAILABLE),
    };
    let exporter = Exporter::install();
    let stop = CancellationToken::new();
    tracing::info!(
        node = %parts.here, observe = parts.observe,
        address = ?listener.local_addr().ok(), "watching"
    );
    if let Err(error) = trace::start("funicular-oracle", parts.here.as_str()) {
        return say(&ConfigError(error), WRONG_SETTINGS);
    }
    let (oracle, running) = Oracle::start(parts, stop.clone());
    let mut router = oracle.router().merge(exporter.router());
    if let (Some(dashboard), Ok(at)) = (dashboard, listener.local_addr()) {
        router = router.merge(dashboard.open(oracle, at, &stop));
    }
    let server = tokio::spawn(serve_router(listener, router, stop.clone()));
    terminated().await;
    tracing::info!("leaving");
    stop.cancel();
    let _ = running.await;
    trace::finish().await;
    server.abort();
    ExitCode::SUCCESS
}

fn say(error: &ConfigError, code: u8) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(code)
}

/// What the command line says, before the environment.
struct Given {
    observe: bool,
    config: Option<String>,
    record: Option<String>,
}

impl funicular::config::Lookup for Given {
    fn get(&self, name: &str) -> Option<String> {
        let given = match name {
            "ORACLE_OBSERVE" => self.observe.then(|| "true".to_owned()),
            "ORACLE_CONFIG" => self.config.clone(),
            "ORACLE_RECORD" => self.record.clone(),
            _ => None,
        };
        given.or_else(|| Environment.get(name))
    }
}

/// Reads the arguments; `None`: help is asked for.
fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<Option<Given>, ConfigError> {
    let mut given = Given { observe: false, config: None, record: None };
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| ConfigError(format!("{argument}: name a file")));
        match argument.as_str() {
            "--observe" => given.observe = true,
            "--config" => given.config = Some(value()?),
            "--record" => given.record = Some(value()?),
            "--help" | "-h" => return Ok(None),
            other => {
                return Err(ConfigError(format!("{other} is no argument; see --help")));
            }
        }
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    use funicular::config::Lookup;

    use super::*;

    fn read(line: &str) -> Result<Option<Given>, ConfigError> {
        arguments(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_go_before_the_environment() {
        let given = read("--observe --config a --record b").unwrap().unwrap();
        for (name, value) in
            [("ORACLE_OBSERVE", "true"), ("ORACLE_CONFIG", "a"), ("ORACLE_RECORD", "b")]
        {
            assert_eq!(given.get(name).as_deref(), Some(value));
        }
        assert!(read("--help").unwrap().is_none());
        assert!(read("--config").is_err_and(|error| error.0.contains("name a file")));
        assert!(read("--act").is_err_and(|error| error.0.contains("no argument")));
    }
}
