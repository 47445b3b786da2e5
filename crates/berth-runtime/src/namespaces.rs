//! Which namespaces of a container are new, which are joined, and which are the runtime's own.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_oci::runtime::{IdMapping, Linux, NamespaceType, TimeOffset};
use berth_sys::namespace::{self, Namespace, Namespaces};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use crate::error::{RuntimeError, Step};
use crate::procfs::Procfs;

/// The namespaces of a container.
#[derive(Debug)]
pub(crate) struct NamespacePlan<'a> {
    /// Those that are made.
    pub(crate) created: Namespaces,
    /// Those that are joined.
    joined: Vec<Joined<'a>>,
    uid_mappings: &'a [IdMapping],
    gid_mappings: &'a [IdMapping],
    offsets: Vec<(&'a str, TimeOffset)>,
}

#[derive(Debug)]
struct Joined<'a> {
    kind: Namespace,
    path: PathBuf,
    handle: Handle<'a>,
}

#[derive(Debug)]
enum Handle<'a> {
    Opened(OwnedFd),
    Given(BorrowedFd<'a>),
}

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Handle::Opened(opened) => opened.as_fd(),
            Handle::Given(given) => *given,
        }
    }
}

impl<'a> NamespacePlan<'a> {
    /// Reads the plan from the configuration; `network` takes the place of its network namespace.
    pub(crate) fn new(linux: &'a Linux, network: Option<BorrowedFd<'a>>) -> Result<NamespacePlan<'a>, RuntimeError> {
        let mut plan = NamespacePlan {
            created: Namespaces::NONE,
            joined: Vec::new(),
            uid_mappings: &linux.uid_mappings,
            gid_mappings: &linux.gid_mappings,
            offsets: linux.time_offsets.iter().map(|(clock, offset)| (clock.as_str(), *offset)).collect(),
        };
        if let Some(prepared) = network {
            plan.join(Namespace::Network, PathBuf::new(), Handle::Given(prepared));
        }
        let mut seen = Namespaces::NONE;
        for entry in &linux.namespaces {
            let kind = kind_of(entry.kind);
            if seen.contains(kind) {
                return Err(RuntimeError::invalid("linux.namespaces", format!("{} is listed twice", kind.file_name())));
            }
            seen = seen.with(kind);
            if kind == Namespace::Network && network.is_some() {
                continue;
            }
            plan.add(kind, entry.path.as_deref())?;
        }
        plan.check()?;
        Ok(plan)
    }

    fn add(&mut self, kind: Namespace, path: Option<&Path>) -> Result<(), RuntimeError> {
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            self.created = self.created.with(kind);
            return Ok(());
        };
        let handle = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let handle = handle.step("opening namespace", path)?;
        // A path to our own namespace asks for nothing: entering one's own user namespace is even refused.
        if !is_own(handle.as_fd(), kind) {
            self.join(kind, path.to_owned(), Handle::Opened(handle));
        }
        Ok(())
    }

    fn join(&mut self, kind: Namespace, path: PathBuf, handle: Handle<'a>) {
        self.joined.push(Joined { kind, path, handle });
    }

    fn check(&self) -> Result<(), RuntimeError> {
        if self.created.contains(Namespace::User) && (self.uid_mappings.is_empty() || self.gid_mappings.is_empty()) {
            let reason = "a new user namespace needs uidMappings and gidMappings";
            return Err(RuntimeError::invalid("linux.uidMappings", reason));
        }
        if !self.offsets.is_empty() && !self.created.contains(Namespace::Time) {
            return Err(RuntimeError::invalid("linux.timeOffsets", "offsets need a new time namespace"));
        }
        Ok(())
    }

    /// Whether the container has a namespace of this kind that is not the runtime's.
    pub(crate) fn separates(&self, kind: Namespace) -> bool {
        self.created.contains(kind) || self.joined(kind).is_some()
    }

    /// All kinds that are not the runtime's, for processes that enter later.
    pub(crate) fn separated(&self) -> Namespaces {
        Namespace::ALL.into_iter().filter(|kind| self.separates(*kind)).collect()
    }

    /// The handle of a joined namespace.
    pub(crate) fn joined(&self, kind: Namespace) -> Option<BorrowedFd<'_>> {
        self.joined.iter().find(|joined| joined.kind == kind).map(|joined| joined.handle.as_fd())
    }

    /// What clone3(2) makes: not the cgroup namespace, whose root is where one is when it is made, and not the time
    /// namespace, whose offsets are fixed once somebody is inside.
    pub(crate) fn at_clone(&self) -> Namespaces {
        self.created.without(Namespace::Cgroup).without(Namespace::Time)
    }

    /// Enters the joined namespaces, except user and pid, in which the process was born.
    pub(crate) fn enter_joined(&self) -> Result<(), RuntimeError> {
        for kind in Namespace::ALL {
            if matches!(kind, Namespace::User | Namespace::Pid) {
                continue;
            }
            if let Some(joined) = self.joined.iter().find(|joined| joined.kind == kind) {
                namespace::enter(joined.handle.as_fd(), kind).step(joining(kind), &joined.path)?;
            }
        }
        Ok(())
    }

    /// Makes and enters the time namespace, with its offsets. See time_namespaces(7).
    pub(crate) fn enter_new_time(&self, procfs: &Procfs) -> Result<(), RuntimeError> {
        if !self.created.contains(Namespace::Time) {
            return Ok(());
        }
        namespace::unshare(Namespaces::NONE.with(Namespace::Time)).step("making the time namespace", "")?;
        if !self.offsets.is_empty() {
            let mut lines = String::new();
            for (clock, offset) in &self.offsets {
                let _ = writeln!(lines, "{clock} {} {}", offset.secs, offset.nanosecs);
            }
            procfs.write_own("timens_offsets", &lines)?;
        }
        let children = procfs.open_own("ns/time_for_children")?;
        namespace::enter(children.as_fd(), Namespace::Time).step("entering the time namespace", "")
    }

    /// Makes the cgroup namespace, once the process is in its cgroup.
    pub(crate) fn enter_new_cgroup(&self) -> Result<(), RuntimeError> {
        if !self.created.contains(Namespace::Cgroup) {
            return Ok(());
        }
        namespace::unshare(Namespaces::NONE.with(Namespace::Cgroup)).step("making the cgroup namespace", "")
    }

    /// Writes the id maps of a new user namespace, from outside. See user_namespaces(7).
    pub(crate) fn write_maps(&self, pid: Pid) -> Result<(), RuntimeError> {
        write_map(pid, "gid_map", self.gid_mappings)?;
        write_map(pid, "uid_map", self.uid_mappings)
    }
}

