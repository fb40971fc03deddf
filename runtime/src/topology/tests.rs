use super::*;

const ITALY: &str = include_str!("../../../topology/examples/italy.yaml");
const THREE: &str = include_str!("../../../topology/examples/three-nodes.yaml");

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<&'a str> {
    nodes.into_iter().map(|node| node.name.as_str()).collect()
}

#[test]
fn answers_about_the_example_tree() {
    let tree = Topology::parse(ITALY).unwrap();
    assert_eq!(tree.levels(), ["country", "city", "district"]);
    assert_eq!(names(tree.nodes()), ["italy", "milan", "navigli", "brera", "rome", "trastevere"]);
    assert_eq!(tree.root().name, name("italy"));
    assert_eq!(tree.parent(&name("navigli")).unwrap().name, name("milan"));
    assert!(tree.parent(&name("italy")).is_none());
    assert_eq!(names(tree.children(&name("italy"))), ["milan", "rome"]);
    assert_eq!(names(tree.children(&name("brera"))), [""; 0]);
    assert_eq!(names(tree.ancestors(&name("brera"))), ["milan", "italy"]);
    assert_eq!(names(tree.subtree(&name("milan"))), ["milan", "navigli", "brera"]);
    assert_eq!(names(tree.entry_nodes()), ["navigli", "brera", "trastevere"]);

    let brera = tree.node(&name("brera")).unwrap();
    assert_eq!((brera.level.as_str(), brera.depth), ("district", 2));
    assert_eq!(brera.peer_url(), "http://127.0.0.1:8084");
    assert_eq!(brera.coordinates, Some((45.47, 9.19)));
}

#[test]
fn knows_who_stands_below_whom() {
    let tree = Topology::parse(ITALY).unwrap();
    let inside = |of: &str, node: &str| tree.in_subtree(&name(of), &name(node));
    assert!(inside("italy", "brera") && inside("milan", "brera") && inside("brera", "brera"));
    assert!(!inside("brera", "milan") && !inside("rome", "brera") && !inside("milan", "rome"));
    assert!(!inside("italy", "atlantis") && !inside("atlantis", "italy"));

    let meet = |a: &str, b: &str| {
        tree.common_ancestor(&name(a), &name(b)).map(|node| node.name.to_string())
    };
    assert_eq!(meet("navigli", "brera").as_deref(), Some("milan"));
    assert_eq!(meet("navigli", "trastevere").as_deref(), Some("italy"));
    assert_eq!(meet("brera", "milan").as_deref(), Some("milan"));
    assert_eq!(meet("milan", "milan").as_deref(), Some("milan"));
    assert_eq!(meet("milan", "atlantis"), None);
}

#[test]
fn a_path_leads_up_and_down_again() {
    let tree = Topology::parse(ITALY).unwrap();
    let path = |a: &str, b: &str| tree.path(&name(a), &name(b)).map(names);
    assert_eq!(
        path("brera", "trastevere").unwrap(),
        ["brera", "milan", "italy", "rome", "trastevere"]
    );
    assert_eq!(path("brera", "italy").unwrap(), ["brera", "milan", "italy"]);
    assert_eq!(path("milan", "navigli").unwrap(), ["milan", "navigli"]);
    assert_eq!(path("rome", "rome").unwrap(), ["rome"]);
    assert_eq!(path("rome", "atlantis"), None);
    assert_eq!(names(tree.on_level("city")), ["milan", "rome"]);
    assert!(tree.on_level("planet").is_empty());
}

#[test]
fn unknown_names_have_no_relatives() {
    let tree = Topology::parse(THREE).unwrap();
    let nobody = name("atlantis");
    assert!(tree.node(&nobody).is_none() && tree.parent(&nobody).is_none());
    assert!(tree.children(&nobody).is_empty() && tree.ancestors(&nobody).is_empty());
    assert!(tree.subtree(&nobody).is_empty());
}

