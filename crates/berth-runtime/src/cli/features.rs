//! `features`.

use std::process::ExitCode;

use berth_oci::runtime::{
    CgroupFeatures, FeatureSwitch, Features, LinuxFeatures, MountExtensions, OCI_VERSION, SeccompFeatures,
};
use berth_sys::mount::Interface;

use super::arguments::{HELP, Parsed};
use super::{Command, Context, Failure};
use crate::hooks::Point;
use crate::{credentials, labels, mount_options};

pub(super) const COMMAND: Command =
    Command { name: "features", operands: "", summary: "Print what this runtime can do as JSON", flags: &[HELP], run };

fn run(_: &Context, _: &Parsed) -> Result<ExitCode, Failure> {
    println!("{}", serde_json::to_string_pretty(&features()).map_err(std::io::Error::from)?);
    Ok(ExitCode::SUCCESS)
}

fn features() -> Features {
    let points = [
        Point::Prestart,
        Point::CreateRuntime,
        Point::CreateContainer,
        Point::StartContainer,
        Point::Poststart,
        Point::Poststop,
    ];
    Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: OCI_VERSION.to_owned(),
        hooks: points.map(|point| point.name().to_owned()).to_vec(),
        mount_options: words(mount_options::KNOWN_WORDS),
        linux: Some(LinuxFeatures {
            namespaces: words(&["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]),
            capabilities: credentials::names(),
            cgroup: CgroupFeatures { v1: true, v2: true, ..CgroupFeatures::default() },
            seccomp: seccomp(),
            apparmor: FeatureSwitch { enabled: labels::has_apparmor() },
            selinux: FeatureSwitch { enabled: labels::has_selinux() },
            intel_rdt: FeatureSwitch { enabled: false },
            mount_extensions: MountExtensions {
                idmap: FeatureSwitch { enabled: Interface::probe() == Interface::Modern },
            },
            net_devices: FeatureSwitch { enabled: false },
        }),
        ..Features::default()
    }
}

fn seccomp() -> SeccompFeatures {
    let flags = words(&["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]);
    SeccompFeatures {
        enabled: true,
        actions: words(&[
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ]),
        operators: words(&[
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ]),
        archs: words(&["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]),
        known_flags: flags.clone(),
        supported_flags: flags,
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}
