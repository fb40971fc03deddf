//! `funicular` as an operator types it: what it prints, and how it ends.

use std::net::TcpListener;

use funicular_tests::client::Client;
use funicular_tests::cluster::RedisCluster;
use funicular_tests::command_line::Terminal;
use funicular_tests::process::signal;
use funicular_tests::redis::Setup;
use reqwest::Method;
use serde_json::{Value, json};

const ITEM: &str = r#"{"sku":"apple","count":2}"#;

async fn add(terminal: &Terminal, session: &str) {
    let mut client = Client::new(terminal.gateway("navigli", "cart"), session);
    client.send(Method::POST, "/items", ITEM).await.expect(201);
}

async fn items(terminal: &Terminal, session: &str) -> (usize, usize) {
    let mut client = Client::new(terminal.gateway("navigli", "cart"), session);
    let answer = client.send(Method::GET, "/items", "").await.expect(200);
    (answer.json::<Vec<Value>>().len(), answer.hops.len())
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_tree_is_up_with_one_command() {
    let terminal = Terminal::open();
    let up = terminal.up(&[]);
    let greeting = up.greeting.join("\n");
    for node in ["italy", "milan", "navigli"] {
        let line = up.greeting.iter().find(|line| line.contains(node)).expect(node);
        assert!(line.contains(&format!("http://127.0.0.1:{}", terminal.port(node))), "{line}");
        for function in ["cart", "cdn", "empty", "work"] {
            let url = format!("{}/_/ready", terminal.gateway(node, function));
            assert_eq!(reqwest::get(url).await.expect("an answer").status(), 200);
        }
    }
    assert!(greeting.contains("/function/cart") && greeting.contains("memory"), "{greeting}");
    let stray = reqwest::get(terminal.gateway("italy", "nothing")).await.expect("an answer");
    assert_eq!(stray.status(), 404);
    let (code, lines) = up.stop();
    assert_eq!((code, lines.last().map(String::as_str)), (0, Some("stopping")));
}

#[tokio::test]
async fn a_session_is_moved_and_found_by_command() {
    let terminal = Terminal::open();
    let up = terminal.up(&[]);
    add(&terminal, "ada").await;
    let place = |text: &str| json_of(text)["location"].clone();
    // The tree that runs is found without being named.
    let found = terminal.run(&["where", "ada", "--function", "cart"]).good();
    assert!(found.starts_with("`navigli` holds the session (its home)"), "{found}");

    let offload = ["offload", "ada", "--function", "cart", "--node", "navigli"];
    let moved = terminal.run(&offload).good();
    assert!(moved.starts_with("ada moved from `navigli` to `milan`: "), "{moved}");
    assert_eq!(moved.lines().count(), 1);
    let found = terminal.run(&["where", "ada", "--function", "cart", "--json"]).good();
    assert_eq!(place(&found), "milan");
    assert_eq!(json_of(&found)["home"], "navigli");
    assert_eq!(items(&terminal, "ada").await, (1, 1));

    // Without a session the node chooses.
    let moved = terminal.run(&["offload", "--function", "cart", "--node", "milan", "--json"]);
    assert_eq!(json_of(&moved.good())["accepted_by"], "italy");
    let status = json_of(&terminal.run(&["status", "--json"]).good());
    let status = status.as_array().expect("a list");
    assert_eq!(status.len(), 12);
    for one in status {
        let holds = one["node"] == "italy" && one["function"] == "cart";
        assert_eq!(one["status"]["sessions"], u64::from(holds), "{one}");
        assert_eq!(one["status"]["status"], "accept", "{one}");
    }
    let shown = terminal.run(&["status", "--function", "cart"]).good();
    assert_eq!(shown.lines().count(), 4, "{shown}");

    let came = terminal.run(&["onload", "ada", "--function", "cart", "--node", "navigli"]).good();
    assert!(came.starts_with("ada came to `navigli`: "), "{came}");
    assert!(came.ends_with("1 session at `navigli` again\n"), "{came}");
    let none = terminal.run(&["onload", "--function", "cart", "--node", "navigli"]).good();
    assert_eq!(none, "nothing came to `navigli`\n");
    assert_eq!(items(&terminal, "ada").await, (1, 0));
    assert_eq!(up.stop().0, 0);
}

#[tokio::test]
async fn a_function_of_ones_own_runs_on_every_node_as_a_process() {
    let terminal = Terminal::open();
    terminal.own_program("greet", "probe");
    let up = terminal.up(&["--function", "greet=./greet", "--store", "redis"]);
    assert!(up.greeting.join("\n").contains("/function/greet"), "{:?}", up.greeting);
    let log = |base: String| Client::new(base, "ada");
    let mut client = log(terminal.gateway("navigli", "greet"));
    client.send(Method::POST, "/log", "a").await.expect(200);
    terminal.run(&["offload", "ada", "--function", "greet", "--node", "navigli"]).good();
    let mut again = log(terminal.gateway("navigli", "greet"));
    let answer = again.send(Method::POST, "/log", "b").await.expect(200);
    assert_eq!(answer.hops.len(), 1);
    assert!(answer.hops[0].starts_with(&terminal.gateway("milan", "greet")), "{:?}", answer.hops);
    let answer = again.send(Method::GET, "/log?odd=%2F", "").await.expect(200);
    assert_eq!(answer.json::<Vec<String>>(), ["a", "b"]);
    // The examples are there as ever, and all are listed.
    add(&terminal, "ada").await;
    let status = json_of(&terminal.run(&["status", "--json"]).good());
    let at = |node: &str, function: &str| {
        let all = status.as_array().expect("a list").iter();
        all.filter(|one| one["node"] == node && one["function"] == function).count()
    };
    for node in ["italy", "milan", "navigli"] {
        assert_eq!((at(node, "greet"), at(node, "cart")), (1, 1), "{status}");
    }

    // A process that ends is started again, with its sessions.
    let one = terminal.process_of("milan", "greet");
    signal("-KILL", one.parse().expect("a process id"));
    funicular_tests::tree::until("it serves again", async || {
        let mut client = log(terminal.gateway("navigli", "greet"));
        client.send(Method::GET, "/log", "").await.status == 200
    })
    .await;
    assert_ne!(terminal.process_of("milan", "greet"), one);
    let (code, lines) = up.stop();
    assert_eq!(code, 0);
    assert!(lines.iter().any(|line| line.starts_with("milan: greet ended with")), "{lines:?}");
    assert_eq!(terminal.processes_of("greet"), [""; 0], "none is left");

    let wrong = ["up", "--topology", "topology.yaml", "--function", "greet=./nowhere"];
    terminal.run(&wrong).sentence(65, &["./nowhere is neither a crate"]);
}

#[tokio::test]
async fn a_node_is_drained_by_command() {
    let terminal = Terminal::open();
    let up = terminal.up(&[]);
    for session in ["ada", "bob"] {
        add(&terminal, session).await;
    }
    terminal
        .run(&["drain", "navigli", "--status"])
        .sentence(1, &["not being drained", "2 sessions"]);
    // All functions of the node, and how far each is.
    let said = terminal.run(&["drain", "navigli"]).good();
    for line in [
        "cart at `navigli`: empty, 2 moved, 0 left, 0 failing",
        "cdn at `navigli`: empty, 0 moved, 0 left, 0 failing",
    ] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
    assert_eq!(items(&terminal, "ada").await, (1, 1));
    // It goes on: a session that is created now goes as well.
    add(&terminal, "eve").await;
    let said = terminal.run(&["drain", "navigli", "--function", "cart", "--json"]).good();
    let said = json_of(&said);
    assert_eq!((&said["moved"], &said["left"]), (&json!(3), &json!(0)), "{said}");
    assert_eq!(said["functions"][0]["state"], "empty");
    terminal.run(&["drain", "navigli", "--status"]).good();
    let shown = terminal.run(&["status", "--function", "cart"]).good();
    assert!(shown.contains("DRAIN") && shown.contains("empty"), "{shown}");
    terminal
        .run(&["onload", "ada", "--function", "cart", "--node", "navigli"])
        .sentence(1, &["draining", "--stop"]);

    let said = terminal.run(&["drain", "navigli", "--stop"]).good();
    assert!(said.contains("cart at `navigli`: at work, 3 moved, 0 left"), "{said}");
    terminal.run(&["onload", "ada", "--function", "cart", "--node", "navigli"]).good();
    assert_eq!(items(&terminal, "ada").await, (1, 0));
    terminal.run(&["drain", "italy"]).sentence(64, &["`italy` is the root", "cannot be drained"]);
    terminal.run(&["drain", "rome"]).sentence(64, &["`rome` is not in the tree"]);
    assert_eq!(terminal.run(&["drain", "navigli", "--stop", "--status"]).code, 64);
    assert_eq!(up.stop().0, 0);
    terminal.run(&["drain", "navigli"]).sentence(69, &["`navigli` does not answer"]);
}

#[tokio::test]
async fn a_drain_goes_on_when_nobody_waits_for_it() {
    let terminal = Terminal::open();
    let text = std::fs::read_to_string(terminal.path("topology.yaml")).expect("the topology");
    let lines = text.lines().map(|line| match line.split_once("children:") {
        Some((pad, _)) => format!("{pad}entry: true\n{line}\n"),
        None => format!("{line}\n"),
    });
    terminal.write("topology.yaml", &lines.collect::<String>());
    let up = terminal.up(&[]);
    // The same id is another session at each node: no other can take navigli's.
    for node in ["italy", "milan", "navigli"] {
        let mut client = Client::new(terminal.gateway(node, "cart"), "twin");
        client.send(Method::POST, "/items", ITEM).await.expect(201);
    }
    let drain = ["drain", "navigli", "--function", "cart"];
    let ended = terminal.interrupted(&drain, "1 failing");
    assert!(ended.out.contains("1 session cannot go: "), "{ended:?}");
    ended.sentence(130, &["interrupted, but `navigli` goes on", "--status", "--stop"]);
    let late = terminal.run(&[&drain[..], &["--wait", "1"]].concat());
    late.sentence(1, &["`navigli` is not empty; 1 session is left"]);
    let status = terminal.run(&["status", "--function", "cart", "--json"]).good();
    let navigli = &json_of(&status)[2]["status"];
    assert_eq!((&navigli["drain"]["left"], &navigli["sessions"]), (&json!(1), &json!(1)));

    terminal.run(&[&drain[..], &["--stop"]].concat()).good();
    terminal.run(&[&drain[..], &["--status"]].concat()).sentence(1, &["is not being drained"]);
    assert_eq!(up.stop().0, 0);
}

#[tokio::test]
async fn what_cannot_be_done_is_one_sentence_and_a_code() {
    let terminal = Terminal::open();
    let up = terminal.up(&[]);
    add(&terminal, "ada").await;
    let run = |line: &str| terminal.run(&line.split(' ').collect::<Vec<_>>());

    run("where nobody --function cart").sentence(1, &["no node holds this session"]);
    run("where ada --function cdn").sentence(1, &["no node holds this session of `cdn`"]);
    run("offload nobody --function cart --node navigli")
        .sentence(1, &["`navigli` says no (no-such-session)"]);
    run("offload ada --function cart --node milan").sentence(1, &["no-such-session"]);
    run("offload ada --function cart --node italy").sentence(1, &["the root"]);
    run("offload ada --function nothing --node navigli")
        .sentence(1, &["`navigli` does not have the function `nothing`"]);
    run("onload nobody --function cart --node navigli").sentence(1, &["no-such-session"]);
    run("offload ada --function cart --node rome")
        .sentence(64, &["`rome` is not in the tree", "italy, milan, navigli"]);
    for wrong in ["", "offlaod", "offload ada", "where two words --function cart"] {
        let ended = run(wrong);
        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{wrong}: {}", ended.err);
    }
    run("where ada --function cart --topology none.yaml").sentence(65, &["none.yaml"]);
    run("where ada --function cart --secrets .").sentence(65, &["session-operator-key"]);
    // Signed with another key, a call is refused and nothing happens.
    std::fs::create_dir(terminal.path("other")).expect("a directory");
    terminal.write("other/session-operator-key", "a key of somebody else's 0123456789");
    run("offload ada --function cart --node navigli --secrets other")
        .sentence(1, &["`navigli` says no"]);
    assert_eq!(items(&terminal, "ada").await, (1, 0));

    assert_eq!(up.stop().0, 0);
    run("offload ada --function cart --node navigli")
        .sentence(69, &["`navigli` does not answer", "refused"]);
    run("where ada --function cart").sentence(69, &["3 nodes did not answer"]);
    let status = run("status --json");
    assert_eq!(status.code, 69);
    assert!(json_of(&status.out)[0]["error"].as_str().is_some_and(|why| why.contains("italy")));
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_behind() {
    let terminal = Terminal::open();
    let port = terminal.port("milan");
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    let place = format!("127.0.0.1:{port}");
    terminal
        .run(&["up", "--topology", "topology.yaml"])
        .sentence(69, &["milan", &place, "choose another port"]);
    assert!(!terminal.path(".funicular").exists());
}

#[test]
fn a_topology_that_is_not_right_is_explained() {
    let terminal = Terminal::open();
    let up = |file: &str| terminal.run(&["up", "--topology", file]);
    up("nowhere.yaml").sentence(65, &["nowhere.yaml"]);
    terminal.write("faults.yaml", "levels: [country]\nroot:\n  name: Italy!\n");
    let ended = up("faults.yaml");
    assert_eq!(ended.code, 65);
    assert!(ended.err.contains("faults.yaml") && ended.err.contains("line 3"), "{}", ended.err);
    let remote = "levels: [country]\nroot:\n  name: italy\n  gateway: https://italy.example\n";
    terminal.write("remote.yaml", remote);
    up("remote.yaml").sentence(65, &["italy", "https://italy.example", "http://127.0.0.1:"]);
    // Two nodes at one address.
    let text = std::fs::read_to_string(terminal.path("topology.yaml")).expect("the topology");
    let [milan, navigli] = ["milan", "navigli"].map(|node| terminal.port(node).to_string());
    terminal.write("twice.yaml", &text.replace(&navigli, &milan));
    let ended = up("twice.yaml");
    assert_eq!(ended.code, 65, "{}", ended.err);
    assert!(!terminal.path(".funicular").exists());

    let checked = terminal.run(&["check", "faults.yaml"]);
    assert_eq!(checked.code, 65);
    assert!(checked.out.contains("faults.yaml: line 3"), "{}", checked.out);
    let good = terminal.run(&["check", "topology.yaml"]).good();
    assert!(good.starts_with("topology.yaml: good: 3 nodes on 3 levels"), "{good}");
    let tree = terminal.run(&["tree", "topology.yaml", "--json"]).good();
    assert_eq!(json_of(&tree)[2]["parent"], "milan");
}

#[test]
fn a_tree_that_is_kept_there_already_is_not_written_over() {
    let terminal = Terminal::open();
    std::fs::create_dir(terminal.path(".funicular")).expect("a directory");
    let mine = "levels: [country]\nroot:\n  name: italy\n  gateway: https://italy.example\n";
    terminal.write(".funicular/topology.yaml", mine);
    terminal
        .run(&["up", "--topology", "topology.yaml"])
        .sentence(65, &[".funicular/topology.yaml", "--topology", "--dir"]);
    let kept = std::fs::read_to_string(terminal.path(".funicular/topology.yaml"));
    assert_eq!(kept.expect("the topology"), mine);
}

#[test]
fn a_redis_server_that_is_not_there_is_named() {
    let terminal = Terminal::open();
    let up = ["up", "--topology", "topology.yaml", "--store", "redis", "--redis-server"];
    terminal
        .run(&[&up[..], &["/nonexistent"]].concat())
        .sentence(69, &["/nonexistent", "install Redis", "--store memory"]);
    // One that ends at once.
    terminal.run(&[&up[..], &["/bin/false"]].concat()).sentence(69, &["italy", "ended with"]);
    let deep = "d".repeat(100);
    terminal
        .run(&[&up[..5], &["--dir", &deep]].concat())
        .sentence(65, &["too long for a socket", "--dir"]);
    let wrong = terminal.run(&["up", "--store", "paper"]);
    assert_eq!(wrong.code, 64, "{}", wrong.err);
}

#[tokio::test]
async fn g2_on_redis_everything_is_there_after_a_restart() {
    let terminal = Terminal::open();
    let up = terminal.up(&["--store", "redis"]);
    assert!(up.greeting.iter().any(|line| line.contains("one redis-server a node")));
    for session in ["home", "away"] {
        add(&terminal, session).await;
    }
    let away = ["offload", "away", "--function", "cart", "--node", "navigli"];
    terminal.run(&away).good();
    let (code, lines) = up.stop();
    assert_eq!((code, lines.last().map(String::as_str)), (0, Some("stopping")));

    let up = terminal.up(&["--store", "redis"]);
    assert_eq!(items(&terminal, "home").await, (1, 0));
    assert_eq!(items(&terminal, "away").await, (1, 1));
    let found = terminal.run(&["where", "away", "--function", "cart", "--json"]).good();
    assert_eq!(json_of(&found)["location"], json!("milan"));
    terminal.run(&["onload", "away", "--function", "cart", "--node", "navigli"]).good();
    assert_eq!(items(&terminal, "away").await, (1, 0));
    assert_eq!(up.stop().0, 0);
    // Nothing runs on: the sockets are closed.
    for node in ["italy", "milan", "navigli"] {
        let socket = terminal.path(&format!(".funicular/redis/{node}/socket"));
        assert!(std::os::unix::net::UnixStream::connect(socket).is_err(), "{node}");
    }
}

#[tokio::test]
async fn a_tree_works_whether_or_not_its_log_is_read() {
    let terminal = Terminal::open();
    let up = terminal.up_unheard();
    add(&terminal, "ada").await;
    assert_eq!(up.stop().0, 0);
}

#[test]
fn nothing_runs_on_when_the_terminal_of_a_tree_is_closed() {
    let terminal = Terminal::open();
    let up = terminal.up(&["--store", "redis"]);
    assert_eq!(terminal.servers().len(), 3);
    let (code, lines) = up.stop_by("-HUP");
    assert_eq!((code, lines.last().map(String::as_str)), (0, Some("stopping")));
    assert_eq!(terminal.servers(), [0; 0]);
}

#[tokio::test]
async fn nothing_runs_on_when_a_tree_is_ended_before_it_is_ready() {
    for how in ["-INT", "-TERM", "-HUP"] {
        let terminal = Terminal::open();
        terminal.program("greet", "#!/bin/sh\nexec sleep 60 >/dev/null 2>&1\n");
        let up = terminal.begin_up(&["--store", "redis", "--function", "greet=./greet"]);
        funicular_tests::tree::until("it has begun", async || {
            terminal.processes_of("greet").len() == 1
        })
        .await;
        assert_eq!(terminal.servers().len(), 3);
        assert_eq!(up.stop_by(how), (130, Vec::new()), "{how}");
        assert_eq!(terminal.servers(), [0; 0], "{how}");
        assert_eq!(terminal.processes_of("greet"), [""; 0], "{how}");
        let said = std::fs::read_to_string(terminal.path("up.log")).expect("its log");
        assert!(said.contains("ended before it was ready"), "{said}");
    }
}

#[tokio::test]
async fn g2_on_a_cluster_that_is_there_everything_is_there_after_a_restart() {
    let terminal = Terminal::open();
    let cluster = RedisCluster::start(Setup::durable("always")).await;
    let store = ["--store", &cluster.url()];
    let up = terminal.up(&store);
    assert!(up.greeting.iter().any(|line| line.contains("one Redis for all nodes")));
    for session in ["home", "away"] {
        add(&terminal, session).await;
    }
    let away = ["offload", "away", "--function", "cart", "--node", "navigli"];
    terminal.run(&away).good();
    assert_eq!(up.stop().0, 0);
    let up = terminal.up(&store);
    assert_eq!(items(&terminal, "home").await, (1, 0));
    assert_eq!(items(&terminal, "away").await, (1, 1));
    terminal.run(&["onload", "away", "--function", "cart", "--node", "navigli"]).good();
    assert_eq!(items(&terminal, "away").await, (1, 0));
    assert_eq!(up.stop().0, 0);
}

/// Killed, it cannot end its servers; the next one does, and goes on from their files.
#[tokio::test]
async fn g2_on_redis_everything_is_there_after_a_crash() {
    let terminal = Terminal::open();
    let up = terminal.up(&["--store", "redis"]);
    add(&terminal, "ada").await;
    up.kill9();
    for round in 2..4 {
        let up = terminal.up(&["--store", "redis"]);
        add(&terminal, "ada").await;
        assert_eq!(items(&terminal, "ada").await, (round, 0));
        up.kill9();
    }
    let up = terminal.up(&["--store", "redis"]);
    assert_eq!(items(&terminal, "ada").await, (3, 0));
    assert_eq!(up.stop().0, 0);
}

#[tokio::test]
async fn two_trees_do_not_share_a_directory_of_servers() {
    let (terminal, other) = (Terminal::open(), Terminal::open());
    let up = terminal.up(&["--store", "redis"]);
    add(&terminal, "ada").await;
    let dir = terminal.path(".funicular").display().to_string();
    let args = ["up", "--topology", "topology.yaml", "--store", "redis", "--dir", &dir];
    other.run(&args).sentence(69, &["another `funicular up`", &dir, "--dir"]);
    assert_eq!(items(&terminal, "ada").await, (1, 0));
    // The commands still find the tree that runs.
    terminal.run(&["where", "ada", "--function", "cart"]).good();
    assert_eq!(up.stop().0, 0);
}

#[tokio::test]
async fn a_load_is_counted_and_follows_its_sessions() {
    let terminal = Terminal::open();
    let up = terminal.up(&["--no-oracle", "--set", "navigli:max_running=1"]);
    let load = |more: &[&str]| {
        let common = ["load", "--function", "work", "--node", "navigli", "--for", "2s"];
        terminal.run(&[&common[..], more].concat())
    };
    // One runs at a time: five clients wait for each other.
    let said = load(&["--clients", "5", "--path", "/?ms=40", "--json"]).good();
    let lines: Vec<Value> = said.lines().map(json_of).collect();
    let all = lines.last().expect("a line");
    let of = |name: &str| all[name].as_u64().unwrap_or_else(|| panic!("{name}: {said}"));
    assert_eq!((of("errors"), of("redirected"), of("clients")), (0, 0, 5), "{said}");
    assert!(all["p50_ms"].as_f64().expect("a time") >= 190.0, "{said}");
    let mut counted = 0;
    for client in 1..=5 {
        let mut one = Client::new(terminal.gateway("navigli", "work"), &format!("load-{client}"));
        counted += one.send(Method::GET, "/", "").await.expect(200).json::<u64>();
    }
    assert_eq!(counted, of("requests"), "each was answered once and counted once: {said}");

    // Whoever's session is elsewhere is led there; requests at a rate are sent in turn.
    terminal.run(&["offload", "load-1", "--function", "work", "--node", "navigli"]).good();
    let said = load(&["--clients", "2", "--rate", "20", "--json"]).good();
    let all = json_of(said.lines().last().expect("a line"));
    let of = |name: &str| all[name].as_u64().unwrap_or_else(|| panic!("{name}: {said}"));
    assert!(of("requests") >= 2 && of("errors") == 0, "{said}");
    assert!(of("redirected") >= 1 && of("redirected") < of("requests"), "{said}");

    // What goes wrong is named, and is no success.
    let wrong = load(&["--clients", "2", "--pause", "200ms", "--path", "/nothing"]);
    assert!(wrong.out.contains("404 "), "{}", wrong.out);
    wrong.sentence(69, &["no request was answered well"]);
    load(&["--path", "nothing"]).sentence(64, &["--path begins with"]);
    assert_eq!(up.stop().0, 0);
    let bad = terminal.run(&["up", "--set", "milan:max_runing=3"]);
    assert_eq!(bad.code, 64, "{bad:?}");
    assert!(bad.err.contains("no setting"), "{bad:?}");
}
