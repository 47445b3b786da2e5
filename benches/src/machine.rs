//! The machine that is measured on, and what else it does meanwhile.

use std::{collections::BTreeMap, fs, time::Instant};

use serde::{Deserialize, Serialize};

use crate::account::process_name;

/// Ticks per second of `/proc/stat`, the same on every architecture of Linux's user interface.
const TICKS: f64 = 100.0;

/// What a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor, and how many.
    pub processor: String,
    /// Memory in MiB.
    pub memory: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the system.
    pub system: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let field = |text: &str, key: &str, separator: char| {
            let line = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(separator));
            line.map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let model = field(&read("/proc/cpuinfo"), "model name", ':');
        let memory = field(&read("/proc/meminfo"), "MemTotal", ':');
        Self {
            processor: format!("{processors} x {}", if model.is_empty() { "unknown" } else { &model }),
            memory: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '='),
        }
    }
}

/// The load averages, as the kernel writes them.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Today and now, in UTC.
pub fn now() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// A look at everybody's processor time, to say later what else ran.
pub struct Others {
    at: Instant,
    busy: f64,
    processes: BTreeMap<u32, f64>,
}

impl Others {
    /// Now.
    pub fn look() -> Self {
        Self { at: Instant::now(), busy: busy(), processes: processes() }
    }

    /// What else ran since, when `ours` milliseconds of processor time were the engines'.
    pub fn since(&self, ours: f64) -> String {
        let seconds = self.at.elapsed().as_secs_f64();
        let rest = (busy() - self.busy - ours / 1e3).max(0.0) / seconds * 100.0;
        let mut used: BTreeMap<String, f64> = BTreeMap::new();
        for (pid, time) in processes() {
            let share = (time - self.processes.get(&pid).copied().unwrap_or(0.0)) / seconds * 100.0;
            *used.entry(process_name(pid)).or_default() += share;
        }
        let mut used: Vec<(String, f64)> = used.into_iter().filter(|(_, share)| *share >= 1.0).collect();
        used.sort_by(|one, other| other.1.total_cmp(&one.1));
        let names: Vec<String> = used.iter().take(5).map(|(name, share)| format!("{name} {share:.0} %")).collect();
        let names = if names.is_empty() { "none of them alone above 1 %".to_owned() } else { names.join(", ") };
        format!("{rest:.0} % of one processor went to others, the kernel's threads among them ({names})")
    }
}

/// Seconds in which the machine's processors were not idle.
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user, nice, system, then idle and waiting for the disk, then interrupts and what the host took.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    (ticks.iter().take(8).sum::<f64>() - idle) / TICKS
}

/// Seconds of every process that is not ours.
fn processes() -> BTreeMap<u32, f64> {
    let mut times = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if cgroup.contains("/berth-bench-") || pid == std::process::id() {
            continue;
        }
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let time: f64 = rest.split(' ').skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
        times.insert(pid, time / TICKS);
    }
    times
}
