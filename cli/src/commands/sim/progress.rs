//! How far the policies are: bars for people, a line now and then where nobody looks. On
//! standard error, so that the report stays by itself.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use funicular_sim::scenario::Policy;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::note;

/// Between two lines.
const A_LINE: Duration = Duration::from_secs(10);

/// What is shown.
pub(super) struct Progress {
    shown: Shown,
    seconds: u32,
}

enum Shown {
    Lines(Mutex<Lines>),
    Bars(BTreeMap<Policy, ProgressBar>),
}

struct Lines {
    said: Instant,
    far: BTreeMap<Policy, u32>,
}

impl Progress {
    pub(super) fn new(policies: &[Policy], seconds: u32) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let all = MultiProgress::new();
            let bar = |policy: &Policy| (*policy, all.add(bar(*policy, seconds)));
            Shown::Bars(policies.iter().map(bar).collect())
        } else {
            Shown::Lines(Mutex::new(Lines { said: Instant::now(), far: BTreeMap::new() }))
        };
        Self { shown, seconds }
    }

    pub(super) fn show(&self, policy: Policy, second: u32) {
        match &self.shown {
            Shown::Bars(bars) => {
                if let Some(bar) = bars.get(&policy) {
                    bar.set_position(u64::from(second));
                }
            }
            Shown::Lines(lines) => {
                let Ok(mut lines) = lines.lock() else { return };
                lines.far.insert(policy, second);
                if lines.said.elapsed() >= A_LINE {
                    lines.said = Instant::now();
                    let percent = |far: u32| u64::from(far) * 100 / u64::from(self.seconds.max(1));
                    let each =
                        lines.far.iter().map(|(it, far)| format!("{it} {} %", percent(*far)));
                    note(each.collect::<Vec<_>>().join(", "));
                }
            }
        }
    }

    /// Takes the bars away; the last word is the command's.
    pub(super) fn end(&self) {
        if let Shown::Bars(bars) = &self.shown {
            for bar in bars.values() {
                bar.finish_and_clear();
            }
        }
    }
}

fn bar(policy: Policy, seconds: u32) -> ProgressBar {
    let bar = ProgressBar::new(u64::from(seconds));
    // A wrong template would be plain to see; the default bar is as good.
    if let Ok(style) = ProgressStyle::with_template("{prefix:8} [{bar:30}] {percent} % {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(policy.name());
    bar
}
