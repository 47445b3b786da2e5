//! What this host can do, looked up once: processors, memory nodes, controllers.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// What this host can do.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Processors that can be used.
    pub processors: u32,
    /// Their numbers.
    pub online_processors: CpuList,
    /// Numbers of the memory nodes.
    pub memory_nodes: CpuList,
    /// Bytes of memory.
    pub memory: u64,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Whether block I/O weights can be set.
    pub blkio_weight: bool,
    /// Whether the out-of-memory killer can be off.
    pub oom_kill_disable: bool,
    /// Whether processes can be limited.
    pub pids_limit: bool,
    /// Whether realtime shares can be set.
    pub realtime: bool,
}

impl HostFacts {
    /// Looks the facts up in `/proc` and `/sys`.
    pub fn probe() -> Self {
        let online = list_at("/sys/devices/system/cpu/online");
        let nodes = list_at("/sys/devices/system/node/online");
        let v1 = |file: &str| Path::new("/sys/fs/cgroup").join(file).exists();
        let unified = v1("cgroup.controllers");
        HostFacts {
            processors: u32::try_from(online.0.len()).unwrap_or(1),
            online_processors: online,
            memory_nodes: nodes,
            memory: memory_total(),
            swap_limit: unified || v1("memory/memory.memsw.limit_in_bytes"),
            blkio_weight: v1("blkio/blkio.weight") || v1("blkio/blkio.bfq.weight") || (unified && v1("io.bfq.weight")),
            oom_kill_disable: v1("memory/memory.oom_control"),
            pids_limit: unified || v1("pids"),
            realtime: v1("cpu/cpu.rt_runtime_us"),
        }
    }
}

fn list_at(path: &str) -> CpuList {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    CpuList::parse(text.trim()).unwrap_or_else(|| CpuList(BTreeSet::from([0])))
}

fn memory_total() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kibibytes: u64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
    kibibytes * 1024
}

/// A set of numbers in the kernel's list form, `0-2,7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(BTreeSet<u32>);

impl CpuList {
    /// No real machine has more; a list cannot make us fill the memory.
    const MOST: u32 = 1 << 16;

    /// Reads a list; `None` if it is none or empty.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
            if first > last || last > CpuList::MOST {
                return None;
            }
            numbers.extend(first..=last);
        }
        Some(CpuList(numbers))
    }

    /// Whether every number of `other` is here.
    pub fn contains_all(&self, other: &CpuList) -> bool {
        other.0.is_subset(&self.0)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => ranges.push((*number, *number)),
            }
        }
        let text =
            |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        f.write_str(&ranges.iter().map(text).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_like_the_kernel_does() {
        for text in ["0", "0-1", "0-2,7", "1,3,5-6"] {
            assert_eq!(CpuList::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "x", "2-1", "0-99999999", "1,"] {
            assert_eq!(CpuList::parse(text), None, "{text}");
        }
    }
}
