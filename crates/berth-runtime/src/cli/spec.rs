//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use berth_oci::runtime::OCI_VERSION;
use serde_json::{Value, json};

use super::arguments::{Flag, HELP, Parsed};
use super::{Command, Context, Failure};
use crate::error::{RuntimeError, Step};

pub(super) const COMMAND: Command = Command {
    name: "spec",
    operands: "",
    summary: "Write a config.json to begin with",
    flags: &[Flag::value("bundle").short('b'), Flag::switch("rootless"), HELP],
    run,
};

fn run(_: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let file = Path::new(parsed.value("bundle").unwrap_or(".")).join("config.json");
    let mut spec = template();
    if parsed.has("rootless") {
        make_rootless(&mut spec);
    }
    let mut text = serde_json::to_string_pretty(&spec).map_err(std::io::Error::from)?;
    text.push('\n');
    let open = OpenOptions::new().write(true).create_new(true).open(&file);
    match open.and_then(|mut open| open.write_all(text.as_bytes())) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let reason = "exists already: remove it first";
            Err(RuntimeError::invalid(file.display().to_string(), reason).into())
        }
        result => {
            result.step("writing", &file)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn template() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "berth",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn mounts() -> Value {
    let plain = ["nosuid", "noexec", "nodev"];
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": plain},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}

/// What a user without rights cannot have is left out or replaced.
fn make_rootless(spec: &mut Value) {
    let ids = |own: u32| json!([{"containerID": 0, "hostID": own, "size": 1}]);
    spec["linux"]["uidMappings"] = ids(rustix::process::geteuid().as_raw());
    spec["linux"]["gidMappings"] = ids(rustix::process::getegid().as_raw());
    spec["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "user"}]);
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
    }
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        for mount in mounts.iter_mut() {
            if mount["destination"] == "/sys" {
                // Without a network namespace of its own the user may not mount a sysfs.
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
            }
            if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
                options.retain(|option| option != "gid=5");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_configurations() {
        let mut spec = template();
        let parsed: berth_oci::runtime::Spec = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(parsed.mounts.len(), 7);
        make_rootless(&mut spec);
        let parsed: berth_oci::runtime::Spec = serde_json::from_value(spec).unwrap();
        assert_eq!(parsed.mounts.len(), 6);
        assert!(!parsed.linux.unwrap().uid_mappings.is_empty());
    }
}
