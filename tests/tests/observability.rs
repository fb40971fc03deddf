//! What operators watch a tree with, against the real thing: every alert fires in a real
//! Prometheus because of a real fault, and alerts, dashboard and pages name what real
//! processes export.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use funicular_tests::client::Client;
use funicular_tests::oracle::Oracle;
use funicular_tests::prometheus::Prometheus;
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use serde_json::{Value, json};

const ALERTS: &str = "topology/observability/alerts.yaml";
const DASHBOARD: &str = "topology/observability/grafana.json";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_yaml_ng::from_str(&read(ALERTS)).expect("YAML");
    rules["groups"][0]["rules"].as_array().expect("rules").clone()
}

fn alerts() -> BTreeSet<String> {
    rules().iter().map(|rule| rule["alert"].as_str().expect("a name").to_owned()).collect()
}

/// The shipped rules, but quick: an alert has to hold for a second.
fn hasty_rules() -> String {
    let mut rules = rules();
    for rule in &mut rules {
        if let Some(time) = rule.get_mut("for") {
            *time = json!("1s");
        }
    }
    let group = json!({"groups": [{"name": "funicular", "interval": "500ms", "rules": rules}]});
    serde_yaml_ng::to_string(&group).expect("YAML")
}

/// The expressions of the dashboard: its panels', its annotations' and its variables'.
fn expressions() -> Vec<(String, String)> {
    fn walk(value: &Value, title: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) => {
                let title = members.get("title").and_then(Value::as_str).unwrap_or(title);
                if let Some(expression) = members.get("expr").and_then(Value::as_str) {
                    found.push((title.to_owned(), expression.to_owned()));
                }
                members.values().for_each(|member| walk(member, title, found));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, title, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    walk(&dashboard, "", &mut found);
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(of) = variable["definition"].as_str() {
            let inner = of.trim_start_matches("label_values(").split(',').next().expect("a name");
            found.push((format!("variable {}", variable["name"]), inner.to_owned()));
        }
    }
    found
}

fn is_ours(name: &str) -> bool {
    name.starts_with("funicular_") || name.starts_with("http_request")
}

/// The metrics that an expression asks for.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| is_ours(word)).collect()
}

/// A metric as pages and code name it: a histogram is exported under three names.
fn exported_for(name: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"];
    parts.into_iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}

/// The first column of the tables of `docs/metrics.md`.
fn documented() -> BTreeSet<String> {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

/// The names that the code registers.
fn in_the_code() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in ["requests", "node", "store"] {
        found.insert(read(&format!("runtime/src/metrics/{file}.rs")));
    }
    found.insert(read("oracle/src/metrics.rs"));
    let text: String = found.into_iter().collect();
    let quoted = text.split('"').skip(1).step_by(2).filter(|word| is_ours(word));
    quoted.map(str::to_owned).collect()
}

