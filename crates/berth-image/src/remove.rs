//! Giving and taking names, and removing images, with Docker's rules for what may go (B179).

use std::sync::{MutexGuard, PoisonError};

use berth_model::{ContainerId, Digest, ImageRef, Platform, Timestamp};
use berth_store::{ImageNameRow, ImageRow};

use crate::{ImageError, ImageSummary, Images, ListOptions, catalog::FoundBy};

/// A container that uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUser {
    /// The container.
    pub container: ContainerId,
    /// The image's id.
    pub image: Digest,
    /// The platform of the image that it runs.
    pub platform: Platform,
    /// Whether it runs.
    pub running: bool,
}

/// How an image is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Also with several names, or with stopped containers that use it.
    pub force: bool,
}

/// One thing that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name, in the form people write.
    Untagged {
        /// The name.
        name: String,
        /// The image that had it.
        image: Digest,
    },
    /// An image.
    Deleted(Digest),
}

/// What a prune took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names and images.
    pub removed: Vec<Removed>,
    /// Bytes on disk.
    pub reclaimed: u64,
}

impl Images {
    /// Gives an image another name; an image that had it loses it.
    ///
    /// # Errors
    /// As [`Images::resolve`] for `source`.
    pub fn tag(&self, source: &str, target: &ImageRef) -> Result<Digest, ImageError> {
        let _naming = self.lock_naming();
        let (row, _) = self.find(source)?;
        let name = ImageNameRow { name: target.to_string(), tagged: now() };
        self.inner.store.images().put(ImageRow { names: vec![name], ..row.clone() })?;
        Ok(row.digest)
    }

