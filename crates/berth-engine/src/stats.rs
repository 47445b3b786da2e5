//! A container's use of resources at one moment (B167).

use std::collections::BTreeMap;

use berth_cgroup::Usage;
use berth_model::Timestamp;

use crate::{EngineError, container::Handle};

/// What was counted at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Of the container's cgroup.
    pub usage: Usage,
    /// CPU time of the whole host since its start, in nanoseconds.
    pub system_cpu: u64,
    /// CPUs of the host.
    pub online_cpus: u32,
    /// By interface inside the container.
    pub networks: BTreeMap<String, InterfaceCounters>,
}

/// What went through an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Bytes, packets, errors and drops of what came in.
    pub received: [u64; 4],
    /// Bytes, packets, errors and drops of what went out.
    pub sent: [u64; 4],
}

/// `None` for a container that does not run.
pub(crate) async fn sample(handle: &Handle) -> Result<Option<Sample>, EngineError> {
    let view = handle.view();
    let Some(pid) = view.state.pid() else { return Ok(None) };
    let shim = match handle.run(|container| Box::pin(async move { container.running_shim() })).await {
        Ok(shim) => shim,
        Err(EngineError::NotRunning(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let answer = shim.stats().await?;
    let usage = serde_json::from_slice(&answer.usage)
        .map_err(|error| EngineError::internal(format!("container {}: the usage cannot be read: {error}", view.id)))?;
    let (system_cpu, online_cpus) = host_cpu(&read("/proc/stat"));
    let networks = interfaces(&read(&format!("/proc/{pid}/net/dev")));
    Ok(Some(Sample { at: Timestamp::from_nanos(answer.read_at_ns), usage, system_cpu, online_cpus, networks }))
}

fn read(path: &str) -> String {
    // A process that ended meanwhile has no counters.
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The `cpu` line of /proc/stat counts hundredths of a second.
fn host_cpu(stat: &str) -> (u64, u32) {
    const TICK: u64 = 10_000_000;
    let total = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let ticks: u64 = total.split_ascii_whitespace().skip(1).take(8).filter_map(|field| field.parse::<u64>().ok()).sum();
    let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    (ticks * TICK, u32::try_from(cpus).unwrap_or(1))
}

fn interfaces(dev: &str) -> BTreeMap<String, InterfaceCounters> {
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim();
        let fields: Vec<u64> = counters.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
        if name == "lo" || fields.len() < 12 {
            return None;
        }
        let four = |from: usize| [fields[from], fields[from + 1], fields[from + 2], fields[from + 3]];
        Some((name.to_owned(), InterfaceCounters { received: four(0), sent: four(8) }))
    };
    dev.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_kernel_s_texts() {
        let stat = "cpu  10 0 20 30 0 0 0 0 5 0\ncpu0 5 0 10 15 0 0 0 0\ncpu1 5 0 10 15 0 0 0 0\nintr 1\n";
        assert_eq!(host_cpu(stat), (600_000_000, 2));
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 100 2 3 4 0 0 0 0 200 5 6 7 0 0 0 0\n";
        let eth0 = InterfaceCounters { received: [100, 2, 3, 4], sent: [200, 5, 6, 7] };
        assert_eq!(interfaces(dev), [("eth0".to_owned(), eth0)].into());
    }
}
