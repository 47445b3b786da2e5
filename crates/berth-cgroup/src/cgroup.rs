//! One container's cgroup: created, limited, joined, watched, removed.

use std::{
    io,
    path::{Path, PathBuf},
};

use berth_oci::runtime::{DeviceCgroup, LinuxResources};
use rustix::{fs::mkdir, io::Errno};

use crate::{
    block_io, control_file, cpu, cpuset, device_program,
    devices::{self, DeviceRules},
    error::{CgroupError, Warning},
    freezer, hugepages,
    join::{self, Join},
    layout::{Hierarchy, Layout, Version},
    memory, network,
    oom::{self, OomWatch},
    path::CgroupPath,
    pids, rdma,
    remove::remove_tree,
    settings::Settings,
    unified,
    usage::Usage,
    usage_v1, usage_v2,
};

/// Turns a controller on for the groups below; leaves must not have it written in themselves.
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";
const CONTROLLERS: &str = "cgroup.controllers";

/// The cgroup of one container: a directory in each hierarchy. Dropping it leaves the directories; [`remove`](Self::remove) ends them.
#[derive(Clone, Debug)]
pub struct Cgroup {
    layout: Layout,
    path: CgroupPath,
    /// Whether every directory of it was made by [`create`](Self::create): then each limit has the kernel's default.
    fresh: bool,
}

impl Cgroup {
    /// Makes the directories, and those above them where needed. An existing directory is taken if it is empty and not frozen.
    ///
    /// On v2 the controllers are enabled from the root down; on v1 the cpuset is filled from its parent. If one directory fails, those
    /// made before it are removed again.
    ///
    /// # Errors
    /// [`CgroupError::Create`], [`CgroupError::NotEmpty`], [`CgroupError::Frozen`].
    pub fn create(layout: &Layout, path: &CgroupPath) -> Result<Self, CgroupError> {
        let cgroup = Self::unmade(layout, path);
        let mut made = Vec::new();
        match cgroup.make_directories(&mut made) {
            Ok(()) => Ok(Self { fresh: made.len() == layout.hierarchies().len(), ..cgroup }),
            Err(error) => {
                // The first failure is the one to report; what cannot be taken back is empty and harmless.
                for dir in made {
                    let _ = rustix::fs::rmdir(dir);
                }
                Err(error)
            }
        }
    }

    /// The cgroup of a container that exists already.
    ///
    /// # Errors
    /// [`CgroupError::Missing`] if it is in none of the hierarchies.
    pub fn open(layout: &Layout, path: &CgroupPath) -> Result<Self, CgroupError> {
        let cgroup = Self::unmade(layout, path);
        if cgroup.directories().any(|(_, dir)| dir.is_dir()) {
            return Ok(cgroup);
        }
        Err(CgroupError::Missing { path: cgroup.members_directory() })
    }

    /// Its name, before anything of it is there.
    pub(crate) fn unmade(layout: &Layout, path: &CgroupPath) -> Self {
        Self { layout: layout.clone(), path: path.clone(), fresh: false }
    }

    /// Makes the directories that are missing, where only `first` was made.
    pub(crate) fn make_rest(&mut self, first: PathBuf) -> Result<(), CgroupError> {
        let mut made = vec![first];
        self.make_directories(&mut made)?;
        self.fresh = made.len() == self.layout.hierarchies().len();
        Ok(())
    }

    /// Where it is below the roots of the hierarchies.
    #[must_use]
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The interface it is made with.
    #[must_use]
    pub fn version(&self) -> Version {
        self.layout.version()
    }