    /// Takes a name away, or an image with all its names if it was the last one or if the image is given by its id.
    ///
    /// `users` is asked while no name can change; it tells which containers use which images.
    ///
    /// # Errors
    /// [`ImageError::InUse`]; as [`Images::resolve`].
    pub fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        users: &dyn Fn() -> Vec<ImageUser>,
    ) -> Result<Vec<Removed>, ImageError> {
        let _naming = self.lock_naming();
        let users = users();
        let removed = self.remove_locked(name, options, &users)?;
        if removed.iter().any(|removed| matches!(removed, Removed::Deleted(_))) {
            self.collect_locked(&images_in_use(&users))?;
        }
        Ok(removed)
    }

    fn remove_locked(
        &self,
        name: &str,
        options: RemoveOptions,
        users: &[ImageUser],
    ) -> Result<Vec<Removed>, ImageError> {
        let (row, by) = self.find(name)?;
        let same = match &by {
            FoundBy::Id => return self.delete(&row, options, users),
            FoundBy::Name(reference) => vec![reference.to_string()],
            FoundBy::Digest(reference) => row
                .names
                .iter()
                .filter(|name| {
                    name.name.parse::<ImageRef>().is_ok_and(|name| name.repository() == reference.repository())
                })
                .map(|name| name.name.clone())
                .collect(),
        };
        if same.len() < row.names.len() {
            return self.untag(&row, same);
        }
        let image = row.digest.short();
        let user = users.iter().find(|user| user.image == row.digest);
        let reason = match (user, self.mount_of_image(&row.digest)?) {
            (Some(user), _) => format!("container {} is using its referenced image {image}", user.container.short()),
            (None, Some(mount)) => format!("image {image} is mounted at {}: unmount it first", mount.target),
            (None, None) => return self.delete(&row, RemoveOptions { force: true }, users),
        };
        if !options.force {
            let (FoundBy::Name(reference) | FoundBy::Digest(reference)) = &by else {
                unreachable!("an id has returned above");
            };
            return Err(ImageError::InUse { what: reference.familiar(), hard: false, reason });
        }
        // The image itself stays, without a name, for its containers and mounts.
        self.untag(&row, same)
    }

    fn untag(&self, row: &ImageRow, names: Vec<String>) -> Result<Vec<Removed>, ImageError> {
        let removed = names.iter().map(|name| untagged(name, row)).collect();
        self.inner.store.images().remove(names, None)?;
        Ok(removed)
    }

    /// Removes an image with all its names.
    pub(crate) fn delete(
        &self,
        row: &ImageRow,
        options: RemoveOptions,
        users: &[ImageUser],
    ) -> Result<Vec<Removed>, ImageError> {
        let conflict = |hard, reason: String| ImageError::InUse { what: row.digest.short().to_owned(), hard, reason };
        let user = |running| users.iter().find(|user| user.image == row.digest && user.running == running);
        if let Some(user) = user(true) {
            return Err(conflict(true, format!("image is being used by running container {}", user.container.short())));
        }
        if let Some(mount) = self.mount_of_image(&row.digest)? {
            return Err(conflict(true, format!("image is mounted at {}: unmount it first", mount.target)));
        }
        if !options.force {
            if let Some(user) = user(false) {
                return Err(conflict(
                    false,
                    format!("image is being used by stopped container {}", user.container.short()),
                ));
            }
            if row.names.len() > 1 {
                return Err(conflict(false, "image is referenced in multiple repositories".to_owned()));
            }
        }
        let removed = all_of(row);
        self.inner.store.images().remove(Vec::new(), Some(row.digest.clone()))?;
        // Whatever comes under that digest again was not pinned by anybody.
        let _ = std::fs::remove_file(self.pin_path(&row.digest));
        Ok(removed)
    }

    /// What [`Images::prune`] would remove and free now.
    ///
    /// # Errors
    /// As [`Images::prune`].
    pub fn would_prune(
        &self,
        select: &dyn Fn(&ImageSummary) -> bool,
        users: &dyn Fn() -> Vec<ImageUser>,
    ) -> Result<Pruned, ImageError> {
        let _naming = self.lock_naming();
        let users = users();
        let mounted = self.mounted_images()?;
        let (mut pruned, mut gone) = (Pruned::default(), Vec::new());
        for image in self.list(ListOptions::default())? {
            let is_used = mounted.contains(&image.id) || users.iter().any(|user| user.image == image.id);
            if is_used || !select(&image) {
                continue;
            }
            if let Some(row) = self.inner.store.images().get(&image.id)? {
                pruned.removed.extend(all_of(&row));
                gone.push(image.id);
            }
        }
        if !gone.is_empty() {
            pruned.reclaimed = self.freed_without(&gone, &images_in_use(&users))?;
        }
        Ok(pruned)
    }

    /// Removes all images that no container and no mount uses and that `select` chooses.
    ///
    /// # Errors
    /// [`ImageError`] if records or directories cannot be worked with.
    pub fn prune(
        &self,
        select: &dyn Fn(&ImageSummary) -> bool,
        users: &dyn Fn() -> Vec<ImageUser>,
    ) -> Result<Pruned, ImageError> {
        let _naming = self.lock_naming();
        let users = users();
        let mounted = self.mounted_images()?;
        let mut pruned = Pruned::default();
        for image in self.list(ListOptions::default())? {
            let is_used = mounted.contains(&image.id) || users.iter().any(|user| user.image == image.id);
            if is_used || !select(&image) {
                continue;
            }
            if let Some(row) = self.inner.store.images().get(&image.id)? {
                pruned.removed.extend(self.delete(&row, RemoveOptions { force: true }, &users)?);
            }
        }
        if !pruned.removed.is_empty() {
            pruned.reclaimed = self.collect_locked(&images_in_use(&users))?.bytes;
        }
        Ok(pruned)
    }

    pub(crate) fn lock_naming(&self) -> MutexGuard<'_, ()> {
        self.inner.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an image whose content is all here, and gives it names. Tells which other images lost one.
    pub(crate) fn record(
        &self,
        descriptor: &berth_oci::image::Descriptor,
        names: &[ImageRef],
    ) -> Result<Vec<(ImageRef, Digest)>, ImageError> {
        self.record_child(descriptor, names, None)
    }

    /// As [`Images::record`], for an image that was made of another one.
    pub(crate) fn record_child(
        &self,
        descriptor: &berth_oci::image::Descriptor,
        names: &[ImageRef],
        parent: Option<Digest>,
    ) -> Result<Vec<(ImageRef, Digest)>, ImageError> {
        let _naming = self.lock_naming();
        let records = self.inner.store.images();
        let mut moved = Vec::new();
        for name in names {
            if let Some(row) = records.by_name(&name.to_string())?.filter(|row| row.digest != descriptor.digest) {
                moved.push((name.clone(), row.digest));
            }
        }
        let tagged = now();
        records.put(ImageRow {
            digest: descriptor.digest.clone(),
            descriptor: String::from_utf8(crate::hello::to_json(descriptor)).expect("JSON is UTF-8"),
            created: tagged,
            summary: self.summary_of(descriptor, parent),
            names: names.iter().map(|name| ImageNameRow { name: name.to_string(), tagged }).collect(),
        })?;
        if let Some(tell) = self.inner.recorded.get() {
            tell();
        }
        Ok(moved)
    }
}

impl ImageSummary {
    /// Whether it has no name.
    #[must_use]
    pub fn is_dangling(&self) -> bool {
        self.names.is_empty() && self.digests.is_empty()
    }
}

/// An image with all its names. One without a name is untagged by its id.
fn all_of(row: &ImageRow) -> Vec<Removed> {
    let mut removed: Vec<Removed> = row.names.iter().map(|name| untagged(&name.name, row)).collect();
    if removed.is_empty() {
        removed.push(Removed::Untagged { name: row.digest.to_string(), image: row.digest.clone() });
    }
    removed.push(Removed::Deleted(row.digest.clone()));
    removed
}

fn untagged(name: &str, row: &ImageRow) -> Removed {
    let name = name.parse::<ImageRef>().map_or_else(|_| name.to_owned(), |name| name.familiar());
    Removed::Untagged { name, image: row.digest.clone() }
}

pub(crate) fn images_in_use(users: &[ImageUser]) -> Vec<Digest> {
    users.iter().map(|user| user.image.clone()).collect()
}

pub(crate) fn now() -> i64 {
    Timestamp::from(std::time::SystemTime::now()).nanos()
}
