//! Tables, sizes, JSON.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

pub(crate) use funicular_dashboard::pages::size;

/// Prints what a command found out: JSON for machines, else the text for people.
pub(crate) fn show(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) {
    let text = if json {
        // What commands print are plain values.
        serde_json::to_string_pretty(value).unwrap_or_default()
    } else {
        text()
    };
    say(text.trim_end());
}

/// Prints a line. A closed pipe (`| head`) or a terminal that is gone does not break the
/// work off, as `println!` would.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The same on standard error, where it is in no machine's way.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a text that somebody may keep: half of it is a failure, unless nobody wants more.
pub(crate) fn give(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        given => given,
    }
}

/// Lines up rows under their heads; columns of numbers stand right.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let numeric: Vec<bool> = (0..heads.len())
        .map(|column| {
            let mut cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .filter(|c| ![NONE, UNKNOWN].contains(&c.as_str()));
            cells.clone().next().is_some()
                && cells.all(|cell| cell.starts_with(|first: char| first.is_ascii_digit()))
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let fill = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if numeric[column] { format!("{fill}{cell}") } else { format!("{cell}{fill}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heads.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// A cell without anything to say.
pub(crate) const NONE: &str = "-";

/// A cell about what nobody knows.
pub(crate) const UNKNOWN: &str = "unknown";

/// `1 session`, `2 sessions`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_numbers_stand_right() {
        let rows = [vec!["milan".into(), "7".into()], vec!["òla".into(), "1024".into()]];
        assert_eq!(
            table(&["NODE", "SESSIONS"], &rows),
            "NODE   SESSIONS\nmilan         7\nòla        1024"
        );
        assert_eq!(table(&["NODE"], &[]), "NODE");
    }
}
