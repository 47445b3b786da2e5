//! Single platforms of an image: which of them are here, and how some of them go while the image and its names stay.
//!
//! An image points to an index, whose manifests may be here or not. A platform goes by removing its manifest; what only it led to, is then
//! needed by nobody and goes with it.

use std::collections::HashSet;

use berth_model::{Digest, Platform};
use berth_oci::image::Descriptor;

use crate::{
    ImageError, ImageUser, Images, RemoveOptions, Removed,
    attestations::subject,
    catalog::descriptor_of,
    documents::{Target, is_attestation},
    remove::images_in_use,
};

impl Images {
    /// Removes the content of some platforms of an image, of whatever images have it. Removing the last one that is here removes the image.
    ///
    /// # Errors
    /// [`ImageError::PlatformsNeedForce`]; [`ImageError::NoSuchPlatform`]; [`ImageError::InUse`] by a container, running or not, by a mount, or by
    /// a pull, push or save that is under way.
    pub fn remove_platforms(
        &self,
        name: &str,
        platforms: &[Platform],
        options: RemoveOptions,
        users: &dyn Fn() -> Vec<ImageUser>,
    ) -> Result<Vec<Removed>, ImageError> {
        if !options.force {
            return Err(ImageError::PlatformsNeedForce);
        }
        let _naming = self.lock_naming();
        let users = users();
        let (row, _) = self.find(name)?;
        let target = descriptor_of(&row)?;
        let mut gone = Vec::new();
        for platform in platforms {
            gone.push(self.image_of(&target, name, Some(platform))?.manifest_descriptor.digest);
        }
        self.refuse_used(&gone, &users)?;
        let stays = |manifest: &Descriptor| {
            !gone.contains(&manifest.digest) && self.platform_of(manifest).ok().flatten().is_some()
        };
        if !self.manifests(&target)?.iter().filter(|manifest| !is_attestation(manifest)).any(stays) {
            let removed = self.delete(&row, options, &users)?;
            self.collect_locked(&images_in_use(&users))?;
            return Ok(removed);
        }
        let without = self.with_attestations(&target, &gone)?;
        let swept = self.collect_without(&images_in_use(&users), &without)?;
        match gone.iter().find(|manifest| !swept.contains(*manifest)) {
            Some(held) => Err(ImageError::InUse {
                what: held.short().to_owned(),
                hard: true,
                reason: "it is being pulled, pushed or saved: try again when that has ended".to_owned(),
            }),
            None => Ok(gone.into_iter().map(Removed::Deleted).collect()),
        }
    }

    /// Removes manifests that an archive brought and nobody asked for, with what only they led to. One that is used meanwhile stays.
    ///
    /// # Errors
    /// [`ImageError`] if records or directories cannot be worked with.
    pub fn discard_manifests(
        &self,
        manifests: &[Digest],
        users: &dyn Fn() -> Vec<ImageUser>,
    ) -> Result<(), ImageError> {
        let _naming = self.lock_naming();
        let users = users();
        let unused = manifests.iter().filter(|manifest| self.refuse_used(&[(*manifest).clone()], &users).is_ok());
        let without: HashSet<Digest> = unused.cloned().collect();
        self.collect_without(&images_in_use(&users), &without).map(drop)
    }

    /// The manifests of an image's platforms, and of attestations about them.
    pub(crate) fn with_attestations(
        &self,
        target: &Descriptor,
        chosen: &[Digest],
    ) -> Result<HashSet<Digest>, ImageError> {
        let about = |manifest: &Descriptor| {
            subject(manifest).is_some_and(|subject| chosen.iter().any(|chosen| chosen.as_str() == subject))
        };
        let all = self.manifests(target)?.into_iter();
        let wanted = all.filter(|manifest| chosen.contains(&manifest.digest) || about(manifest));
        Ok(wanted.map(|manifest| manifest.digest).collect())
    }

    /// Manifests that somebody looks into or runs do not go.
    fn refuse_used(&self, gone: &[Digest], users: &[ImageUser]) -> Result<(), ImageError> {
        let refused = |manifest: &Digest, reason: String| {
            Err(ImageError::InUse { what: manifest.short().to_owned(), hard: true, reason })
        };
        for user in users {
            let target = Descriptor::new("", user.image.clone(), 0);
            let Ok(used) = self.image_of(&target, user.image.as_str(), Some(&user.platform)) else { continue };
            if let Some(manifest) = gone.iter().find(|manifest| **manifest == used.manifest_descriptor.digest) {
                let word = if user.running { "running" } else { "stopped" };
                return refused(
                    manifest,
                    format!("image is being used by {word} container {}", user.container.short()),
                );
            }
        }
        for mount in self.inner.store.image_mounts().list()? {
            if gone.contains(&mount.manifest) {
                return refused(&mount.manifest, format!("image is mounted at {}: unmount it first", mount.target));
            }
        }
        Ok(())
    }

    /// Whether a descriptor is an index.
    pub(crate) fn is_index(&self, descriptor: &Descriptor) -> Result<bool, ImageError> {
        Ok(matches!(self.target(descriptor)?, Target::Index(_)))
    }
}
