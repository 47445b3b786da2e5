//! Keeps the store within a budget: images that were not used for the longest time go first; used, pinned and young ones never.
//!
//! When an image was last used is the time of its manifest's blob, which each new container of it, and each pull, sets to now: a fact that
//! costs nothing to keep and lasts over restarts. A pin is an empty file in `content/pins`, named by the image's digest.

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use berth_content::ContentError;
use berth_model::Digest;

use crate::{ImageError, ImageUser, Images, ListOptions, Pruned};

/// How large the store may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of content and unpacked layers; more is reduced to it.
    pub max_bytes: u64,
    /// Images used within this time stay in any case.
    pub keep: Duration,
}

impl Images {
    /// Removes images until the store is within its budget, or nothing is left that may go. `users` tells which containers use which images.
    ///
    /// # Errors
    /// [`ImageError`] if records or directories cannot be worked with.
    pub fn reduce(&self, budget: Budget, users: &dyn Fn() -> Vec<ImageUser>) -> Result<Pruned, ImageError> {
        let mut pruned = Pruned::default();
        if self.size_on_disk()? <= budget.max_bytes {
            return Ok(pruned);
        }
        // What nothing needs goes before anything that has a name.
        let in_use: Vec<Digest> = users().into_iter().map(|user| user.image).collect();
        pruned.reclaimed += self.collect(&in_use)?.bytes;
        for (id, used) in self.by_last_use()? {
            let young = used.elapsed().unwrap_or_default() < budget.keep;
            if young || self.size_on_disk()? <= budget.max_bytes {
                break;
            }
            if self.is_pinned(&id)? {
                continue;
            }
            let only = |image: &crate::ImageSummary| image.id == id;
            let gone = self.prune(&only, users)?;
            pruned.removed.extend(gone.removed);
            pruned.reclaimed += gone.reclaimed;
        }
        Ok(pruned)
    }

    /// When an image was last used: made, pulled, or given to a container.
    #[must_use]
    pub fn last_used(&self, id: &Digest) -> Option<SystemTime> {
        std::fs::metadata(self.inner.content.path(id)).and_then(|data| data.modified()).ok()
    }

    /// Bytes of all blobs and unpacked layers.
    ///
    /// # Errors
    /// [`ImageError::Content`] if the content cannot be listed.
    pub fn size_on_disk(&self) -> Result<u64, ImageError> {
        let layers = &self.inner.layers;
        Ok(self.inner.content.bytes()? + layers.bytes_of(&layers.all()))
    }

    /// Keeps an image from being removed by the budget, or lets it go again. Gives its id.
    ///
    /// # Errors
    /// As [`Images::resolve`]; [`ImageError::Content`] if the pin cannot be written.
    pub fn pin(&self, name: &str, pinned: bool) -> Result<Digest, ImageError> {
        let _naming = self.lock_naming();
        let (row, _) = self.find(name)?;
        let path = self.pin_path(&row.digest);
        let done = if pinned {
            let directory = path.parent().unwrap_or(&path);
            std::fs::create_dir_all(directory)
                .and_then(|()| std::fs::File::create(&path))
                .and_then(|_| std::fs::File::open(directory)?.sync_all())
        } else {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            }
        };
        done.map_err(ContentError::io("changing the pin", &path))?;
        Ok(row.digest)
    }

    /// Whether an image is pinned.
    ///
    /// # Errors
    /// [`ImageError::Content`] if that cannot be told.
    pub fn is_pinned(&self, id: &Digest) -> Result<bool, ImageError> {
        let path = self.pin_path(id);
        path.try_exists().map_err(|error| ContentError::io("looking for the pin", &path)(error).into())
    }

    pub(crate) fn pin_path(&self, id: &Digest) -> PathBuf {
        self.inner.content.root().join("pins").join(id.algorithm().word()).join(id.hex())
    }

    fn by_last_use(&self) -> Result<Vec<(Digest, SystemTime)>, ImageError> {
        let images = self.list(ListOptions::default())?;
        let used = |id: &Digest| self.last_used(id).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut order: Vec<_> = images.into_iter().map(|image| (image.id.clone(), used(&image.id))).collect();
        order.sort_by_key(|(_, used)| *used);
        Ok(order)
    }

    /// Has somebody told whenever an image was recorded. Only the first one who asks.
    pub fn when_recorded(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.inner.recorded.set(Box::new(tell));
    }
}
