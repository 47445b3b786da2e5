//! The nodes and links of the container's `/dev`.
//!
//! Made on whatever is mounted there: each container has its own tmpfs unless its configuration binds something else.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_oci::runtime::{Device, DeviceType};
use berth_sys::mount::{Depth, Interface};
use berth_sys::{mount, rooted};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::error::{RuntimeError, Step};

/// Nodes every container has: name, major, minor. All may read and write them.
const DEFAULT_NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links every container has.
const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes nodes below a container's root, which is not switched to yet.
pub(crate) struct DeviceMaker<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) interface: Interface,
    /// A process in a user namespace may not make nodes: the host's are bound instead.
    pub(crate) bind: bool,
}

impl DeviceMaker<'_> {
    /// Makes the default nodes and links, then those of the configuration.
    pub(crate) fn make_all(&self, devices: &[Device]) -> Result<(), RuntimeError> {
        let dev = rooted::make_directories(self.root, "/dev", Mode::from_raw_mode(0o755)).step("making", "/dev")?;
        for (name, major, minor) in DEFAULT_NODES {
            if !devices.iter().any(|device| device.path == Path::new("/dev").join(name)) {
                let node = Node { kind: FileType::CharacterDevice, mode: 0o666, major, minor, owner: None };
                self.make(dev.as_fd(), OsStr::new(name), &node, &Path::new("/dev").join(name))?;
            }
        }
        for device in devices {
            self.make_configured(device)?;
        }
        make_links(dev.as_fd())
    }

    fn make_configured(&self, device: &Device) -> Result<(), RuntimeError> {
        // Both are made from the container's own devpts.
        if [Path::new("/dev/ptmx"), Path::new("/dev/console")].contains(&device.path.as_path()) {
            return Ok(());
        }
        let node = Node::configured(device)?;
        if let Some(parent) = device.path.parent() {
            rooted::make_directories(self.root, parent, Mode::from_raw_mode(0o755)).step("making", parent)?;
        }
        let (parent, name) = rooted::open_parent(self.root, &device.path).step("opening", &device.path)?;
        self.make(parent.as_fd(), name, &node, &device.path)
    }

    fn make(&self, parent: BorrowedFd<'_>, name: &OsStr, node: &Node, shown: &Path) -> Result<(), RuntimeError> {
        if self.bind && node.kind != FileType::Fifo {
            return self.bind_host_node(node, shown);
        }
        let number = rustix::fs::makedev(node.major, node.minor);
        match rustix::fs::mknodat(parent, name, node.kind, Mode::from_raw_mode(node.mode), number) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(Errno::PERM) if node.kind != FileType::Fifo => return self.bind_host_node(node, shown),
            Err(error) => return Err(error).step("making device", shown),
        }
        match node.owner {
            None => Ok(()),
            Some((uid, gid)) => {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .step("setting the owner of device", shown)
            }
        }
    }

    /// Binds the host's node of the same path, if it is the same device.
    fn bind_host_node(&self, node: &Node, shown: &Path) -> Result<(), RuntimeError> {
        let source = rustix::fs::open(shown, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("opening", shown)?;
        let status = rustix::fs::fstat(&source).step("reading", shown)?;
        let same = FileType::from_raw_mode(status.st_mode) == node.kind
            && status.st_rdev == rustix::fs::makedev(node.major, node.minor);
        if !same {
            return Err(RuntimeError::step("binding device", shown, &Errno::NODEV.into()));
        }
        let target = rooted::make_file(self.root, shown, Mode::from_raw_mode(0o644)).step("making", shown)?;
        mount::bind(self.interface, source.as_fd(), Depth::Single, target.as_fd()).step("binding device", shown)
    }
}

/// A device node to be.
struct Node {
    kind: FileType,
    mode: u32,
    major: u32,
    minor: u32,
    owner: Option<(u32, u32)>,
}

impl Node {
    fn configured(device: &Device) -> Result<Node, RuntimeError> {
        let kind = match device.kind {
            DeviceType::Char | DeviceType::Unbuffered => FileType::CharacterDevice,
            DeviceType::Block => FileType::BlockDevice,
            DeviceType::Fifo => FileType::Fifo,
        };
        let number = |number: i64| {
            let refused = |_| {
                RuntimeError::invalid("linux.devices", format!("{:?}: no such device number {number}", device.path))
            };
            u32::try_from(number).map_err(refused)
        };
        Ok(Node {
            kind,
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            major: number(device.major)?,
            minor: number(device.minor)?,
            owner: Some((device.uid.unwrap_or(0), device.gid.unwrap_or(0))),
        })
    }
}

fn make_links(dev: BorrowedFd<'_>) -> Result<(), RuntimeError> {
    for (name, target) in DEFAULT_LINKS {
        match rustix::fs::symlinkat(target, dev, name) {
            Ok(()) => {}
            Err(Errno::EXIST) if name == "ptmx" => replace_ptmx(dev)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).step("linking", PathBuf::from("/dev").join(name)),
        }
    }
    Ok(())
}

/// A node `ptmx` that an image brought would open the host's terminals: it becomes the link.
fn replace_ptmx(dev: BorrowedFd<'_>) -> Result<(), RuntimeError> {
    let is_link = rustix::fs::statat(dev, "ptmx", AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Symlink);
    if is_link {
        return Ok(());
    }
    rustix::fs::unlinkat(dev, "ptmx", AtFlags::empty()).step("removing", "/dev/ptmx")?;
    rustix::fs::symlinkat("pts/ptmx", dev, "ptmx").step("linking", "/dev/ptmx")
}

/// Opens the container's `/dev/null`, once it is proven to be that device and no file an image put there (CVE-2025-31133).
pub(crate) fn open_null(root: BorrowedFd<'_>) -> Result<OwnedFd, RuntimeError> {
    let null =
        rooted::open(root, "/dev/null", OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).step("opening", "/dev/null")?;
    let status = rustix::fs::fstat(&null).step("reading", "/dev/null")?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(RuntimeError::step("opening device", "/dev/null", &Errno::NODEV.into())) }
}
