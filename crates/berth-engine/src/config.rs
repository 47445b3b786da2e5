//! How an engine is set up.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use berth_net::NetConfig;

use crate::spec::{CgroupMode, LogConfig, Ulimit};

/// How an engine is set up. The daemon reads options and files into it; nothing here is read from the environment.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Everything that lasts.
    pub root: PathBuf,
    /// Everything that ends with the boot.
    pub run: PathBuf,
    /// Parent of the containers' cgroups, absolute.
    pub cgroup_parent: String,
    /// The default bridge, pools, firewall.
    pub network: NetConfig,
    /// Addresses by which containers reach the host (`host-gateway`); those of their networks' gateways if empty.
    pub host_gateway: Vec<IpAddr>,
    /// Names for containers.
    pub dns: DnsDefaults,
    /// Log driver and options of containers that ask for none.
    pub log: LogConfig,
    /// Limits of processes whose container sets none.
    pub default_ulimits: BTreeMap<String, Ulimit>,
    /// Runs the small init unless a container says otherwise.
    pub init: bool,
    /// Containers go on when the engine ends.
    pub live_restore: bool,
    /// How long containers have to end when the engine ends without live restore.
    pub shutdown_timeout: Duration,
    /// Bytes of /dev/shm unless a container says otherwise.
    pub default_shm_size: i64,
    /// Cgroup namespace of containers that do not say.
    pub default_cgroupns: CgroupMode,
    /// Sets `no_new_privs` for every container.
    pub no_new_privileges: bool,
    /// A seccomp profile instead of the engine's own, as a JSON document.
    pub seccomp_profile: Option<String>,
}

/// Names for containers that choose none themselves; what is empty is taken from the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsDefaults {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl EngineConfig {
    /// The usual set-up on given directories.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            run: run.into(),
            cgroup_parent: "/berth".to_owned(),
            network: NetConfig::default(),
            host_gateway: Vec::new(),
            dns: DnsDefaults::default(),
            log: LogConfig { driver: "json-file".to_owned(), options: BTreeMap::new() },
            default_ulimits: BTreeMap::new(),
            init: false,
            live_restore: true,
            shutdown_timeout: Duration::from_secs(15),
            default_shm_size: 64 << 20,
            default_cgroupns: CgroupMode::Default,
            no_new_privileges: false,
            seccomp_profile: None,
        }
    }
}
