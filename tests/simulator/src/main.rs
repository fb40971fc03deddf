//! Runs seeds, and says which one fails and how to see it again.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use funicular_simulator::{Report, run};
use parking_lot::Mutex;

/// Runs a tree of nodes in virtual time, with the faults that a seed decides.
#[derive(Parser)]
struct Options {
    /// Which seeds: `A..B` (both included), `A,B,C`, or one number `N` for 1..N.
    #[arg(default_value = "256")]
    seeds: String,
    /// One seed, with every step printed.
    #[arg(long, conflicts_with_all = ["threads", "keep_going"])]
    replay: Option<u64>,
    /// Seeds at once.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// Say how far it is, every so many seconds; 0 is never.
    #[arg(long, default_value_t = 60)]
    progress: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.replay {
        return replay(seed);
    }
    let Some(seeds) = seeds(&options.seeds) else {
        eprintln!("`{}` names no seeds: write 1..256, 3,7,9 or 256", options.seeds);
        return ExitCode::from(64);
    };
    let sum = Sum::default();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let said = Mutex::new(began);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    if failed.load(Ordering::Relaxed) && !options.keep_going {
                        return;
                    }
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = usize::try_from(place).ok().and_then(|at| nth(&seeds, at))
                    else {
                        return;
                    };
                    let report = run(seed, false);
                    if !report.faults.is_empty() {
                        failed.store(true, Ordering::Relaxed);
                        fails(&report);
                    }
                    sum.add(&report);
                    let mut said = said.lock();
                    if options.progress > 0 && said.elapsed().as_secs() >= options.progress {
                        *said = Instant::now();
                        println!("{}", sum.so_far(began.elapsed()));
                    }
                }
            });
        }
    });
    sum.say(began.elapsed());
    match failed.load(Ordering::Relaxed) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn replay(seed: u64) -> ExitCode {
    let report = run(seed, true);
    println!("seed {seed}: {} steps, hash {:016x}", report.steps, report.hash);
    match report.faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => {
            fails(&report);
            ExitCode::FAILURE
        }
    }
}

fn fails(report: &Report) {
    let seed = report.seed;
    let faults: Vec<String> = report.faults.iter().take(5).map(ToString::to_string).collect();
    println!("seed {seed} fails:\n  {}\n  replay: make sim REPLAY={seed}", faults.join("\n  "));
}

/// `A..B`, `A,B,C` or `N`.
fn seeds(text: &str) -> Option<Vec<RangeInclusive<u64>>> {
    if let Some((first, last)) = text.split_once("..") {
        let last = last.trim_start_matches('=');
        return Some(vec![first.trim().parse().ok()?..=last.trim().parse().ok()?]);
    }
    if text.contains(',') {
        let one = |text: &str| text.trim().parse().ok().map(|seed| seed..=seed);
        return text.split(',').map(one).collect();
    }
    Some(vec![1..=text.trim().parse().ok()?])
}

fn nth(seeds: &[RangeInclusive<u64>], mut at: usize) -> Option<u64> {
    for range in seeds {
        let len = range.clone().count();
        if at < len {
            return range.clone().nth(at);
        }
        at -= len;
    }
    None
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    failed: Vec<u64>,
    steps: u64,
    virtual_time: Duration,
    recovered: Duration,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct Sum(Mutex<Totals>);

impl Sum {
    fn add(&self, report: &Report) {
        let mut totals = self.0.lock();
        totals.seeds += 1;
        totals.steps += report.steps;
        totals.virtual_time += report.virtual_time;
        totals.recovered = totals.recovered.max(report.recovered);
        if !report.faults.is_empty() {
            totals.failed.push(report.seed);
        }
        for (name, count) in &report.counts {
            *totals.counts.entry(name).or_default() += count;
        }
    }

    fn so_far(&self, took: Duration) -> String {
        let totals = self.0.lock();
        format!("{} seeds in {took:.0?}, {} of them fail", totals.seeds, totals.failed.len())
    }

    fn say(&self, took: Duration) {
        let totals = self.0.lock();
        println!("seeds                        {:>12}", totals.seeds);
        println!("took                         {took:>12.1?}");
        println!("virtual time                 {:>11}s", totals.virtual_time.as_secs());
        println!("steps                        {:>12}", totals.steps);
        println!("longest recovery             {:>12.1?}", totals.recovered);
        for (name, count) in &totals.counts {
            println!("{name:<28} {count:>12}");
        }
        println!("seeds that fail              {:>12} {:?}", totals.failed.len(), totals.failed);
    }
}
