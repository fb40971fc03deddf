//! The dashboard of `funicular up`, in a real Chromium.
//!
//! `FUNICULAR_SCREENSHOTS=docs/dashboard` keeps what was seen.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use funicular_tests::browser::Browser;
use funicular_tests::client::Client;
use funicular_tests::command_line::{Terminal, Up};
use funicular_tests::ports::Port;
use funicular_tests::process::{pause, resume};
use reqwest::Method;
use serde_json::json;

const ITEM: &str = r#"{"sku":"apple","count":2}"#;

/// A tree with a dashboard, and a browser that has it open.
struct Site {
    browser: Browser,
    url: String,
    terminal: Terminal,
    up: Up,
    _port: Port,
}

impl Site {
    fn open(terminal: Terminal, more: &[&str]) -> Self {
        let port = Port::free();
        let at = format!("127.0.0.1:{}", port.number());
        let up = terminal.up(&[&["--dashboard", &at], more].concat());
        let url = format!("http://{at}");
        let said = up.greeting.iter().find(|line| line.starts_with("dashboard at"));
        assert!(said.expect("it is said where").contains(&url), "{:?}", up.greeting);
        let mut browser = Browser::open();
        browser.resize(1280, 900);
        browser.go(&url);
        browser.wait(&connection("live"));
        Self { browser, url, terminal, up, _port: port }
    }

    async fn add(&self, session: &str) {
        let mut client = Client::new(self.terminal.gateway("navigli", "cart"), session);
        client.send(Method::POST, "/items", ITEM).await.expect(201);
    }

    fn key(&self) -> String {
        let key = fs::read_to_string(self.terminal.path(".funicular/session-operator-key"));
        key.expect("the operators' key").trim().to_owned()
    }

    /// Signs in with the keyboard alone.
    fn sign_in(&mut self, key: &str) {
        self.browser.tab_to("it.id === 'key'");
        self.browser.type_text(key);
        self.browser.eval("window.old = true");
        self.browser.press("Enter");
        self.browser.wait("!window.old && document.readyState === 'complete'");
    }

    /// Ends it all; the console may have shown nothing in red.
    fn close(mut self) {
        assert_eq!(self.browser.complaints(), [""; 0]);
        drop(self.browser);
        assert_eq!(self.up.stop().0, 0);
    }
}

/// Whether a node's card has a session, by how that is called there.
fn at(node: &str, session: &str) -> String {
    format!(
        "[...document.querySelectorAll('[data-key=\"node-{node}\"] > article [data-session] a')] \
         .some((link) => link.textContent === '{session}')"
    )
}

