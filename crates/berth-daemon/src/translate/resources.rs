//! Limits: what can be asked for on this host, and in which words it is refused.

use berth_api::host_config::{self as wire};
use berth_engine::spec::{BlockDeviceRate, BlockDeviceWeight, DeviceMapping, Devices, NetworkShape, Resources, Ulimit};

use crate::host_facts::{CpuList, HostFacts};
use crate::http::error::ApiError;

/// The least memory a container can have: below it not even a runtime starts.
const MIN_MEMORY: i64 = 6 << 20;

/// Checks and understands limits. What the kernel cannot do is dropped with a warning (B193).
pub fn from_wire(wire: &wire::Resources, host: &HostFacts, warnings: &mut Vec<String>) -> Result<Resources, ApiError> {
    check_memory(wire)?;
    check_processor(wire, host)?;
    let mut resources = Resources {
        memory: wire.memory,
        memory_reservation: wire.memory_reservation,
        memory_swap: wire.memory_swap,
        memory_swappiness: wire.memory_swappiness.filter(|value| *value != -1),
        kernel_memory: 0,
        kernel_memory_tcp: wire.kernel_memory_tcp,
        oom_kill_disable: wire.oom_kill_disable,
        cpu_shares: wire.cpu_shares,
        nano_cpus: wire.nano_cpus,
        cpu_period: wire.cpu_period,
        cpu_quota: wire.cpu_quota,
        cpu_realtime_period: wire.cpu_realtime_period,
        cpu_realtime_runtime: wire.cpu_realtime_runtime,
        cpuset_cpus: wire.cpuset_cpus.clone(),
        cpuset_mems: wire.cpuset_mems.clone(),
        pids_limit: wire.pids_limit,
        blkio_weight: wire.blkio_weight,
        blkio_weight_device: wire.blkio_weight_device.as_deref().map(weights),
        blkio_device_read_bps: wire.blkio_device_read_bps.as_deref().map(rates),
        blkio_device_write_bps: wire.blkio_device_write_bps.as_deref().map(rates),
        blkio_device_read_iops: wire.blkio_device_read_iops.as_deref().map(rates),
        blkio_device_write_iops: wire.blkio_device_write_iops.as_deref().map(rates),
        ulimits: wire.ulimits.as_deref().map(ulimits),
        network_shape: wire.network_shape.as_ref().map(shape).unwrap_or_default(),
    };
    drop_unsupported(&mut resources, host, warnings)?;
    if resources.oom_kill_disable == Some(true) && resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, \
             this can result in the system running out of resources."
                .to_owned(),
        );
    }
    Ok(resources)
}

fn shape(wire: &wire::NetworkShape) -> NetworkShape {
    NetworkShape { rate: wire.rate, delay: wire.delay, loss: wire.loss }
}

/// Nothing where nothing is shaped: clients written for Docker do not know the field.
fn shape_to_wire(shape: &NetworkShape) -> Option<wire::NetworkShape> {
    let shaped = *shape != NetworkShape::default();
    shaped.then(|| wire::NetworkShape { rate: shape.rate, delay: shape.delay, loss: shape.loss })
}

