//! What a container has used: one shape for both versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything counted for a cgroup at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// CPU time.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Tasks.
    pub pids: PidsUsage,
    /// Block I/O, the groups below included.
    pub block_io: BlockIoUsage,
}

/// CPU time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// Spent in programs.
    pub user: u64,
    /// Spent in the kernel.
    pub kernel: u64,
    /// By CPU; empty on v2, which does not count it.
    pub per_cpu: Vec<u64>,
    /// How the quota held it back.
    pub throttling: CpuThrottling,
}

/// How a quota held the container back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuThrottling {
    /// Periods in which it wanted to run.
    pub periods: u64,
    /// Those in which the quota ran out.
    pub throttled_periods: u64,
    /// Nanoseconds it was held back.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryUsage {
    /// In use, page cache included.
    pub usage: u64,
    /// The most that ever was; zero where the kernel does not keep it.
    pub max_usage: u64,
    /// The hard limit; `None` is unlimited.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// Swap in use.
    pub swap_usage: u64,
    /// The limit of swap alone; `None` is unlimited.
    pub swap_limit: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// The lines of `memory.stat`.
    pub stats: BTreeMap<String, u64>,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsUsage {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` is unlimited.
    pub limit: Option<u64>,
}

/// Block I/O: one entry for each device and kind of operation. Only the first two are counted on v2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIoUsage {
    /// Bytes moved.
    pub service_bytes: Vec<BlockIoEntry>,
    /// Operations done.
    pub serviced: Vec<BlockIoEntry>,
    /// Operations queued now.
    pub queued: Vec<BlockIoEntry>,
    /// Nanoseconds between dispatch and completion.
    pub service_time: Vec<BlockIoEntry>,
    /// Nanoseconds in the scheduler's queue.
    pub wait_time: Vec<BlockIoEntry>,
    /// Operations merged into others.
    pub merged: Vec<BlockIoEntry>,
    /// Milliseconds of disk time.
    pub time: Vec<BlockIoEntry>,
    /// Sectors moved.
    pub sectors: Vec<BlockIoEntry>,
}

/// A counter of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Kind of operation as Docker reports it: `Read`, `Write`, ... on v1, `read`, `write` on v2; empty where it is not told apart.
    pub op: String,
    /// The counter.
    pub value: u64,
}
