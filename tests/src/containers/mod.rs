//! Functions in containers: their images as `faas-cli` builds them, one of them on its
//! own, and the tree of `topology/compose`. Everything that is started ends when its
//! value is dropped.

pub mod compose;
pub mod image;
pub mod single;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// How long a container may take to serve, or to end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `docker`; what it printed, or what it complained of.
pub fn try_docker(arguments: &[&str]) -> Result<String, String> {
    text(Command::new("docker").args(arguments).output())
        .map_err(|why| format!("docker {}: {why}", arguments.join(" ")))
}

/// Runs `docker`, which succeeds.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    assert_docker();
    try_docker(arguments).unwrap_or_else(|why| panic!("{why}"))
}

/// These tests are not skipped: without Docker they fail, and say what to do.
#[track_caller]
pub fn assert_docker() {
    if let Err(why) = try_docker(&["version", "--format", "{{.Server.Version}}"]) {
        panic!("tests in containers need a Docker daemon: run scripts/setup-tests.sh ({why})");
    }
}

fn text(output: std::io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
        return Err(format!("{}\n{out}{}", output.status, String::from_utf8_lossy(&err)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Removes containers, networks and volumes of test processes that were killed before
/// they could: those whose `label` is `prefix` and the number of a process that is gone.
pub fn remove_left_over(label: &str, prefix: &str) {
    let filter = format!("label={label}");
    for (list, remove) in [
        (&["ps", "--all"][..], &["rm", "--force", "--volumes"][..]),
        (&["network", "ls"], &["network", "rm"]),
        (&["volume", "ls"], &["volume", "rm"]),
    ] {
        let what = if list[0] == "volume" { ".Name" } else { ".ID" };
        let format = format!("{{{{{what}}}}} {{{{.Label \"{label}\"}}}}");
        let arguments = [list, &["--filter", &filter, "--format", &format]].concat();
        for line in docker(&arguments).lines() {
            let Some((id, owner)) = line.split_once(' ') else { continue };
            let Some(process) = owner.strip_prefix(prefix) else { continue };
            if !Path::new("/proc").join(process).exists() {
                let _ = try_docker(&[remove, &[id]].concat());
            }
        }
    }
}

/// What a container wrote to its log.
pub fn log(container: &str) -> String {
    let output = Command::new("docker").args(["logs", container]).output();
    output.map_or_else(
        |error| error.to_string(),
        |out| String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
    )
}