#[test]
fn loads_a_path_or_the_text_itself() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../topology/examples/three-nodes.yaml");
    assert_eq!(Topology::load(path), Topology::parse(THREE));
    assert_eq!(Topology::load(THREE), Topology::parse(THREE));
    let json = r#"{"levels":["one"],"root":{"name":"solo","gateway":"http://localhost:1"}}"#;
    assert_eq!(names(Topology::load(json).unwrap().nodes()), ["solo"]);
    assert_eq!(Topology::load("levels: 3\n").unwrap_err().faults[0].line, 1);

    let error = Topology::load("no/such/file.yaml").unwrap_err();
    assert_eq!(error.faults[0].line, 0);
    assert!(error.to_string().starts_with("the topology \"no/such/file.yaml\" cannot be read"));
}

#[test]
fn all_fields_of_a_node_are_read() {
    let tree = Topology::parse(
        "levels: [one]\n\
         root:\n  \
           name: solo\n  gateway: http://Solo.example.org/\n  \
           internal: http://gateway.openfaas:8080\n  entry: true\n  \
           coordinates: [-45, 9.5]\n  tags: [gpu, '5g']\n",
    )
    .unwrap();
    let solo = tree.root();
    assert_eq!(solo.gateway, "http://solo.example.org");
    assert_eq!(solo.peer_url(), "http://gateway.openfaas:8080");
    assert_eq!(solo.coordinates, Some((-45.0, 9.5)));
    assert_eq!(solo.tags, ["gpu", "5g"]);
}

/// The faults of a text, as `line: message`.
fn faults(text: &str) -> Vec<(usize, String)> {
    let error = Topology::parse(text).expect_err("the text has a fault");
    error.faults.into_iter().map(|fault| (fault.line, fault.message)).collect()
}

#[track_caller]
fn refuses(text: &str, line: usize, what: &str) {
    let faults = faults(text);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!(faults[0].0, line, "{faults:#?}");
    assert!(faults[0].1.contains(what), "{faults:#?}");
}

/// A tree of one node (lines 3 and 4) with more lines from line 5 on.
fn solo(more: &str) -> String {
    format!("levels: [one, two]\nroot:\n  name: solo\n  gateway: http://localhost:1\n{more}")
}

#[test]
fn faults_outside_the_nodes() {
    refuses("", 1, "is empty");
    refuses("# nothing\n", 1, "is empty");
    refuses("- a\n", 1, "is a list");
    refuses("levels: [a\nroot: {}\n", 2, "does not read");
    refuses("levels: [a]\n\nroot:\n\t- x\n", 4, "does not read");
    refuses(&solo("---\na: b\n"), 5, "second document");
    refuses(&solo("  tags: &t [a]\n  coordinates: *t\n"), 6, "aliases");
    refuses(&solo("? [a]\n: b\n"), 5, "a key here is a list");
    refuses(&format!("{}{}", "[".repeat(220), "]".repeat(220)), 1, "nested deeper");
    refuses("levels: [a]\n", 1, "`root` is missing");
    refuses("levels: [a]\nroot:\n", 2, "`root` is missing");
    refuses("levels: [a]\nroot: milan\n", 2, "a node is a single value");
    let tail = "\nroot: {name: a, gateway: 'http://a'}\n";
    refuses(&format!("\n{tail}"), 3, "`levels` is missing");
    refuses(&format!("levels:{tail}"), 1, "`levels` is missing");
    refuses(&format!("levels: []{tail}"), 1, "`levels` is empty");
    refuses(&format!("levels: city{tail}"), 1, "`levels` is a single value");
    refuses(&format!("levels:\n- a\n- b\n- a{tail}"), 4, "`a` is there twice");
    refuses(&format!("levels:\n- a\n-\n- b{tail}"), 3, "a level's name is nothing");
    refuses(&format!("levels: [a]\nlevel: [b]{tail}"), 2, "has `levels`, `root`");
    refuses(&format!("levels: [a]\nlevels: [b]{tail}"), 2, "given on line 1 already");
}

