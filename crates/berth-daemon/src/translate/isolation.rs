//! Namespaces, capabilities and security options.

use berth_api::host_config::HostConfig;
use berth_engine::spec::{CgroupMode, Isolation, NamespaceMode, SeccompChoice};

use crate::http::error::ApiError;

/// What is masked when nobody says otherwise (B128); per-processor files are added at start.
const MASKED_PATHS: [&str; 12] = [
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
/// What is read-only when nobody says otherwise (B129).
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Every capability that Linux has, without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Checks and understands what separates a container from its host.
pub fn from_wire(wire: &HostConfig) -> Result<Isolation, ApiError> {
    check_capabilities("CapAdd", wire.cap_add.as_deref())?;
    check_capabilities("CapDrop", wire.cap_drop.as_deref())?;
    if !matches!(wire.isolation.as_str(), "" | "default") {
        return Err(ApiError::invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
            wire.isolation
        )));
    }
    let mut isolation = Isolation {
        privileged: wire.privileged,
        readonly_rootfs: wire.readonly_rootfs,
        cap_add: wire.cap_add.clone(),
        cap_drop: wire.cap_drop.clone(),
        group_add: wire.group_add.clone(),
        security_opt: wire.security_opt.clone(),
        masked_paths: wire.masked_paths.clone(),
        readonly_paths: wire.readonly_paths.clone(),
        pid_mode: namespace(&wire.pid_mode, "PID", &[])?,
        ipc_mode: namespace(&wire.ipc_mode, "IPC", &["none", "private", "shareable"])?,
        uts_mode: uts(&wire.uts_mode)?,
        userns_mode: wire.userns_mode.clone(),
        cgroupns_mode: cgroup_mode(&wire.cgroupns_mode)?,
        cgroup_parent: wire.resources.cgroup_parent.clone(),
        cgroup: wire.cgroup.clone(),
        oom_score_adj: oom_score(wire.oom_score_adj)?,
        ..Isolation::default()
    };
    for option in wire.security_opt.iter().flatten() {
        apply_security_option(&mut isolation, option)?;
    }
    Ok(isolation)
}

fn check_capabilities(field: &str, names: Option<&[String]>) -> Result<(), ApiError> {
    for name in names.into_iter().flatten() {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare != "ALL" && !CAPABILITIES.contains(&bare) {
            return Err(ApiError::invalid(format!("invalid {field}: unknown capability: \"CAP_{bare}\"")));
        }
    }
    Ok(())
}

fn namespace(text: &str, name: &str, further: &[&str]) -> Result<NamespaceMode, ApiError> {
    let refused = || ApiError::invalid(format!("invalid {name} mode: {text}"));
    match text {
        "" => Ok(NamespaceMode::Default),
        "host" => Ok(NamespaceMode::Host),
        word if further.contains(&word) => Ok(match word {
            "none" => NamespaceMode::None,
            "private" => NamespaceMode::Private,
            _ => NamespaceMode::Shareable,
        }),
        _ => match text.strip_prefix("container:") {
            Some(container) if !container.is_empty() => Ok(NamespaceMode::Container(container.to_owned())),
            _ => Err(refused()),
        },
    }
}

fn uts(text: &str) -> Result<NamespaceMode, ApiError> {
    match text {
        "" => Ok(NamespaceMode::Default),
        "host" => Ok(NamespaceMode::Host),
        _ => Err(ApiError::invalid(format!("invalid UTS mode: {text}"))),
    }
}

fn cgroup_mode(text: &str) -> Result<CgroupMode, ApiError> {
    match text {
        "" => Ok(CgroupMode::Default),
        "private" => Ok(CgroupMode::Private),
        "host" => Ok(CgroupMode::Host),
        _ => Err(ApiError::invalid(format!("invalid cgroup namespace mode: {text}"))),
    }
}

fn oom_score(value: i64) -> Result<i32, ApiError> {
    let refused = || ApiError::invalid(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]"));
    i32::try_from(value).ok().filter(|score| (-1000..=1000).contains(score)).ok_or_else(refused)
}

fn apply_security_option(isolation: &mut Isolation, option: &str) -> Result<(), ApiError> {
    // The colon is the oldest separator; it is only one where no equals sign comes first.
    let pair = option.split_once('=').or_else(|| option.split_once(':'));
    match pair {
        None if option == "no-new-privileges" => isolation.no_new_privileges = true,
        None if option == "disable" => isolation.selinux = vec!["disable".to_owned()],
        None => return Err(ApiError::invalid(format!("invalid --security-opt 1: {option:?}"))),
        Some(("no-new-privileges", "true" | "1")) => isolation.no_new_privileges = true,
        Some(("no-new-privileges", "false" | "0")) => isolation.no_new_privileges = false,
        Some(("label", label)) => isolation.selinux.push(label.to_owned()),
        Some(("apparmor", profile)) => isolation.apparmor = profile.to_owned(),
        Some(("seccomp", "unconfined")) => isolation.seccomp = SeccompChoice::Unconfined,
        Some(("seccomp", "builtin")) => isolation.seccomp = SeccompChoice::Default,
        Some(("seccomp", profile)) => isolation.seccomp = SeccompChoice::Profile(profile.to_owned()),
        Some(("systempaths", "unconfined")) => isolation.unconfined_paths = true,
        Some(_) => return Err(ApiError::invalid(format!("invalid --security-opt 2: {option:?}"))),
    }
    Ok(())
}

