//! Usage from the files of the v1 controllers.

use std::path::Path;

use crate::{
    cgroup::Cgroup,
    control_file::{keyed, parse_number, read_if_present, read_number_or_zero},
    error::CgroupError,
    oom,
    usage::{BlockIoEntry, BlockIoUsage, CpuThrottling, CpuUsage, MemoryUsage, PidsUsage, Usage},
};

/// Ticks of `cpuacct.stat` are 1/100 s in every user interface of the kernel.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;
/// v1 writes "no limit" as the largest multiple of the page size; anything near it means the same.
const UNLIMITED: u64 = i64::MAX as u64 - 0x1_0000;

pub(crate) fn usage(cgroup: &Cgroup) -> Result<Usage, CgroupError> {
    let in_hierarchy = |controller| cgroup.controller_directory(controller);
    let mut usage = Usage::default();
    if let Some(dir) = in_hierarchy("cpuacct") {
        usage.cpu = cpu(&dir)?;
    }
    if let Some(dir) = in_hierarchy("cpu") {
        usage.cpu.throttling = throttling(&dir)?;
    }
    if let Some(dir) = in_hierarchy("memory") {
        usage.memory = memory(&dir)?;
    }
    if let Some(dir) = in_hierarchy("pids") {
        usage.pids = pids(&dir)?;
    }
    if let Some(dir) = in_hierarchy("blkio") {
        usage.block_io = block_io(&dir)?;
    }
    Ok(usage)
}

/// Tasks in the group and below it; the same two files in both versions.
pub(crate) fn pids(dir: &Path) -> Result<PidsUsage, CgroupError> {
    let limit = read_number_or_zero(dir, "pids.max")?;
    let limit = Some(limit).filter(|limit| *limit != u64::MAX && *limit != 0);
    Ok(PidsUsage { current: read_number_or_zero(dir, "pids.current")?, limit })
}

fn cpu(dir: &Path) -> Result<CpuUsage, CgroupError> {
    let per_cpu = read_if_present(dir, "cpuacct.usage_percpu")?.unwrap_or_default();
    let (user, kernel) = match read_if_present(dir, "cpuacct.usage_user")? {
        Some(user) => (parse_number(user.trim_end()).unwrap_or(0), read_number_or_zero(dir, "cpuacct.usage_sys")?),
        None => user_and_kernel_ticks(dir)?,
    };
    Ok(CpuUsage {
        total: read_number_or_zero(dir, "cpuacct.usage")?,
        user,
        kernel,
        per_cpu: per_cpu.split_whitespace().filter_map(parse_number).collect(),
        throttling: CpuThrottling::default(),
    })
}

fn user_and_kernel_ticks(dir: &Path) -> Result<(u64, u64), CgroupError> {
    let text = read_if_present(dir, "cpuacct.stat")?.unwrap_or_default();
    let of = |key| keyed(&text).find(|(name, _)| *name == key).map_or(0, |(_, ticks)| ticks * NANOSECONDS_PER_TICK);
    Ok((of("user"), of("system")))
}

fn throttling(dir: &Path) -> Result<CpuThrottling, CgroupError> {
    let text = read_if_present(dir, "cpu.stat")?.unwrap_or_default();
    let of = |key| keyed(&text).find(|(name, _)| *name == key).map_or(0, |(_, value)| value);
    Ok(CpuThrottling {
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled_time: of("throttled_time"),
    })
}

fn memory(dir: &Path) -> Result<MemoryUsage, CgroupError> {
    let stats = read_if_present(dir, "memory.stat")?.unwrap_or_default();
    let usage = read_number_or_zero(dir, "memory.usage_in_bytes")?;
    let limit = limit(dir, "memory.limit_in_bytes")?;
    let with_swap = limit_of_sum(dir)?;
    Ok(MemoryUsage {
        usage,
        max_usage: read_number_or_zero(dir, "memory.max_usage_in_bytes")?,
        limit,
        failures: read_number_or_zero(dir, "memory.failcnt")?,
        swap_usage: read_number_or_zero(dir, "memory.memsw.usage_in_bytes")?.saturating_sub(usage),
        swap_limit: with_swap.zip(limit).map(|(sum, memory)| sum.saturating_sub(memory)),
        oom_kills: oom::kills_v1(dir)?,
        stats: keyed(&stats).map(|(key, value)| (key.to_owned(), value)).collect(),
    })
}

fn limit_of_sum(dir: &Path) -> Result<Option<u64>, CgroupError> {
    limit(dir, "memory.memsw.limit_in_bytes")
}

fn limit(dir: &Path, file: &str) -> Result<Option<u64>, CgroupError> {
    let bytes = read_if_present(dir, file)?.and_then(|text| parse_number(text.trim_end()));
    Ok(bytes.filter(|bytes| *bytes < UNLIMITED))
}

fn block_io(dir: &Path) -> Result<BlockIoUsage, CgroupError> {
    Ok(BlockIoUsage {
        service_bytes: entries(dir, "io_service_bytes")?,
        serviced: entries(dir, "io_serviced")?,
        queued: entries(dir, "io_queued")?,
        service_time: entries(dir, "io_service_time")?,
        wait_time: entries(dir, "io_wait_time")?,
        merged: entries(dir, "io_merged")?,
        time: entries(dir, "time")?,
        sectors: entries(dir, "sectors")?,
    })
}

/// The scheduler's counters if it keeps any for this device (BFQ, or CFQ on old kernels), else the throttling layer's, which sees all.
fn entries(dir: &Path, counter: &str) -> Result<Vec<BlockIoEntry>, CgroupError> {
    for prefix in ["blkio.bfq", "blkio", "blkio.throttle"] {
        let text = read_if_present(dir, &format!("{prefix}.{counter}_recursive"))?.unwrap_or_default();
        let entries: Vec<_> = text.lines().filter_map(entry).collect();
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    Ok(Vec::new())
}

/// Reads `8:0 Read 4096` or `8:0 4096`; the sum over all devices, `Total 4096`, belongs to none.
fn entry(line: &str) -> Option<BlockIoEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let (op, value) = rest.trim().rsplit_once(' ').unwrap_or(("", rest.trim()));
    Some(BlockIoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        op: op.to_owned(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lines_are_read_with_and_without_an_operation() {
        let of = |major, minor, op: &str, value| Some(BlockIoEntry { major, minor, op: op.to_owned(), value });
        assert_eq!(entry("254:0 Read 4096"), of(254, 0, "Read", 4096));
        assert_eq!(entry("8:16 77"), of(8, 16, "", 77));
        assert_eq!(entry("Total 4096"), None);
        assert_eq!(entry(""), None);
    }
}