    /// Its directory in each hierarchy.
    pub fn directories(&self) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        self.layout.hierarchies().iter().map(|hierarchy| (hierarchy, self.directory_in(hierarchy)))
    }

    /// Opens what a new process needs to join it.
    ///
    /// # Errors
    /// [`CgroupError::Missing`] if a directory is gone.
    pub fn join(&self) -> Result<Join, CgroupError> {
        match self.version() {
            Version::V1 => {
                let files = self.directories().map(|(_, dir)| join::open_v1(&dir));
                files.collect::<Result<_, _>>().map(Join::ByWriting)
            }
            Version::V2 => join::open_v2(&self.members_directory()).map(Join::ByClone),
        }
    }

    /// Moves the calling process, all its threads included, into the cgroup.
    ///
    /// # Errors
    /// [`CgroupError::Write`].
    pub fn enter(&self) -> Result<(), CgroupError> {
        self.directories().try_for_each(|(_, dir)| control_file::write(&dir, "cgroup.procs", "0"))
    }

    /// Applies the limits of a new container, its device rules included: those of the configuration, after them
    /// [`default_rules`](crate::default_rules).
    ///
    /// # Errors
    /// [`CgroupError`] for values that make no sense or that the kernel refuses. What it does not know is a warning.
    pub fn apply(&self, resources: &LinuxResources) -> Result<Vec<Warning>, CgroupError> {
        let warnings = match self.fresh {
            true => self.update(&without_defaults(resources))?,
            false => self.update(resources)?,
        };
        self.apply_devices(&resources.devices)?;
        Ok(warnings)
    }

    /// Changes the limits of a container: what is absent keeps its value, and device rules stay as they are.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<Warning>, CgroupError> {
        let mut warnings = Vec::new();
        match self.version() {
            Version::V1 => self.update_v1(resources, &mut warnings)?,
            Version::V2 => self.update_v2(resources, &mut warnings)?,
        }
        unified::apply(&self.members_directory(), &resources.unified, self.version())?;
        Ok(warnings)
    }

    /// Stops every process in the cgroup and below; returns once all have stopped.
    ///
    /// # Errors
    /// [`CgroupError::NotFrozen`] if they do not stop within two seconds (they run on), [`CgroupError::NoFreezer`].
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let dir = self.freezer_directory()?;
        match self.version() {
            Version::V1 => freezer::freeze_v1(&dir),
            Version::V2 => freezer::freeze_v2(&dir),
        }
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// [`CgroupError::NoFreezer`], [`CgroupError::Write`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let dir = self.freezer_directory()?;
        match self.version() {
            Version::V1 => freezer::thaw_v1(&dir),
            Version::V2 => freezer::thaw_v2(&dir),
        }
    }

    /// Whether it is frozen, or being frozen.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let Ok(dir) = self.freezer_directory() else { return Ok(false) };
        match self.version() {
            Version::V1 => freezer::is_frozen_v1(&dir),
            Version::V2 => freezer::is_frozen_v2(&dir),
        }
    }

    /// What it has used until now.
    ///
    /// # Errors
    /// [`CgroupError::Read`]. Files that this kernel does not have count as zero.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        match self.version() {
            Version::V1 => usage_v1::usage(self),
            Version::V2 => usage_v2::usage(&self.members_directory()),
        }
    }

    /// How many processes were killed in it for want of memory.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        match (self.version(), self.controller_directory("memory")) {
            (Version::V1, Some(dir)) => oom::kills_v1(&dir),
            (Version::V2, Some(dir)) => oom::kills_v2(&dir),
            (_, None) => Ok(0),
        }
    }

    /// Opens a descriptor that tells when it runs out of memory.
    ///
    /// # Errors
    /// [`CgroupError::Read`] without a memory controller.
    pub fn oom_watch(&self) -> Result<OomWatch, CgroupError> {
        match (self.version(), self.controller_directory("memory")) {
            (Version::V1, Some(dir)) => OomWatch::open_v1(&dir),
            (Version::V2, Some(dir)) => OomWatch::open_v2(&dir),
            (_, None) => {
                Err(CgroupError::Read { file: self.members_directory(), source: io::ErrorKind::NotFound.into() })
            }
        }
    }

    /// Removes it if nobody is in it and there are no groups below, and tells whether that was so. What is gone already is no error.
    ///
    /// # Errors
    /// [`CgroupError::Remove`].
    pub fn remove_if_empty(&self) -> Result<bool, CgroupError> {
        let members = self.members_directory();
        // First where the processes of every hierarchy are: while there are any, nothing is removed.
        let others = self.directories().map(|(_, dir)| dir).filter(|dir| *dir != members);
        for dir in std::iter::once(members.clone()).chain(others) {
            match rustix::fs::rmdir(&dir) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY | Errno::NOTEMPTY) => return Ok(false),
                Err(errno) => return Err(CgroupError::Remove { path: dir, source: errno.into() }),
            }
        }
        Ok(true)
    }

    /// Removes it in all hierarchies, the groups below it first. What is gone already is no error; processes must have been killed.
    ///
    /// # Errors
    /// [`CgroupError::Remove`] with the first directory that stayed for a second; the others are removed all the same.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut result = Ok(());
        for (_, dir) in self.directories() {
            let done = remove_tree(&dir);
            result = result.and(done);
        }
        result
    }

    /// The directory in the hierarchy of a controller, by its v1 name; `None` if the machine does not have it.
    pub(crate) fn controller_directory(&self, controller: &str) -> Option<PathBuf> {
        self.layout.with_controller(controller).map(|hierarchy| self.directory_in(hierarchy))
    }

    /// The directory that is asked which processes there are.
    pub(crate) fn members_directory(&self) -> PathBuf {
        let usual = ["pids", "devices", "memory"].iter().find_map(|controller| self.controller_directory(controller));
        usual.unwrap_or_else(|| self.directory_in(&self.layout.hierarchies()[0]))
    }

    fn directory_in(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount_point().join(self.path.below_root())
    }

    fn freezer_directory(&self) -> Result<PathBuf, CgroupError> {
        self.controller_directory("freezer").ok_or_else(|| CgroupError::NoFreezer { path: self.members_directory() })
    }

    /// Makes those that are not in `made` yet, and has processes accepted in all.
    fn make_directories(&self, made: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
        for (_, dir) in self.directories() {
            if !made.contains(&dir) && make_directory(&dir)? {
                made.push(dir);
            }
        }
        // One look suffices on v1 too: a container that lives has its processes in every hierarchy.
        if made.len() < self.layout.hierarchies().len() {
            self.refuse_inhabited()?;
        }
        self.prepare()
    }

    fn refuse_inhabited(&self) -> Result<(), CgroupError> {
        let path = self.members_directory();
        match self.pids()?.len() {
            0 if self.is_frozen()? => Err(CgroupError::Frozen { path }),
            0 => Ok(()),
            count => Err(CgroupError::NotEmpty { path, count }),
        }
    }

    fn prepare(&self) -> Result<(), CgroupError> {
        match self.version() {
            Version::V1 => {
                let Some(hierarchy) = self.layout.with_controller("cpuset") else { return Ok(()) };
                cpuset::inherit_v1(hierarchy.mount_point(), &self.directory_in(hierarchy))
            }
            Version::V2 => enable_controllers(self.layout.hierarchies()[0].mount_point(), &self.members_directory()),
        }
    }

    fn apply_devices(&self, rules: &[DeviceCgroup]) -> Result<(), CgroupError> {
        let rules = DeviceRules::follow(rules.iter().chain(&devices::default_rules()))?;
        let Some(dir) = self.controller_directory("devices") else { return Ok(()) };
        match self.version() {
            Version::V1 => devices::apply_v1(&mut Settings::new(&dir, &mut Vec::new()), &rules),
            Version::V2 => device_program::apply(&dir, &rules),
        }
    }

    fn update_v1(&self, resources: &LinuxResources, warnings: &mut Vec<Warning>) -> Result<(), CgroupError> {
        let mut on = Hierarchies { cgroup: self, warnings };
        let LinuxResources { memory, cpu, pids, block_io, network, .. } = resources;
        on.set("memory", memory.as_ref(), memory::apply_v1)?;
        on.set("cpu", cpu.as_ref(), cpu::apply_v1)?;
        on.set("cpuset", cpu.as_ref().filter(|cpu| cpuset::is_asked(cpu)), cpuset::apply)?;
        on.set("pids", pids.as_ref(), pids::apply)?;
        on.set("blkio", block_io.as_ref(), block_io::apply_v1)?;
        let limits = Some(&resources.hugepage_limits).filter(|limits| !limits.is_empty());
        on.set("hugetlb", limits, |settings, limits| hugepages::apply(settings, limits, Version::V1))?;
        let class = network.as_ref().filter(|network| network.class_id.is_some());
        on.set("net_cls", class, network::apply_class)?;
        let priorities = network.as_ref().filter(|network| !network.priorities.is_empty());
        on.set("net_prio", priorities, network::apply_priorities)?;
        on.set("rdma", Some(&resources.rdma).filter(|devices| !devices.is_empty()), rdma::apply)
    }

    fn update_v2(&self, resources: &LinuxResources, warnings: &mut Vec<Warning>) -> Result<(), CgroupError> {
        let dir = self.members_directory();
        let settings = &mut Settings::new(&dir, warnings);
        let LinuxResources { memory, cpu, pids, block_io, network, .. } = resources;
        pids.as_ref().map_or(Ok(()), |pids| pids::apply(settings, pids))?;
        memory.as_ref().map_or(Ok(()), |memory| memory::apply_v2(settings, memory))?;
        block_io.as_ref().map_or(Ok(()), |io| block_io::apply_v2(settings, io))?;
        if let Some(cpu) = cpu {
            cpu::apply_v2(settings, cpu)?;
            cpuset::apply(settings, cpu)?;
        }
        hugepages::apply(settings, &resources.hugepage_limits, Version::V2)?;
        rdma::apply(settings, &resources.rdma)?;
        if network.as_ref().is_some_and(|network| network.class_id.is_some() || !network.priorities.is_empty()) {
            settings.warn("network.classID and network.priorities are left out: cgroup v2 does not have them");
        }
        Ok(())
    }
}

