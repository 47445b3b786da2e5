//! The mounts of a configuration: planned outside, sources opened in the host's view, attached below the container's root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use berth_oci::runtime::{IdMapping, Linux, Mount};
use berth_sys::mount::{AttributeChange, Attributes, Depth, Filesystem, Interface, Propagation};
use berth_sys::{mount, rooted};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::cgroup_view::CgroupView;
use crate::copy_up;
use crate::error::{RuntimeError, Step};
use crate::foreign::ForeignPath;
use crate::mount_options::{Bind, Change, MountOptions};
use crate::namespaces::user_namespace_of;
use crate::procfs::is_procfs;

/// One mount, understood.
#[derive(Debug)]
pub(crate) struct PlannedMount<'a> {
    pub(crate) mount: &'a Mount,
    pub(crate) options: MountOptions,
    /// For a bind mount: what is bound, absolute.
    source: PathBuf,
    /// For an idmapped mount: the mapping's user namespace.
    mapping: Option<OwnedFd>,
}

/// Users, then groups.
type Mapping<'a> = (&'a [IdMapping], &'a [IdMapping]);

/// What was opened for a mount before its root was switched.
#[derive(Debug)]
pub(crate) enum Source {
    /// A detached copy of the tree to bind.
    Tree(OwnedFd),
    /// A path descriptor of what to bind.
    Place(OwnedFd),
    /// Nothing: a file system that is mounted anew.
    None,
}

/// Files of procfs over which a bind mount may lie: each only informs. Anything else there could fool the runtime or the container.
const PROC_FILES: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Understands all mounts of a configuration; relative sources count from `bundle`.
pub(crate) fn plan<'a>(
    mounts: &'a [Mount],
    linux: &Linux,
    bundle: &Path,
) -> Result<Vec<PlannedMount<'a>>, RuntimeError> {
    mounts.iter().enumerate().map(|(index, mount)| PlannedMount::new(mount, linux, bundle, index)).collect()
}

