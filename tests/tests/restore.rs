//! A node's Redis is put back to a backup: the other nodes know better.

use std::collections::BTreeMap;

use funicular::http::signature::Role;
use funicular_tests::client::Client;
use funicular_tests::command_line::{Ended, Terminal};
use funicular_tests::redis::RedisServer;
use funicular_tests::tree::{Store, Tree, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// The recovery interval (2 s), and what a loaded machine may take on top.
const RECOVERY: Duration = Duration::from_secs(8);
/// The node that is put back: in the middle of the tree, and home of sessions too.
const NODE: &str = "milan";

/// `funicular restore` for a tree of processes.
fn restore(tree: &Tree, more: &[&str]) -> tokio::task::JoinHandle<Ended> {
    let dir = tree.dir().display().to_string();
    let topology = tree.dir().join("topology.yaml").display().to_string();
    let args = ["restore", NODE, "--function", tree.function()];
    let args = [&args[..], &["--topology", &topology, "--secrets", &dir], more].concat();
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Terminal::open().run(&args)
    })
}

/// Writes a line into a session's log, beginning at `node`.
async fn write(tree: &Tree, node: &str, session: &str, line: &str) {
    let mut client = Client::new(tree.gateway(node), session);
    client.send(Method::POST, "/log", line.to_owned()).await.expect(200);
}

/// What a client reads who begins at `node` with nothing but the id, and over how many
/// hops.
async fn read(tree: &Tree, node: &str, session: &str) -> (Vec<String>, usize) {
    let mut client = Client::new(tree.gateway(node), session);
    let answer = client.send(Method::GET, "/log", "").await.expect(200);
    (answer.json(), answer.hops.len())
}

/// A tree in which much has happened since milan's Redis was copied; its processes stand
/// still.
struct Scene {
    tree: Tree,
    backup: tempfile::TempDir,
}

impl Scene {
    async fn play() -> Self {
        let plan = Tree::italy(Store::Redis("always")).entries(&["milan"]);
        let mut tree = plan.set("reload_interval", "0").start().await;
        for session in ["stays", "up", "down", "back"] {
            write(&tree, "navigli", session, "before").await;
            tree.operator().offload("navigli", session).await;
        }
        for session in ["own", "own-up", "own-away", "own-back"] {
            write(&tree, "milan", session, "before").await;
        }
        for session in ["own-away", "own-back"] {
            tree.operator().offload("milan", session).await;
        }
        write(&tree, "navigli", "passed", "before").await;
        write(&tree, "brera", "other", "before").await;
        let backup = tree.site(NODE).redis().back_up();

        let operator = tree.operator();
        for session in ["up", "back", "own-up"] {
            write(&tree, "milan", session, "between").await;
            operator.offload("milan", session).await;
        }
        operator.onload("navigli", "down").await;
        for session in ["back", "own-back"] {
            operator.onload("milan", session).await;
        }
        for session in ["new", "passed"] {
            write(&tree, "navigli", session, "between").await;
            operator.offload("navigli", session).await;
        }
        operator.offload("milan", "passed").await;
        for session in ["own-new", "own-lost"] {
            write(&tree, "milan", session, "between").await;
        }
        operator.offload("milan", "own-new").await;
        for (session, home) in SESSIONS {
            write(&tree, home, session, "after").await;
            operator.settled(session, RECOVERY).await;
        }
        Self { tree, backup }
    }

    fn redis(&mut self) -> (&mut RedisServer, &tempfile::TempDir) {
        (self.tree.site(NODE).redis(), &self.backup)
    }

