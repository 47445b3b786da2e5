//! A tree of mounts that nobody else can see: built on a thread of its own, in a mount namespace of its own, and reached by a descriptor.
//!
//! Whoever has to look into a container's files from outside resolves paths beneath [`PrivateTree::root`] with [`crate::rooted`]: mounts
//! made in the tree count, the host's do not, and no process ever runs inside. Nothing shows in the host's or the container's mounts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::mount::{self, Attributes, Depth, Filesystem, Interface, Propagation};

/// A tree of mounts that lives as long as this.
#[derive(Debug)]
pub struct PrivateTree {
    root: OwnedFd,
    /// Without a process in it the namespace, and with it every mount, lives by this descriptor alone.
    _namespace: OwnedFd,
}

/// What the tree grows from.
#[derive(Clone, Copy, Debug)]
pub enum Base<'a> {
    /// The root of another mount namespace, less everything that is mounted below: what is written there is written here.
    RootOf(BorrowedFd<'a>),
    /// A file system that is mounted anew.
    New(Filesystem<'a>),
}

impl PrivateTree {
    /// Builds a tree. `place` is an empty directory of the host to build it over; `furnish` mounts what belongs into it, given its root: it
    /// sees the host's paths, and whatever it mounts is seen by nobody else.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`; what the kernel says to the mounts; what `furnish` says.
    pub fn build(
        base: Base<'_>,
        place: &Path,
        furnish: impl FnOnce(BorrowedFd<'_>) -> io::Result<()> + Send,
    ) -> io::Result<Self> {
        std::thread::scope(|scope| {
            let build = || Self::build_here(base, place, furnish);
            let thread = std::thread::Builder::new().name("private-tree".into()).spawn_scoped(scope, build)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The root of the tree, as a path descriptor.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn build_here(
        base: Base<'_>,
        place: &Path,
        furnish: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let interface = Interface::probe();
        // SAFETY: the function is unsafe because of CLONE_FILES, which is not given: descriptors stay shared. This thread's directory and
        // mounts become its own, and it ends with this function.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
        let host_root = open_directory(Path::new("/"))?;
        mount::set_propagation(interface, host_root.as_fd(), Depth::Tree, Propagation::Private)?;
        let namespace = rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        match base {
            Base::RootOf(other) => {
                let tree = root_of(other, namespace.as_fd())?;
                mount::attach(&tree, open_directory(place)?.as_fd())?;
            }
            Base::New(filesystem) => {
                let target = open_directory(place)?;
                let mounted = mount::mount_filesystem(interface, &filesystem, Attributes::NONE, target.as_fd());
                // Many layers are too long for the newer calls of kernels before 6.5.
                mounted.or_else(|_| {
                    mount::mount_filesystem(Interface::Classic, &filesystem, Attributes::NONE, target.as_fd())
                })?;
            }
        }
        let root = open_directory(place)?;
        // What is mounted into it must not pass on to where it came from.
        mount::set_propagation(interface, root.as_fd(), Depth::Tree, Propagation::Private)?;
        furnish(root.as_fd())?;
        // A busy copy of a host's mount would keep its device busy. A host that runs from its first ramfs cannot be left behind.
        let _ = mount::pivot_into(root.as_fd());
        Ok(Self { root, _namespace: namespace })
    }
}

/// A detached copy of the root of another namespace, made there: the kernel clones only what is in the caller's namespace.
fn root_of(other: BorrowedFd<'_>, own: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    move_into_link_name_space(other, Some(LinkNameSpaceType::Mount))?;
    let tree = open_directory(Path::new("/")).and_then(|root| mount::clone_tree(root, Depth::Single));
    move_into_link_name_space(own, Some(LinkNameSpaceType::Mount))?;
    tree
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics says where")]
mod tests {
    use super::*;
    use crate::rooted;

    #[test]
    fn a_tree_is_seen_by_its_owner_only() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = std::env::temp_dir().join(format!("berth-test-tree-{}", std::process::id()));
        std::fs::create_dir_all(scratch.join("place")).unwrap();
        std::fs::create_dir_all(scratch.join("volume")).unwrap();
        std::fs::write(scratch.join("volume/file"), "in the volume").unwrap();
        let options = ["mode=0755".to_owned()];
        let base = Base::New(Filesystem { kind: "tmpfs", source: "tmpfs", data: &options });
        let tree = PrivateTree::build(base, &scratch.join("place"), |root| {
            let target = rooted::make_directories(root, "/data", Mode::RWXU)?;
            let source = open_directory(&scratch.join("volume"))?;
            mount::bind(Interface::probe(), source.as_fd(), Depth::Single, target.as_fd())
        })
        .unwrap();
        let read = |path: &str| {
            let file = rooted::open(tree.root(), path, OFlags::RDONLY, Mode::empty())?;
            rooted::read_to_end(file, 100)
        };
        assert_eq!(read("/data/file").unwrap(), b"in the volume");
        assert!(std::fs::read_dir(scratch.join("place")).unwrap().next().is_none());
        std::os::unix::fs::symlink("/etc/passwd", scratch.join("volume/link")).unwrap();
        assert_eq!(read("/data/link").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read("/data/../../../etc/passwd").unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(tree);
        std::fs::remove_dir_all(scratch).unwrap();
    }
}
