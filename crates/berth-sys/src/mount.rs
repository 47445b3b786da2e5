//! Mounts by descriptor: make one, change it, attach it; with mount(2) where the kernel lacks the newer calls.
//!
//! A target is always a descriptor: whoever resolves a path inside a container's root does it once, in
//! [`crate::rooted`], and nothing can be swapped in between. Which options a mount has is the business of the callers.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

/// Attributes of one mount, as mount_setattr(2) has them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(u32);

impl Attributes {
    /// No attribute.
    pub const NONE: Attributes = Attributes(0);
    /// Nothing can be written through it.
    pub const READ_ONLY: Attributes = Attributes(0x1);
    /// Set-user-id bits and file capabilities have no effect.
    pub const NO_SUID: Attributes = Attributes(0x2);
    /// Device nodes cannot be opened.
    pub const NO_DEV: Attributes = Attributes(0x4);
    /// Programs cannot be executed.
    pub const NO_EXEC: Attributes = Attributes(0x8);
    /// Access times are not kept.
    pub const NO_ATIME: Attributes = Attributes(0x10);
    /// Access times are always kept.
    pub const STRICT_ATIME: Attributes = Attributes(0x20);
    /// The bits that say how access times are kept; none of them is `relatime`.
    pub const ATIME: Attributes = Attributes(0x70);
    /// Access times of directories are not kept.
    pub const NO_DIR_ATIME: Attributes = Attributes(0x80);
    /// Symbolic links are not followed.
    pub const NO_SYMFOLLOW: Attributes = Attributes(0x20_0000);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }

    /// This less `other`.
    #[must_use]
    pub const fn without(self, other: Attributes) -> Attributes {
        Attributes(self.0 & !other.0)
    }

    /// Whether all of `other` is in this.
    pub const fn contains(self, other: Attributes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The words of mount(2).
    fn classic(self) -> MountFlags {
        const WORDS: [(Attributes, MountFlags); 8] = [
            (Attributes::READ_ONLY, MountFlags::RDONLY),
            (Attributes::NO_SUID, MountFlags::NOSUID),
            (Attributes::NO_DEV, MountFlags::NODEV),
            (Attributes::NO_EXEC, MountFlags::NOEXEC),
            (Attributes::NO_ATIME, MountFlags::NOATIME),
            (Attributes::STRICT_ATIME, MountFlags::STRICTATIME),
            (Attributes::NO_DIR_ATIME, MountFlags::NODIRATIME),
            (Attributes::NO_SYMFOLLOW, MountFlags::NOSYMFOLLOW),
        ];
        let words = WORDS.into_iter().filter(|(attribute, _)| self.contains(*attribute));
        words.fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attributes({:#x})", self.0)
    }
}

/// How mounts below pass between copies of a mount, see mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Inwards only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and it cannot be bound.
    Unbindable,
}

impl Propagation {
    fn classic(self) -> MountPropagationFlags {
        match self {
            Propagation::Shared => MountPropagationFlags::SHARED,
            Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
            Propagation::Private => MountPropagationFlags::PRIVATE,
            Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
        }
    }
}

/// One mount, or it and all that are mounted below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The mount alone.
    Single,
    /// The whole tree.
    Tree,
}

/// What to change on a mount; the default changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeChange<'a> {
    /// Attributes to take away, before the others are set.
    pub clear: Attributes,
    /// Attributes to set.
    pub set: Attributes,
    /// A user namespace whose mapping all owners pass through (an idmapped mount); only on a detached mount.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

impl AttributeChange<'_> {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.clear.is_empty() && self.set.is_empty() && self.user_namespace.is_none()
    }
}

/// Which system calls make mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// fsopen(2), open_tree(2), mount_setattr(2), move_mount(2); complete since 5.12.
    Modern,
    /// mount(2): no recursive attributes, no idmapped mounts, and at most 4096 bytes of options.
    Classic,
}

