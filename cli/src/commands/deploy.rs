//! `funicular deploy FUNCTION`
//!
//! Puts a function on every node with `faas-cli`, each with its own location and the
//! same topology and secrets. What was done is kept in a file; the next run does the
//! rest.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use funicular::http::signature::{OPERATOR_KEY, PEER_KEY, PREVIOUS_PEER_KEY};
use funicular::session::FunctionName;
use funicular::topology::{Node, Topology};
use sha2::{Digest, Sha256};

use crate::faas::{self, Call, Done, Job, Select, named_gateway};
use crate::options::Tree;

/// The secret that carries the topology: what is mounted is replaced while the function
/// runs, and there is no other file that `faas-cli` could give it.
pub(crate) const TOPOLOGY_SECRET: &str = "topology";
/// Where secrets are mounted.
const SECRETS: &str = "/var/openfaas/secrets";
/// Where `faas-cli` looks for functions unless told.
const STACKS: [&str; 2] = ["stack.yaml", "stack.yml"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The function, as the stack file names it
    function: FunctionName,

    #[command(flatten)]
    select: Select,

    #[command(flatten)]
    tree: Tree,

    /// Do again what was done before, too: after an image was built anew under the same
    /// name
    #[arg(long)]
    again: bool,

    /// Where it is kept what was done
    #[arg(long, value_name = "DIR", default_value = ".funicular/deploy")]
    state: PathBuf,

    #[command(flatten)]
    faas: faas::Options,

    /// What else `faas-cli deploy` is given, such as `-f FILE`, `--label`, `--env`
    #[arg(last = true, value_name = "FAAS-CLI ARGS")]
    more: Vec<String>,
}

pub(crate) async fn run(args: &Args, json: bool) -> Result<()> {
    let (topology, text) = args.tree.text()?;
    let nodes = args.select.of(&topology)?;
    let file = keep_topology(&args.state, &text)?;
    let stack = stack_file(&args.more)
        .map(|path| fs::read(&path).with_context(|| format!("{} cannot be read", path.display())));
    let stack = stack.transpose()?.unwrap_or_default();
    let values = values(&stack, |name| std::env::var_os(name));
    let read = [text.as_bytes(), &stack, &values];
    let jobs = nodes.iter().map(|node| job(node, args, &file, &read));
    let path = args.state.join(format!("{}.json", args.function));
    let mut done = Done::open(path, args.again)?;
    faas::run(&args.faas, jobs.collect(), &mut done, json).await
}

/// Keeps the topology where `faas-cli` can read it, under a name that says which it is.
fn keep_topology(dir: &Path, text: &str) -> Result<String> {
    let digest = Topology::parse(text)?.digest().to_owned();
    let path = dir.join(format!("topology-{digest}.yaml"));
    let keep = || {
        fs::create_dir_all(dir)?;
        fs::write(&path, text)
    };
    keep().with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path.display().to_string())
}

/// The stack file that `faas-cli deploy` will read, if it reads one.
fn stack_file(more: &[String]) -> Option<PathBuf> {
    let mut words = more.iter();
    while let Some(word) = words.next() {
        if word == "-f" || word == "--yaml" {
            return words.next().map(PathBuf::from);
        }
        // `-f=own.yml`, and `-fown.yml`.
        let short = word.strip_prefix("-f").map(|path| path.strip_prefix('=').unwrap_or(path));
        if let Some(path) = word.strip_prefix("--yaml=").or(short) {
            return Some(PathBuf::from(path));
        }
        if word == "--image" || word.starts_with("--image=") {
            return None;
        }
    }
    STACKS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The variables of the environment that a stack file names, with their values: `faas-cli`
/// puts them into it (`${TAG:-latest}`). What is named and not used does no harm.
fn values(stack: &[u8], value: impl Fn(&str) -> Option<OsString>) -> Vec<u8> {
    let text = String::from_utf8_lossy(stack);
    let names: BTreeSet<&str> = text.split('$').skip(1).map(name).collect();
    let mut values = Vec::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        if let Some(value) = value(name) {
            // No value holds a zero.
            values.extend([name.as_bytes(), b"=", value.as_encoded_bytes(), b"\0"].concat());
        }
    }
    values
}

