//! `funicular` as it is typed: the program beside the test's own, in a directory
//! with a topology on free ports.

use std::fs;
use std::io::{BufRead, BufReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::Port;
use crate::process::signal;
use crate::screen::Screen;

/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory to type commands in.
#[derive(Debug)]
pub struct Terminal {
    dir: TempDir,
    ports: [Port; 3],
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// `funicular up`, until this is dropped.
#[derive(Debug)]
pub struct Up {
    process: Child,
    lines: mpsc::Receiver<String>,
    /// What it printed before it was ready.
    pub greeting: Vec<String>,
}

fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's path");
    let dir = test.parent().and_then(Path::parent).expect("target/<profile>");
    let path = dir.join("funicular");
    assert!(path.exists(), "{} is missing: cargo build -p funicular-cli", path.display());
    path
}

/// Where nothing can be written: its other end is closed.
fn closed() -> PipeWriter {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer
}

impl Terminal {
    /// With a `topology.yaml` of three nodes: navigli below milan below italy.
    pub fn open() -> Self {
        let dir = tempfile::Builder::new().prefix("funicular-cli-").tempdir().expect("a directory");
        let ports = [Port::free(), Port::free(), Port::free()];
        let [italy, milan, navigli] = ports.each_ref().map(Port::number);
        let text = format!(
            "levels: [country, city, district]\nroot:\n  name: italy\n  gateway: \
             http://127.0.0.1:{italy}\n  children:\n    - name: milan\n      gateway: \
             http://127.0.0.1:{milan}\n      children:\n        - name: navigli\n          \
             gateway: http://127.0.0.1:{navigli}\n"
        );
        fs::write(dir.path().join("topology.yaml"), text).expect("a topology");
        Self { dir, ports }
    }

    /// The port of a node.
    pub fn port(&self, node: &str) -> u16 {
        let index = ["italy", "milan", "navigli"].iter().position(|name| *name == node);
        self.ports[index.expect("a node of the tree")].number()
    }

    /// Where a function is at a node.
    pub fn gateway(&self, node: &str, function: &str) -> String {
        format!("http://127.0.0.1:{}/function/{function}", self.port(node))
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    /// Puts a program here that serves a function of the tests under any name.
    pub fn own_program(&self, name: &str, function: &str) {
        let site = program().with_file_name("site").display().to_string();
        self.program(name, &format!("#!/bin/sh\nTEST_FUNCTION={function} exec {site}\n"));
    }

    /// Puts a program here.
    pub fn program(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(name, text);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path(name), executable).expect("a program");
    }

    /// The id of the process that serves a function at a node of this directory's tree.
    pub fn process_of(&self, node: &str, function: &str) -> String {
        let mine = self.processes(|settings| {
            settings.contains(&format!("LOCATION_ID={node}"))
                && settings.contains(&format!("FUNICULAR_FUNCTION={function}"))
        });
        assert_eq!(mine.len(), 1, "{mine:?}");
        mine[0].clone()
    }

    /// The ids of all processes that serve a function for this directory's tree.
    pub fn processes_of(&self, function: &str) -> Vec<String> {
        self.processes(|settings| settings.contains(&format!("FUNICULAR_FUNCTION={function}")))
    }

    fn processes(&self, is_meant: impl Fn(&Vec<String>) -> bool) -> Vec<String> {
        let secrets = self.dir.path().join(".funicular").display().to_string();
        let own = format!("FUNICULAR_SECRETS={secrets}");
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(settings) = fs::read(process.path().join("environ")) else { continue };
            let settings = String::from_utf8_lossy(&settings);
            let settings: Vec<String> = settings.split('\0').map(str::to_owned).collect();
            if settings.contains(&own) && is_meant(&settings) {
                found.push(process.file_name().to_string_lossy().into_owned());
            }
        }
        found
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_remove("FUNICULAR_TOPOLOGY").env_remove("FUNICULAR_LOG");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `funicular …` to its end, which has to come by itself.
    pub fn run(&self, args: &[&str]) -> Ended {
        let child = self.command(args).spawn().expect("it runs");
        let id = child.id();
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || ended.send(child.wait_with_output()));
        let Ok(output) = end.recv_timeout(PATIENCE) else {
            signal("-KILL", id);
            panic!("funicular {}: still runs", args.join(" "));
        };
        Ended::of(output.expect("its output"))
    }

    /// Runs `funicular …` with nobody who reads what it prints; what it said on standard
    /// error is read.
    pub fn unread(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).stdout(closed()).output().expect("it runs"))
    }

    /// Runs `funicular …` with a variable of the environment.
    pub fn with_variable(&self, name: &str, value: &str, args: &[&str]) -> Ended {
        Ended::of(self.command(args).env(name, value).output().expect("it runs"))
    }

    /// Runs `funicular …` on a screen. Its process is in the file `pid`; how it ended stays
    /// on the screen, and whether the terminal takes lines again.
    pub fn on_screen(&self, args: &[&str], size: (u16, u16)) -> Screen {
        let (program, args) = (program().display().to_string(), args.join(" "));
        let script = format!(
            "echo before\nsh -c 'echo $$ >pid; exec {program} {args}'\n\
             echo \"ended with $?\"\nstty -a | grep -o ' -*icanon'"
        );
        Screen::open(self.dir.path(), &script, size)
    }

    /// Runs `funicular …`, presses Ctrl-C once it printed a line with `word`, and waits
    /// for its end.
    pub fn interrupted(&self, args: &[&str], word: &str) -> Ended {
        let mut child = self.command(args).spawn().expect("it runs");
        let id = child.id();
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        let mut out = String::new();
        let began = Instant::now();
        loop {
            let Ok(line) = lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) else {
                let _ = child.kill();
                panic!("funicular {}: no {word:?} in {out:?}", args.join(" "));
            };
            out.push_str(&line);
            out.push('\n');
            if line.contains(word) {
                break;
            }
        }
        signal("-INT", id);
        while let Ok(line) = lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
            out.push_str(&line);
            out.push('\n');
        }
        let output = child.wait_with_output().expect("its end");
        let err = String::from_utf8(output.stderr).expect("text");
        Ended { code: output.status.code().unwrap_or(-1), out, err }
    }

    /// Runs `funicular up --topology topology.yaml …` until it says that it is ready.
    pub fn up(&self, more: &[&str]) -> Up {
        self.until_ready(self.begin_up(more))
    }

    /// The same with log lines that nobody reads.
    pub fn up_unheard(&self) -> Up {
        self.until_ready(self.launch(&[], closed().into(), &[("FUNICULAR_LOG", "info")]))
    }

    fn until_ready(&self, mut up: Up) -> Up {
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            match up.lines.recv_timeout(left) {
                Ok(line) if line == "ready" => return up,
                Ok(line) => up.greeting.push(line),
                Err(_) => {
                    let log = fs::read_to_string(self.path("up.log")).unwrap_or_default();
                    panic!("it is not ready: {:?} {log}", up.greeting);
                }
            }
        }
    }

    /// The same, which may never be ready.
    pub fn begin_up(&self, more: &[&str]) -> Up {
        let log = fs::File::create(self.path("up.log")).expect("a log file");
        self.launch(more, log.into(), &[])
    }

    fn launch(&self, more: &[&str], log: Stdio, variables: &[(&str, &str)]) -> Up {
        let mut args = [&["up", "--topology", "topology.yaml"], more].concat();
        // The usual port is one for all tests.
        if !more.contains(&"--dashboard") {
            args.push("--no-dashboard");
        }
        let mut command = self.command(&args);
        command.envs(variables.iter().copied()).stderr(log);
        let mut process = command.spawn().expect("it runs");
        let out = BufReader::new(process.stdout.take().expect("its output"));
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        Up { process, lines, greeting: Vec::new() }
    }

    /// The ids of the redis-servers that an `up` has started here, whose sockets are here.
    pub fn servers(&self) -> Vec<u32> {
        let here = self.dir.path().display().to_string();
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let title = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            if title.starts_with("redis-server") && title.contains(&here) {
                found.extend(process.file_name().to_string_lossy().parse::<u32>());
            }
        }
        found
    }
}

