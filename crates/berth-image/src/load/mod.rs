//! Images out of an archive: an OCI layout, or what `docker save` has written over the years, each in a tar that may be compressed.
//!
//! The archive is read once, as it streams in. Documents stay in memory; whatever else is a blob on its way into the content store, where it
//! is found again by its path in the archive. What the archive means is known only at its end; layers are unpacked before.

mod ahead;
mod docker;
mod layout;
mod stream;

use std::{
    collections::HashSet,
    io::Read,
    sync::{Arc, OnceLock},
};

use berth_archive::BlobHash;
use berth_model::{Digest, ImageRef, Platform};
use berth_oci::image::Descriptor;
use berth_sys::fault;

use crate::{
    Detail, ImageError, Images, Progress,
    documents::Target,
    hold::Hold,
    layers::{Arrival, Aside, LayerBlobs, Step},
};
use ahead::Ahead;
use stream::Contents;

/// An image that an archive held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// The id.
    pub id: Digest,
    /// The names it got.
    pub names: Vec<ImageRef>,
    /// Manifests that came with it for platforms that nobody asked for. See [`Images::discard_manifests`].
    pub unwanted: Vec<Digest>,
}

/// An image as an archive names it; all its content is in the content store.
struct Found {
    target: Descriptor,
    names: Vec<ImageRef>,
}

/// The blobs of layers, some of which came a moment ago: their digests were found then, and most of them were unpacked.
struct Loaded<'a> {
    images: &'a Images,
    fresh: &'a HashSet<Digest>,
    ahead: Ahead,
}

impl LayerBlobs for Loaded<'_> {
    fn open(&self, blob: &Descriptor) -> Result<(Box<dyn Read + Send>, BlobHash), ImageError> {
        let (bytes, hash) = self.images.open(blob)?;
        let just_found = || BlobHash::Elsewhere(blob.digest.algorithm(), Arc::new(OnceLock::from(blob.digest.clone())));
        Ok((bytes, if self.fresh.contains(&blob.digest) { just_found() } else { hash }))
    }

    fn cacheable(&self) -> u64 {
        self.ahead.cacheable()
    }

    fn unpacked(&self, blob: &Descriptor) -> Option<Aside> {
        self.ahead.take(&blob.digest)
    }

    fn arrived(&self, blob: &Descriptor, found: Option<&Digest>) -> Result<Arrival, ImageError> {
        self.images.arrived(blob, found)
    }
}

