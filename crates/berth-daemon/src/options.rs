//! What can be said on the command line and in `daemon.json`: one struct for both, with dockerd's names.
//!
//! A directive that is given in both places is refused, as is a key that nobody knows: a setting that silently does
//! nothing is worse than a daemon that does not start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::{Deserialize, Deserializer};

/// Where the configuration file is looked for when nobody names one.
const DEFAULT_FILE: &str = "/etc/berth/daemon.json";

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Wrong on the command line, or help and version, which clap treats alike.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The configuration file cannot be read.
    #[error("reading the configuration file {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The configuration file says something that is not understood.
    #[error("configuration file {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// The same directive in both places.
    #[error("given both on the command line and in {}: {}", .path.display(), .directives.join(", "))]
    Twice {
        /// The file.
        path: PathBuf,
        /// The directives.
        directives: Vec<&'static str>,
    },
}

/// The container engine's daemon
#[derive(Debug, Parser)]
#[command(name = "berthd", version, about, disable_version_flag = true)]
struct CommandLine {
    #[command(flatten)]
    directives: Directives,
    /// Configuration file [default: /etc/berth/daemon.json]
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Check the options and exit
    #[arg(long)]
    validate: bool,
    /// Print the version and exit
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// Declares the directives: a clap argument and a key of the file each, and how two sets of them merge.
macro_rules! directives {
    ($( $(#[$meta:meta])* $field:ident : $ty:ty = $flag:literal ),* $(,)?) => {
        /// Directives as given; what is absent takes its default later.
        #[derive(Debug, Default, Clone, PartialEq, clap::Args, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct Directives {
            $( $(#[$meta])* pub $field: Option<$ty>, )*
        }

        impl Directives {
            /// Takes the directives of a file where none is given, and names those given twice.
            fn merge(&mut self, file: Directives) -> Vec<&'static str> {
                let mut twice = Vec::new();
                $(
                    match (self.$field.is_some(), file.$field) {
                        (true, Some(_)) => twice.push(concat!("--", $flag)),
                        (false, Some(value)) => self.$field = Some(value),
                        (_, None) => {}
                    }
                )*
                twice
            }
        }
    };
}

directives! {
    /// Address to listen on: unix://PATH, tcp://IP:PORT, fd:// (repeatable)
    #[arg(short = 'H', long = "host", value_name = "URL")]
    hosts: Vec<String> = "host",
    /// Directory of everything that lasts [default: /var/lib/berth]
    #[arg(long, value_name = "DIR")]
    data_root: PathBuf = "data-root",
    /// Directory of everything that ends with the boot [default: /run/berth]
    #[arg(long, value_name = "DIR")]
    exec_root: PathBuf = "exec-root",
    /// File for the process id [default: EXEC_ROOT/berthd.pid]
    #[arg(short = 'p', long, value_name = "FILE")]
    pidfile: PathBuf = "pidfile",
    /// Group that may use the unix sockets [default: docker, if there is one]
    #[arg(short = 'G', long)]
    group: String = "group",
    /// Also listen on /run/docker.sock
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    docker_socket: bool = "docker-socket",
    /// Use TLS on tcp addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tls: bool = "tls",
    /// Use TLS and ask clients for a certificate
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tlsverify: bool = "tlsverify",
    /// Certificates of the authority that signs clients
    #[arg(long, value_name = "FILE")]
    tlscacert: PathBuf = "tlscacert",
    /// Certificate of the daemon
    #[arg(long, value_name = "FILE")]
    tlscert: PathBuf = "tlscert",
    /// Key of the daemon
    #[arg(long, value_name = "FILE")]
    tlskey: PathBuf = "tlskey",
    /// Oldest API version to answer [default: 1.24]
    #[arg(long, value_name = "VERSION")]
    min_api_version: String = "min-api-version",
    /// Least severe messages to log: debug, info, warn, error, fatal [default: info]
    #[arg(short = 'l', long, value_name = "LEVEL")]
    log_level: String = "log-level",
    /// Form of log messages: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: String = "log-format",
    /// Log for debugging
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    debug: bool = "debug",
    /// Label of the daemon, KEY=VALUE (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String> = "label",
    /// Cgroup under which containers' are made [default: /berth]
    #[arg(long, value_name = "PATH")]
    cgroup_parent: String = "cgroup-parent",
    /// Runtime option; only native.cgroupdriver=cgroupfs is known (repeatable)
    #[arg(long = "exec-opt", value_name = "KEY=VALUE")]
    exec_opts: Vec<String> = "exec-opt",
    /// Storage driver; only overlay2 and overlayfs, two names of one
    #[arg(short = 's', long, value_name = "NAME")]
    storage_driver: String = "storage-driver",
    /// Address and subnet of the default bridge, IP/BITS
    #[arg(long, value_name = "CIDR")]
    bip: String = "bip",
    /// Bridge that somebody else made as the default one, or none
    #[arg(short = 'b', long, value_name = "NAME")]
    bridge: String = "bridge",
    /// Part of the default bridge's subnet that containers get addresses from
    #[arg(long, value_name = "CIDR")]
    fixed_cidr: String = "fixed-cidr",
    /// Way out for containers on the default bridge [default: the bridge]
    #[arg(long, value_name = "IP")]
    default_gateway: String = "default-gateway",
    /// Give the default bridge IPv6
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv6: bool = "ipv6",
    /// IPv6 address and subnet of the default bridge, IP/BITS
    #[arg(long, value_name = "CIDR")]
    bip6: String = "bip6",
    /// Part of the default bridge's IPv6 subnet that containers get addresses from
    #[arg(long, value_name = "CIDR")]
    fixed_cidr_v6: String = "fixed-cidr-v6",
    /// IPv6 way out for containers on the default bridge [default: the bridge]
    #[arg(long, value_name = "IP")]
    default_gateway_v6: String = "default-gateway-v6",
    /// Range that subnets of networks are taken from, base=CIDR,size=BITS (repeatable)
    #[arg(long = "default-address-pool", value_name = "POOL")]
    #[serde(deserialize_with = "pools")]
    default_address_pools: Vec<String> = "default-address-pool",
    /// Let containers on the default bridge reach each other [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    icc: bool = "icc",
    /// Let the host pass packets on between interfaces [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ip_forward: bool = "ip-forward",
    /// Give outbound packets the host's address [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ip_masq: bool = "ip-masq",
    /// Keep firewall rules [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    iptables: bool = "iptables",
    /// Keep firewall rules for IPv6 too, where rules are kept [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ip6tables: bool = "ip6tables",
    /// What rules are kept with; only nftables
    #[arg(long, value_name = "NAME")]
    firewall_backend: String = "firewall-backend",
    /// Leave the policy of the chain FORWARD alone; it always is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ip_forward_no_drop: bool = "ip-forward-no-drop",
    /// Let a process carry what rules cannot lead to containers: between IPv6 and IPv4, and from ::1 [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    userland_proxy: bool = "userland-proxy",
    /// Not there: one process of the engine's own carries all
    #[arg(long, value_name = "FILE", hide = true)]
    userland_proxy_path: String = "userland-proxy-path",
    /// Not there: networks with the gateway mode nat-unprotected or routed are reached directly
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    allow_direct_routing: bool = "allow-direct-routing",
    /// Not there
    #[arg(long, value_name = "MARK", hide = true)]
    bridge_accept_fwmark: String = "bridge-accept-fwmark",
    /// Option of new networks of a driver, DRIVER=KEY=VALUE (repeatable)
    #[arg(long = "default-network-opt", value_name = "OPTION")]
    #[serde(deserialize_with = "options_of_drivers")]
    default_network_opts: Vec<String> = "default-network-opt",
    /// Address behind host-gateway [default: the gateway of the container's network] (repeatable)
    #[arg(long = "host-gateway-ip", value_name = "IP")]
    host_gateway_ips: Vec<String> = "host-gateway-ip",
    /// Who decides whether published ports are reached: docker (who publishes) or respect (the host's input rules)
    #[arg(long, value_name = "MODE")]
    firewall: String = "firewall",
    /// Published ports that are held by sockets, not by records alone [default: 1000]
    #[arg(long, value_name = "COUNT")]
    held_ports: usize = "held-ports",
    /// Address of the host at which ports of the default bridge are published when none is named [default: every one]
    #[arg(long, value_name = "IP")]
    ip: String = "ip",
    /// MTU of the default bridge's interfaces
    #[arg(long, value_name = "BYTES")]
    mtu: u32 = "mtu",
    /// Name server of containers (repeatable)
    #[arg(long, value_name = "IP")]
    dns: Vec<String> = "dns",
    /// Search domain of containers (repeatable)
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String> = "dns-search",
    /// Resolver option of containers (repeatable)
    #[arg(long = "dns-opt", value_name = "OPTION")]
    dns_opts: Vec<String> = "dns-opt",
    /// Registry that need not be encrypted: HOST[:PORT] or CIDR (repeatable)
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    #[serde(alias = "insecure-registry")]
    insecure_registries: Vec<String> = "insecure-registry",
    /// Mirror to ask before a registry: URL (of docker.io) or REGISTRY=URL (repeatable)
    #[arg(long = "registry-mirror", value_name = "URL")]
    #[serde(alias = "registry-mirror")]
    registry_mirrors: Vec<String> = "registry-mirror",
    /// Layers that a pull fetches at once [default: 3]
    #[arg(long, value_name = "NUMBER")]
    max_concurrent_downloads: usize = "max-concurrent-downloads",
    /// Layers that a push sends at once [default: 5]
    #[arg(long, value_name = "NUMBER")]
    max_concurrent_uploads: usize = "max-concurrent-uploads",
    /// How often in a row a download may break off without having brought anything [default: 5]
    #[arg(long, value_name = "NUMBER")]
    max_download_attempts: u32 = "max-download-attempts",
    /// Size of the image store from which images are removed that were not used for long [default: no limit]
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "text_or_number")]
    gc_max_size: String = "gc-max-size",
    /// Images used within this time are never removed by --gc-max-size [default: 24h]
    #[arg(long, value_name = "DURATION")]
    gc_keep: String = "gc-keep",
    /// Proxy for plain connections to registries [default: HTTP_PROXY]
    #[arg(long, value_name = "URL")]
    http_proxy: String = "http-proxy",
    /// Proxy for encrypted connections to registries [default: HTTPS_PROXY]
    #[arg(long, value_name = "URL")]
    https_proxy: String = "https-proxy",
    /// Hosts that are reached without a proxy [default: NO_PROXY]
    #[arg(long, value_name = "HOSTS")]
    no_proxy: String = "no-proxy",
    /// Log driver of containers that name none [default: json-file]
    #[arg(long, value_name = "NAME")]
    log_driver: String = "log-driver",
    /// Option of the default log driver, KEY=VALUE (repeatable)
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    #[serde(deserialize_with = "pairs")]
    log_opts: Vec<String> = "log-opt",
    /// Resource limit of containers that set none, NAME=SOFT[:HARD] (repeatable)
    #[arg(long = "default-ulimit", value_name = "LIMIT")]
    #[serde(deserialize_with = "ulimits")]
    default_ulimits: Vec<String> = "default-ulimit",
    /// Size of /dev/shm of containers that set none [default: 64M]
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "text_or_number")]
    default_shm_size: String = "default-shm-size",
    /// Cgroup namespace of containers that set none: host or private
    #[arg(long, value_name = "MODE")]
    default_cgroupns_mode: String = "default-cgroupns-mode",
    /// Run a small init in every container
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    init: bool = "init",
    /// Set no-new-privileges for every container
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    no_new_privileges: bool = "no-new-privileges",
    /// Seccomp profile instead of the built-in one
    #[arg(long, value_name = "FILE")]
    seccomp_profile: PathBuf = "seccomp-profile",
    /// Let containers run on when the daemon stops [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    live_restore: bool = "live-restore",
    /// Seconds that containers get to end when the daemon stops without live restore [default: 15]
    #[arg(long, value_name = "SECONDS")]
    shutdown_timeout: i64 = "shutdown-timeout",
}

