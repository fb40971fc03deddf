//! The machine, or the part of it that a cgroup may use: for sites without Kubernetes.
//!
//! Signals of the node: `cpu`, the share of its CPU time that was used since the last look,
//! and `memory`, the share of its memory that is in use. Where a cgroup (v2 or v1) has a
//! limit it is a share of that, else of the whole machine, from `/proc`. The first look says
//! nothing about `cpu`: there is nothing to compare with.

use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Source, SourceError, share, signal};
use crate::signals::Sample;

/// Larger limits of cgroup v1 mean none.
const NO_LIMIT: f64 = 9e18;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `/proc`.
    pub proc: PathBuf,
    /// The cgroup's directory (v2), or the one with its controllers (v1).
    pub cgroup: Option<PathBuf>,
}

/// What was seen at a look: CPU time in use, and of what.
#[derive(Debug, Clone, Copy)]
struct Used {
    busy: f64,
    whole: Whole,
}

#[derive(Debug, Clone, Copy)]
enum Whole {
    /// Of all that was counted.
    Counted(f64),
    /// Of so many CPUs, at this moment; busy time is in seconds.
    Cpus(f64, Instant),
}

/// The source.
#[derive(Debug)]
pub struct MachineSource {
    machine: Machine,
    last: Mutex<Option<Used>>,
}

impl MachineSource {
    /// Looks there.
    pub fn new(machine: Machine) -> Self {
        Self { machine, last: Mutex::default() }
    }

    fn cpu(&self) -> Result<Option<f64>, SourceError> {
        let now = self.machine.cpu()?;
        let last = self.last.lock().replace(now);
        Ok(last.and_then(|last| since(last, now)))
    }
}

#[async_trait]
impl Source for MachineSource {
    fn name(&self) -> &'static str {
        "machine"
    }

    async fn read(&self) -> Result<Vec<Sample>, SourceError> {
        let mut samples = Vec::new();
        if let Some(cpu) = self.cpu()? {
            samples.push(Sample::of_node(&signal("cpu")?, cpu));
        }
        if let Some(memory) = self.machine.memory()? {
            samples.push(Sample::of_node(&signal("memory")?, memory));
        }
        Ok(samples)
    }
}

fn since(last: Used, now: Used) -> Option<f64> {
    let busy = now.busy - last.busy;
    match (last.whole, now.whole) {
        (Whole::Counted(before), Whole::Counted(whole)) => share(busy, whole - before),
        (Whole::Cpus(_, before), Whole::Cpus(cpus, at)) => {
            share(busy, cpus * at.duration_since(before).as_secs_f64())
        }
        // The limit came or went: nothing to compare with.
        _ => None,
    }
}

impl Machine {
    fn in_cgroup(&self, names: &[&str]) -> Option<String> {
        let dir = self.cgroup.as_ref()?;
        names.iter().find_map(|name| fs::read_to_string(dir.join(name)).ok())
    }

    fn number(&self, names: &[&str]) -> Option<f64> {
        self.in_cgroup(names)?.trim().parse().ok()
    }

    fn cpu(&self) -> Result<Used, SourceError> {
        let Some((cpus, busy)) = self.cgroup_cpus().zip(self.cgroup_cpu_seconds()) else {
            return self.all_cpus();
        };
        Ok(Used { busy, whole: Whole::Cpus(cpus, Instant::now()) })
    }

    /// How many CPUs the cgroup may use, if it has a limit.
    fn cgroup_cpus(&self) -> Option<f64> {
        if let Some(max) = self.in_cgroup(&["cpu.max"]) {
            let (quota, period) = max.trim().split_once(' ')?;
            return share(quota.parse().ok()?, period.parse().ok()?);
        }
        // Without a limit the quota is -1.
        let quota = self.number(&["cpu.cfs_quota_us", "cpu/cpu.cfs_quota_us"])?;
        share(quota, self.number(&["cpu.cfs_period_us", "cpu/cpu.cfs_period_us"])?)
    }

    fn cgroup_cpu_seconds(&self) -> Option<f64> {
        if let Some(stat) = self.in_cgroup(&["cpu.stat"])
            && let Some(usage) = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))
        {
            return Some(usage.trim().parse::<f64>().ok()? / 1e6);
        }
        Some(self.number(&["cpuacct.usage", "cpuacct/cpuacct.usage"])? / 1e9)
    }

    fn all_cpus(&self) -> Result<Used, SourceError> {
        let path = self.proc.join("stat");
        let stat = read(&path)?;
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
        let times = line.unwrap_or_default().split_whitespace();
        let times: Vec<f64> = times.map_while(|number| number.parse().ok()).take(8).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let idle = match times[..] {
            [_, _, _, idle, wait, _, _, _] => idle + wait,
            _ => return Err(nonsense(&path)),
        };
        let all: f64 = times.iter().sum();
        Ok(Used { busy: all - idle, whole: Whole::Counted(all) })
    }

    fn memory(&self) -> Result<Option<f64>, SourceError> {
        let used = self.number(&[
            "memory.current",
            "memory.usage_in_bytes",
            "memory/memory.usage_in_bytes",
        ]);
        let limit =
            self.number(&["memory.max", "memory.limit_in_bytes", "memory/memory.limit_in_bytes"]);
        if let (Some(used), Some(limit)) = (used, limit.filter(|limit| *limit < NO_LIMIT)) {
            return Ok(share((used - self.cache()).max(0.0), limit));
        }
        let path = self.proc.join("meminfo");
        let info = read(&path)?;
        let kib = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        match (kib("MemTotal:"), kib("MemAvailable:")) {
            (Some(all), Some(free)) => Ok(share(all - free, all)),
            _ => Err(nonsense(&path)),
        }
    }

    /// Pages of files that the kernel drops when memory is short.
    fn cache(&self) -> f64 {
        let stat = self.in_cgroup(&["memory.stat", "memory/memory.stat"]).unwrap_or_default();
        let of = |name: &str| {
            stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
        };
        of("total_inactive_file ").or_else(|| of("inactive_file ")).unwrap_or(0.0)
    }
}

