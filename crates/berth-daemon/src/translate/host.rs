//! The host's part of a configuration.

use berth_api::ConsoleSize;
use berth_api::container_config::ContainerConfig;
use berth_api::host_config::{HostConfig, LogConfig as WireLog};
use berth_engine::ContainerView;
use berth_engine::spec::{CgroupMode, HostSettings, LogConfig};

use crate::host_facts::HostFacts;
use crate::http::error::ApiError;
use crate::translate::{address, endpoints, isolation, mounts, ports, resources, restart};

/// The runtime that runs containers.
pub const RUNTIME: &str = "berth-runtime";
/// Other names for it that clients of other engines send.
const RUNTIME_ALIASES: [&str; 3] = ["", "runc", "io.containerd.runc.v2"];

/// Checks and understands the host's part. `config` is the portable part, which some options exclude.
pub fn from_wire(
    config: &ContainerConfig,
    wire: &HostConfig,
    facts: &HostFacts,
    warnings: &mut Vec<String>,
) -> Result<HostSettings, ApiError> {
    let network = endpoints::mode(config, wire)?;
    check_annotations(wire)?;
    let restart = restart::from_wire(&wire.restart_policy)?;
    if wire.auto_remove && !matches!(wire.restart_policy.name.as_str(), "" | "no") {
        return Err(ApiError::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    if wire.shm_size < 0 {
        return Err(ApiError::invalid("SHM size can not be less than 0"));
    }
    check_extra_hosts(wire.extra_hosts.as_deref().unwrap_or_default())?;
    check_volumes_from(wire.volumes_from.as_deref().unwrap_or_default())?;
    let binds = wire.binds.as_deref().unwrap_or_default();
    let parsed = mounts::from_wire(binds, &wire.mounts, &wire.tmpfs)?;
    let mut limits = resources::from_wire(&wire.resources, facts, warnings)?;
    if limits.memory > 0 && limits.memory_swap == 0 {
        // Memory plus swap: nobody who limits memory means to lift the limit by swapping without end (B191).
        limits.memory_swap = limits.memory * 2;
    }
    Ok(HostSettings {
        mounts: parsed.requests,
        binds_parsed: parsed.from_binds,
        binds: wire.binds.clone(),
        tmpfs: wire.tmpfs.clone(),
        volumes_from: wire.volumes_from.clone(),
        volume_driver: wire.volume_driver.clone(),
        container_id_file: wire.container_id_file.clone(),
        log: log(&wire.log_config)?,
        network,
        port_bindings: ports::bindings(wire.port_bindings.as_ref())?,
        publish_all_ports: wire.publish_all_ports,
        restart,
        auto_remove: wire.auto_remove,
        console_size: wire.console_size.0,
        annotations: wire.annotations.clone(),
        dns: servers(wire.dns.as_deref().unwrap_or_default())?,
        dns_options: wire.dns_options.clone().unwrap_or_default(),
        dns_search: wire.dns_search.clone().unwrap_or_default(),
        extra_hosts: wire.extra_hosts.clone(),
        links: wire.links.clone(),
        isolation: isolation::from_wire(wire)?,
        resources: limits,
        devices: resources::devices(&wire.resources)?,
        shm_size: wire.shm_size,
        storage_opt: wire.storage_opt.clone(),
        sysctls: wire.sysctls.clone(),
        runtime: runtime(&wire.runtime)?,
        init: wire.init,
    })
}

fn check_annotations(wire: &HostConfig) -> Result<(), ApiError> {
    if wire.annotations.keys().any(String::is_empty) {
        return Err(ApiError::invalid("invalid Annotations: the empty string is not permitted as an annotation key"));
    }
    Ok(())
}

fn check_extra_hosts(lines: &[String]) -> Result<(), ApiError> {
    for line in lines {
        let pair = line.split_once(':').or_else(|| line.split_once('='));
        let Some((_, target)) = pair.filter(|(name, _)| !name.is_empty()) else {
            return Err(ApiError::invalid(format!("bad format for add-host: {line:?}")));
        };
        let bare = target.trim_start_matches('[').trim_end_matches(']');
        if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(ApiError::invalid(format!("invalid IP address in add-host: {target:?}")));
        }
    }
    Ok(())
}

fn check_volumes_from(texts: &[String]) -> Result<(), ApiError> {
    for text in texts {
        match text.split_once(':') {
            Some((_, mode)) if !matches!(mode, "ro" | "rw" | "z" | "Z") => {
                return Err(ApiError::invalid(format!("invalid mode: {mode}")));
            }
            _ if text.is_empty() => return Err(ApiError::invalid("VolumesFrom must not be empty")),
            _ => {}
        }
    }
    Ok(())
}

fn servers(texts: &[String]) -> Result<Vec<String>, ApiError> {
    texts.iter().map(|text| address::ip(text).map(|ip| ip.to_string())).collect()
}

fn log(wire: &WireLog) -> Result<LogConfig, ApiError> {
    let options = wire.config.clone().unwrap_or_default();
    if !matches!(wire.kind.as_str(), "" | "json-file" | "local" | "none") {
        let other = &wire.kind;
        return Err(ApiError::invalid(format!("error looking up logging plugin {other}: plugin {other:?} not found")));
    }
    let log = LogConfig { driver: wire.kind.clone(), options };
    // Without a driver's name, and for the values, the engine says what is wrong: it knows the default.
    berth_engine::logs::check_names(&log)?;
    Ok(log)
}

fn runtime(name: &str) -> Result<String, ApiError> {
    if name == RUNTIME || RUNTIME_ALIASES.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid(format!("unknown or invalid runtime name: {name}")))
}

