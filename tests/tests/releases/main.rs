//! What a release writes down and sends is read by the release before, and the other way
//! round. `tests/releases/<version>` holds both as the release with that version of the
//! internal calls wrote them.
//!
//! `FUNICULAR_GOLDEN=write` writes them anew: for a new version, never for an old one.

mod messages;
mod store;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

/// Named texts or messages.
type Golden = BTreeMap<String, Value>;

fn path(version: u32, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("releases/{version}/{file}"))
}

/// What a release wrote.
fn golden(version: u32, file: &str) -> Golden {
    let path = path(version, file);
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("golden messages")
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> Value {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits.into()
}

fn unhex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().expect("digits").as_bytes();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("two digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// This release writes the same.
#[track_caller]
fn assert_golden(version: u32, file: &str, written: &Golden) {
    if std::env::var("FUNICULAR_GOLDEN").is_ok_and(|how| how == "write") {
        let path = path(version, file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let text = serde_json::to_string_pretty(written).expect("JSON");
        std::fs::write(path, text + "\n").expect("written");
    }
    let expected = golden(version, file);
    let names = |of: &Golden| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(written), names(&expected), "{file}");
    for (name, value) in written {
        assert_eq!(value, &expected[name], "{file}: {name}");
    }
}
