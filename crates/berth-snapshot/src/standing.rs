//! Overlays that outlive their container: where it wrote nothing, the next one that is made from the same description finds its root made.
//!
//! To make an overlay is the dearest step of a start, for the kernel tries out on the upper directory's file system all that it will need there;
//! to take it apart is dear again. What a container could write, it wrote to the upper directory, and nothing happens to a directory without its
//! change time telling. Who decides that nobody outside can have kept a file of the container is the engine. See `docs/design/lent-roots.md`.

use std::{io, os::fd::OwnedFd, path::Path};

use berth_model::Digest;
use berth_oci::runtime::Mount;
use berth_sys::mount::{Attributes, Depth, Filesystem, clone_tree, create_filesystem};
use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, StatxFlags},
    io::Errno,
};

/// An overlay above a writable layer in which nothing was ever written. It is mounted nowhere, and gone when this and all copies of it are.
pub(crate) struct Standing {
    overlay: OwnedFd,
    /// What its container was made from.
    description: Digest,
    untouched: Changed,
    /// That of the pool when the layers below were certainly there.
    generation: u64,
}

/// When an inode was changed last: seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Changed(i64, u32);

/// File systems whose change times are as fine as the clock, once somebody has looked (multigrain timestamps, Linux 6.13): a change never hides
/// behind the tick of the one before. Numbers of statfs(2).
const FINE_TIMES: [i64; 4] = [
    0xEF53,      // ext4; with small inodes, and as ext3, its times are whole seconds
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
];

impl Standing {
    /// Makes the overlay that `mount` describes, with its upper directory in `directory`.
    ///
    /// # Errors
    /// What the kernel says; `Unsupported` where nothing can be lent, `DirectoryNotEmpty` where something was written. Overlay's mark may be left.
    pub fn raise(directory: &Path, description: Digest, generation: u64, mount: &Mount) -> io::Result<(Self, OwnedFd)> {
        let upper = directory.join("upper");
        if !has_fine_times(&upper)? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if !is_empty(&upper)? {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let overlay = create_filesystem(
            &Filesystem { kind: &mount.kind, source: &mount.source, data: &mount.options },
            Attributes::NONE,
        )?;
        let untouched = changed(&upper)?;
        if untouched.1 == 0 {
            // Times of whole seconds look so, and a second is long.
            return Err(io::Error::other("its times may be coarse"));
        }
        let standing = Self { untouched, overlay, description, generation };
        let copy = standing.copy().map_err(|error| match Errno::from_io_error(&error) {
            // Detached mounts can be copied since Linux 6.15.
            Some(Errno::INVAL) => io::ErrorKind::Unsupported.into(),
            _ => error,
        })?;
        Ok((standing, copy))
    }

    /// The same file system as one more mount, for a container to take as its root.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        clone_tree(&self.overlay, Depth::Single)
    }

    /// Whether it is for a container that is made from `description`.
    pub fn is_for(&self, description: &Digest) -> bool {
        self.description == *description
    }

    /// The pool's generation when it was made.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether its upper directory, in `directory`, is as it was when the overlay was made.
    pub fn is_untouched(&self, directory: &Path) -> bool {
        changed(&directory.join("upper")).is_ok_and(|changed| changed == self.untouched)
    }
}

fn changed(path: &Path) -> io::Result<Changed> {
    let data = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::CTIME)?;
    Ok(Changed(data.stx_ctime.tv_sec, data.stx_ctime.tv_nsec))
}

fn has_fine_times(path: &Path) -> io::Result<bool> {
    let kind = rustix::fs::statfs(path)?.f_type;
    Ok(FINE_TIMES.contains(&kind))
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(path: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(false);
        }
    }
    Ok(true)
}
