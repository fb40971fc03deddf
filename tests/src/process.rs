//! Signals to the processes of tests.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Stops a process (SIGSTOP), and returns when it has stopped: until one of its threads has
/// been given a processor to take the signal, the others go on.
pub fn pause(id: u32) {
    signal("-STOP", id);
    let until = Instant::now() + Duration::from_secs(10);
    while !has_stopped(id) {
        assert!(Instant::now() < until, "{id} goes on in spite of SIGSTOP");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Lets it go on (SIGCONT).
pub fn resume(id: u32) {
    signal("-CONT", id);
}

/// Sends it a signal, as `kill` names it (`-TERM`).
pub fn signal(signal: &str, id: u32) {
    let sent = Command::new("kill").args([signal, &id.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Whether all its threads have, or it is no more.
fn has_stopped(id: u32) -> bool {
    let Ok(threads) = fs::read_dir(Path::new("/proc").join(id.to_string()).join("task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which may hold anything.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_held_up_does_nothing_more() {
        let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let used = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", busy.id())).unwrap();
            let (_, rest) = stat.rsplit_once(") ").unwrap();
            rest.split(' ').nth(11).unwrap().parse::<u64>().unwrap()
        };
        while used() == 0 {
            thread::yield_now();
        }
        pause(busy.id());
        let then = used();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(used(), then);
        resume(busy.id());
        while used() == then {
            thread::yield_now();
        }
        busy.kill().unwrap();
        busy.wait().unwrap();
    }
}
