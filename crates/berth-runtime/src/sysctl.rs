//! Kernel parameters of the container's own namespaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_sys::namespace::Namespace;

use crate::error::RuntimeError;
use crate::namespaces::NamespacePlan;
use crate::procfs::Procfs;

/// The kernel keeps these per ipc namespace.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Refuses parameters that would change the host.
pub(crate) fn check(sysctls: &BTreeMap<String, String>, namespaces: &NamespacePlan<'_>) -> Result<(), RuntimeError> {
    for name in sysctls.keys() {
        let refuse = |reason: &str| Err(RuntimeError::invalid("linux.sysctl", format!("{name:?} {reason}")));
        if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return refuse("is no parameter");
        }
        match owner(&file_of(name)) {
            None => return refuse("is not in a namespace of the container"),
            Some(owner) if !namespaces.separates(owner) => return refuse("is not allowed in the host's namespace"),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Sets them, once the process is in its namespaces.
pub(crate) fn apply(sysctls: &BTreeMap<String, String>, procfs: &Procfs) -> Result<(), RuntimeError> {
    sysctls.iter().try_for_each(|(name, value)| procfs.write(&Path::new("sys").join(file_of(name)), value))
}

/// Either separator may stand between the parts; the other one is then part of a name (`net/ipv4/conf/eth0.1/forwarding`).
fn file_of(name: &str) -> PathBuf {
    let first = name.find(['.', '/']).map(|at| name.as_bytes()[at]);
    if first == Some(b'/') { PathBuf::from(name) } else { swap_separators(name).into() }
}

fn swap_separators(name: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// The namespace that a parameter belongs to, if any.
fn owner(file: &Path) -> Option<Namespace> {
    let mut parts = file.iter().map(|part| part.to_str().unwrap_or_default());
    match (parts.next()?, parts.next()?) {
        ("net", _) => Some(Namespace::Network),
        ("fs", "mqueue") => Some(Namespace::Ipc),
        ("kernel", name) if IPC.contains(&name) => Some(Namespace::Ipc),
        ("kernel", "domainname" | "hostname") => Some(Namespace::Uts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_oci::runtime::Linux;

    fn refusal(name: &str) -> Option<String> {
        let linux: Linux = serde_json::from_str(r#"{"namespaces":[{"type":"network"},{"type":"ipc"}]}"#).unwrap();
        let plan = NamespacePlan::new(&linux, None).unwrap();
        let sysctls = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        check(&sysctls, &plan).err().map(|error| error.to_string())
    }

    #[test]
    fn only_parameters_of_own_namespaces_are_set() {
        assert_eq!(refusal("net.ipv4.ip_forward"), None);
        assert_eq!(refusal("net/ipv4/conf/eth0.1/forwarding"), None);
        assert_eq!(refusal("kernel.shmmax"), None);
        assert_eq!(refusal("fs.mqueue.msg_max"), None);
        assert!(refusal("kernel.panic").unwrap().contains("not in a namespace"));
        assert!(refusal("kernel.domainname").unwrap().contains("host's namespace"));
        assert!(refusal("net/../kernel/panic").is_some());
    }

    #[test]
    fn either_separator_may_be_used() {
        assert_eq!(file_of("net.ipv4.conf.eth0/1.forwarding"), Path::new("net/ipv4/conf/eth0.1/forwarding"));
        assert_eq!(file_of("net/ipv4/conf/eth0.1/forwarding"), Path::new("net/ipv4/conf/eth0.1/forwarding"));
    }
}
