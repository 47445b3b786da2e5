//! From directives to settings: defaults filled in, every text parsed, every file named by a directive looked at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use berth_distribution::{HostSettings, Proxies};
use berth_engine::EngineConfig;
use berth_engine::spec::{CgroupMode, LogConfig, Ulimit};
use berth_image::Budget;
use berth_model::{ByteSize, parse_go_duration};
use berth_net::{AddressPool, DefaultBridge, FirewallMode};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tracing::level_filters::LevelFilter;

use crate::http::version::ApiVersion;
use crate::options::Directives;

/// Everything that lasts.
const DEFAULT_ROOT: &str = "/var/lib/berth";
/// Everything that ends with the boot.
const DEFAULT_RUN: &str = "/run/berth";
/// Where docker's clients look when nobody tells them otherwise.
const DOCKER_SOCKET: &str = "/run/docker.sock";
/// Registered ports of the API, without and with TLS.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;
/// Layers that go from and to registries at once, as docker's daemon has it.
const DOWNLOADS: usize = 3;
const UPLOADS: usize = 5;
/// How often a download is tried.
const DOWNLOAD_ATTEMPTS: u32 = 5;
/// A day: what was worth pulling this morning is worth keeping till tonight.
const DEFAULT_KEEP: Duration = Duration::from_secs(24 * 3600);
/// Where certificates and settings of single registries are, ours before docker's.
const REGISTRY_DIRECTORIES: [&str; 2] = ["/etc/berth/certs.d", "/etc/docker/certs.d"];

/// Settings of the daemon itself; those of the engine are in [`EngineConfig`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub addresses: Vec<Address>,
    /// Group of unix sockets.
    pub group: SocketGroup,
    /// TLS of tcp addresses.
    pub tls: Option<TlsFiles>,
    /// File for the process id.
    pub pidfile: PathBuf,
    /// Oldest API version to answer.
    pub min_api_version: ApiVersion,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Least severe messages to log.
    pub log_level: LevelFilter,
    /// Whether log messages are JSON.
    pub log_json: bool,
    /// Whether to log for debugging, as info shows it.
    pub debug: bool,
    /// How registries are reached.
    pub registries: HostSettings,
    /// Layers that a pull fetches at once.
    pub downloads: usize,
    /// How often in a row a download may break off without having brought anything.
    pub download_attempts: u32,
    /// Layers that a push sends at once.
    pub uploads: usize,
    /// How large the image store may become.
    pub budget: Option<Budget>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// An address and port.
    Tcp(SocketAddr),
    /// The sockets that the service manager opened.
    ServiceManager,
}

/// Which group owns unix sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketGroup {
    /// `docker`, if there is one.
    Usual,
    /// The one that was asked for.
    Named(String),
}

/// TLS of tcp addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of the daemon.
    pub certificate: PathBuf,
    /// Key of the daemon.
    pub key: PathBuf,
    /// Certificates of the authority that signs clients; without it every client is welcome.
    pub authority: Option<PathBuf>,
}

/// Why a directive cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--{directive} {value:?}: {reason}")]
pub struct SettingsError {
    directive: &'static str,
    value: String,
    reason: String,
}

fn wrong(directive: &'static str, value: impl Into<String>, reason: impl std::fmt::Display) -> SettingsError {
    SettingsError { directive, value: value.into(), reason: reason.to_string() }
}

/// Understands the directives.
///
/// # Errors
/// The first directive that cannot be used, with the reason.
pub fn understand(directives: &Directives) -> Result<(Settings, EngineConfig), SettingsError> {
    check_fixed_choices(directives)?;
    let engine = engine(directives)?;
    let tls = tls(directives)?;
    let debug = directives.debug.unwrap_or(false);
    let settings = Settings {
        addresses: addresses(directives, &engine, tls.is_some())?,
        group: directives.group.clone().map_or(SocketGroup::Usual, SocketGroup::Named),
        tls,
        pidfile: directives.pidfile.clone().unwrap_or_else(|| engine.run.join("berthd.pid")),
        min_api_version: min_api_version(directives)?,
        labels: labels(directives)?,
        log_level: log_level(directives, debug)?,
        log_json: log_json(directives)?,
        debug,
        registries: registries(directives)?,
        downloads: directives.max_concurrent_downloads.filter(|count| *count > 0).unwrap_or(DOWNLOADS),
        download_attempts: download_attempts(directives)?,
        uploads: directives.max_concurrent_uploads.filter(|count| *count > 0).unwrap_or(UPLOADS),
        budget: budget(directives)?,
    };
    Ok((settings, engine))
}

