//! The engine itself: ping, version, info.

use std::collections::BTreeMap;

use berth_api::system::{
    Commit, ComponentVersion, FirewallInfo, IndexInfo, Info, PlatformName, PluginsInfo, RegistryConfig, RuntimeInfo,
    SwarmInfo, Version,
};
use berth_distribution::{DEFAULT_DOMAIN, HostSettings};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::daemon::Daemon;
use crate::gates;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::http::version::ApiVersion;
use crate::translate::{host, inspect, time};

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/_ping", "SystemPing", ping),
    endpoint!("HEAD" "/_ping", "SystemPingHead", ping_head),
    endpoint!("GET" "/version", "SystemVersion", version),
    endpoint!("GET" "/info", "SystemInfo", info),
];

/// Stands for all registries where a mirror is named.
const EVERY_REGISTRY: &str = "*";

async fn ping(_: Call) -> Result<Reply, ApiError> {
    Ok(ping_headers(Reply::text(StatusCode::OK, "OK")))
}

async fn ping_head(_: Call) -> Result<Reply, ApiError> {
    let reply = Reply::text(StatusCode::OK, "");
    Ok(ping_headers(reply).header(http::header::CONTENT_LENGTH, HeaderValue::from_static("0")))
}

/// What clients learn from a ping (B025). The classic builder is the one that needs no session.
fn ping_headers(reply: Reply) -> Reply {
    let fixed =
        |name: &'static str, value: &'static str| (HeaderName::from_static(name), HeaderValue::from_static(value));
    [
        fixed("builder-version", "1"),
        fixed("cache-control", "no-cache, no-store, must-revalidate"),
        fixed("pragma", "no-cache"),
        fixed("swarm", "inactive"),
    ]
    .into_iter()
    .fold(reply, |reply, (name, value)| reply.header(name, value))
}

/// The architecture as the API names it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel_version() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Set by the build that makes packages; a build from a work tree has none.
const GIT_COMMIT: Option<&str> = option_env!("BERTH_GIT_COMMIT");

async fn version(call: Call) -> Result<Reply, ApiError> {
    let oldest = call.daemon.settings.min_api_version.to_string();
    let commit = GIT_COMMIT.unwrap_or_default().to_owned();
    let details = [
        ("ApiVersion", ApiVersion::NEWEST.to_string()),
        ("Arch", go_architecture().to_owned()),
        ("Experimental", "false".to_owned()),
        ("GitCommit", commit.clone()),
        ("KernelVersion", kernel_version()),
        ("MinAPIVersion", oldest.clone()),
        ("Os", "linux".to_owned()),
    ];
    let engine = ComponentVersion {
        name: "Engine".to_owned(),
        version: ENGINE_VERSION.to_owned(),
        details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let part = |name: &str| ComponentVersion {
        name: name.to_owned(),
        version: ENGINE_VERSION.to_owned(),
        details: BTreeMap::from([("GitCommit".to_owned(), commit.clone())]),
    };
    Ok(Reply::json(&Version {
        platform: PlatformName { name: "Berth".to_owned() },
        version: ENGINE_VERSION.to_owned(),
        api_version: ApiVersion::NEWEST.to_string(),
        min_api_version: oldest,
        os: "linux".to_owned(),
        arch: go_architecture().to_owned(),
        components: vec![engine, part("berth-shim"), part(host::RUNTIME)],
        git_commit: commit,
        go_version: String::new(),
        kernel_version: kernel_version(),
        experimental: false,
        build_time: String::new(),
    }))
}

async fn info(call: Call) -> Result<Reply, ApiError> {
    let daemon = std::sync::Arc::clone(&call.daemon);
    let version = call.version;
    let info = Daemon::blocking(move || gather(&daemon)).await?;
    Ok(gates::reply(&info, version, 50, gates::info))
}

/// Collects everything; reads files, so it runs where blocking is allowed.
fn gather(daemon: &Daemon) -> Result<Info, ApiError> {
    let config = daemon.engine.config();
    let (host, settings) = (&daemon.host, &daemon.settings);
    let containers = daemon.engine.containers();
    let count = |word: &[&str]| containers.iter().filter(|view| word.contains(&view.state.word())).count();
    let (running, paused) = (count(&["running"]), count(&["paused"]));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (operating_system, os_version) = distribution();
    let v1 = daemon.engine.cgroup_layout().version() == berth_cgroup::Version::V1;
    Ok(Info {
        id: daemon.id.clone(),
        containers: number(containers.len()),
        containers_running: number(running),
        containers_paused: number(paused),
        containers_stopped: number(containers.len() - running - paused),
        images: number(daemon.engine.images().list(berth_image::ListOptions::default())?.len()),
        driver: inspect::STORAGE_DRIVER.to_owned(),
        driver_status: Some(vec![["driver-type".to_owned(), "berth-snapshot".to_owned()]]),
        plugins: plugins(),
        memory_limit: true,
        swap_limit: host.swap_limit,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: host.pids_limit,
        ipv4_forwarding: read_line("/proc/sys/net/ipv4/ip_forward") == "1",
        debug: settings.debug,
        open_descriptors: number(std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)),
        oom_kill_disable: host.oom_kill_disable,
        tasks: number(tokio::runtime::Handle::current().metrics().num_alive_tasks()),
        system_time: time::now().to_string(),
        logging_driver: config.log.driver.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if v1 { "1" } else { "2" }.to_owned(),
        event_listeners: number(daemon.engine.events().listeners()),
        kernel_version: kernel_version(),
        operating_system,
        os_version,
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registries(&settings.registries)),
        processors: i64::from(host.processors),
        mem_total: i64::try_from(host.memory).unwrap_or(i64::MAX),
        docker_root_dir: config.root.display().to_string(),
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        labels: settings.labels.clone(),
        server_version: ENGINE_VERSION.to_owned(),
        runtimes: runtimes(),
        default_runtime: host::RUNTIME.to_owned(),
        swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
        live_restore_enabled: config.live_restore,
        init_binary: "berth-init".to_owned(),
        containerd_commit: Commit::default(),
        runc_commit: Commit { id: GIT_COMMIT.unwrap_or_default().to_owned() },
        init_commit: Commit::default(),
        security_options: security_options(daemon),
        firewall_backend: Some(FirewallInfo { driver: "nftables".to_owned(), info: Vec::new() }),
        cdi_spec_dirs: Some(Vec::new()),
        warnings: Some(warnings(daemon)),
        ..Info::default()
    })
}

