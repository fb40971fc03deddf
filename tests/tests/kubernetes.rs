//! The manifests, by the schemas of Kubernetes itself, and against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use funicular::topology::Topology;
use funicular_tests::command_line::Terminal;
use jsonschema::Validator;
use serde::Deserialize;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

/// Checks documents by their kind.
struct Kubernetes {
    schemas: Value,
    made: BTreeMap<String, Validator>,
}

impl Kubernetes {
    fn new() -> Self {
        let schemas = serde_json::from_str(&read("tests/schemas/kubernetes/v1.34.json"));
        Self { schemas: schemas.expect("JSON"), made: BTreeMap::new() }
    }

    fn faults(&mut self, document: &Value) -> Vec<String> {
        let version = document["apiVersion"].as_str().expect("a version");
        let kind = document["kind"].as_str().expect("a kind");
        let group = match version.rsplit_once('/') {
            Some((group, _)) => group.split('.').next().expect("a group"),
            None => "core",
        };
        let name = format!("io.k8s.api.{group}.v1.{kind}");
        assert!(self.schemas["$defs"].get(&name).is_some(), "no schema of {version} {kind}");
        let schemas = &self.schemas;
        let validator = self.made.entry(name.clone()).or_insert_with(|| {
            let schema = json!({ "$ref": format!("#/$defs/{name}"), "$defs": schemas["$defs"] });
            jsonschema::validator_for(&schema).expect("a schema")
        });
        let faults = validator.iter_errors(document);
        faults.map(|fault| format!("{kind} {}: {fault}", fault.instance_path())).collect()
    }

    #[track_caller]
    fn accepts(&mut self, text: &str) -> Vec<Value> {
        let documents = documents(text);
        for document in &documents {
            assert_eq!(self.faults(document), [""; 0]);
        }
        documents
    }
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

fn names(documents: &[Value]) -> BTreeSet<String> {
    let name = |document: &Value| {
        format!("{} {}", document["kind"], document["metadata"]["name"]).replace('"', "")
    };
    documents.iter().map(name).collect()
}

#[test]
fn the_schemas_refuse_what_kubernetes_would() {
    let mut kubernetes = Kubernetes::new();
    let good = documents(&read("topology/kubernetes/base/function.yaml")).swap_remove(1);
    assert_eq!(kubernetes.faults(&good), [""; 0]);
    let container = "/spec/template/spec/containers/0";
    for (place, wrong) in [
        ("/spec/replicas", json!("one")),
        (&format!("{container}/ports/0"), json!({ "container": 8080 })),
        (&format!("{container}/livenessProbe"), json!({ "http": {} })),
        (&format!("{container}/volumeMounts/0"), json!({ "name": "tmp" })),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).expect(place) = wrong;
        assert_ne!(kubernetes.faults(&bad), [""; 0], "{place}");
    }
}