/// The v1 hierarchies while limits are written, one controller after the other.
struct Hierarchies<'a> {
    cgroup: &'a Cgroup,
    warnings: &'a mut Vec<Warning>,
}

impl Hierarchies<'_> {
    fn set<T: ?Sized>(
        &mut self,
        controller: &str,
        limits: Option<&T>,
        apply: impl FnOnce(&mut Settings<'_>, &T) -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        let Some(limits) = limits else { return Ok(()) };
        let Some(dir) = self.cgroup.controller_directory(controller) else {
            let text = format!("limits of the {controller} controller are left out: it is not mounted");
            self.warnings.push(Warning::new(text));
            return Ok(());
        };
        apply(&mut Settings::new(&dir, self.warnings), limits)
    }
}

/// The limits less those that say what the kernel does anyway. Each file less is some microseconds less, and everybody asks for these.
fn without_defaults(resources: &LinuxResources) -> LinuxResources {
    let mut asked = resources.clone();
    asked.pids = asked.pids.filter(|pids| pids.limit.is_none_or(|limit| limit >= 0));
    if let Some(memory) = &mut asked.memory {
        memory.disable_oom_killer = memory.disable_oom_killer.filter(|disable| *disable);
    }
    // Applied by themselves.
    asked.devices = Vec::new();
    asked
}

