//! One sample of a container's use of resources.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire::{is_default, wire};

wire! { "snake_case";
    /// One sample, with the processor part of the sample before it.
    pub struct Stats {
        /// Id of the container.
        pub id: String,
        /// Name with a leading slash.
        pub name: String,
        /// `linux`.
        #[serde(skip_serializing_if = "is_default")]
        pub os_type: String,
        /// Time of the sample, RFC 3339.
        pub read: String,
        /// Processor.
        pub cpu_stats: CpuStats,
        /// Memory.
        pub memory_stats: MemoryStats,
        /// Interfaces by name.
        #[serde(skip_serializing_if = "is_default")]
        pub networks: BTreeMap<String, NetworkStats>,
        /// Processes.
        pub pids_stats: PidsStats,
        /// Block devices.
        pub blkio_stats: BlkioStats,
        /// Windows only.
        pub num_procs: u32,
        /// Windows only.
        pub storage_stats: StorageStats,
        /// Time of the sample before, RFC 3339.
        pub preread: String,
        /// Processor at the sample before.
        pub precpu_stats: CpuStats,
    }

    /// Use of processors.
    pub struct CpuStats {
        /// By the container.
        pub cpu_usage: CpuUsage,
        /// By the whole host, nanoseconds.
        #[serde(skip_serializing_if = "is_default")]
        pub system_cpu_usage: u64,
        /// Processors.
        #[serde(skip_serializing_if = "is_default")]
        pub online_cpus: u32,
        /// How often the container had to wait.
        pub throttling_data: ThrottlingData,
    }

    /// Use of processors, nanoseconds.
    pub struct CpuUsage {
        /// All.
        pub total_usage: u64,
        /// By processor; cgroup v1.
        #[serde(skip_serializing_if = "is_default")]
        pub percpu_usage: Vec<u64>,
        /// In the kernel.
        pub usage_in_kernelmode: u64,
        /// In user mode.
        pub usage_in_usermode: u64,
    }

    /// How often a container had to wait for its quota.
    pub struct ThrottlingData {
        /// Periods.
        pub periods: u64,
        /// Periods in which it had to wait.
        pub throttled_periods: u64,
        /// Nanoseconds of waiting.
        pub throttled_time: u64,
    }

    /// Use of memory, bytes.
    pub struct MemoryStats {
        /// Now.
        #[serde(skip_serializing_if = "is_default")]
        pub usage: u64,
        /// Ever; cgroup v1.
        #[serde(skip_serializing_if = "is_default")]
        pub max_usage: u64,
        /// The kernel's counters.
        #[serde(skip_serializing_if = "is_default")]
        pub stats: BTreeMap<String, u64>,
        /// Failed allocations; cgroup v1.
        #[serde(skip_serializing_if = "is_default")]
        pub failcnt: u64,
        /// Limit, or the host's memory.
        #[serde(skip_serializing_if = "is_default")]
        pub limit: u64,
    }

    /// Processes of a container.
    pub struct PidsStats {
        /// Now.
        #[serde(skip_serializing_if = "is_default")]
        pub current: u64,
        /// Limit.
        #[serde(skip_serializing_if = "is_default")]
        pub limit: u64,
    }

    /// Use of block devices.
    pub struct BlkioStats {
        /// Bytes.
        pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
        /// Operations.
        pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
        /// Queued operations; cgroup v1.
        pub io_queue_recursive: Option<Vec<BlkioEntry>>,
        /// Nanoseconds of service; cgroup v1.
        pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
        /// Nanoseconds of waiting; cgroup v1.
        pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
        /// Merged operations; cgroup v1.
        pub io_merged_recursive: Option<Vec<BlkioEntry>>,
        /// Milliseconds of disk time; cgroup v1.
        pub io_time_recursive: Option<Vec<BlkioEntry>>,
        /// Sectors; cgroup v1.
        pub sectors_recursive: Option<Vec<BlkioEntry>>,
    }

    /// One counter of one block device.
    pub struct BlkioEntry {
        /// Major number.
        pub major: u64,
        /// Minor number.
        pub minor: u64,
        /// `read`, `write`, `sync`, ...
        pub op: String,
        /// Value.
        pub value: u64,
    }

    /// Windows only: empty here.
    pub struct StorageStats {
        ;
        /// Further counters.
        flatten other: BTreeMap<String, Value>,
    }

    /// Use of one interface.
    pub struct NetworkStats {
        /// Bytes received.
        pub rx_bytes: u64,
        /// Packets received.
        pub rx_packets: u64,
        /// Errors while receiving.
        pub rx_errors: u64,
        /// Packets dropped while receiving.
        pub rx_dropped: u64,
        /// Bytes sent.
        pub tx_bytes: u64,
        /// Packets sent.
        pub tx_packets: u64,
        /// Errors while sending.
        pub tx_errors: u64,
        /// Packets dropped while sending.
        pub tx_dropped: u64,
    }
}
