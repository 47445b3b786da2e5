//! The mounts of a bundle: the kernel's file systems, the engine's files, the user's mounts, parents before children.

use std::{path::Path, sync::Arc};

use berth_oci::runtime::Mount;

use super::{process, propagation};
use crate::{
    EngineError, Inner,
    spec::{MountKind, MountRequest, NamespaceMode, NetworkMode},
    view::{ContainerPaths, ContainerView, MountPoint, MountPointKind},
};

pub(super) fn build(engine: &Arc<Inner>, view: &ContainerView) -> Result<Vec<Mount>, EngineError> {
    let host = &view.spec.host;
    let mut mounts = kernel_mounts(engine, view)?;
    let paths = etc_paths(engine, view)?;
    for (source, target) in
        [(&paths.resolv_conf, "/etc/resolv.conf"), (&paths.hostname, "/etc/hostname"), (&paths.hosts, "/etc/hosts")]
    {
        mounts.push(bind(&source.to_string_lossy(), target, &["rbind", "rprivate"]));
    }
    if process::wants_init(engine, view) {
        let init = engine.config.run.join("bin/berth-init");
        mounts.push(bind(&init.to_string_lossy(), process::INIT_PATH, &["bind", "ro"]));
    }
    for point in &view.mounts {
        let request = host.mounts.iter().find(|request| request.target == point.destination);
        mounts.push(user_mount(engine, view, point, request)?);
    }
    // What the user mounts takes the place of what would be there; parents come before children.
    let replaced = |mount: &Mount| view.mounts.iter().any(|point| Path::new(&point.destination) == mount.destination);
    let own = mounts.len() - view.mounts.len();
    let mut kept: Vec<Mount> = mounts[..own].iter().filter(|mount| !replaced(mount)).cloned().collect();
    let mut user = mounts.split_off(own);
    user.sort_by_key(|mount| mount.destination.components().count());
    kept.append(&mut user);
    Ok(kept)
}

/// Which container's /etc files are shown: one that shares a network shares them.
fn etc_paths(engine: &Inner, view: &ContainerView) -> Result<ContainerPaths, EngineError> {
    match &view.spec.host.network {
        NetworkMode::Container(other) => Ok(engine.registry.find(other)?.view().paths.clone()),
        _ => Ok(view.paths.clone()),
    }
}

fn kernel_mounts(engine: &Inner, view: &ContainerView) -> Result<Vec<Mount>, EngineError> {
    let host = &view.spec.host;
    let system = if host.isolation.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        match host.network {
            // The kernel only lets the owner of the network namespace mount sysfs; a shared one is bound.
            NetworkMode::Host => bind("/sys", "/sys", &["rbind", "rslave", "nosuid", "noexec", "nodev", system]),
            _ => mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", system]),
        },
        mount("cgroup", "cgroup", "/sys/fs/cgroup", &[system, "nosuid", "noexec", "nodev"]),
    ];
    let plain = ["nosuid", "noexec", "nodev"];
    let shared = ["rbind", "nosuid", "noexec", "nodev"];
    match &host.isolation.ipc_mode {
        NamespaceMode::Host => {
            // Of the host's queues in any case: it is the IPC namespace that decides, and not every host has them mounted.
            mounts.push(mount("mqueue", "mqueue", "/dev/mqueue", &plain));
            mounts.push(bind("/dev/shm", "/dev/shm", &shared));
        }
        NamespaceMode::None => mounts.push(mount("mqueue", "mqueue", "/dev/mqueue", &plain)),
        NamespaceMode::Container(other) => {
            mounts.push(mount("mqueue", "mqueue", "/dev/mqueue", &plain));
            // That it runs is checked where its namespace is joined.
            let pid = engine.registry.find(other)?.view().state.pid().unwrap_or_default();
            mounts.push(bind(&format!("/proc/{pid}/root/dev/shm"), "/dev/shm", &shared));
        }
        _ => {
            mounts.push(mount("mqueue", "mqueue", "/dev/mqueue", &plain));
            let size = format!("size={}", host.shm_size);
            mounts.push(mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
        }
    }
    Ok(mounts)
}

