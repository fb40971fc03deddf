//! A program on a screen: a terminal of tmux's, of one's own for each test.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long something may take to be shown.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal in which a program runs, until this is dropped.
#[derive(Debug)]
pub struct Screen {
    dir: TempDir,
}

impl Screen {
    /// Runs a shell's script in a terminal of so many columns and lines, in a directory. What
    /// the script leaves on the screen stays when it has ended.
    pub fn open(dir: &Path, script: &str, (columns, lines): (u16, u16)) -> Self {
        let screen = Self {
            // Sockets have short names.
            dir: tempfile::Builder::new().prefix("tmux-").tempdir_in("/tmp").expect("a directory"),
        };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let script = format!("{script}\nexec cat");
        let dir = dir.display().to_string();
        let new = ["new-session", "-d", "-x", &columns, "-y", &lines, "-c", &dir, &script];
        screen.tmux(&new);
        screen
    }

    fn tmux(&self, args: &[&str]) -> String {
        let socket = self.dir.path().join("socket");
        let output = Command::new("tmux")
            .args(["-f", "/dev/null", "-S"])
            .arg(socket)
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .env("FUNICULAR_TOPOLOGY", "")
            .output()
            .expect("tmux runs: scripts/setup-tests.sh installs it");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {}: {err}", args.join(" "));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Presses keys: letters, or names such as `Enter` and `Down`.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as it should be; what is on it then.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let text = self.text();
            if is(&text) {
                return text;
            }
            assert!(began.elapsed() < PATIENCE, "{what} is not shown, but\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes the terminal larger or smaller.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// Whether the terminal shows the screen that it began with, and its cursor.
    pub fn is_as_before(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim() == "0 1"
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let socket = self.dir.path().join("socket");
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").status();
    }
}