fn check_memory(wire: &wire::Resources) -> Result<(), ApiError> {
    let refused = |text: &str| Err(ApiError::invalid(text));
    if wire.memory != 0 && wire.memory < MIN_MEMORY {
        return refused("Minimum memory limit allowed is 6MB");
    }
    if wire.memory > 0 && wire.memory_swap > 0 && wire.memory_swap < wire.memory {
        return refused("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if wire.memory == 0 && wire.memory_swap > 0 {
        return refused("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(value) = wire.memory_swappiness.filter(|value| !(-1..=100).contains(value)) {
        return refused(&format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
    }
    if wire.memory_reservation > 0 && wire.memory_reservation < MIN_MEMORY {
        return refused("Minimum memory reservation allowed is 6MB");
    }
    if wire.memory > 0 && wire.memory_reservation > wire.memory {
        return refused("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

fn check_processor(wire: &wire::Resources, host: &HostFacts) -> Result<(), ApiError> {
    let refused = |text: String| Err(ApiError::invalid(text));
    if wire.nano_cpus > 0 && wire.cpu_period > 0 {
        return refused("Conflicting options: Nano CPUs and CPU Period cannot both be set".to_owned());
    }
    if wire.nano_cpus > 0 && wire.cpu_quota > 0 {
        return refused("Conflicting options: Nano CPUs and CPU Quota cannot both be set".to_owned());
    }
    let most = i64::from(host.processors) * 1_000_000_000;
    if wire.nano_cpus < 0 || wire.nano_cpus > most {
        let count = host.processors;
        return refused(format!("range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"));
    }
    if wire.cpu_shares < 0 {
        return refused(format!("invalid CPU shares ({}): value must be a positive integer", wire.cpu_shares));
    }
    if wire.cpu_period != 0 && !(1_000..=1_000_000).contains(&wire.cpu_period) {
        return refused(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".to_owned(),
        );
    }
    if wire.cpu_quota > 0 && wire.cpu_quota < 1_000 {
        return refused("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    if (wire.cpu_realtime_period != 0 || wire.cpu_realtime_runtime != 0) && !host.realtime {
        return refused("Your kernel does not support CPU real-time scheduler".to_owned());
    }
    check_set(&wire.cpuset_cpus, "cpuset cpus", "CPUs", &host.online_processors)?;
    check_set(&wire.cpuset_mems, "cpuset mems", "memory nodes", &host.memory_nodes)
}

fn check_set(text: &str, option: &str, what: &str, available: &CpuList) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    let Some(wanted) = CpuList::parse(text) else {
        return Err(ApiError::invalid(format!("Invalid value {text} for {option}: invalid format: {text}")));
    };
    if available.contains_all(&wanted) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("Requested {what} are not available - requested {text}, available: {available}")))
}

fn drop_unsupported(resources: &mut Resources, host: &HostFacts, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    if !host.blkio_weight {
        if resources.blkio_weight != 0 {
            resources.blkio_weight = 0;
            warnings.push(
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                    .to_owned(),
            );
        }
        if resources.blkio_weight_device.as_ref().is_some_and(|devices| !devices.is_empty()) {
            resources.blkio_weight_device = None;
            warnings.push(
                "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. \
                 Weight-device discarded."
                    .to_owned(),
            );
        }
        return Ok(());
    }
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return Err(ApiError::invalid("Range of blkio weight is from 10 to 1000"));
    }
    Ok(())
}

/// Devices as asked for; whether they exist is found out at start.
pub fn devices(wire: &wire::Resources) -> Result<Devices, ApiError> {
    let mapping = |device: &wire::DeviceMapping| DeviceMapping {
        host: device.path_on_host.clone(),
        container: device.path_in_container.clone(),
        permissions: device.cgroup_permissions.clone(),
    };
    if let Some(request) = wire.device_requests.iter().flatten().next() {
        let capabilities = request.capabilities.clone().unwrap_or_default();
        return Err(ApiError::invalid(format!(
            "could not select device driver {:?} with capabilities: {capabilities:?}",
            request.driver
        )));
    }
    Ok(Devices {
        mapped: wire.devices.as_ref().map(|devices| devices.iter().map(mapping).collect()),
        cgroup_rules: wire.device_cgroup_rules.clone(),
        requests: None,
    })
}

fn weights(devices: &[wire::WeightDevice]) -> Vec<BlockDeviceWeight> {
    devices.iter().map(|device| BlockDeviceWeight { path: device.path.clone(), weight: device.weight }).collect()
}

fn rates(devices: &[wire::ThrottleDevice]) -> Vec<BlockDeviceRate> {
    devices.iter().map(|device| BlockDeviceRate { path: device.path.clone(), rate: device.rate }).collect()
}

fn ulimits(limits: &[wire::Ulimit]) -> Vec<Ulimit> {
    limits.iter().map(|limit| Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }).collect()
}

/// Shows limits and devices.
pub fn to_wire(resources: &Resources, devices: &Devices, cgroup_parent: &str) -> wire::Resources {
    let rate = |device: &BlockDeviceRate| wire::ThrottleDevice { path: device.path.clone(), rate: device.rate };
    let rates = |devices: &Option<Vec<BlockDeviceRate>>| devices.as_ref().map(|all| all.iter().map(rate).collect());
    let weight = |device: &BlockDeviceWeight| wire::WeightDevice { path: device.path.clone(), weight: device.weight };
    let ulimit = |limit: &Ulimit| wire::Ulimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft };
    let mapping = |device: &DeviceMapping| wire::DeviceMapping {
        path_on_host: device.host.clone(),
        path_in_container: device.container.clone(),
        cgroup_permissions: device.permissions.clone(),
    };
    wire::Resources {
        cpu_shares: resources.cpu_shares,
        memory: resources.memory,
        nano_cpus: resources.nano_cpus,
        cgroup_parent: cgroup_parent.to_owned(),
        blkio_weight: resources.blkio_weight,
        blkio_weight_device: resources.blkio_weight_device.as_ref().map(|all| all.iter().map(weight).collect()),
        blkio_device_read_bps: rates(&resources.blkio_device_read_bps),
        blkio_device_write_bps: rates(&resources.blkio_device_write_bps),
        blkio_device_read_iops: rates(&resources.blkio_device_read_iops),
        blkio_device_write_iops: rates(&resources.blkio_device_write_iops),
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_realtime_period: resources.cpu_realtime_period,
        cpu_realtime_runtime: resources.cpu_realtime_runtime,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        devices: devices.mapped.as_ref().map(|all| all.iter().map(mapping).collect()),
        device_cgroup_rules: devices.cgroup_rules.clone(),
        device_requests: None,
        kernel_memory_tcp: resources.kernel_memory_tcp,
        memory_reservation: resources.memory_reservation,
        memory_swap: resources.memory_swap,
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable.or(Some(false)),
        pids_limit: resources.pids_limit.filter(|limit| *limit > 0),
        ulimits: resources.ulimits.as_ref().map(|all| all.iter().map(ulimit).collect()),
        network_shape: shape_to_wire(&resources.network_shape),
        ..wire::Resources::default()
    }
}