/// The options of one start.
#[derive(Debug)]
pub struct Options {
    /// Directives of the command line and the file together.
    pub directives: Directives,
    /// Whether only to check them.
    pub validate: bool,
}

/// Reads the command line (without the program's name) and the configuration file.
///
/// # Errors
/// [`OptionsError`]; help and version come as [`OptionsError::CommandLine`] that is no error.
pub fn read(args: Vec<OsString>) -> Result<Options, OptionsError> {
    let program = OsString::from("berthd");
    let line = CommandLine::try_parse_from(std::iter::once(program).chain(args))?;
    let mut directives = line.directives;
    let (path, named) = match line.config_file {
        Some(path) => (path, true),
        None => (PathBuf::from(DEFAULT_FILE), false),
    };
    if let Some(file) = read_file(&path, named)? {
        let twice = directives.merge(file);
        if !twice.is_empty() {
            return Err(OptionsError::Twice { path, directives: twice });
        }
    }
    Ok(Options { directives, validate: line.validate })
}

fn read_file(path: &Path, must_exist: bool) -> Result<Option<Directives>, OptionsError> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => match serde_json::from_str(&text) {
            Ok(directives) => Ok(Some(directives)),
            Err(source) => Err(OptionsError::File { path: path.to_owned(), source }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(None),
        Err(source) => Err(OptionsError::Read { path: path.to_owned(), source }),
    }
}