impl Drop for Terminal {
    /// Ends the servers of an `up` that was killed.
    fn drop(&mut self) {
        for server in self.servers() {
            let _ = Command::new("kill").arg(server.to_string()).status();
        }
    }
}

impl Up {
    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGTERM; the exit code and the lines that came since it was ready.
    pub fn stop(self) -> (i32, Vec<String>) {
        self.stop_by("-TERM")
    }

    /// The same with another signal.
    pub fn stop_by(mut self, how: &str) -> (i32, Vec<String>) {
        signal(how, self.process.id());
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("its end") {
                return (status.code().unwrap_or(-1), self.lines.iter().collect());
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL: nothing of it can clean up.
    pub fn kill9(mut self) {
        self.process.kill().expect("it is ours to kill");
        self.process.wait().expect("it ends");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let code = output.status.code().unwrap_or(-1);
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// It ended well; its output.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// It ended with this code and one sentence, which has these words.
    #[track_caller]
    pub fn sentence(self, code: i32, words: &[&str]) {
        let one = self.err.strip_prefix("funicular: ").and_then(|text| text.strip_suffix('\n'));
        let one = one.unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!((self.code, one.lines().count()), (code, 1), "{self:?}");
        for word in words {
            assert!(one.contains(word), "{word:?} is not in {one:?}");
        }
    }
}
