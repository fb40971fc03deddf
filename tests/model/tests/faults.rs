//! A checker that finds no fault proves something only if it finds those that are
//! there: each rule is switched off in turn, and the model must notice.
//!
//! Rules of the core are switched off by the patches in `tests/faults`, applied to a
//! copy of its sources; what the shell around it does is left out by the model itself.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use funicular_model::explore::explore;
use funicular_model::scopes;
use funicular_model::world::{Omission, Said};

/// The sources' root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One patch of `tests/faults`: what it breaks, and what must notice.
struct Fault {
    path: PathBuf,
    name: String,
    fails: String,
    scope: String,
}

impl Fault {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).expect("a patch");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let said = |what: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("{name} has no line {what:?}")).to_owned()
        };
        Self { fails: said("Fails: "), scope: said("Scope: "), path, name }
    }

    fn all() -> Vec<Self> {
        let files = fs::read_dir(root().join("tests/faults")).expect("the patches");
        let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "patch"));
        paths.sort();
        paths.into_iter().map(Self::read).collect()
    }

    fn apply(&self, copy: &Path) {
        let patched = Command::new("patch")
            .args(["-p1", "--silent", "--fuzz=0", "--no-backup-if-mismatch", "-i"])
            .arg(&self.path)
            .current_dir(copy)
            .output()
            .expect("these tests need `patch`: install it");
        assert!(
            patched.status.success(),
            "tests/faults/{}.patch does not apply to runtime/src any more: make it again for the \
             code as it is, breaking the same rule.\n{}",
            self.name,
            String::from_utf8_lossy(&patched.stdout),
        );
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for file in fs::read_dir(from).expect("a directory") {
        let file = file.expect("a file");
        let to = to.join(file.file_name());
        if file.file_type().expect("its kind").is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).expect("a copy");
        }
    }
}

/// The model and the core alone, as a workspace of their own.
fn copy_model(to: &Path) {
    let _ = fs::remove_dir_all(to);
    for part in ["runtime/src/protocol", "runtime/src/session", "tests/model/src"] {
        copy(&root().join(part), &to.join(part));
    }
    for file in ["tests/model/Cargo.toml", "Cargo.lock"] {
        fs::copy(root().join(file), to.join(file)).expect("a copy");
    }
    let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"tests/model\"]\n\n\
                     [profile.dev]\nopt-level = 1\ndebug = false\nincremental = true\n";
    fs::write(to.join("Cargo.toml"), workspace).expect("a workspace");
}

/// Builds the model in `copy` and says what it reports.
fn explore_copy(copy: &Path, fault: &Fault) -> String {
    let target = copy.with_file_name("target");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--bin", "funicular-model"])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-Awarnings")
        .current_dir(copy)
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "with {} the core does not build:\n{said}", fault.name);
    let explored = Command::new(target.join("debug/funicular-model"))
        .args([&fault.scope, "--until", &fault.fails, "--within", "120"])
        .output()
        .expect("the model runs");
    String::from_utf8_lossy(&explored.stdout).into_owned()
}

#[test]
fn each_rule_of_the_core_is_missed_when_it_is_switched_off() {
    let copy = root().join("target/faults/model");
    let (mut found, mut missed) = (String::new(), Vec::new());
    for fault in Fault::all() {
        let began = std::time::Instant::now();
        copy_model(&copy);
        fault.apply(&copy);
        let report = explore_copy(&copy, &fault);
        let line = format!("FAULT: {}, after ", fault.fails);
        match report.lines().find_map(|known| known.trim().strip_prefix(&line)) {
            Some(rest) => {
                let steps = rest.split_once(':').map_or(rest, |(steps, _)| steps);
                let took = began.elapsed().as_secs_f64();
                let _ =
                    writeln!(found, "{}: {} after {steps} ({took:.1} s)", fault.name, fault.fails);
            }
            None => missed.push(format!("{}: {report}", fault.name)),
        }
    }
    println!("{found}");
    assert!(missed.is_empty(), "nobody noticed:\n{}", missed.join("\n"));
}

/// Leaves something out of the shell; the property must fail.
fn misses(omits: Omission, scope: funicular_model::actions::Scope, property: &str) {
    let report = explore(scope, omits, Some(property));
    let fault = report.faults.iter().find(|fault| fault.property == property);
    let fault = fault.unwrap_or_else(|| panic!("without {omits:?} nothing fails: {report}"));
    println!("without {omits:?}: {property} after {} steps: {}", fault.steps.len(), fault.why);
}

fn said_too_early(said: Said, scope: funicular_model::actions::Scope, property: &str) {
    misses(Omission { sync: Some(said), ..Omission::default() }, scope, property);
}

#[test]
fn rule_3_an_intent_that_is_said_before_it_is_on_disk_is_missed() {
    said_too_early(Said::Intent, scopes::CRASHES, "G1 single writer");
}

/// A store that forgets a "no" was restarted, and a restart closes all pulls: one holds
/// without the other.
#[test]
fn rule_3_a_no_that_is_said_before_it_is_on_disk_does_no_harm() {
    let omits = Omission { sync: Some(Said::No), ..Omission::default() };
    let report = explore(scopes::CRASHES, omits, None);
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
fn rule_3_a_yes_that_is_said_before_it_is_on_disk_is_missed() {
    said_too_early(Said::Yes, scopes::CRASHES, "G2 no loss");
}

#[test]
fn rule_3_an_acknowledgement_that_is_said_before_it_is_on_disk_is_missed() {
    said_too_early(Said::Acknowledgement, scopes::AWAY, "G1 single writer");
}

#[test]
fn rule_3_an_expiry_that_is_said_before_it_is_on_disk_is_missed() {
    said_too_early(Said::Expiry, scopes::ENDINGS, "G1 single writer");
}

#[test]
fn rule_3_what_home_says_it_knows_before_it_is_on_disk_is_missed() {
    said_too_early(Said::HomeKnows, scopes::AWAY, "G7 recovery");
}

#[test]
fn g3_a_window_that_nobody_looks_at_is_missed() {
    let omits = Omission { window: true, ..Omission::default() };
    misses(omits, scopes::REPEATS, "G3 exactly once");
}
