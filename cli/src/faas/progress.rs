//! How far a command is that works on many nodes: a bar for people, a line a node where
//! nobody looks, nothing for machines.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Mutex;

use funicular::session::NodeName;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::say;

/// So many names of nodes that are worked on fit beside the bar.
const NAMES: usize = 4;

pub(super) struct Progress {
    shown: Shown,
    working: Mutex<BTreeSet<NodeName>>,
}

enum Shown {
    Nothing,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    pub(super) fn new(jobs: usize, json: bool) -> Self {
        let shown = match (json, std::io::stdout().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines,
            (false, true) => Shown::Bar(bar(jobs)),
        };
        Self { shown, working: Mutex::default() }
    }

    pub(super) fn begins(&self, node: &NodeName) {
        self.change(|working| working.insert(node.clone()));
    }

    pub(super) fn ends(&self, node: &NodeName, failed: Option<&str>) {
        self.change(|working| working.remove(node));
        let line = match failed {
            None => format!("{node}: done"),
            Some(why) => format!("{node}: failed, {why}"),
        };
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => say(line),
            Shown::Bar(bar) => {
                bar.inc(1);
                if failed.is_some() {
                    bar.println(line);
                }
            }
        }
    }

    /// Takes the bar away; the last word is the command's.
    pub(super) fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<NodeName>) -> bool) {
        // A panic elsewhere is no reason to show nothing.
        let mut working = self.working.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut working);
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(names(&working));
        }
    }
}

fn names(working: &BTreeSet<NodeName>) -> String {
    let mut names: Vec<&str> = working.iter().take(NAMES).map(NodeName::as_str).collect();
    if working.len() > NAMES {
        names.push("…");
    }
    names.join(", ")
}

fn bar(jobs: usize) -> ProgressBar {
    let bar = ProgressBar::new(jobs as u64);
    // A wrong template would be plain to see; the default bar is as good.
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_names_are_shown() {
        let name = |number: u32| NodeName::new(format!("n{number}")).unwrap();
        assert_eq!(names(&(0..2).map(name).collect()), "n0, n1");
        assert_eq!(names(&(0..9).map(name).collect()), "n0, n1, n2, n3, …");
    }
}
