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
        ("actions: {tries: 0}", "at least 1"),
        (rules, "onload < low < high"),
    ] {
        let error = FileSettings::parse(text).unwrap_err();
        assert!(error.0.contains(says), "{text}: {error}");
    }
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
    let whole = FileSettings::parse(&whole.join("\n")).unwrap();
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
