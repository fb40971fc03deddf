//! `funicular sim`: a day of load on a tree of thousands of nodes, in minutes.

mod progress;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use funicular_oracle::duration::Span;
use funicular_oracle::settings::FileSettings;
use funicular_sim::draw::draw;
use funicular_sim::report::Report;
use funicular_sim::scenario::{Policy, Scenario};
use funicular_sim::settings::Settings;
use funicular_sim::tree::Tree;
use funicular_sim::watch::Rules;
use funicular_sim::workload::generated::{Amount, Kind, generate};
use funicular_sim::workload::{Workload, csv};

use crate::exit::Failure;
use crate::options;
use crate::output::{note, show, table};
use progress::Progress;

/// Sessions for each node, unless said.
const SESSIONS_A_NODE: u32 = 200;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What clients do: `diurnal` (a day), `flash` (a crowd), `roaming`, or a CSV file with
    /// invocations a minute (docs/simulation.md)
    #[arg(long, value_name = "W", default_value = "diurnal")]
    workload: String,

    /// How many nodes the tree has
    #[arg(long, value_name = "N", default_value_t = 500, conflicts_with = "topology")]
    nodes: u32,

    /// On how many levels
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "topology")]
    levels: u32,

    /// A tree as it is, instead of one that is made up
    #[arg(long, value_name = "F")]
    topology: Option<String>,

    /// How many sessions, all in all [default: 200 for each node]
    #[arg(long, value_name = "N")]
    sessions: Option<u32>,

    /// How long: `24h`, `90m` [default: a day, 3 h of a crowd, 6 h of roaming, all of a file]
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,

    /// The same in hours
    #[arg(long, value_name = "H", conflicts_with = "duration")]
    hours: Option<u32>,

    /// The same seed gives the same report
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Which policy: `oracle`, `never`, `root`, `random`; again for another [default: all]
    #[arg(long, value_name = "P")]
    policy: Vec<Policy>,

    /// Rules and limits of the oracles (docs/oracle.md)
    #[arg(long, value_name = "FILE")]
    oracle_config: Option<PathBuf>,

    /// How busy the mean edge is when its region is busiest: 1 is all that it can do
    #[arg(long, value_name = "SHARE")]
    load: Option<f64>,

    /// How busy a crowd makes its edge
    #[arg(long, value_name = "TIMES", default_value_t = 3.0)]
    crowd: f64,

    /// Where to write the plots (SVG) and `report.json`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    model: Model,
}

/// Machines, networks and requests.
#[derive(clap::Args)]
#[command(next_help_heading = "The model")]
struct Model {
    /// Requests that an edge can run at once
    #[arg(long, value_name = "N", default_value_t = Settings::default().edge_servers)]
    edge_servers: f64,

    /// A node one level further up has so many times as much; the root has what it needs
    #[arg(long, value_name = "TIMES", default_value_t = Settings::default().widening)]
    widening: f64,

    /// Bytes that an edge's store may hold
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().edge_memory)]
    edge_memory: f64,

    /// From a client to its edge and back
    #[arg(long, value_name = "MS", default_value_t = Settings::default().access_ms)]
    access_ms: f64,

    /// From an edge to the node above and back; twice as long on each level further up
    #[arg(long, value_name = "MS", default_value_t = Settings::default().hop_ms)]
    hop_ms: f64,

    /// From the nodes below the root to it and back
    #[arg(long, value_name = "MS", default_value_t = Settings::default().root_ms)]
    root_ms: f64,

    /// Bytes a second that a link carries for a move
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().bandwidth)]
    bandwidth: f64,

    /// How long a request runs, in the mean
    #[arg(long, value_name = "MS", default_value_t = Settings::default().service_ms)]
    service_ms: f64,

    /// Bytes of a request and its response
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().request_bytes)]
    request_bytes: f64,

    /// A request that would wait for longer is refused, in seconds
    #[arg(long, value_name = "S", default_value_t = Settings::default().patience)]
    patience: f64,

    /// An idle session expires after this
    #[arg(long, value_name = "TIME", default_value = "24h")]
    session_ttl: Span,
}

impl Model {
    fn settings(&self) -> Result<Settings, Failure> {
        let ttl = u32::try_from(self.session_ttl.0.as_secs()).unwrap_or(u32::MAX / 2);
        let settings = Settings {
            edge_servers: self.edge_servers,
            widening: self.widening,
            edge_memory: self.edge_memory,
            access_ms: self.access_ms,
            hop_ms: self.hop_ms,
            root_ms: self.root_ms,
            bandwidth: self.bandwidth,
            service_ms: self.service_ms,
            request_bytes: self.request_bytes,
            patience: self.patience,
            session_ttl: ttl.min(u32::MAX / 2),
        };
        settings.check().map_err(Failure::Usage)?;
        Ok(settings)
    }
}

