//! Lets a test hold a step open. Compiled to nothing without the feature
//! `failpoints`.
//!
//! With it, `FUNICULAR_FAILPOINTS` names a directory. A process that comes to the
//! step `x` while the directory holds a file `x` writes `x.reached` beside it and
//! waits until `x` is gone.

/// Comes to the step `name`.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[allow(clippy::unused_async)]
pub(crate) async fn reach(_name: &str) {}

/// Comes to the step `name`.
#[cfg(feature = "failpoints")]
pub(crate) async fn reach(name: &str) {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("FUNICULAR_FAILPOINTS").map(PathBuf::from));
    let Some(directory) = DIRECTORY.as_ref() else { return };
    let point = directory.join(name);
    if !point.exists() {
        return;
    }
    let _ = std::fs::write(directory.join(format!("{name}.reached")), b"");
    while point.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