/// Makes a directory and those above it; tells whether it is new.
pub(crate) fn make_directory(dir: &Path) -> Result<bool, CgroupError> {
    // Somebody else may remove an empty parent between two steps; trying again settles it.
    const ATTEMPTS: u32 = 10;
    let failed = |errno: Errno| CgroupError::Create { path: dir.to_owned(), source: errno.into() };
    for attempt in 1..=ATTEMPTS {
        match mkdir(dir, 0o755.into()) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::NOENT) if attempt < ATTEMPTS => {
                make_directory(dir.parent().ok_or_else(|| failed(Errno::NOENT))?)?;
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::NOENT))
}

/// Enables every controller the root offers in each v2 directory above the leaf. Usually the parent has them all already, which one
/// read each of the root's and the leaf's list tells.
fn enable_controllers(root: &Path, leaf: &Path) -> Result<(), CgroupError> {
    let offered = control_file::read_if_present(root, CONTROLLERS)?.unwrap_or_default();
    let has = |dir: &Path, file: &str| -> Result<Vec<String>, CgroupError> {
        let text = control_file::read_if_present(dir, file)?.unwrap_or_default();
        Ok(offered
            .split_whitespace()
            .filter(|c| !text.split_whitespace().any(|t| t == *c))
            .map(str::to_owned)
            .collect())
    };
    if has(leaf, CONTROLLERS)?.is_empty() {
        return Ok(());
    }
    let mut above: Vec<&Path> = leaf.ancestors().skip(1).take_while(|dir| dir.starts_with(root)).collect();
    above.reverse();
    for dir in above {
        let missing = has(dir, SUBTREE_CONTROL)?;
        if missing.is_empty() {
            continue;
        }
        let all: Vec<_> = missing.iter().map(|controller| format!("+{controller}")).collect();
        if control_file::write(dir, SUBTREE_CONTROL, &all.join(" ")).is_err() {
            // One that cannot be had must not cost the others: each limit that needs it will say so itself.
            all.iter().for_each(|one| drop(control_file::write(dir, SUBTREE_CONTROL, one)));
        }
    }
    Ok(())
}
