//! `funicular deploy` and `funicular secret`, with a program in the place of `faas-cli`
//! that writes down how it was called and fails where it is told to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use funicular_tests::client::Client;
use funicular_tests::command_line::{Ended, Terminal};
use funicular_tests::tree::{Store, Tree};
use reqwest::Method;
use serde_json::Value;

const STAND_IN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
printf '%s\n' "$*" >> calls
word=$(cat broken 2>/dev/null || echo nothing)
case "$*" in
    *"$word"*)
        echo "server returned unexpected status code: 500 - no room"
        # As the real one: `secret create` ends with 0 whatever happens.
        [ "$1" = secret ]
        exit $((3 * $?))
        ;;
esac
[ "$1" = secret ] && echo "Created: 202 Accepted"
exit 0
"#;

/// A directory with the stand-in, and the tree of the examples.
struct Site {
    terminal: Terminal,
    italy: String,
}

impl Site {
    fn new() -> Self {
        let terminal = Terminal::open();
        terminal.program("faas-cli", STAND_IN);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let italy = root.join("topology/examples/italy.yaml").display().to_string();
        Self { terminal, italy }
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.terminal.run(&self.complete(args))
    }

    /// The same with the tree and the stand-in.
    fn complete<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let before = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
        let own = ["--topology", &self.italy, "--faas-cli", "./faas-cli"];
        [&args[..before], &own, &args[before..]].concat()
    }

    /// Calls with this word fail.
    fn breaks(&self, word: &str) {
        self.terminal.write("broken", word);
    }

    /// How the stand-in was called since the last look, in no order.
    fn calls(&self) -> BTreeSet<String> {
        let path = self.terminal.path("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

fn secret(port: u16) -> String {
    let file = ".funicular/deploy/topology-DIGEST.yaml";
    format!("secret create topology --from-file {file} --replace --gateway http://127.0.0.1:{port}")
}

fn deploy(node: &str, port: u16, more: &str) -> String {
    format!(
        "deploy --filter cart --gateway http://127.0.0.1:{port} --env LOCATION_ID={node} --env \
         FUNICULAR_FUNCTION=cart --env \
         FUNICULAR_TOPOLOGY=/var/openfaas/secrets/topology --secret session-peer-key \
         --secret session-peer-key-previous --secret session-operator-key --secret \
         topology{more}"
    )
}

/// The calls with the digest of the topology left out.
fn plain(text: &str) -> String {
    match text.split_once("topology-") {
        Some((before, rest)) if rest.len() > 16 && rest[16..].starts_with(".yaml") => {
            format!("{before}topology-DIGEST{}", &rest[16..])
        }
        _ => text.to_owned(),
    }
}

const NODES: [(&str, u16); 6] = [
    ("italy", 8081),
    ("milan", 8082),
    ("navigli", 8083),
    ("brera", 8084),
    ("rome", 8085),
    ("trastevere", 8086),
];

#[test]
fn a_dry_run_prints_the_calls_of_the_nodes_that_are_meant() {
    let site = Site::new();
    for (filters, nodes) in [
        (&[][..], &["italy", "milan", "navigli", "brera", "rome", "trastevere"][..]),
        (&["--level", "district"], &["navigli", "brera", "trastevere"]),
        (&["--area", "milan"], &["milan", "navigli", "brera"]),
        (&["--level", "district", "--area", "milan"], &["navigli", "brera"]),
        (&["--level", "district", "--except", "milan"], &["trastevere"]),
        (
            &["--area", "milan", "--area", "rome", "--except", "brera"],
            &["milan", "navigli", "rome", "trastevere"],
        ),
    ] {
        let args = [&["deploy", "cart", "--dry-run"], filters, &["--", "--label", "a=b"]].concat();
        let printed = site.run(&args).good();
        let mut expected = Vec::new();
        for node in nodes {
            let (_, port) = NODES.iter().find(|(name, _)| name == node).expect("a node");
            expected.push(format!("./faas-cli {}", secret(*port)));
            expected.push(format!("./faas-cli {}", deploy(node, *port, " --label a=b")));
        }
        let printed: Vec<String> = printed.lines().map(plain).collect();
        assert_eq!(printed, expected, "{filters:?}");
    }
    assert!(site.calls().is_empty());
    site.run(&["deploy", "cart", "--level", "planet"]).sentence(64, &["`planet` is no level"]);
    let args = ["deploy", "cart", "--area", "rome", "--except", "italy"];
    site.run(&args).sentence(64, &["no node is left"]);
}

#[test]
fn what_fails_at_one_node_is_named_and_the_next_run_does_only_that() {
    let site = Site::new();
    site.breaks("LOCATION_ID=rome");
    let ended = site.run(&["deploy", "cart"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(
        ended.err,
        "funicular: 1 node failed: rome; run it again, and only what is missing is done\n"
    );
    for line in [
        "milan: done",
        "rome: failed, exit status: 3",
        "5 nodes done",
        "`rome` failed: exit status: 3",
        "  | server returned unexpected status code: 500 - no room",
        &format!("  ./faas-cli {}", deploy("rome", 8085, "")),
    ] {
        assert!(ended.out.lines().any(|said| said == line), "{line:?} is not in\n{}", ended.out);
    }
    let calls = site.calls();
    assert_eq!(calls.len(), 12, "the rest went on: {calls:#?}");
    for (node, port) in NODES {
        assert!(calls.contains(&deploy(node, port, "")), "{node}: {calls:#?}");
    }

    // A dry run says what is left.
    let left = site.run(&["deploy", "cart", "--dry-run"]).good();
    assert_eq!(left.lines().count(), 3, "{left}");
    assert!(
        left.ends_with(
            "# done already (--again does it again): italy, milan, navigli, brera, trastevere\n"
        ),
        "{left}"
    );

    site.breaks("nothing");
    let said = site.run(&["deploy", "cart"]).good();
    assert_eq!(said, "rome: done\n1 node done, 5 already\n");
    let calls: BTreeSet<String> = site.calls().iter().map(|call| plain(call)).collect();
    assert_eq!(calls, [secret(8085), deploy("rome", 8085, "")].into());
    let said = site.run(&["deploy", "cart", "--json"]).good();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (said["done"].as_array().map(Vec::len), said["before"].as_array().map(Vec::len)),
        (Some(0), Some(6))
    );
    assert!(site.calls().is_empty());

    // Other arguments, another stack file, or the wish: done again.
    site.run(&["deploy", "cart", "--level", "city", "--", "--label", "a=b"]).good();
    assert_eq!(site.calls().len(), 4);
    site.run(&["deploy", "cart", "--level", "city", "--again", "--", "--label", "a=b"]).good();
    assert_eq!(site.calls().len(), 4);
    site.terminal.write("stack.yml", "functions: {}");
    site.run(&["deploy", "cart", "--level", "city", "--", "--label", "a=b"]).good();
    assert_eq!(site.calls().len(), 4);
}

#[test]
fn another_value_of_what_the_stack_file_names_is_deployed() {
    let site = Site::new();
    let image = "functions: {cart: {image: 'cart:${FUNICULAR_TAG:-latest}'}}";
    site.terminal.write("own.yml", image);
    for file in ["-f own.yml", "-fown.yml"] {
        let args: Vec<&str> = ["deploy", "cart", "--"].into_iter().chain(file.split(' ')).collect();
        for (tag, said) in
            [("1", "6 nodes done\n"), ("1", "0 nodes done, 6 already\n"), ("2", "6 nodes done\n")]
        {
            let args = site.complete(&args);
            let out = site.terminal.with_variable("FUNICULAR_TAG", tag, &args).good();
            assert!(out.ends_with(said), "{file}, {tag}: {out}");
        }
    }
}

#[test]
fn nobody_has_to_read_what_it_says() {
    let site = Site::new();
    site.terminal.unread(&site.complete(&["deploy", "cart"])).good();
    assert_eq!(site.calls().len(), 12);
    // Nor what failed.
    site.breaks("LOCATION_ID=rome");
    let ended = site.terminal.unread(&site.complete(&["deploy", "cart", "--again"]));
    ended.sentence(1, &["1 node failed: rome"]);
    assert_eq!(site.calls().len(), 12);
}

#[test]
fn a_secret_that_the_gateway_does_not_take_is_a_failure_too() {
    let site = Site::new();
    site.breaks("http://127.0.0.1:8086");
    let ended = site.run(&["deploy", "cart", "--level", "district"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("`trastevere` failed: the gateway did not take it"), "{ended:?}");
    assert!(!site.calls().contains(&deploy("trastevere", 8086, "")), "it is not deployed there");
    let none = ["deploy", "cart", "--topology", &site.italy, "--faas-cli", "./no-such-program"];
    let ended = site.terminal.run(&none);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("./no-such-program cannot be run"), "{ended:?}");
}

#[test]
fn g8_secrets_are_made_once_and_given_to_every_node() {
    let site = Site::new();
    let args = ["secret", "create", "--level", "city"];
    let dry = site.run(&[&args[..], &["--dry-run"]].concat()).good();
    site.run(&args).good();
    let calls = site.calls();
    assert_eq!(calls.len(), 6);
    for call in &calls {
        assert!(dry.contains(&format!("./faas-cli {call}\n")), "{call} is not in {dry}");
        assert!(!call.contains("--replace"), "{call}");
    }
    let key = |name: &str| {
        let path: PathBuf = site.terminal.path(".funicular").join(name);
        let mode = fs::metadata(&path).expect("the key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        fs::read_to_string(path).expect("the key")
    };
    let peer = key("session-peer-key");
    assert_eq!(peer.len(), 64);
    assert_eq!(key("session-peer-key-previous"), peer);
    assert_ne!(key("session-operator-key"), peer);
    site.run(&args).good();
    assert_eq!(key("session-peer-key"), peer);
    let _ = site.calls();
    site.breaks("http://127.0.0.1:8085");
    let ended = site.run(&[&args[..], &["--replace"]].concat());
    assert_eq!((ended.code, ended.err.contains("1 node failed: rome")), (1, true), "{ended:?}");
    assert!(site.calls().iter().all(|call| call.contains("--replace")));
}

/// `funicular secret rotate` for a tree whose nodes read its directory.
fn rotate(tree: &Tree, more: &[&str]) -> tokio::task::JoinHandle<Ended> {
    let dir = tree.dir().display().to_string();
    let topology = tree.dir().join("topology.yaml").display().to_string();
    let args = ["secret", "rotate", "--in-place", "--function", "probe", "--topology", &topology];
    let args = [&args[..], &["--secrets", &dir], more].concat();
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Terminal::open().run(&args)
    })
}

#[tokio::test]
async fn g8_a_rotation_refuses_no_call_and_goes_on_where_it_was_broken_off() {
    let mut tree = Tree::line(Store::Memory).set("reload_interval", "50ms").start().await;
    let key = tree.dir().join("session-peer-key");
    let key = || fs::read_to_string(&key).expect("the key");
    let old = key();
    let before = tree.operator().status("milan").await.peer_keys;
    let mut client = Client::new(tree.gateway("navigli"), "ada");
    client.send(Method::POST, "/log", "a").await.expect(200);

    // A node that does not answer: nothing is switched.
    tree.site("italy").kill9();
    let ended = rotate(&tree, &["--wait", "1"]).await.expect("its end");
    ended.sentence(69, &["first `italy`", "run it again"]);
    assert_eq!(key(), old);
    tree.site("italy").launch();
    tree.site("italy").ready().await;

    let operator = tree.operator();
    let rotating = rotate(&tree, &[]);
    let mut moves = 0;
    while !rotating.is_finished() {
        operator.offload("navigli", "ada").await;
        operator.onload("navigli", "ada").await;
        moves += 2;
    }
    assert!(rotating.await.expect("its end").good().ends_with("the key is rotated\n"));
    assert!(moves > 2, "{moves}");
    let after = operator.status("milan").await.peer_keys;
    assert!(after.iter().all(|key| *key == after[0] && *key != before[0]), "{after:?}");
    assert_ne!(key(), old);
    assert!(!tree.dir().join("session-peer-key-next").exists());
    operator.offload("navigli", "ada").await;
    for node in tree.nodes().collect::<Vec<_>>() {
        let log = tree.site(node).log();
        assert!(!log.contains("a call was refused"), "{node}: {log}");
    }
}
