//! Everything the oracle is told: environment variables, secrets, and one file.
//! `docs/oracle.md` lists them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use funicular::config::{ConfigError, Lookup};
use funicular::http::signature::{Keys, OPERATOR_KEY};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::policy::settings::PolicySettings;
use crate::signals::Smoothing;
use crate::sources::prometheus::Query;

/// Every variable and its default.
pub const VARIABLES: &[(&str, &str)] = &[
    ("LOCATION_ID", ""),
    ("FUNICULAR_TOPOLOGY", ""),
    ("FUNICULAR_STORE", "redis://redis:6379/0"),
    ("FUNICULAR_STORE_PREFIX", "f"),
    ("FUNICULAR_SECRETS", "/var/openfaas/secrets"),
    ("FUNICULAR_LOG", "info"),
    ("FUNICULAR_LOG_FORMAT", "text"),
    ("ORACLE_CONFIG", ""),
    ("ORACLE_GATEWAY", ""),
    ("ORACLE_FUNCTIONS", ""),
    ("ORACLE_OBSERVE", "false"),
    ("ORACLE_RECORD", ""),
    ("ORACLE_ADDRESS", "0.0.0.0"),
    ("ORACLE_PORT", "8082"),
];

/// Everything one oracle is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node it watches, at the address where its gateway is called.
    pub here: Node,
    /// The nodes above, the nearest first, at the addresses where they are called.
    pub above: Vec<Node>,
    /// The operators' key.
    pub keys: Keys,
    /// User and password of the gateway, if it asks for them.
    pub login: Option<(String, String)>,
    /// The functions, where no gateway lists them.
    pub functions: Option<Vec<FunctionName>>,
    /// The node's Redis; `None`: its sessions are in memory.
    pub store: Option<String>,
    /// What the keys in it begin with.
    pub prefix: String,
    /// What the file says.
    pub file: FileSettings,
    /// Decides without acting.
    pub observe: bool,
    /// Where to write what is seen, for `funicular oracle replay`.
    pub record: Option<PathBuf>,
    /// The address to listen at.
    pub address: IpAddr,
    /// The port; zero takes a free one.
    pub port: u16,
}

/// What the file says; everything has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSettings {
    /// How often it decides.
    pub tick: Span,
    /// How samples become signals.
    pub signals: SignalSettings,
    /// The policy.
    pub policy: PolicySettings,
    /// Where signals come from.
    pub sources: SourceSettings,
    /// How it acts.
    pub actions: ActionSettings,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            tick: Span::secs(1),
            signals: SignalSettings::default(),
            policy: PolicySettings::default(),
            sources: SourceSettings::default(),
            actions: ActionSettings::default(),
        }
    }
}

/// How samples become signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalSettings {
    /// After this time a new value counts for two thirds.
    pub time_constant: Span,
    /// A signal without a new value for so long is unknown.
    pub stale_after: Span,
}

impl Default for SignalSettings {
    fn default() -> Self {
        Self { time_constant: Span::secs(5), stale_after: Span::secs(15) }
    }
}

impl From<SignalSettings> for Smoothing {
    fn from(settings: SignalSettings) -> Self {
        Self {
            time_constant: settings.time_constant.as_millis(),
            stale_after: settings.stale_after.as_millis(),
        }
    }
}

/// How actions are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActionSettings {
    /// How long one call may take.
    pub timeout: Span,
    /// How often one is tried.
    pub tries: usize,
    /// So many at once.
    pub at_once: usize,
    /// How long the right to act lasts after the oracle has died.
    pub lease: Span,
}

impl Default for ActionSettings {
    fn default() -> Self {
        Self { timeout: Span::secs(12), tries: 2, at_once: 4, lease: Span::secs(10) }
    }
}

/// Where signals come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSettings {
    /// The functions' own `/_/status`; always on, for it tells the sessions too.
    pub status: StatusSettings,
    /// The node's Redis, where it has one.
    pub redis: RedisSettings,
    /// cgroup and `/proc`.
    pub machine: MachineSettings,
    /// A Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSettings>,
    /// The metrics-server of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_server: Option<MetricsServer>,
}

/// The source `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusSettings {
    /// How often it is asked.
    pub every: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// How many sessions it is asked for, when some are to move.
    pub sessions: usize,
    /// How often the gateway is asked for its functions.
    pub list_every: Span,
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self {
            every: Span::secs(1),
            timeout: Span::secs(2),
            sessions: 128,
            list_every: Span::secs(10),
        }
    }
}