/// Shows what separates a container from its host; defaults that depend on the host are given.
pub fn to_wire(isolation: &Isolation, cgroupns: CgroupMode, wire: &mut HostConfig) {
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let hidden = |given: &Option<Vec<String>>, default: &[&str]| match (given, isolation.unconfined_paths) {
        (Some(paths), _) => Some(paths.clone()),
        (None, true) => Some(Vec::new()),
        (None, false) => (!isolation.privileged).then(|| owned(default)),
    };
    wire.privileged = isolation.privileged;
    wire.readonly_rootfs = isolation.readonly_rootfs;
    wire.cap_add.clone_from(&isolation.cap_add);
    wire.cap_drop.clone_from(&isolation.cap_drop);
    wire.group_add.clone_from(&isolation.group_add);
    wire.security_opt.clone_from(&isolation.security_opt);
    wire.masked_paths = hidden(&isolation.masked_paths, &MASKED_PATHS);
    wire.readonly_paths = hidden(&isolation.readonly_paths, &READONLY_PATHS);
    wire.pid_mode = isolation.pid_mode.text();
    wire.ipc_mode = match isolation.ipc_mode {
        NamespaceMode::Default => NamespaceMode::Private.text(),
        ref mode => mode.text(),
    };
    wire.uts_mode = isolation.uts_mode.text();
    wire.userns_mode.clone_from(&isolation.userns_mode);
    wire.cgroupns_mode = match (isolation.cgroupns_mode, cgroupns) {
        (CgroupMode::Default, CgroupMode::Private) | (CgroupMode::Private, _) => "private".to_owned(),
        _ => "host".to_owned(),
    };
    wire.cgroup.clone_from(&isolation.cgroup);
    wire.oom_score_adj = i64::from(isolation.oom_score_adj);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut HostConfig)) -> String {
        let mut wire = HostConfig::default();
        change(&mut wire);
        from_wire(&wire).expect_err("refused").message
    }

    #[test]
    fn unknown_words_are_refused_in_known_texts() {
        let words = |list: &[&str]| Some(list.iter().map(|word| (*word).to_owned()).collect());
        for (message, expected) in [
            (refused(|wire| wire.cap_add = words(&["BOGUS"])), "invalid CapAdd: unknown capability: \"CAP_BOGUS\""),
            (refused(|wire| wire.cap_drop = words(&["x"])), "invalid CapDrop: unknown capability: \"CAP_X\""),
            (refused(|wire| wire.pid_mode = "bogus".into()), "invalid PID mode: bogus"),
            (refused(|wire| wire.pid_mode = "container:".into()), "invalid PID mode: container:"),
            (refused(|wire| wire.ipc_mode = "bogus".into()), "invalid IPC mode: bogus"),
            (refused(|wire| wire.uts_mode = "bogus".into()), "invalid UTS mode: bogus"),
            (refused(|wire| wire.cgroupns_mode = "bogus".into()), "invalid cgroup namespace mode: bogus"),
            (
                refused(|wire| wire.isolation = "hyperv".into()),
                "invalid isolation (hyperv): linux only supports 'default'",
            ),
            (refused(|wire| wire.oom_score_adj = 2000), "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
            (refused(|wire| wire.security_opt = words(&["bogus"])), "invalid --security-opt 1: \"bogus\""),
            (refused(|wire| wire.security_opt = words(&["bogus=1"])), "invalid --security-opt 2: \"bogus=1\""),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn capabilities_go_by_any_of_their_names() {
        let names = ["all", "NET_ADMIN", "CAP_SYS_PTRACE", "cap_bpf"].map(str::to_owned).to_vec();
        let wire = HostConfig { cap_add: Some(names), ..HostConfig::default() };
        assert!(from_wire(&wire).is_ok());
    }

    #[test]
    fn security_options_are_understood_with_either_separator() {
        let options = ["no-new-privileges:true", "seccomp=unconfined", "label=disable", "systempaths=unconfined"];
        let wire = HostConfig { security_opt: Some(options.map(str::to_owned).to_vec()), ..HostConfig::default() };
        let isolation = from_wire(&wire).expect("valid");
        assert!(isolation.no_new_privileges && isolation.unconfined_paths);
        assert_eq!(isolation.seccomp, SeccompChoice::Unconfined);
        assert_eq!(isolation.selinux, ["disable"]);
    }
}