fn user_mount(
    engine: &Inner,
    view: &ContainerView,
    point: &MountPoint,
    request: Option<&MountRequest>,
) -> Result<Mount, EngineError> {
    match point.kind {
        MountPointKind::Image => crate::container::image_mount(engine, view, point),
        MountPointKind::Tmpfs => tmpfs(point, request),
        MountPointKind::Bind if !Path::new(&point.source).exists() => Err(EngineError::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            point.source
        ))),
        MountPointKind::Bind | MountPointKind::Volume => {
            if let Some(wanted) = point.propagation {
                propagation::check(Path::new(&point.source), wanted)?;
            }
            Ok(bound(point, request))
        }
    }
}

fn bound(point: &MountPoint, request: Option<&MountRequest>) -> Mount {
    let options = match request.map(|request| &request.kind) {
        Some(MountKind::Bind { options, .. }) => Some(options),
        _ => None,
    };
    let non_recursive = options.is_some_and(|options| options.non_recursive);
    let mut words = vec![if non_recursive { "bind" } else { "rbind" }];
    if !point.writable {
        // Recursively, unless the request, or an older kernel, says otherwise: the runtime falls back by itself.
        let shallow = non_recursive || options.is_some_and(|options| options.read_only_non_recursive);
        words.push("ro");
        if !shallow && point.kind == MountPointKind::Bind {
            words.push("rro");
        }
    }
    words.push(point.propagation.map_or("rprivate", crate::spec::Propagation::word));
    bind(&point.source, &point.destination, &words)
}

fn tmpfs(point: &MountPoint, request: Option<&MountRequest>) -> Result<Mount, EngineError> {
    let mut words = vec!["noexec".to_owned(), "nosuid".to_owned(), "nodev".to_owned()];
    if !point.writable {
        words.push("ro".to_owned());
    }
    if let Some(MountKind::Tmpfs(options)) = request.map(|request| &request.kind) {
        if options.size_bytes > 0 {
            words.push(format!("size={}", options.size_bytes));
        }
        if options.mode > 0 {
            words.push(format!("mode={:o}", options.mode));
        }
        for word in &options.options {
            if !is_tmpfs_option(word) {
                let target = &point.destination;
                return Err(EngineError::invalid(format!("invalid tmpfs option {word:?} of {target}")));
            }
            // A word of the user's takes its opposite away.
            let opposite = word.strip_prefix("no").map_or_else(|| format!("no{word}"), str::to_owned);
            words.retain(|known| *known != opposite);
            words.push(word.clone());
        }
    }
    Ok(Mount {
        destination: (&point.destination).into(),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options: words,
        ..Mount::default()
    })
}

/// Whether the kernel will take an option of a tmpfs; by itself it does not say which one it refuses. See tmpfs(5).
fn is_tmpfs_option(option: &str) -> bool {
    let Some((name, value)) = option.split_once('=') else {
        let plain = option.strip_prefix("no").unwrap_or(option);
        let flags = ["suid", "dev", "exec", "mand", "atime", "diratime", "relatime", "strictatime"];
        return flags.contains(&plain)
            || matches!(option, "defaults" | "ro" | "rw" | "sync" | "async" | "dirsync")
            || crate::spec::Propagation::from_word(option).is_some();
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    match name {
        "size" => is_number(value.strip_suffix(['k', 'm', 'g', 't', 'K', 'M', 'G', 'T', '%']).unwrap_or(value)),
        "nr_blocks" | "nr_inodes" => is_number(value.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G']).unwrap_or(value)),
        "uid" | "gid" => is_number(value),
        "mode" => u32::from_str_radix(value, 8).is_ok(),
        "mpol" | "huge" => true,
        _ => false,
    }
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        destination: target.into(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|&word| word.to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(source: &str, target: &str, options: &[&str]) -> Mount {
    mount("bind", source, target, options)
}
