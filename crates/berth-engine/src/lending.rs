//! What one container may leave to the next: the network namespace and the root that it could not change, or did not.
//!
//! That nothing was changed is looked up where these things are kept (`berth-net`, `berth-snapshot`). Here is decided what cannot be looked
//! up: whether somebody who outlives the container can have got hold of a piece of it, such as an open directory or a socket.

use berth_model::{ContainerId, Digest};
use berth_snapshot::Lifetime;
use sha2::{Digest as _, Sha256};

use crate::{
    Inner, name_service,
    spec::{ContainerSpec, HostSettings, Isolation, NamespaceMode, NetworkMode, NetworkShape, SeccompChoice},
    view::ContainerView,
};

/// Whether a container can neither change its network nor hand a socket or a file of it to somebody who outlives it.
pub(crate) fn leaves_its_network_alone(view: &ContainerView) -> bool {
    let host = &view.spec.host;
    view.mounts.is_empty()
        && !name_service::has_names(&view.networks)
        && has_usual_network(host)
        && keeps_to_itself(host)
}

/// Whether a container has no way to hand one of its files to somebody who outlives it. Open files travel through sockets: those in a volume,
/// and, by their abstract names, those of a network namespace.
pub(crate) fn keeps_its_files(view: &ContainerView) -> bool {
    let has_own_network = view.spec.config.network_disabled
        || !matches!(view.spec.host.network, NetworkMode::Host | NetworkMode::Container(_));
    has_own_network && view.mounts.is_empty() && keeps_to_itself(&view.spec.host)
}

/// How long a container's layer lives, and who may have its root next: one that is the same in everything that was asked for, and that nobody
/// talks to while it runs. For a user of the host with the number of a container's user can look into that container, and might go on to look
/// into the next.
pub(crate) fn lifetime(spec: &ContainerSpec) -> Lifetime {
    if !spec.host.auto_remove {
        return Lifetime::Durable;
    }
    let alone = !spec.config.open_stdin;
    let description = || serde_json::to_vec(spec).map(|text| Digest::sha256(&Sha256::digest(text).into())).ok();
    Lifetime::Volatile { description: alone.then(description).flatten() }
}

/// Somebody is let into a container who may have more rights, or live longer: nothing of it is left to the next.
pub(crate) fn end(engine: &Inner, container: &ContainerId) {
    engine.networks.recall(container);
    engine.snapshots.share(container);
}

/// Whether nothing of its network was asked for.
fn has_usual_network(host: &HostSettings) -> bool {
    let HostSettings { resources, sysctls, .. } = host;
    resources.network_shape == NetworkShape::default() && !sysctls.keys().any(|key| key.starts_with("net."))
}

/// Whether it has no more rights than usual, and all its processes end with it.
fn keeps_to_itself(host: &HostSettings) -> bool {
    let Isolation {
        privileged,
        cap_add,
        seccomp,
        apparmor,
        selinux,
        unconfined_paths,
        masked_paths,
        readonly_paths,
        pid_mode,
        ipc_mode,
        userns_mode,
        // They take rights away, or are about what the host shows of it.
        readonly_rootfs: _,
        cap_drop: _,
        group_add: _,
        security_opt: _,
        no_new_privileges: _,
        uts_mode: _,
        cgroupns_mode: _,
        cgroup_parent: _,
        cgroup: _,
        oom_score_adj: _,
    } = &host.isolation;
    let is_empty = |asked: &Option<Vec<String>>| asked.as_ref().is_none_or(Vec::is_empty);
    let plain = |mode: &NamespaceMode| matches!(mode, NamespaceMode::Default | NamespaceMode::Private);
    let rights = !privileged && is_empty(cap_add) && userns_mode.is_empty();
    let confined = *seccomp == SeccompChoice::Default && apparmor.is_empty() && selinux.is_empty();
    let paths = !unconfined_paths && masked_paths.is_none() && readonly_paths.is_none();
    let devices = is_empty(&host.devices.cgroup_rules) && host.devices.mapped.as_ref().is_none_or(Vec::is_empty);
    rights && confined && paths && devices && plain(pid_mode) && plain(ipc_mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_rights_or_company_is_lent_nothing() {
        fn lent(change: impl FnOnce(&mut HostSettings)) -> bool {
            let mut host = HostSettings::default();
            change(&mut host);
            has_usual_network(&host) && keeps_to_itself(&host)
        }
        assert!(lent(|_| {}));
        assert!(lent(|host| host.isolation.cap_drop = Some(vec!["ALL".to_owned()])));
        assert!(lent(|host| _ = host.sysctls.insert("kernel.msgmax".to_owned(), "1".to_owned())));
        assert!(lent(|host| host.isolation.cap_add = Some(Vec::new())));
        assert!(lent(|host| host.devices.mapped = Some(Vec::new())));
        assert!(!lent(|host| host.isolation.privileged = true));
        assert!(!lent(|host| host.devices.cgroup_rules = Some(vec!["c 1:3 rwm".to_owned()])));
        assert!(!lent(|host| host.isolation.cap_add = Some(vec!["NET_ADMIN".to_owned()])));
        assert!(!lent(|host| host.isolation.unconfined_paths = true));
        assert!(!lent(|host| host.isolation.masked_paths = Some(Vec::new())));
        assert!(!lent(|host| host.isolation.seccomp = SeccompChoice::Unconfined));
        assert!(!lent(|host| host.isolation.apparmor = "unconfined".to_owned()));
        assert!(!lent(|host| host.isolation.selinux = vec!["disable".to_owned()]));
        assert!(!lent(|host| host.isolation.readonly_paths = Some(Vec::new())));
        assert!(!lent(|host| host.isolation.userns_mode = "host".to_owned()));
        assert!(!lent(|host| host.isolation.pid_mode = NamespaceMode::Host));
        assert!(!lent(|host| host.isolation.ipc_mode = NamespaceMode::Shareable));
        assert!(!lent(|host| host.resources.network_shape.rate = Some(1)));
        assert!(!lent(|host| _ = host.sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned())));
    }
}
