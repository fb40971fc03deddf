//! Writes a trace, in a thread of its own: a disk that hangs holds up no tick.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use funicular::session::Millis;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

use crate::policy::view::Functions;
use crate::signals::Sample;
use crate::trace::{self, Head, Tick};

/// So many ticks may wait for the disk; what comes after them is missing.
const WAITING: usize = 600;

/// The thread, and what it was given last.
pub(super) struct Recorder {
    lines: mpsc::Sender<String>,
    task: JoinHandle<()>,
    last: Option<Functions>,
    missing: u64,
}

impl Recorder {
    /// Opens the file; `None` if there is none, which is said in the log.
    pub(super) fn start(path: &Path, head: &Head) -> Option<Self> {
        let open = || {
            let mut file = BufWriter::new(File::create(path)?);
            write(&mut file, &serde_json::to_string(head)?)?;
            Ok::<_, std::io::Error>(file)
        };
        match open() {
            Ok(file) => Some(Self::to(file)),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "nothing is recorded");
                None
            }
        }
    }

    fn to(mut file: impl Write + Send + 'static) -> Self {
        let (lines, mut waiting) = mpsc::channel::<String>(WAITING);
        let task = tokio::task::spawn_blocking(move || {
            while let Some(line) = waiting.blocking_recv() {
                if let Err(error) = write(&mut file, &line) {
                    tracing::error!(%error, "a tick is missing in the trace");
                }
            }
        });
        Self { lines, task, last: None, missing: 0 }
    }

    pub(super) fn write(&mut self, at: Millis, samples: Vec<Sample>, functions: &Functions) {
        let functions = trace::hashed(functions);
        let same = self.last.as_ref() == Some(&functions);
        let tick = Tick { at, samples, functions: (!same).then(|| functions.clone()) };
        let line = serde_json::to_string(&tick).unwrap_or_default();
        match self.lines.try_send(line) {
            Ok(()) => self.last = Some(functions),
            // The next line says all of it again.
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.last = None;
                self.missing += 1;
                if self.missing.is_power_of_two() {
                    let missing = self.missing;
                    tracing::error!(
                        missing,
                        "the disk is too slow: ticks are missing in the trace"
                    );
                }
            }
        }
    }

    /// Waits a while for what is not written yet.
    pub(super) async fn end(self, patience: Duration) {
        drop(self.lines);
        if tokio::time::timeout(patience, self.task).await.is_err() {
            tracing::error!("the end of the trace is missing");
        }
    }
}

/// A line at a time: a trace is read while it is written.
fn write(file: &mut impl Write, line: &str) -> std::io::Result<()> {
    writeln!(file, "{line}")?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc as blocking;

    use parking_lot::Mutex;

    use super::*;

    /// A disk that takes nothing until it is let.
    struct Hangs {
        go: blocking::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Hangs {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.go.recv();
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_nobody_and_what_is_missing_is_said_again() {
        let (let_go, go) = blocking::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut recorder = Recorder::to(Hangs { go, written: Arc::clone(&written) });
        let functions = Functions::new();
        for at in 0..WAITING as u64 + 10 {
            recorder.write(at, Vec::new(), &functions);
        }
        assert!(recorder.missing > 0 && recorder.last.is_none());
        drop(let_go);
        // The disk is back: what comes now is whole.
        while recorder.lines.capacity() < WAITING {
            tokio::task::yield_now().await;
        }
        recorder.write(5_000, Vec::new(), &functions);
        recorder.end(Duration::from_secs(10)).await;
        let text = String::from_utf8(written.lock().clone()).unwrap();
        let ticks: Vec<Tick> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = ticks.last().unwrap();
        assert_eq!((last.at, last.functions.is_some()), (5_000, true));
        assert!(ticks[0].functions.is_some() && ticks[1].functions.is_none());
    }
}