/// The source `redis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSettings {
    /// Whether it is asked.
    pub enabled: bool,
    /// How often.
    pub every: Span,
    /// How long an answer may take.
    pub timeout: Span,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { enabled: true, every: Span::secs(2), timeout: Span::secs(2) }
    }
}

/// The source `machine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MachineSettings {
    /// Whether it is asked.
    pub enabled: bool,
    /// How often.
    pub every: Span,
    /// Where `/proc` is.
    pub proc: PathBuf,
    /// The directory of the cgroup to look at; without one it is the whole machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

impl Default for MachineSettings {
    fn default() -> Self {
        Self { enabled: true, every: Span::secs(1), proc: PathBuf::from("/proc"), cgroup: None }
    }
}

/// The source `prometheus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSettings {
    /// Its URL.
    pub url: String,
    /// What to ask.
    pub queries: Vec<Query>,
    /// How often.
    #[serde(default = "five_seconds")]
    pub every: Span,
    /// How long an answer may take.
    #[serde(default = "two_seconds")]
    pub timeout: Span,
}

fn five_seconds() -> Span {
    Span::secs(5)
}

fn two_seconds() -> Span {
    Span::secs(2)
}

/// The source `metrics-server`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsServer {
    /// The namespace of the functions.
    pub namespace: String,
    /// The limits of a function's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Size>,
    /// The Kubernetes node that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<KubernetesNode>,
    /// How often it is asked.
    pub every: Span,
    /// How long an answer may take.
    pub timeout: Span,
}

impl Default for MetricsServer {
    fn default() -> Self {
        Self {
            namespace: "openfaas-fn".to_owned(),
            pod: None,
            node: None,
            every: Span::secs(10),
            timeout: Span::secs(5),
        }
    }
}

/// A node of Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesNode {
    /// Its name there.
    pub name: String,
    /// What may be used of it.
    pub size: Size,
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// CPUs.
    pub cpus: f64,
    /// Memory in bytes.
    pub memory: f64,
}

impl FileSettings {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let at = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("{at} cannot be read: {error}")))?;
        Self::parse(&text).map_err(|ConfigError(why)| ConfigError(format!("{at}: {why}")))
    }

    /// Reads and checks a file's text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // An empty file says nothing, and everything has a default.
        let text = if text.trim().is_empty() { "{}" } else { text };
        let file: Self = serde_yaml_ng::from_str(text)
            .map_err(|error| ConfigError(format!("{error}; docs/oracle.md has every setting")))?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |why: &str| Err(ConfigError(why.to_owned()));
        self.policy.check().map_err(|wrong| ConfigError(wrong.0))?;
        let sources = &self.sources;
        let mut lengths = vec![self.tick, sources.status.every, sources.status.timeout];
        lengths.extend([sources.redis.every, sources.machine.every, self.actions.timeout]);
        lengths.extend(sources.prometheus.iter().map(|prometheus| prometheus.every));
        lengths.extend(sources.metrics_server.iter().map(|server| server.every));
        if lengths.iter().any(|length| length.as_millis() < 10) {
            return wrong("tick, every and timeout are at least 10ms");
        }
        if self.signals.stale_after <= sources.status.every.max(sources.machine.every) {
            return wrong("stale_after is longer than every: else every signal is unknown");
        }
        if self.actions.tries == 0 || self.actions.at_once == 0 {
            return wrong("tries and at_once are at least 1");
        }
        if self.actions.lease.as_millis() < 1000 {
            return wrong("lease is at least 1s");
        }
        Ok(())
    }
}

impl Settings {
    /// Reads all settings; the first wrong one is the error.
    pub fn read(lookup: &dyn Lookup) -> Result<Self, ConfigError> {
        let required = |name: &str, what: &str| {
            lookup.get(name).ok_or_else(|| ConfigError(format!("{name} is not set: {what}")))
        };
        let here = required("LOCATION_ID", "give this node's name in the topology")?;
        let here = NodeName::new(here).map_err(|bad| ConfigError(format!("LOCATION_ID: {bad}")))?;
        let text = required("FUNICULAR_TOPOLOGY", "give the path of the topology's file")?;
        let topology = Topology::load(&text).map_err(|faults| ConfigError(faults.to_string()))?;
        let secrets = lookup.get("FUNICULAR_SECRETS");
        let secrets = PathBuf::from(secrets.as_deref().unwrap_or("/var/openfaas/secrets"));
        let keys = Keys::from_dir(&secrets).map_err(|error| ConfigError(error.to_string()))?;
        if keys.operator.is_none() {
            let at = secrets.display();
            return Err(ConfigError(format!("there is no {OPERATOR_KEY} in {at}: create it")));
        }
        let file = match lookup.get("ORACLE_CONFIG") {
            Some(path) => FileSettings::load(Path::new(&path))?,
            None => FileSettings::default(),
        };
        let store = lookup.get("FUNICULAR_STORE").unwrap_or("redis://redis:6379/0".to_owned());
        Ok(Self {
            above: above(&topology, &here),
            here: node(&topology, &here, lookup.get("ORACLE_GATEWAY"))?,
            // A tool has no use for the peers' key.
            keys: Keys { peer: None, operator: keys.operator },
            login: login(&secrets)?,
            functions: functions(lookup)?,
            store: (store.trim() != "memory").then_some(store),
            prefix: lookup.get("FUNICULAR_STORE_PREFIX").unwrap_or("f".to_owned()),
            file,
            observe: flag(lookup, "ORACLE_OBSERVE")?,
            record: lookup.get("ORACLE_RECORD").map(PathBuf::from),
            address: parsed(lookup, "ORACLE_ADDRESS", Ipv4Addr::UNSPECIFIED.into())?,
            port: parsed(lookup, "ORACLE_PORT", 8082)?,
        })
    }
}

