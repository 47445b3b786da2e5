//! Device nodes and device rules (B132).

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use berth_oci::runtime::{Device, DeviceCgroup, DeviceType};

use crate::{
    EngineError,
    spec::{Devices, HostSettings},
};

/// Nodes to make and rules to set.
pub(super) struct Access {
    pub nodes: Vec<Device>,
    pub rules: Vec<DeviceCgroup>,
}

pub(super) fn build(host: &HostSettings) -> Result<Access, EngineError> {
    if host.isolation.privileged {
        return Ok(Access { nodes: host_nodes(), rules: vec![rule(true, "a", None, None, "rwm")] });
    }
    let mut access = Access { nodes: Vec::new(), rules: default_rules() };
    add_mapped(&mut access, &host.devices)?;
    for text in host.devices.cgroup_rules.iter().flatten() {
        access.rules.push(parse_rule(text)?);
    }
    Ok(access)
}

/// Everything is denied but the harmless ones; making nodes is a matter of the capability.
fn default_rules() -> Vec<DeviceCgroup> {
    let mut rules =
        vec![rule(false, "a", None, None, "rwm"), rule(true, "c", None, None, "m"), rule(true, "b", None, None, "m")];
    // null, zero, full, random, urandom, tty, console, ptmx, and every pts.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, "c", Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, "c", Some(136), None, "rwm"));
    rules
}

fn add_mapped(access: &mut Access, devices: &Devices) -> Result<(), EngineError> {
    for mapping in devices.mapped.iter().flatten() {
        let found = nodes_beneath(Path::new(&mapping.host), Path::new(&mapping.container));
        let found = found.map_err(|reason| {
            EngineError::internal(format!(
                "error gathering device information while adding custom device {:?}: {reason}",
                mapping.host
            ))
        })?;
        let permissions = if mapping.permissions.is_empty() { "rwm" } else { &mapping.permissions };
        for node in found {
            let kind = if node.kind == DeviceType::Block { "b" } else { "c" };
            access.rules.push(rule(true, kind, Some(node.major), Some(node.minor), permissions));
            access.nodes.push(node);
        }
    }
    Ok(())
}

/// A device, or every device in a directory. Links are followed only to the place that was named: one in a directory can lead back to it.
fn nodes_beneath(host: &Path, inside: &Path) -> Result<Vec<Device>, String> {
    let metadata = fs::metadata(host).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => error.to_string(),
    })?;
    if !metadata.is_dir() {
        let node = node_of(&metadata, inside).ok_or_else(|| "not a device node".to_owned())?;
        return Ok(vec![node]);
    }
    let entries = fs::read_dir(host).map_err(|error| error.to_string())?;
    let beneath = entries
        .flatten()
        .filter(|entry| !entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .filter_map(|entry| nodes_beneath(&entry.path(), &inside.join(entry.file_name())).ok());
    let found: Vec<Device> = beneath.flatten().collect();
    if found.is_empty() { Err("not a device node".to_owned()) } else { Ok(found) }
}

/// Every device of the host, but those a container has of its own.
fn host_nodes() -> Vec<Device> {
    let own = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"];
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    entries
        .filter(|entry| !own.iter().any(|name| entry.file_name() == *name))
        .filter(|entry| !entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .filter_map(|entry| nodes_beneath(&entry.path(), &entry.path()).ok())
        .flatten()
        .collect()
}

fn node_of(metadata: &fs::Metadata, inside: &Path) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceType::Char,
        kind if kind.is_block_device() => DeviceType::Block,
        _ => return None,
    };
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    Some(Device {
        kind,
        path: inside.to_owned(),
        major: major.into(),
        minor: minor.into(),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

/// `c 1:3 rwm`, with `*` for any number.
fn parse_rule(text: &str) -> Result<DeviceCgroup, EngineError> {
    let invalid = || EngineError::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |word: &str| if word == "*" { Ok(None) } else { word.parse().map(Some).map_err(|_| invalid()) };
    if !matches!(kind, "a" | "b" | "c") || access.is_empty() || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(invalid());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceCgroup {
    DeviceCgroup { allow, kind: Some(kind.to_owned()), major, minor, access: Some(access.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_docker_writes_them() {
        assert_eq!(parse_rule("c 1:* rm").expect("valid"), rule(true, "c", Some(1), None, "rm"));
        assert_eq!(parse_rule("a *:* rwm").expect("valid"), rule(true, "a", None, None, "rwm"));
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c a:3 r", "c 1:3 r w"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
