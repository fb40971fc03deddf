//! What is shipped to authors and operators: the template, the stack file, the compose
//! tree. Their images are another matter: `container_contract` and `containers`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use funicular::topology::Topology;
use funicular_tests::containers::image::{checkout, lay_out, pull_template};
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(checkout().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// YAML with its merges done, as a schema sees it.
fn yaml(path: &str) -> Value {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read(path)).expect("YAML");
    // What is merged may have merges of its own.
    for _ in 0..2 {
        value.apply_merge().expect("its merges");
    }
    serde_json::to_value(value).expect("as JSON")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("a map").keys().map(String::as_str).collect()
}

/// All files below a folder, by their paths in it.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.insert(name);
        }
    }
    found
}

/// The settings of a section of a manifest.
fn section<'a>(manifest: &'a str, name: &str) -> BTreeSet<&'a str> {
    let body = manifest.split_once(&format!("\n[{name}]\n")).expect(name).1;
    let lines = body.lines().take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn functions() -> BTreeSet<String> {
    let entries = fs::read_dir(checkout().join("functions")).expect("the functions");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn a_function_builds_in_an_image_as_in_the_workspace() {
    let (ours, theirs) = (read("Cargo.toml"), read("templates/rust-offloadable/Cargo.toml"));
    assert_eq!(section(&ours, "patch.crates-io"), section(&theirs, "patch.crates-io"));
    assert!(section(&theirs, "profile.release").is_superset(&section(&ours, "profile.release")));
    let resolver = |text| -> Option<String> {
        section(text, "workspace")
            .into_iter()
            .find(|line| line.starts_with("resolver"))
            .map(Into::into)
    };
    assert!(ours.starts_with("[workspace]\nresolver = \"3\"\n"), "{ours}");
    assert_eq!(resolver(&theirs).as_deref(), Some("resolver = \"3\""));
    assert_eq!(read("templates/rust-offloadable/tested.lock"), read("Cargo.lock"));
}

#[test]
fn the_template_is_pulled_as_real_files() {
    let author = tempfile::tempdir().expect("a folder");
    pull_template(author.path());
    let template = author.path().join("template/rust-offloadable");
    let there = files(&template);
    for path in ["Dockerfile", ".dockerignore", "template.yml", "Cargo.toml", "tested.lock"] {
        assert!(there.contains(path), "{path}: {there:?}");
    }
    assert!(there.contains("runtime/src/lib.rs") && there.contains("runtime/Cargo.toml"));
    // It is laid under every author's folder: another file would end up in all of them.
    let function = ["Cargo.toml", "src/lib.rs", "src/main.rs"].map(String::from);
    assert_eq!(files(&template.join("function")), function.into());

    let about = yaml("templates/rust-offloadable/template.yml");
    assert_eq!(about["language"], "rust-offloadable");
    assert_eq!(keys(&about), ["fprocess", "language", "welcome_message"].into());
    assert!(
        read("templates/rust-offloadable/.dockerignore").lines().any(|line| line == "**/target")
    );
}

/// An author's first steps: `faas-cli new`, what it then says, and `cargo`.
#[test]
fn the_welcome_message_leads_to_the_runtime() {
    let author = tempfile::tempdir().expect("a folder");
    pull_template(author.path());
    let function = author.path().join("template/rust-offloadable/function");
    assert!(
        Command::new("cp")
            .args(["-r"])
            .arg(function)
            .arg(author.path().join("greet"))
            .status()
            .is_ok()
    );
    let about = yaml("templates/rust-offloadable/template.yml");
    let message = about["welcome_message"].as_str().expect("a message");
    let commands: Vec<_> = message.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let run = |program: &str, arguments: &[&str], dir: &Path| {
        let output =
            Command::new(program).args(arguments).current_dir(dir).output().expect(program);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run("sh", &["-euc", &commands.join("\n")], author.path());
    let greet = author.path().join("greet");
    fs::copy(checkout().join("Cargo.lock"), greet.join("Cargo.lock")).expect("a copy");
    let metadata = run(env!("CARGO"), &["metadata", "--offline", "--format-version", "1"], &greet);
    let runtime =
        author.path().canonicalize().expect("a path").join("template/rust-offloadable/runtime");
    assert!(metadata.contains(&runtime.join("Cargo.toml").display().to_string()), "{metadata}");
}

/// The real `faas-cli`, where there is one, pulls the template out of a repository, makes a
/// function of it and lays its build context out: file by file what is done by hand here.
#[test]
fn faas_cli_pulls_and_lays_out_what_is_laid_out_by_hand() {
    let author = tempfile::tempdir().expect("a folder");
    let run = |dir: &Path, program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir).env("HOME", author.path());
        let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    };
    if Command::new("faas-cli").arg("version").output().is_err() {
        println!("faas-cli is not on the PATH: skipped");
        return;
    }
    // What is not committed yet counts too.
    let repository = author.path().join("repository");
    fs::create_dir_all(repository.join("runtime")).expect("a folder");
    for part in ["template", "templates", "Cargo.lock", "runtime/Cargo.toml", "runtime/src"] {
        let (from, to) = (checkout().join(part), repository.join(part));
        run(&repository, "cp", &["-a", &from.to_string_lossy(), &to.to_string_lossy()]);
    }
    run(&repository, "git", &["init", "-q"]);
    run(&repository, "git", &["add", "-A"]);
    let who = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
    run(&repository, "git", &[&who[..], &["commit", "-q", "-m", "all"]].concat());
    let real = author.path().join("real");
    fs::create_dir(&real).expect("a folder");
    run(&real, "faas-cli", &["template", "pull", &repository.to_string_lossy()]);
    run(&real, "faas-cli", &["new", "greet", "--lang", "rust-offloadable"]);
    run(&real, "faas-cli", &["build", "--shrinkwrap"]);

    let by_hand = author.path().join("by-hand");
    pull_template(&by_hand);
    let template = by_hand.join("template/rust-offloadable");
    let context = real.join("build/greet");
    let mut laid_out = files(&context);
    // Where the template is from.
    laid_out.remove("meta.json");
    let expected: BTreeSet<_> =
        files(&template).into_iter().filter(|path| !path.starts_with("runtime/tests/")).collect();
    assert_eq!(laid_out, expected);
    for file in laid_out {
        let [there, here] = [&context, &template].map(|dir| fs::read(dir.join(&file)).expect("it"));
        assert!(there == here, "{file} differs");
    }
}