fn download_attempts(directives: &Directives) -> Result<u32, SettingsError> {
    match directives.max_download_attempts {
        Some(0) => Err(wrong("max-download-attempts", "0", "a download is tried once at least")),
        given => Ok(given.unwrap_or(DOWNLOAD_ATTEMPTS)),
    }
}

/// How large the image store may become; whatever it likes if nobody says.
fn budget(directives: &Directives) -> Result<Option<Budget>, SettingsError> {
    let keep = match directives.gc_keep.as_deref() {
        None => DEFAULT_KEEP,
        Some(text) => parse_go_duration(text).map_err(|error| wrong("gc-keep", text, error))?,
    };
    let Some(text) = directives.gc_max_size.as_deref() else { return Ok(None) };
    let size: ByteSize = text.parse().map_err(|error| wrong("gc-max-size", text, error))?;
    Ok(Some(Budget { max_bytes: size.bytes(), keep }))
}

/// Directives that exist for compatibility and have only one value here.
fn check_fixed_choices(directives: &Directives) -> Result<(), SettingsError> {
    if let Some(driver) = directives.storage_driver.as_deref()
        && !matches!(driver, "overlay" | "overlay2" | "overlayfs")
    {
        return Err(wrong("storage-driver", driver, "only overlayfs is there"));
    }
    if let Some(backend) = directives.firewall_backend.as_deref()
        && backend != "nftables"
    {
        let reason = "rules are kept with nftables: leave the option out, or say nftables";
        return Err(wrong("firewall-backend", backend, reason));
    }
    if directives.ip_forward_no_drop == Some(false) {
        return Err(wrong("ip-forward-no-drop", "false", "the policy of the chain FORWARD is never changed"));
    }
    if let Some(path) = &directives.userland_proxy_path {
        let reason = "there is no such program: one process of the engine's own carries what rules cannot";
        return Err(wrong("userland-proxy-path", path, reason));
    }
    if directives.allow_direct_routing == Some(true) {
        let reason =
            "not there: give the networks com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected or routed";
        return Err(wrong("allow-direct-routing", "true", reason));
    }
    if let Some(mark) = &directives.bridge_accept_fwmark {
        return Err(wrong("bridge-accept-fwmark", mark, "not there: accept such packets in a chain of your own"));
    }
    for option in directives.exec_opts.iter().flatten() {
        if option != "native.cgroupdriver=cgroupfs" {
            return Err(wrong("exec-opt", option, "only native.cgroupdriver=cgroupfs is known"));
        }
    }
    Ok(())
}

fn engine(directives: &Directives) -> Result<EngineConfig, SettingsError> {
    let root = absolute("data-root", directives.data_root.clone(), DEFAULT_ROOT)?;
    let run = absolute("exec-root", directives.exec_root.clone(), DEFAULT_RUN)?;
    let mut engine = EngineConfig::new(root, run);
    if let Some(parent) = &directives.cgroup_parent {
        engine.cgroup_parent = format!("/{}", parent.trim_matches('/'));
    }
    network(directives, &mut engine)?;
    engine.log = default_log(directives)?;
    for text in directives.default_ulimits.iter().flatten() {
        let limit = ulimit(text)?;
        engine.default_ulimits.insert(limit.name.clone(), limit);
    }
    engine.init = directives.init.unwrap_or(engine.init);
    engine.live_restore = directives.live_restore.unwrap_or(engine.live_restore);
    if let Some(seconds) = directives.shutdown_timeout {
        let forever = Duration::from_secs(u64::from(u32::MAX));
        engine.shutdown_timeout = u64::try_from(seconds).map_or(forever, Duration::from_secs);
    }
    if let Some(text) = &directives.default_shm_size {
        let size: ByteSize = text.parse().map_err(|error| wrong("default-shm-size", text, error))?;
        engine.default_shm_size = i64::try_from(size.bytes()).unwrap_or(i64::MAX);
    }
    engine.default_cgroupns = match directives.default_cgroupns_mode.as_deref() {
        None => engine.default_cgroupns,
        Some("host") => CgroupMode::Host,
        Some("private") => CgroupMode::Private,
        Some(other) => return Err(wrong("default-cgroupns-mode", other, "use host or private")),
    };
    engine.no_new_privileges = directives.no_new_privileges.unwrap_or(engine.no_new_privileges);
    if let Some(path) = &directives.seccomp_profile {
        let read = std::fs::read_to_string(path);
        let named = |error: std::io::Error| wrong("seccomp-profile", path.display().to_string(), error);
        engine.seccomp_profile = Some(read.map_err(named)?);
    }
    Ok(engine)
}

