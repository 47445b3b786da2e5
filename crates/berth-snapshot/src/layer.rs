//! Layers: unpacked aside, visible when whole, shared ever after.

use std::{
    fs::{File, Permissions},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use berth_model::Digest;

use crate::{SnapshotError, Snapshots, names};

/// A layer on its way. Dropped, it is thrown away.
pub struct PendingLayer {
    snapshots: Snapshots,
    path: PathBuf,
    published: bool,
}

/// Tells layers on their way apart; the directory is emptied whenever it is opened.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Snapshots {
    /// Where a layer lies, or would.
    #[must_use]
    pub fn layer_path(&self, chain: &Digest) -> PathBuf {
        self.path("layers").join(chain.hex())
    }

    /// Whether a layer's directory is there.
    #[must_use]
    pub fn has_layer(&self, chain: &Digest) -> bool {
        self.layer_path(chain).is_dir()
    }

    /// The directory names of all layers: their chain ids without the algorithm.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn layer_names(&self) -> Result<Vec<String>, SnapshotError> {
        Ok(names(&self.path("layers"))?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Begins a layer above `parent`, whose root it takes owner and mode from until an archive says otherwise: in an overlay the root of the
    /// uppermost layer is the one that shows.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin_layer(&self, parent: Option<&Path>) -> Result<PendingLayer, SnapshotError> {
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.path("unpack").join(name);
        std::fs::create_dir(&path).map_err(SnapshotError::io("making", &path))?;
        let pending = PendingLayer { snapshots: self.clone(), path, published: false };
        adopt(parent, &pending.path)?;
        Ok(pending)
    }

    /// Throws a layer away, by its directory name. One that is not there is no error.
    pub fn remove_layer(&self, name: &str) {
        // What an overlay shows keeps its place on the disk.
        self.inner.trash.outdate_overlays();
        self.inner.trash.take(&self.path("layers").join(name));
    }
}

impl PendingLayer {
    /// The directory to fill.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn directory(&self) -> Result<OwnedFd, SnapshotError> {
        Ok(File::open(&self.path).map_err(SnapshotError::io("opening", &self.path))?.into())
    }

    /// Makes the layer visible under its chain id. One of that name that is there already is replaced: nobody vouches for it.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn publish(mut self, chain: &Digest) -> Result<PathBuf, SnapshotError> {
        let target = self.snapshots.layer_path(chain);
        if target.exists() {
            self.snapshots.inner.trash.outdate_overlays();
            self.snapshots.inner.trash.take(&target);
        }
        std::fs::rename(&self.path, &target).map_err(SnapshotError::io("renaming to", &target))?;
        self.published = true;
        Ok(target)
    }
}

impl Drop for PendingLayer {
    fn drop(&mut self) {
        if !self.published {
            self.snapshots.inner.trash.take(&self.path);
        }
    }
}

/// Gives a new root the owner and mode of the one below it; 0755 and root where there is none.
pub(crate) fn adopt(below: Option<&Path>, directory: &Path) -> Result<(), SnapshotError> {
    let (mode, uid, gid) = match below {
        Some(path) => {
            let data = std::fs::metadata(path).map_err(SnapshotError::io("reading", path))?;
            (data.mode() & 0o7777, data.uid(), data.gid())
        }
        None => (0o755, 0, 0),
    };
    let have = std::fs::metadata(directory).map_err(SnapshotError::io("reading", directory))?;
    // Without the privilege only what is already so can be wished for.
    if (have.uid(), have.gid()) != (uid, gid) && rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(directory, Some(uid), Some(gid))
            .map_err(SnapshotError::io("changing owner of", directory))?;
    }
    if have.mode() & 0o7777 != mode {
        std::fs::set_permissions(directory, Permissions::from_mode(mode))
            .map_err(SnapshotError::io("changing mode of", directory))?;
    }
    Ok(())
}
