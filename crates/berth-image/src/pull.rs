//! Fetching an image that is not here: documents first, then its layers, which are unpacked while they come.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use berth_content::ContentError;
use berth_model::{Cancel, Digest, ImageRef, Platform};
use berth_oci::image::{Descriptor, Index, Manifest, media_type};

use crate::{
    Detail, ImageError, Images, Progress, ResolveError, Resolver,
    documents::{MAX_DOCUMENT, Target, is_attestation},
    incoming::{Incoming, Width},
    layers::Step,
    transfer::Transfer,
};

/// How often a layer's progress is told. One that takes less is not worth a line.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How many indexes may lie within one another.
const MAX_DEPTH: usize = 4;
/// A manifest from before layers had digests of their own.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

/// How an image is pulled.
#[derive(Clone, Default)]
pub struct PullOptions {
    /// For which platform; this host's if nobody says.
    pub platform: Option<Platform>,
    /// From where; what is embedded in the program serves where no registry answers.
    pub source: Option<Arc<dyn Resolver>>,
    /// Ends the pull early. What came until then is gone on with by the next one.
    pub cancel: Cancel,
    /// How much at once.
    pub width: Width,
}

/// What a pull brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id.
    pub id: Digest,
    /// Whether the name points to another image than before.
    pub newer: bool,
}

