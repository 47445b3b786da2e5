//! The Linux part of a bundle: namespaces, limits, devices, paths that are hidden, the system call filter.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use berth_oci::{
    runtime::{Linux, LinuxResources, Namespace, NamespaceType, RootfsPropagation, SeccompText},
    seccomp_profile,
};

use super::{capabilities, devices};
use crate::{
    EngineError, Inner, limits,
    network::Attachment,
    spec::{CgroupMode, HostSettings, NamespaceMode, NetworkMode, Propagation, SeccompChoice},
    view::ContainerView,
};

/// B128.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// B129.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn build(engine: &Arc<Inner>, view: &ContainerView, network: &Attachment) -> Result<Linux, EngineError> {
    let host = &view.spec.host;
    let access = devices::build(host)?;
    let mut resources = limits::to_oci(&host.resources)?;
    resources.devices = access.rules;
    let parent = match host.isolation.cgroup_parent.as_str() {
        "" => engine.config.cgroup_parent.clone(),
        own if own.starts_with('/') => own.to_owned(),
        own => format!("/{own}"),
    };
    let (masked_paths, readonly_paths) = hidden_paths(host);
    Ok(Linux {
        sysctl: host.sysctls.clone(),
        resources: Some(resources),
        cgroups_path: Some(format!("{parent}/{}", view.id)),
        namespaces: namespaces(engine, host, network)?,
        devices: access.nodes,
        seccomp: seccomp(engine, host)?,
        rootfs_propagation: root_propagation(view),
        masked_paths,
        readonly_paths,
        ..Linux::default()
    })
}

/// The limits of a running container after a change, for its shim.
pub(crate) fn limits_document(host: &HostSettings) -> Result<Vec<u8>, EngineError> {
    let resources: LinuxResources = limits::to_oci(&host.resources)?;
    Ok(serde_json::to_vec(&resources).expect("limits are JSON"))
}

/// Whether the container has the host's UTS namespace, and so its host name.
pub(super) fn shares_uts(host: &HostSettings) -> bool {
    host.isolation.uts_mode == NamespaceMode::Host
}

fn namespaces(engine: &Inner, host: &HostSettings, network: &Attachment) -> Result<Vec<Namespace>, EngineError> {
    let new = |kind| Namespace { kind, path: None };
    let mut list = vec![new(NamespaceType::Mount)];
    if !matches!(host.network, NetworkMode::Host) {
        list.push(Namespace { kind: NamespaceType::Network, path: network.path() });
    }
    if !shares_uts(host) {
        list.push(new(NamespaceType::Uts));
    }
    list.extend(one(engine, NamespaceType::Pid, "pid", &host.isolation.pid_mode)?);
    list.extend(one(engine, NamespaceType::Ipc, "ipc", &host.isolation.ipc_mode)?);
    let cgroup = match host.isolation.cgroupns_mode {
        CgroupMode::Default => engine.config.default_cgroupns,
        own => own,
    };
    let private = match cgroup {
        CgroupMode::Private => true,
        CgroupMode::Host => false,
        CgroupMode::Default => engine.layout.version() == berth_cgroup::Version::V2 && !host.isolation.privileged,
    };
    if private {
        list.push(new(NamespaceType::Cgroup));
    }
    Ok(list)
}

