//! What the file says; `docs/oracle.md` has every setting with its default.

use std::path::{Path, PathBuf};

use funicular::config::ConfigError;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::policy::settings::PolicySettings;
use crate::signals::Smoothing;
use crate::sources::prometheus::Query;

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
    /// So many of each function at once.
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
}
