//! Ports that belong to one test at a time, whoever else tests on this machine.
//!
//! A node that a test stops leaves its port for a while. Nobody else may take it:
//! a lock on a file keeps it, for as long as its owner runs.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A port of the loopback that nobody listens at, kept until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    path: PathBuf,
    _lock: File,
}

impl Port {
    /// Finds one. It is none of those that the system gives to outgoing
    /// connections, which would take it before it is used.
    pub fn free() -> Self {
        let dir = std::env::temp_dir().join("funicular-test-ports");
        fs::create_dir_all(&dir).expect("a directory");
        loop {
            let number = rand::random_range(10_000..32_000);
            let path = dir.join(number.to_string());
            if let Some(lock) = lock(&path)
                && TcpListener::bind(("127.0.0.1", number)).is_ok()
            {
                return Self { number, path, _lock: lock };
            }
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// The lock on a file, unless somebody has it or has just removed the file.
fn lock(path: &PathBuf) -> Option<File> {
    let file = File::options().create(true).append(true).open(path).ok()?;
    file.try_lock().ok()?;
    let (mine, there) = (file.metadata().ok()?, fs::metadata(path).ok()?);
    (mine.ino() == there.ino()).then_some(file)
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_kept_though_nobody_listens() {
        let port = Port::free();
        assert!(lock(&port.path).is_none());
        let path = port.path.clone();
        drop(port);
        assert!(!path.exists());
        let again = lock(&path);
        assert!(again.is_some());
        fs::remove_file(path).unwrap();
    }
}
