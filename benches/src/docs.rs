//! Writes the last run's figures and plots into `docs/` and `README.md`.
//!
//! A page has the figures between two marks: `<!-- bench:table -->` or
//! `<!-- bench:short -->`, and `<!-- bench:end -->`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::plots;
use crate::report::{Figure, Measured, met, must, ordered, short, workspace};

const END: &str = "<!-- bench:end -->";

/// Writes everything that was measured.
pub(crate) fn write() -> Result<ExitCode> {
    let measured = Measured::last()?;
    if measured.summary.is_empty() {
        bail!("nothing was measured yet: run `make bench` first");
    }
    let docs = workspace().join("docs");
    for file in plots::draw(&measured, &docs.join("performance"))? {
        println!("docs/performance/{file}");
    }
    for (page, mark, text) in [
        ("docs/performance.md", "<!-- bench:table -->", table(&measured)),
        ("docs/performance.md", "<!-- bench:cpu -->", cpu(&measured)),
        ("docs/performance.md", "<!-- bench:downtime -->", downtime(&measured)),
        ("docs/performance.md", "<!-- bench:crowd -->", crowd(&measured)),
        ("README.md", "<!-- bench:short -->", table(&measured)),
    ] {
        let path = workspace().join(page);
        let old = std::fs::read_to_string(&path).with_context(|| page.to_owned())?;
        let Some(new) = replaced(&old, mark, &text) else { continue };
        std::fs::write(&path, new).with_context(|| page.to_owned())?;
        println!("{page} {mark}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The page with another text between a mark and the next end; `None` without them.
fn replaced(page: &str, mark: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(mark)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{mark}\n{text}{END}{after}"))
}

fn table(measured: &Measured) -> String {
    let mut text = String::from(
        "| name | measured | baseline | ratio | must | met | durability |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for name in ordered(&measured.summary) {
        let figure: &Figure = &measured.summary[&name];
        let with_unit = |number: f64| format!("{} {}", short(number), figure.unit);
        let baseline = figure.baseline.map_or(String::new(), with_unit);
        let ratio = figure.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            text,
            "| `{name}` | {} | {baseline} | {ratio} | {} | {} | {} |",
            with_unit(figure.value),
            must(figure),
            met(figure),
            figure.durability
        );
    }
    text
}

/// CPU time a request, by process.
fn cpu(measured: &Measured) -> String {
    let mut text = String::from(
        "| row | side | clients µs | server µs | Redis µs | p50 µs | p99 µs |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for name in ordered(&measured.summary) {
        for side in ["ours", "baseline"] {
            let of = &measured.summary[&name].detail[side];
            let Some(cpu) = of.get("cpu_us") else { continue };
            let _ = writeln!(
                text,
                "| `{name}` | {side} | {} | {} | {} | {} | {} |",
                cpu["clients"], cpu["server"], cpu["redis"], of["p50_us"], of["p99_us"]
            );
        }
    }
    text
}

fn downtime(measured: &Measured) -> String {
    let mut text = String::from(
        "| bytes | moves | median ms | p99 ms | longest ms | frozen p99 ms | bystander p99 ms | a write otherwise ms |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let Some(figure) = measured.summary.get("downtime_p99") else { return text };
    let Some(sizes) = figure.detail["sizes"].as_object() else { return text };
    let mut sizes: Vec<_> = sizes.iter().collect();
    sizes.sort_by_key(|(bytes, _)| bytes.parse::<u64>().unwrap_or(0));
    for (bytes, of) in sizes {
        let number = |name: &str| short(of[name].as_f64().unwrap_or(0.0));
        let _ = writeln!(
            text,
            "| {bytes} | {} | {} | {} | {} | {} | {} | {} |",
            of["moves"],
            number("median_ms"),
            number("p99_ms"),
            number("longest_ms"),
            number("frozen_p99_ms"),
            number("bystander_p99_ms"),
            number("a_request_otherwise_ms")
        );
    }
    text
}

fn crowd(measured: &Measured) -> String {
    let mut text = String::from(
        "| clients | median ms | p99 ms | of them at the edge | median ms without | p99 ms without |\n\
         |---|---|---|---|---|---|\n",
    );
    let Some(figure) = measured.summary.get("crowd") else { return text };
    for step in figure.detail["steps"].as_array().into_iter().flatten() {
        let number = |name: &str| short(step[name].as_f64().unwrap_or(0.0));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            step["clients"],
            number("p50_ms"),
            number("p99_ms"),
            step["at_edge"],
            number("alone_p50_ms"),
            number("alone_p99_ms"),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_marks_is_replaced() {
        let page = "a\n<!-- bench:table -->\nold\n<!-- bench:end -->\nb\n";
        let new = replaced(page, "<!-- bench:table -->", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- bench:table -->\nnew\n<!-- bench:end -->\nb\n");
        assert_eq!(replaced(&new, "<!-- bench:table -->", "new\n").unwrap(), new);
        assert_eq!(replaced("a", "<!-- bench:table -->", "new"), None);
    }
}
