//! Statistics: a sample of the engine as clients know it (B167).

use berth_api::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, ThrottlingData,
};
use berth_cgroup::{BlockIoEntry, Usage};
use berth_engine::ContainerView;
use berth_engine::stats::{InterfaceCounters, Sample};
use berth_model::Timestamp;

/// Shows a sample with the one before it; a container that does not run has zeros (B168).
pub fn to_wire(view: &ContainerView, sample: Option<&Sample>, host_memory: u64, before: Option<&Stats>) -> Stats {
    let mut stats = Stats {
        id: view.id.to_string(),
        name: format!("/{}", view.name),
        os_type: "linux".to_owned(),
        read: Timestamp::NEVER.to_owned(),
        preread: Timestamp::NEVER.to_owned(),
        ..Stats::default()
    };
    if let Some(sample) = sample {
        stats.read = sample.at.to_string();
        stats.cpu_stats = processors(sample);
        stats.memory_stats = memory(&sample.usage, host_memory);
        stats.pids_stats =
            PidsStats { current: sample.usage.pids.current, limit: sample.usage.pids.limit.unwrap_or_default() };
        stats.blkio_stats = block_io(&sample.usage);
        stats.networks = sample.networks.iter().map(|(name, counters)| (name.clone(), interface(counters))).collect();
    }
    if let Some(before) = before {
        stats.preread.clone_from(&before.read);
        stats.precpu_stats = before.cpu_stats.clone();
    }
    stats
}

fn processors(sample: &Sample) -> CpuStats {
    let cpu = &sample.usage.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.total,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.kernel,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: sample.system_cpu,
        online_cpus: sample.online_cpus,
        throttling_data: ThrottlingData {
            periods: cpu.throttling.periods,
            throttled_periods: cpu.throttling.throttled_periods,
            throttled_time: cpu.throttling.throttled_time,
        },
    }
}

fn memory(usage: &Usage, host_memory: u64) -> MemoryStats {
    let memory = &usage.memory;
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage,
        stats: memory.stats.clone(),
        failcnt: memory.failures,
        // Whoever has no limit can use all that the host has.
        limit: memory.limit.map_or(host_memory, |limit| limit.min(host_memory)),
    }
}

fn block_io(usage: &Usage) -> BlkioStats {
    let entry = |entry: &BlockIoEntry| BlkioEntry {
        major: entry.major,
        minor: entry.minor,
        op: entry.op.to_ascii_lowercase(),
        value: entry.value,
    };
    let list = |entries: &Vec<BlockIoEntry>| Some(entries.iter().map(entry).collect());
    let io = &usage.block_io;
    BlkioStats {
        io_service_bytes_recursive: list(&io.service_bytes),
        io_serviced_recursive: list(&io.serviced),
        io_queue_recursive: list(&io.queued),
        io_service_time_recursive: list(&io.service_time),
        io_wait_time_recursive: list(&io.wait_time),
        io_merged_recursive: list(&io.merged),
        io_time_recursive: list(&io.time),
        sectors_recursive: list(&io.sectors),
    }
}

fn interface(counters: &InterfaceCounters) -> NetworkStats {
    let ([rx_bytes, rx_packets, rx_errors, rx_dropped], [tx_bytes, tx_packets, tx_errors, tx_dropped]) =
        (counters.received, counters.sent);
    NetworkStats { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped }
}
