//! Images of functions, built from the template as its users build them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{assert_docker, text};

/// The checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout").to_owned()
}

/// Where contexts are laid out: `target/containers`.
fn workshop() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| checkout().join("target")).join("containers")
}

/// The template, as `faas-cli template pull` brings it: real files, no links.
pub fn pull_template(into: &Path) {
    copy(&checkout().join("template"), &into.join("template"), &|_| true);
}

/// The build context of a function: `faas-cli build --shrinkwrap` lays it out, or where
/// there is none, we do as it does.
pub fn lay_out(author: &Path, handler: &Path, name: &str) -> PathBuf {
    let context = author.join("build").join(name);
    let _ = fs::remove_dir_all(&context);
    if by_faas_cli(author, handler, name) {
        return context;
    }
    println!("faas-cli is not on the PATH: the build context of {name} is laid out by hand");
    lay_out_by_hand(author, handler, &context);
    context
}

/// Whether there is a `faas-cli`, which then has laid it out.
fn by_faas_cli(author: &Path, handler: &Path, name: &str) -> bool {
    let stack = format!(
        "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  {name}:\n    lang: \
         rust-offloadable\n    handler: {}\n    image: {name}:test\n",
        handler.display()
    );
    fs::write(author.join("stack.yml"), stack).expect("a stack file");
    let output = Command::new("faas-cli")
        .args(["build", "--shrinkwrap", "--yaml", "stack.yml"])
        .current_dir(author)
        .output();
    if output.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return false;
    }
    text(output).unwrap_or_else(|why| panic!("faas-cli build --shrinkwrap: {why}"));
    true
}

/// The template, and the author's folder over its `function/`.
fn lay_out_by_hand(author: &Path, handler: &Path, context: &Path) {
    copy(&author.join("template/rust-offloadable"), context, &|_| true);
    copy(handler, &context.join("function"), &|name| !["build", "template"].contains(&name));
}

/// Copies a folder, following links as `faas-cli` does.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if !wanted(&name.to_string_lossy()) {
            continue;
        }
        let (from, to) = (entry.path(), to.join(&name));
        if fs::metadata(&from).expect("what it is").is_dir() {
            copy(&from, &to, &|_| true);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// The image of one of `functions/`.
pub fn of_stack(function: &str) -> String {
    build(&format!("funicular/{function}:test"), |author| {
        pull_template(author);
        lay_out(author, &checkout().join("functions").join(function), function)
    })
}

/// The image of an author's function: what `faas-cli new greet --lang rust-offloadable`
/// makes, then another handler (the [`crate::probe`]) in a module of its own, with a
/// dependency that the template does not have.
pub fn of_author() -> String {
    build("funicular/greet:test", |author| {
        pull_template(author);
        let greet = author.join("greet");
        let _ = fs::remove_dir_all(&greet);
        copy(&author.join("template/rust-offloadable/function"), &greet, &|_| true);
        let edit = |path: &str, text: &str| fs::write(greet.join(path), text).expect("an edit");
        let manifest = fs::read_to_string(greet.join("Cargo.toml")).expect("a manifest");
        edit("Cargo.toml", &format!("{manifest}serde_json = \"1\"\n"));
        edit("src/probe.rs", include_str!("../probe.rs"));
        edit("src/lib.rs", "//! An author's own.\nmod probe;\npub use probe::function;\n");
        lay_out(author, &greet, "greet")
    })
}

/// The image of the oracle, as `oracle/Dockerfile` makes it, but sooner: without what it needs
/// for Kubernetes, and where functions were built, which has much of it built already.
pub fn of_oracle() -> String {
    let author = workshop().join("funicular-greet-test");
    let greet = build_stage("funicular/greet-build:test", &author.join("build/greet"));
    locked(|| {
        docker_build(
            "funicular/oracle:test",
            &[
                &["--file", "oracle/Dockerfile", "--build-arg", "PROFILE=release"][..],
                &["--build-arg", "FEATURES=", "--build-arg", &format!("RUST_IMAGE={greet}")],
            ]
            .concat(),
            &checkout(),
        )
    })
}

/// The stage of a function's image in which it was built; all of it is there already.
fn build_stage(image: &str, context: &Path) -> String {
    locked(|| docker_build(image, &["--target", "build"], context))
}

/// Builds an image of the context that `lay_out` makes, one test at a time: the next
/// finds all layers there.
pub fn build(image: &str, lay_out: impl FnOnce(&Path) -> PathBuf) -> String {
    locked(|| {
        let author = workshop().join(image.replace(['/', ':'], "-"));
        docker_build(image, &[], &lay_out(&author))
    })
}

fn locked<T>(work: impl FnOnce() -> T) -> T {
    assert_docker();
    fs::create_dir_all(workshop()).expect("a folder");
    let lock = File::create(workshop().join("lock")).expect("a lock");
    lock.lock().expect("the lock");
    work()
}

fn docker_build(image: &str, how: &[&str], context: &Path) -> String {
    let output = Command::new("docker")
        .args(["build", "--tag", image])
        .args(how)
        .arg(".")
        .current_dir(context)
        .stdin(Stdio::null())
        .output();
    text(output).unwrap_or_else(|why| panic!("docker build of {image}: {why}"));
    image.to_owned()
}