fn write_map(pid: Pid, file: &str, mappings: &[IdMapping]) -> Result<(), RuntimeError> {
    let mut lines = String::new();
    for mapping in mappings {
        let _ = writeln!(lines, "{} {} {}", mapping.container_id, mapping.host_id, mapping.size);
    }
    let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
    std::fs::write(&path, lines).step("writing", path)
}

/// A user namespace with the given mappings, held by its descriptor alone: for idmapped mounts.
pub(crate) fn user_namespace_of(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd, RuntimeError> {
    use berth_sys::clone::{CloneRequest, Cloned, exit_now};
    let request = CloneRequest { namespaces: Namespaces::NONE.with(Namespace::User), ..CloneRequest::default() };
    let (gate, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("making a pipe", "")?;
    let (pid, pidfd) = match request.run().step("making a user namespace", "")? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(held);
            let _ = rustix::io::read(&gate, &mut [0_u8; 1]); // Ends when the maker has what it wants.
            exit_now(0)
        }
    };
    let result = write_map(pid, "gid_map", gids).and_then(|()| write_map(pid, "uid_map", uids)).and_then(|()| {
        let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
        rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step("opening", path)
    });
    drop(held);
    crate::launch::reap(&pidfd);
    result
}

/// Whether an open namespace is the one the caller is in.
fn is_own(namespace: BorrowedFd<'_>, kind: Namespace) -> bool {
    let own = rustix::fs::stat(format!("/proc/self/ns/{}", kind.file_name()));
    let Ok((own, other)) = own.and_then(|own| Ok((own, rustix::fs::fstat(namespace)?))) else { return false };
    (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)
}

fn joining(kind: Namespace) -> &'static str {
    match kind {
        Namespace::User => "joining user namespace",
        Namespace::Mount => "joining mount namespace",
        Namespace::Pid => "joining pid namespace",
        Namespace::Network => "joining network namespace",
        Namespace::Ipc => "joining ipc namespace",
        Namespace::Uts => "joining uts namespace",
        Namespace::Cgroup => "joining cgroup namespace",
        Namespace::Time => "joining time namespace",
    }
}

/// The kind that the configuration names.
pub(crate) fn kind_of(kind: NamespaceType) -> Namespace {
    match kind {
        NamespaceType::Pid => Namespace::Pid,
        NamespaceType::Network => Namespace::Network,
        NamespaceType::Mount => Namespace::Mount,
        NamespaceType::Ipc => Namespace::Ipc,
        NamespaceType::Uts => Namespace::Uts,
        NamespaceType::User => Namespace::User,
        NamespaceType::Cgroup => Namespace::Cgroup,
        NamespaceType::Time => Namespace::Time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(json: &str) -> Linux {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_kind_may_be_listed_once() {
        let twice = linux(r#"{"namespaces":[{"type":"pid"},{"type":"pid"}]}"#);
        assert!(NamespacePlan::new(&twice, None).unwrap_err().to_string().contains("pid is listed twice"));
    }

    #[test]
    fn a_path_to_the_own_namespace_asks_for_nothing() {
        let own = linux(r#"{"namespaces":[{"type":"network","path":"/proc/self/ns/net"},{"type":"uts"}]}"#);
        let plan = NamespacePlan::new(&own, None).unwrap();
        assert!(!plan.separates(Namespace::Network));
        assert!(plan.separates(Namespace::Uts));
    }

    #[test]
    fn a_user_namespace_needs_maps_and_offsets_need_a_time_namespace() {
        assert!(NamespacePlan::new(&linux(r#"{"namespaces":[{"type":"user"}]}"#), None).is_err());
        assert!(NamespacePlan::new(&linux(r#"{"timeOffsets":{"boottime":{"secs":1}}}"#), None).is_err());
    }
}