fn promtool(args: &[&str]) {
    let mut command = Command::new("promtool");
    let output = command.args(args).current_dir(root()).output();
    let output = output.expect("there is no promtool here: run scripts/setup-tests.sh");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn alerts_are_rules_that_fire_in_time_and_not_before() {
    promtool(&["check", "rules", ALERTS]);
    promtool(&["test", "rules", "tests/observability/alerts.yaml"]);
    let cases: Value = serde_yaml_ng::from_str(&read("tests/observability/alerts.yaml")).unwrap();
    let cases = cases["tests"].as_array().expect("tests").iter();
    let tried: BTreeSet<_> = cases.filter_map(|case| case["name"].as_str()).collect();
    for alert in alerts() {
        assert!(tried.contains(alert.as_str()), "tests/observability/alerts.yaml lacks {alert}");
    }
}

#[test]
fn each_alert_says_what_it_means_and_what_to_do() {
    let page = read("docs/observability.md");
    for rule in rules() {
        let alert = rule["alert"].as_str().expect("a name");
        let said = &rule["annotations"];
        for what in ["summary", "description"] {
            assert!(said[what].as_str().is_some_and(|text| text.len() > 20), "{alert}: {what}");
        }
        let link = said["runbook_url"].as_str().expect("a link");
        let expected = format!("/docs/observability.md#{}", alert.to_lowercase());
        assert!(link.ends_with(&expected), "{alert}: {link}");
        assert!(page.contains(&format!("### {alert}\n")), "docs/observability.md lacks {alert}");
        assert!(["critical", "warning"].map(Some).contains(&rule["labels"]["severity"].as_str()));
    }
    let explained = page.lines().filter(|line| line.starts_with("### Funicular")).count();
    assert_eq!(explained, alerts().len());
}

#[test]
fn pages_alerts_and_dashboard_name_metrics_that_the_code_has() {
    let code = in_the_code();
    assert_eq!(documented(), code);
    for rule in rules() {
        for metric in metrics_in(rule["expr"].as_str().expect("an expression")) {
            assert!(code.contains(exported_for(metric)), "{}: {metric}", rule["alert"]);
        }
    }
    for (title, expression) in expressions() {
        for metric in metrics_in(&expression) {
            assert!(code.contains(exported_for(metric)), "{title}: {metric}");
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_loads() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 39));
    // A datasource is chosen when it is looked at, and its own `id` is given by Grafana.
    assert!(dashboard.get("id").is_none());
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert_eq!(variables[0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut taken = BTreeMap::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(x < 24);
                assert_eq!(taken.insert((x, y), title), None, "{title}");
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(!panel["targets"].as_array().expect("targets").is_empty(), "{title}");
        }
    }
    for row in ["Requests", "Sessions and moves", "Stores", "Oracle"] {
        assert!(panels.iter().any(|panel| panel["type"] == "row" && panel["title"] == row));
    }
}

/// A tree under watch.
struct Watched {
    tree: Tree,
    oracle: Oracle,
    prometheus: Prometheus,
    fired: BTreeSet<String>,
}

const ORACLE: &str = "
tick: 100ms
signals: {time_constant: 100ms, stale_after: 5s}
policy:
  rules: [{name: memory, signals: [redis-memory], high: 0.85, low: 0.7, onload: 0.55}]
  cooldown: 1s
  dwell: 1s
sources:
  status: {every: 200ms}
  redis: {every: 200ms, timeout: 1s}
  machine: {enabled: false}
actions: {lease: 1s}
";

impl Watched {
    async fn start() -> Self {
        let tree = Tree::line(Store::Redis("always")).with_metrics();
        let tree = tree.set("reload_interval", "200ms").set("peer_timeout", "500ms").start().await;
        let oracle = tree.oracle("navigli", ORACLE).await;
        let of = |node| tree.metrics(node).expect("its metrics");
        let jobs = [
            ("funicular", ["italy", "milan", "navigli"].map(of).to_vec()),
            ("funicular-oracle", vec![oracle.address()]),
        ];
        let jobs = jobs.map(
            |(name, targets)| json!({"job_name": name, "static_configs": [{"targets": targets}]}),
        );
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": jobs,
        });
        let prometheus = Prometheus::start(&config.to_string(), &hasty_rules()).await;
        let watched = Self { tree, oracle, prometheus, fired: BTreeSet::new() };
        until("everything is scraped, and an oracle acts", async || {
            let up = watched.is("sum(up)", 4.0).await;
            up && watched.is("sum(funicular_oracle_acting)", 1.0).await
        })
        .await;
        watched
    }

    async fn is(&self, expression: &str, value: f64) -> bool {
        let found = self.prometheus.query(expression).await.expect("a value");
        let found = found.first().and_then(|it| it["value"][1].as_str()?.parse::<f64>().ok());
        found == Some(value)
    }

    fn client(&self, session: &str) -> Client {
        Client::new(self.tree.gateway("navigli"), session)
    }

    /// Waits until these alerts have fired; `meanwhile` is what makes them.
    async fn fires(&mut self, alerts: &[&str], meanwhile: impl AsyncFn(&Tree)) {
        let (tree, prometheus) = (&self.tree, &self.prometheus);
        let fired = &mut self.fired;
        until(&format!("{alerts:?} fire"), async || {
            meanwhile(tree).await;
            fired.extend(prometheus.firing().await);
            alerts.iter().all(|alert| fired.contains(*alert))
        })
        .await;
    }

    async fn offload(tree: &Tree, session: &str) -> u16 {
        let session = json!({"session": session});
        tree.operator().post("navigli", "force-offload", &session).await.status
    }
}

