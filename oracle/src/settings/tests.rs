use std::collections::BTreeMap;

use super::*;

const TOPOLOGY: &str = "{levels: [a, b], root: {name: italy, gateway: 'http://italy.test', \
    internal: 'http://10.0.0.1:8080', children: [{name: milan, gateway: 'http://milan.test'}]}}";

fn lookup(dir: &Path) -> BTreeMap<String, String> {
    std::fs::write(dir.join("session-operator-key"), "0123456789abcdef").unwrap();
    [
        ("LOCATION_ID", "milan"),
        ("FUNICULAR_TOPOLOGY", TOPOLOGY),
        ("FUNICULAR_SECRETS", dir.to_str().unwrap()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[test]
fn settings_are_read_with_their_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let good = lookup(dir.path());
    let settings = Settings::read(&good).unwrap();
    assert_eq!(settings.here.gateway, "http://milan.test");
    assert_eq!(settings.above[0].gateway, "http://10.0.0.1:8080");
    assert_eq!((settings.port, settings.observe), (8082, false));
    assert_eq!(settings.store.as_deref(), Some("redis://redis:6379/0"));
    assert_eq!((settings.file, settings.login), (FileSettings::default(), None));
    std::fs::write(dir.path().join("basic-auth-password"), "secret\n").unwrap();
    let login = Settings::read(&good).unwrap().login;
    assert_eq!(login, Some(("admin".to_owned(), "secret".to_owned())));
}

#[test]
fn wrong_settings_are_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let good = lookup(dir.path());
    let file = dir.path().join("oracle.yaml");
    std::fs::write(&file, "policy: {moves: 0}").unwrap();
    for (name, value, says) in [
        ("LOCATION_ID", "", "LOCATION_ID is not set"),
        ("LOCATION_ID", "rome", "which the topology lacks"),
        ("FUNICULAR_TOPOLOGY", "", "FUNICULAR_TOPOLOGY is not set"),
        ("FUNICULAR_SECRETS", "/nowhere", "create the secrets"),
        ("ORACLE_PORT", "many", "does not read"),
        ("ORACLE_FUNCTIONS", "cart, Not One", "ORACLE_FUNCTIONS"),
        ("ORACLE_OBSERVE", "maybe", "say true or false"),
        ("ORACLE_CONFIG", "/nowhere", "cannot be read"),
        ("ORACLE_CONFIG", file.to_str().unwrap(), "above zero"),
    ] {
        let mut settings = good.clone();
        settings.insert(name.to_owned(), value.to_owned());
        let error = Settings::read(&settings).unwrap_err();
        assert!(error.0.contains(says), "{name}={value}: {error}");
    }
    std::fs::remove_file(dir.path().join("session-operator-key")).unwrap();
    std::fs::write(dir.path().join("session-peer-key"), "0123456789abcdefg").unwrap();
    assert!(Settings::read(&good).unwrap_err().0.contains("no session-operator-key"));
}

#[test]
fn the_file_has_a_default_for_everything_and_refuses_what_it_does_not_know() {
    assert_eq!(FileSettings::parse("").unwrap(), FileSettings::default());
    let text = serde_yaml_ng::to_string(&FileSettings::default()).unwrap();
    assert_eq!(FileSettings::parse(&text).unwrap(), FileSettings::default());
    let rules = "policy: {rules: [{name: x, signals: [x], high: 1, low: 2, onload: 0}]}";
    for (text, says) in [
        ("tick: soon", "duration"),
        ("tock: 1s", "unknown field"),
        ("tick: 1ms", "at least 10ms"),
        ("policy: {victims: nobody}", "unknown variant"),
        ("signals: {stale_after: 1s}", "stale_after"),
        ("sources: {prometheus: {url: u, queries: [], timeout: 0s}}", "at least 10ms"),
        ("actions: {tries: 0}", "at least 1"),
        (rules, "onload < low < high"),
    ] {
        let error = FileSettings::parse(text).unwrap_err();
        assert!(error.0.contains(says), "{text}: {error}");
    }
}

/// Each source with a pace that the usual `stale_after` of 15 s is too short for.
#[test]
fn a_source_that_is_asked_too_seldom_is_refused_by_name() {
    for (source, given) in [
        ("status", "status: {every: 14s, timeout: 2s}"),
        ("redis", "redis: {every: 15s}"),
        ("redis", "redis: {every: 5s, timeout: 11s}"),
        ("machine", "machine: {every: 15s}"),
        ("prometheus", "prometheus: {url: u, queries: [], every: 20s}"),
        ("metrics_server", "metrics_server: {every: 30s}"),
    ] {
        let text = format!("sources: {{{given}}}");
        let error = FileSettings::parse(&text).unwrap_err();
        let says = format!("one answer of sources.{source} to the next");
        assert!(error.0.contains(&says) && error.0.contains("stale_after is 15s"), "{error}");
        // What there is time for is taken.
        FileSettings::parse(&format!("signals: {{stale_after: 40s}}\n{text}")).unwrap();
    }
    for taken in [
        "machine: {every: 14s}",
        "machine: {enabled: false, every: 1m}",
        "redis: {enabled: false, every: 1m}",
        "metrics_server: {every: 10s, timeout: 5s}",
    ] {
        FileSettings::parse(&format!("sources: {{{taken}}}")).unwrap();
    }
    let error = FileSettings::parse("tick: 15s").unwrap_err();
    assert!(error.0.contains("or tick"), "{error}");
}

#[test]
fn a_signal_that_two_sources_say_is_refused_with_what_to_do() {
    let node = "metrics_server: {node: {name: w, size: {cpus: 4, memory: 8}}}";
    let query = |signal: &str, label: &str| {
        format!("prometheus: {{url: u, queries: [{{signal: {signal}, query: q{label}}}]}}")
    };
    let of_function = ", function_label: f";
    let pod = "metrics_server: {pod: {cpus: 1, memory: 8}}";
    let twice = "prometheus: {url: u, queries: [{signal: errors, query: a}, \
        {signal: errors, query: b}]}";
    for (given, says, remedy) in [
        (node.to_owned(), "`cpu` of the node", "`machine: {enabled: false}`, or leave"),
        (query("memory", ""), "machine and by a query", "or give the query another name"),
        (query("redis-bytes", ""), "sources.redis", "switch redis off"),
        (query("sessions", of_function), "`sessions` of a function", "count: give the query"),
        (format!("{pod}, {}", query("cpu", of_function)), "`cpu` of a function", "pod out, or"),
        (twice.to_owned(), "`errors` of the node", "count: give the query another name"),
    ] {
        let text = format!("sources: {{{given}}}");
        let error = FileSettings::parse(&text).unwrap_err();
        assert!(error.0.contains(says) && error.0.contains(remedy), "{text}: {error}");
    }
    for taken in [
        format!("machine: {{enabled: false}}, {node}"),
        // Of the node and of a function are two: the function's own goes before the node's.
        query("cpu", of_function),
        pod.to_owned(),
        "metrics_server: {node: {name: w, size: {cpus: 0, memory: 0}}}".to_owned(),
    ] {
        FileSettings::parse(&format!("sources: {{{taken}}}")).unwrap();
    }
}

/// The files that come with Funicular.
#[test]
fn files_of_this_repository_are_taken() {
    for name in ["topology/compose/oracle.yaml", "scripts/demo-oracle.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        FileSettings::load(&path).unwrap();
    }
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../topology/kubernetes/base/oracle.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, file) = text.split_once("  oracle.yaml: |\n").unwrap();
    let (file, _) = file.split_once("\n---").unwrap();
    FileSettings::parse(file).unwrap();
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_page_lists_every_variable_and_every_default() {
    let page = page("oracle.md");
    for (name, default) in VARIABLES {
        let line = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let line = line.unwrap_or_else(|| panic!("docs/oracle.md lacks {name}"));
        assert!(default.is_empty() || line.contains(default), "{name}: {default}: {line}");
    }
    let (_, file) = page.split_once("```yaml\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    assert_eq!(FileSettings::parse(file).unwrap(), FileSettings::default());
    // What is commented out there reads too, and every setting is named.
    let whole: Vec<_> = file
        .lines()
        .map(|line| line.strip_prefix("  # ").map_or(line.to_owned(), |it| format!("  {it}")))
        .collect();
    let whole = whole.join("\n");
    // Which one says the node's `cpu` is for the reader to choose, as a comment there says.
    let error = FileSettings::parse(&whole).unwrap_err();
    assert!(error.0.contains("switch machine off"), "{error}");
    let whole = whole.replace("machine: {enabled: true", "machine: {enabled: false");
    let whole = FileSettings::parse(&whole).unwrap();
    assert!(whole.sources.prometheus.is_some() && whole.sources.metrics_server.is_some());
    let text = serde_yaml_ng::to_string(&whole).unwrap();
    for line in text.lines() {
        let Some((name, _)) = line.trim().trim_start_matches("- ").split_once(':') else {
            continue;
        };
        let optional = ["combine"].contains(&name);
        assert!(optional || page.contains(&format!("{name}:")), "docs/oracle.md lacks {name}");
    }
}

#[test]
fn the_page_of_metrics_lists_every_one() {
    let page = page("metrics.md");
    let sources = [include_str!("../metrics.rs"), include_str!("../../../runtime/src/metrics.rs")];
    for source in sources {
        for name in source.split('"').filter(|it| it.starts_with("funicular_")) {
            assert!(page.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
        }
    }
}