#[test]
fn faults_of_a_node() {
    refuses(&solo("  colour: red\n"), 5, "`colour` is not known here; a node has `name`, ");
    refuses(&solo("  name: again\n"), 5, "`name` was given on line 3 already");
    refuses("levels: [a]\nroot:\n  gateway: http://a\n", 3, "`name` is missing");
    refuses("levels: [a]\nroot:\n  name:\n  gateway: http://a\n", 3, "`name` is missing");
    refuses("levels: [a]\nroot:\n  name: a\n", 3, "`gateway` is missing");
    refuses("levels: [a]\nroot:\n  name: a\n  gateway: ''\n", 4, "`gateway` is a single value");
    refuses("levels: [a]\nroot:\n  name: A b\n  gateway: http://a\n", 3, "lower-case");
    refuses("levels: [a]\nroot:\n  name: a\n  gateway: milan:80/x\n", 4, "`gateway`:");
    refuses(&solo("  internal: http://a/path\n"), 5, "has a path");
    refuses(&solo("  internal:\n"), 5, "`internal` is empty");
    refuses(&solo("  entry: 'true'\n"), 5, "neither `true` nor `false`");
    refuses(&solo("  entry: false\n"), 2, "no node may create sessions");
    refuses(&solo("  children: []\n"), 5, "`children` is empty");
    refuses(&solo("  children:\n"), 5, "`children` is empty");
    refuses(&solo("  children: {name: a}\n"), 5, "`children` is a mapping");
    refuses(&solo("  children:\n    - milan\n"), 6, "a node is a single value");
    refuses(&solo("  tags: gpu\n"), 5, "`tags` are not a list");
    refuses(&solo("  tags:\n  - a\n  - [b]\n"), 7, "a tag is a list");
    for bad in ["[1]", "[1, 2, 3]", "[91, 0]", "[0, 181]", "[a, b]", "[nan, 0]", "['1', 2]", "1"] {
        refuses(&solo(&format!("  coordinates: {bad}\n")), 5, "latitude");
    }
}

#[test]
fn faults_between_nodes() {
    let child = |name: &str, url: &str, more: &str| {
        solo(&format!("  children:\n    - name: {name}\n      gateway: {url}\n{more}"))
    };
    refuses(&child("solo", "http://localhost:2", ""), 6, "`solo` was given on line 3 already");
    refuses(&child("a", "HTTP://localhost:1/", ""), 7, "another node's URL already (line 4)");
    let internal = "      internal: http://localhost:1\n";
    refuses(&child("a", "http://localhost:2", internal), 8, "another node's URL");
    let grandchild = "      children:\n        - {name: b, gateway: 'http://b'}\n";
    refuses(&child("a", "http://localhost:2", grandchild), 9, "is 3 deep, but only 2 levels");
}

#[test]
fn g8_secrets_do_not_belong_into_a_topology() {
    for key in ["password", "peerKey", "session-operator-key", "api_token", "credentials"] {
        let text = solo(&format!("  {key}: hunter2\n"));
        refuses(&text, 5, "looks like a secret");
        assert!(!faults(&text)[0].1.contains("hunter2"));
    }
}

#[test]
fn all_faults_are_reported_at_once_by_line() {
    let text =
        "levels: [a, a]\nroot:\n  name: X\n  children:\n    - gateway: nowhere\n      x: 1\n";
    let error = Topology::parse(text).unwrap_err();
    let lines: Vec<usize> = error.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 3, 3, 5, 5, 5, 6]);
    assert_eq!(error.to_string().lines().count(), 7);
    assert!(error.to_string().lines().all(|line| line.starts_with("line ")));
}

#[test]
fn ten_thousand_nodes_are_no_trouble() {
    use std::fmt::Write;
    let mut text =
        String::from("levels: [a, b, c]\nroot:\n  name: r\n  gateway: http://r\n  children:\n");
    for city in 0..100 {
        write!(text, "  - name: c{city}\n    gateway: http://c{city}\n    children:\n").unwrap();
        for edge in 0..99 {
            let id = city * 100 + edge;
            writeln!(text, "    - {{name: e{id}, gateway: 'http://e{id}'}}").unwrap();
        }
    }
    let tree = Topology::parse(&text).unwrap();
    assert_eq!(tree.nodes().count(), 10_001);
    assert_eq!(tree.children(&tree.root().name).len(), 100);
    // Quadratic lookups would take minutes here.
    for node in tree.nodes() {
        assert!(tree.in_subtree(&name("r"), &node.name));
        assert_eq!(tree.common_ancestor(&node.name, &name("r")), Some(tree.root()));
        assert_eq!(tree.ancestors(&node.name).len(), node.depth);
    }
}
