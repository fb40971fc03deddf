//! The tree of `topology/compose`, as it is shipped but for its ports and the place of
//! `cdn`, where the [`crate::probe`] is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use funicular_oracle::daemon::Explanation;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{PATIENCE, docker, image, log, remove_left_over, text, try_docker};
use crate::operator::Operator;
use crate::ports::Port;
use crate::reach::Reach;

/// Each node, its published port in the shipped files, and the areas that it is in.
const NODES: [(&str, u16, &[&str]); 6] = [
    ("italy", 8081, &["italy-area"]),
    ("milan", 8082, &["milan-area", "italy-area"]),
    ("navigli", 8083, &["milan-area", "italy-area"]),
    ("brera", 8084, &["milan-area", "italy-area"]),
    ("rome", 8085, &["rome-area", "italy-area"]),
    ("trastevere", 8086, &["rome-area", "italy-area"]),
];

/// The node at which so many handlers run at once; there is no limit at the others.
pub const SMALL: &str = "navigli";
/// See there.
pub const SEATS: usize = 4;

/// What projects of tests are called; the rest is the process that they belong to.
const PREFIX: &str = "funicular-test-";

/// The running tree.
#[derive(Debug)]
pub struct Compose {
    project: String,
    dir: TempDir,
    ports: BTreeMap<&'static str, Port>,
}

/// One function of it.
#[derive(Debug)]
pub struct View<'a>(pub &'a Compose, pub &'static str);

impl Compose {
    /// Builds the images, starts everything and waits until every function is ready.
    pub async fn up() -> Self {
        let (probe, cart) = (image::of_author(), image::of_stack("cart"));
        docker(&["tag", &probe, "funicular/cdn:test"]);
        assert_eq!(cart, "funicular/cart:test");
        remove_left_over("com.docker.compose.project", PREFIX);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("a folder");
        let ports = NODES.iter().map(|(name, ..)| (*name, Port::free())).collect();
        let tree = Self { project: format!("{PREFIX}{}", std::process::id()), dir, ports };
        tree.write_files();
        tree.compose(&["up", "-d"]).unwrap_or_else(|why| panic!("{why}"));
        for function in ["cart", "probe"] {
            for (node, ..) in NODES {
                tree.ready(node, function).await;
            }
        }
        tree
    }

