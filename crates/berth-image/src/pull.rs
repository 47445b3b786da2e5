//! Fetching an image that is not here, through whoever resolves names.

use std::{
    io::{Read, Write as _},
    time::{Duration, Instant},
};

use berth_content::Ingest;
use berth_model::{Digest, ImageRef, Platform};
use berth_oci::image::{Descriptor, Manifest};

use crate::{
    Detail, ImageError, Images, Progress, ResolveError,
    documents::{MAX_DOCUMENT, Target, is_attestation},
    layers::Step,
};

/// How much is read at a time, in bytes.
const READ: usize = 256 * 1024;
/// How often a layer's progress is told. One that takes less is not worth a line.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What a pull brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id.
    pub id: Digest,
    /// Whether the name points to another image than before.
    pub newer: bool,
}

impl Images {
    /// Fetches an image and gives it its name. Content that is here is not fetched again.
    ///
    /// # Errors
    /// [`ImageError::Resolve`] before anything is told; [`ImageError::Content`] for content that is not what its digest says.
    pub fn pull(
        &self,
        reference: &ImageRef,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, ImageError> {
        let target = self.inner.resolver.resolve(reference)?;
        let id = match (reference.digest(), reference.tag()) {
            (None, Some(tag)) => tag.to_owned(),
            _ => reference.familiar(),
        };
        progress(Progress::Status { id, status: format!("Pulling from {}", reference.path()), detail: Detail::None });
        let lease = self.inner.content.lease("pull")?;
        let manifest = self.fetch_documents(reference, &target, platform)?;
        self.fetch_layers(reference, &manifest, progress)?;
        let before = self.inner.store.images().by_name(&reference.to_string())?;
        let newer = before.is_none_or(|row| row.digest != target.digest);
        self.record(&target, std::slice::from_ref(reference))?;
        drop(lease);
        progress(Progress::status(format!("Digest: {}", target.digest)));
        let status = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
        progress(Progress::status(format!("Status: {status} {}", reference.familiar())));
        Ok(Pulled { id: target.digest, newer })
    }

    /// Fetches the manifest for the platform, what leads to it, and its configuration.
    fn fetch_documents(
        &self,
        reference: &ImageRef,
        target: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<std::sync::Arc<Manifest>, ImageError> {
        let mut descriptor = target.clone();
        loop {
            self.fetch_document(reference, &descriptor)?;
            match self.target(&descriptor)? {
                Target::Manifest(manifest) => {
                    self.fetch_document(reference, &manifest.config)?;
                    return Ok(manifest);
                }
                Target::Index(index) => {
                    let wanted = platform.cloned().unwrap_or_else(Platform::host);
                    let mut images = index.manifests.iter().filter(|inner| !is_attestation(inner));
                    let matching =
                        images.find(|inner| inner.platform.as_ref().is_some_and(|p| p.target().matches(&wanted)));
                    let missing =
                        || ImageError::NoSuchPlatform { name: reference.familiar(), platform: wanted.to_string() };
                    descriptor = matching.ok_or_else(missing)?.clone();
                }
            }
        }
    }

    fn fetch_document(&self, reference: &ImageRef, descriptor: &Descriptor) -> Result<(), ImageError> {
        if descriptor.size > MAX_DOCUMENT {
            let (digest, limit) = (descriptor.digest.clone(), MAX_DOCUMENT);
            return Err(berth_content::ContentError::TooLarge { digest, limit }.into());
        }
        self.fetch(reference, descriptor, &mut |_| {})
    }

    fn fetch_layers(
        &self,
        reference: &ImageRef,
        manifest: &Manifest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImageError> {
        let content = &self.inner.content;
        let missing: Vec<&Descriptor> =
            manifest.layers.iter().filter(|layer| content.size(&layer.digest).is_none()).collect();
        for layer in &missing {
            progress(Progress::layer(&layer.digest, "Pulling fs layer", Detail::Empty));
        }
        for layer in &manifest.layers {
            let mut told = Instant::now();
            self.fetch(reference, layer, &mut |current| {
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    progress(Progress::layer(
                        &layer.digest,
                        "Downloading",
                        Detail::Bytes { current, total: layer.size },
                    ));
                }
            })?;
            if missing.contains(&layer) {
                progress(Progress::layer(&layer.digest, "Download complete", Detail::Done));
            }
        }
        let config = self.config(&manifest.config.digest)?;
        let mut hold = self.hold();
        let mut begun = Instant::now();
        self.unpacked(manifest, &config, &mut hold, &mut |layer, step| match step {
            Step::Begun => begun = Instant::now(),
            Step::Done => {
                if begun.elapsed() >= Duration::from_secs(1) {
                    progress(Progress::layer(&layer.digest, "Extracting", Detail::Seconds(begun.elapsed().as_secs())));
                }
                progress(Progress::layer(&layer.digest, "Pull complete", Detail::Done));
            }
        })?;
        Ok(())
    }

    /// Fetches a blob unless it is here. Its digest and its size are checked before anybody can see it.
    fn fetch(&self, reference: &ImageRef, blob: &Descriptor, told: &mut dyn FnMut(u64)) -> Result<(), ImageError> {
        let content = &self.inner.content;
        if content.hold(&blob.digest)? {
            return self.check_blob(blob);
        }
        let mut source = self.inner.resolver.fetch(reference, blob, 0)?;
        let mut ingest = content.ingest(blob.digest.algorithm())?;
        let mut buffer = vec![0; READ];
        loop {
            let n = source.read(&mut buffer).map_err(|source| ResolveError::Fetch {
                what: format!("{} of {}", blob.digest, reference.familiar()),
                source,
            })?;
            if n == 0 {
                break;
            }
            ingest.write_all(&buffer[..n]).map_err(|error| ingest.failed(error))?;
            check_length(&ingest, blob)?;
            told(ingest.bytes());
        }
        ingest.finish(Some(&blob.digest))?.commit()?;
        self.check_blob(blob)
    }
}

/// A source that never ends must not fill the disk.
fn check_length(ingest: &Ingest, blob: &Descriptor) -> Result<(), ImageError> {
    if ingest.bytes() <= blob.size {
        return Ok(());
    }
    let (digest, expected, found) = (blob.digest.clone(), blob.size, ingest.bytes());
    Err(berth_content::ContentError::WrongSize { digest, expected, found }.into())
}
