//! `funicular load`: calls a function as many clients do, and says second by second how long
//! it takes and what goes wrong.
//!
//! - `clients`: who asks, and when
//! - `seconds`: what came of it, counted

mod clients;
mod seconds;

use std::time::Duration;

use anyhow::{Context, Result};
use funicular::session::{FunctionName, NodeName};
use funicular_oracle::duration::Span;
use reqwest::Method;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::exit::Failure;
use crate::options::{self, Tree};
use crate::output::say;
use clients::{Answered, Clients, Pace, What};
use seconds::{Counts, HEAD};

/// What `load` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The function
    #[arg(long, value_name = "F")]
    function: FunctionName,

    /// The node where the clients come in
    #[arg(long, value_name = "N", required_unless_present = "url")]
    node: Option<NodeName>,

    /// A gateway where they come in, instead of a node of the topology
    #[arg(long, value_name = "URL", conflicts_with = "node")]
    url: Option<String>,

    /// So many clients, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,

    /// They come one after the other within this time, not all at once
    #[arg(long, value_name = "TIME", default_value = "0s")]
    join: Span,

    /// How long a client rests between an answer and its next request
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pause: Span,

    /// So many requests a second in all, whether or not those before were answered.
    /// Without it a client asks when it was answered
    #[arg(long, value_name = "R", conflicts_with_all = ["pause", "join"])]
    rate: Option<f64>,

    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "30s")]
    lasting: Span,

    /// The method
    #[arg(long, value_name = "M", default_value = "POST")]
    method: Method,

    /// The path and query, after /function/F
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,

    /// The body; JSON, unless it is empty
    #[arg(long, value_name = "BODY", default_value = "")]
    data: String,

    /// What the sessions are called: NAME-1, NAME-2 and so on. They are left behind
    #[arg(long, value_name = "NAME", default_value = "load")]
    sessions: String,

    /// How long a request may take, redirects included
    #[arg(long, value_name = "TIME", default_value = "30s")]
    patience: Span,

    #[command(flatten)]
    tree: Tree,
}

/// Runs until the time is over or Ctrl-C; then says what came of all of it.
pub(crate) fn run(args: Args, json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the command cannot start")?;
    runtime.block_on(load(args, json))
}

async fn load(args: Args, json: bool) -> Result<()> {
    let pace = pace(&args)?;
    let what = What {
        url: format!("{}/function/{}{}", base(&args)?, args.function, args.path),
        method: args.method,
        body: args.data,
        sessions: args.sessions,
        patience: args.patience.0,
    };
    let (told, mut answers) = mpsc::unbounded_channel();
    let began = Instant::now();
    let clients = Clients::start(what, args.clients, pace, (began, args.lasting.0), told)?;
    let (mut second, mut total) = (Counts::new()?, Counts::new()?);
    if !json {
        say(HEAD);
    }
    let mut number = 0;
    let mut clock = tokio::time::interval_at(began + SECOND, SECOND);
    let mut interrupted = false;
    let all_in = loop {
        tokio::select! {
            answer = answers.recv() => match answer {
                Some(answer) => count(&answer, [&mut second, &mut total]),
                None => break began.elapsed(),
            },
            _ = clock.tick() => {
                number += 1;
                let of = std::mem::replace(&mut second, Counts::new()?);
                say(of.line(&number.to_string(), SECOND, clients.present(), json));
            }
            // The second one does not wait for what is under way.
            _ = tokio::signal::ctrl_c(), if interrupted => break began.elapsed(),
            _ = tokio::signal::ctrl_c(), if !interrupted => {
                interrupted = true;
                clients.stop();
            }
        }
    };
    say(total.line("all", all_in, args.clients, json));
    if !json {
        let seconds = all_in.as_secs_f64();
        let good = total.good();
        let said = format!("{good} requests were answered in {seconds:.1} s\n{}", total.problems());
        say(said.trim_end());
    }
    match (interrupted, total.good()) {
        (true, _) => Err(Failure::Interrupted("ended before its time".to_owned()).into()),
        (false, 0) => Err(Failure::Unavailable("no request was answered well".to_owned()).into()),
        (false, _) => Ok(()),
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn count(answer: &Answered, all: [&mut Counts; 2]) {
    for counts in all {
        counts.add(answer);
    }
}

fn pace(args: &Args) -> Result<Pace, Failure> {
    match args.rate {
        None => Ok(Pace::Answered { pause: args.pause.0, join: args.join.0 }),
        Some(rate) if rate.is_finite() && (0.01..=100_000.0).contains(&rate) => {
            Ok(Pace::Rate(Duration::from_secs_f64(1.0 / rate)))
        }
        Some(_) => Err(Failure::Usage("--rate is between 0.01 and 100000 a second".to_owned())),
    }
}

fn base(args: &Args) -> Result<String> {
    if !args.path.starts_with('/') && !args.path.starts_with('?') {
        return Err(Failure::Usage("--path begins with / or ?".to_owned()).into());
    }
    match (&args.url, &args.node) {
        (Some(url), _) => {
            let parsed = reqwest::Url::parse(url).ok();
            match parsed.is_some_and(|url| ["http", "https"].contains(&url.scheme())) {
                true => Ok(url.trim_end_matches('/').to_owned()),
                false => Err(Failure::Usage(format!(
                    "--url {url} does not say where: begin with http:// or https://"
                ))
                .into()),
            }
        }
        (None, Some(name)) => {
            let topology = args.tree.load()?;
            Ok(options::node(&topology, name)?.gateway.clone())
        }
        (None, None) => Err(Failure::Usage("name --node or --url".to_owned()).into()),
    }
}
