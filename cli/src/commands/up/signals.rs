//! What ends `up`: Ctrl-C, SIGTERM, and the end of its terminal.

use std::future::poll_fn;
use std::task::Poll;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end it, heard from when this is made.
pub(super) struct Signals(Vec<Signal>);

impl Signals {
    /// From now on none of them ends this process by itself.
    pub(super) fn hear() -> Result<Self> {
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        // Under `nohup` it is meant to go on.
        if !hangup_is_ignored() {
            kinds.push(SignalKind::hangup());
        }
        let signals: std::io::Result<Vec<Signal>> = kinds.into_iter().map(signal).collect();
        Ok(Self(signals.context("signals cannot be heard")?))
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        poll_fn(|context| {
            let came = self.0.iter_mut().any(|one| one.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether whoever started this process has it ignore SIGHUP, as `nohup` does. Where the
/// system does not say so, it is not known.
fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is 1, and has the first bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen_in_what_the_system_says() {
        let status = |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(!ignores_hangup("Name:\tfunicular\n"));
    }
}