/// Defaults of the engine that inspect shows where a container asked for nothing.
pub struct Defaults<'a> {
    /// Log driver and options.
    pub log: &'a LogConfig,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// Cgroup namespace.
    pub cgroupns: CgroupMode,
}

/// Shows the host's part with the defaults filled in (B105).
pub fn to_wire(view: &ContainerView, defaults: &Defaults<'_>) -> HostConfig {
    let host = &view.spec.host;
    let list = |items: &Vec<String>| (!items.is_empty()).then(|| items.clone());
    let mut wire = HostConfig {
        binds: host.binds.clone(),
        container_id_file: host.container_id_file.clone(),
        log_config: log_to_wire(if host.log.driver.is_empty() { defaults.log } else { &host.log }),
        network_mode: endpoints::main_network(&host.network),
        port_bindings: Some(ports::bindings_to_wire(&host.port_bindings)),
        restart_policy: restart::to_wire(host.restart),
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver.clone(),
        volumes_from: host.volumes_from.clone(),
        console_size: ConsoleSize(host.console_size),
        annotations: host.annotations.clone(),
        dns: list(&host.dns),
        dns_options: list(&host.dns_options),
        dns_search: list(&host.dns_search),
        extra_hosts: host.extra_hosts.clone(),
        links: host.links.clone(),
        publish_all_ports: host.publish_all_ports,
        storage_opt: host.storage_opt.clone(),
        tmpfs: host.tmpfs.clone(),
        shm_size: if host.shm_size == 0 { defaults.shm_size } else { host.shm_size },
        sysctls: host.sysctls.clone(),
        runtime: if host.runtime.is_empty() { RUNTIME.to_owned() } else { host.runtime.clone() },
        resources: resources::to_wire(&host.resources, &host.devices, &host.isolation.cgroup_parent),
        mounts: long_form_mounts(view),
        init: host.init,
        ..HostConfig::default()
    };
    isolation::to_wire(&host.isolation, defaults.cgroupns, &mut wire);
    wire
}

/// The mounts that were given in the long form: neither binds, which come first, nor tmpfs options, which come last.
fn long_form_mounts(view: &ContainerView) -> Vec<berth_api::mount::Mount> {
    let host = &view.spec.host;
    let end = host.mounts.len().saturating_sub(host.tmpfs.len());
    host.mounts.get(host.binds_parsed..end).unwrap_or_default().iter().map(mounts::to_wire).collect()
}

fn log_to_wire(log: &LogConfig) -> WireLog {
    WireLog { kind: log.driver.clone(), config: Some(log.options.clone()) }
}