fn one(
    engine: &Inner,
    kind: NamespaceType,
    word: &str,
    mode: &NamespaceMode,
) -> Result<Option<Namespace>, EngineError> {
    match mode {
        NamespaceMode::Host => Ok(None),
        NamespaceMode::Container(name) => {
            let other = engine.registry.find(name)?.view();
            let refusal = |reason: &str| {
                format!("failed to join {} namespace: container {}{reason}", word.to_uppercase(), other.id)
            };
            let not_running = || EngineError::conflict(refusal(" is not running"));
            let pid = other.state.pid().ok_or_else(not_running)?;
            if kind == NamespaceType::Ipc && !is_shared(&other.spec.host.isolation.ipc_mode) {
                return Err(EngineError::invalid(refusal(
                    ": non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                )));
            }
            crate::lending::end(engine, &other.id);
            Ok(Some(Namespace { kind, path: Some(PathBuf::from(format!("/proc/{pid}/ns/{word}"))) }))
        }
        _ => Ok(Some(Namespace { kind, path: None })),
    }
}

/// Whether others may join the IPC namespace of a container with this mode.
fn is_shared(mode: &NamespaceMode) -> bool {
    matches!(mode, NamespaceMode::Shareable | NamespaceMode::Host | NamespaceMode::Container(_))
}

fn hidden_paths(host: &HostSettings) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let isolation = &host.isolation;
    if isolation.privileged || isolation.unconfined_paths {
        return (Vec::new(), Vec::new());
    }
    let choose = |own: &Option<Vec<String>>, default: &[&str]| match own {
        Some(paths) => paths.iter().map(PathBuf::from).collect(),
        None => default.iter().map(PathBuf::from).collect(),
    };
    let mut masked: Vec<PathBuf> = choose(&isolation.masked_paths, &MASKED);
    if isolation.masked_paths.is_none() {
        masked.extend(thermal_throttle_paths());
    }
    (masked, choose(&isolation.readonly_paths, &READ_ONLY))
}

/// What each CPU tells about its heat lets neighbours be watched.
fn thermal_throttle_paths() -> impl Iterator<Item = PathBuf> {
    (0..)
        .map(|cpu| PathBuf::from(format!("/sys/devices/system/cpu/cpu{cpu}")))
        .take_while(|cpu| cpu.exists())
        .map(|cpu| cpu.join("thermal_throttle"))
        .filter(|path| path.exists())
}

fn seccomp(engine: &Inner, host: &HostSettings) -> Result<Option<SeccompText>, EngineError> {
    if host.isolation.privileged {
        return Ok(None);
    }
    let invalid = |error: &dyn std::fmt::Display| EngineError::invalid(format!("seccomp profile: {error}"));
    let capabilities = capabilities::effective(&host.isolation)?;
    let names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let kernel = crate::limits::kernel_version();
    let parse = |text: &str| {
        let profile = seccomp_profile::parse_profile(text).map_err(|error| invalid(&error))?;
        Ok::<_, EngineError>(SeccompText::of(&profile.resolve(&names, kernel)))
    };
    match (&host.isolation.seccomp, &engine.config.seccomp_profile) {
        (SeccompChoice::Unconfined, _) => Ok(None),
        (SeccompChoice::Profile(text), _) => Ok(Some(parse(text)?)),
        (SeccompChoice::Default, Some(text)) => Ok(Some(parse(text)?)),
        (SeccompChoice::Default, None) => Ok(Some(default_filter(capabilities))),
    }
}

/// Docker's filter for these capabilities. The last one is kept: most containers have the same.
fn default_filter(capabilities: Vec<String>) -> SeccompText {
    static LAST: Mutex<Option<(Vec<String>, SeccompText)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, filter)) = last.as_ref().filter(|(same, _)| *same == capabilities) {
        return filter.clone();
    }
    let filter = SeccompText::of(&seccomp_profile::docker_default(&capabilities, crate::limits::kernel_version()));
    *last = Some((capabilities, filter.clone()));
    filter
}

/// A bind that is to be seen outside needs a root that lets it.
fn root_propagation(view: &ContainerView) -> Option<RootfsPropagation> {
    let wants = |words: &[Propagation]| {
        view.mounts.iter().any(|point| point.propagation.is_some_and(|word| words.contains(&word)))
    };
    if wants(&[Propagation::Shared, Propagation::Rshared]) {
        return Some(RootfsPropagation::Shared);
    }
    wants(&[Propagation::Slave, Propagation::Rslave]).then_some(RootfsPropagation::Slave)
}