/// The name at the beginning of what follows a `$`.
fn name(text: &str) -> &str {
    let text = text.trim_start_matches(['{', '#']);
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

fn job(node: &Node, args: &Args, topology: &str, files: &[&[u8]]) -> Job {
    let gateway = named_gateway(&node.gateway);
    let function = &args.function;
    // With an image in the call there is no stack file to pick the function from.
    let by_image = args.more.iter().any(|word| word == "--image" || word.starts_with("--image="));
    let pick = if by_image { "--name" } else { "--filter" };
    let mut words: Vec<String> =
        ["deploy", pick, function.as_str(), "--gateway", &gateway].map(str::to_owned).into();
    for (name, value) in [
        ("LOCATION_ID", node.name.as_str()),
        ("FUNICULAR_FUNCTION", function.as_str()),
        ("FUNICULAR_TOPOLOGY", &format!("{SECRETS}/{TOPOLOGY_SECRET}")),
    ] {
        words.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    for secret in [PEER_KEY, PREVIOUS_PEER_KEY, OPERATOR_KEY, TOPOLOGY_SECRET] {
        words.extend(["--secret".to_owned(), secret.to_owned()]);
    }
    words.extend(args.more.iter().cloned());
    let calls =
        vec![Call::secret(TOPOLOGY_SECRET, topology, &node.gateway, true), Call::deploy(words)];
    let mark = mark(&calls, files);
    Job { node: node.name.clone(), calls, mark }
}

/// Names the calls and what they read.
fn mark(calls: &[Call], files: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(calls).unwrap_or_default());
    for file in files {
        hash.update((file.len() as u64).to_be_bytes());
        hash.update(file);
    }
    let hash = hash.finalize().iter().take(16).fold(0, |all, byte| (all << 8) | u128::from(*byte));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_stack_file_is_the_one_that_faas_cli_reads() {
        for (more, file) in [
            ("-f own.yml --label a=b", Some("own.yml")),
            ("--label a=b --yaml own.yml", Some("own.yml")),
            ("--yaml=own.yml", Some("own.yml")),
            ("-f=own.yml", Some("own.yml")),
            ("--label a=b -fown.yml", Some("own.yml")),
            ("--image cart:1", None),
        ] {
            assert_eq!(stack_file(&words(more)), file.map(PathBuf::from), "{more}");
        }
    }

    #[test]
    fn the_values_that_a_stack_file_names_count() {
        let stack = b"image: ${REGISTRY:-${OWNER}}/cart:${TAG:-latest} # 3 $ or $$ or ${#TAG}";
        let of = |pairs: &'static [(&str, &str)]| {
            let value = |name: &str| pairs.iter().find(|(it, _)| *it == name);
            values(stack, |name| value(name).map(|(_, value)| OsString::from(value)))
        };
        assert_eq!(of(&[]), b"");
        assert_eq!(of(&[("OTHER", "1"), ("TAG", "2"), ("OWNER", "me")]), b"OWNER=me\0TAG=2\0");
        assert_ne!(of(&[("TAG", "")]), of(&[]));
    }

    #[test]
    fn a_mark_names_calls_and_files() {
        let call = |word: &str| vec![Call::deploy(vec![word.to_owned()])];
        let one = mark(&call("a"), &[b"x", b"y"]);
        assert_eq!(one, mark(&call("a"), &[b"x", b"y"]));
        for other in [
            mark(&call("b"), &[b"x", b"y"]),
            mark(&call("a"), &[b"xy", b""]),
            mark(&call("a"), &[b"x", b"z"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
