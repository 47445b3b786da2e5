//! Usage from the files of a v2 directory.

use std::path::Path;

use crate::{
    control_file::{keyed, parse_number, read_if_present, read_number_or_zero},
    error::CgroupError,
    oom,
    usage::{BlockIoEntry, BlockIoUsage, CpuThrottling, CpuUsage, MemoryUsage, Usage},
    usage_v1,
};

const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

pub(crate) fn usage(dir: &Path) -> Result<Usage, CgroupError> {
    Ok(Usage { cpu: cpu(dir)?, memory: memory(dir)?, pids: usage_v1::pids(dir)?, block_io: block_io(dir)? })
}

fn cpu(dir: &Path) -> Result<CpuUsage, CgroupError> {
    let text = read_if_present(dir, "cpu.stat")?.unwrap_or_default();
    let of = |key| keyed(&text).find(|(name, _)| *name == key).map_or(0, |(_, value)| value);
    Ok(CpuUsage {
        total: of("usage_usec") * NANOSECONDS_PER_MICROSECOND,
        user: of("user_usec") * NANOSECONDS_PER_MICROSECOND,
        kernel: of("system_usec") * NANOSECONDS_PER_MICROSECOND,
        per_cpu: Vec::new(),
        throttling: CpuThrottling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: of("throttled_usec") * NANOSECONDS_PER_MICROSECOND,
        },
    })
}

fn memory(dir: &Path) -> Result<MemoryUsage, CgroupError> {
    let stats = read_if_present(dir, "memory.stat")?.unwrap_or_default();
    let events = read_if_present(dir, "memory.events")?.unwrap_or_default();
    Ok(MemoryUsage {
        usage: read_number_or_zero(dir, "memory.current")?,
        max_usage: read_number_or_zero(dir, "memory.peak")?,
        limit: limit(dir, "memory.max")?,
        failures: keyed(&events).find(|(name, _)| *name == "max").map_or(0, |(_, count)| count),
        swap_usage: read_number_or_zero(dir, "memory.swap.current")?,
        swap_limit: limit(dir, "memory.swap.max")?,
        oom_kills: oom::kills_v2(dir)?,
        stats: keyed(&stats).map(|(key, value)| (key.to_owned(), value)).collect(),
    })
}

fn limit(dir: &Path, file: &str) -> Result<Option<u64>, CgroupError> {
    let bytes = read_if_present(dir, file)?.and_then(|text| parse_number(text.trim_end()));
    Ok(bytes.filter(|bytes| *bytes != u64::MAX))
}

/// Each line of `io.stat` has all counters of one device: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn block_io(dir: &Path) -> Result<BlockIoUsage, CgroupError> {
    let text = read_if_present(dir, "io.stat")?.unwrap_or_default();
    let mut usage = BlockIoUsage::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut usage.service_bytes, "read"),
                "wbytes" => (&mut usage.service_bytes, "write"),
                "rios" => (&mut usage.serviced, "read"),
                "wios" => (&mut usage.serviced, "write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlockIoEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(usage)
}
