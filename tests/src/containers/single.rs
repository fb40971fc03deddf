//! One function in a container, with a Redis beside it, on a network of its own: a node
//! of a tree that has only this one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use super::{PATIENCE, assert_docker, docker, log, remove_left_over, try_docker};
use crate::operator::Operator;
use crate::reach::Reach;

/// The name of the one node.
pub const NODE: &str = "milan";

const FUNCTION: &str = "greet";

/// Which test's process something belongs to.
const LABEL: &str = "org.funicular.process";

/// A container of a function. Its root is read-only, but for a `/tmp` in memory, and its
/// user is one that nobody has heard of, as on a cluster that is strict.
#[derive(Debug)]
pub struct Single {
    name: String,
    dir: TempDir,
    base: String,
    metrics: String,
}

impl Single {
    /// Starts `image` with these settings, and waits until it is ready.
    pub async fn start(image: &str, settings: &[(&str, &str)]) -> Self {
        let mut single = Self::launch(image, settings);
        single.base = single.published("8080");
        single.metrics = single.published("8081");
        let began = Instant::now();
        while single.status("/_/ready").await != Some(200) {
            assert!(began.elapsed() < PATIENCE, "not ready:\n{}", single.log());
            let running = docker(&["inspect", "--format", "{{.State.Running}}", &single.name]);
            assert_eq!(running, "true", "it ended:\n{}", single.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        single
    }

    /// The same without waiting for anything.
    pub fn launch(image: &str, settings: &[(&str, &str)]) -> Self {
        assert_docker();
        remove_left_over(LABEL, "");
        let dir = tempfile::Builder::new().prefix("funicular-single-").tempdir().expect("a folder");
        let name = dir.path().file_name().expect("a name").to_string_lossy().to_lowercase();
        let name = name.replace('.', "-");
        let single = Self { name, dir, base: String::new(), metrics: String::new() };
        for key in ["session-peer-key", "session-operator-key"] {
            let secret = format!("the {key} of a test in a container");
            std::fs::write(single.secrets().join(key), secret).expect("a secret");
        }
        open_to_all(single.dir.path());
        let label = format!("{LABEL}={}", std::process::id());
        docker(&["network", "create", "--label", &label, &single.name]);
        let redis = single.redis();
        docker(
            &[
                &["run", "--detach", "--name", &redis, "--network", &single.name][..],
                &["--label", &label, "--network-alias", "redis", "redis:7-alpine"],
                &["redis-server", "--protected-mode", "no", "--appendonly", "yes"],
                &["--appendfsync", "always"],
            ]
            .concat(),
        );
        let began = Instant::now();
        while try_docker(&["exec", &redis, "redis-cli", "ping"]).as_deref() != Ok("PONG") {
            assert!(began.elapsed() < PATIENCE, "{}", log(&redis));
        }
        single.run(image, settings);
        single
    }

    fn run(&self, image: &str, settings: &[(&str, &str)]) {
        let secrets = format!("{}:/var/openfaas/secrets:ro", self.secrets().display());
        let own = [
            ("FUNICULAR_FUNCTION", FUNCTION),
            ("LOCATION_ID", NODE),
            (
                "FUNICULAR_TOPOLOGY",
                "levels: [city]\nroot:\n  name: milan\n  gateway: http://milan\n",
            ),
            ("FUNICULAR_STANDALONE", "true"),
        ];
        let settings: Vec<_> =
            own.iter().chain(settings).map(|(name, value)| format!("{name}={value}")).collect();
        let label = format!("{LABEL}={}", std::process::id());
        let mut arguments = vec!["run", "--detach", "--name", &self.name, "--label", &label];
        arguments.extend(["--network", &self.name, "--read-only", "--tmpfs", "/tmp"]);
        arguments.extend(["--user", "12000", "--volume", &secrets]);
        arguments.extend(["--publish", "127.0.0.1::8080", "--publish", "127.0.0.1::8081"]);
        for setting in &settings {
            arguments.extend(["--env", setting]);
        }
        arguments.push(image);
        docker(&arguments);
    }

    /// The container of its Redis.
    pub fn redis(&self) -> String {
        format!("{}-redis", self.name)
    }

    /// The container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn published(&self, port: &str) -> String {
        let address = try_docker(&["port", &self.name, port]);
        let address = address.unwrap_or_else(|why| panic!("{why}\n{}", self.log()));
        format!("http://{}", address.lines().next().expect("one"))
    }

    /// The status of a `GET` there; `None` if nobody answers.
    pub async fn status(&self, path: &str) -> Option<u16> {
        let answer = reqwest::get(format!("{}{path}", self.base)).await.ok()?;
        Some(answer.status().as_u16())
    }

    /// What Prometheus is told.
    pub async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("{}/metrics", self.metrics)).await;
        answer.expect("an answer").text().await.expect("text")
    }

    /// Runs a command in the container.
    pub fn exec(&self, command: &[&str]) -> Result<String, String> {
        try_docker(&[&["exec", &self.name][..], command].concat())
    }

    /// Waits until the process ends, and says with which code.
    pub async fn ended(&self) -> i32 {
        let name = self.name.clone();
        let waiting = tokio::task::spawn_blocking(move || docker(&["wait", &name]));
        let code = tokio::time::timeout(PATIENCE, waiting).await;
        let code = code.unwrap_or_else(|_| panic!("it goes on running:\n{}", self.log()));
        code.expect("docker runs").parse().expect("a code")
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        log(&self.name)
    }

    /// Calls of an operator.
    pub fn operator(&self) -> Operator<'_> {
        Operator::new(self)
    }
}

/// Readable for whichever user reads it.
pub(super) fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir, mode).expect("rights");
}

impl Reach for Single {
    fn names(&self) -> Vec<&'static str> {
        vec![NODE]
    }

    fn base(&self, _: &str) -> String {
        self.base.clone()
    }

    fn function(&self) -> &'static str {
        FUNCTION
    }

    fn secrets(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
        let _ = try_docker(&["rm", "--force", "--volumes", &self.name, &self.redis()]);
        let _ = try_docker(&["network", "rm", &self.name]);
    }
}