    fn write_files(&self) {
        let shipped = image::checkout().join("topology/compose");
        let here = self.dir.path();
        for file in ["docker-compose.yml", "oracle.yaml", "roll.sh"] {
            fs::copy(shipped.join(file), here.join(file)).expect("a copy");
        }
        let gateway = fs::read_to_string(shipped.join("gateway.conf")).expect("its settings");
        assert!(gateway.contains(r#"{"name": "cdn"}"#), "{gateway}");
        let gateway = gateway.replace(r#"{"name": "cdn"}"#, r#"{"name": "probe"}"#);
        fs::write(here.join("gateway.conf"), gateway).expect("its settings");
        let mut topology = fs::read_to_string(shipped.join("topology.yaml")).expect("a topology");
        let mut overrides = String::from("services:\n");
        for (node, port, _) in NODES {
            let (own, new) = (format!("127.0.0.1:{port}"), self.address(node));
            assert!(topology.contains(&own), "{own}: {topology}");
            topology = topology.replace(&own, &new);
            let seats = if node == SMALL { SEATS } else { 0 };
            let _ = writeln!(
                overrides,
                "  {node}-cdn:\n    environment: {{FUNICULAR_FUNCTION: probe, max_running: \
                 '{seats}'}}\n    networks:\n      {node}: {{aliases: [probe]}}"
            );
        }
        fs::write(here.join("topology.yaml"), topology).expect("a topology");
        fs::write(here.join("probe.yml"), overrides).expect("the overrides");
        fs::create_dir(here.join("secrets")).expect("a folder");
        super::single::open_to_all(here);
    }

    fn address(&self, node: &str) -> String {
        format!("127.0.0.1:{}", self.ports[node].number())
    }

    fn command(&self, program: &str) -> Command {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let mut files = vec![file("docker-compose.yml"), file("probe.yml")];
        if self.held().exists() {
            files.push(file("held.yml"));
        }
        let mut command = Command::new(program);
        command
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("COMPOSE_FILE", files.join(":"))
            .env("COMPOSE_HTTP_TIMEOUT", "180")
            .env("FUNICULAR_TAG", "test")
            .env("healthcheck_interval", "3s");
        for (node, ..) in NODES {
            command.env(node.to_uppercase(), self.address(node));
        }
        command
    }

    /// Runs `docker compose`, or `docker-compose` where that is all there is.
    fn compose(&self, arguments: &[&str]) -> Result<String, String> {
        let new = try_docker(&["compose", "version"]).is_ok();
        let mut command = self.command(if new { "docker" } else { "docker-compose" });
        command.args(new.then_some("compose"));
        text(command.args(arguments).output())
            .map_err(|why| format!("docker compose {}: {why}", arguments.join(" ")))
    }

    /// Replaces the containers of a function at all nodes, one after the other, with
    /// `roll.sh`.
    pub async fn roll(&self, function: &str) -> String {
        let services = NODES.map(|(node, ..)| format!("{node}-{function}"));
        let mut command = self.roll_command(&services);
        let rolled = tokio::task::spawn_blocking(move || text(command.output())).await;
        rolled.expect("no panic").unwrap_or_else(|why| panic!("roll.sh: {why}"))
    }

    /// Replaces the probes of some nodes, at once, by ones that are held to a version of
    /// the internal calls.
    pub async fn hold_to(&self, version: u32, nodes: &[&str]) {
        let mut held = String::from("services:\n");
        for node in nodes {
            let _ = writeln!(held, "  {node}-cdn:\n    environment: {{wire_version: '{version}'}}");
        }
        fs::write(self.held(), held).expect("the overrides");
        let mut rolls = JoinSet::new();
        for node in nodes {
            let mut command = self.roll_command(&[format!("{node}-cdn")]);
            rolls.spawn_blocking(move || text(command.output()));
        }
        for rolled in rolls.join_all().await {
            rolled.unwrap_or_else(|why| panic!("roll.sh: {why}"));
        }
    }

    /// From the next roll on nobody is held to a version.
    pub fn let_go(&self) {
        fs::remove_file(self.held()).expect("somebody was held");
    }

    fn held(&self) -> PathBuf {
        self.dir.path().join("held.yml")
    }

    fn roll_command(&self, services: &[String]) -> Command {
        let mut command = self.command("sh");
        command.arg(self.dir.path().join("roll.sh")).args(services);
        command
    }

    /// Starts the oracle of every node, as the profile `oracle` does, and waits until each
    /// says what it knows.
    pub async fn watch(&self) {
        assert_eq!(image::of_oracle(), "funicular/oracle:test");
        let up = ["--profile", "oracle", "up", "-d", "--no-recreate"];
        self.compose(&up).unwrap_or_else(|why| panic!("{why}"));
        for (node, ..) in NODES {
            let began = Instant::now();
            while self.explain(node).await.is_none() {
                let log = || self.log(&format!("{node}-oracle"));
                assert!(began.elapsed() < PATIENCE, "no oracle at {node}:\n{}", log());
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }

    /// What a node's oracle knows and what it decided; `None` if it does not answer. It is
    /// published nowhere, but this machine is on every network of its containers.
    pub async fn explain(&self, node: &str) -> Option<Explanation> {
        let oracle = self.container(&format!("{node}-oracle"));
        let network = format!("{}_{node}", self.project);
        let ip = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let ip = try_docker(&["inspect", "--format", &ip, &oracle]).ok()?;
        let answer = reqwest::get(format!("http://{ip}:8082/explain?limit=1000")).await.ok()?;
        let told = answer.text().await.ok()?;
        Some(serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}")))
    }

    /// Waits until a node's function is ready.
    pub async fn ready(&self, node: &str, function: &'static str) {
        let url = format!("{}/_/ready", View(self, function).gateway(node));
        let began = Instant::now();
        loop {
            let answer = reqwest::get(&url).await;
            if answer.as_ref().is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            let service = if function == "probe" { "cdn" } else { function };
            let what = || self.log(&format!("{node}-{service}"));
            assert!(began.elapsed() < PATIENCE, "{url} is not ready: {answer:?}\n{}", what());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// The container of a service.
    pub fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let ids = docker(&["ps", "--all", "--quiet", "--filter", &project, "--filter", &service]);
        assert_eq!(ids.lines().count(), 1, "one container of {service}: {ids}");
        ids
    }

    /// What a service wrote to its log.
    pub fn log(&self, service: &str) -> String {
        log(&self.container(service))
    }

    /// The container in which a node's probe is.
    pub fn probe(&self, node: &str) -> String {
        self.container(&format!("{node}-cdn"))
    }

    /// Takes a node off the networks that it meets other nodes on.
    pub fn cut(&self, node: &str) {
        self.each_link(node, |network, container, _| {
            docker(&["network", "disconnect", network, container]);
        });
    }

    /// Puts it back.
    pub fn rejoin(&self, node: &str) {
        self.each_link(node, |network, container, name| {
            docker(&["network", "connect", "--alias", name, network, container]);
        });
    }

    fn each_link(&self, node: &str, mut act: impl FnMut(&str, &str, &str)) {
        let (_, _, areas) = NODES.iter().find(|(name, ..)| *name == node).expect("a node");
        for service in [node.to_owned(), format!("{node}-cart"), format!("{node}-cdn")] {
            let container = self.container(&service);
            for area in *areas {
                act(&format!("{}_{area}", self.project), &container, &service);
            }
        }
    }

    /// Calls of an operator to the probes.
    pub fn operator(&self) -> Operator<'_> {
        Operator::new(self)
    }
}

impl Reach for Compose {
    fn names(&self) -> Vec<&'static str> {
        NODES.iter().map(|(name, ..)| *name).collect()
    }

    fn base(&self, node: &str) -> String {
        format!("http://{}", self.address(node))
    }

    fn function(&self) -> &'static str {
        "probe"
    }

    fn secrets(&self) -> PathBuf {
        self.dir.path().join("secrets")
    }
}

impl Reach for View<'_> {
    fn names(&self) -> Vec<&'static str> {
        self.0.names()
    }

    fn base(&self, node: &str) -> String {
        self.0.base(node)
    }

    fn function(&self) -> &'static str {
        self.1
    }

    fn secrets(&self) -> PathBuf {
        self.0.secrets()
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (node, ..) in NODES {
                for service in [node.to_owned(), format!("{node}-cdn"), format!("{node}-cart")] {
                    let last = log(&self.container(&service));
                    let lines: Vec<_> = last.lines().rev().take(15).collect();
                    let lines: Vec<_> = lines.into_iter().rev().collect();
                    eprintln!("--- log of {service}\n{}", lines.join("\n"));
                }
            }
        }
        let _ = self.compose(&[
            "--profile",
            "oracle",
            "down",
            "--volumes",
            "--remove-orphans",
            "--timeout",
            "0",
        ]);
    }
}
