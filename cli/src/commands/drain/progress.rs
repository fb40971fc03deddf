//! How far a drain is, as it goes on: a bar for people, a line now and then where
//! nobody looks, nothing for machines.

use std::io::IsTerminal;
use std::time::Duration;

use funicular::topology::Node;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{Far, counts, total};
use crate::output::say;

/// Between two lines.
const A_LINE: Duration = Duration::from_secs(2);

/// What is shown.
pub(super) struct Progress {
    shown: Shown,
    name: String,
    began: Instant,
    /// What was moved before this command looked.
    before: Option<u64>,
}

enum Shown {
    Nothing,
    Lines { said: Option<Instant> },
    Bar(ProgressBar),
}

impl Progress {
    pub(super) fn new(node: &Node, json: bool) -> Self {
        let shown = match (json, std::io::stdout().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines { said: None },
            (false, true) => Shown::Bar(bar(&node.name.to_string())),
        };
        Self { shown, name: node.name.to_string(), began: Instant::now(), before: None }
    }

    pub(super) fn show(&mut self, far: &[Far]) {
        let all = total(far);
        let before = *self.before.get_or_insert(all.moved);
        let pace = pace(all.moved.saturating_sub(before), all.left, self.began.elapsed());
        let waits = far.iter().find_map(|far| far.status.waits_for.as_deref());
        let waits = waits.map(|why| format!("; waits: {why}")).unwrap_or_default();
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Lines { said } => {
                if said.is_none_or(|said| said.elapsed() >= A_LINE) {
                    *said = Some(Instant::now());
                    say(format_args!("{}: {}{pace}{waits}", self.name, counts(&all)));
                }
            }
            Shown::Bar(bar) => {
                bar.set_length(all.moved + all.left);
                bar.set_position(all.moved);
                bar.set_message(format!("{} left, {} failing{pace}{waits}", all.left, all.failing));
            }
        }
    }

    /// The node does not answer.
    pub(super) fn silent(&mut self, why: &dyn std::fmt::Display) {
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Lines { said } => {
                if said.is_none_or(|said| said.elapsed() >= A_LINE) {
                    *said = Some(Instant::now());
                    say(format_args!("{}: {why}; waiting for it", self.name));
                }
            }
            Shown::Bar(bar) => bar.set_message(format!("{why}; waiting for it")),
        }
    }

    /// Takes the bar away; the last word is the command's.
    pub(super) fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    // A wrong template would be plain to see; the default bar is as good.
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar
}

/// How quickly sessions go, and how long the others take at that.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn pace(moved: u64, left: u64, passed: Duration) -> String {
    if moved == 0 || passed < Duration::from_secs(1) {
        return String::new();
    }
    let rate = moved as f64 / passed.as_secs_f64();
    let time_left = Duration::try_from_secs_f64(left as f64 / rate).unwrap_or(Duration::MAX);
    // Whole seconds: more is guessing.
    let time_left = Duration::from_secs(time_left.as_secs() + 1);
    let rate = if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
    format!(", {rate}/s, {} left", HumanDuration(time_left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_known_after_a_second() {
        assert_eq!(pace(5, 100, Duration::from_millis(10)), "");
        assert_eq!(pace(0, 100, Duration::from_secs(10)), "");
        assert_eq!(pace(100, 1000, Duration::from_secs(10)), ", 10/s, 2 minutes left");
        assert_eq!(pace(5, 10, Duration::from_secs(10)), ", 0.5/s, 21 seconds left");
    }
}
