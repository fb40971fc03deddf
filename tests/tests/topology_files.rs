//! The files of topologies: what is wrong with broken ones, and on which line; what the
//! schema and the checker agree on.

use std::fs;
use std::path::{Path, PathBuf};

use funicular_tests::command_line::Terminal;
use jsonschema::Validator;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> Validator {
    let text = fs::read_to_string(root().join("topology/schema.json")).expect("the schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    jsonschema::meta::validate(&schema).expect("a schema");
    jsonschema::validator_for(&schema).expect("a schema")
}

fn files(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(dir)).expect("the directory");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{dir} has no files");
    files
}

/// A document as the schema sees it; `None` if YAML's own rules refuse it.
fn read(text: &str) -> Option<Value> {
    serde_yaml_ng::from_str(text).ok()
}

/// What a broken file says of itself, in its first two lines.
struct Expected {
    line: usize,
    words: String,
    schema: String,
}

impl Expected {
    fn of(text: &str) -> Self {
        let mut lines = text.lines();
        let fault = lines.next().and_then(|line| line.strip_prefix("# line ")).expect("a line");
        let (line, words) = fault.split_once(": ").expect("a number and words");
        let schema = lines.next().and_then(|line| line.strip_prefix("# schema: "));
        Self {
            line: line.parse().expect("a number"),
            words: words.to_owned(),
            schema: schema.expect("what the schema says").to_owned(),
        }
    }
}

#[test]
fn every_broken_file_is_told_its_fault_and_line() {
    let broken = files("tests/topologies/broken");
    assert!(broken.len() >= 20, "{}", broken.len());
    let terminal = Terminal::open();
    for path in broken {
        let expected = Expected::of(&fs::read_to_string(&path).expect("the file"));
        let name = path.display().to_string();
        let ended = terminal.run(&["check", &name]);
        assert_eq!(ended.code, 65, "{ended:?}");
        let says = format!("{name}: line {}: ", expected.line);
        let fault = ended.out.trim_end().strip_prefix(&says);
        let fault = fault.unwrap_or_else(|| panic!("{says:?} is not how this begins: {ended:?}"));
        assert!(fault.contains(&expected.words), "{name}: {fault}");
        assert_eq!(ended.out.lines().count(), 1, "one fault a file: {}", ended.out);
        assert!(!ended.out.contains("hunter2"), "{}", ended.out);
        assert_eq!(ended.err, "funicular: 1 fault to mend\n");
    }
}

#[test]
fn the_schema_refuses_what_one_node_alone_can_do_wrong() {
    let schema = schema();
    for path in files("tests/topologies/broken") {
        let text = fs::read_to_string(&path).expect("the file");
        let says = match read(&text) {
            None => "unreadable",
            Some(document) if schema.is_valid(&document) => "accepts",
            Some(_) => "refuses",
        };
        assert_eq!(says, Expected::of(&text).schema, "{}", path.display());
    }
}

#[test]
fn every_example_is_right_by_the_schema_and_by_the_checker() {
    let schema = schema();
    let terminal = Terminal::open();
    for path in files("topology/examples") {
        let document = read(&fs::read_to_string(&path).expect("the file")).expect("YAML");
        if let Err(error) = schema.validate(&document) {
            panic!("{}: {error} at {}", path.display(), error.instance_path());
        }
        terminal.run(&["check", &path.display().to_string()]).good();
    }
}

#[test]
fn a_generated_tree_of_ten_thousand_nodes_is_right_too() {
    let terminal = Terminal::open();
    terminal.run(&["topology", "generate", "100,99", "--output", "large.yaml"]).good();
    let good = terminal.run(&["check", "large.yaml"]).good();
    assert_eq!(
        good,
        "large.yaml: good: 10001 nodes on 3 levels, sessions begin at 9900 entry nodes\n"
    );
    let document = read(&fs::read_to_string(terminal.path("large.yaml")).expect("the file"));
    assert!(schema().is_valid(&document.expect("YAML")));
    let ask = |args: &[&str]| {
        let args = [&["topology"], args, &["--topology", "large.yaml"]].concat();
        terminal.run(&args).good()
    };
    assert_eq!(ask(&["parent", "n-7-98"]), "n-7\n");
    assert_eq!(ask(&["subtree", "n-7"]).lines().count(), 100);
}

#[test]
fn questions_about_a_tree_are_answered() {
    let terminal = Terminal::open();
    let italy = root().join("topology/examples/italy.yaml").display().to_string();
    let ask =
        |args: &[&str]| terminal.run(&[&["topology"], args, &["--topology", &italy]].concat());
    for (args, answer) in [
        (&["parent", "brera"][..], "milan\n"),
        (&["parent", "italy"], ""),
        (&["children", "italy"], "milan\nrome\n"),
        (&["children", "brera"], ""),
        (&["subtree", "milan"], "milan\nnavigli\nbrera\n"),
        (&["path", "brera"], "brera\nmilan\nitaly\n"),
        (&["path", "brera", "trastevere"], "brera\nmilan\nitaly\nrome\ntrastevere\n"),
        (&["common-ancestor", "brera", "navigli"], "milan\n"),
        (&["common-ancestor", "brera", "rome"], "italy\n"),
    ] {
        assert_eq!(ask(args).good(), answer, "{args:?}");
    }
    let json = ask(&["children", "milan", "--json"]).good();
    assert_eq!(serde_json::from_str::<Vec<String>>(&json).expect("JSON"), ["navigli", "brera"]);
    assert_eq!(ask(&["parent", "italy", "--json"]).good(), "null\n");
    ask(&["parent", "atlantis"]).sentence(64, &["`atlantis` is not in the tree", "navigli"]);
}

#[test]
fn an_infrastructure_json_is_imported() {
    let terminal = Terminal::open();
    let given = root().join("tests/topologies/infrastructure.json").display().to_string();
    terminal.run(&["topology", "import", &given, "--output", "own.yaml"]).good();
    let drawn = terminal.run(&["tree", "own.yaml"]).good();
    for line in ["europe ", "└── italy ", "    ├── milan ", "    │   └── milan002 "]
    {
        assert!(drawn.lines().any(|drawn| drawn.starts_with(line)), "{line:?} in\n{drawn}");
    }
    let text = fs::read_to_string(terminal.path("own.yaml")).expect("the topology");
    assert!(schema().is_valid(&read(&text).expect("YAML")));
    for secret in ["a secret of the gateway", "a secret of the store"] {
        assert!(fs::read_to_string(&given).expect("the file").contains(secret));
        assert!(!text.contains(secret), "{text}");
    }
    terminal.write("torn.json", "{\n  \"areaTypesIdentifiers\": 3\n}");
    terminal
        .run(&["topology", "import", "torn.json"])
        .sentence(65, &["torn.json cannot be imported", "line 2"]);
}