impl Images {
    /// Loads all images of an archive. With platforms, an image that has one of them not is an error - after it was loaded.
    ///
    /// # Errors
    /// [`ImageError`] for an archive that is damaged, or that is none. Images before the damage are not loaded either.
    pub fn load(
        &self,
        archive: impl Read + Send,
        platforms: &[Platform],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<LoadedImage>, ImageError> {
        let _lease = self.inner.content.lease("load")?;
        let mut hold = self.hold();
        // Layers are unpacked while their blobs are still being synced. When this returns, all of them are on the disk.
        let (found, fresh) = stream::syncing(|to_sync| {
            // An archive of which only some platforms are wanted has layers that are not.
            let ahead = platforms.is_empty().then(Ahead::default);
            let (contents, ahead) = stream::read(self, archive, ahead, to_sync)?;
            fault::point("load:read");
            let found = self.interpret(&contents)?;
            let blobs = Loaded { images: self, fresh: &contents.fresh, ahead: ahead.unwrap_or_default() };
            for image in &found {
                self.check_and_unpack(image, platforms, &blobs, &mut hold, progress)?;
            }
            Ok((found, contents.fresh))
        })?;
        fault::point("load:unpacked");
        let mut loaded = Vec::new();
        for image in found {
            let unwanted = self.unwanted(&image.target, platforms, &fresh)?;
            loaded.push(LoadedImage { unwanted, ..self.announce(image, progress)? });
        }
        fault::point("load:recorded");
        for image in &loaded {
            platforms.iter().try_for_each(|platform| self.must_have(image, platform))?;
        }
        Ok(loaded)
    }

    /// Manifests of an image that came just now, if others were asked for and one of those is here.
    fn unwanted(
        &self,
        target: &Descriptor,
        platforms: &[Platform],
        fresh: &HashSet<Digest>,
    ) -> Result<Vec<Digest>, ImageError> {
        let mut chosen = Vec::new();
        for platform in platforms {
            chosen.extend(self.choose(target, Some(platform))?.map(|manifest| manifest.digest));
        }
        if chosen.is_empty() || !self.is_index(target)? {
            return Ok(Vec::new());
        }
        let wanted = self.with_attestations(target, &chosen)?;
        let all = self.manifests(target)?.into_iter().map(|manifest| manifest.digest);
        Ok(all.filter(|manifest| fresh.contains(manifest) && !wanted.contains(manifest)).collect())
    }

    fn interpret(&self, contents: &Contents) -> Result<Vec<Found>, ImageError> {
        let found = match (&contents.index, &contents.manifest) {
            (Some(index), docker) => layout::interpret(self, index, docker.as_deref())?,
            (None, Some(docker)) => docker::interpret(self, contents, docker)?,
            (None, None) => return Err(ImageError::UnrecognizedFormat),
        };
        if found.is_empty() { Err(ImageError::UnrecognizedFormat) } else { Ok(found) }
    }

    /// Makes sure that at least one platform of the image is whole, and unpacks the one that this host, or those that the caller, wants.
    fn check_and_unpack(
        &self,
        image: &Found,
        platforms: &[Platform],
        blobs: &Loaded<'_>,
        hold: &mut Hold,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImageError> {
        let mut chosen = Vec::new();
        for platform in platforms {
            chosen.extend(self.choose(&image.target, Some(platform))?.map(|manifest| (manifest, platform.clone())));
        }
        if chosen.is_empty() {
            let wanted = platforms.first().cloned().unwrap_or_else(Platform::host);
            chosen.extend(self.choose(&image.target, None)?.map(|manifest| (manifest, wanted)));
        }
        if chosen.is_empty() {
            let what = &image.target.digest;
            return Err(ImageError::Invalid(format!("none of the platforms of {what} is in the archive")));
        }
        chosen.iter().try_for_each(|(manifest, wanted)| self.check_platform(manifest, wanted, blobs, hold, progress))
    }

    /// Makes sure that a platform of an image is whole, and unpacks it if it is the wanted one.
    fn check_platform(
        &self,
        descriptor: &Descriptor,
        wanted: &Platform,
        blobs: &Loaded<'_>,
        hold: &mut Hold,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImageError> {
        let Target::Manifest(manifest) = self.target(descriptor)? else {
            return Err(ImageError::Invalid(format!("{} is no manifest", descriptor.digest)));
        };
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.check_blob(blob)?;
        }
        let config = self.config(&manifest.config.digest)?;
        if !config.document.platform().matches(wanted) {
            return Ok(());
        }
        let told = &mut |blob: &Descriptor, step: Step| {
            let (status, current) = match step {
                Step::Begun => ("Loading layer", 0),
                Step::Done => ("Loading layer", blob.size),
            };
            progress(Progress::layer(&blob.digest, status, Detail::Bytes { current, total: blob.size }));
        };
        self.unpacked_from(blobs, &manifest, &config, hold, told)?;
        Ok(())
    }

    /// A blob must be here, and as long as its descriptor says.
    pub(crate) fn check_blob(&self, blob: &Descriptor) -> Result<(), ImageError> {
        match self.inner.content.size(&blob.digest) {
            Some(size) if size == blob.size => Ok(()),
            Some(found) => {
                let (digest, expected) = (blob.digest.clone(), blob.size);
                Err(berth_content::ContentError::WrongSize { digest, expected, found }.into())
            }
            None => Err(ImageError::Invalid(format!("blob {} is missing", blob.digest))),
        }
    }

    /// Records the image and says so, in Docker's words.
    fn announce(&self, image: Found, progress: &mut dyn FnMut(Progress)) -> Result<LoadedImage, ImageError> {
        let id = image.target.digest.clone();
        for (name, old) in self.record(&image.target, &image.names)? {
            progress(Progress::Stream(format!(
                "The image {} already exists, renaming the old one with ID {old} to empty string\n",
                name.familiar()
            )));
        }
        if image.names.is_empty() {
            progress(Progress::Stream(format!("Loaded image ID: {id}\n")));
        }
        for name in &image.names {
            progress(Progress::Stream(format!("Loaded image: {}\n", name.familiar())));
        }
        Ok(LoadedImage { id, names: image.names, unwanted: Vec::new() })
    }

    fn must_have(&self, image: &LoadedImage, platform: &Platform) -> Result<(), ImageError> {
        let target = Descriptor::new("", image.id.clone(), 0);
        if self.choose(&target, Some(platform))?.is_some() {
            return Ok(());
        }
        let name = image.names.first().map_or_else(|| image.id.to_string(), ImageRef::familiar);
        Err(ImageError::LoadedForOther { name, platform: platform.to_string() })
    }
}
