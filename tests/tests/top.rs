//! `funicular top`: as text, and in a terminal with somebody at the keys.

use std::fs;

use funicular_tests::client::Client;
use funicular_tests::command_line::Terminal;
use funicular_tests::process::{pause, resume, signal};
use reqwest::Method;
use serde_json::Value;

const ITEM: &str = r#"{"sku":"apple","count":2}"#;

async fn add(terminal: &Terminal, session: &str) {
    let mut client = Client::new(terminal.gateway("navigli", "cart"), session);
    client.send(Method::POST, "/items", ITEM).await.expect(201);
}

/// The line that a node has on the screen.
fn line<'a>(text: &'a str, node: &str) -> &'a str {
    text.lines().find(|line| line.contains(&format!(" {node} "))).unwrap_or_default()
}

#[tokio::test]
async fn scripts_get_one_view_as_text_or_json() {
    let terminal = Terminal::open();
    let up = terminal.up(&[]);
    add(&terminal, "ada").await;
    terminal.run(&["offload", "ada", "--function", "cart", "--node", "navigli"]).good();
    // Its output is no terminal.
    let text = terminal.run(&["top"]).good();
    assert!(text.starts_with("NODE ") && text.lines().count() >= 6, "{text}");
    assert!(text.contains("ada of cart: navigli → milan"), "{text}");
    let heads = |text: &str| {
        let heads = text.lines().next().unwrap_or_default();
        heads.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(heads(&text), heads(&terminal.run(&["top", "--once"]).good()));

    let json = terminal.run(&["top", "--json", "--function", "cart"]).good();
    let view: Value = serde_json::from_str(&json).expect("a view");
    let sessions = |node: &str| {
        let nodes = view["nodes"].as_array().expect("nodes");
        let node = nodes.iter().find(|it| it["name"] == node).expect("a node of the tree");
        assert_eq!(node["functions"].as_array().expect("a list").len(), 1);
        node["load"]["sessions"].as_u64()
    };
    assert_eq!((sessions("milan"), sessions("navigli")), (Some(1), Some(0)));
    assert_eq!(view["moves"][0]["id"], "ada");

    assert_eq!(up.stop().0, 0);
    let ended = terminal.run(&["top", "--once"]);
    assert_eq!(ended.code, 69, "{}", ended.err);
    assert!(line(&ended.out, "navigli").contains("unknown"), "{}", ended.out);
}

#[tokio::test]
async fn somebody_moves_a_session_with_keys() {
    let terminal = Terminal::open();
    let up = terminal.up(&[]);
    add(&terminal, "ada").await;
    let screen = terminal.on_screen(&["top"], (80, 24));
    let has = |text: &str, node: &str, sessions: &str| {
        let left =
            line(text, node).split('│').rfind(|part| part.contains(node)).unwrap_or_default();
        left.split_whitespace().next_back() == Some(sessions)
    };
    screen.wait_for("the session at navigli", |text| has(text, "navigli", "1"));
    screen.press(&["Down", "j"]);
    screen.wait_for("navigli as the chosen node", |text| line(text, "navigli").starts_with('▸'));
    screen.press(&["Tab"]);
    screen.wait_for("ada as the chosen session", |text| text.contains("▸ ada"));
    screen.press(&["o"]);
    screen.wait_for("the session at its parent", |text| {
        text.contains("ada moved from `navigli` to `milan`")
            && has(text, "milan", "1")
            && has(text, "navigli", "0")
            && text.contains("ada of cart: navigli → milan")
    });

    // From its history, back to its home; on a larger screen.
    screen.resize(130, 40);
    screen.wait_for("more columns", |text| text.contains("FLIGHT") && text.lines().count() == 40);
    screen.press(&["Left", "k", "Enter"]);
    screen.wait_for("ada as the chosen session", |text| text.contains("▸ ada"));
    screen.press(&["Enter"]);
    screen.wait_for("its history", |text| text.contains("at milan, home navigli"));
    screen.press(&["n"]);
    screen.wait_for("the way back in its history", |text| {
        text.contains("at navigli, home navigli") && text.contains("ada came to `navigli`")
    });

    screen.press(&["q", "q"]);
    let text = screen.wait_for("its end", |text| text.contains("icanon"));
    assert!(text.contains("ended with 0\n icanon\n"), "{text}");
    assert!(screen.is_as_before(), "{text}");
    assert_eq!(up.stop().0, 0);
}

#[tokio::test]
async fn the_screen_goes_on_while_nobody_answers_and_sigterm_gives_the_terminal_back() {
    let terminal = Terminal::open();
    let up = terminal.up(&[]);
    let screen = terminal.on_screen(&["top", "--function", "cart"], (80, 24));
    screen.wait_for("the tree", |text| line(text, "milan").contains("accept"));
    let nodes = up.id();
    pause(nodes);
    // A drain that nobody hears, and help meanwhile.
    screen.press(&["j", "d"]);
    screen.wait_for("a question", |text| text.contains("Drain milan of cart?"));
    screen.press(&["y", "?"]);
    screen.wait_for("help", |text| {
        text.contains("┌ Keys ") && text.contains("drain milan of cart …")
    });
    screen.press(&["?"]);
    screen.wait_for("that nobody answers", |text| line(text, "milan").contains("silent"));
    resume(nodes);
    screen.wait_for("the nodes again, and the drain", |text| {
        line(text, "italy").contains("accept") && text.contains("`milan` is being drained")
    });
    let top = fs::read_to_string(terminal.path("pid")).expect("its id");
    signal("-TERM", top.trim().parse().expect("a process id"));
    let text = screen.wait_for("its end", |text| text.contains("icanon"));
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let why = "funicular: it was told to end";
    assert_eq!(lines, ["before", why, "ended with 130", " icanon"]);
    assert!(screen.is_as_before(), "{text}");
    assert_eq!(up.stop().0, 0);
}