fn registries(directives: &Directives) -> Result<HostSettings, SettingsError> {
    let mirror = |text: &String| text.parse().map_err(|error| wrong("registry-mirror", text, error));
    // The environment counts where no directive does.
    let given = |name: &str| match name {
        "HTTP_PROXY" => directives.http_proxy.clone(),
        "HTTPS_PROXY" => directives.https_proxy.clone(),
        "NO_PROXY" => directives.no_proxy.clone(),
        _ => None,
    };
    Ok(HostSettings {
        insecure: directives.insecure_registries.clone().unwrap_or_default(),
        mirrors: directives.registry_mirrors.iter().flatten().map(mirror).collect::<Result<_, _>>()?,
        certificates: REGISTRY_DIRECTORIES.map(PathBuf::from).to_vec(),
        proxies: Proxies::of(|name| given(name).or_else(|| std::env::var(name).ok())),
    })
}

fn absolute(directive: &'static str, given: Option<PathBuf>, default: &str) -> Result<PathBuf, SettingsError> {
    let path = given.unwrap_or_else(|| PathBuf::from(default));
    std::path::absolute(&path).map_err(|error| wrong(directive, path.display().to_string(), error))
}

fn network(directives: &Directives, engine: &mut EngineConfig) -> Result<(), SettingsError> {
    let network = &mut engine.network;
    let bip = directives.bip.as_deref().map(|cidr| ipv4_net("bip", cidr)).transpose()?;
    match (directives.bridge.as_deref(), bip, &mut network.bridge) {
        (Some(_), Some(_), _) => return Err(wrong("bip", "", "--bip and --bridge exclude each other")),
        (Some("none"), None, bridge) => *bridge = DefaultBridge::Off,
        (Some(name), None, bridge) if is_interface(name) => *bridge = DefaultBridge::Foreign { name: name.to_owned() },
        (Some(name), None, _) => return Err(wrong("bridge", name, "no name of an interface")),
        (None, given @ Some(_), DefaultBridge::Managed { address, .. }) => *address = given,
        (None, ..) => {}
    }
    network.fixed_range = directives.fixed_cidr.as_deref().map(|cidr| ipv4_net("fixed-cidr", cidr)).transpose()?;
    network.ipv6 = directives.ipv6.unwrap_or(network.ipv6);
    network.bridge_address_v6 = directives.bip6.as_deref().map(|cidr| ipv6_net("bip6", cidr)).transpose()?;
    let range = directives.fixed_cidr_v6.as_deref();
    network.fixed_range_v6 = range.map(|cidr| ipv6_net("fixed-cidr-v6", cidr)).transpose()?;
    let gateway = |directive, text: &str| text.parse().map_err(|_| wrong(directive, text, "no IPv4 address"));
    network.default_gateway =
        directives.default_gateway.as_deref().map(|text| gateway("default-gateway", text)).transpose()?;
    let gateway = |directive, text: &str| text.parse().map_err(|_| wrong(directive, text, "no IPv6 address"));
    network.default_gateway_v6 =
        directives.default_gateway_v6.as_deref().map(|text| gateway("default-gateway-v6", text)).transpose()?;
    network.mtu = directives.mtu.unwrap_or(network.mtu);
    network.between_containers = directives.icc.unwrap_or(network.between_containers);
    network.forward = directives.ip_forward.unwrap_or(network.forward);
    network.masquerade = directives.ip_masq.unwrap_or(network.masquerade);
    network.rules = directives.iptables.unwrap_or(network.rules);
    network.rules_v6 = directives.ip6tables.unwrap_or(network.rules_v6);
    network.carries = directives.userland_proxy.unwrap_or(network.carries);
    for text in directives.default_network_opts.iter().flatten() {
        let (driver, key, value) = option_of_driver(text)?;
        network.default_options.entry(driver).or_default().insert(key, value);
    }
    network.firewall = match directives.firewall.as_deref() {
        None | Some("docker") => FirewallMode::Docker,
        Some("respect") => FirewallMode::Respect,
        Some(other) => return Err(wrong("firewall", other, "use docker or respect")),
    };
    network.held_ports = directives.held_ports.unwrap_or(network.held_ports);
    network.default_address = match directives.ip.as_deref() {
        // The unspecified address is what nobody says: every address of both families.
        None | Some("" | "0.0.0.0" | "::") => None,
        Some(text) => Some(text.parse().map_err(|_| wrong("ip", text, "no IP address"))?),
    };
    if let Some(pools) = &directives.default_address_pools {
        network.pools = pools.iter().map(|text| address_pool(text)).collect::<Result<_, _>>()?;
    }
    for text in directives.host_gateway_ips.iter().flatten() {
        engine.host_gateway.push(text.parse().map_err(|_| wrong("host-gateway-ip", text, "no IP address"))?);
    }
    for text in directives.dns.iter().flatten() {
        let ip: IpAddr = text.parse().map_err(|_| wrong("dns", text, "no IP address"))?;
        engine.dns.servers.push(ip);
    }
    engine.dns.search = directives.dns_search.clone().unwrap_or_default();
    engine.dns.options = directives.dns_opts.clone().unwrap_or_default();
    Ok(())
}

