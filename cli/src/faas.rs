//! `faas-cli`, called for many nodes at once: what is done, what failed, where.
//!
//! - `select`: which nodes
//! - `done`: what an earlier run did
//! - `progress`: what people see meanwhile

mod done;
mod progress;
mod select;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use funicular::session::NodeName;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use tokio::process::Command;

pub(crate) use done::Done;
use progress::Progress;
pub(crate) use select::Select;

use crate::exit::Failure;
use crate::output::{count, say, show};

/// What `faas-cli` would take itself unless another gateway is named: it counts as none
/// named, and the stack file's goes before it.
const ITS_DEFAULT: &str = "http://127.0.0.1:8080";

/// How `faas-cli` is called.
#[derive(clap::Args)]
pub(crate) struct Way {
    /// The faas-cli to call
    #[arg(long, value_name = "PATH", default_value = "faas-cli")]
    faas_cli: PathBuf,

    /// How many nodes are worked on at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    at_once: u16,

    /// How many seconds one call may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

/// The same for commands that know all calls beforehand.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    way: Way,

    /// Only print the calls
    #[arg(long)]
    dry_run: bool,
}

/// One call of `faas-cli`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Call {
    args: Vec<String>,
    /// Words of which the output has one if it went well: for commands whose exit code
    /// does not tell.
    #[serde(skip)]
    says: &'static [&'static str],
}

impl Call {
    pub(crate) fn deploy(args: Vec<String>) -> Self {
        Self { args, says: &[] }
    }

    /// `faas-cli secret create`, which ends with 0 whatever happens.
    pub(crate) fn secret(name: &str, file: &str, gateway: &str, replace: bool) -> Self {
        let mut args: Vec<String> =
            ["secret", "create", name, "--from-file", file].map(str::to_owned).into();
        args.extend(replace.then(|| "--replace".to_owned()));
        args.extend(["--gateway".to_owned(), named_gateway(gateway)]);
        Self { args, says: &["Created:", "Updated:"] }
    }
}

/// A gateway as `faas-cli` takes it for one that was named.
pub(crate) fn named_gateway(gateway: &str) -> String {
    if gateway == ITS_DEFAULT { format!("{gateway}/") } else { gateway.to_owned() }
}

/// What is to be done at one node: call by call, until one fails.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Job {
    pub(crate) node: NodeName,
    pub(crate) calls: Vec<Call>,
    /// Names what is done; the same again is not done twice.
    #[serde(skip)]
    pub(crate) mark: String,
}

/// A call that failed.
#[derive(Debug, Serialize)]
struct Failed {
    node: NodeName,
    call: String,
    why: String,
    /// The last lines that it printed.
    output: String,
}

/// Works the jobs off and remembers in `done` those that are; says what failed where.
pub(crate) async fn run(
    options: &Options,
    jobs: Vec<Job>,
    done: &mut Done,
    json: bool,
) -> Result<()> {
    let (to_do, before): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| !done.has(job));
    let before: Vec<NodeName> = before.into_iter().map(|job| job.node).collect();
    if options.dry_run {
        show(json, &to_do, || shown(options, &to_do, &before));
        return Ok(());
    }
    let (mut succeeded, mut failed) =
        work_off(&options.way, to_do, json, |job| done.add(job)).await?;
    failed.sort_by(|a, b| a.node.cmp(&b.node));
    succeeded.sort();
    let value = json!({ "done": succeeded, "before": before, "failed": failed });
    show(json, &value, || report(succeeded.len(), before.len(), &failed));
    outcome(&failed)
}

/// Works jobs off that nobody has to remember; prints only what failed.
pub(crate) async fn push(way: &Way, jobs: Vec<Job>) -> Result<()> {
    let (_, failed) = work_off(way, jobs, true, |_| Ok(())).await?;
    if !failed.is_empty() {
        say(failures(&failed).join("\n"));
    }
    outcome(&failed)
}

fn outcome(failed: &[Failed]) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = failed.iter().map(|failed| failed.node.as_str()).collect();
    let why = format!(
        "{} failed: {}; run it again, and only what is missing is done",
        count(failed.len(), "node"),
        names.join(", ")
    );
    Err(Failure::Refused(why).into())
}

