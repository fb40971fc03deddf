//! A Chromium without a window, driven over its own protocol (`DevTools`), by a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long it may take to do something.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one look to the next while something is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: String,
    next: u64,
    complaints: Vec<String>,
    _profile: TempDir,
}

/// Something that assistive technology meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accessible {
    /// What it is: `button`, `link`, …
    pub role: String,
    /// What it is called; may be empty.
    pub name: String,
}

fn program() -> &'static str {
    let is_there = |name: &&&str| {
        let asked = Command::new(**name).arg("--version").stdout(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let names = ["chromium-headless-shell", "chromium", "google-chrome"];
    names.iter().find(is_there).expect("there is no Chromium: run scripts/setup-tests.sh")
}

impl Browser {
    /// Starts one, with a page of nothing.
    pub fn open() -> Self {
        let profile = tempfile::Builder::new().prefix("funicular-chromium-").tempdir();
        let profile = profile.expect("a directory");
        // It reads what is asked from descriptor 3 and answers to 4.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", program()])
            .args(["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let to = process.stdin.take().expect("its input");
        let mut out = BufReader::new(process.stdout.take().expect("its output"));
        let (say, from) = mpsc::channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while out.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                let text = message.strip_suffix(b"\0").unwrap_or(&message);
                if serde_json::from_slice(text).is_ok_and(|value: Value| say.send(value).is_err()) {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            process,
            to,
            from,
            session: String::new(),
            next: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        attached["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Sends a command and waits for its answer.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut line = message.to_string().into_bytes();
        line.push(0);
        self.to.write_all(&line).expect("it listens");
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let said = self.from.recv_timeout(left);
            let said = said.unwrap_or_else(|why| panic!("{method}: the browser is silent: {why}"));
            if said["id"] == json!(id) {
                assert!(said["error"].is_null(), "{method}: {}", said["error"]);
                return said["result"].clone();
            }
            self.note(&said);
        }
    }

    /// Keeps what a console would show in red.
    fn note(&mut self, said: &Value) {
        let params = &said["params"];
        let complaint = match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                Some(params["args"].to_string())
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                let entry = &params["entry"];
                Some(format!("{} ({})", entry["text"], entry["url"]))
            }
            _ => None,
        };
        self.complaints.extend(complaint);
    }

    /// What the console has shown in red since the last time.
    pub fn complaints(&mut self) -> Vec<String> {
        // One more exchange: what was before it is here then.
        self.call("Runtime.evaluate", &json!({"expression": "0"}));
        std::mem::take(&mut self.complaints)
    }

    /// Evaluates an expression in the page; its value has to be data.
    pub fn eval(&mut self, expression: &str) -> Value {
        self.try_eval(expression).unwrap_or_else(|why| panic!("{expression}: {why}"))
    }

    fn try_eval(&mut self, expression: &str) -> Result<Value, String> {
        let asked = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let answer = self.call("Runtime.evaluate", &asked);
        match &answer["exceptionDetails"] {
            Value::Null => Ok(answer["result"]["value"].clone()),
            thrown => Err(thrown.to_string()),
        }
    }

    /// Waits until an expression is true, whatever page that is on.
    pub fn wait(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            // While a page goes there is nothing to ask.
            if self.try_eval(&format!("Boolean({expression})")) == Ok(json!(true)) {
                return;
            }
            if Instant::now() > until {
                let page = self.try_eval("document.body.innerText").unwrap_or_default();
                panic!("never: {expression}, on {page}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Goes to a URL and waits until it is there.
    pub fn go(&mut self, url: &str) {
        self.eval("window.old = true");
        let went = self.call("Page.navigate", &json!({"url": url}));
        assert!(went["errorText"].is_null(), "{url}: {went}");
        self.wait("!window.old && document.readyState === 'complete'");
    }

    /// Presses a key: `Tab`, `Enter`, `Space`.
    pub fn press(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            "Space" => ("Space", 32, " "),
            other => panic!("no such key here: {other}"),
        };
        let key = if key == "Space" { " " } else { key };
        let down = json!({
            "type": if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "key": key,
            "code": code, "windowsVirtualKeyCode": number, "text": text,
        });
        self.call("Input.dispatchKeyEvent", &down);
        let up = json!({
            "type": "keyUp", "key": key, "code": code, "windowsVirtualKeyCode": number,
        });
        self.call("Input.dispatchKeyEvent", &up);
    }

    /// Types a text where the focus is.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Presses Tab until an expression is true of `document.activeElement`, which it calls
    /// `it`.
    pub fn tab_to(&mut self, expression: &str) {
        let asked = format!("((it) => Boolean({expression}))(document.activeElement)");
        for _ in 0..200 {
            self.press("Tab");
            if self.eval(&asked) == json!(true) {
                return;
            }
        }
        panic!("Tab never leads to {expression}");
    }

    /// Whether the reader likes it `light` or `dark`; and calm.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// How large the page's window is, in pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Everything on the page that assistive technology can use, and what it calls it.
    pub fn accessible(&mut self) -> Vec<Accessible> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("a tree");
        let shown = nodes.iter().filter(|node| node["ignored"] == json!(false));
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        shown
            .map(|node| Accessible { role: text(&node["role"]), name: text(&node["name"]) })
            .collect()
    }

    /// Writes what is seen into a file (PNG).
    pub fn screenshot(&mut self, path: &Path) {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let data = shot["data"].as_str().expect("a picture");
        fs::write(path, STANDARD.decode(data).expect("base64")).expect("a file");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