/// `DRIVER=KEY=VALUE`, of a driver that there is.
fn option_of_driver(text: &str) -> Result<(String, String, String), SettingsError> {
    let parts = text.split_once('=').and_then(|(driver, rest)| Some((driver, rest.split_once('=')?)));
    let Some((driver, (key, value))) = parts else {
        return Err(wrong("default-network-opt", text, "use DRIVER=KEY=VALUE"));
    };
    if !["bridge", "macvlan", "ipvlan"].contains(&driver) {
        return Err(wrong("default-network-opt", text, "use one of the drivers bridge, macvlan and ipvlan"));
    }
    Ok((driver.to_owned(), key.to_owned(), value.to_owned()))
}

/// `base=CIDR,size=BITS`.
fn address_pool(text: &str) -> Result<AddressPool, SettingsError> {
    let refused = |reason: &str| wrong("default-address-pool", text, reason);
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("base", value)) => base = value.parse::<IpNet>().ok(),
            Some(("size", value)) => size = value.parse::<u8>().ok(),
            _ => return Err(refused("use base=CIDR,size=BITS")),
        }
    }
    let (base, size) = base.zip(size).ok_or_else(|| refused("use base=CIDR,size=BITS"))?;
    if size < base.prefix_len() || size > base.max_prefix_len() {
        return Err(refused("the size of a subnet lies between that of the base and that of one address"));
    }
    Ok(AddressPool { base: base.trunc(), size })
}

fn ipv4_net(directive: &'static str, text: &str) -> Result<Ipv4Net, SettingsError> {
    text.parse().map_err(|_| wrong(directive, text, "use an IPv4 address and the length of its prefix, IP/BITS"))
}

fn ipv6_net(directive: &'static str, text: &str) -> Result<Ipv6Net, SettingsError> {
    text.parse().map_err(|_| wrong(directive, text, "use an IPv6 address and the length of its prefix, IP/BITS"))
}

/// Whether the kernel would take the name for a network device.
fn is_interface(name: &str) -> bool {
    !name.is_empty() && name.len() < 16 && !name.contains(['/', ' ', ':'])
}

fn default_log(directives: &Directives) -> Result<LogConfig, SettingsError> {
    let driver = directives.log_driver.clone().unwrap_or_else(|| "json-file".to_owned());
    if !matches!(driver.as_str(), "json-file" | "local" | "none") {
        return Err(wrong("log-driver", driver, "use json-file, local or none"));
    }
    let mut options = BTreeMap::new();
    for text in directives.log_opts.iter().flatten() {
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("log-opt", text, "use KEY=VALUE"))?;
        options.insert(key.to_owned(), value.to_owned());
    }
    let log = LogConfig { driver, options };
    let given = || directives.log_opts.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    berth_engine::logs::check_config(&log).map_err(|error| wrong("log-opt", given(), error))?;
    Ok(log)
}

