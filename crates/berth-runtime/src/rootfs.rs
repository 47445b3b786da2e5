//! The container's file system, from the first mount to the switch of the root.
//!
//! The new root is mounted *over* the old one: a directory of the host keeps its place, needs no mount point, and stays
//! reachable by its path until the root is switched.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_oci::runtime::{Linux, Mount, RootfsPropagation};
use berth_sys::mount;
use berth_sys::mount::{AttributeChange, Attributes, Depth, Filesystem, Interface, Propagation};
use rustix::fs::{Mode, OFlags};

use crate::cgroup_view::CgroupView;
use crate::devices::DeviceMaker;
use crate::error::{RuntimeError, Step};
use crate::mount_options::MountOptions;
use crate::mounts::{self, PlannedMount, Source};
use crate::request::{CreateRequest, RootSwitch, Rootfs};

/// The file system to be.
#[derive(Debug)]
pub(crate) struct RootfsPlan<'a> {
    interface: Interface,
    linux: &'a Linux,
    root: Root<'a>,
    read_only: bool,
    mounts: Vec<PlannedMount<'a>>,
    cgroups: Option<(berth_cgroup::Layout, berth_cgroup::CgroupPath)>,
    /// The process may not make device nodes.
    user_namespace: bool,
    switch: RootSwitch,
}

