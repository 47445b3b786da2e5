//! The OCI runtimes without an engine around them.

use std::path::Path;

use anyhow::{Context, Result};
use berth_oci::seccomp_profile::docker_default;
use serde_json::{Value, json};

use super::{Field, Setting};
use crate::{
    engine::Engine,
    results::Row,
    series::{one, turns},
};

/// Docker's.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(60);
    let mut rows = Vec::new();
    // The rules for a kernel that has them all: what this one lacks is never called.
    let profile = serde_json::to_value(docker_default(&CAPABILITIES, (6, 0)))?;
    for (case, seccomp) in [("run, no seccomp", Value::Null), ("run, Docker's seccomp profile", profile)] {
        rows.extend(turns(&mut field.engines, rounds, |engine, round| {
            if round == 0 {
                write_bundle(engine, &seccomp)?;
            }
            let bundle = engine.directory().display().to_string();
            Ok(one(case, engine.time(&["run", "--bundle", &bundle, &format!("bench{round}")])?))
        }));
    }
    Ok(rows)
}

/// The bundle is the same for all but its cgroup.
fn write_bundle(engine: &Engine, seccomp: &Value) -> Result<()> {
    let directory = engine.directory();
    if !directory.join("rootfs").exists() {
        let _rootfs = berth_testkit::busybox_tree(directory);
    }
    let configuration = configuration(&format!("{}/bench", engine.account.parent()), seccomp);
    std::fs::write(Path::new(directory).join("config.json"), configuration.to_string()).context("writing the bundle")
}

/// Much like what `runc spec` writes, with Docker's capabilities.
fn configuration(cgroup: &str, seccomp: &Value) -> Value {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    let mut document = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": ["true"], "cwd": "/", "env": ["PATH=/bin:/usr/bin"],
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if !seccomp.is_null() {
        document["linux"]["seccomp"] = seccomp.clone();
    }
    document
}
