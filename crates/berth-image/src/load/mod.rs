//! Images out of an archive: an OCI layout, or what `docker save` has written over the years, each in a tar that may be compressed.
//!
//! The archive is read once, as it streams in. Documents stay in memory; whatever else is a blob on its way into the content store, where it
//! is found again by its path in the archive. What the archive means is known only at its end.

mod docker;
mod layout;
mod stream;

use std::io::Read;

use berth_model::{Digest, ImageRef, Platform};
use berth_oci::image::Descriptor;
use berth_sys::fault;

use crate::{Detail, ImageError, Images, Progress, documents::Target, hold::Hold, layers::Step};
pub(crate) use docker::layer_media_type;
use stream::Contents;

/// An image that an archive held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// The id.
    pub id: Digest,
    /// The names it got.
    pub names: Vec<ImageRef>,
}

/// An image as an archive names it; all its content is in the content store.
struct Found {
    target: Descriptor,
    names: Vec<ImageRef>,
}

impl Images {
    /// Loads all images of an archive. With a platform, an image that has not that platform is an error - after it was loaded.
    ///
    /// # Errors
    /// [`ImageError`] for an archive that is damaged, or that is none. Images before the damage are not loaded either.
    pub fn load(
        &self,
        archive: impl Read + Send,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<LoadedImage>, ImageError> {
        let _lease = self.inner.content.lease("load")?;
        let mut hold = self.hold();
        // Layers are unpacked while their blobs are still being synced. When this returns, all of them are on the disk.
        let found = stream::syncing(|to_sync| {
            let contents = stream::read(self, archive, to_sync)?;
            fault::point("load:read");
            let found = self.interpret(&contents)?;
            for image in &found {
                self.check_and_unpack(image, platform, &mut hold, progress)?;
            }
            Ok(found)
        })?;
        fault::point("load:unpacked");
        let mut loaded = Vec::new();
        for image in found {
            loaded.push(self.announce(image, progress)?);
        }
        fault::point("load:recorded");
        for image in &loaded {
            if let Some(platform) = platform {
                self.must_have(image, platform)?;
            }
        }
        Ok(loaded)
    }

    fn interpret(&self, contents: &Contents) -> Result<Vec<Found>, ImageError> {
        let found = match (&contents.index, &contents.manifest) {
            (Some(index), docker) => layout::interpret(self, index, docker.as_deref())?,
            (None, Some(docker)) => docker::interpret(self, contents, docker)?,
            (None, None) => return Err(ImageError::UnrecognizedFormat),
        };
        if found.is_empty() { Err(ImageError::UnrecognizedFormat) } else { Ok(found) }
    }

    /// Makes sure that at least one platform of the image is whole, and unpacks the one that this host, or the caller, wants.
    fn check_and_unpack(
        &self,
        image: &Found,
        platform: Option<&Platform>,
        hold: &mut Hold,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImageError> {
        let mut chosen = self.choose(&image.target, platform)?;
        if chosen.is_none() && platform.is_some() {
            chosen = self.choose(&image.target, None)?;
        }
        let Some(descriptor) = chosen else {
            return Err(ImageError::Invalid(format!(
                "none of the platforms of {} is in the archive",
                image.target.digest
            )));
        };
        let Target::Manifest(manifest) = self.target(&descriptor)? else {
            return Err(ImageError::Invalid(format!("{} is no manifest", descriptor.digest)));
        };
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.check_blob(blob)?;
        }
        let config = self.config(&manifest.config.digest)?;
        if !config.document.platform().matches(platform.unwrap_or(&Platform::host())) {
            return Ok(());
        }
        let told = &mut |blob: &Descriptor, step: Step| {
            let (status, current) = match step {
                Step::Begun => ("Loading layer", 0),
                Step::Done => ("Loading layer", blob.size),
            };
            progress(Progress::layer(&blob.digest, status, Detail::Bytes { current, total: blob.size }));
        };
        self.unpacked(&manifest, &config, hold, told)?;
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
        Ok(LoadedImage { id, names: image.names })
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
