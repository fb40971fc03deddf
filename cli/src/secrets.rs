//! The keys of a tree, as files on this machine: made once, readable by their owner
//! alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use funicular::http::signature::{Keys, OPERATOR_KEY, PEER_KEY};

/// Reads the keys in `dir`, creating what is missing.
pub(crate) fn open(dir: &Path) -> Result<Keys> {
    if !dir.exists() {
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(dir)
            .with_context(|| format!("{} cannot be created", dir.display()))?;
    }
    for name in [PEER_KEY, OPERATOR_KEY] {
        create(&dir.join(name))?;
    }
    Ok(Keys::from_dir(dir)?)
}

/// A new secret that nobody can guess.
pub(crate) fn make() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

/// Replaces a secret's file as a whole: nobody reads half of it.
pub(crate) fn replace(path: &Path, secret: &str) -> Result<()> {
    let new = path.with_extension("new");
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

fn create(path: &Path) -> Result<()> {
    let secret = make();
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(secret.as_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn g8_keys_are_made_once_and_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("deep/er");
        let keys = open(&dir).unwrap();
        assert_eq!(open(&dir).unwrap(), keys);
        for name in [PEER_KEY, OPERATOR_KEY] {
            let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_ne!(keys.peer.unwrap().current, keys.operator.unwrap());
    }
}
