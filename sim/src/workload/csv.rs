//! Invocations a minute, from a CSV file. Two shapes, told apart by their heads:
//!
//! - `minute,edge,function,invocations`: so many calls of a function in a minute (from 0) at
//!   an edge, which is named or numbered;
//! - `HashOwner,HashApp,HashFunction,Trigger,1,2,…,1440`: a row a function, as the public
//!   traces of Azure Functions (2019) have it. It says nothing of where clients are: they are
//!   spread over the edges.
//!
//! There are no sessions in either: each function's calls are shared out among as many as its
//! part of all calls makes.

use std::collections::BTreeMap;
use std::io::Read;

use ::csv::{ReaderBuilder, StringRecord, Trim};
use funicular::session::FunctionName;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{ONE, Plan, Second, Stream, Workload};
use crate::tree::{Index, Tree};

const OWN: [&str; 4] = ["minute", "edge", "function", "invocations"];
const AZURE: [&str; 4] = ["HashOwner", "HashApp", "HashFunction", "Trigger"];
const MINUTES_A_DAY: usize = 1440;
/// More than a month is no trace of a day.
const MOST_MINUTES: u32 = 44_640;
/// Bytes of a session.
const BYTES: f64 = 20_000.0;

/// A file that does not read; the text says where and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct CsvError {
    /// Which line, from 1.
    pub line: u64,
    /// What is wrong, and what is right.
    pub why: String,
}

/// Calls of one function, at one edge or anywhere.
#[derive(Debug)]
struct Calls {
    function: u32,
    edge: Option<Index>,
    /// By minute.
    counts: Vec<f64>,
}

/// Reads a file and makes sessions of it, at most `seconds` of it.
pub fn read(
    file: impl Read,
    name: &str,
    sessions: u32,
    seconds: Option<Second>,
    tree: &Tree,
    seed: u64,
) -> Result<Workload, CsvError> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).flexible(true).from_reader(file);
    let heads = reader.headers().map_err(|error| unreadable(&error))?.clone();
    let begins = |with: [&str; 4]| heads.iter().zip(with).filter(|(a, b)| a == b).count() == 4;
    let mut reading = Reading { tree, functions: BTreeMap::new(), calls: Vec::new() };
    if begins(AZURE) {
        let minutes = heads.len() - AZURE.len();
        if minutes != MINUTES_A_DAY {
            let why = format!("there are {minutes} columns of minutes; a day has {MINUTES_A_DAY}");
            return Err(CsvError { line: 1, why });
        }
        each(&mut reader, heads.len(), |row| reading.azure(row))?;
    } else if begins(OWN) && heads.len() == OWN.len() {
        let mut edges = BTreeMap::new();
        each(&mut reader, OWN.len(), |row| reading.own(&mut edges, row))?;
    } else {
        let why = format!(
            "the heads are neither `{}` nor `{},1,2,…,{MINUTES_A_DAY}`",
            OWN.join(","),
            AZURE.join(",")
        );
        return Err(CsvError { line: 1, why });
    }
    reading.workload(name, sessions, seconds, seed)
}

/// Hands every row over with its line.
fn each(
    reader: &mut ::csv::Reader<impl Read>,
    columns: usize,
    mut take: impl FnMut(&StringRecord) -> Result<(), String>,
) -> Result<(), CsvError> {
    let mut row = StringRecord::new();
    while reader.read_record(&mut row).map_err(|error| unreadable(&error))? {
        let line = row.position().map_or(0, ::csv::Position::line);
        let wrong = |why| CsvError { line, why };
        if row.len() != columns {
            return Err(wrong(format!("there are {} columns, not {columns}", row.len())));
        }
        take(&row).map_err(wrong)?;
    }
    Ok(())
}

fn unreadable(error: &::csv::Error) -> CsvError {
    let line = error.position().map_or(0, ::csv::Position::line);
    CsvError { line, why: error.to_string() }
}

struct Reading<'a> {
    tree: &'a Tree,
    functions: BTreeMap<String, u32>,
    calls: Vec<Calls>,
}

