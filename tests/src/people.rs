//! Clients as people have them: curl, and Python's requests. Both follow
//! redirects by themselves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long a program may run.
const PATIENCE: Duration = Duration::from_secs(90);

/// Who makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Person {
    /// `curl -L`.
    Curl,
    /// `requests.request(…)`.
    Requests,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Nothing.
    None,
    /// A text, which can be sent again.
    Text(&'a str),
    /// A file, which can be sent again.
    File(&'a Path),
    /// A file that comes through a pipe or out of a generator: sent once.
    Once(&'a Path),
}

/// What came back in the end.
#[derive(Debug, Deserialize)]
pub struct Said {
    /// HTTP status.
    pub status: u16,
    /// Redirects that were followed.
    pub hops: u32,
    /// Where the answer came from.
    pub url: String,
    /// Its headers, in lower case.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl Said {
    /// The answer, which has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} says {}", self.url, self.text());
        self
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Person {
    /// Makes a request and follows where it leads; a program that fails ends the test.
    pub async fn ask(
        self,
        method: &str,
        url: &str,
        session: &str,
        headers: &[&str],
        body: Body<'_>,
    ) -> Said {
        match self {
            Self::Curl => ask_curl(method, url, session, headers, body).await,
            Self::Requests => ask_requests(method, url, session, headers, body).await,
        }
    }
}

async fn ask_curl(
    method: &str,
    url: &str,
    session: &str,
    headers: &[&str],
    body: Body<'_>,
) -> Said {
    let session = format!("X-session: {session}");
    let mut args = vec!["-L", "-H", &session];
    for header in headers {
        args.extend(["-H", header]);
    }
    if method == "HEAD" {
        args.push("--head");
    } else {
        args.extend(["-X", method]);
    }
    let (at, mut input) = (|path: &Path| format!("@{}", path.display()), None);
    let file;
    match body {
        Body::None => {}
        Body::Text(text) => args.extend(["-d", text]),
        Body::File(path) => {
            file = at(path);
            args.extend(["--data-binary", &file]);
        }
        Body::Once(path) => {
            input = Some(std::fs::read(path).expect("the file"));
            args.extend(["-T", "-"]);
        }
    }
    // After the body, as one line.
    let form = "\n{\"status\":%{http_code},\"hops\":%{num_redirects},\"url\":\"%{url_effective}\"}";
    args.extend(["-w", form, url]);
    let output = curl(&args, input).await;
    let end = output.iter().rposition(|byte| *byte == b'\n').expect("a last line");
    let said: Said = serde_json::from_slice(&output[end + 1..]).expect("what curl says");
    Said { body: output[..end].to_vec(), ..said }
}

/// Runs curl, quietly and with a limit in time; its standard output.
pub async fn curl(args: &[&str], input: Option<Vec<u8>>) -> Vec<u8> {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sS", "--noproxy", "*", "--max-time", "60"]).args(args);
    let output = run(curl, input).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {args:?}: {} {error}", output.status);
    output.stdout
}

async fn ask_requests(
    method: &str,
    url: &str,
    session: &str,
    headers: &[&str],
    body: Body<'_>,
) -> Said {
    let mut python = Command::new("/usr/bin/python3");
    python.arg("-I").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/person.py"));
    python.env("NO_PROXY", "*").args([method, url, session]);
    for header in headers {
        python.arg("-H").arg(header.replacen(": ", ":", 1));
    }
    match body {
        Body::None => {}
        Body::Text(text) => drop(python.args(["-d", text])),
        Body::File(path) => drop(python.arg("-f").arg(path)),
        Body::Once(path) => drop(python.arg("-g").arg(path)),
    }
    let output = run(python, None).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "requests: {method} {url}: {error}");
    let end = output.stdout.iter().position(|byte| *byte == b'\n').expect("a first line");
    let said: Said = serde_json::from_slice(&output.stdout[..end]).expect("what requests says");
    Said { body: output.stdout[end + 1..].to_vec(), ..said }
}

/// Runs a program to its end; one that takes too long is killed and ends the test.
pub async fn run(mut program: Command, input: Option<Vec<u8>>) -> Output {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    program.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = program.spawn().unwrap_or_else(|error| {
        panic!("{program:?}: {error}; scripts/setup-tests.sh installs what tests need")
    });
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // One that ends early does not read it all.
            let _ = stdin.write_all(&input).await;
        }
    };
    let whole = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(PATIENCE, whole).await;
    output.unwrap_or_else(|_| panic!("{program:?}: still runs")).expect("it runs")
}
