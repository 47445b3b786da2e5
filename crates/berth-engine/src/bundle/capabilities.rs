//! Which capabilities a container has (B126, B127).

use crate::{EngineError, spec::Isolation};

/// Every capability of Linux, in the kernel's order.
pub(crate) const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has when nobody says otherwise.
const DEFAULT: [&str; 14] = [
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

/// The set after adding and dropping. `ALL` may be added or dropped; single names then make exceptions.
pub(super) fn effective(isolation: &Isolation) -> Result<Vec<String>, EngineError> {
    if isolation.privileged {
        return Ok(supported().map(str::to_owned).collect());
    }
    let add = normal(isolation.cap_add.as_deref().unwrap_or_default())?;
    let drop = normal(isolation.cap_drop.as_deref().unwrap_or_default())?;
    let has_all = |names: &[String]| names.iter().any(|name| name == "ALL");
    let base: Vec<&str> = match (has_all(&add), has_all(&drop)) {
        (true, _) => supported().collect(),
        (false, true) => Vec::new(),
        (false, false) => DEFAULT.to_vec(),
    };
    let mut set: Vec<String> =
        base.into_iter().filter(|name| !drop.iter().any(|dropped| dropped == name)).map(str::to_owned).collect();
    for name in add.into_iter().filter(|name| name != "ALL") {
        if !set.contains(&name) {
            set.push(name);
        }
    }
    Ok(set)
}

/// Names in upper case with `CAP_`, each known.
fn normal(names: &[String]) -> Result<Vec<String>, EngineError> {
    let one = |name: &String| {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(upper);
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if ALL.contains(&full.as_str()) {
            return Ok(full);
        }
        Err(EngineError::invalid(format!("invalid capability: {name:?}")))
    };
    names.iter().map(one).collect()
}

/// Those that can be given: what the kernel knows and this process itself may pass on.
fn supported() -> impl Iterator<Item = &'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = bounding.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX);
    ALL.into_iter().enumerate().filter(move |(number, _)| bounding >> number & 1 == 1).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expected: &[&str]) {
        let list = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let isolation = Isolation { cap_add: list(add), cap_drop: list(drop), ..Isolation::default() };
        assert_eq!(effective(&isolation).expect("known names"), expected, "+{add:?} -{drop:?}");
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        check(&[], &[], &DEFAULT);
        check(&["net_admin"], &["ALL"], &["CAP_NET_ADMIN"]);
        check(&[], &["all"], &[]);
        check(&["CAP_CHOWN"], &["cap_chown", "ALL"], &["CAP_CHOWN"]);
        let isolation = Isolation { cap_add: Some(vec!["CAP_NOPE".to_owned()]), ..Isolation::default() };
        assert_eq!(effective(&isolation).expect_err("unknown").to_string(), "invalid capability: \"CAP_NOPE\"");
    }
}
