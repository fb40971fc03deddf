//! Everything a function's process is told: environment variables and secrets.
//! `docs/configuration.md` lists them; a test compares.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::http::signature::Keys;
use crate::node::NodeConfig;
use crate::reload::Sources;
use crate::session::{FunctionName, NodeName};
use crate::store::WindowLimits;
use crate::topology::Topology;

/// The settings are wrong; the text says which and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Where settings come from: the environment, or a test's own table.
pub trait Lookup {
    /// The value of a variable; an empty one counts as none.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's environment.
#[derive(Debug, Clone, Copy)]
pub struct Environment;

impl Lookup for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

impl Lookup for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        std::collections::BTreeMap::get(self, name).filter(|value| !value.is_empty()).cloned()
    }
}

/// Where a function keeps its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// In this process.
    Memory,
    /// In a Redis, one server or a cluster.
    Redis {
        /// Its URL.
        url: String,
        /// What all keys begin with: nodes that share a Redis need one each.
        prefix: String,
    },
}

/// Everything a function's process is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's settings.
    pub node: NodeConfig,
    /// How the deduplication window is kept.
    pub window: WindowLimits,
    /// Where sessions are kept.
    pub store: StoreChoice,
    /// How long the store may take to answer.
    pub store_timeout: Duration,
    /// The tree.
    pub topology: Topology,
    /// The secrets.
    pub keys: Keys,
    /// Where both are read, and read again.
    pub sources: Sources,
    /// The port of the function; zero takes a free one.
    pub port: u16,
    /// The address to listen at.
    pub address: std::net::IpAddr,
    /// The port of the metrics; zero for none.
    pub metrics_port: u16,
    /// Whether `/function/<fn>` before a path is taken off: there is no gateway.
    pub standalone: bool,
    /// After SIGTERM: how long to keep serving while unhealthy.
    pub healthcheck_interval: Duration,
    /// After that: how long running requests may take.
    pub write_timeout: Duration,
}

/// Every variable, its default and what it is for.
pub const VARIABLES: &[(&str, &str)] = &[
    ("LOCATION_ID", ""),
    ("FUNICULAR_FUNCTION", ""),
    ("FUNICULAR_TOPOLOGY", ""),
    ("FUNICULAR_STORE", "redis://redis:6379/0"),
    ("FUNICULAR_STORE_PREFIX", "f"),
    ("FUNICULAR_SECRETS", "/var/openfaas/secrets"),
    ("FUNICULAR_RESTORED", ""),
    ("reload_interval", "2s"),
    ("FUNICULAR_STANDALONE", "false"),
    ("FUNICULAR_LOG", "info"),
    ("FUNICULAR_LOG_FORMAT", "text"),
    ("port", "8080"),
    ("address", "0.0.0.0"),
    ("metrics_port", "8081"),
    ("exec_timeout", "30s"),
    ("read_timeout", "30s"),
    ("write_timeout", "30s"),
    ("healthcheck_interval", "5s"),
    ("max_inflight", "0"),
    ("max_running", "0"),
    ("max_body", "67108864"),
    ("session_wait", "5s"),
    ("session_ttl", "24h"),
    ("pointer_ttl", "1h"),
    ("pointer_fresh", "10s"),
    ("leaving_reads", "1s"),
    ("recovery_interval", "2s"),
    ("lease_ttl", "1500ms"),
    ("freeze_wait", "2s"),
    ("peer_timeout", "2s"),
    ("store_timeout", "2s"),
    ("window_entries", "1024"),
    ("window_age", "1h"),
    ("replay_body_max", "4096"),
    ("max_session_bytes", "268435456"),
    ("max_sessions", "1000000"),
    ("creation_rate", "10000"),
    ("max_waiting", "1024"),
    ("inline_max", "16384"),
    ("max_moves_in", "16"),
    ("max_moves_out", "16"),
    ("max_moves_pair", "8"),
    ("max_moves_waiting", "256"),
    ("precopy_min", "65536"),
    ("wire_version", "2"),
];

struct Reader<'a>(&'a dyn Lookup);

impl Reader<'_> {
    fn required(&self, name: &str, what: &str) -> Result<String, ConfigError> {
        self.0.get(name).ok_or_else(|| ConfigError(format!("{name} is not set: {what}")))
    }

    fn parsed<T: FromStr>(&self, name: &str, into: &mut T) -> Result<(), ConfigError>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.0.get(name) else { return Ok(()) };
        *into = text.trim().parse().map_err(|why| {
            ConfigError(format!("{name} is {text:?}, which does not read: {why}"))
        })?;
        Ok(())
    }

    /// A duration as Go writes them: `1m30s`, `500ms`; a plain number is seconds.
    fn duration(&self, name: &str, into: &mut Duration) -> Result<(), ConfigError> {
        let Some(text) = self.0.get(name) else { return Ok(()) };
        let text = text.trim();
        let seconds = text.parse::<u64>().map(Duration::from_secs);
        *into = seconds.or_else(|_| humantime::parse_duration(text)).map_err(|why| {
            ConfigError(format!("{name} is {text:?}; a duration is like 30s or 1m30s: {why}"))
        })?;
        Ok(())
    }

    fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        match self.0.get(name).as_deref().map(str::trim) {
            None | Some("false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(other) => Err(ConfigError(format!("{name} is {other:?}: say true or false"))),
        }
    }
}