fn plugins() -> PluginsInfo {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    PluginsInfo {
        volume: names(&["local"]),
        network: names(&["bridge", "host", "null"]),
        authorization: None,
        log: names(&["json-file", "local", "none"]),
    }
}

/// How registries are reached, in Docker's shape: the own machine is always among those that need no encryption.
fn registries(settings: &HostSettings) -> RegistryConfig {
    let mirrors_of = |registry: &str| {
        let mirrors = settings.mirrors.iter().filter(|mirror| mirror.of == registry || mirror.of == EVERY_REGISTRY);
        mirrors.map(|mirror| format!("{}/", mirror.url.to_string().trim_end_matches('/'))).collect::<Vec<_>>()
    };
    let is_network = |rule: &&String| rule.parse::<ipnet::IpNet>().is_ok();
    let networks = settings.insecure.iter().filter(is_network).map(String::as_str);
    let named = settings.insecure.iter().filter(|rule| !is_network(rule));
    let mirrored = settings.mirrors.iter().map(|mirror| &mirror.of).filter(|of| *of != EVERY_REGISTRY);
    let index = |name: &str| IndexInfo {
        name: name.to_owned(),
        mirrors: mirrors_of(name),
        secure: !settings.insecure.iter().any(|rule| rule == name),
        official: name == DEFAULT_DOMAIN,
    };
    let names = named.chain(mirrored).map(String::as_str).chain([DEFAULT_DOMAIN]);
    RegistryConfig {
        insecure_registry_cidrs: ["::1/128", "127.0.0.0/8"].into_iter().chain(networks).map(str::to_owned).collect(),
        index_configs: names.map(|name| (name.to_owned(), index(name))).collect(),
        mirrors: mirrors_of(DEFAULT_DOMAIN),
    }
}

fn runtimes() -> BTreeMap<String, RuntimeInfo> {
    let runtime = RuntimeInfo { path: host::RUNTIME.to_owned(), ..RuntimeInfo::default() };
    BTreeMap::from([(host::RUNTIME.to_owned(), runtime.clone()), ("runc".to_owned(), runtime)])
}

fn security_options(daemon: &Daemon) -> Vec<String> {
    let config = daemon.engine.config();
    let mut options = Vec::new();
    if std::path::Path::new("/sys/module/apparmor/parameters/enabled").exists()
        && read_line("/sys/module/apparmor/parameters/enabled") == "Y"
    {
        options.push("name=apparmor".to_owned());
    }
    let profile = if config.seccomp_profile.is_some() { "custom" } else { "builtin" };
    options.push(format!("name=seccomp,profile={profile}"));
    if daemon.defaults().cgroupns == berth_engine::spec::CgroupMode::Private {
        options.push("name=cgroupns".to_owned());
    }
    if config.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

fn warnings(daemon: &Daemon) -> Vec<String> {
    let mut warnings = Vec::new();
    let open = |address: &crate::settings::Address| matches!(address, crate::settings::Address::Tcp(_));
    if daemon.settings.tls.is_none() && daemon.settings.addresses.iter().any(open) {
        warnings.push("WARNING: API is accessible over tcp without encryption: whoever reaches it is root".to_owned());
    }
    if !daemon.host.swap_limit {
        warnings.push("WARNING: No swap limit support".to_owned());
    }
    warnings
}

fn read_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Name and version from os-release(5).
fn distribution() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release")
        .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    (value("PRETTY_NAME"), value("VERSION_ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_shown_as_they_are_set() {
        let mirrors = ["https://a.example", "quay.io=http://b.example/x/", "*=https://c.example/"];
        let settings = HostSettings {
            insecure: vec!["reg.example:5000".to_owned(), "10.0.0.0/8".to_owned()],
            mirrors: mirrors.iter().map(|mirror| mirror.parse().expect("a mirror")).collect(),
            ..HostSettings::default()
        };
        let shown = registries(&settings);
        assert_eq!(shown.insecure_registry_cidrs, ["::1/128", "127.0.0.0/8", "10.0.0.0/8"]);
        assert_eq!(shown.mirrors, ["https://a.example/", "https://c.example/"]);
        let indexes: Vec<_> = shown.index_configs.values().collect();
        let told = |at: usize| (indexes[at].name.as_str(), indexes[at].secure, indexes[at].official);
        assert_eq!(
            [told(0), told(1), told(2)],
            [("docker.io", true, true), ("quay.io", true, false), ("reg.example:5000", false, false),]
        );
        assert_eq!(indexes[0].mirrors, shown.mirrors);
        assert_eq!(indexes[1].mirrors, ["http://b.example/x/", "https://c.example/"]);
    }
}
