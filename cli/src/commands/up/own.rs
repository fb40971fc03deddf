//! Functions of one's own under `up`: a process a node, started again when it ends.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use funicular::session::{FunctionName, NodeName};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::output::say;

/// How long a process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end.
const ENDING: Duration = Duration::from_secs(10);
/// Between its end and its next start.
const PAUSE: Duration = Duration::from_secs(1);

/// A function and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) name: FunctionName,
    /// The directory of its crate, or a program.
    path: PathBuf,
}

impl FromStr for Own {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, path)) = text.split_once('=').filter(|(_, path)| !path.is_empty()) else {
            return Err("give NAME=DIR, such as greet=./greet".to_owned());
        };
        let name = FunctionName::new(name).map_err(|error| error.to_string())?;
        Ok(Self { name, path: PathBuf::from(path) })
    }
}

impl Own {
    /// The program to run: what `cargo build` makes of a directory, or the file itself.
    pub(super) async fn program(&self) -> Result<PathBuf> {
        let manifest = self.path.join("Cargo.toml");
        if self.path.is_file() {
            return Ok(self.path.canonicalize()?);
        }
        if !manifest.is_file() {
            let why = format!(
                "{} is neither a crate (it has no Cargo.toml) nor a program",
                self.path.display()
            );
            return Err(Failure::Data(why).into());
        }
        say(format_args!("building {} in {}", self.name, self.path.display()));
        let built = Command::new("cargo")
            .args(["build", "--message-format", "json-render-diagnostics", "--manifest-path"])
            .arg(&manifest)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| Failure::Unavailable(format!("cargo cannot be run: {error}")))?;
        if !built.status.success() {
            let why = format!("{} does not build; cargo has said why", self.path.display());
            return Err(Failure::Data(why).into());
        }
        let messages = String::from_utf8_lossy(&built.stdout);
        let why = "it makes not one program: give it a src/main.rs, or name the program itself";
        executable(&messages, &manifest.canonicalize()?)
            .ok_or_else(|| Failure::Data(format!("{}: {why}", self.path.display())).into())
    }
}

/// The one program that a build made of this manifest, as cargo's messages have it.
fn executable(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let made = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = made
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["manifest_path"].as_str().map(Path::new) == Some(manifest))
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    let program = programs.next()?;
    programs.next().is_none().then_some(program)
}

/// What all processes of one `up` are given.
pub(super) struct Site {
    /// The topology's file.
    pub(super) topology: PathBuf,
    /// The directory of the keys.
    pub(super) secrets: PathBuf,
}

/// What one node gives to its processes.
pub(super) struct Place {
    pub(super) node: NodeName,
    pub(super) store: String,
    pub(super) prefix: String,
    /// Settings that were given for it.
    pub(super) set: BTreeMap<String, String>,
}

/// The processes that run, until they are stopped.
#[derive(Default)]
pub(super) struct Processes {
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// One that does not serve yet.
    starting: Option<Child>,
}

impl Processes {
    /// Starts a function at a node and waits until it serves; says where. Broken off, it
    /// leaves here what runs.
    pub(super) async fn start(
        &mut self,
        (name, program): (&FunctionName, &Path),
        site: &Site,
        place: &Place,
    ) -> Result<String> {
        let port = free_port()?;
        let lock = site.secrets.join("run").join(place.node.as_str()).join(name.as_str());
        std::fs::create_dir_all(&lock)
            .with_context(|| format!("{} cannot be created", lock.display()))?;
        let settings = settings(name, site, place, port, &lock);
        let base = format!("http://127.0.0.1:{port}");
        let child = self.starting.insert(spawn(program, &settings)?);
        serves(&base, child, name, &place.node).await?;
        let process = Process {
            who: format!("{}: {name}", place.node),
            program: program.to_owned(),
            settings,
        };
        let child = self.starting.take();
        self.tasks.extend(child.map(|child| tokio::spawn(process.keep(child, self.stop.clone()))));
        Ok(base)
    }

