//! Attestations: manifests beside those of an index's platforms that say something about one of them, how it was built or what is in it.
//!
//! BuildKit stores them so: each statement is a layer, with the type of its predicate among the annotations.

use std::{sync::Arc, thread};

use berth_model::{Digest, ImageRef, Platform};
use berth_oci::image::{Descriptor, Manifest, media_type};

use crate::{
    ImageError, Images, PullOptions, Resolver,
    documents::{MAX_DOCUMENT, Target, is_attestation},
    incoming::Incoming,
};

/// Names the manifest that an attestation is about.
const SUBJECT: &str = "vnd.docker.reference.digest";
/// Names the predicate of a statement.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// A statement about an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// Where it is.
    pub descriptor: Descriptor,
    /// The type of its predicate, a URI.
    pub predicate: String,
    /// The statement, where it was asked for.
    pub statement: Option<Vec<u8>>,
}

/// Which statements are wanted.
#[derive(Clone, Debug, Default)]
pub struct AttestationQuery {
    /// About which platform of the image; this host's if nobody says.
    pub platform: Option<Platform>,
    /// Of which predicates; empty for all.
    pub predicates: Vec<String>,
    /// Whether the statements themselves are wanted.
    pub statements: bool,
}

/// The digest of the manifest that an attestation is about.
pub(crate) fn subject(attestation: &Descriptor) -> Option<&str> {
    attestation.annotations.get(SUBJECT).map(String::as_str)
}

impl Images {
    /// What is said about an image. Only an index can have it beside its manifests.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::NoSuchPlatform`]; [`ImageError::Content`] if a statement that is asked for is not here.
    pub fn attestations(&self, name: &str, query: &AttestationQuery) -> Result<Vec<Attestation>, ImageError> {
        let image = self.resolve_for(name, query.platform.as_ref())?;
        if image.target.media_type != media_type::INDEX {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for manifest in self.attestations_of(&image.target, &image.manifest_descriptor.digest)? {
            let Ok(Target::Manifest(manifest)) = self.target(&manifest) else { continue };
            for layer in &manifest.layers {
                let Some(predicate) = layer.annotations.get(PREDICATE) else { continue };
                if !query.predicates.is_empty() && !query.predicates.contains(predicate) {
                    continue;
                }
                let read = || self.inner.content.read(&layer.digest, MAX_DOCUMENT);
                let statement = query.statements.then(read).transpose()?;
                found.push(Attestation { descriptor: layer.clone(), predicate: predicate.clone(), statement });
            }
        }
        Ok(found)
    }

    /// Those of an index about one of its manifests, wherever they are.
    fn attestations_of(&self, target: &Descriptor, manifest: &Digest) -> Result<Vec<Descriptor>, ImageError> {
        let Target::Index(index) = self.target(target)? else { return Ok(Vec::new()) };
        let about = |inner: &&Descriptor| is_attestation(inner) && subject(inner) == Some(manifest.as_str());
        Ok(index.manifests.iter().filter(about).cloned().collect())
    }

    /// Fetches what an index says about one of its manifests.
    pub(crate) fn fetch_attestations(
        &self,
        source: &Arc<dyn Resolver>,
        reference: &ImageRef,
        target: &Descriptor,
        manifest: &Digest,
        options: &PullOptions,
    ) -> Result<(), ImageError> {
        let mut blobs = Vec::new();
        for attestation in self.attestations_of(target, manifest)? {
            self.fetch_document(&attestation, || source.manifest(reference, &attestation))?;
            if let Target::Manifest(document) = self.target(&attestation)? {
                blobs.extend(everything(&document));
            }
        }
        if blobs.is_empty() {
            return Ok(());
        }
        let incoming = Incoming::of(self, Arc::clone(source), reference, &blobs, options.width, &options.cancel)?;
        thread::scope(|scope| {
            for _ in 0..incoming.connections() {
                scope.spawn(|| incoming.work());
            }
            if let Err(error) = incoming.finish() {
                incoming.fail(error);
            }
        });
        incoming.failure().map_or(Ok(()), Err)
    }
}

fn everything(manifest: &Manifest) -> impl Iterator<Item = Descriptor> + '_ {
    std::iter::once(&manifest.config).chain(&manifest.layers).cloned()
}