/// Several jobs at once; those that are done are remembered at once.
async fn work_off(
    way: &Way,
    jobs: Vec<Job>,
    json: bool,
    mut remember: impl FnMut(&Job) -> Result<()>,
) -> Result<(Vec<NodeName>, Vec<Failed>)> {
    let progress = Progress::new(jobs.len(), json);
    let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
    {
        let running = stream::iter(jobs)
            .map(|job| async {
                progress.begins(&job.node);
                let result = work(way, &job).await;
                let why = result.as_ref().err().map(|failed| failed.why.as_str());
                progress.ends(&job.node, why);
                (job, result)
            })
            .buffer_unordered(usize::from(way.at_once));
        futures_util::pin_mut!(running);
        while let Some((job, result)) = running.next().await {
            match result {
                Ok(()) => {
                    remember(&job)?;
                    succeeded.push(job.node);
                }
                Err(failure) => failed.push(failure),
            }
        }
    }
    progress.end();
    Ok((succeeded, failed))
}

async fn work(way: &Way, job: &Job) -> Result<(), Failed> {
    for call in &job.calls {
        if let Err((why, output)) = perform(way, call).await {
            let call = in_shell(way, call);
            return Err(Failed { node: job.node.clone(), call, why, output });
        }
    }
    Ok(())
}

async fn perform(way: &Way, call: &Call) -> Result<(), (String, String)> {
    let program = &way.faas_cli;
    let running =
        Command::new(program).args(&call.args).stdin(Stdio::null()).kill_on_drop(true).output();
    let timeout = Duration::from_secs(way.timeout);
    let output = match tokio::time::timeout(timeout, running).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let why = format!(
                "{} cannot be run ({error}); install it, or name it with --faas-cli",
                program.display()
            );
            return Err((why, String::new()));
        }
        Err(_) => {
            let why = format!("no end after {} seconds; see --timeout", way.timeout);
            return Err((why, String::new()));
        }
    };
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        return Err((output.status.to_string(), last_lines(&text)));
    }
    if !call.says.is_empty() && !call.says.iter().any(|word| text.contains(word)) {
        return Err(("the gateway did not take it".to_owned(), last_lines(&text)));
    }
    Ok(())
}

/// So many lines say what went wrong.
const LINES: usize = 10;

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The calls as a shell takes them, one a line.
fn shown(options: &Options, jobs: &[Job], before: &[NodeName]) -> String {
    let mut lines = Vec::new();
    for job in jobs {
        lines.extend(job.calls.iter().map(|call| in_shell(&options.way, call)));
    }
    if !before.is_empty() {
        let names: Vec<&str> = before.iter().map(NodeName::as_str).collect();
        lines.push(format!("# done already (--again does it again): {}", names.join(", ")));
    }
    lines.join("\n")
}

fn in_shell(way: &Way, call: &Call) -> String {
    let program = way.faas_cli.display().to_string();
    let words = std::iter::once(&program).chain(&call.args).map(|word| quoted(word));
    words.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn report(succeeded: usize, before: usize, failed: &[Failed]) -> String {
    let mut lines = vec![match before {
        0 => format!("{} done", count(succeeded, "node")),
        before => format!("{} done, {before} already", count(succeeded, "node")),
    }];
    lines.extend(failures(failed));
    lines.join("\n")
}

fn failures(failed: &[Failed]) -> Vec<String> {
    let mut lines = Vec::new();
    for Failed { node, call, why, output } in failed {
        lines.push(format!("`{node}` failed: {why}"));
        lines.push(format!("  {call}"));
        lines.extend(output.lines().map(|line| format!("  | {line}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_shells_take_them() {
        assert_eq!(quoted("http://a:8080/x=1"), "http://a:8080/x=1");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$HOME"), "'$HOME'");
    }

    #[test]
    fn the_default_gateway_counts_as_named() {
        assert_eq!(named_gateway("http://127.0.0.1:8080"), "http://127.0.0.1:8080/");
        assert_eq!(named_gateway("http://127.0.0.1:8081"), "http://127.0.0.1:8081");
    }

    #[test]
    fn the_last_lines_are_shown() {
        assert_eq!(last_lines("a\nb\n\n"), "a\nb");
        let long: Vec<String> = (0..50).map(|line| line.to_string()).collect();
        assert!(last_lines(&long.join("\n")).starts_with("40\n"));
    }
}