    /// The node answers nothing but that it is being restored.
    async fn serves_nothing(&self) {
        let tree = &self.tree;
        until("it says so", async || {
            let mut client = Client::new(tree.gateway(NODE), "own");
            client.send(Method::GET, "/log", "").await.code() == "restoring"
        })
        .await;
        for (session, _) in SESSIONS {
            for method in [Method::GET, Method::POST] {
                let mut client = Client::new(tree.gateway(NODE), session);
                let answer = client.send(method, "/log", "no").await;
                assert_eq!((answer.status, answer.code().as_str()), (503, "restoring"));
                assert!(!answer.header("retry-after").is_empty());
            }
        }
        let operator = tree.operator();
        let moves = [("force-offload", "own"), ("force-onload", "up"), ("test-function", "own")];
        for (endpoint, session) in moves {
            let answer = operator.post(NODE, endpoint, &json!({"session": session})).await;
            assert_eq!((answer.status, &answer.body["code"]), (503, &json!("restoring")));
        }
        let status = operator.status(NODE).await;
        assert!(status.restore.is_some());
        // An offer from below goes on to the next ancestor.
        write(tree, "brera", "offered", "x").await;
        assert_eq!(operator.offload("brera", "offered").await.accepted_by.as_str(), "italy");
        operator.onload("brera", "offered").await;
    }

    /// One owner each, at the right place, and nothing lost that anybody else had.
    async fn is_whole(&self) {
        let both = ["before", "after"];
        let all = ["before", "between", "after"];
        let expected: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::from([
            ("stays", (NODE, vec!["before"])),
            ("back", (NODE, vec!["before"])),
            ("own", (NODE, vec!["before"])),
            ("up", ("italy", all.to_vec())),
            ("own-up", ("italy", all.to_vec())),
            ("down", ("navigli", both.to_vec())),
            ("own-away", ("italy", both.to_vec())),
            ("passed", ("italy", all.to_vec())),
            ("own-new", ("italy", vec!["between", "after"])),
            ("other", ("brera", both.to_vec())),
        ]);
        let tree = &self.tree;
        let operator = tree.operator();
        for (session, (place, lines)) in &expected {
            assert_eq!(operator.settled(session, RECOVERY).await, *place, "{session}");
            for (name, home) in SESSIONS {
                if name == *session {
                    let (read, hops) = read(tree, home, session).await;
                    assert_eq!(read, *lines, "{session}");
                    assert!(hops <= 2, "{session}: {hops}");
                }
            }
            let (read, hops) = read(tree, place, session).await;
            assert_eq!((read, hops), (lines.iter().map(|line| (*line).to_owned()).collect(), 0));
        }
        // What only the lost store had begins anew.
        for (session, home) in [("new", "navigli"), ("own-lost", "milan"), ("own-back", "milan")] {
            until("it begins anew", async || {
                let mut client = Client::new(tree.gateway(home), session);
                client.send(Method::POST, "/log", "anew").await.status == 200
            })
            .await;
            assert_eq!(read(tree, home, session).await, (vec!["anew".to_owned()], 0), "{session}");
        }
        // And all of it is written and moved as ever.
        for session in ["stays", "back", "own"] {
            write(tree, NODE, session, "later").await;
            assert_eq!(operator.offload(NODE, session).await.accepted_by.as_str(), "italy");
            let (read, _) = read(tree, "italy", session).await;
            assert_eq!(read, ["before", "later"], "{session}");
            operator.settled(session, RECOVERY).await;
        }
        operator.onload("navigli", "stays").await;
        assert_eq!(read(tree, "navigli", "stays").await.1, 0);
    }
}

/// Those that are written to the end, and their homes.
const SESSIONS: [(&str, &str); 13] = [
    ("stays", "navigli"),
    ("up", "navigli"),
    ("down", "navigli"),
    ("back", "navigli"),
    ("own", "milan"),
    ("own-up", "milan"),
    ("own-away", "milan"),
    ("own-back", "milan"),
    ("own-new", "milan"),
    ("own-lost", "milan"),
    ("passed", "navigli"),
    ("new", "navigli"),
    ("other", "brera"),
];

/// What the command says of each session that lost something.
fn told(report: &Value) -> BTreeMap<&str, Vec<&str>> {
    let told = report["functions"][0]["sessions"].as_object().expect("the sessions");
    let names = told.iter().map(|(fate, listed)| {
        let listed = listed.as_array().expect("a list").iter();
        let mut names: Vec<_> = listed.filter_map(Value::as_str).collect();
        names.sort_unstable();
        (fate.as_str(), names)
    });
    names.filter(|(_, names)| !names.is_empty()).collect()
}