/// The nodes above, at the addresses where nodes call each other.
pub fn above(topology: &Topology, here: &NodeName) -> Vec<Node> {
    topology.ancestors(here).into_iter().map(reached).collect()
}

/// A node, at the address where nodes call each other.
fn reached(node: &Node) -> Node {
    Node { gateway: node.peer_url().to_owned(), ..node.clone() }
}

fn node(topology: &Topology, here: &NodeName, at: Option<String>) -> Result<Node, ConfigError> {
    let found = topology
        .node(here)
        .ok_or_else(|| ConfigError(format!("LOCATION_ID is {here}, which the topology lacks")))?;
    Ok(match at {
        Some(gateway) => {
            Node { gateway: gateway.trim_end_matches('/').to_owned(), ..found.clone() }
        }
        None => reached(found),
    })
}

/// The secrets `basic-auth-user` and `basic-auth-password` of OpenFaaS.
fn login(secrets: &Path) -> Result<Option<(String, String)>, ConfigError> {
    let read = |name: &str| match std::fs::read_to_string(secrets.join(name)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError(format!("the secret {name} cannot be read: {error}"))),
    };
    let user = read("basic-auth-user")?.unwrap_or("admin".to_owned());
    Ok(read("basic-auth-password")?.map(|password| (user, password)))
}

/// Names between commas.
fn functions(lookup: &dyn Lookup) -> Result<Option<Vec<FunctionName>>, ConfigError> {
    let Some(text) = lookup.get("ORACLE_FUNCTIONS") else { return Ok(None) };
    let names = text.split(',').map(|name| FunctionName::new(name.trim()));
    let names: Result<Vec<_>, _> = names.collect();
    names.map(Some).map_err(|bad| ConfigError(format!("ORACLE_FUNCTIONS: {bad}")))
}

fn parsed<T: FromStr>(lookup: &dyn Lookup, name: &str, default: T) -> Result<T, ConfigError>
where
    T::Err: std::fmt::Display,
{
    let Some(text) = lookup.get(name) else { return Ok(default) };
    text.trim()
        .parse()
        .map_err(|why| ConfigError(format!("{name} is {text:?}, which does not read: {why}")))
}

