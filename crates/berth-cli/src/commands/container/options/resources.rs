//! What the container may use of the machine: processors, memory, devices, traffic.

use std::collections::BTreeMap;

use berth_api::host_config::{
    DeviceMapping, DeviceRequest, NetworkShape, Resources, ThrottleDevice, Ulimit, WeightDevice,
};

use super::request::{list, word};
use super::value;

/// The flags.
#[derive(Debug, Default, clap::Args)]
pub struct ResourceOptions {
    /// Relative block IO weight 10 to 1000, 0 turns it off
    #[arg(long, value_name = "uint16", default_value_t = 0)]
    pub blkio_weight: u16,
    /// Relative block IO weight for one device (path:weight)
    #[arg(long = "blkio-weight-device", value_name = "list", value_parser = value::weight_device)]
    pub blkio_weight_devices: Vec<WeightDevice>,
    /// Parent cgroup to create the cgroup under
    #[arg(long, value_name = "string")]
    pub cgroup_parent: Option<String>,
    /// Number of CPUs (Windows only)
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub cpu_count: i64,
    /// CPU percentage (Windows only)
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub cpu_percent: i64,
    /// CFS period in microseconds
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub cpu_period: i64,
    /// CFS quota in microseconds per period
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub cpu_quota: i64,
    /// Real-time scheduler period in microseconds
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub cpu_rt_period: i64,
    /// Real-time scheduler budget in microseconds
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub cpu_rt_runtime: i64,
    /// Relative CPU weight
    #[arg(long, short = 'c', value_name = "int", default_value_t = 0)]
    pub cpu_shares: i64,
    /// Limit expressed as a decimal number of CPUs
    #[arg(long, value_name = "decimal", value_parser = value::cpus, default_value_t = 0)]
    pub cpus: i64,
    /// CPUs the processes may run on (0-3 or 0,1)
    #[arg(long, value_name = "string")]
    pub cpuset_cpus: Option<String>,
    /// NUMA memory nodes the processes may use
    #[arg(long, value_name = "string")]
    pub cpuset_mems: Option<String>,
    /// Give access to a host device (host[:container[:rwm]]) or a CDI device
    #[arg(long = "device", value_name = "list", value_parser = value::device)]
    pub devices: Vec<String>,
    /// Add a device cgroup allow rule (type major:minor mode)
    #[arg(long = "device-cgroup-rule", value_name = "list", value_parser = value::device_cgroup_rule)]
    pub device_cgroup_rules: Vec<String>,
    /// Limit bytes per second read from a device
    #[arg(long, value_name = "list", value_parser = value::throttle_bps)]
    pub device_read_bps: Vec<ThrottleDevice>,
    /// Limit read operations per second on a device
    #[arg(long, value_name = "list", value_parser = value::throttle_iops)]
    pub device_read_iops: Vec<ThrottleDevice>,
    /// Limit bytes per second written to a device
    #[arg(long, value_name = "list", value_parser = value::throttle_bps)]
    pub device_write_bps: Vec<ThrottleDevice>,
    /// Limit write operations per second on a device
    #[arg(long, value_name = "list", value_parser = value::throttle_iops)]
    pub device_write_iops: Vec<ThrottleDevice>,
    /// GPU request: all, a count or device=... list
    #[arg(long, value_name = "gpu-request", value_parser = value::gpus)]
    pub gpus: Vec<DeviceRequest>,
    /// IO bandwidth limit (Windows only)
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub io_maxbandwidth: i64,
    /// IO operations limit (Windows only)
    #[arg(long, value_name = "uint", default_value_t = 0)]
    pub io_maxiops: u64,
    /// Deprecated, accepted and ignored
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0, hide = true)]
    pub kernel_memory: i64,
    /// Hard memory limit
    #[arg(long, short = 'm', value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub memory: i64,
    /// Soft memory limit
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub memory_reservation: i64,
    /// Memory plus swap limit, -1 is unlimited
    #[arg(long, value_name = "bytes", value_parser = value::bytes_or_unlimited, default_value_t = 0)]
    pub memory_swap: i64,
    /// Swappiness 0 to 100 (cgroup v1 only), -1 keeps the default (default -1)
    #[arg(long, value_name = "int")]
    pub memory_swappiness: Option<i64>,
    /// Delay of the packets that the container sends (20ms)
    #[arg(long, value_name = "duration", value_parser = value::delay)]
    pub net_delay: Option<u64>,
    /// Share of the packets that the container sends and that get lost (0.5%)
    #[arg(long, value_name = "percentage", value_parser = value::loss)]
    pub net_loss: Option<u32>,
    /// Limit of traffic in each direction (10mbit)
    #[arg(long, value_name = "rate", value_parser = value::bit_rate)]
    pub net_rate: Option<u64>,
    /// No OOM killer for this container (cgroup v1 only)
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Process count limit, -1 is unlimited
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub pids_limit: i64,
    /// Resource limit name=soft[:hard]
    #[arg(long = "ulimit", value_name = "ulimit", value_parser = value::ulimit)]
    pub ulimits: Vec<Ulimit>,
}

