//! Limits: what this host can honour, and how the runtime specification says it (B191-B193).

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use berth_oci::runtime::{BlockIo, Cpu, LinuxResources, Memory, Pids, ThrottleDevice, WeightDevice};

use crate::{
    EngineError,
    spec::{BlockDeviceRate, Resources},
};

/// The period in which a share of CPUs is given, in microseconds.
const CPU_PERIOD: i64 = 100_000;

/// Fills in what is derived. Gives warnings for what this host cannot honour and drops that.
pub(crate) fn settle(resources: &mut Resources) -> Result<Vec<String>, EngineError> {
    let mut warnings = Vec::new();
    if resources.memory > 0 && resources.memory_swap == 0 {
        // As much swap as memory.
        resources.memory_swap = resources.memory.saturating_mul(2);
    }
    if resources.memory_swap > 0 && resources.memory > 0 && !has_swap_limit() {
        warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".to_owned());
        resources.memory_swap = -1;
    }
    if resources.blkio_weight > 0 && !has_block_weight() {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".to_owned(),
        );
        resources.blkio_weight = 0;
    }
    if resources.oom_kill_disable == Some(true) && is_v2() {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        resources.oom_kill_disable = None;
    }
    Ok(warnings)
}

fn is_v2() -> bool {
    exists("/sys/fs/cgroup/cgroup.controllers")
}

fn has_swap_limit() -> bool {
    is_v2() || exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
}

fn has_block_weight() -> bool {
    ["/sys/fs/cgroup/blkio/blkio.weight", "/sys/fs/cgroup/blkio/blkio.bfq.weight"].into_iter().any(exists) || is_v2()
}

fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

/// The kernel's version, for what depends on it.
pub(crate) fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The runtime specification's words for these limits.
pub(crate) fn to_oci(resources: &Resources) -> Result<LinuxResources, EngineError> {
    Ok(LinuxResources {
        memory: memory(resources),
        cpu: cpu(resources),
        // Docker's clients say 0 where they mean no limit.
        pids: resources.pids_limit.map(|limit| Pids { limit: Some(if limit == 0 { -1 } else { limit }) }),
        block_io: block_io(resources)?,
        ..LinuxResources::default()
    })
}

fn memory(resources: &Resources) -> Option<Memory> {
    let given = |bytes: i64| (bytes != 0).then_some(bytes);
    let memory = Memory {
        limit: given(resources.memory),
        reservation: given(resources.memory_reservation),
        swap: given(resources.memory_swap),
        kernel: given(resources.kernel_memory),
        kernel_tcp: given(resources.kernel_memory_tcp),
        swappiness: resources.memory_swappiness.and_then(|percent| u64::try_from(percent).ok()),
        disable_oom_killer: resources.oom_kill_disable,
        ..Memory::default()
    };
    (memory != Memory::default()).then_some(memory)
}

fn cpu(resources: &Resources) -> Option<Cpu> {
    let given = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let text = |list: &String| (!list.is_empty()).then(|| list.clone());
    let (quota, period) = match resources.nano_cpus {
        0 => ((resources.cpu_quota != 0).then_some(resources.cpu_quota), given(resources.cpu_period)),
        nano => (Some(nano / (1_000_000_000 / CPU_PERIOD)), given(CPU_PERIOD)),
    };
    let cpu = Cpu {
        shares: given(resources.cpu_shares),
        quota,
        period,
        realtime_period: given(resources.cpu_realtime_period),
        realtime_runtime: (resources.cpu_realtime_runtime != 0).then_some(resources.cpu_realtime_runtime),
        cpus: text(&resources.cpuset_cpus),
        mems: text(&resources.cpuset_mems),
        ..Cpu::default()
    };
    (cpu != Cpu::default()).then_some(cpu)
}

fn block_io(resources: &Resources) -> Result<Option<BlockIo>, EngineError> {
    let weights = resources.blkio_weight_device.iter().flatten().map(|device| {
        let (major, minor) = block_device(&device.path)?;
        Ok(WeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None })
    });
    let io = BlockIo {
        weight: (resources.blkio_weight > 0).then_some(resources.blkio_weight),
        weight_device: weights.collect::<Result<_, EngineError>>()?,
        throttle_read_bps_device: rates(resources.blkio_device_read_bps.as_deref())?,
        throttle_write_bps_device: rates(resources.blkio_device_write_bps.as_deref())?,
        throttle_read_iops_device: rates(resources.blkio_device_read_iops.as_deref())?,
        throttle_write_iops_device: rates(resources.blkio_device_write_iops.as_deref())?,
        ..BlockIo::default()
    };
    Ok((io != BlockIo::default()).then_some(io))
}

fn rates(devices: Option<&[BlockDeviceRate]>) -> Result<Vec<ThrottleDevice>, EngineError> {
    let one = |device: &BlockDeviceRate| {
        let (major, minor) = block_device(&device.path)?;
        Ok(ThrottleDevice { major, minor, rate: device.rate })
    };
    devices.unwrap_or_default().iter().map(one).collect()
}

fn block_device(path: &str) -> Result<(i64, i64), EngineError> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| EngineError::invalid(format!("the device {path} cannot be limited: {error}")))?;
    if !metadata.file_type().is_block_device() {
        return Err(EngineError::invalid(format!("the device {path} cannot be limited: it is no block device")));
    }
    Ok((rustix::fs::major(metadata.rdev()).into(), rustix::fs::minor(metadata.rdev()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota() {
        let resources = Resources { nano_cpus: 1_500_000_000, ..Resources::default() };
        let cpu = to_oci(&resources).expect("plain").cpu.expect("given");
        assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
    }

    #[test]
    fn nothing_given_limits_nothing() {
        assert!(to_oci(&Resources::default()).expect("plain").is_empty());
    }

    #[test]
    fn only_block_devices_are_throttled() {
        let rate = vec![BlockDeviceRate { path: "/dev/null".to_owned(), rate: 1 }];
        let resources = Resources { blkio_device_read_bps: Some(rate), ..Resources::default() };
        let message = to_oci(&resources).expect_err("a character device").to_string();
        assert_eq!(message, "the device /dev/null cannot be limited: it is no block device");
    }
}