/// `NAME=SOFT[:HARD]`.
fn ulimit(text: &str) -> Result<Ulimit, SettingsError> {
    let refused = || wrong("default-ulimit", text, "use NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').ok_or_else(refused)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| refused());
    Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

fn tls(directives: &Directives) -> Result<Option<TlsFiles>, SettingsError> {
    let verify = directives.tlsverify.unwrap_or(false);
    if !verify && !directives.tls.unwrap_or(false) {
        return Ok(None);
    }
    let needed =
        |path: &Option<PathBuf>, directive| path.clone().ok_or_else(|| wrong(directive, "", "TLS needs this file"));
    Ok(Some(TlsFiles {
        certificate: needed(&directives.tlscert, "tlscert")?,
        key: needed(&directives.tlskey, "tlskey")?,
        authority: if verify { Some(needed(&directives.tlscacert, "tlscacert")?) } else { None },
    }))
}

fn addresses(directives: &Directives, engine: &EngineConfig, tls: bool) -> Result<Vec<Address>, SettingsError> {
    let mut addresses = match directives.hosts.as_deref() {
        None | Some([]) => vec![Address::Unix(engine.run.join("berth.sock"))],
        Some(hosts) => hosts.iter().map(|host| address(host, engine, tls)).collect::<Result<_, _>>()?,
    };
    if directives.docker_socket.unwrap_or(false) {
        addresses.push(Address::Unix(PathBuf::from(DOCKER_SOCKET)));
    }
    Ok(addresses)
}

fn address(text: &str, engine: &EngineConfig, tls: bool) -> Result<Address, SettingsError> {
    let refused = |reason: &str| Err(wrong("host", text, reason));
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    match scheme {
        "unix" if rest.is_empty() => Ok(Address::Unix(engine.run.join("berth.sock"))),
        "unix" if rest.starts_with('/') => Ok(Address::Unix(PathBuf::from(rest))),
        "unix" => refused("the path of a socket must be absolute"),
        "fd" => Ok(Address::ServiceManager),
        "tcp" => match tcp(rest, if tls { TLS_PORT } else { PLAIN_PORT }) {
            Some(address) => Ok(Address::Tcp(address)),
            // Names are not looked up: which address of a name is meant must not depend on a resolver.
            None => refused("use an IP address and a port"),
        },
        _ => refused("use unix://PATH, tcp://IP:PORT or fd://"),
    }
}

fn tcp(text: &str, default_port: u16) -> Option<SocketAddr> {
    let text = text.trim_end_matches('/');
    let text = text.strip_prefix("localhost").map_or_else(|| text.to_owned(), |rest| format!("127.0.0.1{rest}"));
    if text.is_empty() {
        return Some(SocketAddr::from(([127, 0, 0, 1], default_port)));
    }
    if let Some(port) = text.strip_prefix(':') {
        return Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?)));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, default_port)))
}

fn min_api_version(directives: &Directives) -> Result<ApiVersion, SettingsError> {
    let Some(text) = &directives.min_api_version else { return Ok(ApiVersion::OLDEST) };
    let version: ApiVersion = text.parse().map_err(|error| wrong("min-api-version", text, error))?;
    if (ApiVersion::OLDEST..=ApiVersion::NEWEST).contains(&version) {
        return Ok(version);
    }
    let reason = format!("use a version from {} to {}", ApiVersion::OLDEST, ApiVersion::NEWEST);
    Err(wrong("min-api-version", text, reason))
}

fn labels(directives: &Directives) -> Result<Vec<String>, SettingsError> {
    let labels = directives.labels.clone().unwrap_or_default();
    match labels.iter().find(|label| label.split_once('=').is_none_or(|(key, _)| key.is_empty())) {
        Some(bad) => Err(wrong("label", bad, "use KEY=VALUE")),
        None => Ok(labels),
    }
}

fn log_level(directives: &Directives, debug: bool) -> Result<LevelFilter, SettingsError> {
    match directives.log_level.as_deref() {
        None if debug => Ok(LevelFilter::DEBUG),
        None | Some("info") => Ok(LevelFilter::INFO),
        Some("trace") => Ok(LevelFilter::TRACE),
        Some("debug") => Ok(LevelFilter::DEBUG),
        Some("warn") => Ok(LevelFilter::WARN),
        // What is fatal ends the daemon, which says so in any case.
        Some("error" | "fatal" | "panic") => Ok(LevelFilter::ERROR),
        Some(other) => Err(wrong("log-level", other, "use debug, info, warn, error or fatal")),
    }
}

