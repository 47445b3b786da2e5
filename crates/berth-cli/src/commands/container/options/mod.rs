//! The flags of `create` and `run` that say what the container is to be, as typed.
//!
//! What can be judged from one value is judged here, by the value parsers; what needs several flags together is in [`request`].

mod csv;
mod environment;
mod mount;
mod network;
mod port;
pub(crate) mod request;
mod security;
pub(crate) mod value;

#[cfg(feature = "fuzz")]
pub use port::published;

use std::net::{Ipv4Addr, Ipv6Addr};

use berth_api::host_config::{DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};
use berth_api::mount::Mount;

use crate::flag;
pub(crate) use environment::variables;
pub(crate) use network::NetworkAttachment;
pub(crate) use value::Stream;

/// What the container is to be, as typed.
#[derive(clap::Args)]
pub struct ContainerOptions {
    /// Extra /etc/hosts line given as name:address (value host-gateway maps to the host side address)
    #[arg(long = "add-host", value_name = "list", value_parser = value::extra_host)]
    pub extra_hosts: Vec<String>,
    /// Add an OCI annotation passed to the runtime spec
    #[arg(long = "annotation", value_name = "map", value_parser = value::annotation)]
    pub annotations: Vec<String>,
    /// Connect only the named stdio streams (stdin, stdout, stderr)
    #[arg(long, short = 'a', value_name = "list", value_parser = value::stream)]
    pub attach: Vec<Stream>,
    /// Relative block IO weight 10 to 1000, 0 turns it off
    #[arg(long, value_name = "uint16", default_value_t = 0)]
    pub blkio_weight: u16,
    /// Relative block IO weight for one device (path:weight)
    #[arg(long = "blkio-weight-device", value_name = "list", value_parser = value::weight_device)]
    pub blkio_weight_devices: Vec<WeightDevice>,
    /// Add a Linux capability
    #[arg(long, value_name = "list")]
    pub cap_add: Vec<String>,
    /// Remove a Linux capability
    #[arg(long, value_name = "list")]
    pub cap_drop: Vec<String>,
    /// Parent cgroup to create the cgroup under
    #[arg(long, value_name = "string")]
    pub cgroup_parent: Option<String>,
    /// Cgroup namespace mode: host or private
    #[arg(long, value_name = "string")]
    pub cgroupns: Option<String>,
    /// Write the new container ID to this file; fails when it exists
    #[arg(long, value_name = "string")]
    pub cidfile: Option<String>,
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
    /// Deprecated, accepted and ignored
    #[arg(long, hide = true, default_value_t = true, action = clap::ArgAction::SetFalse)]
    pub disable_content_trust: bool,
    /// DNS server for the container resolv.conf
    #[arg(long, value_name = "list", value_parser = value::ip_address)]
    pub dns: Vec<String>,
    /// Resolver option for resolv.conf
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "list")]
    pub dns_options: Vec<String>,
    /// DNS search domain for resolv.conf
    #[arg(long, value_name = "list", value_parser = value::dns_search)]
    pub dns_search: Vec<String>,
    /// NIS domain name
    #[arg(long, value_name = "string")]
    pub domainname: Option<String>,
    /// Replace the image entrypoint; an empty value clears it
    #[arg(long, value_name = "string")]
    pub entrypoint: Option<String>,
    /// Set NAME=value; NAME alone copies the client value
    #[arg(long = "env", short = 'e', value_name = "list", value_parser = value::environment)]
    pub environment: Vec<String>,
    /// Read NAME=value lines from a file
    #[arg(long = "env-file", value_name = "list")]
    pub env_files: Vec<String>,
    /// Mark a port or port range as exposed without publishing
    #[arg(long, value_name = "list")]
    pub expose: Vec<String>,
    /// GPU request: all, a count or device=... list
    #[arg(long, value_name = "gpu-request", value_parser = value::gpus)]
    pub gpus: Vec<DeviceRequest>,
    /// Add a supplementary group by name or gid
    #[arg(long = "group-add", value_name = "list")]
    pub groups: Vec<String>,
    /// Shell command that checks health
    #[arg(long, value_name = "string")]
    pub health_cmd: Option<String>,
    /// Time between health checks
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_interval: i64,
    /// Failures in a row that mean unhealthy
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub health_retries: i64,
    /// Time between checks during the start period
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_start_interval: i64,
    /// Grace time in which failures do not count
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_start_period: i64,
    /// Time limit of one check
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_timeout: i64,
    /// Host name inside the container
    #[arg(long, short = 'h', value_name = "string")]
    pub hostname: Option<String>,
    /// Run a small init as PID 1 that forwards signals and reaps zombies
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = flag::boolean)]
    pub init: Option<bool>,
    /// Keep stdin open
    #[arg(long, short = 'i')]
    pub interactive: bool,
    /// IO bandwidth limit (Windows only)
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub io_maxbandwidth: i64,
    /// IO operations limit (Windows only)
    #[arg(long, value_name = "uint", default_value_t = 0)]
    pub io_maxiops: u64,
    /// Fixed IPv4 address on the network
    #[arg(long, value_name = "string", value_parser = value::ipv4)]
    pub ip: Option<Ipv4Addr>,
    /// Fixed IPv6 address on the network
    #[arg(long, value_name = "string", value_parser = value::ipv6)]
    pub ip6: Option<Ipv6Addr>,
    /// IPC namespace: none, private, shareable, host or container:ID
    #[arg(long, value_name = "string")]
    pub ipc: Option<String>,
    /// Isolation technology (default only on Linux)
    #[arg(long, value_name = "string")]
    pub isolation: Option<String>,
    /// Deprecated, accepted and ignored
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0, hide = true)]
    pub kernel_memory: i64,
    /// Add key=value metadata
    #[arg(long = "label", short = 'l', value_name = "list", value_parser = value::label)]
    pub labels: Vec<String>,
    /// Read labels from a file, one per line
    #[arg(long = "label-file", value_name = "list")]
    pub label_files: Vec<String>,
    /// Legacy link to another container (name[:alias])
    #[arg(long = "link", value_name = "list", value_parser = value::link)]
    pub links: Vec<String>,
    /// Link-local address for the endpoint
    #[arg(long = "link-local-ip", value_name = "list", value_parser = value::ip_address)]
    pub link_local_ips: Vec<String>,
    /// Log driver (json-file, local, none, syslog, journald, gelf, fluentd, awslogs, splunk, gcplogs, etwlogs)
    #[arg(long, value_name = "string")]
    pub log_driver: Option<String>,
    /// Option for the log driver
    #[arg(long = "log-opt", value_name = "list")]
    pub log_options: Vec<String>,
    /// Fixed MAC address
    #[arg(long, value_name = "string")]
    pub mac_address: Option<String>,
    /// Hard memory limit
    #[arg(long, short = 'm', value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub memory: i64,
    /// Soft memory limit
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub memory_reservation: i64,
    /// Memory plus swap limit, -1 is unlimited
    #[arg(long, value_name = "bytes", value_parser = value::bytes_or_unlimited, default_value_t = 0)]
    pub memory_swap: i64,
    /// Swappiness 0 to 100 (cgroup v1 only), -1 keeps the default
    #[arg(long, value_name = "int", default_value_t = -1)]
    pub memory_swappiness: i64,
    /// Mount given as type=bind|volume|tmpfs|image|cluster|npipe,src=,dst=,...
    #[arg(long = "mount", value_name = "mount", value_parser = mount::long_form)]
    pub mounts: Vec<Mount>,
    /// Container name instead of a generated one
    #[arg(long, value_name = "string")]
    pub name: Option<String>,
    /// Network to join: bridge, none, host, container:ID, a name, or name=...,alias=...
    #[arg(long = "network", alias = "net", value_name = "network", value_parser = network::attachment)]
    pub networks: Vec<NetworkAttachment>,
    /// Delay of the packets that the container sends (20ms)
    #[arg(long, value_name = "duration", value_parser = value::delay)]
    pub net_delay: Option<u64>,
    /// Share of the packets that the container sends and that get lost (0.5%)
    #[arg(long, value_name = "percentage", value_parser = value::loss)]
    pub net_loss: Option<u32>,
    /// Limit of traffic in each direction (10mbit)
    #[arg(long, value_name = "rate", value_parser = value::bit_rate)]
    pub net_rate: Option<u64>,
    /// Extra DNS name on the given networks
    #[arg(long = "network-alias", alias = "net-alias", value_name = "list")]
    pub network_aliases: Vec<String>,
    /// Turn off the image HEALTHCHECK
    #[arg(long)]
    pub no_healthcheck: bool,
    /// No OOM killer for this container (cgroup v1 only)
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// OOM score adjustment -1000 to 1000
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub oom_score_adj: i64,
    /// PID namespace: host or container:ID
    #[arg(long, value_name = "string")]
    pub pid: Option<String>,
    /// Process count limit, -1 is unlimited
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub pids_limit: i64,
    /// Os/arch[/variant] to select from a multi-platform image
    #[arg(long, value_name = "string")]
    pub platform: Option<String>,
    /// All capabilities, all devices, no seccomp, AppArmor, masked paths or read-only paths
    #[arg(long)]
    pub privileged: bool,
    /// Map a container port to the host: [ip:][hostport:]port[/proto], ranges allowed
    #[arg(long, short = 'p', value_name = "list")]
    pub publish: Vec<String>,
    /// Publish every exposed port to a free host port
    #[arg(long, short = 'P')]
    pub publish_all: bool,
    /// When to pull: always, missing or never
    #[arg(long, value_name = "string", default_value = "missing")]
    pub pull: String,
    /// No pull output
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Mount the root filesystem read-only
    #[arg(long)]
    pub read_only: bool,
    /// Restart policy: no, always, unless-stopped or on-failure[:max]
    #[arg(long, value_name = "string", default_value = "no")]
    pub restart: String,
    /// Remove the container and its anonymous volumes when it exits
    #[arg(long = "rm")]
    pub remove: bool,
    /// OCI runtime for this container
    #[arg(long, value_name = "string")]
    pub runtime: Option<String>,
    /// Security option: seccomp, apparmor, label, no-new-privileges, systempaths, credentialspec
    #[arg(long = "security-opt", value_name = "list")]
    pub security_options: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub shm_size: i64,
    /// Signal used to stop the process
    #[arg(long, value_name = "string")]
    pub stop_signal: Option<String>,
    /// Seconds to wait before a forced kill
    #[arg(long, value_name = "int")]
    pub stop_timeout: Option<i64>,
    /// Storage driver option for this container, e.g. size
    #[arg(long = "storage-opt", value_name = "list")]
    pub storage_options: Vec<String>,
    /// Namespaced kernel parameter
    #[arg(long = "sysctl", value_name = "map", value_parser = value::sysctl)]
    pub sysctls: Vec<String>,
    /// Mount a tmpfs at path[:options]
    #[arg(long, value_name = "list")]
    pub tmpfs: Vec<String>,
    /// Allocate a pseudo-terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// Resource limit name=soft[:hard]
    #[arg(long = "ulimit", value_name = "ulimit", value_parser = value::ulimit)]
    pub ulimits: Vec<Ulimit>,
    /// User[:group] by name or number
    #[arg(long, short = 'u', value_name = "string")]
    pub user: Option<String>,
    /// User namespace mode: host
    #[arg(long, value_name = "string")]
    pub userns: Option<String>,
    /// UTS namespace mode: host
    #[arg(long, value_name = "string")]
    pub uts: Option<String>,
    /// Bind mount or volume: [src:]dst[:options]
    #[arg(long = "volume", short = 'v', value_name = "list")]
    pub volumes: Vec<String>,
    /// Driver for volumes made by -v
    #[arg(long, value_name = "string")]
    pub volume_driver: Option<String>,
    /// Mount all volumes of another container [:ro|:rw]
    #[arg(long, value_name = "list")]
    pub volumes_from: Vec<String>,
    /// Working directory of the process
    #[arg(long, short = 'w', value_name = "string")]
    pub workdir: Option<String>,
    /// The image, then the command and its arguments: flags end at the image.
    #[arg(trailing_var_arg = true, value_name = "IMAGE")]
    pub words: Vec<String>,
}