impl Reading<'_> {
    fn function(&mut self, name: &str) -> u32 {
        let next = self.functions.len() as u32;
        *self.functions.entry(name.to_owned()).or_insert(next)
    }

    fn azure(&mut self, row: &StringRecord) -> Result<(), String> {
        let name = &row[2];
        FunctionName::new(name).map_err(|error| format!("HashFunction: {error}"))?;
        let counts = row.iter().skip(AZURE.len()).enumerate();
        let counts: Result<Vec<f64>, String> = counts
            .map(|(minute, text)| {
                count(text).map_err(|why| format!("minute {}: {why}", minute + 1))
            })
            .collect();
        let counts = counts?;
        // The same function may be there once a trigger.
        let function = self.function(name);
        self.calls.push(Calls { function, edge: None, counts });
        Ok(())
    }

    fn own(
        &mut self,
        known: &mut BTreeMap<(u32, Index), usize>,
        row: &StringRecord,
    ) -> Result<(), String> {
        let minute = &row[0];
        let minute = minute.parse::<u32>().ok().filter(|minute| *minute < MOST_MINUTES);
        let Some(minute) = minute else {
            return Err(format!(
                "minute is {:?}; it is a whole number from 0, below {MOST_MINUTES}",
                &row[0]
            ));
        };
        let edge = self.edge(&row[1])?;
        FunctionName::new(&row[2]).map_err(|error| error.to_string())?;
        let function = self.function(&row[2]);
        let invocations = count(&row[3]).map_err(|why| format!("invocations: {why}"))?;
        let at = *known.entry((function, edge)).or_insert_with(|| {
            self.calls.push(Calls { function, edge: Some(edge), counts: Vec::new() });
            self.calls.len() - 1
        });
        let counts = &mut self.calls[at].counts;
        let needed = minute as usize + 1;
        if counts.len() < needed {
            counts.resize(needed, 0.0);
        }
        counts[minute as usize] += invocations;
        Ok(())
    }

    /// An edge by its name, or by its number among the edges.
    fn edge(&self, text: &str) -> Result<Index, String> {
        let entries = self.tree.entries();
        let numbered = text.parse::<usize>().ok();
        if let Some(number) = numbered {
            return entries.get(number).copied().ok_or_else(|| {
                format!("there is no edge {number}: there are {}, from 0", entries.len())
            });
        }
        let named = self.tree.named(text).filter(|index| self.tree.at(*index).entry);
        named.ok_or_else(|| {
            let first = &self.tree.at(entries[0]).name;
            format!("there is no edge `{text}`: name one as {first}, or give a number from 0")
        })
    }

    fn workload(
        self,
        name: &str,
        sessions: u32,
        seconds: Option<Second>,
        seed: u64,
    ) -> Result<Workload, CsvError> {
        let sums: Vec<f64> = self.calls.iter().map(|calls| calls.counts.iter().sum()).collect();
        let all: f64 = sums.iter().sum();
        if all <= 0.0 {
            return Err(CsvError { line: 1, why: "nobody calls anything in it".to_owned() });
        }
        let minutes = self.calls.iter().map(|calls| calls.counts.len()).max().unwrap_or(0);
        let seconds = seconds.unwrap_or(Second::MAX).min(minutes as Second * 60);
        let mut chance = StdRng::seed_from_u64(seed);
        let (mut streams, mut plans) = (Vec::new(), Vec::new());
        for (calls, sum) in self.calls.into_iter().zip(sums).filter(|(_, sum)| *sum > 0.0) {
            let number = ((sum / all * f64::from(sessions)).round() as u32).max(1);
            let used = |count: &f64| *count > 0.0;
            let first = calls.counts.iter().position(used).unwrap_or(0) as Second * 60;
            let last = calls.counts.iter().rposition(used).unwrap_or(0) as Second * 60 + 60;
            if first >= seconds {
                continue;
            }
            for _ in 0..number {
                let entries = self.tree.entries();
                let anywhere = entries[chance.random_range(0..entries.len())];
                let bytes = BYTES * (0.5 + chance.random::<f64>());
                plans.push(Plan {
                    start: first,
                    end: last,
                    edge: calls.edge.unwrap_or(anywhere),
                    stream: streams.len() as u32,
                    rate: (ONE / f64::from(number)) as u64,
                    bytes: bytes as u32,
                });
            }
            // Of a minute's calls, so many a second.
            let levels = calls.counts.iter().map(|count| count / 60.0).collect();
            streams.push(Stream { function: calls.function, levels: Some(levels) });
        }
        let mut functions: Vec<(u32, String)> =
            self.functions.into_iter().map(|(name, number)| (number, name)).collect();
        functions.sort();
        let functions: Result<Vec<_>, _> =
            functions.into_iter().map(|(_, name)| FunctionName::new(name)).collect();
        let functions = functions.map_err(|error| CsvError { line: 0, why: error.to_string() })?;
        Ok(Workload::new(name.to_owned(), seconds, functions, streams, &plans, Vec::new()))
    }
}

