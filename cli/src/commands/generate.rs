//! `funicular generate FUNCTION --image I`
//!
//! What one node needs on Kubernetes, without `faas-cli`: the manifests of
//! `topology/kubernetes/base`, for this function, node and topology.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use funicular::session::{FunctionName, NodeName};
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::exit::Failure;
use crate::faas::Select;
use crate::options::Tree;
use crate::output::{give, say};

const REDIS: &str = include_str!("../../../topology/kubernetes/base/redis.yaml");
const FUNCTION: &str = include_str!("../../../topology/kubernetes/base/function.yaml");
const ORACLE: &str = include_str!("../../../topology/kubernetes/base/oracle.yaml");

/// The function and the image that the manifests are written for.
const EXAMPLE: &str = "cart";
const EXAMPLE_IMAGE: &str = "funicular/cart:latest";
const NAMESPACE: &str = "openfaas-fn";
/// Where its own Redis is.
const OWN_REDIS: &str = "redis://redis:6379/0";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The function
    function: FunctionName,

    /// The function's image
    #[arg(long, value_name = "IMAGE")]
    image: String,

    #[command(flatten)]
    select: Select,

    #[command(flatten)]
    tree: Tree,

    /// The node has a Redis already, at this URL: without one of its own
    #[arg(long, value_name = "URL", default_value = OWN_REDIS)]
    store: String,

    /// Write NODE.yaml for each node into this directory [default: standard output, for
    /// one node]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (topology, text) = args.tree.text()?;
    let nodes = args.select.of(&topology)?;
    let Some(dir) = &args.output else {
        let [node] = nodes[..] else {
            let why = format!(
                "these are {} nodes, and each is a cluster of its own: name a directory with \
                 --output, or one node with --area",
                nodes.len()
            );
            return Err(Failure::Usage(why).into());
        };
        let text = manifests(args, &node.name, &text)?;
        return give(&text).context("standard output cannot be written");
    };
    std::fs::create_dir_all(dir).with_context(|| cannot_write(dir))?;
    for node in nodes {
        let path = dir.join(format!("{}.yaml", node.name));
        std::fs::write(&path, manifests(args, &node.name, &text)?)
            .with_context(|| cannot_write(&path))?;
        say(path.display());
    }
    Ok(())
}

fn cannot_write(path: &Path) -> String {
    format!("{} cannot be written", path.display())
}

/// Everything for one node, one document after the other.
fn manifests(args: &Args, node: &NodeName, topology: &str) -> Result<String> {
    let mut documents = vec![
        config_map("topology", "topology.yaml", topology),
        config_map("funicular-node", "LOCATION_ID", node.as_str()),
    ];
    if args.store == OWN_REDIS {
        documents.extend(read(REDIS)?);
    }
    let own = [read(FUNCTION)?, read(ORACLE)?].concat();
    documents.extend(own.into_iter().map(|mut document| {
        fill(&mut document, args);
        document
    }));
    let mut text = format!("# {} at {node}. Made with: funicular generate\n", args.function);
    for document in documents {
        text.push_str("---\n");
        text.push_str(&serde_yaml_ng::to_string(&document)?);
    }
    Ok(text)
}

fn read(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    Ok(documents.map(Value::deserialize).collect::<Result<_, _>>()?)
}

fn config_map(name: &str, key: &str, text: &str) -> Value {
    let map = |entries: &[(&str, Value)]| {
        Value::Mapping(entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    };
    let labels = map(&[("app.kubernetes.io/part-of", "funicular".into())]);
    let metadata =
        map(&[("name", name.into()), ("namespace", NAMESPACE.into()), ("labels", labels)]);
    map(&[
        ("apiVersion", "v1".into()),
        ("kind", "ConfigMap".into()),
        ("metadata", metadata),
        ("data", map(&[(key, text.into())])),
    ])
}

/// Puts this function in the place of the example, wherever a value names it.
fn fill(value: &mut Value, args: &Args) {
    match value {
        Value::String(text) => match text.as_str() {
            EXAMPLE => args.function.as_str().clone_into(text),
            EXAMPLE_IMAGE => text.clone_from(&args.image),
            OWN_REDIS => text.clone_from(&args.store),
            _ => {}
        },
        Value::Sequence(items) => items.iter_mut().for_each(|item| fill(item, args)),
        Value::Mapping(entries) => entries.values_mut().for_each(|value| fill(value, args)),
        _ => {}
    }
}
