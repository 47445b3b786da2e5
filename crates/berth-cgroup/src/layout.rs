//! Which cgroup hierarchies this machine has, and where they are mounted.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{control_file, error::CgroupError};

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// The controllers whose presence on v1 makes the machine a v1 machine, whatever else is mounted beside them.
const V1_CONTROLLERS: &[&str] = &[
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

/// The hierarchies of this machine. Found once and passed down; cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    version: Version,
    hierarchies: Vec<Hierarchy>,
}

/// The version of the cgroup interface that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller or group of controllers. A unified hierarchy without controllers that is mounted beside them
    /// ("hybrid") is left alone.
    V1,
    /// One hierarchy for all.
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    controllers: Vec<String>,
    mount_point: PathBuf,
}

impl Hierarchy {
    /// The controllers on it as v1 calls them (`cpu`, `cpuacct`, or `name=systemd` for a named one); empty on v2.
    #[must_use]
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }

    /// Where its root is.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }
}

impl Layout {
    /// Finds the hierarchies of this machine in `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// [`CgroupError::Layout`] if the table cannot be read, [`CgroupError::NotMounted`] if there is no cgroup file system in it.
    pub fn probe() -> Result<Self, CgroupError> {
        let table = control_file::read_path(Path::new(MOUNT_TABLE))
            .map_err(|source| CgroupError::Layout { path: MOUNT_TABLE.into(), source })?;
        Self::from_mount_table(&table)
    }

    /// A v2 hierarchy whose root is the given directory.
    #[must_use]
    pub fn v2_at(root: impl Into<PathBuf>) -> Self {
        Self::new(Version::V2, vec![Hierarchy { controllers: Vec::new(), mount_point: root.into() }])
    }

    /// v1 hierarchies: each item is the directory below `root` and the controllers joined by commas, like `cpu,cpuacct`.
    #[must_use]
    pub fn v1_at(root: &Path, hierarchies: &[&str]) -> Self {
        let hierarchy = |name: &&str| Hierarchy {
            controllers: name.split(',').map(str::to_owned).collect(),
            mount_point: root.join(name.trim_start_matches("name=")),
        };
        Self::new(Version::V1, hierarchies.iter().map(hierarchy).collect())
    }

    /// The interface in use.
    #[must_use]
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// All hierarchies that a container has a directory in.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.0.hierarchies
    }

    /// The hierarchy that a v1 controller is on; on v2 always the only one.
    pub(crate) fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        match self.0.version {
            Version::V2 => self.0.hierarchies.first(),
            Version::V1 => self.0.hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == controller)),
        }
    }

    fn new(version: Version, hierarchies: Vec<Hierarchy>) -> Self {
        Self(Arc::new(Inner { version, hierarchies }))
    }

    fn from_mount_table(table: &[u8]) -> Result<Self, CgroupError> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for mount in table.split(|byte| *byte == b'\n').filter_map(parse_mount) {
            if mount.kind == b"cgroup2" {
                unified.get_or_insert(mount.mount_point);
                continue;
            }
            let controllers = controllers_of(mount.super_options);
            // The same hierarchy may be mounted more than once; the first mount is the host's own.
            let known = v1.iter().any(|h| h.controllers.iter().any(|c| controllers.contains(c)));
            if !known && !controllers.is_empty() {
                v1.push(Hierarchy { controllers, mount_point: mount.mount_point });
            }
        }
        let has_controllers = v1.iter().flat_map(|h| &h.controllers).any(|c| !c.starts_with("name="));
        match unified {
            _ if has_controllers => Ok(Self::new(Version::V1, v1)),
            Some(root) => Ok(Self::v2_at(root)),
            None => Err(CgroupError::NotMounted),
        }
    }
}

struct CgroupMount<'a> {
    kind: &'a [u8],
    mount_point: PathBuf,
    super_options: &'a [u8],
}

/// Reads one line of mountinfo, see proc_pid_mountinfo(5); `None` for other file systems.
fn parse_mount(line: &[u8]) -> Option<CgroupMount<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mount_point = fields.nth(4)?;
    let mut tail = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = tail.next()?;
    if kind != b"cgroup" && kind != b"cgroup2" {
        return None;
    }
    Some(CgroupMount { kind, mount_point: unescape(mount_point), super_options: tail.nth(1)? })
}

fn controllers_of(super_options: &[u8]) -> Vec<String> {
    let options = super_options.split(|byte| *byte == b',').filter_map(|option| std::str::from_utf8(option).ok());
    options.filter(|option| V1_CONTROLLERS.contains(option) || option.starts_with("name=")).map(str::to_owned).collect()
}

/// Undoes the octal escapes of blanks and backslashes in a mount point.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            digits
                .iter()
                .try_fold(0u8, |sum, d| matches!(d, b'0'..=b'7').then(|| sum.wrapping_mul(8).wrapping_add(d - b'0')))
        });
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(table: &str) -> Layout {
        Layout::from_mount_table(table.as_bytes()).unwrap()
    }

    #[test]
    fn a_unified_machine_is_v2() {
        let found = layout(
            "24 1 0:22 / /sys rw - sysfs sysfs rw\n30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(found, Layout::v2_at("/sys/fs/cgroup"));
    }

    #[test]
    fn controllers_on_v1_make_a_hybrid_machine_v1() {
        let found = layout(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:30 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
             34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             35 31 0:30 / /mnt/again rw - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(
            found,
            Layout::new(
                Version::V1,
                vec![
                    Hierarchy {
                        controllers: vec!["cpu".into(), "cpuacct".into()],
                        mount_point: "/sys/fs/cgroup/cpu,cpuacct".into()
                    },
                    Hierarchy { controllers: vec!["memory".into()], mount_point: "/sys/fs/cgroup/memory".into() },
                    Hierarchy {
                        controllers: vec!["name=systemd".into()],
                        mount_point: "/sys/fs/cgroup/systemd".into()
                    },
                ]
            )
        );
        assert_eq!(found.with_controller("cpuacct").unwrap().mount_point(), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found.with_controller("rdma"), None);
    }

    #[test]
    fn a_named_hierarchy_alone_does_not_make_a_machine_v1() {
        let found = layout(
            "34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /cg\\040two rw - cgroup2 c rw\n",
        );
        assert_eq!(found, Layout::v2_at("/cg two"));
    }

    #[test]
    fn a_machine_without_cgroups_is_told_so() {
        let error = Layout::from_mount_table(b"24 1 0:22 / /sys rw - sysfs sysfs rw\n").unwrap_err();
        assert_eq!(error.to_string(), "no cgroup file system is mounted");
    }

    #[test]
    fn this_machine_has_a_layout() {
        assert!(!Layout::probe().unwrap().hierarchies().is_empty());
    }
}
