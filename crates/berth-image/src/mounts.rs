//! Images that people mount to look into: which ones, where, and that they stay for as long.
//!
//! Nothing is mounted here: whoever asks does that, in the mount namespace where it is to be seen. Here a mount is its record, which outlives
//! the engine and ends with the boot, as mounts do; while it is there, neither the image's content nor its layers are collected.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use berth_model::{Digest, Platform};
use berth_oci::image::Descriptor;
use berth_store::ImageMountRow;

use crate::{ImageError, Images, documents::Target};

/// A mounted image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMount {
    /// The directory that shows it, in the mount namespace of whoever mounted it.
    pub target: PathBuf,
    /// The image's id.
    pub image: Digest,
    /// What it was asked for by.
    pub name: String,
    /// Whether it was recorded before.
    pub existed: bool,
    /// The directories of its layers, lowest first.
    pub layers: Vec<PathBuf>,
}

impl Images {
    /// Unpacks an image and records that it is shown at `target`, an absolute path. The same image may be recorded there already.
    ///
    /// # Errors
    /// As [`Images::resolve_for`] and [`Images::rootfs`]; [`ImageError::MountTaken`] if another one is there, [`ImageError::NothingToMount`].
    pub fn mount(&self, name: &str, platform: Option<&Platform>, target: &Path) -> Result<ImageMount, ImageError> {
        let image = self.resolve_for(name, platform)?;
        let layers = self.rootfs(&image)?;
        if layers.chain().is_empty() {
            return Err(ImageError::NothingToMount(name.to_owned()));
        }
        let row = ImageMountRow {
            target: text_of(target)?,
            image: image.id().clone(),
            manifest: image.manifest_descriptor().digest.clone(),
            name: name.to_owned(),
        };
        let records = self.inner.store.image_mounts();
        // From here on the record holds what `layers` has held until now.
        let existed = !records.insert(row.clone())?;
        if existed {
            let other = records.list()?.into_iter().find(|other| other.target == row.target);
            if let Some(other) = other.filter(|other| other.manifest != row.manifest) {
                return Err(ImageError::MountTaken { target: other.target, image: other.name });
            }
        }
        Ok(ImageMount {
            target: target.to_owned(),
            image: row.image,
            name: row.name,
            existed,
            layers: layers.chain().to_vec(),
        })
    }

    /// All mounted images, by directory.
    ///
    /// # Errors
    /// [`ImageError::Store`].
    pub fn mounts(&self) -> Result<Vec<ImageMount>, ImageError> {
        let rows = self.inner.store.image_mounts().list()?;
        Ok(rows.into_iter().map(|row| self.mount_of(row)).collect())
    }

    /// Forgets that an image is shown at `target`, where nothing is mounted any more.
    ///
    /// # Errors
    /// [`ImageError::NotMounted`].
    pub fn unmount(&self, target: &Path) -> Result<(), ImageError> {
        let target = text_of(target)?;
        if self.inner.store.image_mounts().delete(&target)? { Ok(()) } else { Err(ImageError::NotMounted(target)) }
    }

    /// The record of a mount of an image, if there is one.
    pub(crate) fn mount_of_image(&self, image: &Digest) -> Result<Option<ImageMountRow>, ImageError> {
        Ok(self.inner.store.image_mounts().list()?.into_iter().find(|row| row.image == *image))
    }

    /// The images that are mounted.
    pub(crate) fn mounted_images(&self) -> Result<HashSet<Digest>, ImageError> {
        Ok(self.inner.store.image_mounts().list()?.into_iter().map(|row| row.image).collect())
    }

    /// The layers that are mounted.
    pub(crate) fn mounted_layers(&self) -> Result<Vec<Digest>, ImageError> {
        let rows = self.inner.store.image_mounts().list()?;
        Ok(rows.iter().flat_map(|row| self.chains_of(&row.manifest)).collect())
    }

    fn mount_of(&self, row: ImageMountRow) -> ImageMount {
        let layers = self.chains_of(&row.manifest);
        ImageMount {
            target: PathBuf::from(row.target),
            image: row.image,
            name: row.name,
            existed: true,
            layers: layers.iter().map(|chain| self.inner.snapshots.layer_path(chain)).collect(),
        }
    }

    /// The layers of a manifest; none if its documents cannot be read any more.
    fn chains_of(&self, manifest: &Digest) -> Vec<Digest> {
        let config = self.target(&Descriptor::new("", manifest.clone(), 0)).and_then(|target| match target {
            Target::Manifest(manifest) => self.config(&manifest.config.digest).map(Some),
            Target::Index(_) => Ok(None),
        });
        config.ok().flatten().map(|config| config.chains.clone()).unwrap_or_default()
    }
}

fn text_of(target: &Path) -> Result<String, ImageError> {
    let text = target.to_str().filter(|_| target.is_absolute());
    text.map(str::to_owned).ok_or_else(|| ImageError::Change(format!("{} is no absolute path", target.display())))
}