/// `faas-cli` ignores what it does not know, so that a wrong word is never noticed.
const FUNCTION_KEYS: [&str; 11] = [
    "lang",
    "handler",
    "image",
    "environment",
    "secrets",
    "labels",
    "annotations",
    "limits",
    "requests",
    "readonly_root_filesystem",
    "build_args",
];

#[test]
fn the_stack_has_every_function_with_what_it_needs() {
    let stack = yaml("stack.yml");
    assert_eq!(keys(&stack), ["configuration", "functions", "provider", "version"].into());
    let names: BTreeSet<_> = keys(&stack["functions"]).into_iter().map(String::from).collect();
    assert_eq!(names, functions());
    for name in &names {
        let function = &stack["functions"][name];
        assert!(keys(function).is_subset(&FUNCTION_KEYS.into()), "{name}: {function}");
        assert_eq!(function["lang"], "rust-offloadable");
        assert_eq!(function["handler"], format!("./functions/{name}"));
        assert_eq!(
            function["secrets"],
            serde_json::json!(["session-peer-key", "session-operator-key"])
        );
        assert_eq!(function["readonly_root_filesystem"], true);
        for size in ["memory", "cpu"] {
            assert!(function["limits"][size].is_string(), "{name}: {function}");
            assert!(function["requests"][size].is_string(), "{name}: {function}");
        }
        let environment = function["environment"].as_object().expect("a map");
        assert_eq!(environment["FUNICULAR_FUNCTION"], **name);
        for setting in ["LOCATION_ID", "FUNICULAR_TOPOLOGY", "FUNICULAR_STORE", "exec_timeout"] {
            assert!(environment.contains_key(setting), "{name}: {setting}");
        }
        // As faas-cli and the gateway want them, all values are texts.
        assert!(environment.values().all(Value::is_string), "{name}: {environment:?}");
        let documented = read("docs/configuration.md");
        for setting in environment.keys() {
            assert!(documented.contains(&format!("| `{setting}` |")), "{setting}");
        }
    }
}