fn read(path: &Path) -> Result<String, SourceError> {
    fs::read_to_string(path)
        .map_err(|error| SourceError::Unreachable(format!("{}: {error}", path.display())))
}

fn nonsense(path: &Path) -> SourceError {
    SourceError::Nonsense(format!("{} is not as expected", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    const STAT: &str = "cpu  100 0 50 850 0 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
    const MEMINFO: &str = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\n";

    struct Site(TempDir);

    impl Site {
        fn new() -> Self {
            let site = Self(tempfile::tempdir().unwrap());
            site.write("proc/stat", STAT).write("proc/meminfo", MEMINFO);
            site
        }

        fn write(&self, path: &str, text: &str) -> &Self {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn source(&self) -> MachineSource {
            let cgroup = Some(self.0.path().join("cgroup"));
            MachineSource::new(Machine { proc: self.0.path().join("proc"), cgroup })
        }
    }

    /// Signals with their values in thousandths.
    async fn told(source: &MachineSource) -> Vec<(String, i64)> {
        let samples = source.read().await.unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "shares")]
        let told = |s: Sample| (s.signal.to_string(), (s.value * 1000.0).round() as i64);
        samples.into_iter().map(told).collect()
    }

    fn memory(thousandths: i64) -> (String, i64) {
        ("memory".to_owned(), thousandths)
    }

    fn cpu(thousandths: i64) -> (String, i64) {
        ("cpu".to_owned(), thousandths)
    }

    #[tokio::test]
    async fn without_a_limit_it_is_the_machines_share() {
        let site = Site::new();
        site.write("cgroup/cpu.max", "max 100000").write("cgroup/memory.max", "max");
        site.write("cgroup/memory.current", "7");
        let source = site.source();
        assert_eq!(told(&source).await, [memory(750)]);
        site.write("proc/stat", "cpu  160 0 70 870 0 0 0 0 0 0\n");
        assert_eq!(told(&source).await, [cpu(800), memory(750)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cgroup_of_version_2_is_read_against_its_limits() {
        let site = Site::new();
        site.write("cgroup/cpu.max", "150000 100000\n").write("cgroup/memory.max", "1000\n");
        site.write("cgroup/memory.current", "700\n");
        site.write("cgroup/memory.stat", "anon 1\ninactive_file 200\n");
        site.write("cgroup/cpu.stat", "usage_usec 1000000\nuser_usec 1\n");
        let source = site.source();
        assert_eq!(told(&source).await, [memory(500)]);
        tokio::time::advance(Duration::from_secs(2)).await;
        site.write("cgroup/cpu.stat", "usage_usec 2500000\n");
        assert_eq!(told(&source).await, [cpu(500), memory(500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cgroup_of_version_1_is_read_against_its_limits() {
        let site = Site::new();
        site.write("cgroup/cpu/cpu.cfs_quota_us", "50000");
        site.write("cgroup/cpu/cpu.cfs_period_us", "100000");
        site.write("cgroup/cpuacct/cpuacct.usage", "1000000000");
        site.write("cgroup/memory/memory.usage_in_bytes", "900");
        site.write("cgroup/memory/memory.limit_in_bytes", "1000");
        site.write("cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
        let source = site.source();
        assert_eq!(told(&source).await, [memory(800)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        site.write("cgroup/cpuacct/cpuacct.usage", "1250000000");
        assert_eq!(told(&source).await, [cpu(500), memory(800)]);
        site.write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
        assert_eq!(told(&source).await.last(), Some(&memory(750)));
    }

    #[tokio::test]
    async fn what_is_not_there_or_makes_no_sense_is_no_value() {
        let site = Site::new();
        site.write("proc/meminfo", "lots");
        assert!(matches!(site.source().read().await, Err(SourceError::Nonsense(_))));
        site.write("proc/stat", "cpu x y z");
        assert!(matches!(site.source().read().await, Err(SourceError::Nonsense(_))));
        let nowhere = Machine { proc: "/nowhere".into(), cgroup: None };
        let said = MachineSource::new(nowhere).read().await;
        assert!(matches!(said, Err(SourceError::Unreachable(_))));
    }

    #[tokio::test]
    async fn this_machine_is_read() {
        let source = MachineSource::new(Machine { proc: "/proc".into(), cgroup: None });
        let told = told(&source).await;
        assert!(told.iter().any(|(name, value)| name == "memory" && (0..=1000).contains(value)));
    }
}