fn says_what_was_lost(said: &str) {
    let report: Value = serde_json::from_str(said).expect("JSON");
    let expected = BTreeMap::from([
        ("behind", vec!["back"]),
        ("given", vec!["down", "own-up", "up"]),
        // Nobody else has heard of one that was created here and stayed (`own-lost`).
        ("lost", vec!["new", "own-back"]),
    ]);
    assert_eq!(told(&report), expected);
    let fates = &report["functions"][0]["fates"];
    assert_eq!((&fates["kept"], &fates["elsewhere"]), (&json!(2), &json!(2)), "{fates}");
}

#[tokio::test]
async fn g1_a_store_that_was_marked_is_not_served_before_it_is_judged() {
    let mut scene = Scene::play().await;
    scene.tree.site(NODE).kill9();
    let (redis, backup) = scene.redis();
    redis.put_back(backup);
    let url = redis.url();
    let said = restore(&scene.tree, &["--mark", "--store", &url]).await.expect("its end").good();
    assert!(said.contains("serves nothing from it"), "{said}");
    scene.tree.site(NODE).launch();
    scene.tree.site(NODE).ready().await;
    scene.serves_nothing().await;
    // It does not forget that when it is started again.
    scene.tree.site(NODE).restart().await;
    scene.serves_nothing().await;
    let said = restore(&scene.tree, &["--json"]).await.expect("its end").good();
    says_what_was_lost(&said);
    scene.is_whole().await;
    let said = restore(&scene.tree, &["--status"]).await.expect("its end").good();
    assert!(said.contains("serves again from what was restored"), "{said}");
}

#[tokio::test]
async fn g1_a_process_with_a_label_waits_for_the_backup_of_that_name() {
    let mut scene = Scene::play().await;
    // The function is told first; what it serves then ends at once.
    scene.tree.site(NODE).set("FUNICULAR_RESTORED", "the-first");
    scene.tree.site(NODE).restart().await;
    scene.serves_nothing().await;
    let (redis, backup) = scene.redis();
    redis.put_back(backup);
    // The process runs on, and the store that it finds says nothing of a backup.
    scene.serves_nothing().await;
    let said = restore(&scene.tree, &["--json"]).await.expect("its end").good();
    says_what_was_lost(&said);
    scene.is_whole().await;
    // The label is done with.
    scene.tree.site(NODE).restart().await;
    write(&scene.tree, NODE, "own", "again").await;
}

#[tokio::test]
async fn g1_a_replica_that_ran_all_along_is_let_in_by_nobody() {
    let mut scene = Scene::play().await;
    // Nobody told this one; another replica marks the store.
    let (redis, backup) = scene.redis();
    redis.put_back(backup);
    let url = redis.url();
    restore(&scene.tree, &["--mark", "--store", &url]).await.expect("its end").good();
    scene.serves_nothing().await;
    restore(&scene.tree, &[]).await.expect("its end").good();
    scene.is_whole().await;
}

#[tokio::test]
async fn g1_a_restore_waits_for_those_who_may_know_and_can_be_broken_off() {
    let mut scene = Scene::play().await;
    scene.tree.site(NODE).kill9();
    scene.tree.site("navigli").kill9();
    scene.tree.site("trastevere").kill9();
    let (redis, backup) = scene.redis();
    redis.put_back(backup);
    let url = redis.url();
    restore(&scene.tree, &["--mark", "--store", &url]).await.expect("its end").good();
    scene.tree.site(NODE).launch();
    scene.tree.site(NODE).ready().await;
    let late = restore(&scene.tree, &["--wait", "3"]).await.expect("its end");
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.err.contains("navigli does not answer"), "{late:?}");
    scene.tree.site(NODE).restart().await;
    let late = restore(&scene.tree, &["--status"]).await.expect("its end");
    assert_eq!(late.code, 1, "{late:?}");
    // It goes on by itself once everybody answers who has to.
    scene.tree.site("navigli").launch();
    scene.tree.site("navigli").ready().await;
    until("it is done", async || {
        restore(&scene.tree, &["--status"]).await.expect("its end").code == 0
    })
    .await;
    let said = restore(&scene.tree, &["--status", "--json"]).await.expect("its end").good();
    says_what_was_lost(&said);
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(report["functions"][0]["unasked"], json!(["trastevere"]));
    scene.tree.site("trastevere").launch();
    scene.tree.site("trastevere").ready().await;
    scene.is_whole().await;
}

