//! `events`: statistics and out-of-memory events as JSON lines.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use berth_cgroup::{BlockIoEntry, Cgroup, Usage};
use berth_oci::runtime::Status;
use serde_json::{Value, json};

use super::arguments::{Flag, HELP, Parsed};
use super::{Command, Context, Failure};
use crate::error::RuntimeError;
use crate::registry::Entry;

pub(super) const COMMAND: Command = Command {
    name: "events",
    operands: "ID",
    summary: "Print statistics and events of a container",
    flags: &[Flag::value("interval"), Flag::switch("stats"), HELP],
    run,
};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let entry = context.registry.find(parsed.only_id("events").map_err(Failure::Usage)?)?;
    let interval = match parsed.value("interval") {
        None => DEFAULT_INTERVAL,
        Some(text) => berth_model::parse_go_duration(text)
            .ok()
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| Failure::Usage("duration interval must be greater than 0".to_owned()))?,
    };
    let cgroup = match (entry.status()?, entry.cgroup()?) {
        (Status::Stopped, _) | (_, None) => {
            return Err(entry.wrong_state("cannot watch", "container not running").into());
        }
        (_, Some(cgroup)) => cgroup,
    };
    if parsed.has("stats") {
        print(&stats(&entry, &cgroup)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    follow(&entry, &cgroup, interval)
}

/// Prints until the container stops: a sample at every interval, and a line for every kill for want of memory.
fn follow(entry: &Entry, cgroup: &Cgroup, interval: Duration) -> Result<ExitCode, Failure> {
    let mut kills = cgroup.oom_kills().unwrap_or(0);
    loop {
        print(&stats(entry, cgroup)?)?;
        std::thread::sleep(interval);
        if entry.status()? == Status::Stopped {
            return Ok(ExitCode::SUCCESS);
        }
        let now = cgroup.oom_kills().unwrap_or(kills);
        for _ in kills..now {
            print(&json!({"type": "oom", "id": entry.record.id}))?;
        }
        kills = now;
    }
}

fn print(line: &Value) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn stats(entry: &Entry, cgroup: &Cgroup) -> Result<Value, RuntimeError> {
    Ok(json!({"type": "stats", "id": entry.record.id, "data": document(&cgroup.usage()?)}))
}

/// The document of runc; nanoseconds and bytes.
fn document(usage: &Usage) -> Value {
    let Usage { cpu, memory, pids, block_io, .. } = usage;
    let stats: &BTreeMap<String, u64> = &memory.stats;
    let entries = |list: &[BlockIoEntry]| -> Vec<Value> {
        let line = |entry: &BlockIoEntry| json!({"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value});
        list.iter().map(line).collect()
    };
    json!({
        "cpu": {
            "usage": {"total": cpu.total, "percpu": cpu.per_cpu, "kernel": cpu.kernel, "user": cpu.user},
            "throttling": {
                "periods": cpu.throttling.periods,
                "throttledPeriods": cpu.throttling.throttled_periods,
                "throttledTime": cpu.throttling.throttled_time,
            },
        },
        "memory": {
            "cache": stats.get("cache").or_else(|| stats.get("file")).copied().unwrap_or(0),
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.failures,
            },
            "swap": {
                "limit": memory.swap_limit.unwrap_or(u64::MAX),
                "usage": memory.swap_usage,
                "max": 0,
                "failcnt": 0,
            },
            "raw": stats,
        },
        "pids": {"current": pids.current, "limit": pids.limit.unwrap_or(0)},
        "blkio": {
            "ioServiceBytesRecursive": entries(&block_io.service_bytes),
            "ioServicedRecursive": entries(&block_io.serviced),
            "ioQueueRecursive": entries(&block_io.queued),
            "ioServiceTimeRecursive": entries(&block_io.service_time),
            "ioWaitTimeRecursive": entries(&block_io.wait_time),
            "ioMergedRecursive": entries(&block_io.merged),
            "ioTimeRecursive": entries(&block_io.time),
            "sectorsRecursive": entries(&block_io.sectors),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}
