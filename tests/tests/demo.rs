//! `make demo` as it is shipped, its crowd for a shorter time and its tree at free ports.

use std::path::{Path, PathBuf};
use std::process::Command;

use funicular_tests::ports::Port;

/// Long enough that an oracle has relieved the edge, and a few seconds more.
const LOAD_SECONDS: &str = "16";

#[test]
fn g5_the_demo_is_as_told() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout");
    let test = std::env::current_exe().expect("the test's path");
    let program: PathBuf =
        test.parent().and_then(Path::parent).expect("target/<profile>").join("funicular");
    assert!(program.exists(), "{} is missing: cargo build -p funicular-cli", program.display());
    let example = checkout.join("topology/examples/italy.yaml");
    let mut topology = std::fs::read_to_string(example).expect("the tree");
    let ports: Vec<Port> = (0..6).map(|_| Port::free()).collect();
    for (port, own) in ports.iter().zip(8081..) {
        let own = format!("127.0.0.1:{own}\n");
        assert!(topology.contains(&own), "{own}: {topology}");
        topology = topology.replace(&own, &format!("127.0.0.1:{}\n", port.number()));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let tree = dir.path().join("italy.yaml");
    std::fs::write(&tree, topology).expect("a topology");
    let told = Command::new(checkout.join("scripts/demo.sh"))
        .env("FUNICULAR_BIN", program)
        .env("FUNICULAR_TOPOLOGY", tree)
        .env("DEMO_LOAD", LOAD_SECONDS)
        .output()
        .expect("the demo runs");
    let out = String::from_utf8_lossy(&told.stdout);
    let err = String::from_utf8_lossy(&told.stderr);
    println!("{out}");
    assert!(told.status.success(), "{err}");
    for part in ["oracle: offload", "oracle: onload", "sessions have gone up", "As told"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}
