//! What a container has used, in the messages of containerd's cgroups library: field numbers are its interface.

use berth_cgroup::{Usage, Version};
use berth_proto::Any;
use prost::Message;

/// Packs usage as the Task service gives it.
pub fn pack(usage: &Usage, version: Version) -> Any {
    match version {
        Version::V1 => {
            Any { type_url: "io.containerd.cgroups.v1.Metrics".to_owned(), value: v1(usage).encode_to_vec() }
        }
        Version::V2 => {
            Any { type_url: "io.containerd.cgroups.v2.Metrics".to_owned(), value: v2(usage).encode_to_vec() }
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Pids {
    #[prost(uint64, tag = "1")]
    current: u64,
    #[prost(uint64, tag = "2")]
    limit: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MetricsV1 {
    #[prost(message, optional, tag = "2")]
    pids: Option<Pids>,
    #[prost(message, optional, tag = "3")]
    cpu: Option<CpuV1>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryV1>,
    #[prost(message, optional, tag = "5")]
    blkio: Option<BlockIoV1>,
    #[prost(message, optional, tag = "9")]
    oom: Option<OomV1>,
}

#[derive(Clone, PartialEq, Message)]
struct CpuV1 {
    #[prost(message, optional, tag = "1")]
    usage: Option<CpuUsageV1>,
    #[prost(message, optional, tag = "2")]
    throttling: Option<ThrottleV1>,
}

#[derive(Clone, PartialEq, Message)]
struct CpuUsageV1 {
    #[prost(uint64, tag = "1")]
    total: u64,
    #[prost(uint64, tag = "2")]
    kernel: u64,
    #[prost(uint64, tag = "3")]
    user: u64,
    #[prost(uint64, repeated, tag = "4")]
    per_cpu: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ThrottleV1 {
    #[prost(uint64, tag = "1")]
    periods: u64,
    #[prost(uint64, tag = "2")]
    throttled_periods: u64,
    #[prost(uint64, tag = "3")]
    throttled_time: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MemoryV1 {
    #[prost(uint64, tag = "1")]
    cache: u64,
    #[prost(uint64, tag = "2")]
    rss: u64,
    #[prost(uint64, tag = "18")]
    total_cache: u64,
    #[prost(uint64, tag = "19")]
    total_rss: u64,
    #[prost(uint64, tag = "28")]
    total_inactive_anon: u64,
    #[prost(uint64, tag = "29")]
    total_active_anon: u64,
    #[prost(uint64, tag = "30")]
    total_inactive_file: u64,
    #[prost(uint64, tag = "31")]
    total_active_file: u64,
    #[prost(message, optional, tag = "33")]
    usage: Option<MemoryEntry>,
    #[prost(message, optional, tag = "34")]
    swap: Option<MemoryEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct MemoryEntry {
    #[prost(uint64, tag = "1")]
    limit: u64,
    #[prost(uint64, tag = "2")]
    usage: u64,
    #[prost(uint64, tag = "3")]
    max: u64,
    #[prost(uint64, tag = "4")]
    failures: u64,
}

#[derive(Clone, PartialEq, Message)]
struct OomV1 {
    #[prost(uint64, tag = "3")]
    oom_kill: u64,
}

#[derive(Clone, PartialEq, Message)]
struct BlockIoV1 {
    #[prost(message, repeated, tag = "1")]
    service_bytes: Vec<BlockIoEntryV1>,
    #[prost(message, repeated, tag = "2")]
    serviced: Vec<BlockIoEntryV1>,
}

#[derive(Clone, PartialEq, Message)]
struct BlockIoEntryV1 {
    #[prost(string, tag = "1")]
    op: String,
    #[prost(uint64, tag = "3")]
    major: u64,
    #[prost(uint64, tag = "4")]
    minor: u64,
    #[prost(uint64, tag = "5")]
    value: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MetricsV2 {
    #[prost(message, optional, tag = "1")]
    pids: Option<Pids>,
    #[prost(message, optional, tag = "2")]
    cpu: Option<CpuV2>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryV2>,
    #[prost(message, optional, tag = "6")]
    io: Option<IoV2>,
    #[prost(message, optional, tag = "8")]
    events: Option<EventsV2>,
}

#[derive(Clone, PartialEq, Message)]
struct CpuV2 {
    #[prost(uint64, tag = "1")]
    usage_usec: u64,
    #[prost(uint64, tag = "2")]
    user_usec: u64,
    #[prost(uint64, tag = "3")]
    system_usec: u64,
    #[prost(uint64, tag = "4")]
    periods: u64,
    #[prost(uint64, tag = "5")]
    throttled: u64,
    #[prost(uint64, tag = "6")]
    throttled_usec: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MemoryV2 {
    #[prost(uint64, tag = "1")]
    anon: u64,
    #[prost(uint64, tag = "2")]
    file: u64,
    #[prost(uint64, tag = "13")]
    inactive_file: u64,
    #[prost(uint64, tag = "14")]
    active_file: u64,
    #[prost(uint64, tag = "32")]
    usage: u64,
    #[prost(uint64, tag = "33")]
    usage_limit: u64,
    #[prost(uint64, tag = "34")]
    swap_usage: u64,
    #[prost(uint64, tag = "35")]
    swap_limit: u64,
    #[prost(uint64, tag = "36")]
    max_usage: u64,
}

#[derive(Clone, PartialEq, Message)]
struct EventsV2 {
    #[prost(uint64, tag = "5")]
    oom_kill: u64,
}

#[derive(Clone, PartialEq, Message)]
struct IoV2 {
    #[prost(message, repeated, tag = "1")]
    usage: Vec<IoEntryV2>,
}

#[derive(Clone, PartialEq, Message)]
struct IoEntryV2 {
    #[prost(uint64, tag = "1")]
    major: u64,
    #[prost(uint64, tag = "2")]
    minor: u64,
    #[prost(uint64, tag = "3")]
    read_bytes: u64,
    #[prost(uint64, tag = "4")]
    written_bytes: u64,
    #[prost(uint64, tag = "5")]
    reads: u64,
    #[prost(uint64, tag = "6")]
    writes: u64,
}

fn pids(usage: &Usage) -> Option<Pids> {
    Some(Pids { current: usage.pids.current, limit: usage.pids.limit.unwrap_or(0) })
}

fn v1(usage: &Usage) -> MetricsV1 {
    let (cpu, memory) = (&usage.cpu, &usage.memory);
    let stat = |name: &str| memory.stats.get(name).copied().unwrap_or(0);
    let entries = |list: &[berth_cgroup::BlockIoEntry]| {
        let entry = |e: &berth_cgroup::BlockIoEntry| BlockIoEntryV1 {
            op: e.op.clone(),
            major: e.major,
            minor: e.minor,
            value: e.value,
        };
        list.iter().map(entry).collect()
    };
    MetricsV1 {
        pids: pids(usage),
        cpu: Some(CpuV1 {
            usage: Some(CpuUsageV1 {
                total: cpu.total,
                kernel: cpu.kernel,
                user: cpu.user,
                per_cpu: cpu.per_cpu.clone(),
            }),
            throttling: Some(ThrottleV1 {
                periods: cpu.throttling.periods,
                throttled_periods: cpu.throttling.throttled_periods,
                throttled_time: cpu.throttling.throttled_time,
            }),
        }),
        memory: Some(MemoryV1 {
            cache: stat("cache"),
            rss: stat("rss"),
            total_cache: stat("total_cache"),
            total_rss: stat("total_rss"),
            total_inactive_anon: stat("total_inactive_anon"),
            total_active_anon: stat("total_active_anon"),
            total_inactive_file: stat("total_inactive_file"),
            total_active_file: stat("total_active_file"),
            usage: Some(MemoryEntry {
                limit: memory.limit.unwrap_or(u64::MAX),
                usage: memory.usage,
                max: memory.max_usage,
                failures: memory.failures,
            }),
            swap: Some(MemoryEntry {
                limit: memory.swap_limit.unwrap_or(u64::MAX),
                usage: memory.swap_usage,
                max: 0,
                failures: 0,
            }),
        }),
        blkio: Some(BlockIoV1 {
            service_bytes: entries(&usage.block_io.service_bytes),
            serviced: entries(&usage.block_io.serviced),
        }),
        oom: Some(OomV1 { oom_kill: memory.oom_kills }),
    }
}

fn v2(usage: &Usage) -> MetricsV2 {
    let (cpu, memory) = (&usage.cpu, &usage.memory);
    let stat = |name: &str| memory.stats.get(name).copied().unwrap_or(0);
    MetricsV2 {
        pids: pids(usage),
        cpu: Some(CpuV2 {
            usage_usec: cpu.total / 1000,
            user_usec: cpu.user / 1000,
            system_usec: cpu.kernel / 1000,
            periods: cpu.throttling.periods,
            throttled: cpu.throttling.throttled_periods,
            throttled_usec: cpu.throttling.throttled_time / 1000,
        }),
        memory: Some(MemoryV2 {
            anon: stat("anon"),
            file: stat("file"),
            inactive_file: stat("inactive_file"),
            active_file: stat("active_file"),
            usage: memory.usage,
            usage_limit: memory.limit.unwrap_or(u64::MAX),
            swap_usage: memory.swap_usage,
            swap_limit: memory.swap_limit.unwrap_or(u64::MAX),
            max_usage: memory.max_usage,
        }),
        io: Some(IoV2 { usage: io_entries(usage) }),
        events: Some(EventsV2 { oom_kill: memory.oom_kills }),
    }
}

/// Brings the counters of a device, which come one by one, together.
fn io_entries(usage: &Usage) -> Vec<IoEntryV2> {
    let mut all: Vec<IoEntryV2> = Vec::new();
    let counters = [(&usage.block_io.service_bytes, true), (&usage.block_io.serviced, false)];
    for (entry, bytes) in counters.iter().flat_map(|(list, bytes)| list.iter().map(move |entry| (entry, *bytes))) {
        let known = all.iter().position(|e| (e.major, e.minor) == (entry.major, entry.minor));
        let at = known.unwrap_or_else(|| {
            all.push(IoEntryV2 { major: entry.major, minor: entry.minor, ..IoEntryV2::default() });
            all.len() - 1
        });
        match (entry.op.to_ascii_lowercase().as_str(), bytes) {
            ("read", true) => all[at].read_bytes = entry.value,
            ("write", true) => all[at].written_bytes = entry.value,
            ("read", false) => all[at].reads = entry.value,
            ("write", false) => all[at].writes = entry.value,
            _ => {}
        }
    }
    all
}