async fn nothing(_: &Tree) {}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_fires_for_a_real_fault_and_every_metric_is_there() {
    let mut watched = Watched::start().await;
    watched.fired.extend(watched.prometheus.firing().await);
    assert_eq!(watched.fired, BTreeSet::new());

    // Handlers that are slow and that fail, a move that keeps its writers waiting, a value
    // that its receiver will not have, a topology that does not read.
    let mut one = watched.client("one");
    one.send(Method::POST, "/log", "a").await.expect(200);
    let held = watched.tree.hold("milan", "target.frozen");
    let (status, ()) = tokio::join!(Watched::offload(&watched.tree, "one"), async {
        held.reached().await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        held.release();
    });
    assert_eq!(status, 200);
    assert_eq!(one.send(Method::POST, "/log", "b").await.expect(200).hops.len(), 1);
    let mut two = watched.client("two");
    two.send(Method::POST, "/propagate?levels=city", "taken").await.expect(200);
    two.send(Method::POST, "/propagate?levels=city", "never").await.expect(200);
    let topology = watched.tree.dir().join("topology.yaml");
    fs::write(&topology, "levels: [").unwrap();
    let base = watched.client("three");
    let at_once = [
        "FunicularMovesSlow",
        "FunicularRequestsSlow",
        "FunicularRequestsFail",
        "FunicularMessagesDropped",
        "FunicularTopologyRefused",
    ];
    watched
        .fires(&at_once, async |_| {
            let (mut slow, mut broken) = (base.clone(), base.session("four"));
            let slow = slow.send(Method::POST, "/slow?ms=1100", "x");
            tokio::join!(slow, broken.send(Method::POST, "/panic", "x"));
        })
        .await;
    fs::write(&topology, watched.tree.topology()).unwrap();

    // No room in Redis; the oracle sees it and decides.
    watched.tree.site("navigli").redis().cli(&["CONFIG", "SET", "maxmemory", "1"]);
    watched
        .fires(&["FunicularRedisFull"], async |_| {
            let mut three = base.clone();
            let _ = three.try_send(Method::POST, "/log", "x".into(), &[]).await;
        })
        .await;
    let prometheus = &watched.prometheus;
    until("the oracle has acted", async || {
        prometheus.names().await.contains("funicular_oracle_actions_total")
    })
    .await;
    watched.tree.site("navigli").redis().cli(&["CONFIG", "SET", "maxmemory", "1gb"]);
    until("the oracle is calm", async || {
        let room = "max(funicular_oracle_signal{signal=\"redis-memory\"}) < 0.5";
        !watched.prometheus.query(room).await.expect("a value").is_empty()
    })
    .await;

    // A node is lost while a message is for it.
    watched.tree.site("milan").kill9();
    // The oracle may have moved those that were there.
    let mut five = base.session("five");
    five.send(Method::POST, "/propagate?levels=city", "stuck").await.expect(200);
    let of_a_lost_node =
        ["FunicularProcessSilent", "FunicularNodeUnreachable", "FunicularMessagesStuck"];
    watched.fires(&of_a_lost_node, nothing).await;

    // And the one above it: nobody takes a session.
    watched.tree.site("italy").kill9();
    base.session("six").send(Method::POST, "/log", "x").await.expect(200);
    watched
        .fires(&["FunicularMovesFail"], async |tree| {
            Watched::offload(tree, "six").await;
        })
        .await;
    // It comes back with a backup.
    watched.tree.site("italy").set("FUNICULAR_RESTORED", "yesterday");
    watched.tree.site("italy").launch();
    watched.tree.site("italy").ready().await;
    watched.fires(&["FunicularRestoring", "FunicularSessionsInDoubt"], nothing).await;

    watched.tree.site("navigli").redis().kill9();
    watched.fires(&["FunicularStoreFails", "FunicularOracleBlind"], nothing).await;
    assert!(watched.oracle.terminate().await);
    watched.fires(&["FunicularNoOracle"], nothing).await;
    assert_eq!(watched.fired, alerts());

    // By now everything was exported: what pages and dashboard name is there, and no more.
    let seen = watched.prometheus.names().await;
    let ours: BTreeSet<_> = seen
        .iter()
        .filter(|name| is_ours(name))
        .map(|name| exported_for(name).to_owned())
        .collect();
    assert_eq!(ours, documented());
    for (title, expression) in expressions() {
        for metric in metrics_in(&expression) {
            assert!(seen.contains(metric), "{title}: nobody exports {metric}");
        }
        let filled = expression
            .replace("$__rate_interval", "1m")
            .replace("$node", ".*")
            .replace("$function", ".*");
        let answer = watched.prometheus.query(&filled).await;
        assert!(answer.is_ok(), "{title}: {answer:?}");
    }
}

/// The fields of each line that a node has logged.
fn lines(tree: &mut Tree, node: &str) -> Vec<Value> {
    let log = tree.site(node).log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|line| line["fields"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_about_a_session_name_it_and_its_place_alike_and_a_move_says_what_it_took() {
    let tree = Tree::line(Store::Memory).set("FUNICULAR_LOG_FORMAT", "json");
    let mut tree = tree.set("FUNICULAR_LOG", "funicular=debug").start().await;
    let mut client = Client::new(tree.gateway("navigli"), "not-to-be-logged");
    client.send(Method::POST, "/log", "a").await.expect(200);
    assert_eq!(Watched::offload(&tree, "not-to-be-logged").await, 200);
    client.send(Method::POST, "/log", "b").await.expect(200);
    let mut hashes = BTreeSet::new();
    for node in ["navigli", "milan"] {
        let lines = lines(&mut tree, node);
        let about: Vec<_> = lines.iter().filter(|line| line.get("session").is_some()).collect();
        assert!(about.len() >= 3, "{lines:#?}");
        for line in about {
            assert_eq!((&line["node"], &line["function"]), (&json!(node), &json!("probe")));
            hashes.insert(line["session"].to_string());
        }
        assert!(!tree.site(node).log().contains("not-to-be-logged"));
    }
    assert_eq!(hashes.len(), 1, "{hashes:?}");
    let lines = lines(&mut tree, "milan");
    let of = |message: &str| {
        let found = lines.iter().position(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("{message:?} is not in {lines:#?}"))
    };
    let [begun, installed, done] = ["a move begins", "installed", "the move is done"].map(of);
    assert!(begun < installed && installed < done);
    for place in [begun, installed, done] {
        let line = &lines[place];
        assert_eq!((&line["epoch"], &line["from"]), (&json!(2), &json!("navigli")), "{line}");
    }
    let done = &lines[done];
    for number in ["bytes", "rounds", "took_ms", "downtime_ms"] {
        assert!(done[number].is_number(), "{done}");
    }
}