impl Settings {
    /// Reads all settings; the first wrong one is the error.
    pub fn read(lookup: &dyn Lookup) -> Result<Self, ConfigError> {
        let reader = Reader(lookup);
        let node = node_of(&reader)?;
        let text = reader.required(
            "FUNICULAR_TOPOLOGY",
            "give the path of the topology file, or the text itself",
        )?;
        let topology = Topology::load(&text).map_err(|faults| ConfigError(faults.to_string()))?;
        if topology.node(&node.here).is_none() {
            let here = &node.here;
            return Err(ConfigError(format!("LOCATION_ID is {here}, which the topology lacks")));
        }
        let secrets = lookup.get("FUNICULAR_SECRETS");
        let secrets = PathBuf::from(secrets.as_deref().unwrap_or("/var/openfaas/secrets"));
        let keys = Keys::from_dir(&secrets).map_err(|error| ConfigError(error.to_string()))?;
        if keys.peer.is_none() {
            let at = secrets.display();
            return Err(ConfigError(format!("there is no session-peer-key in {at}: create it")));
        }
        let mut settings = Self {
            node,
            window: WindowLimits::default(),
            store: store(
                lookup.get("FUNICULAR_STORE").as_deref(),
                lookup.get("FUNICULAR_STORE_PREFIX").as_deref(),
            )?,
            store_timeout: Duration::from_secs(2),
            sources: Sources {
                topology: Topology::as_path(&text).map(PathBuf::from),
                secrets,
                every: Duration::from_secs(2),
            },
            topology,
            keys,
            port: 8080,
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            metrics_port: 8081,
            standalone: reader.flag("FUNICULAR_STANDALONE")?,
            healthcheck_interval: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
        };
        reader.parsed("port", &mut settings.port)?;
        reader.parsed("address", &mut settings.address)?;
        reader.parsed("metrics_port", &mut settings.metrics_port)?;
        reader.duration("reload_interval", &mut settings.sources.every)?;
        reader.duration("healthcheck_interval", &mut settings.healthcheck_interval)?;
        reader.duration("write_timeout", &mut settings.write_timeout)?;
        reader.duration("store_timeout", &mut settings.store_timeout)?;
        reader.parsed("window_entries", &mut settings.window.entries)?;
        reader.duration("window_age", &mut settings.window.age)?;
        let ttl = settings.node.session_ttl;
        let age = &mut settings.window.age;
        if !ttl.is_zero() && ttl < *age {
            if lookup.get("window_age").is_some() {
                return Err(ConfigError(format!(
                    "session_ttl ({ttl:?}) is shorter than window_age ({age:?}): a repeated \
                     request would find neither its session nor its answer; raise the one or \
                     lower the other"
                )));
            }
            // Unless it is said, the window is no longer than the session.
            *age = ttl;
        }
        Ok(settings)
    }
}

/// The settings of one function at one node alone: name of both, limits and times.
pub fn node_config(lookup: &dyn Lookup) -> Result<NodeConfig, ConfigError> {
    node_of(&Reader(lookup))
}