#[tokio::test]
async fn g1_a_node_that_is_gone_is_done_without() {
    let mut scene = Scene::play().await;
    scene.tree.site("navigli").kill9();
    let (redis, backup) = scene.redis();
    redis.put_back(backup);
    let served = restore(&scene.tree, &[]).await.expect("its end");
    assert!(served.code != 0 && served.err.contains("--begin"), "{served:?}");
    let wrong = restore(&scene.tree, &["--without", "atlantis"]).await.expect("its end");
    assert_eq!(wrong.code, 64, "{wrong:?}");
    let call = ["--begin", "--without", "navigli"];
    let said = restore(&scene.tree, &call).await.expect("its end").good();
    assert!(said.contains("given up, and not asked: navigli"), "{said}");
    let operator = scene.tree.operator();
    // What navigli had is kept as the backup has it; the rest is as ever.
    for (session, state) in [("down", "owned"), ("up", "moved"), ("stays", "owned")] {
        let known = operator.whereabouts(NODE, session).await.expect("it is known");
        assert_eq!(known.state, state, "{session}");
    }
    // Should it come back after all, the higher epoch wins once they meet.
    scene.tree.site("navigli").launch();
    scene.tree.site("navigli").ready().await;
    assert_eq!(scene.tree.operator().settled("stays", RECOVERY).await, NODE);
}

#[tokio::test]
async fn g2_what_was_decided_is_on_disk_before_it_is_served() {
    let mut tree = Tree::line(Store::Waitaof).start().await;
    for session in ["up", "stays"] {
        write(&tree, "navigli", session, "before").await;
        tree.operator().offload("navigli", session).await;
    }
    let backup = tree.site(NODE).redis().back_up();
    tree.operator().offload(NODE, "up").await;
    write(&tree, "italy", "up", "after").await;
    tree.operator().settled("up", RECOVERY).await;
    tree.site(NODE).kill9();
    tree.site(NODE).redis().put_back(&backup);
    tree.site(NODE).set("FUNICULAR_RESTORED", "it");
    tree.site(NODE).launch();
    tree.site(NODE).ready().await;
    restore(&tree, &[]).await.expect("its end").good();
    tree.site(NODE).redis().power_loss();
    tree.site(NODE).redis().restart();
    for (session, place) in [("up", "italy"), ("stays", NODE)] {
        assert_eq!(tree.operator().settled(session, RECOVERY).await, place, "{session}");
    }
    assert_eq!(read(&tree, "navigli", "up").await.0, ["before", "after"]);
    assert_eq!(read(&tree, "navigli", "stays").await.0, ["before"]);
}

#[tokio::test]
async fn g8_only_operators_restore_and_only_nodes_name() {
    let tree = Tree::line(Store::Memory).start().await;
    let operator = tree.operator();
    let peer = (Role::Peer, "italy");
    let refused = operator.post_as(peer, "milan", "restore", &json!({"action": "start"})).await;
    assert_eq!(refused.status, 403);
    let refused = operator.post("milan", "name-sessions", &json!({})).await;
    assert_eq!(refused.status, 403);
    write(&tree, "navigli", "s", "a").await;
    operator.offload("navigli", "s").await;
    let named =
        operator.post_as((Role::Peer, "navigli"), "milan", "name-sessions", &json!({})).await;
    assert_eq!(named.expect(200).body["named"][0]["session"], "s");
    let other = operator.post_as((Role::Peer, "italy"), "milan", "name-sessions", &json!({})).await;
    assert_eq!(other.expect(200).body["named"], json!([]));
    // A node in memory is restored too, should anybody ask for it.
    let refused = operator.post("milan", "restore", &json!({})).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("restore-refused")));
    operator.post("milan", "restore", &json!({"begin": true})).await.expect(200);
    until("it serves again", async || {
        let answer = operator.post("milan", "restore", &json!({"action": "show"})).await;
        answer.body["state"] == "done"
    })
    .await;
    assert_eq!(read(&tree, "navigli", "s").await.0, ["a"]);
}
