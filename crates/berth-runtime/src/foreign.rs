//! Mounts of another process's mount namespace: what a container shares with one whose namespaces it joins.
//!
//! The kernel copies a mount only for a process in the same mount namespace, so the runtime goes there for a moment.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_sys::mount::Depth;
use berth_sys::namespace::{self, Namespace};
use berth_sys::{mount, rooted};
use rustix::fs::{CWD, Mode, OFlags};

/// A path as another process sees it, written `/proc/PID/root/PATH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForeignPath<'a> {
    pid: u32,
    path: &'a Path,
}

impl<'a> ForeignPath<'a> {
    /// Recognises such a path.
    pub(crate) fn of(path: &'a Path) -> Option<ForeignPath<'a>> {
        let (pid, rest) = path.to_str()?.strip_prefix("/proc/")?.split_once('/')?;
        let path = Path::new(rest.strip_prefix("root/")?);
        Some(ForeignPath { pid: pid.parse().ok()?, path })
    }

    /// A detached copy of what is mounted there. Needs a process of one thread.
    pub(crate) fn clone_tree(self, depth: Depth) -> io::Result<OwnedFd> {
        let open = |path: &Path, flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        let root = open(Path::new(&format!("/proc/{}/root", self.pid)), OFlags::PATH)?;
        // A link that the other process made must not lead out of its root.
        let place = rooted::open(root.as_fd(), self.path, OFlags::PATH, Mode::empty())?;
        let theirs = open(Path::new(&format!("/proc/{}/ns/mnt", self.pid)), OFlags::RDONLY)?;
        let ours = open(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY)?;
        let (our_root, our_directory) = (open(Path::new("/"), OFlags::PATH)?, open(Path::new("."), OFlags::PATH)?);
        namespace::enter(theirs.as_fd(), Namespace::Mount)?;
        let tree = mount::clone_tree(&place, depth);
        namespace::enter(ours.as_fd(), Namespace::Mount)?;
        // Entering a mount namespace also moves the root and the working directory.
        rustix::process::fchdir(&our_root)?;
        rustix::process::chroot(".")?;
        rustix::process::fchdir(&our_directory)?;
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_of_a_process_are_foreign() {
        let path = Path::new("/proc/12/root/dev/shm");
        assert_eq!(ForeignPath::of(path), Some(ForeignPath { pid: 12, path: Path::new("dev/shm") }));
        for own in
            ["/proc/self/root/dev/shm", "/proc/12/rootless/x", "/proc/12/cwd/x", "/proc/12", "/dev/shm", "root/x"]
        {
            assert_eq!(ForeignPath::of(Path::new(own)), None, "{own}");
        }
    }
}
