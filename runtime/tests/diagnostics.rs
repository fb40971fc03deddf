//! What the compiler tells an author who got a signature wrong. Each file in
//! `diagnostics/` must not compile; its `.expected` lists, in order, what the
//! compiler has to say.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The library as this very test was linked with it: the newest one beside it.
fn library(deps: &Path) -> PathBuf {
    let age = |path: &PathBuf| {
        path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    std::fs::read_dir(deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libfunicular-") && name.ends_with(".rlib")
        })
        .max_by_key(age)
        .expect("the library was built for this test")
}

fn compile(source: &Path) -> String {
    let test = std::env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--color=never"])
        .args(["--diagnostic-width=400", "--out-dir"])
        .arg(out)
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("funicular={}", library(deps).display()))
        .arg(source)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{} compiles", source.display());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_signatures_are_explained_in_one_sentence() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    for case in ["handlers", "traits", "handles"] {
        let said = compile(&cases.join(case).with_extension("rs"));
        let expected =
            std::fs::read_to_string(cases.join(case).with_extension("expected")).unwrap();
        let mut rest = said.as_str();
        for line in expected.lines() {
            let Some(at) = rest.find(line) else {
                panic!("{case}.rs: the compiler does not say, or not here:\n{line}\n\n{said}")
            };
            rest = &rest[at + line.len()..];
        }
    }
}