impl Interface {
    /// What this kernel offers; asks with a call that must fail.
    pub fn probe() -> Interface {
        // Without an attribute to set the kernel would not even look at the descriptor.
        let mut attributes = MountAttr { attr_set: u64::from(Attributes::READ_ONLY.0), ..MountAttr::default() };
        let result = set_attributes(-1, 0, &mut attributes);
        if result.is_err_and(|error| error.raw_os_error() == Some(libc::EBADF)) {
            Interface::Modern
        } else {
            Interface::Classic
        }
    }
}

/// A file system to be mounted anew.
#[derive(Clone, Copy, Debug)]
pub struct Filesystem<'a> {
    /// Its type, as in `/proc/filesystems`.
    pub kind: &'a str,
    /// A device, or any word for those without one.
    pub source: &'a str,
    /// Options of the file system itself: `key=value` or `key`.
    pub data: &'a [String],
}

/// Mounts a new file system on `target`. See fsmount(2), mount(2).
///
/// # Errors
/// What the kernel says: `ENODEV` unknown type, `EINVAL` unknown option, `EPERM`, `ENOENT` no such device.
pub fn mount_filesystem(
    interface: Interface,
    filesystem: &Filesystem<'_>,
    attributes: Attributes,
    target: BorrowedFd<'_>,
) -> io::Result<()> {
    match interface {
        Interface::Modern => attach(&create_filesystem(filesystem, attributes)?, target),
        Interface::Classic => mount_classic(filesystem, attributes, target),
    }
}

/// As [`mount_filesystem`], and opens what it mounted. `reopen` opens the place of `target` again, now that something lies over it.
///
/// # Errors
/// As [`mount_filesystem`].
pub fn mount_and_open(
    interface: Interface,
    filesystem: &Filesystem<'_>,
    attributes: Attributes,
    target: BorrowedFd<'_>,
    reopen: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    if interface == Interface::Classic {
        mount_classic(filesystem, attributes, target)?;
        return reopen();
    }
    let mounted = create_filesystem(filesystem, attributes)?;
    attach(&mounted, target)?;
    Ok(mounted)
}

/// Makes a new file system, mounted nowhere yet. See fsopen(2), fsconfig(2), fsmount(2).
///
/// # Errors
/// As [`mount_filesystem`].
pub fn create_filesystem(filesystem: &Filesystem<'_>, attributes: Attributes) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(filesystem.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !filesystem.source.is_empty() {
        rustix::mount::fsconfig_set_string(&context, "source", filesystem.source)?;
    }
    for option in filesystem.data {
        match option.split_once('=') {
            Some(("lowerdir", layers)) if filesystem.kind == "overlay" => set_lower_layers(context.as_fd(), layers)?,
            Some((key, value)) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, option.as_str())?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes.0);
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A string of fsconfig(2) holds at most 255 bytes: many layers are passed one by one (`lowerdir+`, 6.5 and newer).
fn set_lower_layers(context: BorrowedFd<'_>, layers: &str) -> io::Result<()> {
    const LONGEST: usize = 255;
    if layers.len() <= LONGEST {
        return Ok(rustix::mount::fsconfig_set_string(context, "lowerdir", layers)?);
    }
    for layer in layers.split(':') {
        rustix::mount::fsconfig_set_string(context, "lowerdir+", layer)?;
    }
    Ok(())
}

fn mount_classic(filesystem: &Filesystem<'_>, attributes: Attributes, target: BorrowedFd<'_>) -> io::Result<()> {
    let data = std::ffi::CString::new(filesystem.data.join(","))?;
    let target = descriptor_path(target);
    Ok(rustix::mount::mount(filesystem.source, target, filesystem.kind, attributes.classic(), data.as_c_str())?)
}

