//! The oracle of a node, as a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use funicular_oracle::daemon::Explanation;
use funicular_oracle::policy::decision::Phase;

use crate::ports::Port;
use crate::process::signal;
use crate::tree::program;

/// How long one may take to answer or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running oracle.
#[derive(Debug)]
pub struct Oracle {
    node: &'static str,
    port: Port,
    process: Child,
    log: PathBuf,
    /// What it saw, for `funicular oracle replay`.
    pub trace: PathBuf,
}

impl Oracle {
    /// Starts one with these settings (YAML) and waits until it has looked once.
    pub(crate) async fn start(
        node: &'static str,
        dir: &Path,
        function: &str,
        given: Vec<(String, String)>,
        settings: &str,
    ) -> Self {
        let port = Port::free();
        let name = format!("oracle-{node}-{}", port.number());
        let at = |extension: &str| dir.join(format!("{name}.{extension}"));
        let (config, log, trace) = (at("yaml"), at("log"), at("trace"));
        std::fs::write(&config, settings).expect("the settings");
        let process = Command::new(program("oracle"))
            .env("FUNICULAR_LOG", std::env::var("FUNICULAR_LOG").unwrap_or("info".into()))
            .env("FUNICULAR_TOPOLOGY", dir.join("topology.yaml"))
            .env("FUNICULAR_SECRETS", dir)
            .env("ORACLE_FUNCTIONS", function)
            .env("ORACLE_CONFIG", &config)
            .env("ORACLE_RECORD", &trace)
            .env("ORACLE_ADDRESS", "127.0.0.1")
            .env("ORACLE_PORT", port.number().to_string())
            .envs(given)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log file"))
            .spawn()
            .expect("the process starts");
        let mut oracle = Self { node, port, process, log, trace };
        let began = Instant::now();
        while oracle.asked("/healthz").await.is_none() {
            let ended = oracle.process.try_wait().expect("its state");
            let late = began.elapsed() > PATIENCE;
            assert!(ended.is_none() && !late, "no oracle:\n{}", oracle.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        oracle
    }

    async fn asked(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("{}{path}", self.url())).await.ok()?;
        if answer.status().is_success() { answer.text().await.ok() } else { None }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// The same as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// What it knows and what it decided.
    pub async fn explain(&self) -> Explanation {
        let text = self.asked("/explain?limit=1000").await.expect("an answer");
        serde_json::from_str(&text).expect("an explanation")
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        self.asked("/metrics").await.expect("metrics")
    }

    /// A page of its dashboard.
    pub async fn page(&self, path: &str) -> String {
        self.asked(path).await.expect("a page")
    }

    /// What it wrote into its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM, and waits for the end; says whether it ended with 0.
    pub async fn terminate(&mut self) -> bool {
        signal("-TERM", self.process.id());
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return status.success();
            }
            assert!(began.elapsed() < PATIENCE, "it goes on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the oracle of {}\n{}", self.node, self.log());
        }
    }
}

/// How its function stands.
pub fn phase(told: &Explanation) -> Option<Phase> {
    told.functions.first().map(|verdict| verdict.phase)
}

/// How often each kind of thing was decided.
pub fn decided(told: &Explanation) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for recorded in &told.decisions {
        *counts.entry(recorded.decision.action.name()).or_default() += 1;
    }
    counts
}

/// No more than so many moves in any interval.
pub fn check_budget(told: &Explanation, most: usize, interval_ms: u64) {
    let moves: Vec<_> = told
        .decisions
        .iter()
        .filter_map(|it| Some((it.decision.at, it.decision.action.moves()?.0.clone())))
        .collect();
    for (begin, _) in &moves {
        let within = moves.iter().filter(|(at, _)| at >= begin && at - begin < interval_ms);
        assert!(within.count() <= most, "{moves:?}");
    }
}

/// Nobody turns round within the dwell time, whichever oracle has it moved.
pub fn check_dwell(all: &[Explanation], dwell_ms: u64) {
    let mut moves: BTreeMap<(String, String), Vec<(u64, &str)>> = BTreeMap::new();
    for recorded in all.iter().flat_map(|told| &told.decisions) {
        let decision = &recorded.decision;
        if let Some((session, _)) = decision.action.moves() {
            let key = (decision.function.to_string(), session.to_string());
            moves.entry(key).or_default().push((recorded.time_ms, decision.action.name()));
        }
    }
    for ((function, session), mut moves) in moves {
        moves.sort_unstable();
        for pair in moves.windows(2) {
            let [(before, one), (after, other)] = pair else { continue };
            assert!(
                one == other || after - before >= dwell_ms,
                "{session} of {function}: {moves:?}"
            );
        }
    }
}