fn count(text: &str) -> Result<f64, String> {
    let count = text.parse::<f64>().ok().filter(|count| count.is_finite() && *count >= 0.0);
    count.ok_or_else(|| format!("{text:?} is no number of calls: it is zero or above"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn tree() -> Tree {
        Tree::generated(13, 3, &Settings::default()).unwrap()
    }

    fn parsed(text: &str) -> Result<Workload, CsvError> {
        read(text.as_bytes(), "a file", 100, None, &tree(), 1)
    }

    fn azure(rows: &[(&str, usize, u32)]) -> String {
        let minutes: Vec<String> = (1..=1440).map(|minute| minute.to_string()).collect();
        let mut text = format!("HashOwner,HashApp,HashFunction,Trigger,{}\n", minutes.join(","));
        for (function, minute, count) in rows {
            let counts = (1..=1440).map(|it| if it == *minute { *count } else { 0 });
            let counts: Vec<String> = counts.map(|count| count.to_string()).collect();
            text.extend(["o,a,", *function, ",http,", &counts.join(","), "\n"]);
        }
        text
    }

    #[test]
    fn calls_become_sessions_of_their_edges() {
        let text = "minute,edge,function,invocations\n0,edge-3,cart,600\n2,edge-3,cart,60\n\
                    1,0,cdn,60\n";
        let workload = parsed(text).unwrap();
        assert_eq!((workload.seconds, workload.streams.len()), (180, 2));
        assert_eq!(workload.sessions.len(), 100);
        let tree = tree();
        let cart: Vec<_> = workload.sessions.iter().filter(|plan| plan.stream == 0).collect();
        assert_eq!(cart.len(), 92);
        assert!(cart.iter().all(|plan| tree.at(plan.edge).name.as_str() == "edge-3"));
        let rate: f64 = cart.iter().map(|plan| plan.rate as f64 / ONE).sum();
        let stream = &workload.streams[0];
        assert!((rate * stream.level(0) - 10.0).abs() < 1e-6);
        assert!((rate * stream.level(2) - 1.0).abs() < 1e-6);
        assert!((stream.level(1) + stream.level(3)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_day_of_azure_is_spread_over_the_edges() {
        let workload = parsed(&azure(&[("f1", 1, 6000), ("f2", 1440, 60), ("f3", 1, 0)])).unwrap();
        assert_eq!(workload.seconds, 86_400);
        assert_eq!(workload.functions.len(), 3);
        let edges: std::collections::BTreeSet<_> =
            workload.sessions.iter().map(|plan| plan.edge).collect();
        assert!(edges.len() > 5);
        let late = workload.sessions.last().unwrap();
        assert_eq!((late.start, late.end), (86_340, 86_400));
    }

    #[test]
    fn what_does_not_read_is_named_with_its_line() {
        let head = "minute,edge,function,invocations\n";
        let good = "0,0,cart,1\n";
        for (text, line, says) in [
            (String::new(), 1, "heads are neither"),
            ("a,b\n".to_owned(), 1, "heads are neither"),
            (format!("{head}{good}x,0,cart,1\n"), 3, "minute is \"x\""),
            (format!("{head}99999999,0,cart,1\n"), 2, "below"),
            (format!("{head}{good}{good}0,edge-99,cart,1\n"), 4, "no edge `edge-99`"),
            (format!("{head}0,root,cart,1\n"), 2, "no edge `root`"),
            (format!("{head}0,77,cart,1\n"), 2, "there are 8"),
            (format!("{head}0,0,,1\n"), 2, "function"),
            (format!("{head}0,0,cart,-1\n"), 2, "invocations"),
            (format!("{head}0,0,cart,NaN\n"), 2, "invocations"),
            (format!("{head}0,0,cart\n"), 2, "3 columns, not 4"),
            (format!("{head}0,0,cart,0\n"), 1, "nobody calls"),
            ("HashOwner,HashApp,HashFunction,Trigger,1,2\n".to_owned(), 1, "1440"),
            (azure(&[("f", 3, 77)]).replace(",77,0,0,", ",many,0,0,"), 2, "minute 3"),
            (azure(&[("", 3, 1)]), 2, "HashFunction"),
        ] {
            let error = parsed(&text).unwrap_err();
            let named = error.line == line && error.why.contains(says);
            assert!(named, "{:?}: {error}", text.get(..80));
        }
    }
}