/// `{"max-size": "10m"}` becomes what the flag takes, `max-size=10m`.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let map = BTreeMap::<String, String>::deserialize(deserializer)?;
    Ok(Some(map.into_iter().map(|(key, value)| format!("{key}={value}")).collect()))
}

/// `{"bridge": {"com.docker.network.driver.mtu": "1400"}}` becomes what the flag takes, `bridge=com.docker.network.driver.mtu=1400`.
fn options_of_drivers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let map = BTreeMap::<String, BTreeMap<String, String>>::deserialize(deserializer)?;
    let lines = |(driver, options): (String, BTreeMap<String, String>)| {
        options.into_iter().map(move |(key, value)| format!("{driver}={key}={value}"))
    };
    Ok(Some(map.into_iter().flat_map(lines).collect()))
}

/// `{"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}` becomes what the flag takes, `nofile=1:2`.
fn ulimits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let map = BTreeMap::<String, berth_api::host_config::Ulimit>::deserialize(deserializer)?;
    Ok(Some(map.into_iter().map(|(name, limit)| format!("{name}={}:{}", limit.soft, limit.hard)).collect()))
}

/// Ranges of addresses, written as in `daemon.json`: `[{"base": "10.10.0.0/16", "size": 24}]`.
fn pools<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pool {
        base: String,
        size: u8,
    }
    let pools = Vec::<Pool>::deserialize(deserializer)?;
    Ok(Some(pools.into_iter().map(|pool| format!("base={},size={}", pool.base, pool.size)).collect()))
}