fn flag(lookup: &dyn Lookup, name: &str) -> Result<bool, ConfigError> {
    match lookup.get(name).as_deref().map(str::trim) {
        None | Some("false" | "0" | "no") => Ok(false),
        Some("true" | "1" | "yes") => Ok(true),
        Some(other) => Err(ConfigError(format!("{name} is {other:?}: say true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TOPOLOGY: &str = "{levels: [a, b], root: {name: italy, gateway: 'http://italy.test', \
        internal: 'http://10.0.0.1:8080', children: [{name: milan, gateway: 'http://milan.test'}]}}";

    fn lookup(dir: &Path) -> BTreeMap<String, String> {
        std::fs::write(dir.join("session-operator-key"), "0123456789abcdef").unwrap();
        [
            ("LOCATION_ID", "milan"),
            ("FUNICULAR_TOPOLOGY", TOPOLOGY),
            ("FUNICULAR_SECRETS", dir.to_str().unwrap()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn settings_are_read_with_their_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let good = lookup(dir.path());
        let settings = Settings::read(&good).unwrap();
        assert_eq!(settings.here.gateway, "http://milan.test");
        assert_eq!(settings.above[0].gateway, "http://10.0.0.1:8080");
        assert_eq!((settings.port, settings.observe), (8082, false));
        assert_eq!(settings.store.as_deref(), Some("redis://redis:6379/0"));
        assert_eq!((settings.file, settings.login), (FileSettings::default(), None));
        std::fs::write(dir.path().join("basic-auth-password"), "secret\n").unwrap();
        let login = Settings::read(&good).unwrap().login;
        assert_eq!(login, Some(("admin".to_owned(), "secret".to_owned())));
    }

    #[test]
    fn wrong_settings_are_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let good = lookup(dir.path());
        let file = dir.path().join("oracle.yaml");
        std::fs::write(&file, "policy: {moves: 0}").unwrap();
        for (name, value, says) in [
            ("LOCATION_ID", "", "LOCATION_ID is not set"),
            ("LOCATION_ID", "rome", "which the topology lacks"),
            ("FUNICULAR_TOPOLOGY", "", "FUNICULAR_TOPOLOGY is not set"),
            ("FUNICULAR_SECRETS", "/nowhere", "create the secrets"),
            ("ORACLE_PORT", "many", "does not read"),
            ("ORACLE_FUNCTIONS", "cart, Not One", "ORACLE_FUNCTIONS"),
            ("ORACLE_OBSERVE", "maybe", "say true or false"),
            ("ORACLE_CONFIG", "/nowhere", "cannot be read"),
            ("ORACLE_CONFIG", file.to_str().unwrap(), "above zero"),
        ] {
            let mut settings = good.clone();
            settings.insert(name.to_owned(), value.to_owned());
            let error = Settings::read(&settings).unwrap_err();
            assert!(error.0.contains(says), "{name}={value}: {error}");
        }
        std::fs::remove_file(dir.path().join("session-operator-key")).unwrap();
        std::fs::write(dir.path().join("session-peer-key"), "0123456789abcdefg").unwrap();
        assert!(Settings::read(&good).unwrap_err().0.contains("no session-operator-key"));
    }

    #[test]
    fn the_file_has_a_default_for_everything_and_refuses_what_it_does_not_know() {
        assert_eq!(FileSettings::parse("").unwrap(), FileSettings::default());
        let text = serde_yaml_ng::to_string(&FileSettings::default()).unwrap();
        assert_eq!(FileSettings::parse(&text).unwrap(), FileSettings::default());
        let rules = "policy: {rules: [{name: x, signals: [x], high: 1, low: 2, onload: 0}]}";
        for (text, says) in [
            ("tick: soon", "duration"),
            ("tock: 1s", "unknown field"),
            ("tick: 1ms", "at least 10ms"),
            ("policy: {victims: nobody}", "unknown variant"),
            ("signals: {stale_after: 1s}", "stale_after"),
            ("actions: {tries: 0}", "at least 1"),
            (rules, "onload < low < high"),
        ] {
            let error = FileSettings::parse(text).unwrap_err();
            assert!(error.0.contains(says), "{text}: {error}");
        }
    }

    fn page(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_page_lists_every_variable_and_every_default() {
        let page = page("oracle.md");
        for (name, default) in VARIABLES {
            let line = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let line = line.unwrap_or_else(|| panic!("docs/oracle.md lacks {name}"));
            assert!(default.is_empty() || line.contains(default), "{name}: {default}: {line}");
        }
        let (_, file) = page.split_once("```yaml\n").unwrap();
        let (file, _) = file.split_once("```").unwrap();
        assert_eq!(FileSettings::parse(file).unwrap(), FileSettings::default());
        // What is commented out there reads too, and every setting is named.
        let whole: Vec<_> = file
            .lines()
            .map(|line| line.strip_prefix("  # ").map_or(line.to_owned(), |it| format!("  {it}")))
            .collect();
        let whole = FileSettings::parse(&whole.join("\n")).unwrap();
        assert!(whole.sources.prometheus.is_some() && whole.sources.metrics_server.is_some());
        let text = serde_yaml_ng::to_string(&whole).unwrap();
        for line in text.lines() {
            let Some((name, _)) = line.trim().trim_start_matches("- ").split_once(':') else {
                continue;
            };
            let optional = ["combine"].contains(&name);
            assert!(optional || page.contains(&format!("{name}:")), "docs/oracle.md lacks {name}");
        }
    }

    #[test]
    fn the_page_of_metrics_lists_every_one() {
        let page = page("metrics.md");
        let sources = [include_str!("metrics.rs"), include_str!("../../runtime/src/metrics.rs")];
        for source in sources {
            for name in source.split('"').filter(|it| it.starts_with("funicular_")) {
                assert!(page.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
            }
        }
    }
}
