//! Layer trees: prepare, view, and the mounts that show them.
//!
//! ```text
//! layers/<chain>/              one unpacked layer, shared by every image and container that has it, never written again
//! unpack/<random>/             a layer on its way there; renamed when it is whole
//! rw/<container>/{upper,work}  what a container writes, with `layers`: the names of the layers below it
//! pool/<number>/{upper,work}   empty ones, for the next container
//! trash/                       renamed here in an instant, deleted by a thread of its own
//! ```
//!
//! Mounts are values that the runtime makes inside the container's own namespace. Only the roots that one container may leave to the next are
//! made here, and mounted nowhere.
//!
//! Deliberately absent: which layer belongs to which image, and what is complete after a crash; the image crate keeps those books.
#![forbid(unsafe_code)]

mod container;
mod error;
mod layer;
mod pool;
mod shown;
mod skeleton;
mod standing;
mod trash;
mod usage;

use std::{
    collections::HashMap,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use berth_model::{ContainerId, Digest};

pub use container::Lifetime;
pub use error::SnapshotError;
pub use layer::PendingLayer;
pub use shown::shown;

use standing::Standing;
use trash::Trash;

/// The directories of one engine. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    trash: Trash,
    unshared: Mutex<HashMap<ContainerId, Unshared>>,
    /// Whether the kernel lets a root be lent, as far as is known.
    lends: AtomicBool,
}

/// The writable layer of a container of which nobody outside can hold a file.
struct Unshared {
    /// What the container was made from, where the next such one may have its root.
    description: Option<Digest>,
    /// The overlay that shows it, where it was made here.
    standing: Option<Standing>,
}

impl Inner {
    fn unshared(&self) -> MutexGuard<'_, HashMap<ContainerId, Unshared>> {
        self.unshared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots {
    /// Opens the directories beneath `root`, which are made if they are missing. What a dead engine left half done is thrown away.
    ///
    /// # Errors
    /// [`SnapshotError`] if they cannot be made.
    pub fn open(root: &Path) -> Result<Self, SnapshotError> {
        for name in ["", "layers", "unpack", "rw", "pool", "trash", "skeleton"] {
            make_directory(&root.join(name))?;
        }
        spread(&root.join("unpack"));
        skeleton::make(&root.join("skeleton"))?;
        let (trash, unshared, lends) = (Trash::open(root)?, Mutex::default(), AtomicBool::new(true));
        let snapshots = Self { inner: Arc::new(Inner { root: root.to_owned(), trash, unshared, lends }) };
        for entry in names(&root.join("unpack"))? {
            snapshots.inner.trash.take(&root.join("unpack").join(entry));
        }
        Ok(snapshots)
    }

    /// The directory of all layers.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    fn path(&self, directory: &str) -> PathBuf {
        self.inner.root.join(directory)
    }

    /// Waits until everything that was written to the file system of these directories so far is on the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> Result<(), SnapshotError> {
        let root = &self.inner.root;
        let directory = std::fs::File::open(root).map_err(SnapshotError::io("opening", root))?;
        rustix::fs::syncfs(&directory).map_err(|error| SnapshotError::io("syncing", root)(error.into()))
    }

    /// Waits until everything that was thrown away so far is gone. For tests and for measuring.
    pub fn empty_trash(&self) {
        self.inner.trash.empty();
    }
}

/// Only the engine may look into these: an image holds set-uid programs that nobody should run from here.
fn make_directory(path: &Path) -> Result<(), SnapshotError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(SnapshotError::io("making", path))
}

/// Lets ext4 put each new directory of this one, and what comes to be in it, into a group of blocks of its own.
///
/// Without a journal ext4 gives no inode away again for minutes, and for every new file looks at all those of its group that were deleted:
/// unpacked where a layer was removed, the next one takes several times as long.
fn spread(directory: &Path) {
    let Ok(directory) = std::fs::File::open(directory) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&directory) {
        // Other file systems know no such thing, and need it less.
        let _ = rustix::fs::ioctl_setflags(&directory, flags | rustix::fs::IFlags::TOPDIR);
    }
}

/// The names in a directory.
fn names(path: &Path) -> Result<Vec<std::ffi::OsString>, SnapshotError> {
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    Ok(entries.map_err(SnapshotError::io("reading", path))?.into_iter().map(|entry| entry.file_name()).collect())
}