/// `faas-cli build --shrinkwrap`: every context is complete, and its runtime the one in it.
#[test]
fn every_context_of_the_stack_resolves() {
    let author = tempfile::tempdir().expect("a folder");
    pull_template(author.path());
    for name in functions() {
        let handler = checkout().join("functions").join(&name);
        let context = lay_out(author.path(), &handler, &name);
        fs::copy(context.join("tested.lock"), context.join("Cargo.lock")).expect("a copy");
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--offline", "--format-version", "1"])
            .current_dir(&context)
            .output()
            .expect("cargo runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let packages = metadata["packages"].as_array().expect("a list");
        let ours: Vec<_> = packages.iter().filter(|package| package["source"].is_null()).collect();
        let paths: BTreeSet<_> = ours
            .iter()
            .map(|package| PathBuf::from(package["manifest_path"].as_str().expect("a path")))
            .collect();
        let context = context.canonicalize().expect("a path");
        let expected = ["function/Cargo.toml", "runtime/Cargo.toml"].map(|path| context.join(path));
        assert_eq!(paths, expected.into(), "{name}");
    }
}

#[test]
fn the_compose_file_follows_its_schema() {
    let schema: Value =
        serde_json::from_str(&read("tests/schemas/compose/compose_spec.json")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let compose = yaml("topology/compose/docker-compose.yml");
    let faults: Vec<_> = schema.iter_errors(&compose).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    // It does notice.
    let mut wrong = compose.clone();
    wrong["services"]["milan"]["helthcheck"] = Value::Null;
    assert!(!schema.is_valid(&wrong));
}

#[test]
fn the_compose_tree_is_the_one_of_its_topology() {
    let topology = Topology::parse(&read("topology/compose/topology.yaml")).expect("a topology");
    let compose = yaml("topology/compose/docker-compose.yml");
    let services = &compose["services"];
    let mut expected = BTreeSet::from(["keys".to_owned()]);
    for node in topology.nodes() {
        let name = node.name.as_str();
        let redis = &services[format!("{name}-redis")];
        assert!(redis["command"].as_str().is_some_and(|line| line.contains("--appendonly yes")));
        assert_eq!(keys(&redis["networks"]), [name].into(), "a Redis is for its node alone");
        let published = services[name]["ports"][0].as_str().expect("a port");
        let port = node.gateway.rsplit_once(':').expect("a port").1;
        assert_eq!(published, format!("${{{}:-127.0.0.1:{port}}}:8080", name.to_uppercase()));
        for function in ["cart", "cdn"] {
            let service = &services[format!("{name}-{function}")];
            assert_eq!(service["environment"]["LOCATION_ID"], name);
            assert_eq!(service["environment"]["FUNICULAR_FUNCTION"], function);
            assert_eq!(service["read_only"], true);
            expected.insert(format!("{name}-{function}"));
        }
        let oracle = &services[format!("{name}-oracle")];
        assert_eq!(oracle["environment"]["LOCATION_ID"], name);
        assert_eq!(oracle["profiles"][0], "oracle", "it is there for those who ask for it");
        expected.extend([name.to_owned(), format!("{name}-redis"), format!("{name}-oracle")]);
    }
    let oracle = read("topology/compose/oracle.yaml");
    funicular_oracle::settings::FileSettings::parse(&oracle).expect("the oracles' settings");
    let there: BTreeSet<_> = keys(services).into_iter().map(String::from).collect();
    assert_eq!(there, expected);
    for (name, service) in services.as_object().expect("a map") {
        if name != "keys" {
            assert_eq!(service["restart"], "unless-stopped", "{name}");
            assert!(service["healthcheck"]["test"].is_array(), "{name}");
        }
    }
}

/// Builders before `BuildKit` know only the one file, and would be sent gigabytes of `target`.
#[test]
fn the_context_of_the_oracles_image_is_what_it_copies_and_no_more() {
    let ignored = read(".dockerignore");
    let lines: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!((lines.first(), lines.last()), (Some(&"*"), Some(&"**/target")));
    let dockerfile = read("oracle/Dockerfile");
    let copied: BTreeSet<_> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|rest| !rest.starts_with("--from"))
        .flat_map(|rest| rest.split(' ').rev().skip(1))
        .filter_map(|path| path.split('/').next())
        .map(|first| format!("!{first}"))
        .collect();
    let allowed: BTreeSet<_> =
        lines[1..lines.len() - 1].iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(copied, allowed);
    // The crates beside it that it is made of, and those that they are made of.
    let mut crates = vec!["oracle".to_owned()];
    let mut next = 0;
    while let Some(of) = crates.get(next).cloned() {
        next += 1;
        let manifest = read(&format!("{of}/Cargo.toml"));
        let beside =
            manifest.split("path = \"../").skip(1).filter_map(|rest| rest.split('"').next());
        crates.extend(
            beside.map(str::to_owned).filter(|name| !crates.contains(name)).collect::<Vec<_>>(),
        );
    }
    assert!(crates.len() > 1, "the dashboard is one of them");
    for name in crates {
        assert!(allowed.contains(&format!("!{name}")), "{name} is not sent along");
        assert!(dockerfile.contains(&format!("COPY {name}/src {name}/src")), "{name}");
        assert!(
            dockerfile.contains(&format!("\"{name}\"")),
            "{name} is no member of the workspace"
        );
    }
}

/// Compose of old, which fails every other time: a container that it has listed is gone.
const COMPOSE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
if [ -e gone ]; then rm gone; else
    touch gone
    echo "No such container: 7f66" >&2
    exit 1
fi
case "$*" in
    ps*) cat running ;;
    up*) echo new >> running ;;
esac
"#;

const DOCKER: &str = r#"#!/bin/sh
[ "$1" = compose ] && exit 1
echo "$*" >> "$(dirname "$0")/calls"
"#;

#[test]
fn g5_a_roll_goes_on_though_another_one_removes_its_containers() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
    };
    write("docker-compose", COMPOSE);
    write("docker", DOCKER);
    write("running", "old\n");
    let path = std::env::var("PATH").expect("a PATH");
    let rolled = Command::new(checkout().join("topology/compose/roll.sh"))
        .arg("milan-cart")
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .output()
        .expect("a shell");
    assert!(rolled.status.success(), "{rolled:?}");
    assert_eq!(String::from_utf8_lossy(&rolled.stdout), "roll: milan-cart\n");
    let calls = fs::read_to_string(dir.path().join("calls")).expect("the calls");
    let last: Vec<_> = calls.lines().skip(1).collect();
    assert_eq!(last, ["stop --time 45 old", "rm old"], "{calls}");
}
