//! `funicular topology …`: files and questions about a tree.

mod generate;
mod query;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use funicular::topology;

use crate::exit::Failure;
use crate::output::give;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The node above a node
    Parent(query::OfOne),
    /// The nodes right below a node
    Children(query::OfOne),
    /// A node and all below it
    Subtree(query::OfOne),
    /// The nodes from one node to another along the tree, or up to the root
    Path(query::Path),
    /// The lowest node that has both in its subtree
    CommonAncestor(query::OfTwo),
    /// Turn an infrastructure.json of the Java predecessor into a topology
    Import(Import),
    /// Write a topology of any size, for trying things out
    Generate(generate::Args),
}

#[derive(clap::Args)]
struct Import {
    /// The infrastructure.json; `-` reads it from standard input
    file: PathBuf,

    /// Where to write the topology [default: standard output]
    #[arg(long, short, value_name = "F")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<()> {
    match &args.what {
        What::Parent(of) => query::parent(of, json),
        What::Children(of) => query::children(of, json),
        What::Subtree(of) => query::subtree(of, json),
        What::Path(of) => query::path(of, json),
        What::CommonAncestor(of) => query::common_ancestor(of, json),
        What::Import(import) => import_file(import),
        What::Generate(args) => generate::run(args),
    }
}

fn import_file(args: &Import) -> Result<()> {
    let given = read(&args.file)?;
    let name = args.file.display();
    let text = topology::import(&given).with_context(|| format!("{name} cannot be imported"))?;
    write(args.output.as_deref(), &text)
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map_err(|error| Failure::Data(format!("{} cannot be read: {error}", path.display())))?;
    Ok(text)
}

/// Writes a text to a file, or else to standard output.
fn write(path: Option<&Path>, text: &str) -> Result<()> {
    match path {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("{} cannot be written", path.display())),
        None => give(text).context("standard output cannot be written"),
    }
}