#[test]
fn the_manifests_are_what_kubernetes_takes() {
    let mut kubernetes = Kubernetes::new();
    for name in ["redis", "function", "oracle"] {
        let text = read(&format!("topology/kubernetes/base/{name}.yaml"));
        assert!(!kubernetes.accepts(&text).is_empty());
    }
    let oracle = documents(&read("topology/kubernetes/base/oracle.yaml"));
    let role = of_kind(&oracle, "Role")[0];
    assert_eq!(
        role["rules"],
        json!([{ "apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["get", "list"] }])
    );
    let bound = of_kind(&oracle, "RoleBinding")[0];
    assert_eq!(bound["roleRef"]["name"], role["metadata"]["name"]);
    let account = of_kind(&oracle, "ServiceAccount")[0];
    assert_eq!(bound["subjects"][0]["name"], account["metadata"]["name"]);
    let deployment = of_kind(&oracle, "Deployment")[0];
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    let known: BTreeSet<_> =
        funicular_oracle::settings::VARIABLES.iter().map(|(name, _)| *name).collect();
    for variable in pod["containers"][0]["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        assert!(known.contains(name), "{name}");
    }
    let settings = of_kind(&oracle, "ConfigMap")[0]["data"]["oracle.yaml"].as_str().expect("text");
    funicular_oracle::settings::FileSettings::parse(settings).expect("its settings");
}

#[test]
fn every_node_of_the_topology_has_an_overlay_and_kustomize_renders_it() {
    let topology =
        Topology::parse(&read("topology/kubernetes/base/topology.yaml")).expect("a tree");
    let overlays = fs::read_dir(root().join("topology/kubernetes/overlays")).expect("overlays");
    let overlays: BTreeSet<String> = overlays
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    let nodes: BTreeSet<String> = topology.nodes().map(|node| node.name.to_string()).collect();
    assert_eq!(overlays, nodes);
    let base = documents(&read("topology/kubernetes/base/kustomization.yaml")).swap_remove(0);
    for resource in base["resources"].as_array().expect("resources") {
        let path = format!("topology/kubernetes/base/{}", resource.as_str().expect("a name"));
        assert!(root().join(&path).exists(), "{path}");
    }
    for node in &nodes {
        let path = format!("topology/kubernetes/overlays/{node}/kustomization.yaml");
        let overlay = documents(&read(&path)).swap_remove(0);
        let literal = &overlay["configMapGenerator"][0]["literals"][0];
        assert_eq!(literal, &json!(format!("LOCATION_ID={node}")));
    }
    let mut kubernetes = Kubernetes::new();
    let generated = generated("cart", "funicular/cart:latest", "navigli", &[]);
    for node in nodes {
        let dir = root().join("topology/kubernetes/overlays").join(&node);
        let rendered = match Command::new("kubectl").arg("kustomize").arg(&dir).output() {
            Ok(output) => output,
            Err(error) => {
                eprintln!("kubectl cannot be run ({error}): the overlays are not rendered here");
                return;
            }
        };
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        let rendered = String::from_utf8(rendered.stdout).expect("text");
        let rendered = kubernetes.accepts(&rendered);
        // What is generated for a node is what its overlay says, but for Prometheus.
        let own = |documents: &[Value]| -> BTreeSet<String> {
            let mut names = names(documents);
            names.remove("ConfigMap funicular-prometheus");
            names.remove("ConfigMap funicular-grafana");
            names
        };
        assert_eq!(own(&rendered), own(&generated));
        for kind in ["Deployment", "StatefulSet"] {
            assert_eq!(of_kind(&rendered, kind), of_kind(&generated, kind));
        }
        let here = rendered.iter().find(|one| one["metadata"]["name"] == "funicular-node");
        assert_eq!(here.expect("a config map")["data"]["LOCATION_ID"], json!(node));
    }
}

fn generated(function: &str, image: &str, node: &str, more: &[&str]) -> Vec<Value> {
    let topology = root().join("topology/kubernetes/base/topology.yaml").display().to_string();
    let args = ["generate", function, "--image", image, "--topology", &topology];
    let one = ["--area", node, "--level", "district"];
    documents(&Terminal::open().run(&[&args[..], &one, more].concat()).good())
}

#[test]
fn manifests_are_generated_for_a_function_at_a_node() {
    let mut kubernetes = Kubernetes::new();
    let documents = generated("greet", "example.org/greet:7", "brera", &[]);
    for document in &documents {
        assert_eq!(kubernetes.faults(document), [""; 0]);
    }
    let text = serde_json::to_string(&documents).expect("JSON");
    assert!(!text.contains("cart"), "{text}");
    let deployment = of_kind(&documents, "Deployment")[0];
    assert_eq!(deployment["metadata"]["labels"]["faas_function"], "greet");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "example.org/greet:7");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let maps = of_kind(&documents, "ConfigMap");
    assert_eq!(maps[1]["data"]["LOCATION_ID"], "brera");
    let tree = Topology::parse(maps[0]["data"]["topology.yaml"].as_str().expect("a text"));
    assert_eq!(tree.expect("a tree").nodes().count(), 6);

    let elsewhere = ["--store", "redis://10.0.0.9:6379/2"];
    let documents = generated("greet", "example.org/greet:7", "brera", &elsewhere);
    assert!(of_kind(&documents, "StatefulSet").is_empty());
    assert!(serde_json::to_string(&documents).expect("JSON").contains("redis://10.0.0.9:6379/2"));
}

#[test]
fn several_nodes_are_several_files() {
    let terminal = Terminal::open();
    let args = ["generate", "greet", "--image", "greet:1", "--topology", "topology.yaml"];
    terminal.run(&args).sentence(64, &["these are 3 nodes", "--output"]);
    let said = terminal.run(&[&args[..], &["--output", "k8s"]].concat()).good();
    assert_eq!(said, "k8s/italy.yaml\nk8s/milan.yaml\nk8s/navigli.yaml\n");
    let mut kubernetes = Kubernetes::new();
    let milan = fs::read_to_string(terminal.path("k8s/milan.yaml")).expect("the manifests");
    assert_eq!(kubernetes.accepts(&milan).len(), 11);
}

#[test]
fn what_watches_the_tree_comes_with_the_base() {
    let place = "topology/observability";
    let made = documents(&read(&format!("{place}/kustomization.yaml"))).swap_remove(0);
    for map in made["configMapGenerator"].as_array().expect("maps") {
        for file in map["files"].as_array().expect("files") {
            let name = file.as_str().and_then(|file| file.split('=').next_back()).expect("a name");
            assert!(root().join(place).join(name).exists(), "{name}");
        }
    }
    let job = documents(&read(&format!("{place}/kubernetes.yaml"))).swap_remove(0);
    assert_eq!(job["scrape_configs"][0]["job_name"], "funicular");
}