pub(crate) fn run(args: &Args, json: bool) -> Result<()> {
    let scenario = args.scenario()?;
    let policies = if args.policy.is_empty() { &Policy::ALL[..] } else { &args.policy };
    let progress = Progress::new(policies, scenario.workload.seconds);
    let report = scenario.play(policies, &|policy, second| progress.show(policy, second));
    progress.end();
    if let Some(fault) = report.outcomes.iter().flat_map(|it| &it.faults).next() {
        return Err(Failure::Refused(format!("the model is at fault: {fault}")).into());
    }
    if let Some(dir) = &args.out {
        write(&report, dir)?;
    }
    show(json, &report, || text(&report));
    Ok(())
}

fn text(report: &Report) -> String {
    let (heads, rows) = report.table();
    format!("{}\n{}", report.heading(), table(&heads, &rows))
}

fn write(report: &Report, dir: &Path) -> Result<()> {
    let shown = dir.display();
    std::fs::create_dir_all(dir).with_context(|| format!("{shown} cannot be made"))?;
    draw(report, dir, "").with_context(|| format!("{shown}"))?;
    let text = serde_json::to_string_pretty(report).context("the report has no JSON")?;
    std::fs::write(dir.join("report.json"), text + "\n")
        .with_context(|| format!("{shown} cannot be written to"))?;
    note(format_args!("wrote plots and report.json to {shown}"));
    Ok(())
}

impl Args {
    fn scenario(&self) -> Result<Scenario> {
        let settings = self.model.settings()?;
        let tree = match &self.topology {
            Some(source) => Tree::of(&options::load(source)?, &settings),
            None => Tree::generated(self.nodes, self.levels, &settings),
        };
        let tree = tree.map_err(|error| Failure::Usage(error.0))?;
        let workload = self.workload(&tree, &settings)?;
        let file = match &self.oracle_config {
            Some(path) => FileSettings::load(path).map_err(|error| Failure::Data(error.0))?,
            None => FileSettings::default(),
        };
        let functions = workload.functions.len();
        let rules = Rules::new(file, self.seed, functions).map_err(Failure::Data)?;
        Ok(Scenario { tree, workload, settings, rules, seed: self.seed })
    }

    fn workload(&self, tree: &Tree, settings: &Settings) -> Result<Workload> {
        let nodes = u32::try_from(tree.len()).unwrap_or(u32::MAX);
        let sessions = self.sessions.unwrap_or(nodes.saturating_mul(SESSIONS_A_NODE));
        let seconds = self.seconds()?;
        let kinds = [Kind::Diurnal, Kind::Flash, Kind::Roaming];
        let Some(kind) = kinds.into_iter().find(|kind| kind.name() == self.workload) else {
            let path = &self.workload;
            let file = File::open(path).map_err(|error| {
                let why = format!(
                    "{path} cannot be read: {error}; --workload is diurnal, flash, roaming or a \
                     CSV file"
                );
                Failure::Usage(why)
            })?;
            let read = csv::read(BufReader::new(file), path, sessions, seconds, tree, self.seed);
            return Ok(read.map_err(|error| Failure::Data(format!("{path}: {error}")))?);
        };
        let load = self.load.unwrap_or(kind.usual_load());
        let above_zero = |value: f64| value.is_finite() && value > 0.0;
        if sessions == 0 || !above_zero(load) || !above_zero(self.crowd) {
            let why = "--sessions, --load and --crowd are above zero".to_owned();
            return Err(Failure::Usage(why).into());
        }
        let seconds = seconds.unwrap_or(kind.usual_seconds());
        let amount = Amount { sessions, seconds, load, crowd: self.crowd };
        Ok(generate(kind, amount, tree, settings, self.seed))
    }

    /// How long, if that was said.
    fn seconds(&self) -> Result<Option<u32>, Failure> {
        /// Longer than any trace of use.
        const MOST: u64 = 31 * 86_400;
        let said = self.duration.map(|span| span.0.as_secs());
        let said = said.or(self.hours.map(|hours| u64::from(hours) * 3600));
        match said {
            None => Ok(None),
            Some(seconds) if (60..=MOST).contains(&seconds) => Ok(u32::try_from(seconds).ok()),
            Some(_) => Err(Failure::Usage("a simulation takes from 1m to 31days".to_owned())),
        }
    }
}