/// A size as text or as a number of bytes.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(args: &[&str], file: &str) -> Result<Directives, String> {
        let directory = std::env::temp_dir().join(format!("berth-options-{}-{:p}", std::process::id(), file));
        std::fs::create_dir_all(&directory).expect("directory");
        let path = directory.join("daemon.json");
        std::fs::write(&path, file).expect("file");
        let mut all: Vec<OsString> = args.iter().map(OsString::from).collect();
        all.extend(["--config-file".into(), path.clone().into()]);
        let result = read(all).map(|options| options.directives);
        std::fs::remove_dir_all(&directory).expect("removed");
        result.map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn flags_and_file_together_make_the_options() {
        let file = r#"{"log-opts":{"max-size":"1m"},"default-ulimits":{"nofile":{"Name":"nofile","Soft":1,"Hard":2}},
                       "default-shm-size":"32M","live-restore":false}"#;
        let options = read_with(&["-H", "unix:///a", "-H", "fd://", "--mtu", "1400", "--init"], file).expect("valid");
        assert_eq!(options.hosts.as_deref(), Some(&["unix:///a".to_owned(), "fd://".to_owned()][..]));
        assert_eq!((options.mtu, options.init, options.live_restore), (Some(1400), Some(true), Some(false)));
        assert_eq!(options.log_opts, Some(vec!["max-size=1m".to_owned()]));
        assert_eq!(options.default_ulimits, Some(vec!["nofile=1:2".to_owned()]));
        assert_eq!(options.default_shm_size.as_deref(), Some("32M"));
    }

    #[test]
    fn what_is_unknown_or_given_twice_is_refused() {
        let refused = read_with(&[], r#"{"mtuu": 1}"#).expect_err("unknown key");
        assert!(refused.starts_with("configuration file FILE: unknown field `mtuu`"), "{refused}");
        let refused = read_with(&["--mtu", "1"], r#"{"mtu": 2}"#).expect_err("twice");
        assert_eq!(refused, "given both on the command line and in FILE: --mtu");
        let refused = read_with(&["--bogus"], "{}").expect_err("unknown flag");
        assert!(refused.contains("--bogus"), "{refused}");
    }

    #[test]
    fn a_switch_can_be_turned_off() {
        assert_eq!(read_with(&["--live-restore=false"], "").expect("valid").live_restore, Some(false));
        assert_eq!(read_with(&["--live-restore"], "").expect("valid").live_restore, Some(true));
    }
}