fn log_json(directives: &Directives) -> Result<bool, SettingsError> {
    match directives.log_format.as_deref() {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(wrong("log-format", other, "use text or json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        let engine = EngineConfig::new("/root", "/run/x");
        for (text, expected) in [
            ("unix://", Some(Address::Unix("/run/x/berth.sock".into()))),
            ("unix:///a/b", Some(Address::Unix("/a/b".into()))),
            ("unix://a", None),
            ("fd://", Some(Address::ServiceManager)),
            ("fd://1", Some(Address::ServiceManager)),
            ("tcp://0.0.0.0:1", Some(Address::Tcp(([0, 0, 0, 0], 1).into()))),
            ("tcp://:1", Some(Address::Tcp(([0, 0, 0, 0], 1).into()))),
            ("tcp://", Some(Address::Tcp(([127, 0, 0, 1], PLAIN_PORT).into()))),
            ("tcp://127.0.0.1", Some(Address::Tcp(([127, 0, 0, 1], PLAIN_PORT).into()))),
            ("tcp://localhost:5", Some(Address::Tcp(([127, 0, 0, 1], 5).into()))),
            ("tcp://[::1]:5", Some(Address::Tcp(([0, 0, 0, 0, 0, 0, 0, 1], 5).into()))),
            ("tcp://example.org:5", None),
            ("ssh://x", None),
        ] {
            assert_eq!(address(text, &engine, false).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_directive_is_named_with_its_reason() {
        let refused = |directives: Directives| understand(&directives).expect_err("refused").to_string();
        let directives = Directives { storage_driver: Some("zfs".to_owned()), ..Directives::default() };
        assert_eq!(refused(directives), "--storage-driver \"zfs\": only overlayfs is there");
        let directives = Directives { tls: Some(true), ..Directives::default() };
        assert_eq!(refused(directives), "--tlscert \"\": TLS needs this file");
        let directives = Directives { default_ulimits: Some(vec!["nofile".to_owned()]), ..Directives::default() };
        assert_eq!(refused(directives), "--default-ulimit \"nofile\": use NAME=SOFT[:HARD]");
    }

    #[test]
    fn options_of_networks_are_understood_or_refused_with_the_way_out() {
        let said = |json: &str| understand(&serde_json::from_str(json).expect("directives")).map(|(_, engine)| engine);
        let engine = said(
            r#"{"ip6tables": false, "userland-proxy": false, "firewall-backend": "nftables", "ip-forward-no-drop": true,
                "allow-direct-routing": false, "host-gateway-ips": ["192.0.2.1", "2001:db8::1"],
                "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}}}"#,
        )
        .expect("valid");
        assert_eq!((engine.network.rules, engine.network.rules_v6, engine.network.carries), (true, false, false));
        assert_eq!(engine.host_gateway.len(), 2);
        assert_eq!(engine.network.default_options["bridge"]["com.docker.network.driver.mtu"], "1400");
        for (json, reason) in [
            (r#"{"firewall-backend": "iptables"}"#, "rules are kept with nftables"),
            (r#"{"ip-forward-no-drop": false}"#, "the policy of the chain FORWARD is never changed"),
            (r#"{"userland-proxy-path": "/x"}"#, "--userland-proxy-path \"/x\": there is no such program"),
            (r#"{"allow-direct-routing": true}"#, "gateway_mode_ipv4=nat-unprotected"),
            (r#"{"bridge-accept-fwmark": "1"}"#, "in a chain of your own"),
            (r#"{"default-network-opts": {"overlay": {"a": "b"}}}"#, "one of the drivers bridge, macvlan and ipvlan"),
            (r#"{"host-gateway-ips": ["host"]}"#, "--host-gateway-ip \"host\": no IP address"),
        ] {
            let refused = said(json).expect_err(json).to_string();
            assert!(refused.starts_with("--") && refused.contains(reason), "{refused}");
        }
        let flag = Directives { default_network_opts: Some(vec!["bridge=x".to_owned()]), ..Directives::default() };
        let refused = understand(&flag).expect_err("no value").to_string();
        assert_eq!(refused, "--default-network-opt \"bridge=x\": use DRIVER=KEY=VALUE");
    }

    #[test]
    fn nothing_said_gives_the_usual_daemon() {
        let (settings, engine) = understand(&Directives::default()).expect("valid");
        assert_eq!(settings.addresses, [Address::Unix("/run/berth/berth.sock".into())]);
        assert_eq!(settings.pidfile, PathBuf::from("/run/berth/berthd.pid"));
        assert_eq!(settings.min_api_version, ApiVersion::OLDEST);
        assert!(engine.live_restore);
    }
}
