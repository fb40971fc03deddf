//! Which commands the store asks of Redis: those of its sources, of the table in
//! `docs/configuration.md`, and of the server, which says since when it has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use funicular_tests::redis::RedisServer;
use redis::Value;

const STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/src/store/redis");
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

type Version = Vec<u32>;

fn version(text: &str) -> Option<Version> {
    text.split('.').map(|part| part.parse().ok()).collect()
}

/// The capital words that stand between these marks.
fn words(text: &str, before: &str, after: char) -> BTreeSet<String> {
    let found = text.split(before).skip(1).filter_map(|rest| rest.split(after).next());
    let capital = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase());
    found.filter(capital).map(str::to_owned).collect()
}

fn used() -> BTreeSet<String> {
    let mut found: BTreeSet<String> =
        // The change to the index is named by its caller; the connection greets.
        ["ZADD", "ZREM", "SADD", "INCR", "HELLO"].map(str::to_owned).into();
    let files = |dir: &Path| fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    for file in files(Path::new(STORE)).chain(files(&Path::new(STORE).join("lua"))) {
        if file.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // What the file's own tests play is no command of the store.
        let text = text.split("#[cfg(test)]").next().unwrap();
        found.extend(words(text, "call('", '\''));
        found.extend(words(text, "cmd(\"", '"'));
        found.extend(words(text, "cmd.arg(\"E", '"').iter().map(|rest| format!("E{rest}")));
    }
    found
}

/// The rows of the table: commands, and the version that has them all.
fn documented() -> Vec<(BTreeSet<String>, Version)> {
    let text = fs::read_to_string(DOCS).unwrap();
    let section = text.split("### Which Redis").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split('|');
        let commands = words(&cells.next()?.replace("`, `", "` `"), "`", '`');
        Some((commands, version(cells.next()?.trim())?))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn the_table_names_every_command_and_no_other() {
    let documented: BTreeSet<String> =
        documented().into_iter().flat_map(|(commands, _)| commands).collect();
    assert_eq!(used(), documented);
}

#[test]
fn the_versions_are_those_that_the_server_says() {
    let server = RedisServer::plain();
    let mut checked = 0;
    for (commands, since) in documented() {
        let mut newest = None;
        for command in &commands {
            let Value::Map(docs) = in_pairs(server.cli(&["COMMAND", "DOCS", command])) else {
                panic!("{command}: no documents")
            };
            // An older server does not know it.
            let Some((_, about)) = docs.into_iter().next() else { continue };
            let Value::Map(about) = in_pairs(about) else { panic!("{command}") };
            let about: BTreeMap<String, Value> = about
                .into_iter()
                .map(|(name, value)| (redis::from_redis_value(name).unwrap(), value))
                .collect();
            let said: String = redis::from_redis_value(about["since"].clone()).unwrap();
            newest = newest.max(version(&said));
            checked += 1;
        }
        if newest.is_some() {
            assert_eq!(newest, Some(since), "{commands:?}");
        }
    }
    assert!(checked > 30, "{checked}");
}

/// A map, as servers that speak RESP2 send it.
fn in_pairs(value: Value) -> Value {
    let Value::Array(items) = value else { return value };
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        pairs.push((name, value));
    }
    Value::Map(pairs)
}