#[derive(Debug)]
enum Root<'a> {
    Directory(PathBuf),
    Mounts(&'a [Mount]),
    Tree(BorrowedFd<'a>),
}

/// All that has to be opened before the container's mounts hide it.
#[derive(Debug)]
pub(crate) struct Sources {
    root: Vec<Source>,
    mounts: Vec<Source>,
    /// Where they were there already.
    cgroups: Option<CgroupView>,
}

impl<'a> RootfsPlan<'a> {
    /// Understands the configuration.
    pub(crate) fn new(
        request: &CreateRequest<'a>,
        linux: &'a Linux,
        user_namespace: bool,
    ) -> Result<RootfsPlan<'a>, RuntimeError> {
        let (spec, bundle) = (request.spec, request.bundle);
        let root = match request.rootfs {
            Rootfs::Directory(path) => Root::Directory(bundle.join(path)),
            Rootfs::Mounts(mounts) => Root::Mounts(mounts),
            Rootfs::Tree(tree) => Root::Tree(tree),
        };
        Ok(RootfsPlan {
            interface: request.mount_interface,
            linux,
            root,
            read_only: spec.root.as_ref().is_some_and(|root| root.readonly),
            mounts: mounts::plan(&spec.mounts, linux, bundle)?,
            cgroups: None,
            user_namespace,
            switch: request.root_switch,
        })
    }

    /// Tells where the container's cgroup is, once it is made.
    pub(crate) fn set_cgroup(&mut self, layout: &berth_cgroup::Layout, path: &berth_cgroup::CgroupPath) {
        let shown = self.first_of_cgroups() < self.mounts.len();
        self.cgroups = shown.then(|| (layout.clone(), path.clone()));
    }

    /// Which of the mounts is the first that shows cgroups; their number if none does.
    fn first_of_cgroups(&self) -> usize {
        let shows = |planned: &PlannedMount<'_>| matches!(planned.mount.kind.as_str(), "cgroup" | "cgroup2");
        self.mounts.iter().position(shows).unwrap_or(self.mounts.len())
    }

    /// Which system calls make the mounts.
    pub(crate) fn interface(&self) -> Interface {
        self.interface
    }

    /// Whether the sources are opened before the new process is there.
    pub(crate) fn opens_sources_outside(&self) -> bool {
        let needed = self.user_namespace || self.mounts.iter().any(PlannedMount::needs_host_rights);
        needed && self.interface != Interface::Classic
    }

    /// Opens the sources in the runtime's own namespaces, where only its rights will do; otherwise the new process does.
    pub(crate) fn open_sources_outside(&self) -> Result<Option<Sources>, RuntimeError> {
        if !self.opens_sources_outside() {
            return Ok(None);
        }
        let sources = Sources { cgroups: Some(self.open_cgroups()?), ..self.open_sources()? };
        let (propagation, depth) = self.host_propagation();
        for source in sources.root.iter().chain(&sources.mounts) {
            mounts::part_from_host(source, propagation, depth).step("setting propagation of a mount source", "")?;
        }
        Ok(Some(sources))
    }

    fn open_sources(&self) -> Result<Sources, RuntimeError> {
        let root = match &self.root {
            Root::Directory(path) => {
                vec![mounts::open_tree(self.interface, path, Depth::Tree).step("opening root file system", path)?]
            }
            Root::Mounts(list) => list.iter().map(|mount| self.create_root_mount(mount)).collect::<Result<_, _>>()?,
            Root::Tree(tree) => {
                let own = tree.try_clone_to_owned();
                vec![Source::Tree(own.step("taking the root file system", "")?)]
            }
        };
        let mounts = self.mounts.iter().map(|planned| planned.open_source(self.interface)).collect::<Result<_, _>>()?;
        Ok(Sources { root, mounts, cgroups: None })
    }

    fn open_cgroups(&self) -> Result<CgroupView, RuntimeError> {
        match &self.cgroups {
            Some((layout, path)) => CgroupView::open(self.interface, layout, path),
            None => Ok(CgroupView::hidden()),
        }
    }

    fn create_root_mount(&self, mount: &Mount) -> Result<Source, RuntimeError> {
        let options = MountOptions::parse(&mount.kind, &mount.options);
        if let Some(bind) = options.bind {
            let source = mounts::open_tree(self.interface, Path::new(&mount.source), bind.depth());
            return source.step("opening root file system", &mount.source);
        }
        if self.interface == Interface::Classic {
            return Ok(Source::None);
        }
        let filesystem = Filesystem { kind: &mount.kind, source: &mount.source, data: &options.data };
        match mount::create_filesystem(&filesystem, options.own.set) {
            Ok(tree) => Ok(Source::Tree(tree)),
            // Layers with long paths, on a kernel that cannot take them one by one: mount(2) takes them as one page.
            Err(error) if is_invalid(&error) && mount.kind == "overlay" => Ok(Source::None),
            Err(error) => Err(error).step("mounting the root file system", &mount.source),
        }
    }

    /// Builds everything below the new root, in the new mount namespace. The root is not switched yet.
    ///
    /// `join_cgroup` is called once, before the process's cgroups are shown and in any case before the end.
    pub(crate) fn build(
        &self,
        sources: Option<Sources>,
        join_cgroup: impl FnOnce() -> Result<(), RuntimeError>,
    ) -> Result<OwnedFd, RuntimeError> {
        let host = open_root()?;
        let (propagation, depth) = self.host_propagation();
        mount::set_propagation(self.interface, host.as_fd(), depth, propagation).step("setting propagation of", "/")?;
        let sources = match sources {
            Some(sources) => sources,
            None => self.open_sources()?,
        };
        // What is mounted over the old root must not show up in the host's.
        mount::set_propagation(self.interface, host.as_fd(), Depth::Single, Propagation::Private)
            .step("setting propagation of", "/")?;
        let root = self.attach_root(host.as_fd(), &sources.root)?;
        let (before, after) = self.mounts.split_at(self.first_of_cgroups());
        let mut attach = sources.mounts.iter();
        let mut attach_all = |mounts: &[PlannedMount<'_>], cgroups: &CgroupView| {
            mounts
                .iter()
                .zip(&mut attach)
                .try_for_each(|(planned, source)| planned.attach(self.interface, root.as_fd(), source, cgroups))
        };
        attach_all(before, &CgroupView::hidden())?;
        join_cgroup()?;
        // The paths of the host are still those of this process: its root is only covered.
        let cgroups = sources.cgroups.map_or_else(|| self.open_cgroups(), Ok)?;
        attach_all(after, &cgroups)?;
        if !self.mounts.iter().any(PlannedMount::binds_dev) {
            let maker = DeviceMaker { root: root.as_fd(), interface: self.interface, bind: self.user_namespace };
            maker.make_all(&self.linux.devices)?;
        }
        Ok(root)
    }

    fn attach_root(&self, host: BorrowedFd<'_>, sources: &[Source]) -> Result<OwnedFd, RuntimeError> {
        for (index, source) in sources.iter().enumerate() {
            let shown = self.root_shown(index);
            let result = match source {
                Source::Tree(tree) => mount::attach(tree, host),
                Source::Place(place) => mount::bind(self.interface, place.as_fd(), Depth::Tree, host),
                Source::None => self.mount_root_classic(index, host),
            };
            result.step("mounting the root file system", shown)?;
        }
        let root = mount::open_over_root().step("opening the new root", "")?;
        // Mounts of the container are its own affair, unless the configuration shares them at the end.
        mount::set_propagation(self.interface, root.as_fd(), Depth::Tree, self.inner_propagation())
            .step("setting propagation of", "the new root")?;
        Ok(root)
    }

    fn mount_root_classic(&self, index: usize, host: BorrowedFd<'_>) -> std::io::Result<()> {
        let Root::Mounts(list) = &self.root else { return Ok(()) };
        let mount = &list[index];
        let options = MountOptions::parse(&mount.kind, &mount.options);
        let filesystem = Filesystem { kind: &mount.kind, source: &mount.source, data: &options.data };
        mount::mount_filesystem(Interface::Classic, &filesystem, options.own.set, host)
    }

    fn root_shown(&self, index: usize) -> &Path {
        match &self.root {
            Root::Directory(path) => path,
            Root::Mounts(list) => list.get(index).map_or(Path::new(""), |mount| Path::new(&mount.source)),
            Root::Tree(_) => Path::new("given by the caller"),
        }
    }

    /// Makes `root` the root of the process.
    pub(crate) fn switch(&self, root: &OwnedFd) -> Result<(), RuntimeError> {
        match self.switch {
            RootSwitch::Pivot => mount::pivot_into(root.as_fd()).step("switching the root by pivot_root", ""),
            RootSwitch::Chroot => mount::chroot_into(root.as_fd()).step("switching the root by chroot", ""),
        }
    }

    /// What is left for the end: read-only mounts, the root's propagation and whether it can be written.
    pub(crate) fn finish(&self, root: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        for planned in &self.mounts {
            planned.finish(self.interface, root)?;
        }
        if let Some(wanted) = self.linux.rootfs_propagation {
            let (propagation, depth) = propagation_of(wanted);
            mount::set_propagation(self.interface, root, depth, propagation).step("setting propagation of", "/")?;
        }
        if self.read_only {
            let change = AttributeChange { set: Attributes::READ_ONLY, ..AttributeChange::default() };
            mount::change_attached(self.interface, root, Depth::Single, &change).step("making read-only", "/")?;
        }
        Ok(())
    }

    /// What the copies of the host's mounts become: they receive what is mounted there, unless the configuration says more.
    fn host_propagation(&self) -> (Propagation, Depth) {
        match self.linux.rootfs_propagation {
            None => (Propagation::Slave, Depth::Tree),
            // An unbindable host could not be bound from.
            Some(RootfsPropagation::Unbindable | RootfsPropagation::Runbindable) => (Propagation::Private, Depth::Tree),
            Some(wanted) => propagation_of(wanted),
        }
    }

    fn inner_propagation(&self) -> Propagation {
        match self.host_propagation().0 {
            Propagation::Slave => Propagation::Slave,
            _ => Propagation::Private,
        }
    }
}

/// Opens the root of the process.
pub(crate) fn open_root() -> Result<OwnedFd, RuntimeError> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step("opening", "/")
}

fn propagation_of(wanted: RootfsPropagation) -> (Propagation, Depth) {
    match wanted {
        RootfsPropagation::Shared => (Propagation::Shared, Depth::Single),
        RootfsPropagation::Slave => (Propagation::Slave, Depth::Single),
        RootfsPropagation::Private => (Propagation::Private, Depth::Single),
        RootfsPropagation::Unbindable => (Propagation::Unbindable, Depth::Single),
        RootfsPropagation::Rshared => (Propagation::Shared, Depth::Tree),
        RootfsPropagation::Rslave => (Propagation::Slave, Depth::Tree),
        RootfsPropagation::Rprivate => (Propagation::Private, Depth::Tree),
        RootfsPropagation::Runbindable => (Propagation::Unbindable, Depth::Tree),
    }
}

fn is_invalid(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}
