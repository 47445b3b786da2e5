//! What a container sees of its control groups at `/sys/fs/cgroup`.
//!
//! On v2 the one hierarchy, rooted where its cgroup namespace is; on v1 a small tmpfs with the container's own directory of each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_cgroup::Version;
use berth_sys::mount::{AttributeChange, Attributes, Depth, Filesystem, Interface};
use berth_sys::{mount, rooted};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{RuntimeError, Step};
use crate::mount_options::MountOptions;
use crate::mounts::{Source, open_tree};

/// The container's own directories, opened in the host's view.
#[derive(Debug)]
pub(crate) struct CgroupView {
    version: Version,
    directories: Vec<Directory>,
}

/// The container's directory in one hierarchy.
#[derive(Debug)]
struct Directory {
    /// The name of the hierarchy's mount point.
    name: String,
    /// Its controllers; each gets a link where the name is another.
    controllers: Vec<String>,
    source: Source,
}

impl CgroupView {
    /// Opens the directories at `path` in each hierarchy; does nothing unless a mount will show them.
    pub(crate) fn open(
        interface: Interface,
        layout: &berth_cgroup::Layout,
        path: &berth_cgroup::CgroupPath,
    ) -> Result<CgroupView, RuntimeError> {
        let open = |hierarchy: &berth_cgroup::Hierarchy| {
            let mount_point = hierarchy.mount_point();
            let directory = mount_point.join(path.as_str().trim_start_matches('/'));
            let source = open_tree(interface, &directory, Depth::Single).step("opening cgroup", &directory)?;
            let name = mount_point.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Directory { name, controllers: hierarchy.controllers().to_vec(), source })
        };
        let directories = layout.hierarchies().iter().map(open).collect::<Result<Vec<_>, RuntimeError>>()?;
        Ok(CgroupView { version: layout.version(), directories })
    }

    /// A view of nothing, for a container that does not show its cgroups.
    pub(crate) fn hidden() -> CgroupView {
        CgroupView { version: Version::V2, directories: Vec::new() }
    }

    /// Mounts the view below `root`.
    pub(crate) fn mount(
        &self,
        interface: Interface,
        root: BorrowedFd<'_>,
        destination: &Path,
        options: &MountOptions,
    ) -> Result<(), RuntimeError> {
        let mode = Mode::from_raw_mode(0o755);
        let target = rooted::make_directories(root, destination, mode).step("making mount point", destination)?;
        match self.version {
            Version::V2 => self.mount_v2(interface, root, target.as_fd(), destination, options),
            Version::V1 => self.mount_v1(interface, root, target.as_fd(), destination, options),
        }
    }

    fn mount_v2(
        &self,
        interface: Interface,
        root: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        destination: &Path,
        options: &MountOptions,
    ) -> Result<(), RuntimeError> {
        let cgroup2 = Filesystem { kind: "cgroup2", source: "cgroup", data: &options.data };
        match mount::mount_filesystem(interface, &cgroup2, options.own.set, target) {
            // Not allowed in a user namespace without a cgroup namespace of its own: then the own directory is bound.
            Err(error)
                if [Errno::PERM, Errno::BUSY]
                    .iter()
                    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
            {
                let Some(directory) = self.directories.first() else {
                    return Err(error).step("mounting cgroup2 at", destination);
                };
                let reopen = || rooted::open(root, destination, OFlags::PATH, Mode::empty());
                bind(interface, &directory.source, options, target, reopen, destination)
            }
            result => result.step("mounting cgroup2 at", destination),
        }
    }

    fn mount_v1(
        &self,
        interface: Interface,
        root: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        destination: &Path,
        options: &MountOptions,
    ) -> Result<(), RuntimeError> {
        let data = ["mode=0755".to_owned(), "size=64k".to_owned()];
        let tmpfs = Filesystem { kind: "tmpfs", source: "tmpfs", data: &data };
        let attributes = options.own.set.without(Attributes::READ_ONLY);
        let reopen = || rooted::open(root, destination, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let top = mount::mount_and_open(interface, &tmpfs, attributes, target, reopen);
        let top = top.step("mounting tmpfs at", destination)?;
        for directory in &self.directories {
            directory.show(interface, top.as_fd(), options, destination)?;
        }
        // What was copied as a tree gets its attributes here, all at once; what mount(2) has bound has its own already.
        let depth = if interface == Interface::Modern { Depth::Tree } else { Depth::Single };
        mount::change_attached(interface, top.as_fd(), depth, &set(options))
            .step("changing attributes of the mount at", destination)
    }
}

impl Directory {
    fn show(
        &self,
        interface: Interface,
        top: BorrowedFd<'_>,
        options: &MountOptions,
        destination: &Path,
    ) -> Result<(), RuntimeError> {
        let shown: PathBuf = destination.join(&self.name);
        rustix::fs::mkdirat(top, self.name.as_str(), Mode::from_raw_mode(0o755)).step("making", &shown)?;
        match &self.source {
            Source::Tree(tree) => mount::attach_in(tree, top, &self.name).step("binding cgroup at", &shown)?,
            source => {
                let open = || -> io::Result<OwnedFd> {
                    Ok(rustix::fs::openat(top, self.name.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
                };
                bind(interface, source, options, open().step("opening", &shown)?.as_fd(), open, &shown)?;
            }
        }
        for controller in self.controllers.iter().filter(|name| !name.starts_with("name=") && **name != self.name) {
            rustix::fs::symlinkat(self.name.as_str(), top, controller.as_str())
                .step("linking", destination.join(controller))?;
        }
        Ok(())
    }
}

fn bind(
    interface: Interface,
    source: &Source,
    options: &MountOptions,
    target: BorrowedFd<'_>,
    reopen: impl FnOnce() -> io::Result<OwnedFd>,
    shown: &Path,
) -> Result<(), RuntimeError> {
    let change = set(options);
    let result = match source {
        Source::Tree(tree) => {
            mount::change_attributes(tree, Depth::Single, &change).and_then(|()| mount::attach(tree, target))
        }
        Source::Place(place) => mount::bind_changed(interface, place.as_fd(), Depth::Single, &change, target, reopen),
        Source::None => Ok(()),
    };
    result.step("binding cgroup at", shown)
}

fn set(options: &MountOptions) -> AttributeChange<'static> {
    AttributeChange { set: options.own.set, ..AttributeChange::default() }
}