impl ResourceOptions {
    /// What they ask for together.
    pub(super) fn resources(&self) -> Result<Resources, String> {
        let swappiness = self.memory_swappiness.unwrap_or(-1);
        if swappiness != -1 && !(0..=100).contains(&swappiness) {
            return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
        }
        let (devices, cdi) = devices(&self.devices)?;
        let mut requests = self.gpus.clone();
        requests.extend(cdi);
        Ok(Resources {
            cpu_shares: self.cpu_shares,
            memory: self.memory,
            nano_cpus: self.cpus,
            cgroup_parent: word(&self.cgroup_parent),
            blkio_weight: self.blkio_weight,
            blkio_weight_device: Some(self.blkio_weight_devices.clone()),
            blkio_device_read_bps: Some(self.device_read_bps.clone()),
            blkio_device_write_bps: Some(self.device_write_bps.clone()),
            blkio_device_read_iops: Some(self.device_read_iops.clone()),
            blkio_device_write_iops: Some(self.device_write_iops.clone()),
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_realtime_period: self.cpu_rt_period,
            cpu_realtime_runtime: self.cpu_rt_runtime,
            cpuset_cpus: word(&self.cpuset_cpus),
            cpuset_mems: word(&self.cpuset_mems),
            devices: Some(devices),
            device_cgroup_rules: list(self.device_cgroup_rules.clone()),
            device_requests: list(requests),
            memory_reservation: self.memory_reservation,
            memory_swap: self.memory_swap,
            memory_swappiness: Some(swappiness),
            network_shape: network_shape(self.net_rate, self.net_delay, self.net_loss),
            oom_kill_disable: Some(self.oom_kill_disable),
            pids_limit: Some(self.pids_limit),
            ulimits: Some(self.sorted_ulimits()),
            cpu_count: self.cpu_count,
            cpu_percent: self.cpu_percent,
            io_maximum_iops: self.io_maxiops,
            io_maximum_bandwidth: self.io_maxbandwidth.unsigned_abs(),
            ..Resources::default()
        })
    }

    /// The last of two limits of the same name counts.
    fn sorted_ulimits(&self) -> Vec<Ulimit> {
        let by_name: BTreeMap<_, _> = self.ulimits.iter().map(|limit| (limit.name.clone(), limit.clone())).collect();
        by_name.into_values().collect()
    }
}

/// `host[:container][:rwm]`, or the qualified name of a CDI device.
fn devices(given: &[String]) -> Result<(Vec<DeviceMapping>, Vec<DeviceRequest>), String> {
    let mut mappings = Vec::new();
    let mut cdi = Vec::new();
    for text in given {
        if is_cdi_name(text) {
            cdi.push(text.clone());
        } else {
            mappings.push(device(text)?);
        }
    }
    let request = (!cdi.is_empty()).then(|| DeviceRequest {
        driver: "cdi".to_owned(),
        device_ids: Some(cdi),
        ..DeviceRequest::default()
    });
    Ok((mappings, request.into_iter().collect()))
}

fn device(text: &str) -> Result<DeviceMapping, String> {
    let is_mode = |word: &str| !word.is_empty() && word.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<_> = text.split(':').collect();
    let (host, container, mode) = match *parts.as_slice() {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(format!("bad mode specified: {mode}")),
        [host, container, mode] => (host, container, mode),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if let Some(path) = [host, container].into_iter().find(|path| !path.starts_with('/')) {
        return Err(format!("{path} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `vendor/class=name`.
fn is_cdi_name(text: &str) -> bool {
    let word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let parts = text.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
    parts.is_some_and(|((vendor, class), name)| word(vendor) && word(class) && word(name))
}

/// What is asked of the traffic, if anything is.
pub(crate) fn network_shape(rate: Option<u64>, delay: Option<u64>, loss: Option<u32>) -> Option<NetworkShape> {
    let shape = NetworkShape { rate, delay, loss };
    (shape != NetworkShape::default()).then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_path_and_by_name() {
        let (mappings, requests) = devices(&["/dev/null:/dev/x:r".into(), "a.b/class=dev".into()]).expect("devices");
        assert_eq!(mappings[0].path_in_container, "/dev/x");
        assert_eq!(requests[0].device_ids, Some(vec!["a.b/class=dev".to_owned()]));
    }
}