    /// Ends them.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Some(child) = self.starting {
            end(child).await;
        }
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

fn settings(
    name: &FunctionName,
    site: &Site,
    place: &Place,
    port: u16,
    lock: &Path,
) -> BTreeMap<String, String> {
    let own = [
        ("LOCATION_ID", place.node.to_string()),
        ("FUNICULAR_FUNCTION", name.to_string()),
        ("OPENFAAS_NAME", name.to_string()),
        ("FUNICULAR_TOPOLOGY", site.topology.display().to_string()),
        ("FUNICULAR_SECRETS", site.secrets.display().to_string()),
        ("FUNICULAR_STORE", place.store.clone()),
        ("FUNICULAR_STORE_PREFIX", place.prefix.clone()),
        ("FUNICULAR_STANDALONE", "true".to_owned()),
        ("address", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("metrics_port", "0".to_owned()),
        ("healthcheck_interval", "100ms".to_owned()),
        ("write_timeout", "5s".to_owned()),
        // Its lock file is its own.
        ("TMPDIR", lock.display().to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    place.set.clone().into_iter().chain(own).collect()
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}

fn spawn(program: &Path, settings: &BTreeMap<String, String>) -> Result<Child> {
    Command::new(program)
        .envs(settings)
        .stdin(Stdio::null())
        // What a function prints is for its author.
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        // Ctrl-C is for `up` alone: it ends its processes itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::Unavailable(format!("{} cannot be run: {error}", program.display())).into()
        })
}

async fn serves(base: &str, child: &mut Child, name: &FunctionName, node: &NodeName) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let began = Instant::now();
    loop {
        let answer = http.get(format!("{base}/_/ready")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            let why = format!("{name} at `{node}` ended with {status} before it served");
            return Err(Failure::Unavailable(why).into());
        }
        if began.elapsed() > PATIENCE {
            let why = format!("{name} at `{node}` does not serve within {PATIENCE:?}");
            return Err(Failure::Unavailable(why).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One process, and how it is started again.
struct Process {
    who: String,
    program: PathBuf,
    settings: BTreeMap<String, String>,
}

impl Process {
    async fn keep(self, mut child: Child, stop: CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return end(child).await,
                ended = child.wait() => ended,
            };
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            say(format_args!("{} ended with {how}; it is started again", self.who));
            child = loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
                match spawn(&self.program, &self.settings) {
                    Ok(child) => break child,
                    Err(error) => say(format_args!("{}: {error}", self.who)),
                }
            };
        }
    }
}

/// SIGTERM, and a while later SIGKILL.
async fn end(mut child: Child) {
    if let Some(id) = child.id() {
        let _ = Command::new("kill").arg(id.to_string()).status().await;
    }
    if tokio::time::timeout(ENDING, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_with_where_it_is() {
        let own: Own = "greet=./my/greet".parse().unwrap();
        assert_eq!((own.name.as_str(), own.path), ("greet", PathBuf::from("./my/greet")));
        for bad in ["greet", "greet=", "Greet Me=./greet", "=./greet"] {
            assert!(bad.parse::<Own>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_program_is_found_in_what_cargo_says() {
        let manifest = Path::new("/code/greet/Cargo.toml");
        let line = |manifest: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","executable":{executable}}}"#
            )
        };
        let library = line("/code/greet/Cargo.toml", "null");
        let program = line("/code/greet/Cargo.toml", r#""/code/target/debug/greet""#);
        let other = line("/code/tool/Cargo.toml", r#""/code/target/debug/tool""#);
        let end = r#"{"reason":"build-finished","success":true}"#;
        let said = [library.as_str(), &other, &program, end].join("\n");
        assert_eq!(executable(&said, manifest), Some("/code/target/debug/greet".into()));
        assert_eq!(executable(&[library.as_str(), &other].join("\n"), manifest), None);
        assert_eq!(executable(&[program.as_str(), &program].join("\n"), manifest), None);
    }
}
