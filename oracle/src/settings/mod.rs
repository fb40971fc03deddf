//! Everything the oracle is told: environment variables, secrets, and one file.
//! `docs/oracle.md` lists them.

mod check;
mod file;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use funicular::config::{ConfigError, Lookup};
use funicular::http::signature::{Keys, OPERATOR_KEY};
use funicular::session::{FunctionName, NodeName};
use funicular::topology::{Node, Topology};

pub use file::{
    ActionSettings, FileSettings, KubernetesNode, MachineSettings, MetricsServer,
    PrometheusSettings, RedisSettings, SignalSettings, Size, SourceSettings, StatusSettings,
};

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
    ("ORACLE_DASHBOARD", "node"),
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
    /// What its dashboard shows; `None`: it has none.
    pub dashboard: Option<Shows>,
    /// The address to listen at.
    pub address: IpAddr,
    /// The port; zero takes a free one.
    pub port: u16,
}

/// What a dashboard shows.
#[derive(Debug, Clone)]
pub struct Shows {
    /// The tree.
    pub topology: Arc<Topology>,
    /// The nodes of it that are asked, at the addresses where they are called.
    pub nodes: Vec<Node>,
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
        let at_gateway = node(&topology, &here, lookup.get("ORACLE_GATEWAY"))?;
        let store = lookup.get("FUNICULAR_STORE").unwrap_or("redis://redis:6379/0".to_owned());
        Ok(Self {
            above: above(&topology, &here),
            dashboard: shows(lookup, topology, &at_gateway)?,
            here: at_gateway,
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

/// `off`, `node`, or `tree`.
fn shows(
    lookup: &dyn Lookup,
    topology: Topology,
    here: &Node,
) -> Result<Option<Shows>, ConfigError> {
    let nodes = match lookup.get("ORACLE_DASHBOARD").as_deref().map(str::trim) {
        Some("off") => return Ok(None),
        None | Some("node") => vec![here.clone()],
        Some("tree") => {
            let at =
                |node: &Node| if node.name == here.name { here.clone() } else { reached(node) };
            topology.nodes().map(at).collect()
        }
        Some(other) => {
            let why = format!("ORACLE_DASHBOARD is {other:?}: say off, node, or tree");
            return Err(ConfigError(why));
        }
    };
    Ok(Some(Shows { topology: Arc::new(topology), nodes }))
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
