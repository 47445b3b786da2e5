//! Collecting what nobody needs any more: content and layers that no image, no container and nothing in the making leads to.

use std::collections::{BTreeSet, HashSet};

use berth_content::ContentError;
use berth_model::Digest;
use berth_oci::image::Descriptor;

use crate::{
    ImageError, Images,
    catalog::descriptor_of,
    documents::{Configured, Target},
};

/// What a collection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many blobs.
    pub blobs: usize,
    /// How many layers.
    pub layers: usize,
    /// Bytes of both.
    pub bytes: u64,
}

/// What is needed.
#[derive(Default)]
struct Needed<'a> {
    blobs: HashSet<Digest>,
    chains: HashSet<Digest>,
    /// Manifests that are not, whoever leads to them.
    without: Option<&'a HashSet<Digest>>,
}

impl Images {
    /// Puts the store in order after a start: layers of images that containers use, and that did not survive, are unpacked again; what nobody
    /// needs is collected. `in_use` are the ids of the images of all containers.
    ///
    /// # Errors
    /// The first thing that failed, after all has been tried.
    pub fn reconcile(&self, in_use: &[Digest]) -> Result<Collected, ImageError> {
        let mut failed = None;
        for digest in in_use.iter().collect::<BTreeSet<_>>() {
            if self.inner.content.size(digest).is_none() {
                continue;
            }
            let target = Descriptor::new("", digest.clone(), 0);
            let restored =
                self.image_of(&target, digest.as_str(), None).and_then(|image| self.rootfs(&image).map(drop));
            failed = failed.or(restored.err());
        }
        let collected = self.collect(in_use)?;
        failed.map_or(Ok(collected), Err)
    }

    /// Removes content and layers that nobody needs. `in_use` are the ids of the images of all containers.
    ///
    /// # Errors
    /// [`ImageError`] if records or directories cannot be worked with. Nothing that is needed is ever removed.
    pub fn collect(&self, in_use: &[Digest]) -> Result<Collected, ImageError> {
        let _one_at_a_time = self.lock_naming();
        self.collect_locked(in_use)
    }

    pub(crate) fn collect_locked(&self, in_use: &[Digest]) -> Result<Collected, ImageError> {
        self.sweep(in_use, None).map(|(collected, _)| collected)
    }

    /// As [`Images::collect_locked`], as if nothing led to these manifests. Gives the blobs that went.
    pub(crate) fn collect_without(
        &self,
        in_use: &[Digest],
        manifests: &HashSet<Digest>,
    ) -> Result<Vec<Digest>, ImageError> {
        self.sweep(in_use, Some(manifests)).map(|(_, blobs)| blobs)
    }

    fn sweep(
        &self,
        in_use: &[Digest],
        without: Option<&HashSet<Digest>>,
    ) -> Result<(Collected, Vec<Digest>), ImageError> {
        // In this order: what begins from here on is younger than the sweep, or remembered as held; what ended before has left its record.
        let sweep = self.inner.content.begin_sweep();
        let held = self.inner.holds.begin_collection();
        let needed = self.needed(in_use.iter().chain(&held), &[], without)?;
        let mut collected = self.collect_layers(&needed)?;
        let swept = sweep.run(&needed.blobs)?;
        self.forget_documents(&swept.blobs);
        if !swept.blobs.is_empty() {
            self.inner.store.blob_origins().forget(swept.blobs.clone());
        }
        collected.blobs = swept.blobs.len();
        collected.bytes += swept.bytes;
        Ok((collected, swept.blobs))
    }

    /// All that images and those `in_use` lead to, but for images that are as good as `gone`.
    fn needed<'a, 'b>(
        &self,
        in_use: impl Iterator<Item = &'a Digest>,
        gone: &[Digest],
        without: Option<&'b HashSet<Digest>>,
    ) -> Result<Needed<'b>, ImageError> {
        let mut needed = Needed { without, ..Needed::default() };
        for row in self.inner.store.images().list()?.into_iter().filter(|row| !gone.contains(&row.digest)) {
            self.need(&descriptor_of(&row)?, &mut needed)?;
        }
        let mounted = self.mounted_images()?;
        for digest in in_use.cloned().chain(mounted) {
            if self.inner.content.size(&digest).is_some() {
                self.need(&Descriptor::new("", digest, 0), &mut needed)?;
            }
        }
        Ok(needed)
    }

    /// Blobs that a collection would take now, but for those that are held.
    pub(crate) fn unneeded(&self, in_use: &[Digest]) -> Result<Vec<Digest>, ImageError> {
        let _one_at_a_time = self.lock_naming();
        let needed = self.needed(in_use.iter(), &[], None)?;
        Ok(self.inner.content.begin_sweep().candidates(&needed.blobs)?)
    }

    /// Bytes that would be free if some images were gone. Called with the names locked.
    pub(crate) fn freed_without(&self, gone: &[Digest], in_use: &[Digest]) -> Result<u64, ImageError> {
        let needed = self.needed(in_use.iter(), gone, None)?;
        let blobs = self.inner.content.begin_sweep().candidates(&needed.blobs)?;
        let blobs: u64 = blobs.iter().filter_map(|digest| self.inner.content.size(digest)).sum();
        let layers = &self.inner.layers;
        let unneeded: Vec<Digest> = layers.all().into_iter().filter(|chain| !needed.chains.contains(chain)).collect();
        Ok(blobs + layers.bytes_of(&unneeded))
    }

    fn collect_layers(&self, needed: &Needed<'_>) -> Result<Collected, ImageError> {
        let layers = &self.inner.layers;
        let mut bytes = 0;
        let unneeded = self.inner.holds.decide(|is_held| {
            let all = layers.all().into_iter();
            let unneeded: Vec<Digest> = all.filter(|chain| !needed.chains.contains(chain) && !is_held(chain)).collect();
            bytes = layers.bytes_of(&unneeded);
            layers.forget(&unneeded);
            unneeded
        });
        if !unneeded.is_empty() {
            // The record first: a directory without one is thrown away when the store is opened again.
            self.inner.store.images().delete_layers(unneeded.clone())?;
        }
        for chain in &unneeded {
            // Unpacked anew in this instant, it is not ours to remove.
            if layers.bytes(chain).is_none() {
                self.inner.snapshots.remove_layer(chain.hex());
            }
        }
        Ok(Collected { blobs: 0, layers: unneeded.len(), bytes })
    }

    /// Adds all that a manifest or index leads to and that is here.
    fn need(&self, descriptor: &Descriptor, needed: &mut Needed<'_>) -> Result<(), ImageError> {
        let is_gone = needed.without.is_some_and(|without| without.contains(&descriptor.digest));
        if is_gone || !needed.blobs.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        match self.target(descriptor) {
            Ok(Target::Index(index)) => index.manifests.iter().try_for_each(|inner| self.need(inner, needed)),
            Ok(Target::Manifest(manifest)) => {
                needed.blobs.insert(manifest.config.digest.clone());
                needed.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
                match self.config(&manifest.config.digest) {
                    Ok(config) => needed.chains.extend(chains(&config)),
                    // What cannot be read cannot be unpacked either: it needs no layers.
                    Err(ImageError::Content(ContentError::NotFound { .. }) | ImageError::Invalid(_)) => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            }
            Err(ImageError::Content(ContentError::NotFound { .. }) | ImageError::Invalid(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn chains(config: &Configured) -> impl Iterator<Item = Digest> + '_ {
    config.chains.iter().cloned()
}