/// Mounts what `source` is open on (a path descriptor will do) once more on `target`. See open_tree(2).
///
/// # Errors
/// `EINVAL` for an unbindable source.
pub fn bind(interface: Interface, source: BorrowedFd<'_>, depth: Depth, target: BorrowedFd<'_>) -> io::Result<()> {
    match (interface, depth) {
        (Interface::Modern, _) => attach(&clone_tree(source, depth)?, target),
        (Interface::Classic, Depth::Single) => {
            Ok(rustix::mount::mount_bind(descriptor_path(source), descriptor_path(target))?)
        }
        (Interface::Classic, Depth::Tree) => {
            Ok(rustix::mount::mount_bind_recursive(descriptor_path(source), descriptor_path(target))?)
        }
    }
}

/// As [`bind`], with attributes of its own. `reopen` opens the place of `target` again, now that something lies over it.
///
/// # Errors
/// As [`bind`] and [`change_attached`].
pub fn bind_changed(
    interface: Interface,
    source: BorrowedFd<'_>,
    depth: Depth,
    change: &AttributeChange<'_>,
    target: BorrowedFd<'_>,
    reopen: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<()> {
    if interface == Interface::Modern {
        let tree = clone_tree(source, depth)?;
        change_attributes(&tree, Depth::Single, change)?;
        return attach(&tree, target);
    }
    bind(interface, source, depth, target)?;
    if change.is_empty() {
        return Ok(());
    }
    change_attached(interface, reopen()?.as_fd(), Depth::Single, change)
}

/// A detached copy of a mount, or of the tree of mounts, below what `source` is open on. See open_tree(2).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` for a source that is unbindable or not in this mount namespace.
pub fn clone_tree(source: impl AsFd, depth: Depth) -> io::Result<OwnedFd> {
    Ok(rustix::mount::open_tree(source, c"", clone_flags(depth) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

/// As [`clone_tree`], of what `path` leads to in the caller's own view.
///
/// # Errors
/// As [`clone_tree`], and those of open(2).
pub fn clone_tree_at(path: &Path, depth: Depth) -> io::Result<OwnedFd> {
    Ok(rustix::mount::open_tree(CWD, path, clone_flags(depth))?)
}

fn clone_flags(depth: Depth) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::Tree { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached mount on `target`. See move_mount(2).
///
/// # Errors
/// `ENOTDIR` when a directory would cover a file or the reverse, `ENOENT` when the target was removed.
pub fn attach(tree: &OwnedFd, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, c"", target, c"", flags)?)
}

/// As [`attach`], on the directory `name` of `directory`; it is not followed if it is a link.
///
/// # Errors
/// As [`attach`].
pub fn attach_in(tree: &OwnedFd, directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    Ok(rustix::mount::move_mount(tree, c"", directory, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The layout of the kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes attributes of the mount that `mount` is the root of. See mount_setattr(2).
///
/// # Errors
/// `ENOSYS` before 5.12, `EPERM` for an attribute locked by a user namespace above, `EINVAL` where idmapping is not possible.
pub fn change_attributes(mount: impl AsFd, depth: Depth, change: &AttributeChange<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    if change.is_empty() {
        return Ok(());
    }
    let mut attributes =
        MountAttr { attr_set: u64::from(change.set.0), attr_clr: u64::from(change.clear.0), ..MountAttr::default() };
    if let Some(namespace) = change.user_namespace {
        attributes.attr_set |= MOUNT_ATTR_IDMAP;
        attributes.userns_fd = namespace.as_raw_fd() as u64;
    }
    set_attributes(mount.as_fd().as_raw_fd(), depth_flag(depth), &mut attributes)
}

fn depth_flag(depth: Depth) -> i32 {
    const AT_RECURSIVE: i32 = 0x8000;
    if depth == Depth::Tree { AT_RECURSIVE } else { 0 }
}

fn set_attributes(mount: i32, flags: i32, attributes: &mut MountAttr) -> io::Result<()> {
    // SAFETY: the empty path names `mount` itself, and `attributes` is a mount_attr of the size passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount,
            c"".as_ptr(),
            flags | libc::AT_EMPTY_PATH,
            std::ptr::from_mut(attributes),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Changes attributes of a mount in place, by whatever the kernel has. See mount_setattr(2), mount(2).
///
/// # Errors
/// As [`change_attributes`]; `ENOSYS` when [`Interface::Classic`] is asked for a whole tree or an idmapped mount.
pub fn change_attached(
    interface: Interface,
    mount: BorrowedFd<'_>,
    depth: Depth,
    change: &AttributeChange<'_>,
) -> io::Result<()> {
    match (interface, depth) {
        (Interface::Modern, _) => change_attributes(mount, depth, change),
        (Interface::Classic, _) if change.is_empty() => Ok(()),
        (Interface::Classic, Depth::Single) if change.user_namespace.is_none() => {
            remount_classic(&descriptor_path(mount), change)
        }
        (Interface::Classic, _) => Err(Errno::NOSYS.into()),
    }
}

/// A remount replaces all attributes, so those that stay are read first.
fn remount_classic(place: &str, change: &AttributeChange<'_>) -> io::Result<()> {
    const KEPT: [(StatVfsMountFlags, Attributes); 6] = [
        (StatVfsMountFlags::RDONLY, Attributes::READ_ONLY),
        (StatVfsMountFlags::NOSUID, Attributes::NO_SUID),
        (StatVfsMountFlags::NODEV, Attributes::NO_DEV),
        (StatVfsMountFlags::NOEXEC, Attributes::NO_EXEC),
        (StatVfsMountFlags::NOATIME, Attributes::NO_ATIME),
        (StatVfsMountFlags::NODIRATIME, Attributes::NO_DIR_ATIME),
    ];
    let present = rustix::fs::statvfs(place)?.f_flag;
    let kept = KEPT.into_iter().filter(|(flag, _)| present.contains(*flag));
    let kept = kept.fold(Attributes::NONE, |all, (_, attribute)| all.union(attribute));
    let wanted = kept.without(change.clear).union(change.set);
    Ok(rustix::mount::mount_remount(place, MountFlags::BIND | wanted.classic(), "")?)
}

/// Sets how mounts pass through a mount. See mount_namespaces(7).
///
/// # Errors
/// `EINVAL` when nothing is mounted there.
pub fn set_propagation(
    interface: Interface,
    mount: BorrowedFd<'_>,
    depth: Depth,
    propagation: Propagation,
) -> io::Result<()> {
    if interface == Interface::Classic {
        let recursive = if depth == Depth::Tree { MountPropagationFlags::REC } else { MountPropagationFlags::empty() };
        return Ok(rustix::mount::mount_change(descriptor_path(mount), propagation.classic() | recursive)?);
    }
    let mut attributes = MountAttr { propagation: u64::from(propagation.classic().bits()), ..MountAttr::default() };
    set_attributes(mount.as_raw_fd(), depth_flag(depth), &mut attributes)
}

/// Makes the mount that `new_root` is the root of the root of this mount namespace, and drops the old one. See pivot_root(2).
///
/// # Errors
/// `EINVAL` when `new_root` is no mount or mounts are shared, and on the initial ramfs.
pub fn pivot_into(new_root: BorrowedFd<'_>) -> io::Result<()> {
    let old_root = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::fchdir(new_root)?;
    // Stacking the old root over the new one spares a directory inside the image to put it in.
    rustix::process::pivot_root(c".", c".")?;
    rustix::process::fchdir(&old_root)?;
    // The unmount would else pass on to the host where the old root was shared with it.
    rustix::mount::mount_change(c".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir(c"/")?)
}

/// Makes `new_root` the root of this process only. See chroot(2).
///
/// The old root stays mounted below: for hosts that run from their initial ramfs, which cannot be pivoted away.
///
/// # Errors
/// Those of chroot(2).
pub fn chroot_into(new_root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(new_root)?;
    rustix::process::chroot(c".")?;
    Ok(rustix::process::chdir(c"/")?)
}

/// Opens what was mounted over the root directory of this process since: `..` of the root steps onto it.
///
/// # Errors
/// Those of open(2).
pub fn open_over_root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, c"/..", flags, Mode::empty())?)
}

/// The path of a descriptor, for calls that take nothing else. Needs the host's `/proc`.
pub fn descriptor_path(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{CloneRequest, Cloned, exit_now};
    use crate::namespace::{Namespace, Namespaces};
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    /// Runs `steps` in a mount namespace of its own; it panics, or ends well.
    fn isolated(steps: impl FnOnce() -> io::Result<()>) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let request = CloneRequest { namespaces: Namespaces::NONE.with(Namespace::Mount), ..CloneRequest::default() };
        let Cloned::Parent { pidfd, .. } = request.run().unwrap() else {
            let root = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
            set_propagation(Interface::probe(), root.as_fd(), Depth::Tree, Propagation::Private).unwrap();
            let result = steps();
            if let Err(error) = &result {
                eprintln!("{error}");
            }
            exit_now(u8::from(result.is_err()))
        };
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }

    fn expect(holds: bool, what: &'static str) -> io::Result<()> {
        if holds { Ok(()) } else { Err(io::Error::other(what)) }
    }

    fn a_tmpfs_becomes_the_root(interface: Interface) -> io::Result<()> {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let data = ["mode=0751".to_owned()];
        let tmpfs = Filesystem { kind: "tmpfs", source: "tmpfs", data: &data };
        mount_filesystem(interface, &tmpfs, Attributes::NO_DEV, root.as_fd())?;
        let top = open_over_root()?;
        rustix::fs::mkdirat(&top, "marker", Mode::from_raw_mode(0o700))?;
        pivot_into(top.as_fd())?;
        expect(rustix::fs::stat("/marker").is_ok(), "the marker is in the new root")?;
        expect(rustix::fs::stat("/etc").is_err(), "the old root is gone")?;
        let flags = rustix::fs::statvfs("/")?.f_flag;
        expect(flags.contains(StatVfsMountFlags::NODEV), "attributes are set")
    }

    #[test]
    fn a_file_system_mounted_over_the_root_can_be_pivoted_into() {
        isolated(|| a_tmpfs_becomes_the_root(Interface::Modern));
        isolated(|| a_tmpfs_becomes_the_root(Interface::Classic));
    }

    fn a_bind_is_read_only(interface: Interface) -> io::Result<()> {
        let target = rustix::fs::open("/tmp", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let tmpfs = Filesystem { kind: "tmpfs", source: "tmpfs", data: &[] };
        mount_filesystem(interface, &tmpfs, Attributes::NO_EXEC, target.as_fd())?;
        std::fs::create_dir("/tmp/from")?;
        std::fs::create_dir("/tmp/to")?;
        let source = rustix::fs::open("/tmp/from", OFlags::PATH, Mode::empty())?;
        let target = rustix::fs::open("/tmp/to", OFlags::PATH, Mode::empty())?;
        let change = AttributeChange { set: Attributes::READ_ONLY, ..AttributeChange::default() };
        let reopen = || Ok(rustix::fs::open("/tmp/to", OFlags::PATH, Mode::empty())?);
        bind_changed(interface, source.as_fd(), Depth::Tree, &change, target.as_fd(), reopen)?;
        expect(std::fs::write("/tmp/to/x", "").is_err(), "the bind cannot be written")?;
        expect(std::fs::write("/tmp/from/x", "").is_ok(), "the source can")?;
        let flags = rustix::fs::statvfs("/tmp/to")?.f_flag;
        expect(flags.contains(StatVfsMountFlags::NOEXEC), "attributes of the source are kept")
    }

    #[test]
    fn a_bind_has_attributes_of_its_own() {
        isolated(|| a_bind_is_read_only(Interface::Modern));
        isolated(|| a_bind_is_read_only(Interface::Classic));
    }
}