impl Images {
    /// Fetches an image and gives it its name. Content that is here is not fetched again, not even half a layer.
    ///
    /// # Errors
    /// [`ImageError::Resolve`] before anything is told; [`ImageError::Content`] for content that is not what its digest says.
    pub fn pull(
        &self,
        reference: &ImageRef,
        options: &PullOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, ImageError> {
        let (source, target) = self.resolve_at_source(reference, options)?;
        let id = match (reference.digest(), reference.tag()) {
            (None, Some(tag)) => tag.to_owned(),
            _ => reference.familiar(),
        };
        progress(Progress::Status { id, status: format!("Pulling from {}", reference.path()), detail: Detail::None });
        let lease = self.inner.content.lease("pull")?;
        let manifest = self.fetch_documents(&*source, reference, &target, options.platform.as_ref())?;
        let (manifest_digest, manifest) = manifest;
        self.fetch_layers(Arc::clone(&source), reference, &manifest, options, progress)?;
        self.fetch_attestations(&source, reference, &target, &manifest_digest, options)?;
        self.note_origin(reference, manifest.layers.iter().chain([&manifest.config]));
        let before = self.inner.store.images().by_name(&reference.to_string())?;
        let newer = before.is_none_or(|row| row.digest != target.digest);
        self.record(&target, std::slice::from_ref(reference))?;
        drop(lease);
        progress(Progress::status(format!("Digest: {}", target.digest)));
        let status = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
        progress(Progress::status(format!("Status: {status} {}", reference.familiar())));
        Ok(Pulled { id: target.digest, newer })
    }

    /// Fetches all images of a repository that have tags.
    ///
    /// # Errors
    /// As [`Images::pull`]; what was pulled until then stays.
    pub fn pull_all(
        &self,
        repository: &ImageRef,
        options: &PullOptions,
        progress: &mut dyn FnMut(Progress),
        pulled: &mut dyn FnMut(&ImageRef, &Pulled),
    ) -> Result<(), ImageError> {
        let source = options.source.as_ref().unwrap_or(&self.inner.resolver);
        for tag in source.tags(repository)? {
            let reference = repository.with_tag(&tag).map_err(|_| ImageError::Invalid(format!("tag {tag:?}")))?;
            let one = self.pull(&reference, options, progress)?;
            pulled(&reference, &one);
        }
        Ok(())
    }

    fn resolve_at_source(
        &self,
        reference: &ImageRef,
        options: &PullOptions,
    ) -> Result<(Arc<dyn Resolver>, Descriptor), ImageError> {
        let embedded = &self.inner.resolver;
        let source = options.source.as_ref().unwrap_or(embedded);
        let found = match source.resolve(reference) {
            Ok(target) => (Arc::clone(source), target),
            Err(error) if error.is_unanswered() => match embedded.resolve(reference) {
                Ok(target) => (Arc::clone(embedded), target),
                Err(_) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        if found.1.media_type.starts_with(SCHEMA_1) {
            return Err(ImageError::Invalid(format!(
                "{} has a manifest of schema 1, which is not supported any more: push it again with a newer tool",
                reference.familiar()
            )));
        }
        Ok(found)
    }

    /// Fetches the manifest for the platform, what leads to it, and its configuration. Gives its digest too.
    fn fetch_documents(
        &self,
        source: &dyn Resolver,
        reference: &ImageRef,
        target: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<(Digest, Arc<Manifest>), ImageError> {
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let mut descriptor = target.clone();
        for _ in 0..MAX_DEPTH {
            self.fetch_document(&descriptor, || source.manifest(reference, &descriptor))?;
            match self.target(&descriptor)? {
                Target::Manifest(manifest) => {
                    self.fetch_config(source, reference, &manifest)?;
                    return Ok((descriptor.digest, manifest));
                }
                Target::Index(index) => {
                    let missing =
                        || ImageError::NoMatchingManifest { name: reference.familiar(), platform: wanted.to_string() };
                    descriptor = best_match(&index, &wanted).ok_or_else(missing)?.clone();
                }
            }
        }
        Err(ImageError::Invalid(format!("index {} lies too deep within others", target.digest)))
    }

    fn fetch_config(&self, source: &dyn Resolver, reference: &ImageRef, manifest: &Manifest) -> Result<(), ImageError> {
        let config = &manifest.config;
        self.fetch_document(config, || {
            let mut bytes = Vec::new();
            let fetched = source.fetch(reference, config, 0..config.size)?;
            let read = fetched.body.take(config.size + 1).read_to_end(&mut bytes);
            let what = format!("{} of {}", config.digest, reference.familiar());
            read.map_err(|source| ResolveError::Fetch { what, source })?;
            Ok(bytes)
        })?;
        if let Some(layer) = manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            let kind = &layer.media_type;
            return Err(ImageError::Invalid(format!(
                "{} is no image: {} is of type {kind:?}",
                reference.familiar(),
                layer.digest
            )));
        }
        Ok(())
    }

    /// Fetches a small blob unless it is here. Its digest and its size are checked before anybody can see it.
    pub(crate) fn fetch_document(
        &self,
        blob: &Descriptor,
        fetch: impl FnOnce() -> Result<Vec<u8>, ResolveError>,
    ) -> Result<(), ImageError> {
        if blob.size > MAX_DOCUMENT {
            let (digest, limit) = (blob.digest.clone(), MAX_DOCUMENT);
            return Err(ContentError::TooLarge { digest, limit }.into());
        }
        let content = &self.inner.content;
        if content.hold(&blob.digest)? {
            return self.check_blob(blob);
        }
        let bytes = fetch()?;
        let found = bytes.len() as u64;
        if found != blob.size {
            let (digest, expected) = (blob.digest.clone(), blob.size);
            return Err(ContentError::WrongSize { digest, expected, found }.into());
        }
        let mut ingest = content.ingest(blob.digest.algorithm())?;
        ingest.write_all(&bytes).map_err(|error| ingest.failed(error))?;
        ingest.finish(Some(&blob.digest))?.commit()?;
        Ok(())
    }

    fn fetch_layers(
        &self,
        source: Arc<dyn Resolver>,
        reference: &ImageRef,
        manifest: &Manifest,
        options: &PullOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImageError> {
        let config = self.config(&manifest.config.digest)?;
        let incoming = Incoming::of(self, source, reference, &manifest.layers, options.width, &options.cancel)?;
        for transfer in incoming.transfers() {
            progress(Progress::layer(&transfer.blob.digest, "Pulling fs layer", Detail::Empty));
        }
        let (steps, heard) = channel();
        thread::scope(|scope| {
            for _ in 0..incoming.connections() {
                scope.spawn(|| incoming.work());
            }
            scope.spawn(|| {
                let steps = steps;
                let mut hold = self.hold();
                let mut told = |layer: &Descriptor, step| drop(steps.send((layer.digest.clone(), step)));
                let unpacked = self.unpacked_from(&incoming, manifest, &config, &mut hold, &mut told);
                if let Err(error) = unpacked.and_then(|_| incoming.finish()) {
                    incoming.fail(error);
                }
            });
            Teller {
                transfers: incoming.transfers(),
                complete: vec![false; incoming.transfers().len()],
                extracting: None,
            }
            .tell(&heard, progress);
        });
        incoming.failure().map_or(Ok(()), Err)
    }
}

/// The manifest of an index that fits best: the very platform, or one that also runs there.
fn best_match<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let images = || index.manifests.iter().filter(|inner| !is_attestation(inner));
    let of = |inner: &Descriptor| inner.platform.as_ref().map(berth_oci::image::Platform::target);
    let exact = images().find(|inner| of(inner).is_some_and(|platform| platform == *wanted));
    exact.or_else(|| images().find(|inner| of(inner).is_some_and(|platform| platform.matches(wanted))))
}

/// Layers as registries name them; those that may not be handed on are layers too. What says nothing is taken for one.
fn is_layer(kind: &str) -> bool {
    kind.is_empty()
        || media_type::is_layer(kind)
        || kind.contains("rootfs.foreign.diff.tar")
        || kind.contains("layer.nondistributable")
}

/// Tells how far the layers are.
struct Teller<'a> {
    transfers: &'a [Arc<Transfer>],
    /// Of which it was told that they are here.
    complete: Vec<bool>,
    extracting: Option<(Digest, Instant, u64)>,
}

impl Teller<'_> {
    fn tell(mut self, heard: &Receiver<(Digest, Step)>, progress: &mut dyn FnMut(Progress)) {
        let mut next = Instant::now() + TELL_EVERY;
        loop {
            match heard.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((layer, Step::Begun)) => self.extracting = Some((layer, Instant::now(), 0)),
                Ok((layer, Step::Done)) => {
                    self.tell_complete(progress);
                    self.extracting = None;
                    progress(Progress::layer(&layer, "Pull complete", Detail::Done));
                }
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + TELL_EVERY;
                    self.tell_how_far(progress);
                }
                Err(RecvTimeoutError::Disconnected) => return self.tell_complete(progress),
            }
        }
    }

    fn tell_complete(&mut self, progress: &mut dyn FnMut(Progress)) {
        for (transfer, told) in self.transfers.iter().zip(&mut self.complete) {
            if !*told && transfer.is_complete() {
                *told = true;
                progress(Progress::layer(&transfer.blob.digest, "Download complete", Detail::Done));
            }
        }
    }

    fn tell_how_far(&mut self, progress: &mut dyn FnMut(Progress)) {
        for (transfer, complete) in self.transfers.iter().zip(&self.complete) {
            let (current, total) = (transfer.received(), transfer.blob.size);
            if !complete && current > 0 {
                progress(Progress::layer(&transfer.blob.digest, "Downloading", Detail::Bytes { current, total }));
            }
        }
        self.tell_complete(progress);
        if let Some((layer, since, told)) = &mut self.extracting
            && let seconds = since.elapsed().as_secs()
            && seconds > *told
            && self
                .transfers
                .iter()
                .zip(&self.complete)
                .any(|(transfer, complete)| *complete && transfer.blob.digest == *layer)
        {
            *told = seconds;
            progress(Progress::layer(layer, "Extracting", Detail::Seconds(seconds)));
        }
    }
}