fn node_of(reader: &Reader<'_>) -> Result<NodeConfig, ConfigError> {
    let here = reader.required("LOCATION_ID", "give this node's name in the topology")?;
    let here = NodeName::new(here).map_err(|bad| ConfigError(format!("LOCATION_ID: {bad}")))?;
    let function = reader
        .0
        .get("OPENFAAS_NAME")
        .map_or_else(|| reader.required("FUNICULAR_FUNCTION", "give the function's name"), Ok)?;
    let function = FunctionName::new(function)
        .map_err(|bad| ConfigError(format!("FUNICULAR_FUNCTION: {bad}")))?;
    let mut config = NodeConfig::new(here, function);
    config.restored = reader.0.get("FUNICULAR_RESTORED").filter(|label| !label.trim().is_empty());
    reader.duration("exec_timeout", &mut config.exec_timeout)?;
    reader.duration("read_timeout", &mut config.read_timeout)?;
    reader.duration("session_wait", &mut config.session_wait)?;
    reader.duration("session_ttl", &mut config.session_ttl)?;
    reader.duration("pointer_ttl", &mut config.pointer_ttl)?;
    reader.duration("pointer_fresh", &mut config.pointer_fresh)?;
    reader.duration("leaving_reads", &mut config.leaving_reads)?;
    reader.duration("recovery_interval", &mut config.recovery_interval)?;
    reader.duration("lease_ttl", &mut config.lease_ttl)?;
    reader.duration("freeze_wait", &mut config.freeze_wait)?;
    reader.duration("peer_timeout", &mut config.peer_timeout)?;
    reader.parsed("max_inflight", &mut config.max_inflight)?;
    reader.parsed("max_running", &mut config.max_running)?;
    reader.parsed("max_body", &mut config.max_body)?;
    reader.parsed("replay_body_max", &mut config.replay_body_max)?;
    reader.parsed("max_session_bytes", &mut config.max_session_bytes)?;
    reader.parsed("max_sessions", &mut config.max_sessions)?;
    reader.parsed("creation_rate", &mut config.creation_rate)?;
    reader.parsed("max_waiting", &mut config.max_waiting)?;
    reader.parsed("inline_max", &mut config.inline_max)?;
    reader.parsed("max_moves_in", &mut config.max_moves_in)?;
    reader.parsed("max_moves_out", &mut config.max_moves_out)?;
    reader.parsed("max_moves_pair", &mut config.max_moves_pair)?;
    reader.parsed("max_moves_waiting", &mut config.max_moves_waiting)?;
    reader.parsed("precopy_min", &mut config.precopy_min)?;
    reader.parsed("wire_version", &mut config.wire_version)?;
    let short = Duration::from_millis(50);
    if config.lease_ttl < short || config.recovery_interval < short {
        let why = "lease_ttl and recovery_interval are at least 50ms";
        return Err(ConfigError(why.to_owned()));
    }
    Ok(config)
}

fn store(choice: Option<&str>, prefix: Option<&str>) -> Result<StoreChoice, ConfigError> {
    match choice.map_or("redis://redis:6379/0", str::trim) {
        "memory" => Ok(StoreChoice::Memory),
        url if crate::store::redis::is_url(url) => {
            Ok(StoreChoice::Redis { url: url.to_owned(), prefix: prefix.unwrap_or("f").to_owned() })
        }
        other => Err(ConfigError(format!(
            "FUNICULAR_STORE is {other:?}: give memory, a URL like redis://redis:6379/0, or that \
             of a cluster, redis+cluster://redis-0:6379,redis-1:6379"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TOPOLOGY: &str = "levels: [city]\nroot:\n  name: milan\n  gateway: http://127.0.0.1:1\n";

    fn lookup(secrets: &std::path::Path) -> BTreeMap<String, String> {
        std::fs::create_dir_all(secrets).unwrap();
        std::fs::write(secrets.join("session-peer-key"), "0123456789abcdef").unwrap();
        [
            ("LOCATION_ID", "milan"),
            ("FUNICULAR_FUNCTION", "cart"),
            ("FUNICULAR_TOPOLOGY", TOPOLOGY),
            ("FUNICULAR_SECRETS", secrets.to_str().unwrap()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn wrong_settings_are_named_with_what_to_do() {
        let secrets = std::env::temp_dir().join(format!("funicular-config-{}", std::process::id()));
        let good = lookup(&secrets);
        assert!(Settings::read(&good).is_ok());
        let wrong = [
            ("LOCATION_ID", "rome", "which the topology lacks"),
            ("LOCATION_ID", "Rome!", "LOCATION_ID"),
            ("LOCATION_ID", "", "LOCATION_ID is not set"),
            ("FUNICULAR_FUNCTION", "", "FUNICULAR_FUNCTION is not set"),
            ("FUNICULAR_TOPOLOGY", "levels: 3\n", "line"),
            ("FUNICULAR_STORE", "mysql://x", "FUNICULAR_STORE"),
            ("FUNICULAR_STANDALONE", "maybe", "say true or false"),
            ("exec_timeout", "soon", "a duration is like"),
            ("max_body", "-1", "does not read"),
            ("lease_ttl", "1ms", "at least 50ms"),
            ("wire_version", "3", "this release speaks 1 and 2"),
        ];
        for (name, value, says) in wrong {
            let mut settings = good.clone();
            settings.insert(name.to_owned(), value.to_owned());
            let error = Settings::read(&settings).unwrap_err();
            assert!(error.0.contains(says), "{name}={value}: {error}");
        }
        std::fs::remove_dir_all(secrets).unwrap();
    }

    #[test]
    fn the_page_of_settings_lists_every_variable_with_its_default() {
        let page = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/configuration.md"
        ));
        // Inside a function's build context there are no docs.
        let Ok(page) = page else { return };
        for (name, default) in VARIABLES {
            let line = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let line = line.unwrap_or_else(|| panic!("docs/configuration.md lacks {name}"));
            assert!(default.is_empty() || line.contains(default), "{name}: {default}: {line}");
        }
    }
}