/// Whether the page says this of its connection.
fn connection(state: &str) -> String {
    format!("document.getElementById('connection').dataset.state === '{state}'")
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1000.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_seen_while_it_happens() {
    let mut site = Site::open(Terminal::open(), &["--no-oracle"]);
    site.add("ada").await;
    let hash = funicular::session::SessionId::new("ada").expect("an id").log_hash();
    // Nobody has shown a key: sessions are hashes, and there is nothing to press.
    let short = format!("#{}", &hash[..8]);
    site.browser.wait(&at("navigli", &short));
    assert_eq!(site.browser.eval("document.querySelectorAll('main button').length"), json!(0));
    assert!(!site.browser.eval("document.body.innerText").as_str().expect("text").contains("ada"));

    site.browser.eval(
        "window.seen = null; new MutationObserver(() => { \
           if (!window.seen && document.querySelector('#moves [data-key]')) window.seen = Date.now() \
         }).observe(document.body, { subtree: true, childList: true }); 0",
    );
    let began = now_ms();
    let moved = site.terminal.run(&["offload", "ada", "--function", "cart", "--node", "navigli"]);
    moved.good();
    let ended = now_ms();
    site.browser.wait("window.seen");
    let seen = site.browser.eval("window.seen").as_f64().expect("a time");
    println!(
        "a move was on the page {:.0} ms after its command began, {:.0} ms after it ended",
        seen - began,
        seen - ended
    );
    site.browser.wait(&at("milan", &short));
    site.browser.wait(&format!("!{}", at("navigli", &short)));
    // Who does not see it is told.
    site.browser.wait("document.getElementById('said').textContent.includes('moved from navigli')");

    // Its history is a page, and where it goes from there is seen there too.
    site.browser.go(&format!("{}/session/cart/{hash}", site.url));
    site.browser.wait("document.querySelectorAll('#moves tbody tr').length === 1");
    site.terminal.run(&["onload", "ada", "--function", "cart", "--node", "navigli"]).good();
    site.browser.wait("document.querySelectorAll('#moves tbody tr').length === 2");
    site.browser.wait("document.querySelector('#session .where').textContent.includes('navigli')");
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_an_operator_offloads_by_button_with_the_keyboard_alone() {
    let mut site = Site::open(Terminal::open(), &["--no-oracle"]);
    site.add("ada").await;

    site.sign_in("a key that somebody guessed");
    let text = site.browser.eval("document.body.innerText");
    let text = text.as_str().expect("text");
    assert!(text.contains("That is not the operators' key"), "{text}");
    assert_eq!(site.browser.eval("document.querySelectorAll('main button').length"), json!(0));
    // The refusal itself is what the console shows.
    let complaints = site.browser.complaints();
    let refused = |line: &String| line.contains("403") && line.contains("/login");
    assert!(complaints.iter().all(refused), "{complaints:?}");

    let key = site.key();
    site.sign_in(&key);
    site.browser.wait(&at("navigli", "ada"));
    assert!(!site.browser.eval("document.documentElement.outerHTML").to_string().contains(&key));
    assert_eq!(site.browser.eval("document.cookie"), json!(""));

    // The first thing that Tab leads to skips to the content.
    site.browser.go(&site.url.clone());
    site.browser.press("Tab");
    let first = "document.activeElement.className";
    assert_eq!(site.browser.eval(first), json!("skip"));
    site.browser.press("Enter");
    site.browser.tab_to("it.textContent === 'Act on navigli'");
    site.browser.press("Enter");
    site.browser.tab_to("it.ariaLabel === 'Offload a session from navigli'");
    site.browser.press("Enter");
    let notice = "document.getElementById('notice').textContent";
    site.browser.wait(&format!("{notice}.includes('session ada of cart is at milan now')"));
    site.browser.wait(&at("milan", "ada"));
    // What changed around it has not taken the focus away, nor closed what was open.
    let focus = "document.activeElement.ariaLabel";
    assert_eq!(site.browser.eval(focus), json!("Offload a session from navigli"));
    let found = site.terminal.run(&["where", "ada", "--function", "cart"]).good();
    assert!(found.starts_with("`milan` holds the session"), "{found}");

    // Everything that can be used has a name.
    for page in ["/", "/node/milan"] {
        site.browser.go(&format!("{}{page}", site.url));
        site.browser.wait("document.querySelector('main form') !== null");
        site.browser.eval("document.querySelectorAll('details').forEach((it) => it.open = true)");
        let used = ["button", "link", "textbox", "combobox", "meter", "region", "article"];
        let all = site.browser.accessible();
        let used: Vec<_> = all.iter().filter(|it| used.contains(&it.role.as_str())).collect();
        assert!(used.iter().any(|it| it.role == "button"), "{all:?}");
        let unnamed: Vec<_> = used.iter().filter(|it| it.name.is_empty()).collect();
        assert!(unnamed.is_empty(), "{unnamed:?}");
    }
    // With the button of the session itself, home again.
    site.browser.tab_to("it.ariaLabel === 'Bring session ada home to navigli'");
    site.browser.press("Enter");
    site.browser.wait(&format!("{notice}.includes('is at navigli now')"));
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_lost_until_it_speaks_again() {
    let mut site = Site::open(Terminal::open(), &["--no-oracle"]);
    // Its connections stay open, and it takes new ones: nothing breaks, nothing comes.
    pause(site.up.id());
    site.browser.wait(&connection("lost"));
    resume(site.up.id());
    site.browser.wait(&connection("live"));
    // Live is what it is, and not only says.
    site.add("ada").await;
    let hash = funicular::session::SessionId::new("ada").expect("an id").log_hash();
    site.browser.wait(&at("navigli", &format!("#{}", &hash[..8])));
    site.close();
}

/// Many nodes, so that there is something to see; one oracle that soon has enough.
fn a_wider_tree(terminal: &Terminal, ports: &[Port]) {
    let [italy, milan, navigli] = ["italy", "milan", "navigli"].map(|node| terminal.port(node));
    let [brera, rome, monti] = [0, 1, 2].map(|index| ports[index].number());
    let node =
        |name: &str, port: u16| format!("{{name: {name}, gateway: 'http://127.0.0.1:{port}'");
    let leaf = |name: &str, port: u16| format!("{}}}", node(name, port));
    terminal.write(
        "topology.yaml",
        &format!(
            "levels: [country, city, district]\nroot: {}, children: [{}, children: [{}, {}]}}, \
             {}, children: [{}]}}]}}\n",
            node("italy", italy),
            node("milan", milan),
            leaf("navigli", navigli),
            leaf("brera", brera),
            node("rome", rome),
            leaf("monti", monti),
        ),
    );
    terminal.write(
        "oracle.yaml",
        "tick: 200ms\nsignals: {time_constant: 1s, stale_after: 10s}\npolicy:\n  rules: \
         [{name: requests, signals: [requests], high: 20, low: 12, onload: 2}]\n  cooldown: 1s\n  \
         dwell: 60s\n  interval: 1s\n  moves: 1\nsources:\n  status: {every: 200ms}\n  machine: \
         {enabled: false}\n",
    );
}

/// Keeps what is seen, where that is wanted.
fn keep(browser: &mut Browser, name: &str) {
    if let Some(dir) = std::env::var_os("FUNICULAR_SCREENSHOTS") {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(dir);
        fs::create_dir_all(&dir).expect("a directory");
        browser.resize(1200, 1150);
        browser.wait("document.getAnimations().length === 0");
        browser.screenshot(&dir.join(format!("{name}.png")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_shown_with_its_reason_in_light_and_dark() {
    let terminal = Terminal::open();
    let ports: Vec<Port> = (0..3).map(|_| Port::free()).collect();
    a_wider_tree(&terminal, &ports);
    let mut site = Site::open(terminal, &["--oracle-config", "oracle.yaml"]);
    let stop = Arc::<AtomicBool>::default();
    let shoppers: Vec<_> = ["ada", "bob", "eve", "max", "ida", "leo"]
        .into_iter()
        .map(|name| {
            let mut client = Client::new(site.terminal.gateway("navigli", "cart"), name);
            client.remembers = true;
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    client.send(Method::POST, "/items", ITEM).await.expect(201);
                    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
                }
            })
        })
        .collect();
    let key = site.key();
    site.sign_in(&key);
    let row = "document.querySelector('#decisions tbody tr')?.textContent";
    site.browser.wait(&format!("{row}?.includes('offload cart')"));
    let shown = site.browser.eval("document.getElementById('decisions').textContent").to_string();
    assert!(shown.contains("requests is "), "{shown}");
    // The move that comes of it says so.
    let moves = "document.getElementById('moves').textContent";
    site.browser.wait(&format!("{moves}.includes('the oracle of navigli, rule requests')"));

    site.browser.wait("document.querySelectorAll('#moves tbody tr').length >= 3");
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        site.browser.prefer(scheme);
        grounds.push(site.browser.eval("getComputedStyle(document.body).backgroundColor"));
        keep(&mut site.browser, &format!("tree-{scheme}"));
    }
    assert_ne!(grounds[0], grounds[1]);
    site.browser.prefer("light");
    site.browser.go(&format!("{}/node/navigli", site.url));
    site.browser.wait(&connection("live"));
    keep(&mut site.browser, "node-light");
    stop.store(true, Ordering::SeqCst);
    for shopper in shoppers {
        shopper.await.expect("no shopper sees an error");
    }
    site.close();
}