impl<'a> PlannedMount<'a> {
    fn new(mount: &'a Mount, linux: &Linux, bundle: &Path, index: usize) -> Result<PlannedMount<'a>, RuntimeError> {
        let invalid = |reason: String| RuntimeError::invalid(format!("mounts[{index}]"), reason);
        let options = MountOptions::parse(&mount.kind, &mount.options);
        if mount.destination.as_os_str().is_empty() {
            return Err(invalid("has no destination".to_owned()));
        }
        if options.bind.is_none() && (mount.kind.is_empty() || mount.kind == "none") {
            return Err(invalid(format!("{:?} has neither a type nor the option bind", mount.destination)));
        }
        if options.bind.is_some() && mount.source.is_empty() {
            return Err(invalid(format!("{:?} binds no source", mount.destination)));
        }
        if options.copy_up && mount.kind != "tmpfs" {
            return Err(invalid(format!("{:?}: tmpcopyup is for tmpfs alone", mount.destination)));
        }
        let mapping = Self::mapping(mount, &options, linux).map_err(invalid)?;
        let mapping = mapping.map(|(uids, gids)| user_namespace_of(uids, gids)).transpose()?;
        Ok(PlannedMount { mount, options, source: bundle.join(&mount.source), mapping })
    }

    /// The mapping of an idmapped mount: its own, or the container's.
    fn mapping<'m>(mount: &'m Mount, options: &MountOptions, linux: &'m Linux) -> Result<Option<Mapping<'m>>, String> {
        let own = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
        if options.idmap.is_none() && !own {
            return Ok(None);
        }
        if options.bind.is_none() {
            return Err(format!("{:?}: only a bind mount can be idmapped", mount.destination));
        }
        let (uids, gids) =
            if own { (&mount.uid_mappings, &mount.gid_mappings) } else { (&linux.uid_mappings, &linux.gid_mappings) };
        if uids.is_empty() || gids.is_empty() {
            return Err(format!("{:?}: an idmapped mount needs uidMappings and gidMappings", mount.destination));
        }
        Ok(Some((uids, gids)))
    }

    /// Whether it can only be opened with the rights of the host.
    pub(crate) fn needs_host_rights(&self) -> bool {
        self.mapping.is_some() || (self.options.bind.is_some() && ForeignPath::of(&self.source).is_some())
    }

    /// Whether it covers all of `/dev` with something of the host.
    pub(crate) fn binds_dev(&self) -> bool {
        self.options.bind.is_some() && lexical(&self.mount.destination) == Path::new("/dev")
    }

    fn is_cgroup(&self) -> bool {
        self.options.bind.is_none() && matches!(self.mount.kind.as_str(), "cgroup" | "cgroup2")
    }

    /// Opens what is bound, before mounts of the container can hide it.
    pub(crate) fn open_source(&self, interface: Interface) -> Result<Source, RuntimeError> {
        let Some(bind) = self.options.bind else { return Ok(Source::None) };
        if let (Some(foreign), Interface::Modern) = (ForeignPath::of(&self.source), interface) {
            let tree = foreign.clone_tree(bind.depth()).step("copying a mount of another process", &self.source)?;
            return Ok(Source::Tree(tree));
        }
        open_tree(interface, &self.source, bind.depth()).step("opening bind source", &self.source)
    }

    /// Mounts it below `root`.
    pub(crate) fn attach(
        &self,
        interface: Interface,
        root: BorrowedFd<'_>,
        source: &Source,
        cgroups: &CgroupView,
    ) -> Result<(), RuntimeError> {
        if self.is_cgroup() {
            return cgroups.mount(interface, root, &self.mount.destination, &self.options);
        }
        match source {
            Source::Tree(tree) => self.attach_tree(interface, root, tree),
            Source::Place(place) => self.bind_place(interface, root, place),
            Source::None => self.mount_new(interface, root),
        }
    }

    fn destination(&self) -> &Path {
        &self.mount.destination
    }

    fn attach_tree(&self, interface: Interface, root: BorrowedFd<'_>, tree: &OwnedFd) -> Result<(), RuntimeError> {
        let target = self.make_target(root, Some(tree))?;
        self.change(interface, tree)?;
        mount::attach(tree, target.as_fd()).step("mounting at", self.destination())
    }

    /// All that mount_setattr(2) does, on a tree that is attached nowhere yet.
    fn change(&self, interface: Interface, tree: &OwnedFd) -> Result<(), RuntimeError> {
        let step = "changing attributes of the mount at";
        if let Some(mapping) = &self.mapping {
            let depth = self.options.idmap.unwrap_or(Bind::One).depth();
            let change = AttributeChange { user_namespace: Some(mapping.as_fd()), ..AttributeChange::default() };
            mount::change_attributes(tree, depth, &change).step("mapping ids of the mount at", self.destination())?;
        }
        // Mounted anew, the file system has its own attributes already.
        if self.options.bind.is_some() {
            mount::change_attributes(tree, Depth::Single, &change(self.options.own)).step(step, self.destination())?;
        }
        mount::change_attributes(tree, Depth::Tree, &change(self.options.tree)).step(step, self.destination())?;
        self.propagate(interface, tree.as_fd())
    }

    fn propagate(&self, interface: Interface, mounted: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        for (propagation, reach) in &self.options.propagation {
            mount::set_propagation(interface, mounted, reach.depth(), *propagation)
                .step("setting propagation of the mount at", self.destination())?;
        }
        Ok(())
    }

    fn bind_place(&self, interface: Interface, root: BorrowedFd<'_>, place: &OwnedFd) -> Result<(), RuntimeError> {
        let target = self.make_target(root, Some(place))?;
        let depth = self.options.bind.unwrap_or(Bind::One).depth();
        let reopen = || rooted::open(root, self.destination(), OFlags::PATH, Mode::empty());
        mount::bind_changed(interface, place.as_fd(), depth, &change(self.options.own), target.as_fd(), reopen)
            .step("mounting at", self.destination())?;
        self.change_attached(interface, root)
    }

    fn mount_new(&self, interface: Interface, root: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        let target = self.make_target(root, None)?;
        let mut attributes = self.options.own.set;
        if self.is_finished_late() {
            attributes = attributes.without(Attributes::READ_ONLY);
        }
        let source = if self.mount.source.is_empty() { &self.mount.kind } else { &self.mount.source };
        let filesystem = Filesystem { kind: &self.mount.kind, source, data: &self.options.data };
        let step = || -> &'static str { mounting(&self.mount.kind) };
        let below = if self.options.copy_up { Some(copy_up::open(&target, self.destination())?) } else { None };
        if interface == Interface::Modern {
            let tree = mount::create_filesystem(&filesystem, attributes).step(step(), self.destination())?;
            self.change(interface, &tree)?;
            mount::attach(&tree, target.as_fd()).step(step(), self.destination())?;
        } else {
            mount::mount_filesystem(interface, &filesystem, attributes, target.as_fd())
                .step(step(), self.destination())?;
            self.change_attached(interface, root)?;
        }
        match below {
            Some(below) => copy_up::copy(&below, root, self.destination()),
            None => Ok(()),
        }
    }

    /// With mount(2) the changes come after the mount.
    fn change_attached(&self, interface: Interface, root: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        if self.options.tree.is_empty() && self.options.propagation.is_empty() {
            return Ok(());
        }
        let mounted =
            rooted::open(root, self.destination(), OFlags::PATH, Mode::empty()).step("opening", self.destination())?;
        mount::change_attached(interface, mounted.as_fd(), Depth::Tree, &change(self.options.tree))
            .step("changing attributes of the mount at", self.destination())?;
        self.propagate(interface, mounted.as_fd())
    }

    /// A read-only tmpfs is filled first: with mount points, device nodes, copies.
    fn is_finished_late(&self) -> bool {
        self.mount.kind == "tmpfs"
            && self.options.bind.is_none()
            && self.options.own.set.contains(Attributes::READ_ONLY)
    }

    /// Makes it read-only after all, once everything below is in place.
    pub(crate) fn finish(&self, interface: Interface, root: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        if !self.is_finished_late() {
            return Ok(());
        }
        let mounted =
            rooted::open(root, self.destination(), OFlags::PATH, Mode::empty()).step("opening", self.destination())?;
        let change = AttributeChange { set: Attributes::READ_ONLY, ..AttributeChange::default() };
        mount::change_attached(interface, mounted.as_fd(), Depth::Single, &change)
            .step("making read-only the mount at", self.destination())
    }

    /// Opens the mount point, making it where it is missing: a file for a file, a directory for all else.
    fn make_target(&self, root: BorrowedFd<'_>, source: Option<&OwnedFd>) -> Result<OwnedFd, RuntimeError> {
        let destination = self.destination();
        self.refuse_linked(root)?;
        let is_file = source.is_some_and(|source| !is_directory(source));
        let target = if is_file {
            rooted::make_file(root, destination, Mode::from_raw_mode(0o755))
        } else {
            rooted::make_directories(root, destination, Mode::from_raw_mode(0o755))
        };
        let mismatch =
            || RuntimeError::MountMismatch { source_path: self.source.clone(), destination: destination.to_owned() };
        let target = match target {
            Err(error) if source.is_some() && error.kind() == io::ErrorKind::NotADirectory => return Err(mismatch()),
            target => target.step("making mount point", destination)?,
        };
        if is_file && is_directory(&target) {
            return Err(mismatch());
        }
        self.guard_procfs(&target, source)?;
        Ok(target)
    }

    /// `/proc` and `/sys` must be where they say: a link in the image would leave the runtime masking something else.
    fn refuse_linked(&self, root: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        if !matches!(self.mount.kind.as_str(), "proc" | "sysfs") {
            return Ok(());
        }
        let relative = lexical(self.destination());
        let relative = relative.strip_prefix("/").unwrap_or(&relative);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match rooted::open_plain(root, relative, flags, Mode::empty()) {
            Err(error) if linked(&error) => {
                let reason = format!("{} must be mounted on an ordinary directory", self.mount.kind);
                Err(RuntimeError::invalid(format!("mounts {:?}", self.destination()), reason))
            }
            _ => Ok(()),
        }
    }

    fn guard_procfs(&self, target: &OwnedFd, source: Option<&OwnedFd>) -> Result<(), RuntimeError> {
        let refuse = || {
            let reason = "cannot be mounted because it is inside /proc";
            Err(RuntimeError::invalid(format!("mounts {:?}", self.destination()), reason))
        };
        let over_proc = lexical(self.destination()) == Path::new("/proc");
        if over_proc && source.is_some_and(|source| !is_procfs(source)) {
            return refuse();
        }
        if over_proc || self.mount.kind == "proc" || !is_procfs(target) {
            return Ok(());
        }
        let path = std::fs::read_link(mount::descriptor_path(target.as_fd())).unwrap_or_default();
        if PROC_FILES.iter().any(|file| path == Path::new("/proc").join(file)) { Ok(()) } else { refuse() }
    }
}

/// Opens what is to be bound: as a copy that later changes of our mounts do not reach, where the kernel can.
pub(crate) fn open_tree(interface: Interface, path: &Path, depth: Depth) -> io::Result<Source> {
    match interface {
        Interface::Modern => Ok(Source::Tree(mount::clone_tree_at(path, depth)?)),
        Interface::Classic => {
            Ok(Source::Place(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
        }
    }
}

/// A tree that was copied in the host's namespace is a peer there: it becomes what the host's tree becomes inside.
pub(crate) fn part_from_host(source: &Source, propagation: Propagation, depth: Depth) -> io::Result<()> {
    match source {
        Source::Tree(tree) => mount::set_propagation(Interface::Modern, tree.as_fd(), depth, propagation),
        _ => Ok(()),
    }
}

fn change(change: Change) -> AttributeChange<'static> {
    AttributeChange { clear: change.clear, set: change.set, user_namespace: None }
}

fn is_directory(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

fn linked(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn mounting(kind: &str) -> &'static str {
    match kind {
        "proc" => "mounting proc at",
        "sysfs" => "mounting sysfs at",
        "tmpfs" => "mounting tmpfs at",
        "devpts" => "mounting devpts at",
        "mqueue" => "mounting mqueue at",
        "overlay" => "mounting overlay at",
        _ => "mounting at",
    }
}

/// The path as it is meant, `.` and `..` taken out by the letter.
pub(crate) fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        let mounts: Vec<Mount> = serde_json::from_str(json).unwrap();
        plan(&mounts, &Linux::default(), Path::new("/bundle")).unwrap_err().to_string()
    }

    #[test]
    fn mounts_that_make_no_sense_are_refused_before_anything_is_made() {
        assert!(refusal(r#"[{"destination":"/x"}]"#).contains("neither a type nor the option bind"));
        assert!(refusal(r#"[{"destination":"/x","type":"bind"}]"#).contains("binds no source"));
        assert!(refusal(r#"[{"type":"tmpfs"}]"#).contains("no destination"));
        assert!(refusal(r#"[{"destination":"/x","type":"proc","options":["tmpcopyup"]}]"#).contains("tmpfs alone"));
        assert!(
            refusal(r#"[{"destination":"/x","type":"bind","source":"y","options":["idmap"]}]"#).contains("uidMappings")
        );
    }

    #[test]
    fn relative_sources_count_from_the_bundle() {
        let mounts: Vec<Mount> =
            serde_json::from_str(r#"[{"destination":"/x","type":"bind","source":"data"}]"#).unwrap();
        let planned = plan(&mounts, &Linux::default(), Path::new("/bundle")).unwrap();
        assert_eq!(planned[0].source, Path::new("/bundle/data"));
    }

    #[test]
    fn paths_are_cleaned_by_the_letter() {
        assert_eq!(lexical(Path::new("/dev/../etc/./x/")), Path::new("/etc/x"));
        assert_eq!(lexical(Path::new("../../a")), Path::new("/a"));
    }
}
